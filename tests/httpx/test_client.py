"""The client as a stack of the core's policies: mostly in virtual time, against a transport of our own."""

import asyncio
import contextlib
import gc
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import httpx2
import pytest
import tenacity

from resilience import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    RateLimitExceededError,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    inactive,
    rate_limited,
    retry,
    timeout,
)
from resilience_httpx import (
    NetworkError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ResilientClient,
    ServerError,
    _circuits,
)
from resilience_httpx._call import Call
from tests.support.http_api import Api, Outcome
from tests.support.http_server import http_server, never, reply
from tests.support.virtual_time import now, settle


def client(api: Callable[..., Any], **options: Any) -> ResilientClient:
    defaults = {"retry": retry(attempts=3, wait=0), "circuit_breaker": None}
    return ResilientClient("https://h", transport=httpx.MockTransport(api), **{**defaults, **options})


# --- It is an httpx client --------------------------------------------------------------------------


async def test_it_is_an_httpx_client() -> None:
    api = Api(200)
    async with client(api, headers={"A": "b"}, params={"p": "1"}, timeout=3, cookies={"c": "d"}) as calls:
        assert isinstance(calls, httpx.AsyncClient)
        response = await calls.post("/x", json=[1], headers={"E": "f"})
    request = api.requests[0]
    assert (request.method, str(request.url)) == ("POST", "https://h/x?p=1")
    assert (request.headers["A"], request.headers["E"], request.headers["Cookie"]) == ("b", "f", "c=d")
    assert request.extensions["timeout"]["read"] == 3
    assert request.content == b"[1]"
    assert response.request.url == request.url
    with pytest.raises(RuntimeError, match="closed"):
        await calls.get("/")


async def test_hooks_and_transports_find_the_body_as_they_are_used_to() -> None:
    seen: list[bytes] = []

    async def look(request: httpx.Request) -> None:
        seen.append(request.content)

    async with client(Api(503, 200), event_hooks={"request": [look]}) as calls:
        await calls.put("/", json=1)
    assert seen == [b"1", b"1"]


