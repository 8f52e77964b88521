"""A cancelled request costs no connection, whatever carries it and whenever it is cancelled."""

import asyncio
import contextlib
import random
from typing import Any

import httpx
import pytest

from resilience_httpx import ResilientClient, resilient
from tests.support.cancellation import cancel_at_random, turns
from tests.support.http_server import Step, drip, hang_up, http_server, reply

pytestmark = pytest.mark.real_time

BARE: dict[str, Any] = {"retry": None, "circuit_breaker": None}


def limits(connections: int) -> Any:
    return httpx.Limits(max_connections=connections)


def pool_of(calls: Any) -> Any:
    return calls._transport._pool


def assert_nothing_is_lost(calls: Any) -> None:
    pool = pool_of(calls)
    assert pool._requests == []
    assert all(connection.is_idle() for connection in pool._connections), pool


def slow_reply(chance: random.Random) -> Step:
    """Answer after some turns of the loop, in two pieces; sometimes close the connection after it."""

    async def step(writer: asyncio.StreamWriter) -> bool:
        await turns(chance.randrange(20))
        last = chance.random() < 0.05
        close = b"Connection: close\r\n" if last else b""
        writer.write(b"HTTP/1.1 200 OK\r\n" + close + b"Content-Length: 2\r\n\r\no")
        await turns(chance.randrange(10))
        writer.write(b"k")
        await writer.drain()
        return not last

    return step


async def read_ok(calls: Any) -> None:
    async with calls.stream("GET", "/") as response:
        assert await response.aread() == b"ok"


@pytest.mark.parametrize("backend", ["httpx", "aiohttp"])
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_t3_requests_cancelled_at_random_leave_the_pool_whole(backend: Any, count: int) -> None:
    chance = random.Random(1)
    options: dict[str, Any] = {"limits": limits(10), "timeout": None, "backend": backend, **BARE}
    async with http_server() as server, ResilientClient(server.url, **options) as calls:
        server.otherwise = slow_reply(chance)
        ends = await cancel_at_random(lambda: read_ok(calls), chance, count)
        assert min(ends.values()) > count / 10, ends
        if backend == "httpx":
            await turns(10)
            assert_nothing_is_lost(calls)
        answers = await asyncio.gather(*(calls.get("/") for _ in range(20)))
        assert [answer.text for answer in answers] == ["ok"] * 20


async def test_t3_two_requests_cancelled_as_they_begin() -> None:
    async with http_server() as server, ResilientClient(server.url, limits=limits(1), **BARE) as calls:
        tasks = [asyncio.create_task(calls.get("/")) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (await calls.get("/")).status_code == 200
        assert_nothing_is_lost(calls)


@pytest.mark.parametrize("steps", [[reply()], [reply(then_close=True)], [hang_up]])
@pytest.mark.parametrize("times", [1, 2])
async def test_t3_cancelled_at_any_turn(steps: Any, times: int) -> None:
    number, done = 0, False
    while not done:
        async with http_server() as server, ResilientClient(server.url, limits=limits(1), **BARE) as calls:
            server.script("/first", *steps)
            task = asyncio.create_task(calls.get("/first"))
            await turns(number)
            done = task.done()
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
            with contextlib.suppress(asyncio.CancelledError, httpx.TransportError):
                task.result()
            async with asyncio.timeout(5):
                assert (await calls.get("/")).status_code == 200
            assert_nothing_is_lost(calls)
        number += 1
    assert number > 10


async def test_a_pool_timeout_that_comes_with_the_connection_loses_nothing() -> None:
    async with http_server() as server:
        timeout = httpx.Timeout(5, pool=0)
        async with ResilientClient(server.url, limits=limits(1), timeout=timeout, **BARE) as calls:
            for _ in range(5):
                answers = await asyncio.gather(*(calls.get("/") for _ in range(3)), return_exceptions=True)
                assert {type(each) for each in answers} <= {httpx.Response, httpx.PoolTimeout}
                assert_nothing_is_lost(calls)
            assert (await calls.get("/")).status_code == 200


async def test_a_client_made_resilient_loses_no_connection_either() -> None:
    async with http_server() as server:
        calls = resilient(httpx.AsyncClient(base_url=server.url, limits=limits(1)), **BARE)
        async with calls:
            tasks = [asyncio.create_task(calls.get("/")) for _ in range(2)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert (await calls.get("/")).status_code == 200


async def test_a_request_that_is_sent_twice_at_once_is_cancelled_once() -> None:
    async with http_server() as server, ResilientClient(server.url, **BARE) as calls:
        go_on = asyncio.Event()
        server.script("/", drip(go_on), drip(go_on))
        request = calls.build_request("GET", "/")
        first, second = (asyncio.create_task(calls.send(request)) for _ in range(2))
        while len(server.received) < 2:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        assert (await second).text == "half"
        assert_nothing_is_lost(calls)


async def test_a_transport_that_was_given_loses_no_connection_either() -> None:
    async with http_server() as server:
        for where in ("transport", "mounts"):
            given: Any = httpx.AsyncHTTPTransport(limits=limits(1))
            options = {where: given if where == "transport" else {"all://": given}}
            async with ResilientClient(server.url, **options, **BARE) as calls:
                tasks = [asyncio.create_task(calls.get("/")) for _ in range(2)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                async with asyncio.timeout(5):
                    assert (await calls.get("/")).status_code == 200
