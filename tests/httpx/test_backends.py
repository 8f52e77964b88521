"""What carries the requests: the same client over the transport of httpx and over aiohttp."""

import asyncio
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest

from resilience_httpx import APIKeyAuth, ResilientClient
from tests.support.http_server import garbage, hang_up, http_server, never, redirect, reply, reset

pytestmark = pytest.mark.real_time


async def test_aiohttp_carries_requests_streams_and_retries() -> None:
    async with http_server() as server, ResilientClient(server.url, backend="aiohttp") as calls:
        server.script("/", reply(503, {"Retry-After": "0"}), reply(body=b"x" * 100_000))
        response = await calls.put("/", content=b"body", headers={"A": "b"})
        assert (response.status_code, len(response.content)) == (200, 100_000)
        assert [(each.body, each.headers["a"]) for each in server.received] == [(b"body", "b")] * 2
        async with calls.stream("GET", "/") as streamed:
            assert b"".join([chunk async for chunk in streamed.aiter_bytes()]) == b"ok"
        assert server.connections == 1
    assert type(calls._transport).__module__.startswith("httpx_aiohttp")


async def test_a_proxy_is_carried_by_the_backend_as_well() -> None:
    async with http_server() as proxy:
        for backend in ("httpx", "aiohttp"):
            async with ResilientClient(proxy=proxy.url, backend=backend, retry=None) as calls:
                assert (await calls.get("http://far.example/x")).text == "ok"
        assert proxy.lines == ["GET http://far.example/x"] * 2


async def test_limits_mean_the_same_for_both() -> None:
    for backend in ("httpx", "aiohttp"):
        limits = httpx.Limits(max_connections=1)
        async with http_server() as server:
            async with ResilientClient(server.url, backend=backend, limits=limits) as calls:
                for _ in range(3):
                    await calls.get("/")
            assert server.connections == 1


async def test_h8_2_aiohttp_repeats_no_request_by_itself() -> None:
    async with http_server() as server:
        async with ResilientClient(server.url, backend="aiohttp", retry=None) as calls:
            await calls.get("/")
            server.script("/", hang_up)
            with pytest.raises(httpx.TransportError):
                await calls.put("/", content=b"once")
        assert [each.body for each in server.received] == [b"", b"once"]


async def test_h8_3_what_is_not_http_is_an_error_of_httpx() -> None:
    async with http_server() as server:
        async with ResilientClient(server.url, backend="aiohttp", retry=None) as calls:
            server.script("/", garbage)
            with pytest.raises(httpx.RemoteProtocolError) as caught:
                await calls.get("/?token=secret")
        assert "secret" not in str(caught.value)
        assert caught.value.request.url.path == "/"


async def test_aiohttp_keeps_no_cookies_of_its_own() -> None:
    async with http_server() as server:
        server.script("/login", reply(headers={"Set-Cookie": "session=1"}))
        url = server.url.replace("127.0.0.1", "localhost")  # for an address it would keep none anyway
        async with ResilientClient(url, backend="aiohttp") as calls:
            await calls.get("/login")
            await calls.get("/")
            calls.cookies.clear()
            await calls.get("/")
        assert [each.headers.get("cookie") for each in server.received] == [None, "session=1", None]


async def test_aiohttp_sends_urls_as_they_are_written() -> None:
    path = "/a%2Fb%7e?x=%41%2C%20+c&y[]='"  # a signature may be over this very text
    async with http_server() as server:
        for backend in ("httpx", "aiohttp"):
            async with ResilientClient(server.url.replace("//", "//ada:p%40w@"), backend=backend) as calls:
                await calls.get(f"{path}#part")
        assert [each.path for each in server.received] == [path] * 2
        assert [each.headers["authorization"] for each in server.received] == ["Basic YWRhOnBAdw=="] * 2


async def test_no_maximum_of_connections_is_none_for_both() -> None:
    for backend in ("httpx", "aiohttp"):
        limits = httpx.Limits(max_connections=None)
        async with (
            http_server() as server,
            ResilientClient(server.url, backend=backend, limits=limits) as calls,
        ):
            server.otherwise = never
            # The default of aiohttp's own is 100.
            tasks = [asyncio.create_task(calls.get("/")) for _ in range(110)]
            async with asyncio.timeout(10):
                while len(server.received) < len(tasks):
                    await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_h1_2_a_full_pool_is_told_from_a_server_that_cannot_be_reached() -> None:
    for backend in ("httpx", "aiohttp"):
        limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(30, pool=0.01)
        options: Any = {"limits": limits, "timeout": timeout, "retry": None, "backend": backend}
        async with http_server() as server, ResilientClient(server.url, **options) as calls:
            server.otherwise = never
            task = asyncio.create_task(calls.get("/"))
            await server.arrived.wait()
            for _ in range(7):  # more than open a circuit
                with pytest.raises(httpx.PoolTimeout):
                    await calls.get("/")
            task.cancel()
            await asyncio.wait([task])