async def test_one_request_object_can_be_sent_at_the_same_time_with_different_options() -> None:
    async def slow(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1)
        return httpx.Response(200, stream=Chunks())

    class Chunks(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"ok"

    async with client(slow) as calls:
        request = calls.build_request("GET", "/")
        read, streamed = await asyncio.gather(calls.send(request), calls.send(request, stream=True))
        assert read.content == b"ok"
        assert not streamed.is_stream_consumed
        await streamed.aclose()


async def test_default_policies() -> None:
    api = Api(503)
    async with ResilientClient("https://h", transport=httpx.MockTransport(api)) as calls:
        assert (await calls.get("/")).status_code == 503
        assert len(api.requests) == 3
        assert calls.retry is not None
        assert calls.rate_limit is None
        assert calls.circuit_breaker.at("https://h").state is CircuitState.CLOSED
        await calls.get("/")  # opens after 5 failures in a row
        assert calls.circuit_breaker.at("https://h").state is CircuitState.OPEN
        with pytest.raises(CircuitBreakerOpenError):
            await calls.get("/")


async def test_policies_can_be_turned_off() -> None:
    api = Api(503)
    async with client(api, retry=None, attempt_timeout=None, total_timeout=None) as calls:
        for _ in range(20):
            assert (await calls.get("/")).status_code == 503
    assert len(api.requests) == 20


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"retry": 3}, TypeError, "retry must be a retry"),
        ({"retry": rate_limited(1)}, TypeError, "retry must be"),
        ({"rate_limit": 3}, TypeError, "rate_limit must be"),
        ({"circuit_breaker": "x"}, TypeError, "circuit_breaker must be"),
        ({"attempt_timeout": "x"}, TypeError, "attempt_timeout must be"),
        ({"attempt_timeout": -1}, ValueError, "attempt_timeout must be"),
        ({"total_timeout": float("nan")}, ValueError, "total_timeout must be"),
        ({"raise_for_status": 1}, TypeError, "raise_for_status must be"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_a_wrong_argument_shows_at_once(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ResilientClient(**options)


# --- Policies for one call --------------------------------------------------------------------------


async def test_policies_for_one_call() -> None:
    api = Api(503)
    breaker, limit = circuit_breaker(1), rate_limited(1, per=10, max_wait=0)
    async with client(api) as calls:
        await calls.get("/", extensions={"retry": None})
        assert len(api.requests) == 1
        await calls.get("/", extensions={"retry": retry(attempts=5, wait=0)})
        assert len(api.requests) == 6
        await calls.get("/", extensions={"retry": None, "circuit_breaker": breaker})
        with pytest.raises(CircuitBreakerOpenError):
            await calls.get("/", extensions={"circuit_breaker": breaker})
        await calls.get("/", extensions={"rate_limit": limit, "retry": None})
        with pytest.raises(RateLimitExceededError):
            await calls.get("/", extensions={"rate_limit": limit})
        with pytest.raises(TypeError, match="retry must be"):
            await calls.get("/", extensions={"retry": 3})
        api.outcomes = [5.0]
        for extensions in ({"attempt_timeout": 1, "retry": None}, {"total_timeout": 1}):
            before = now()
            with pytest.raises(httpx.TimeoutException):
                await calls.get("/", extensions=extensions)
            assert now() == before + 1.0
        async with calls.stream("GET", "/", extensions={"attempt_timeout": None}) as response:
            assert response.status_code == 200


async def test_policies_that_stay_the_same_are_put_together_once() -> None:
    policy = retry(attempts=2)
    async with client(Api(200)) as calls:
        for _ in range(3):
            await calls.get("/", extensions={"retry": policy, "attempt_timeout": 5})
        assert len(calls._sender._pipelines) == 2


async def test_policies_made_anew_for_each_call_do_not_pile_up() -> None:
    async with client(Api(200)) as calls:
        for number in range(300):
            await calls.get("/", extensions={"retry": retry(attempts=2), "attempt_timeout": number + 1})
        assert len(calls._sender._pipelines) <= 64
        assert (await calls.get("/")).status_code == 200


# --- Retry ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("punctual")
async def test_t31_retry_after_is_a_lower_bound_of_the_wait() -> None:
    asked = [httpx.Response(status, headers={"Retry-After": "7"}) for status in (429, 503, 500)]
    api = Api(*asked, 200)
    async with client(api, retry=retry(attempts=4, wait=1)) as calls:
        assert (await calls.get("/")).status_code == 200
    assert api.times == [0.0, 7.0, 14.0, 15.0]


async def test_t31_a_retry_after_above_the_cap_ends_the_call_at_once() -> None:
    api = Api(httpx.Response(429, headers={"Retry-After": "31"}, text="slow down"))
    async with client(api, total_timeout=None) as calls:
        response = await calls.get("/")
        assert (response.status_code, response.text, now()) == (429, "slow down", 0.0)
    async with client(api, total_timeout=None, raise_for_status=True) as calls:
        with pytest.raises(RateLimitError) as caught:
            await calls.get("/")
    assert caught.value.retry_after == caught.value.details["retry_after"] == 31.0
    assert "retry_after" in caught.value.__notes__[0]
    assert len(api.requests) == 2


async def test_t31_a_retry_after_past_the_total_timeout_ends_the_call_at_once() -> None:
    api = Api(httpx.Response(503, headers={"Retry-After": "20"}))
    async with client(api, total_timeout=10) as calls:
        assert (await calls.get("/")).status_code == 503
    assert api.times == [0.0]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.usefixtures("punctual")
async def test_t31_retry_after_counts_too_if_a_hook_raises_the_status(raises: bool) -> None:
    async def raise_for_status(response: httpx.Response) -> None:
        response.raise_for_status()

    asked = httpx.Response(429, headers={"Retry-After": "7"})
    api = Api(asked, 200, asked, asked, asked)
    hooks = {"response": [raise_for_status]}
    async with client(api, event_hooks=hooks, raise_for_status=raises) as calls:
        assert (await calls.get("/")).status_code == 200
        assert api.times == [0.0, 7.0]
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await calls.get("/")
    assert isinstance(caught.value, RateLimitError) is raises
    assert caught.value.response.status_code == 429


async def test_t31_retry_after_makes_nothing_retryable() -> None:
    api = Api(
        httpx.Response(404, headers={"Retry-After": "1"}), httpx.Response(503, headers={"Retry-After": "1"})
    )
    async with client(api) as calls:
        await calls.get("/")
        await calls.post("/")
    assert len(api.requests) == 2


async def test_t33_the_last_error_is_the_original_with_a_note() -> None:
    original = httpx.ReadTimeout("x")
    async with client(Api(httpx.ReadError("first"), 503, original)) as calls:
        with pytest.raises(httpx.ReadTimeout) as caught:
            await calls.get("/")
    assert caught.value is original
    assert caught.value.__notes__[0].startswith("gave up after 3 attempts")


async def test_t33_wrap_has_no_meaning_here() -> None:
    async with client(Api(503), retry=retry(attempts=2, wait=0, wrap=True)) as calls:
        assert (await calls.get("/")).text == "no 2"


NARROWED: list[tuple[Callable[[], Any], bool, list[int]]] = [
    # policy, raise_for_status, attempts made for: 503, 429, ReadError
    (lambda: retry(3, wait=0, on=httpx.ReadError), False, [3, 3, 3]),
    (lambda: retry(3, wait=0, on=httpx.ReadError), True, [1, 1, 3]),
    (lambda: retry(3, wait=0, on=(ServerError, NetworkError)), True, [3, 1, 1]),
    (lambda: retry(3, wait=0, on=httpx.HTTPStatusError), True, [3, 3, 1]),
    (lambda: retry(3, wait=0, on=lambda error: isinstance(error, ServerError)), True, [3, 1, 1]),
    (lambda: retry(3, wait=0, on=ValueError), False, [3, 3, 1]),
    (lambda: retry(3, wait=0, on_result=lambda response: response.status_code == 429), False, [1, 3, 3]),
    (lambda: retry(3, wait=0, on_result=lambda response: response.status_code == 429), True, [1, 3, 3]),
    (lambda: retry(3, wait=0, on_result=lambda response: True), False, [3, 3, 3]),
    (lambda: retry(3, wait=0, on=tenacity.retry_if_exception_type(httpx.ReadError)), False, [3, 3, 3]),
    (lambda: retry(3, wait=0, on=tenacity.retry_if_exception_type(httpx.ReadError)), True, [1, 1, 3]),
    (lambda: retry(3, wait=0, on=tenacity.retry_if_exception(lambda error: True)), True, [3, 3, 3]),
]


@pytest.mark.parametrize(("policy", "raises", "expected"), NARROWED)
async def test_on_and_on_result_only_narrow(
    policy: Callable[[], Any], raises: bool, expected: list[int]
) -> None:
    made = []
    for outcome in (503, 429, httpx.ReadError("x")):
        api = Api(outcome)
        async with client(api, retry=policy(), raise_for_status=raises) as calls:
            with contextlib.suppress(httpx.HTTPError):
                await calls.get("/")
        made.append(len(api.requests))
    assert made == expected
    for method, outcome in (("GET", 404), ("POST", 503), ("GET", 200), ("GET", httpx.DecodingError("x"))):
        api = Api(outcome)
        async with client(api, retry=policy(), raise_for_status=raises) as calls:
            with contextlib.suppress(httpx.HTTPError):
                await calls.request(method, "/")
        assert len(api.requests) == 1


async def test_predicates_may_be_async_and_see_what_the_caller_would() -> None:
    seen: list[object] = []

    async def on(error: Exception) -> bool:
        seen.append(error)
        return True

    async def on_result(response: httpx.Response) -> bool:
        seen.append(response)
        return True

    error = httpx.ReadError("x")
    async with client(Api(error, 503, 200), retry=retry(3, wait=0, on=on, on_result=on_result)) as calls:
        await calls.get("/")
    assert seen[0] is error
    assert [type(each) for each in seen] == [httpx.ReadError, httpx.Response]


async def test_strategies_of_tenacity_see_the_real_failures() -> None:
    outcomes: list[object] = []

    def wait(state: tenacity.RetryCallState) -> float:
        outcomes.append(
            (state.attempt_number, type(state.outcome.exception()).__name__, type(state.args[0]))
        )
        return 2.0

    api = Api(503, httpx.ReadError("x"), 200)
    async with client(
        api, retry=retry(attempts=None, stop=tenacity.stop_after_attempt(5), wait=wait)
    ) as calls:
        await calls.get("/")
    assert outcomes == [(1, "ServerError", httpx.Request), (2, "ReadError", httpx.Request)]
    assert api.times == [0.0, 2.0, 4.0]


async def test_the_budget_itself_is_charged_and_only_for_retries() -> None:
    budget = RetryBudget(ratio=0, min_per_second=0.3, window=10)  # three retries in ten seconds
    policy = retry(attempts=3, wait=0, budget=budget)
    api = Api(503)
    async with client(api, retry=policy) as one, client(api, retry=policy) as two:
        await one.get("/")
        await two.get("/")
        await one.get("/")
    assert len(api.requests) == 3 + 2 + 1


async def test_the_policys_own_budget_serves_all_its_clients() -> None:
    policy = retry(attempts=3, wait=0)
    async with client(Api(503), retry=policy) as one, client(Api(503), retry=policy) as two:
        await one.get("/")
        await two.get("/")
    assert policy.snapshot()["budget"]["retries"] == 4


async def test_a_retry_that_is_disabled_later() -> None:
    policy = retry(attempts=3, wait=0)
    api = Api(503)
    async with client(api, retry=policy) as calls:
        policy.enabled = False
        await calls.get("/")
        assert len(api.requests) == 1
        policy.enabled = True
        await calls.get("/")
        assert len(api.requests) == 4
        with inactive():
            await calls.get("/")
        assert len(api.requests) == 5


async def test_t24_overlapping_calls_do_not_share_their_state() -> None:
    released = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        counts[path] = counts.get(path, 0) + 1
        if path != "/new" and counts[path] == 2:
            await released.wait()
        return httpx.Response(503 if counts[path] < 3 else 200, text=path)

    counts: dict[str, int] = {}
    async with client(answer) as calls:
        old = asyncio.create_task(calls.get("/old"))
        cancelled = asyncio.create_task(calls.get("/cancelled"))
        assert (await calls.get("/new")).text == "/new"
        await settle()
        cancelled.cancel()
        released.set()
        assert (await old).text == "/old"
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert counts == {"/old": 3, "/cancelled": 2, "/new": 3}


async def test_events_bear_the_name_of_client_or_endpoint(events: list) -> None:
    patterns = {"GET /named*": [retry(attempts=2, wait=0)]}
    async with client(Api(503), endpoints=patterns) as calls:
        await calls.get("/")
        await calls.get("/named")
    scheduled = [event for event in events if event.kind == "retry.scheduled"]
    assert [event.name for event in scheduled] == ["ResilientClient", "ResilientClient", "GET /named*"]
    assert scheduled[0].attributes["error"] == "ServerError"


# --- Time limits ------------------------------------------------------------------------------------


async def test_the_attempt_timeout_bounds_each_attempt() -> None:
    api = Api(50.0)
    async with client(api, attempt_timeout=2) as calls:
        request = calls.build_request("GET", "/")
        with pytest.raises(CallTimeoutError) as caught:
            await calls.send(request)
    assert isinstance(caught.value, httpx.TimeoutException)
    assert isinstance(caught.value, RequestTimeoutError)
    assert caught.value.request is request
    assert api.times == [0.0, 2.0, 4.0]
    assert now() == 6.0


async def test_b22_the_total_timeout_bounds_it_all_and_keeps_the_last_real_error() -> None:
    last = httpx.ReadError("x")
    api = Api(503, last, 50.0)
    async with client(api, total_timeout=5, retry=retry(attempts=9, wait=1)) as calls:
        with pytest.raises(CallTimeoutError) as caught:
            await calls.get("/")
        assert now() == 5.0
        assert caught.value.__cause__ is last
        assert isinstance(caught.value, httpx.TimeoutException)


async def test_b22_a_wait_that_does_not_fit_ends_the_call_with_the_last_response() -> None:
    api = Api(503)
    async with client(api, total_timeout=5, retry=retry(attempts=9, wait=3)) as calls:
        assert (await calls.get("/")).text == "no 2"
    assert (api.times, now()) == ([0.0, 3.0], 3.0)


async def test_a_body_that_drips_is_part_of_the_attempt() -> None:
    class Drip(httpx.AsyncByteStream):
        async def __aiter__(self):
            for _ in range(100):
                await asyncio.sleep(1)
                yield b"x"

        async def aclose(self) -> None:
            closed.append(now())

    closed: list[float] = []
    async with client(
        lambda request: httpx.Response(200, stream=Drip()), retry=None, attempt_timeout=5
    ) as calls:
        with pytest.raises(httpx.TimeoutException):
            await calls.get("/")
        assert closed == [5.0]
        async with calls.stream("GET", "/") as response:  # the caller's own business
            assert len(await response.aread()) == 100


# --- Bulkhead ---------------------------------------------------------------------------------------


async def test_a_bulkhead_bounds_the_attempts_and_not_the_waits_between_them() -> None:
    api = Api(1.0)
    slots = bulkhead(1, max_queue=None)
    async with client(api, bulkhead=slots) as calls:
        assert calls.bulkhead is slots
        await asyncio.gather(calls.get("/"), calls.get("/"), calls.get("/", extensions={"bulkhead": None}))
        assert api.times == [0, 0, 1]
        failing = Api(503, 200)
        async with client(failing, bulkhead=slots, retry=retry(attempts=2, wait=5)) as others:
            other = asyncio.create_task(others.get("/"))
            await asyncio.sleep(1)
            await calls.get("/")  # while the other one waits for its next attempt
            assert now() == 4
            await other
    assert failing.times == [2, 7]


async def test_a_full_bulkhead_refuses_before_anything_is_sent() -> None:
    api = Api(1.0)
    async with client(api, bulkhead=bulkhead(1)) as calls:
        first = asyncio.create_task(calls.get("/"))
        await asyncio.sleep(0.5)
        with pytest.raises(BulkheadFullError) as caught:
            await calls.get("/")
        assert isinstance(caught.value, httpx.TransportError)
        await first
    assert len(api.requests) == 1


async def test_a_bulkhead_of_an_endpoint_is_in_place_of_the_clients() -> None:
    api = Api(1.0)
    options = {"bulkhead": bulkhead(1), "endpoints": {"/many*": [bulkhead(2)]}}
    async with client(api, **options) as calls:
        await asyncio.gather(calls.get("/many/1"), calls.get("/many/2"), calls.get("/one"))
    assert api.times == [0, 0, 0]


# --- Circuit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        *(200, 301, 400, 401, 404, 408, 429),
        httpx.PoolTimeout("x"),
        httpx.UnsupportedProtocol("x"),
        httpx.LocalProtocolError("x"),
        httpx.DecodingError("x"),
        httpx.InvalidURL("x"),
        ValueError("x"),
    ],
    ids=repr,
)
async def test_t23_local_faults_and_4xx_do_not_trip(outcome: Outcome) -> None:
    breaker = circuit_breaker(2)
    async with client(Api(outcome), retry=None, circuit_breaker=breaker) as calls:
        for _ in range(5):
            with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
                await calls.get("/")
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize(
    "outcome",
    [
        500,
        501,
        503,
        599,
        httpx.ConnectError("x"),
        httpx.ReadTimeout("x"),
        httpx.RemoteProtocolError("x"),
        ConnectionResetError("x"),
        50.0,
    ],
    ids=repr,
)
@pytest.mark.parametrize("raises", [False, True])
async def test_t23_5xx_and_faults_of_the_wire_trip(outcome: Outcome, raises: bool) -> None:
    breaker = circuit_breaker(2)
    api = Api(outcome)
    async with client(api, retry=None, circuit_breaker=breaker, raise_for_status=raises) as calls:
        for _ in range(3):
            with contextlib.suppress(httpx.HTTPError, ConnectionError):
                await calls.post("/")
    assert breaker.state is CircuitState.OPEN
    assert len(api.requests) == 2


