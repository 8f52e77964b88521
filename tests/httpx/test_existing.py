"""`resilient`: a client that exists already gets policies, and stays what it is."""

from typing import Any

import httpx
import pytest

from resilience import circuit_breaker, rate_limited, retry
from resilience_httpx import ResilientClient, resilient
from tests.support.http_api import Api


def existing(api: Any, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url="https://h", transport=httpx.MockTransport(api), **options)


async def test_it_is_the_same_client() -> None:
    api = Api(503, 200)
    hooked: list[str] = []

    async def hook(request: httpx.Request) -> None:
        hooked.append(request.url.path)

    before = existing(api, headers={"A": "b"}, cookies={"c": "d"}, event_hooks={"request": [hook]})
    client = resilient(before, retry=retry(wait=0))
    assert client is before
    async with client:
        assert (await before.get("/x")).status_code == 200
    assert hooked == ["/x", "/x"]
    assert [(each.headers["A"], each.headers["Cookie"]) for each in api.requests] == [("b", "c=d")] * 2
    assert isinstance(client, httpx.AsyncClient)
    assert type(client).__name__ == "ResilientAsyncClient"


async def test_the_policies_are_those_that_were_given() -> None:
    policy, limit, breaker = retry(), rate_limited(5), circuit_breaker(3)
    client: Any = resilient(existing(Api(200)), retry=policy, rate_limit=limit, circuit_breaker=breaker)
    assert (client.retry, client.rate_limit, client.circuit_breaker) == (policy, limit, breaker)
    default: Any = resilient(existing(Api(200)))
    assert default.retry.config.attempts == 3


async def test_one_send_of_ones_own_is_an_attempt() -> None:
    sent: list[str] = []

    class Own(httpx.AsyncClient):
        async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
            sent.append(request.method)
            return await super().send(request, **options)

    transport = httpx.MockTransport(Api(503, 200))
    async with resilient(Own(base_url="https://h", transport=transport), retry=retry(wait=0)) as client:
        assert (await client.get("/")).status_code == 200
    assert sent == ["GET", "GET"]
    assert isinstance(client, Own)


async def test_clients_of_one_class_have_policies_of_their_own() -> None:
    one, other = Api(503, 200), Api(503)
    first = resilient(existing(one), retry=retry(wait=0))
    second = resilient(existing(other), retry=None)
    assert (await first.get("/")).status_code == 200
    assert (await second.get("/")).status_code == 503
    assert type(first) is type(second)


def test_t28_bad_input() -> None:
    with pytest.raises(TypeError, match=r"client must be an httpx\.AsyncClient, got 3"):
        resilient(3)
    with pytest.raises(TypeError, match=r"client must be an httpx\.AsyncClient"):
        resilient(httpx.Client())
    with pytest.raises(TypeError, match="client must be one that has no policies yet"):
        resilient(ResilientClient())
    client = httpx.AsyncClient()
    with pytest.raises(TypeError, match="retry must be"):
        resilient(client, retry=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="auth is no argument of resilient; those are retry"):
        resilient(client, auth=("a", "b"))
    assert type(client) is httpx.AsyncClient
