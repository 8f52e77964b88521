"""What a client is called in events, metrics and logs, and what of it is on the page of `snapshot`."""

import gc
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import resilience
from resilience import (
    CallTimeoutError,
    MetricsRegistry,
    RateLimitExceededError,
    bulkhead,
    circuit_breaker,
    rate_limited,
    retry,
)
from resilience_httpx import (
    CallNext,
    ResilientClient,
    ResilientTransport,
    ResponseCache,
    ServerLimits,
    add_request_id,
    log_requests,
    measure_requests,
    resilient,
)
from tests.support.http_api import Api


def client(api: Any, **options: Any) -> ResilientClient:
    return ResilientClient("https://h", transport=httpx.MockTransport(api), **options)


# --- Events -----------------------------------------------------------------------------------------


async def test_events_bear_the_clients_name(events: list) -> None:
    for name in ("crm", "shop"):
        endpoints = {"GET /named*": [retry(attempts=2, wait=0)]}
        async with client(
            Api(503), retry=retry(attempts=2, wait=0), endpoints=endpoints, name=name
        ) as calls:
            await calls.get("/")
            await calls.get("/named")
    scheduled = [event.name for event in events if event.kind == "retry.scheduled"]
    assert scheduled == ["crm", "crm GET /named*", "shop", "shop GET /named*"]


async def test_what_the_client_makes_for_itself_bears_its_name_too(events: list) -> None:
    limited = httpx.Response(429, headers={"Retry-After": "1000"})
    async with client(Api(limited), name="crm", retry=None) as calls:
        await calls.get("/")
        with pytest.raises(RateLimitExceededError) as refused:
            await calls.get("/")
    async with client(Api(60.0), name="crm", retry=None, attempt_timeout=1) as calls:
        for extensions in ({}, {"attempt_timeout": 2}):
            with pytest.raises(CallTimeoutError):
                await calls.get("/", extensions=extensions)
    assert refused.value.policy == "crm server_limits"
    assert [event.name for event in events] == ["crm server_limits", *["crm attempt_timeout"] * 2]


async def test_a_policy_with_a_name_of_its_own_keeps_it(events: list) -> None:
    limited = httpx.Response(429, headers={"Retry-After": "1000"})
    policies: dict[str, Any] = {"retry": None, "server_limits": ServerLimits(name="quota")}
    async with client(Api(limited), name="crm", **policies) as calls:
        await calls.get("/")
        with pytest.raises(RateLimitExceededError):
            await calls.get("/")
    async with client(Api(503), name="crm", retry=retry(attempts=2, wait=0, name="again")) as calls:
        await calls.get("/")
    assert [event.name for event in events] == ["quota", "again", "again"]


async def test_a_policy_in_two_clients_bears_the_name_of_the_one_that_is_called(events: list) -> None:
    shared = retry(attempts=2, wait=0)
    for name in ("crm", "shop"):
        async with client(Api(503, 200), name=name, retry=shared) as calls:
            await calls.get("/")
    assert [event.name for event in events] == ["crm"] * 2 + ["shop"] * 2


async def test_transports_and_clients_that_exist_have_names_too(events: list) -> None:
    transport = ResilientTransport(
        httpx.MockTransport(Api(503, 200)), name="sdk", retry=retry(attempts=2, wait=0)
    )
    async with httpx.AsyncClient(transport=transport) as calls:
        await calls.get("https://h/")
    existing = httpx.AsyncClient(transport=httpx.MockTransport(Api(503, 200)))
    async with resilient(existing, name="old", retry=retry(attempts=2, wait=0)) as calls:
        await calls.get("https://h/")
    assert [event.name for event in events] == ["sdk"] * 2 + ["old"] * 2


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (3, TypeError)])
def test_bad_names(name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="name must be a string that is not empty"):
        client(Api(200), name=name)


# --- Middleware -------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    from loguru import logger

    found: list[Any] = []
    sink = logger.add(lambda text: found.append(text.record), level="DEBUG")
    yield found
    logger.remove(sink)


async def test_metrics_have_the_name_as_a_label() -> None:
    registry = MetricsRegistry()
    for options in ({"name": "crm"}, {}):
        async with client(Api(200), attempt_middleware=[measure_requests(registry)], **options) as calls:
            await calls.get("/")
    series = registry.snapshot()["resilience.http.requests"]["series"]
    assert [each["labels"].get("client") for each in series] == ["crm", None]


async def test_log_lines_have_the_name(lines: list[Any]) -> None:
    async with client(Api(200), middleware=[log_requests()], name="crm") as calls:
        await calls.get("/x")
    assert [line["message"] for line in lines] == [
        "crm: GET https://h/x begins",
        "crm: GET https://h/x answered 200 after 0.000 s",
    ]
    assert [line["extra"]["resilience"]["client"] for line in lines] == ["crm"] * 2