async def test_t23_a_neutral_failure_resets_no_counter_and_gives_the_probe_back() -> None:
    breaker = circuit_breaker(2, recovery_timeout=10)
    async with client(Api(503, 404, 503, 429, 429, 200), retry=None, circuit_breaker=breaker) as calls:
        for _ in range(3):
            await calls.get("/")
        assert breaker.state is CircuitState.OPEN
        await asyncio.sleep(10)
        for status in (429, 429, 200):
            assert (await calls.get("/")).status_code == status
        assert breaker.state is CircuitState.CLOSED


async def test_on_and_ignore_of_the_breaker_narrow() -> None:
    for breaker in (circuit_breaker(1, on=httpx.TransportError), circuit_breaker(1, ignore=ServerError)):
        async with client(
            Api(503, 503, httpx.ReadError("x")), retry=None, circuit_breaker=breaker
        ) as calls:
            for _ in range(2):
                await calls.get("/")
            assert breaker.state is CircuitState.CLOSED
            with pytest.raises(httpx.ReadError):
                await calls.get("/")
            assert breaker.state is CircuitState.OPEN


async def test_t32_a_circuit_that_opens_during_the_retries_ends_the_call_with_its_last_response() -> None:
    api = Api(503)
    async with client(api, retry=retry(attempts=9, wait=0), circuit_breaker=circuit_breaker(2)) as calls:
        response = await calls.get("/")
        assert (response.status_code, response.text, len(api.requests)) == (503, "no 2", 2)
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await calls.get("/")
    assert isinstance(caught.value, httpx.TransportError)
    assert caught.value.retry_after == 30.0
    assert len(api.requests) == 2


