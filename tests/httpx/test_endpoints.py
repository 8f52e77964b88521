"""Endpoints: which pattern a request belongs to."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from resilience import (
    CircuitBreakerOpenError,
    bulkhead,
    circuit_breaker,
    fallback,
    rate_limited,
    retry,
    stack,
    timeout,
    track_metrics,
)
from resilience_httpx import ResilientClient
from resilience_httpx._endpoints import Endpoints

LIMIT = rate_limited(1000)


def matched(patterns: list[str], method: str, url: str, base_url: str = "https://h") -> str | None:
    endpoints = Endpoints({pattern: [LIMIT] for pattern in patterns})
    base = httpx.AsyncClient(base_url=base_url).base_url
    found = endpoints.match(httpx.Request(method, url), base)
    return found.pattern if found else None


@pytest.mark.parametrize(
    ("pattern", "method", "path", "matches"),
    [
        ("GET /search*", "GET", "/search", True),
        ("GET /search*", "GET", "/search/more?q=1", True),
        ("GET /search*", "POST", "/search", False),
        ("GET /search", "GET", "/search/more", False),
        ("get /search", "GET", "/search", True),
        ("* /search", "DELETE", "/search", True),
        ("/search", "DELETE", "/search", True),
        ("GET *", "GET", "/anything/at/all", True),
        ("GET /users/*/repos", "GET", "/users/a/b/repos", True),
        ("GET /users/*/repos", "GET", "/users/a", False),
        ("GET /a.c", "GET", "/abc", False),
        ("GET /a[b]", "GET", "/ab", False),
        ("GET /caf\u00e9", "GET", "/caf%C3%A9", True),
    ],
)
def test_patterns(pattern: str, method: str, path: str, matches: bool) -> None:
    assert (matched([pattern], method, f"https://h{path}") is not None) is matches


def test_the_most_specific_pattern_counts() -> None:
    patterns = ["/users*", "GET /users*", "GET /users/*", "* /users/me", "GET /users/me"]
    assert matched(patterns, "GET", "https://h/users") == "GET /users*"
    assert matched(patterns, "GET", "https://h/users/ada") == "GET /users/*"
    assert matched(patterns, "GET", "https://h/users/me") == "GET /users/me"
    assert matched(patterns, "PUT", "https://h/users/me") == "* /users/me"
    assert matched(["GET /a*b", "GET /*ab"], "GET", "https://h/ab") == "GET /a*b"


@pytest.mark.parametrize(
    ("base_url", "url", "expected"),
    [
        ("https://h/v1", "https://h/v1/search", "GET /search"),
        ("https://h/v1/", "https://h/v1/search", "GET /search"),
        ("https://h/v1", "https://h/v2/search", None),
        ("https://h/v1", "https://other/v1/search", None),
        ("https://h", "http://h/search", None),
        ("", "https://other/search", "GET /search"),
    ],
)
def test_the_path_is_the_one_below_the_base_url(base_url: str, url: str, expected: str | None) -> None:
    assert matched(["GET /search"], "GET", url, base_url) == expected


@pytest.mark.parametrize(
    ("endpoints", "error", "message"),
    [
        ([], TypeError, "endpoints must be a mapping"),
        ({1: [LIMIT]}, TypeError, "endpoints must be"),
        ({"": [LIMIT]}, ValueError, "endpoints must be"),
        ({"GET": [LIMIT]}, ValueError, "GET"),
        ({"GET search": [LIMIT]}, ValueError, "GET search"),
        ({"GET /a b": [LIMIT]}, ValueError, "GET /a b"),
        ({"GET /a?b=1": [LIMIT]}, ValueError, "without the query"),
        ({"GET /users/{id}": [LIMIT]}, ValueError, "write * for it: 'GET /users/*'"),
        ({"/users/:id/repos": [LIMIT]}, ValueError, "write * for it: '/users/*/repos'"),
        ({"/a/<int:id>-{name:path}": [LIMIT]}, ValueError, "write * for it: '/a/*-*'"),
        ({"GET /a": LIMIT}, TypeError, "endpoints['GET /a'] must be a list of policies"),
        ({"GET /a": [3]}, TypeError, "endpoints['GET /a'] must be a list of policies, got 3"),
        ({"GET /a": [LIMIT, rate_limited(2)]}, ValueError, "one rate_limited at most"),
    ],
)
def test_a_mistake_shows_at_once(endpoints: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ResilientClient(endpoints=endpoints)


def test_cached_makes_no_sense() -> None:
    cached = pytest.importorskip("resilience").__dict__.get("cached")
    if cached is None:
        pytest.skip("cached is not there")
    with pytest.raises(ValueError, match="cannot have cached"):
        ResilientClient(endpoints={"GET /a": [cached(60)]})


async def test_a_policy_of_the_same_kind_replaces_the_clients() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return httpx.Response(503)

    calls: list[str] = []
    async with ResilientClient(
        "https://h/v1",
        transport=httpx.MockTransport(answer),
        retry=retry(attempts=2, wait=0),
        circuit_breaker=None,
        endpoints={"GET /often": [stack(retry(attempts=4, wait=0), circuit_breaker(4))]},
    ) as client:
        await client.get("/often")
        assert calls == ["/v1/often"] * 4
        with pytest.raises(CircuitBreakerOpenError):  # added, as the client has none
            await client.get("/often")
        calls.clear()
        await client.get("/seldom")
        assert calls == ["/v1/seldom"] * 2


async def test_a_timeout_is_that_of_the_attempt() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(100)
        raise AssertionError

    starts: list[float] = []
    async with ResilientClient(
        transport=httpx.MockTransport(answer),
        retry=retry(attempts=3, wait=0),
        endpoints={"GET /slow": [timeout(2)]},
    ) as client:
        with pytest.raises(httpx.TimeoutException):
            await client.get("https://h/slow")
    assert starts == [0.0, 2.0, 4.0]


async def test_metrics_count_calls_and_mapped_errors_are_the_typed_ones(events: list) -> None:
    from resilience import map_errors
    from resilience_httpx import ServerError

    class UnavailableError(Exception):
        pass

    async with ResilientClient(
        transport=httpx.MockTransport(lambda request: httpx.Response(503)),
        retry=retry(attempts=3, wait=0),
        raise_for_status=True,
        endpoints={"GET /a": [track_metrics("a"), map_errors({ServerError: UnavailableError})]},
    ) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.get("https://h/a")
    assert isinstance(caught.value.__cause__, ServerError)
    assert [event.kind for event in events if event.policy == "call"] == ["call.failed"]


async def test_a_stack_that_is_switched_off_is_as_if_not_there() -> None:
    inner = stack(rate_limited(1, per=60, max_wait=0))
    outer = stack(inner, retry(attempts=3, wait=0))
    statuses: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        statuses.append(503)
        return httpx.Response(503)

    options = {
        "retry": retry(attempts=2, wait=0),
        "circuit_breaker": None,
        "endpoints": {"GET /a": [outer]},
    }
    async with ResilientClient("https://h", transport=httpx.MockTransport(answer), **options) as calls:
        for outer.enabled, inner.enabled, count in (
            (False, True, 2),
            (True, False, 3),
            (True, True, 1),
            (False, False, 2),
        ):
            statuses.clear()
            await calls.get("/a")
            assert len(statuses) == count
        outer.enabled = inner.enabled = True
        await_none = {"extensions": {"rate_limit": None}}
        statuses.clear()
        await calls.get("/a", **await_none)
        assert len(statuses) == 3


async def test_the_response_of_a_fallback_is_a_whole_one() -> None:
    def answer(error: Exception, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=f"{type(error).__name__} {request.url.path}")

    transport = httpx.MockTransport(lambda request: httpx.Response(503))
    options: dict[str, Any] = {"transport": transport, "retry": None, "raise_for_status": True}
    async with ResilientClient("https://h", endpoints={"/x": [fallback(answer)]}, **options) as calls:
        response = await calls.get("/x")
        assert (response.text, str(response.url)) == ("ServerError /x", "https://h/x")
        response.raise_for_status()
    async with ResilientClient("https://h", endpoints={"/x": [fallback([])]}, **options) as calls:
        with pytest.raises(TypeError, match="the fallback of /x must return a response, got a list"):
            await calls.get("/x")


async def test_a_policy_that_is_off_turns_the_clients_off() -> None:
    sent: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        await asyncio.sleep(5)
        return httpx.Response(503)

    policies = [retry(), rate_limited(1), circuit_breaker(1), bulkhead(1), timeout(1)]
    for policy in policies:
        policy.enabled = False
    async with ResilientClient(
        "https://h",
        transport=httpx.MockTransport(answer),
        retry=retry(attempts=3, wait=0),
        rate_limit=rate_limited(1, per=1000, max_wait=0),
        circuit_breaker=circuit_breaker(1),
        bulkhead=bulkhead(1),
        attempt_timeout=1,
        endpoints={"POST /orders": policies},
    ) as calls:
        answers = await asyncio.gather(*(calls.post("/orders") for _ in range(3)))
    assert [each.status_code for each in answers] == [503] * 3
    assert sent == ["/orders"] * 3


async def test_one_attempt_turns_the_clients_retry_off() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(503)

    async with ResilientClient(
        "https://h",
        transport=httpx.MockTransport(answer),
        endpoints={"/a": [retry(attempts=1)]},
    ) as calls:
        assert (await calls.get("/a")).status_code == 503
    assert sent == ["/a"]