@pytest.mark.parametrize("around", ["middleware", "attempt_middleware"])
async def test_hooks_and_middleware_find_the_name(around: str) -> None:
    found: list[Any] = []

    async def look(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        found.append(request.extensions.get("resilience.client"))
        return await call_next(request)

    async def hook(request: httpx.Request) -> None:
        found.append(request.extensions.get("resilience.client"))

    for name in ("crm", None):
        options: dict[str, Any] = {around: [look], "event_hooks": {"request": [hook]}}
        async with client(Api(503, 200), retry=retry(attempts=2, wait=0), name=name, **options) as calls:
            await calls.get("/")
    attempts = 2
    seen = attempts + (1 if around == "middleware" else attempts)
    assert found == ["crm"] * seen + [None] * seen


async def test_log_lines_have_the_request_id(lines: list[Any]) -> None:
    add_id = add_request_id("X-Trace", lambda: "id-1")
    async with client(Api(200), middleware=[add_id, log_requests()]) as calls:
        await calls.get("/inside")
    async with client(Api(200), middleware=[log_requests(), add_id]) as calls:
        await calls.get("/outside")
    async with client(Api(200), middleware=[log_requests()]) as calls:
        await calls.get("/own", headers={"X-Request-ID": "id-2"})
        await calls.get("/none")
    messages = [line["message"] for line in lines]
    assert messages == [
        "GET https://h/inside (id-1) begins",
        "GET https://h/inside (id-1) answered 200 after 0.000 s",
        "GET https://h/outside begins",
        "GET https://h/outside (id-1) answered 200 after 0.000 s",
        "GET https://h/own (id-2) begins",
        "GET https://h/own (id-2) answered 200 after 0.000 s",
        "GET https://h/none begins",
        "GET https://h/none answered 200 after 0.000 s",
    ]
    ids = [line["extra"]["resilience"].get("request_id") for line in lines]
    assert ids == ["id-1", "id-1", None, "id-1", "id-2", "id-2", None, None]


async def test_an_answer_of_a_middleware_is_logged() -> None:
    async def refuse(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        return httpx.Response(405)

    async with client(Api(200), middleware=[log_requests(), refuse]) as calls:
        assert (await calls.get("/")).status_code == 405


async def test_log_lines_of_failures_have_the_request_id(lines: list[Any]) -> None:
    options: dict[str, Any] = {
        "retry": None,
        "middleware": [log_requests(), add_request_id(make=lambda: "1")],
    }
    async with client(Api(httpx.ReadError("x")), **options) as calls:
        with pytest.raises(httpx.ReadError):
            await calls.get("/")
    assert lines[-1]["message"] == "GET https://h/ (1) failed with ReadError after 0.000 s"


async def test_a_request_id_cannot_forge_a_line(lines: list[Any]) -> None:
    async with client(Api(200), middleware=[log_requests()]) as calls:
        await calls.get("/", headers={"X-Request-ID": "1\nERROR all is lost"})
    assert lines[0]["message"] == r"GET https://h/ ('1\nERROR all is lost') begins"


# --- The page of `snapshot` -------------------------------------------------------------------------


def page() -> dict[str, list[str]]:
    gc.collect()
    return {name: [each["kind"] for each in entries] for name, entries in resilience.snapshot().items()}


async def test_the_page_shows_each_policy_of_a_client_once_and_by_the_clients_name() -> None:
    before = page()
    policies: dict[str, Any] = {"rate_limit": rate_limited(9), "bulkhead": bulkhead(9, name="page slots")}
    once = circuit_breaker(3)
    async with client(Api(503, 200), name="page", **policies) as calls:
        await calls.get("/", extensions={"attempt_timeout": 7, "circuit_breaker": once})
        added = {name: kinds for name, kinds in page().items() if kinds != before.get(name)}
    assert added == {
        "page": ["rate_limited", "circuit_breaker", "retry", "circuit_breaker"],
        "page slots": ["bulkhead"],
        "page server_limits": ["server_limits"],
    }


async def test_the_page_shows_the_circuits_of_other_origins_when_there_are_any() -> None:
    breaker = circuit_breaker(3, name="page circuits")
    async with client(Api(503), circuit_breaker=breaker, retry=None) as calls:
        await calls.get("/")
        assert len(page()["page circuits"]) == 1
        await calls.get("https://other/")
        own, others = resilience.snapshot()["page circuits"]
    assert [each["outcomes"]["failure"] for each in (own, others)] == [1, 1]


async def test_the_page_shows_what_servers_have_told_and_what_is_kept() -> None:
    limited = httpx.Response(429, headers={"Retry-After": "10"})
    fresh = httpx.Response(200, headers={"Cache-Control": "max-age=60"}, text="x")
    limits, cache = ServerLimits(name="page limits"), ResponseCache(name="page cache")
    async with client(Api(fresh, limited), cache=cache, server_limits=limits, retry=None) as calls:
        for path in ("/", "/", "/other"):
            await calls.get(path)
    gc.collect()
    shown = resilience.snapshot()
    assert shown["page limits"] == [
        {
            "origins": 1,
            "blocked": 1,
            "waiting": 0,
            "name": "page limits",
            "kind": "server_limits",
            "policy": "ServerLimits(name='page limits')",
            "enabled": True,
        }
    ]
    (kept,) = shown["page cache"]
    assert (kept["hits"], kept["misses"], kept["size"], kept["kind"]) == (1, 2, 1, "response_cache")
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_the_page_keeps_nothing_alive() -> None:
    client(Api(200), name="page gone", cache=ResponseCache(name="page gone"))
    assert not [name for name in page() if name.startswith("page gone")]