@pytest.mark.parametrize("raises", [False, True])
async def test_t32_or_with_its_last_error(raises: bool) -> None:
    api = Api(httpx.ReadError("x"))
    breaker = circuit_breaker(2)
    async with client(
        api, retry=retry(9, wait=0), circuit_breaker=breaker, raise_for_status=raises
    ) as calls:
        with pytest.raises(httpx.ReadError) as caught:
            await calls.get("/")
    assert isinstance(caught.value, NetworkError) is raises
    assert any("the circuit is open" in note for note in caught.value.__notes__)
    assert len(api.requests) == 2


async def test_b24_one_circuit_per_origin() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if request.url.host == "h" else 200)

    breaker = circuit_breaker(2)
    options = {"retry": None, "circuit_breaker": breaker}
    async with client(answer, **options) as one, client(answer, **options) as two:
        for _ in range(2):
            await one.get("/")
        assert breaker.state is CircuitState.OPEN
        with pytest.raises(CircuitBreakerOpenError):
            await two.get("/")
        for url in ("https://other/", "http://h2/", "https://h2:8443/"):
            assert (await one.get(url)).status_code == 200
        for _ in range(2):
            await one.get("https://h:8443/")
        with pytest.raises(CircuitBreakerOpenError):
            await two.get("https://h:8443/")
        breaker.reset()
        assert (await one.get("/")).status_code == 503
        breaker.enabled = False
        for _ in range(5):
            assert (await one.get("https://h:8443/")).status_code == 503


