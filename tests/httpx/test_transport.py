"""`ResilientTransport`: the same policies for clients that somebody else makes."""

import asyncio
from typing import Any

import httpx
import pytest

from resilience import CallTimeoutError, circuit_breaker, rate_limited, retry
from resilience_httpx import APIKeyAuth, ResilientTransport
from tests.support.http_api import Api
from tests.support.http_server import http_server, redirect, reply
from tests.support.virtual_time import now


def plain_client(api: Any, **options: Any) -> httpx.AsyncClient:
    defaults = {"retry": retry(attempts=3, wait=0), "circuit_breaker": None}
    transport = ResilientTransport(httpx.MockTransport(api), **{**defaults, **options})
    return httpx.AsyncClient(base_url="https://h", transport=transport)


async def test_a_plain_client_retries_with_it() -> None:
    api = Api(503, 503, 200)
    async with plain_client(api) as calls:
        response = await calls.put("/", content=b"body")
    assert (response.status_code, response.text) == (200, "no 3")
    assert [request.content for request in api.requests] == [b"body"] * 3


async def test_the_last_response_is_the_callers() -> None:
    async with plain_client(Api(503)) as calls:
        response = await calls.get("/")
    assert (response.status_code, response.text) == (503, "no 3")


async def test_every_policy_works() -> None:
    api = Api(200)
    limit, breaker = rate_limited(1), circuit_breaker(1)
    options: dict[str, Any] = {"rate_limit": limit, "circuit_breaker": breaker, "retry": None}
    async with plain_client(api, **options) as calls:
        await calls.get("/")
        await calls.get("/")
        assert api.times == [0.0, 1.0]
        api.outcomes = [500]
        await calls.get("/")
        with pytest.raises(httpx.TransportError, match="circuit"):
            await calls.get("/")


async def test_endpoints_are_matched_by_the_whole_path() -> None:
    api = Api(200)
    async with plain_client(api, endpoints={"GET /slow*": [rate_limited(1, per=10)]}) as calls:
        for path in ("/slow/1", "/slow/2", "/quick"):
            await calls.get(path)
    assert api.times == [0.0, 10.0, 10.0]


async def test_time_is_bounded() -> None:
    async with plain_client(Api(50.0), attempt_timeout=None, total_timeout=3) as calls:
        with pytest.raises(CallTimeoutError) as caught:
            await calls.get("/")
    assert now() == 3
    assert isinstance(caught.value, httpx.TimeoutException)


async def test_status_errors_are_not_typed_unless_asked_for() -> None:
    async with plain_client(Api(404)) as calls:
        assert (await calls.get("/")).status_code == 404
    async with plain_client(Api(404), raise_for_status=True) as calls:
        with pytest.raises(httpx.HTTPStatusError):
            await calls.get("/")


@pytest.mark.real_time
async def test_without_a_transport_it_brings_that_of_the_clients_package() -> None:
    async with http_server() as server:
        transport = ResilientTransport(retry=retry(wait=0))
        async with httpx.AsyncClient(base_url=server.url, transport=transport) as calls:
            server.script("/", reply(503), reply(502))
            assert (await calls.get("/")).text == "ok"
        assert server.lines == ["GET /"] * 3
        assert server.connections == 1
    await ResilientTransport().aclose()


@pytest.mark.real_time
async def test_t3_cancelled_requests_cost_its_transport_no_connection() -> None:
    async with http_server() as server:
        inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
        async with httpx.AsyncClient(
            base_url=server.url, transport=ResilientTransport(inner, retry=None)
        ) as calls:
            tasks = [asyncio.create_task(calls.get("/")) for _ in range(2)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert (await calls.get("/")).status_code == 200


def test_t28_bad_input() -> None:
    with pytest.raises(TypeError, match="transport must be an asynchronous transport, got 'http'"):
        ResilientTransport("http")
    with pytest.raises(TypeError, match="retry must be"):
        ResilientTransport(retry=3)  # type: ignore[arg-type]
    for name in ("auth", "verify", "base_url", "limits"):
        with pytest.raises(TypeError, match=f"{name} is no argument of ResilientTransport"):
            ResilientTransport(**{name: "x"})


@pytest.mark.real_time
async def test_another_attempt_keeps_the_cookies_that_the_client_put_in() -> None:
    async with http_server() as server:
        server.script("/", reply(503, {"Set-Cookie": "session=2"}))
        transport = ResilientTransport(retry=retry(wait=0))
        cookies = {"session": "1", "other": "1"}
        async with httpx.AsyncClient(base_url=server.url, transport=transport, cookies=cookies) as calls:
            await calls.get("/")
        assert [each.headers.get("cookie") for each in server.received] == ["session=1; other=1"] * 2


@pytest.mark.real_time
async def test_h6_1_a_redirect_to_another_origin_loses_the_credentials() -> None:
    async with http_server() as here, http_server() as there:
        here.script("/near", redirect("/far"))
        here.script("/far", redirect(f"{there.url}/final"))
        there.script("/final", reply(503), redirect(f"{here.url}/back"))
        transport = ResilientTransport(retry=retry(wait=0))
        options: Any = {"transport": transport, "auth": APIKeyAuth("k"), "follow_redirects": True}
        async with httpx.AsyncClient(base_url=here.url, **options) as calls:
            await calls.get("/near")
        sent = [(each.path, each.headers.get("x-api-key")) for each in here.received]
        assert sent == [("/near", "k"), ("/far", "k"), ("/back", None)]
        assert [each.headers.get("x-api-key") for each in there.received] == [None, None]
