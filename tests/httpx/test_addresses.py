"""The guard against addresses that only this machine or its network can reach."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import httpcore
import httpcore2
import httpx
import pytest

from resilience import circuit_breaker, retry
from resilience_httpx import (
    AddressRefusedError,
    HTTPClientError,
    ResilientClient,
    StandardWebhook,
    public_addresses_only,
    send_webhook,
)
from resilience_httpx._addresses import GuardedBackend, is_public
from tests.support.http_server import http_server, redirect, reply
from tests.support.virtual_time import now

LOOPBACK = "127.0.0.0/8"

NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.0.3",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "100::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:0:4136:e378:8000:63bf:fefe:fefe",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_h6_4_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "2606:4700:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2002:101:101::1",
    ],
)
def test_h6_4_public(address: str) -> None:
    assert is_public(ip_address(address))


# --- Over the wire ---


@pytest.mark.real_time
async def test_h6_4_nothing_reaches_a_loopback_server_whatever_it_is_called() -> None:
    async with http_server() as server:
        port = server.url.rpartition(":")[2]
        async with public_addresses_only(ResilientClient(trust_env=False)) as calls:
            for host in (
                "127.0.0.1",
                "localhost",
                "127.1",
                "2130706433",
                "0x7f.0.0.1",
                "0.0.0.0",
            ):
                with pytest.raises(AddressRefusedError, match="not public"):
                    await calls.get(f"http://{host}:{port}/")
            for host in ("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"):
                with pytest.raises(AddressRefusedError, match="not public"):
                    await calls.get(f"http://{host}:{port}/")
        assert server.connections == 0


@pytest.mark.real_time
async def test_h6_4_networks_can_be_allowed() -> None:
    async with http_server() as server:
        for allow in (LOOPBACK, ["10.0.0.0/8", LOOPBACK], "127.0.0.1"):
            async with public_addresses_only(
                ResilientClient(server.url, trust_env=False), allow=allow
            ) as calls:
                assert (await calls.get("/")).status_code == 200
        async with public_addresses_only(
            ResilientClient(server.url, trust_env=False), allow="::1"
        ) as calls:
            with pytest.raises(AddressRefusedError):
                await calls.get("/")


@pytest.mark.real_time
async def test_h6_4_redirects_and_links_are_looked_at_as_well() -> None:
    async with http_server() as server:
        port = server.url.rpartition(":")[2]
        inside = f"http://127.0.0.2:{port}/secret"
        server.script("/a", redirect(inside))
        server.script("/b", reply(200, {"Link": f"<{inside}>; rel=next"}, b"[1]"))
        client = ResilientClient(server.url, trust_env=False, follow_redirects=True)
        async with public_addresses_only(client, allow="127.0.0.1") as calls:
            with pytest.raises(AddressRefusedError):
                await calls.get("/a")
            pages = calls.paginate("/b", items=lambda page: page.json(), origins=inside)
            assert await anext(pages) == 1
            with pytest.raises(AddressRefusedError):
                await anext(pages)
        assert server.lines == ["GET /a", "GET /b"]
        assert server.connections == 1


@pytest.mark.real_time
async def test_h6_4_a_refusal_is_final_and_counts_against_nobody() -> None:
    webhook = StandardWebhook(bytes(32))
    async with http_server() as server:
        for raises in (True, False):
            breaker = circuit_breaker(failure_threshold=1)
            client = ResilientClient(
                server.url,
                trust_env=False,
                retry=retry(attempts=3, wait=0),
                circuit_breaker=breaker,
                raise_for_status=raises,
            )
            async with public_addresses_only(client) as calls:
                for _ in range(2):
                    with pytest.raises(AddressRefusedError) as caught:
                        await calls.get("/x?token=secret")
                with pytest.raises(AddressRefusedError):
                    await send_webhook(calls, "/", b"", webhook)
            error = caught.value
            assert isinstance(error, HTTPClientError)
            assert isinstance(error, httpx.UnsupportedProtocol)
            assert error.code == "address_refused"
            assert error.details["host"] == "127.0.0.1"
            assert "secret" not in f"{error}{error.details}"
            assert not getattr(error, "__notes__", [])
        assert server.connections == 0


@pytest.mark.real_time
async def test_a_transport_alone_can_be_guarded() -> None:
    async with http_server() as server:
        transport = public_addresses_only(httpx.AsyncHTTPTransport())
        assert public_addresses_only(transport) is transport
        async with httpx.AsyncClient(transport=transport) as plain:
            with pytest.raises(httpx.TransportError):
                await plain.get(server.url)
        assert server.connections == 0


# --- Names ---


class Names:
    """Answers for the resolver, one list of addresses after the other."""

    def __init__(self, *answers: list[str] | BaseException) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.delay = 0.0

    async def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        await asyncio.sleep(self.delay)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(family[ip_address(each).version], 1, 6, "", (each, port)) for each in answer]


class Network:
    """Makes connections, to some addresses only; remembers where to, and in what time."""

    def __init__(self, core: Any, *reachable: str) -> None:
        self.core = core
        self.reachable = reachable
        self.tried: list[tuple[str, float | None]] = []

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> str:
        self.tried.append((host, timeout))
        if host in self.reachable:
            return f"{host}:{port}"
        await asyncio.sleep(100 if timeout is None else timeout)
        raise self.core.ConnectTimeout

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture(params=[httpcore, httpcore2], ids=["httpcore", "httpcore2"])
def core(request: pytest.FixtureRequest) -> Any:
    return request.param


def guarded(names: Names, network: Network, monkeypatch: pytest.MonkeyPatch) -> GuardedBackend:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names, raising=False)
    return GuardedBackend(network, network.core, [])


async def test_h6_4_a_name_is_resolved_once_and_pinned(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the first answer is public, the second is not."""
    names, network = Names(["1.1.1.1"], ["127.0.0.1"]), Network(core, "1.1.1.1")
    backend = guarded(names, network, monkeypatch)
    assert await backend.connect_tcp("rebind.example", 80) == "1.1.1.1:80"
    assert (names.asked, network.tried) == (["rebind.example"], [("1.1.1.1", None)])
    with pytest.raises(AddressRefusedError):
        await backend.connect_tcp("rebind.example", 80)
    assert len(network.tried) == 1