async def test_b24_clients_of_different_origins_share_no_circuit() -> None:
    breaker = circuit_breaker(1)
    transport = httpx.MockTransport(lambda request: httpx.Response(503))
    options = {"retry": None, "circuit_breaker": breaker, "transport": transport}
    async with (
        ResilientClient("https://one", **options) as one,
        ResilientClient("https://two", **options) as two,
    ):
        await two.get("/")
        assert breaker.state is CircuitState.CLOSED
        await one.get("/")
        assert breaker.state is CircuitState.OPEN
        with pytest.raises(CircuitBreakerOpenError):
            await two.get("/")


async def test_b24_without_a_base_url_the_breaker_guards_the_first_origin() -> None:
    breaker = circuit_breaker(1)
    transport = httpx.MockTransport(lambda request: httpx.Response(503))
    async with ResilientClient(retry=None, circuit_breaker=breaker, transport=transport) as calls:
        await calls.get("https://one/")
        assert breaker.state is CircuitState.OPEN
        breaker.reset()
        await calls.get("https://two/")
        assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("outcome", [503, httpx.ConnectError("x")], ids=repr)
async def test_b24_where_a_redirect_leads_is_another_origin(outcome: Outcome) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "h":
            return httpx.Response(302, headers={"Location": "https://other/"})
        if isinstance(outcome, Exception):
            raise outcome
        return httpx.Response(outcome)

    breaker = circuit_breaker(1)
    async with client(answer, retry=None, circuit_breaker=breaker, follow_redirects=True) as calls:
        for _ in range(3):
            with contextlib.suppress(httpx.ConnectError):
                assert (await calls.get("/")).status_code == 503
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.real_time
def test_b24_clients_made_at_once_in_several_threads_share_their_circuits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    class SlowFamily(_circuits._Family):
        def __init__(self, breaker: CircuitBreaker) -> None:
            made.append("family")
            time.sleep(0.02)
            super().__init__(breaker)

    def slowly(*args: Any, **options: Any) -> CircuitBreaker:
        made.append("circuits of others")
        time.sleep(0.02)
        return CircuitBreaker(*args, **options)

    monkeypatch.setattr(_circuits, "_Family", SlowFamily)
    monkeypatch.setattr(_circuits, "CircuitBreaker", slowly)
    breaker = circuit_breaker(2)
    transport = httpx.MockTransport(lambda request: httpx.Response(503))
    options = {"retry": None, "circuit_breaker": breaker, "transport": transport}

    def make_and_call() -> ResilientClient:
        client = ResilientClient("https://h", **options)
        asyncio.run(client.get("https://other/"))
        return client

    with ThreadPoolExecutor(2) as pool:
        clients = [each.result() for each in [pool.submit(make_and_call) for _ in range(2)]]
    for each in clients:
        with pytest.raises(CircuitBreakerOpenError):
            asyncio.run(each.get("https://other/"))
    assert made == ["family", "circuits of others"]