@pytest.mark.parametrize("raises", [False, True])
async def test_h6_2_errors_of_aiohttp_do_not_show_the_url(raises: bool) -> None:
    key = "S3" + "CRET"  # not as it is found in a traceback that shows this very source
    options: Any = {
        "timeout": httpx.Timeout(30, pool=0.01),
        "limits": httpx.Limits(max_connections=1),
        "retry": None,
        "backend": "aiohttp",
        "raise_for_status": raises,
        "auth": APIKeyAuth(key, query="api_key"),
    }
    async with http_server() as server, ResilientClient(server.url, **options) as calls:
        server.otherwise = never
        task = asyncio.create_task(calls.get("/"))
        await server.arrived.wait()
        with pytest.raises(httpx.PoolTimeout) as full:
            await calls.get("/")
        task.cancel()
        await asyncio.wait([task])
        with full_backlog() as url, pytest.raises(httpx.ConnectTimeout) as slow:
            await calls.get(url, timeout=0.05, auth=APIKeyAuth(key, query="api_key", origins=[url]))
        server.otherwise = reset()
        with pytest.raises(httpx.ReadError) as broken:
            await calls.get("/")
    for caught in (full, slow, broken):
        assert key not in "".join(traceback.format_exception(caught.value))
    if not raises:
        assert [str(caught.value).partition(":")[0] for caught in (full, slow, broken)] == [
            "no connection became free in time",
            "ConnectionTimeoutError",
            "ClientOSError",
        ]


async def test_aiohttps_failures_have_the_classes_that_httpx_has_for_them() -> None:
    raised: dict[str, list[type[Exception]]] = {}
    for backend in "httpx", "aiohttp":
        async with http_server() as server, ResilientClient(retry=None, backend=backend) as calls:
            for answer in reset(), hang_up:
                server.otherwise = answer
                with pytest.raises(httpx.TransportError) as caught:
                    await calls.post(server.url)
                raised.setdefault(backend, []).append(type(caught.value))
            with socket.socket() as deaf:  # bound, but it does not listen
                deaf.bind(("127.0.0.1", 0))
                with pytest.raises(httpx.TransportError) as caught:
                    await calls.get(f"http://127.0.0.1:{deaf.getsockname()[1]}")
            raised[backend].append(type(caught.value))
    assert raised["aiohttp"] == raised["httpx"]
    assert raised["httpx"] == [httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError]


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("DELETE", 307)])
async def test_the_request_of_a_redirect_has_a_body_only_if_the_first_had_one(
    method: str, status: int
) -> None:
    async with http_server() as server:
        server.script("/from", redirect("/to", status))
        async with ResilientClient(server.url, backend="aiohttp", follow_redirects=True) as calls:
            assert (await calls.request(method, "/from")).status_code == 200
        assert [each.path for each in server.received] == ["/from", "/to"]
        for request in server.received:
            assert not {"transfer-encoding", "content-type"} & request.headers.keys()


@contextmanager
def full_backlog() -> Iterator[str]:
    """A port that neither accepts nor refuses a connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_fault_of_ones_own_body_is_what_it_is() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        raise LookupError("my mistake")

    for backend in ("httpx", "aiohttp"):
        async with http_server() as server, ResilientClient(server.url, backend=backend) as calls:
            for _ in range(7):  # more than open a circuit
                with pytest.raises(LookupError, match="my mistake"):
                    await calls.post("/", content=body())
            assert server.received == []


async def test_headers_are_those_of_the_request_for_both() -> None:
    async with http_server() as server:
        for backend in ("httpx", "aiohttp"):
            async with ResilientClient(server.url, backend=backend) as calls:
                await calls.post("/", content=b"x")
                bare = calls.build_request("GET", "/")
                for name in ("User-Agent", "Accept", "Accept-Encoding"):
                    del bare.headers[name]
                await calls.send(bare)
        for over_httpx, over_aiohttp in zip(server.received[:2], server.received[2:], strict=True):
            assert over_httpx.headers.keys() == over_aiohttp.headers.keys()


async def test_long_headers_of_a_response_are_taken_by_both() -> None:
    link = f"<{'x' * 50_000}>; rel=next"
    async with http_server() as server:
        for backend in ("httpx", "aiohttp"):
            async with ResilientClient(server.url, backend=backend, retry=None) as calls:
                server.script("/", reply(headers={"Link": link}))
                assert (await calls.get("/")).headers["Link"] == link


def test_t28_bad_input() -> None:
    with pytest.raises(ValueError, match='backend must be "httpx" or "aiohttp", got \'curl\''):
        ResilientClient(backend="curl")
    with pytest.raises(ValueError, match=r'http2 must be False with backend="aiohttp"'):
        ResilientClient(backend="aiohttp", http2=True)
    with pytest.raises(ValueError, match="brings its own transport"):
        ResilientClient(backend="aiohttp", transport=httpx.MockTransport(lambda request: None))


def test_a_backend_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("httpx_aiohttp", "httpx_aiohttp.httpx2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"async-resilience\[aiohttp\]"):
        ResilientClient(backend="aiohttp")


def test_a_transport_of_ones_own_is_used_as_it_is() -> None:
    transport: Any = httpx.MockTransport(lambda request: httpx.Response(200))
    assert ResilientClient(transport=transport)._transport is transport
