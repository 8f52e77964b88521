"""What carries the requests: the same client over the transport of httpx and over aiohttp."""

import sys
from typing import Any

import httpx
import pytest

from resilience_httpx import ResilientClient
from tests.support.http_server import http_server, reply

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