async def test_a_breaker_with_a_key_decides_for_itself() -> None:
    breaker = circuit_breaker(1, key=lambda request: request.url.path)
    async with client(Api(503), retry=None, circuit_breaker=breaker) as calls:
        await calls.get("/a")
        await calls.get("/b")
        with pytest.raises(CircuitBreakerOpenError):
            await calls.get("/a")
    assert breaker.at("/a").state is CircuitState.OPEN


async def test_t62_the_circuit_goes_by_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = circuit_breaker(1, recovery_timeout=10)
    async with client(Api(503, 200), retry=None, circuit_breaker=breaker) as calls:
        await calls.get("/")
        monkeypatch.setattr(time, "time", lambda: 4e9)  # the wall clock jumps
        with pytest.raises(CircuitBreakerOpenError):
            await calls.get("/")
        await asyncio.sleep(10)
        assert (await calls.get("/")).status_code == 200


# --- Rate limit -------------------------------------------------------------------------------------


async def test_every_attempt_takes_its_turn() -> None:
    api = Api(503, 503, 200, 200)
    async with client(api, rate_limit=rate_limited(1, per=10)) as calls:
        await calls.get("/")
        await calls.get("/")
    assert api.times == [0.0, 10.0, 20.0, 30.0]


async def test_a_limit_that_refuses_an_attempt_ends_the_call_with_its_last_response() -> None:
    api = Api(503)
    async with client(api, rate_limit=rate_limited(1, per=10, max_wait=0)) as calls:
        assert (await calls.get("/")).text == "no 1"
        with pytest.raises(RateLimitExceededError) as caught:
            await calls.get("/")
    assert isinstance(caught.value, httpx.TransportError)
    assert caught.value.retry_after == 10.0