async def test_h6_4_one_address_that_is_refused_refuses_the_name(
    core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for addresses in (["1.1.1.1", "10.0.0.1"], ["::1", "1.1.1.1"], ["1.1.1.1", "::ffff:10.0.0.1"]):
        network = Network(core, *addresses)
        with pytest.raises(AddressRefusedError) as caught:
            await guarded(Names(addresses), network, monkeypatch).connect_tcp("mixed.example", 443)
        assert network.tried == []
        assert "mixed.example" in str(caught.value)
        assert not any(address in f"{caught.value}{caught.value.details}" for address in addresses)


async def test_addresses_are_tried_one_after_the_other(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["2606:4700::1", "1.0.0.1", "1.0.0.1", "1.1.1.1"])
    network = Network(core, "1.1.1.1")
    backend = guarded(names, network, monkeypatch)
    assert await backend.connect_tcp("h", 80, timeout=6) == "1.1.1.1:80"
    assert network.tried == [("2606:4700::1", 2), ("1.0.0.1", 2), ("1.1.1.1", 2)]


async def test_the_last_failure_is_raised(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names, network = Names(["1.0.0.1", "1.1.1.1"]), Network(core)
    with pytest.raises(core.ConnectTimeout):
        await guarded(names, network, monkeypatch).connect_tcp("h", 80, timeout=6)
    assert now() == 6


async def test_names_that_cannot_be_resolved(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (socket.gaierror(-2, "unknown"), UnicodeError("label too long"), []):
        backend = guarded(Names(answer), Network(core), monkeypatch)
        with pytest.raises(core.ConnectError, match=r"h\.example"):
            await backend.connect_tcp("h.example", 80)
    names = Names(["1.1.1.1"])
    names.delay = 60
    with pytest.raises(core.ConnectTimeout, match="not resolved in time"):
        await guarded(names, Network(core), monkeypatch).connect_tcp("h", 80, timeout=5)
    assert now() == 5


async def test_cancelled_anywhere_it_leaves_nothing(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (0.5, 1.5):
        names, network = Names(["1.1.1.1"]), Network(core)
        names.delay = 1
        task = asyncio.ensure_future(guarded(names, network, monkeypatch).connect_tcp("h", 80))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_unix_sockets_are_refused_and_sleeping_is_passed_on(
    core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = guarded(Names(), Network(core), monkeypatch)
    with pytest.raises(AddressRefusedError):
        await backend.connect_unix_socket("/run/docker.sock")
    await backend.sleep(3)
    assert now() == 3


# --- Arguments ---


async def test_what_cannot_be_guarded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    for client, error, message in [
        (None, TypeError, "got a NoneType"),
        (httpx.MockTransport(lambda request: httpx.Response(200)), TypeError, "got a MockTransport"),
        (
            ResilientClient(transport=httpx.MockTransport(lambda request: httpx.Response(200))),
            TypeError,
            "Mock",
        ),
        (ResilientClient(backend="aiohttp", trust_env=False), TypeError, "own backend"),
        (ResilientClient(proxy="http://proxy:3128"), ValueError, "proxies"),
        (httpx.AsyncHTTPTransport(proxy="http://proxy:3128"), ValueError, "proxies"),
        (httpx.AsyncHTTPTransport(uds="/run/docker.sock"), ValueError, "unix socket"),
    ]:
        with pytest.raises(error, match=message):
            public_addresses_only(client)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    with pytest.raises(ValueError, match="trust_env"):
        public_addresses_only(ResilientClient())


async def test_networks_are_checked() -> None:
    for allow in ("10.0.0.1/8", "localhost", ["x"], 7, None):
        with pytest.raises(ValueError, match="allow must be networks"):
            public_addresses_only(ResilientClient(trust_env=False), allow=allow)


async def test_mounts_are_guarded_too() -> None:
    mounts = {"http://a": httpx.AsyncHTTPTransport(), "http://b": None}
    async with public_addresses_only(ResilientClient(mounts=mounts, trust_env=False)) as calls:
        for host in ("a", "b", "c"):
            transport = calls._transport_for_url(httpx.URL(f"http://{host}/"))
            assert isinstance(transport._pool._network_backend, GuardedBackend)
