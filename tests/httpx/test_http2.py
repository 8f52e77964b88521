"""Over HTTP/2, where requests share a connection, a cancelled one costs nothing either."""

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from resilience_httpx import ResilientClient

pytest.importorskip("h2", reason="HTTP/2 needs the package h2")

from tests.support.cancellation import cancel_at_random, turns
from tests.support.http2_server import HTTP2Server, http2_server

pytestmark = pytest.mark.real_time

# Without HTTP/1.1 the client begins with HTTP/2, which needs no TLS then.
OPTIONS: dict[str, Any] = {
    "http1": False,
    "http2": True,
    "timeout": None,
    "retry": None,
    "circuit_breaker": None,
}


async def get_ok(calls: Any) -> None:
    assert (await calls.get("/")).text == "ok"


async def test_requests_share_a_connection() -> None:
    async with http2_server() as server, ResilientClient(server.url, **OPTIONS) as calls:
        answers = await asyncio.gather(*(calls.get("/") for _ in range(20)))
        assert {(answer.http_version, answer.text) for answer in answers} == {("HTTP/2", "ok")}
        assert (server.requests, server.connections) == (20, 1)


@pytest.mark.parametrize("streams", [100, 10])
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_t3_requests_cancelled_at_random_leave_the_connection_whole(streams: int, count: int) -> None:
    limits = httpx.Limits(max_connections=2)
    async with (
        http2_server(streams=streams) as server,
        ResilientClient(server.url, limits=limits, **OPTIONS) as calls,
    ):
        ends = await cancel_at_random(lambda: get_ok(calls), random.Random(1), count)
        assert min(ends.values()) > count / 10, ends
        answers = await asyncio.gather(*(calls.get("/") for _ in range(3 * streams)))
        assert {answer.text for answer in answers} == {"ok"}
        assert server.connections == 1
        await until_nothing_is_under_way(calls)


@pytest.mark.parametrize("path", ["/never", "/half"])
@pytest.mark.parametrize("stream", [False, True])
async def test_who_is_cancelled_does_not_wait_for_the_server(path: str, stream: bool) -> None:
    async with http2_server() as server, ResilientClient(server.url, **OPTIONS) as calls:
        await cancelled(read(calls, path) if stream else calls.get(path), server)
        assert (await calls.get("/")).text == "ok"
        assert server.connections == 1


async def test_a_response_that_is_closed_early_gives_its_stream_back() -> None:
    async with http2_server(streams=2) as server, ResilientClient(server.url, **OPTIONS) as calls:
        for _ in range(10):
            async with calls.stream("GET", "/") as response:
                assert response.status_code == 200
        assert (await calls.get("/")).text == "ok"
        await until_nothing_is_under_way(calls)


@pytest.mark.parametrize("as_block", [False, True])
async def test_closing_the_client_ends_what_nobody_waits_for(as_block: bool) -> None:
    async with http2_server() as server:
        before = asyncio.all_tasks()
        calls = ResilientClient(server.url, **OPTIONS)
        async with calls if as_block else contextlib.nullcontext():
            await cancelled(calls.get("/never"), server)
            await cancelled(calls.get("/half"), server)
            assert asyncio.all_tasks() - before - server.tasks != set()
        await calls.aclose()
        assert asyncio.all_tasks() - before - server.tasks == set()


async def test_a_server_that_hangs_up_is_told() -> None:
    async with http2_server() as server, ResilientClient(server.url, **OPTIONS) as calls:
        with pytest.raises(httpx.TransportError):
            await calls.get("/hang-up")
        assert (await calls.get("/")).text == "ok"


async def cancelled(call: Coroutine[Any, Any, Any], server: HTTP2Server) -> None:
    """Cancel a call when the server has its request; it ends at once."""
    expected = server.requests + 1
    task = asyncio.create_task(call)
    while server.requests < expected:
        await asyncio.sleep(0)
    await turns(20)
    task.cancel()
    await turns(5)
    assert task.cancelled()


async def read(calls: ResilientClient, path: str) -> None:
    async with calls.stream("GET", path) as response:
        await response.aread()


async def until_nothing_is_under_way(calls: Any) -> None:
    async with asyncio.timeout(10):
        while calls._transport._pool._requests:
            await asyncio.sleep(0)