@pytest.mark.parametrize("before", [503, httpx.ReadError("x")], ids=repr)
async def test_a_limit_in_a_hook_that_refuses_an_attempt_is_how_the_attempt_fails(before: Outcome) -> None:
    @rate_limited(1, per=10, max_wait=0)
    async def paced(request: httpx.Request) -> None: ...

    async with client(Api(before), event_hooks={"request": [paced]}) as calls:
        with pytest.raises(RateLimitExceededError) as caught:
            await calls.get("/")
    assert isinstance(caught.value, httpx.TransportError)
    assert not any("not sent again" in note for note in getattr(caught.value, "__notes__", []))


async def test_key_and_cost_are_given_the_request() -> None:
    limit = rate_limited(
        2,
        per=10,
        key=lambda request: request.url.host,
        cost=lambda request: 2 if request.method == "PUT" else 1,
    )
    api = Api(200)
    async with client(api, rate_limit=limit) as calls:
        await asyncio.gather(calls.put("/"), calls.get("https://other/"), calls.get("/"))
    assert sorted(api.times) == [0.0, 0.0, 10.0]


# --- raise_for_status -------------------------------------------------------------------------------


async def test_raise_for_status() -> None:
    async with client(Api(404), raise_for_status=True) as calls:
        with pytest.raises(NotFoundError) as caught:
            await calls.get("/users?token=secret")
    error = caught.value
    assert error.response.text == "no 1"
    assert error.response.json is not None
    assert "secret" not in f"{error} {error!r} {error.details}"


async def test_raise_for_status_raises_no_redirect() -> None:
    async with client(
        Api(httpx.Response(302, headers={"Location": "/x"}), 304), raise_for_status=True
    ) as calls:
        assert (await calls.get("/")).status_code == 302
        assert (await calls.get("/")).status_code == 304


async def test_network_errors_are_typed_too() -> None:
    original = httpx.ConnectError("secret")
    async with client(Api(original), raise_for_status=True) as calls:
        with pytest.raises(NetworkError) as caught:
            await calls.get("/")
    assert isinstance(caught.value, httpx.ConnectError)
    assert caught.value.__cause__ is original
    assert caught.value.__notes__[0].startswith("gave up after 3 attempts")
    assert "secret" not in str(caught.value)


async def test_h6_2_a_status_that_a_hook_raises_does_not_show_its_url_by_its_cause() -> None:
    async def raise_for_status(response: httpx.Response) -> None:
        response.raise_for_status()

    secret = str(0x5EC2E7)
    async with client(
        Api(404), raise_for_status=True, event_hooks={"response": [raise_for_status]}
    ) as calls:
        with pytest.raises(NotFoundError) as caught:
            await calls.get("/users", params={"token": secret})
    assert secret not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("outcome", [404, httpx.ReadError("x")], ids=repr)
async def test_the_request_of_an_error_is_the_one_that_failed(outcome: Outcome) -> None:
    moved = httpx.Response(302, headers={"Location": "/final"})
    async with client(Api(moved, outcome), raise_for_status=True, retry=None) as calls:
        with pytest.raises(httpx.HTTPError) as caught:
            await calls.get("/", follow_redirects=True)
    assert caught.value.request.url.path == "/final"
    assert "https://h/final" in str(caught.value)


async def test_by_default_errors_are_those_of_httpx() -> None:
    original = httpx.ConnectError("x")
    async with client(Api(original)) as calls:
        with pytest.raises(httpx.ConnectError) as caught:
            await calls.get("/")
    assert caught.value is original
    assert caught.value.request.url == "https://h/"


# --- Cancellation, leaks, loops ---------------------------------------------------------------------


class Wire(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):
    """A transport that waits a loop turn wherever a real one would, and counts what is open."""

    def __init__(self, *statuses: int, chunks: int = 2) -> None:
        self.statuses = [*statuses]
        self.chunks = chunks
        self.open = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        status = self.statuses.pop(0) if self.statuses else 200
        self.open += 1
        return httpx.Response(status, stream=Body(self))


class Body(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.closed = False

    async def __aiter__(self):
        for _ in range(self.wire.chunks):
            await asyncio.sleep(0)
            yield b"x" * 50_000

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            self.wire.open -= 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("chunks", [1, 3])
async def test_t3_cancelled_at_any_turn_everything_is_given_back(
    stream: bool, raises: bool, chunks: int
) -> None:
    breaker = circuit_breaker(2, recovery_timeout=0)
    limit = rate_limited(10**9)
    turns, done = 0, False
    while not done:
        wire = Wire(429, 503, 429, chunks=chunks)
        options: dict[str, Any] = {"retry": retry(attempts=3, wait=0), "raise_for_status": raises}
        policies = {"circuit_breaker": breaker, "rate_limit": limit}
        async with ResilientClient("https://h", transport=wire, **policies, **options) as calls:
            task = asyncio.create_task(calls.send(calls.build_request("GET", "/"), stream=stream))
            for _ in range(turns):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, httpx.HTTPStatusError):
                await (await task).aclose()
            await settle()
            assert wire.open == 0, f"cancelled after {turns} turns"
            wire.statuses = []
            assert (await calls.get("/")).status_code == 200
            assert breaker.snapshot()["state"] == "closed"
        turns += 1
    assert turns > 10


@pytest.mark.real_time
async def test_t3_a_cancelled_probe_gives_its_place_back() -> None:
    breaker = circuit_breaker(1, recovery_timeout=0)
    options = {"retry": None, "circuit_breaker": breaker}
    async with http_server() as server, ResilientClient(server.url, **options) as calls:
        server.script("/", reply(503), never)
        await calls.get("/")
        server.arrived.clear()
        probe = asyncio.create_task(calls.get("/"))
        await server.arrived.wait()
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert (await calls.get("/")).status_code == 200
        assert breaker.state is CircuitState.CLOSED


async def test_cancelled_in_a_backoff_there_is_no_further_attempt_and_no_connection_is_held() -> None:
    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                yield b"x" * 50_000

        async def aclose(self) -> None:
            closed.append(now())

    closed: list[float] = []
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(503, stream=Body())

    async with client(answer, retry=retry(attempts=3, wait=10)) as calls:
        task = asyncio.create_task(calls.get("/"))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (len(requests), closed[0]) == (1, 0.0)
        await settle()  # httpx leaves one of its generators to the loop to close


async def test_t34_nothing_of_a_call_remains() -> None:
    def remaining() -> int:
        return sum(isinstance(each, Call) for each in gc.get_objects())

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/broken":
            raise httpx.ReadError("x")
        return httpx.Response(int(request.url.path[1:]))

    gc.collect()
    before = remaining()
    gc.disable()
    try:
        for raises in (False, True):
            for path in ("/200", "/404", "/503", "/broken"):
                async with client(answer, raise_for_status=raises) as calls:
                    with contextlib.suppress(httpx.HTTPError):
                        await calls.get(path)
                    assert remaining() == before, (path, raises)
    finally:
        gc.enable()


@pytest.mark.real_time
def test_t64_one_set_of_policies_serves_several_runs_and_threads() -> None:
    policies = {
        "retry": retry(attempts=21, wait=0, budget=None),
        "rate_limit": rate_limited(1_000_000),
        "circuit_breaker": circuit_breaker(1000),
    }

    async def main() -> None:
        async with http_server() as server, ResilientClient(server.url, **policies) as calls:
            server.script("/", *[reply(503)] * 20)
            responses = await asyncio.gather(*(calls.get("/") for _ in range(20)))
            assert {each.status_code for each in responses} == {200}

    for _ in range(3):
        asyncio.run(main())
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []


async def test_a_client_inside_a_hook_of_a_client_keeps_its_own_calls_apart() -> None:
    async with client(Api(404), raise_for_status=True) as inner:

        async def ask(request: httpx.Request) -> None:
            await inner.get("/")

        async with client(Api(200), event_hooks={"request": [ask]}) as outer:
            with pytest.raises(NotFoundError):
                await outer.get("/")


async def test_a_stack_of_timeouts_counts_the_nearest() -> None:
    async with client(Api(50.0)) as calls:

        @timeout(3)
        async def fetch() -> None:
            await calls.get("/")

        with pytest.raises(CallTimeoutError) as caught:
            await fetch()
    assert now() == 3.0
    assert not isinstance(caught.value, httpx.HTTPError)  # that was not the client's own limit
