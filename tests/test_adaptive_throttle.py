"""`adaptive_throttle`: rejects as many calls as the formula says, and none while all is well."""

import asyncio
import gc
import math
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from resilience import (
    AdaptiveThrottle,
    CircuitBreakerOpenError,
    Event,
    RejectedError,
    StackOrderWarning,
    ThrottledError,
    adaptive_throttle,
    cached,
    circuit_breaker,
    fallback,
    rate_limited,
    retry,
    stack,
)
from resilience._adaptive_throttle_config import AdaptiveThrottleConfig
from resilience._adaptive_throttle_state import ThrottleState
from tests.support.virtual_time import advance, now, settle


def never() -> float:
    """The draw that is rejected at any chance above 0."""
    return 0.0


def always() -> float:
    """The draw that is never rejected."""
    return 1 - 1e-12


class Service:
    """What is called: it fails while it is told to, and counts."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.received = 0

    async def serve(self, seconds: float = 0.0) -> str:
        self.received += 1
        if seconds:
            await asyncio.sleep(seconds)
        if self.error is not None:
            raise self.error
        return "served"


async def outcomes(function: Callable[..., Any], count: int, *args: Any) -> list[str]:
    """Call one after another and tell what became of each."""
    seen: list[str] = []
    for _ in range(count):
        try:
            seen.append(await function(*args))
        except Exception as error:
            seen.append(type(error).__name__)
    return seen


# --- The formula ---


def state(**options: Any) -> ThrottleState:
    return ThrottleState(
        AdaptiveThrottleConfig(**{"minimum_calls": 1, "max_rejection_rate": 1.0, **options})
    )


def fill(throttle: ThrottleState, accepts: int, failures: int, at: float = 0.0) -> ThrottleState:
    for number in range(accepts + failures):
        assert throttle.admit(at, always()) == 0.0
        throttle.end(at, accepted=number < accepts)
    return throttle


@pytest.mark.parametrize("ratio", [1.0, 1.1, 1.5, 2.0, 10.0])
@pytest.mark.parametrize(
    ("accepts", "failures"), [(0, 1), (1, 1), (1, 2), (50, 50), (50, 51), (3, 997), (90, 10)]
)
def test_the_chance_is_that_of_the_formula(ratio: float, accepts: int, failures: int) -> None:
    throttle = fill(state(ratio=ratio), accepts, failures)
    requests = accepts + failures
    assert throttle.chance(0.0) == max(0.0, (requests - ratio * accepts) / (requests + 1))


def test_rejected_calls_are_requests_as_well() -> None:
    throttle = fill(state(), 0, 9)
    assert throttle.chance(0.0) == 9 / 10
    assert throttle.admit(0.0, 0.9) == 0.0  # not below the chance
    throttle.abandon()
    assert throttle.admit(0.0, 0.8999) == 9 / 10
    assert throttle.chance(0.0) == 10 / 11
    assert throttle.snapshot(0.0)["requests"] == 10


def test_a_part_of_the_calls_is_always_made() -> None:
    throttle = fill(state(max_rejection_rate=0.9), 0, 1000)
    assert throttle.chance(0.0) == 0.9
    assert throttle.admit(0.0, 0.9) == 0.0
    assert fill(state(max_rejection_rate=0.0), 0, 1000).admit(0.0, 0.0) == 0.0


def test_callers_of_few_calls_never_notice() -> None:
    throttle = fill(state(minimum_calls=100), 0, 99)
    assert throttle.admit(0.0, 0.0) == 0.0
    throttle.end(0.0, accepted=False)
    assert throttle.admit(0.0, 0.0) == 100 / 101


def test_a_success_may_complete_the_minimum_of_calls() -> None:
    throttle = fill(state(minimum_calls=100), 0, 98)
    for taken in (True, False):
        assert throttle.admit(0.0, 0.0) == 0.0
        assert throttle.running < throttle.room
        assert throttle.requests.take(0.0) is taken
        if taken:
            throttle.running -= 1
    throttle.end(0.0, accepted=True)
    assert throttle.chance(0.0) == (100 - 2 * 2) / 101


@pytest.mark.parametrize("window", [20.0, 120.0])
def test_calls_leave_the_window(window: float) -> None:
    throttle = fill(state(window=window), 0, 10)
    assert throttle.chance(window * 0.94) == 10 / 11
    assert throttle.chance(window) == 0.0
    assert throttle.snapshot(window) == {"rejection_rate": 0.0, "requests": 0, "accepts": 0, "running": 0}


# --- Running calls ---


def test_slow_failures_are_visible_before_they_end() -> None:
    """zeromicro/go-zero#5011: calls that hang are no accepts, and are requests from the start on."""
    throttle = fill(state(), 10, 10)
    assert throttle.chance(0.0) == 0.0
    for _ in range(20):
        throttle.admit(0.0, always())
    assert throttle.chance(0.0) == (20 + 20 / 2 - 20) / (20 + 20 / 2 + 1)


def test_calls_that_hang_longer_than_the_window_still_count() -> None:
    throttle = state(window=10)
    for _ in range(50):
        throttle.admit(0.0, always())
    fill(throttle, 0, 1, at=60.0)
    assert throttle.chance(60.0) == (1 + 50) / (1 + 50 + 1)


async def test_a_burst_of_healthy_calls_is_no_outage() -> None:
    service = Service()
    throttle = adaptive_throttle(random=never)
    serve = throttle(service.serve)
    assert set(await asyncio.gather(*(serve(1.0) for _ in range(5000)))) == {"served"}
    service.error = OSError()
    assert await outcomes(serve, 50) == ["OSError"] * 50  # one in a hundred
    service.error = None
    assert set(await asyncio.gather(*(serve(1.0) for _ in range(20_000)))) == {"served"}


def test_room_is_how_many_calls_may_run_before_one_may_be_rejected() -> None:
    throttle = fill(state(), 30, 10)
    assert throttle.chance(0.0) == 0.0
    assert throttle.room == (2 * 30 - 40) / (10 / 40) == 80
    throttle.running = 80
    assert throttle.chance(0.0) == 0.0
    throttle.running = 81
    assert throttle.chance(0.0) > 0.0
    assert state().room == math.inf


def test_everything_that_may_raise_the_chance_takes_the_straight_path_away() -> None:
    throttle = fill(state(), 30, 10)
    throttle.chance(0.0)
    assert throttle.room == 80
    throttle.end(0.0, accepted=False)
    assert throttle.room < 0
    throttle = fill(state(), 0, 10)
    throttle.room = 1000.0
    assert throttle.admit(0.0, 0.0) > 0
    assert throttle.room < 0


# --- Calls ---


async def test_an_outage_is_shed_and_the_end_of_it_is_found(events: list[Event]) -> None:
    service = Service()
    serve = adaptive_throttle(random=random.Random(3).random, window=20)(service.serve)
    assert set(await outcomes(serve, 200)) == {"served"}
    service.error = OSError()
    assert await outcomes(serve, 200) == ["OSError"] * 200  # half of the calls failed
    advance(20)
    service.received = 0
    seen = await outcomes(serve, 2000)
    assert seen[:100] == ["OSError"] * 100
    assert seen.count("OSError") == service.received
    assert 250 < service.received < 350  # the first hundred, and a tenth of the others
    assert {event.kind for event in events} == {"adaptive_throttle.rejected"}
    assert len(events) == seen.count("ThrottledError")
    service.error = None
    for _ in range(50):
        await outcomes(serve, 10)
        advance(1)
    assert set(await outcomes(serve, 100)) == {"served"}


async def test_the_error_and_the_event(events: list[Event]) -> None:
    service = Service()
    service.error = OSError()
    serve = adaptive_throttle(minimum_calls=1, random=never, name="stock")(service.serve)
    assert await outcomes(serve, 1) == ["OSError"]
    with pytest.raises(ThrottledError) as caught:
        await serve()
    assert str(caught.value) == "stock: too few calls are accepted"
    assert (caught.value.policy, caught.value.retry_after, caught.value.code) == (
        "stock",
        None,
        "throttled",
    )
    (event,) = events
    assert (event.kind, event.policy, event.name) == (
        "adaptive_throttle.rejected",
        "adaptive_throttle",
        "stock",
    )
    assert dict(event.attributes) == {"rejection_rate": 0.5}
    assert service.received == 1
    assert now() == 0


async def test_t16_each_rejection_is_a_new_error() -> None:
    service = Service()
    service.error = OSError()
    serve = adaptive_throttle(minimum_calls=1, random=never)(service.serve)
    await outcomes(serve, 1)
    caught: list[BaseException] = []
    for _ in range(2):
        with pytest.raises(ThrottledError) as info:
            await serve()
        caught.append(info.value)
    assert caught[0] is not caught[1]


@pytest.mark.parametrize(
    ("on", "error", "counts"),
    [
        (Exception, ValueError(), True),
        (OSError, ConnectionResetError(), True),
        (OSError, ValueError(), False),
        ((OSError, KeyError), KeyError(), True),
        (lambda error: error.args == ("busy",), ValueError("busy"), True),
        (lambda error: error.args == ("busy",), ValueError("bad"), False),
        (Exception, CircuitBreakerOpenError(retry_after=1), False),
        (RejectedError, CircuitBreakerOpenError(retry_after=1), False),
    ],
)
async def test_t15_what_is_no_failure_counts_as_nothing(on: Any, error: Exception, counts: bool) -> None:
    service = Service()
    service.error = error
    throttle = adaptive_throttle(on=on, minimum_calls=10)
    await outcomes(throttle(service.serve), 3)
    snapshot = throttle.snapshot()
    assert (snapshot["requests"], snapshot["accepts"], snapshot["running"]) == (3 * counts, 0, 0)


async def test_a_predicate_that_raises_gives_back_what_was_taken() -> None:
    def broken(error: Exception) -> bool:
        raise LookupError("broken")

    service = Service()
    service.error = OSError()
    throttle = adaptive_throttle(on=broken)
    with pytest.raises(LookupError, match="broken") as caught:
        await throttle(service.serve)()
    assert isinstance(caught.value.__context__, OSError)
    assert throttle.snapshot()["running"] == 0


async def test_a_key_function_that_raises_takes_nothing() -> None:
    service = Service()
    throttle = adaptive_throttle(key=lambda *args: args[5])
    with pytest.raises(IndexError):
        await throttle(service.serve)()
    assert throttle.snapshot()["keys"] == 0
    assert service.received == 0


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("turns", range(6))
async def test_t2_t3_a_cancelled_call_counts_as_nothing(turns: int, failing: bool) -> None:
    service = Service()
    throttle = adaptive_throttle(minimum_calls=1, random=always)
    if failing:  # past the straight path
        service.error = OSError()
        await outcomes(throttle(service.serve), 1)
        service.error = None
        await outcomes(throttle(service.serve), 5)
    before = throttle.snapshot()

    @throttle
    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await settle(turns)
    task.cancel()
    await asyncio.wait([task])
    ended = not task.cancelled()
    after = throttle.snapshot()
    assert after["running"] == 0
    assert after["requests"] == before["requests"] + ended
    assert after["accepts"] == before["accepts"] + ended


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
async def test_t8_what_is_no_exception_counts_as_nothing(error: BaseException) -> None:
    service = Service()
    service.error = error
    throttle = adaptive_throttle()
    with pytest.raises(type(error)):
        await throttle.call(service.serve)
    assert throttle.snapshot()["running"] == throttle.snapshot()["requests"] == 0


async def test_a_forgotten_call_gives_back_what_it_took() -> None:
    throttle = adaptive_throttle()

    @throttle
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    coroutine = forever()
    coroutine.send(None)
    assert throttle.snapshot()["running"] == 1
    del coroutine
    gc.collect()
    assert throttle.snapshot()["running"] == 0


async def test_of_two_overlapping_calls_each_counts_for_itself() -> None:
    throttle = adaptive_throttle()
    gates = [asyncio.Event(), asyncio.Event()]

    @throttle
    async def wait(number: int) -> None:
        await gates[number].wait()

    old, new = asyncio.create_task(wait(0)), asyncio.create_task(wait(1))
    await settle()
    gates[1].set()
    await new
    assert throttle.snapshot()["running"] == 1
    old.cancel()
    await asyncio.wait([old])
    assert throttle.snapshot() == {
        "name": throttle.name,
        "rejected": 0,
        "rejection_rate": 0.0,
        "requests": 1,
        "accepts": 1,
        "running": 0,
    }


async def test_reset_forgets_what_ended_and_not_what_runs() -> None:
    service = Service()
    service.error = OSError()
    throttle = adaptive_throttle(minimum_calls=1, random=never)
    serve = throttle(service.serve)
    running = asyncio.create_task(serve(5.0))
    await settle()
    assert await outcomes(serve, 3) == ["OSError", "ThrottledError", "ThrottledError"]
    throttle.reset()
    assert throttle.snapshot() == {
        "name": throttle.name,
        "rejected": 2,
        "rejection_rate": 0.0,
        "requests": 0,
        "accepts": 0,
        "running": 1,
    }
    service.error = None
    assert await running == "served"
    assert throttle.snapshot()["requests"] == throttle.snapshot()["accepts"] == 1
    assert throttle.snapshot()["running"] == 0


async def test_t63_works_on_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.error = OSError()
    throttle = adaptive_throttle(minimum_calls=1, random=never)
    serve = throttle(service.serve)
    monkeypatch.setattr("resilience._clock.monotonic", lambda: 1e9)
    assert await outcomes(serve, 2) == ["OSError", "ThrottledError"]
    monkeypatch.setattr("resilience._clock.monotonic", lambda: 50.0)
    service.error = None
    assert await outcomes(serve, 2) == ["served", "served"]


async def test_the_default_draws_from_the_random_module(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.error = OSError()
    monkeypatch.setattr("random.random", lambda: 0.49)
    throttle = adaptive_throttle(minimum_calls=1)
    assert await outcomes(throttle(service.serve), 2) == ["OSError", "ThrottledError"]
    monkeypatch.setattr("random.random", lambda: 0.51)
    throttle = adaptive_throttle(minimum_calls=1)
    assert await outcomes(throttle(service.serve), 2) == ["OSError", "OSError"]


# --- Keys ---


async def test_each_key_is_judged_on_its_own() -> None:
    throttle = adaptive_throttle(minimum_calls=1, random=never, key=lambda host: host, name="hosts")

    @throttle
    async def fetch(host: str) -> str:
        if host == "down":
            raise OSError
        return "served"

    assert await outcomes(fetch, 3, "down") == ["OSError", "ThrottledError", "ThrottledError"]
    assert await outcomes(fetch, 3, "up") == ["served"] * 3
    assert throttle.snapshot() == {"name": "hosts", "rejected": 2, "rejection_rate": 3 / 4, "keys": 2}
    down = throttle.at("down")
    assert down.snapshot() == {
        "name": "hosts",
        "rejection_rate": 3 / 4,
        "requests": 3,
        "accepts": 0,
        "running": 0,
    }
    assert throttle.at("new").snapshot()["requests"] == 0
    assert throttle.snapshot()["keys"] == 2
    down.reset()
    throttle.at("new").reset()
    assert await outcomes(fetch, 1, "down") == ["OSError"]
    throttle.reset()
    assert throttle.snapshot() == {"name": "hosts", "rejected": 2, "rejection_rate": 0.0, "keys": 0}


async def test_the_handle_of_a_key_calls_under_it() -> None:
    throttle = adaptive_throttle(minimum_calls=1, random=never, key=lambda host: host, name="hosts")
    service = Service()
    service.error = OSError()
    assert await outcomes(throttle.at("a").call, 2, service.serve) == ["OSError", "ThrottledError"]
    assert await outcomes(throttle.at("b").call, 1, service.serve) == ["OSError"]
    assert await outcomes(throttle(lambda host: service.serve()), 1, "a") == ["ThrottledError"]  # type: ignore[misc]
    with pytest.raises(TypeError, match="not async"):
        await throttle.at("a").call(print)  # type: ignore[arg-type]


async def test_the_handle_of_a_key_passes_the_arguments_on_under_the_name_of_the_function() -> None:
    handle = adaptive_throttle(minimum_calls=1, random=never, key=lambda host: host).at("a")

    async def work(*args: int, **kwargs: int) -> object:
        return args, kwargs

    async def fail() -> None:
        raise OSError

    assert await handle.call(work, 1, 2, b=3) == ((1, 2), {"b": 3})
    assert await outcomes(handle.call, 2, fail) == ["OSError", "OSError"]
    with pytest.raises(ThrottledError) as caught:
        await handle.call(work)
    assert caught.value.policy == work.__qualname__


async def test_falsy_keys_are_keys() -> None:
    throttle = adaptive_throttle(minimum_calls=1, random=never, key=lambda key: key)

    @throttle
    async def fetch(key: object) -> None:
        raise OSError

    for key in (None, 0, "", ()):
        assert await outcomes(fetch, 2, key) == ["OSError", "ThrottledError"]
    assert throttle.snapshot()["keys"] == 4


async def test_b16_eviction_forgives_no_failure_and_loses_no_running_call() -> None:
    throttle = adaptive_throttle(minimum_calls=1, random=never, key=lambda key, *_: key, max_keys=2)
    gate = asyncio.Event()

    @throttle
    async def fetch(key: str, fail: bool, wait: bool) -> str:
        if wait:
            await gate.wait()
        if fail:
            raise OSError
        return "served"

    assert await outcomes(fetch, 1, "bad", True, False) == ["OSError"]
    running = asyncio.create_task(fetch("slow", False, True))
    await settle()
    for number in range(30):
        assert await outcomes(fetch, 1, f"other {number}", False, False) == ["served"]
    assert throttle.snapshot()["keys"] == 2
    assert throttle.at("slow").snapshot()["running"] == 1
    assert await outcomes(fetch, 1, "bad", True, False) == ["ThrottledError"]
    gate.set()
    assert await running == "served"
    assert await outcomes(fetch, 1, "another", False, False) == ["served"]
    assert throttle.at("slow").snapshot()["requests"] == 0


async def test_at_needs_a_key_that_is_hashable() -> None:
    with pytest.raises(TypeError, match=r"^at\(\) is for a throttle with key=.* all calls$"):
        adaptive_throttle().at("a")
    with pytest.raises(TypeError, match="unhashable"):
        adaptive_throttle(key=lambda: 1).at([])
    assert repr(adaptive_throttle(key=len).at("a")) == "adaptive_throttle(key=len).at('a')"


# --- Threads ---


@pytest.mark.real_time
@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("has_gil", [True, False])
def test_four_threads_lose_no_call(monkeypatch: pytest.MonkeyPatch, has_gil: bool, failing: bool) -> None:
    monkeypatch.setattr("resilience._adaptive_throttle.HAS_GIL", has_gil)
    monkeypatch.setattr("resilience._adaptive_throttle_state.HAS_GIL", has_gil)
    throttle = adaptive_throttle(random=always, minimum_calls=1)
    together = threading.Barrier(4)

    @throttle
    async def work(number: int) -> None:
        await asyncio.sleep(0)
        if failing and number % 3 == 0:
            raise OSError

    async def main() -> None:
        for start in range(0, 1500, 50):
            calls = (work(number) for number in range(start, start + 50))
            await asyncio.gather(*calls, return_exceptions=True)

    def run() -> None:
        together.wait()
        asyncio.run(main())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    snapshot = throttle.snapshot()
    assert (snapshot["requests"], snapshot["running"]) == (6000, 0)
    assert snapshot["accepts"] == (4000 if failing else 6000)


def test_without_the_gil_there_is_never_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilience._adaptive_throttle_state.HAS_GIL", False)
    throttle = fill(state(), 10, 1)
    throttle.chance(0.0)
    assert throttle.room < 0
    throttle.reset()
    assert throttle.room < 0


@pytest.mark.real_time
def test_the_straight_path_takes_no_lock() -> None:
    throttle = adaptive_throttle()
    serve = throttle(Service().serve)
    asyncio.run(serve())  # the first call begins a slice of the window
    asyncio.run(serve())
    served: list[str] = []
    thread = threading.Thread(target=lambda: served.append(asyncio.run(serve())))
    with throttle._lock:
        thread.start()
        thread.join(10)
    assert served == ["served"]


# --- The policy ---


def test_its_defaults() -> None:
    assert adaptive_throttle().config == AdaptiveThrottleConfig()
    config = AdaptiveThrottleConfig()
    assert (config.ratio, config.window, config.minimum_calls, config.max_rejection_rate) == (
        2.0,
        120.0,
        100,
        0.9,
    )
    assert (config.on, config.key, config.max_keys, config.random) == (Exception, None, 10_000, None)


async def test_works_bare_and_shows_itself() -> None:
    @adaptive_throttle
    async def fetch() -> str:
        return "served"

    assert await fetch() == "served"
    assert isinstance(adaptive_throttle(), AdaptiveThrottle)
    assert repr(adaptive_throttle()) == "adaptive_throttle()"
    policy = adaptive_throttle(1.5, window=timedelta(minutes=1), on=OSError)
    assert repr(policy) == "adaptive_throttle(ratio=1.5, window=60.0, on=OSError)"
    assert policy.has_state


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"ratio": 0.99}, ValueError, "ratio must be a number of 1 or more, got 0.99"),
        ({"ratio": math.inf}, ValueError, "ratio must be a number of 1 or more, got inf"),
        ({"ratio": "2"}, TypeError, "ratio must be a number of 1 or more, got '2'"),
        ({"ratio": None}, TypeError, "ratio must be a number of 1 or more, got None"),
        ({"window": 0}, ValueError, "window must be seconds (a number or a timedelta) above 0, got 0"),
        ({"window": "1 min"}, TypeError, "window must be seconds (a number or a timedelta) above 0"),
        ({"minimum_calls": 0}, ValueError, "minimum_calls must be a whole number of 1 or more, got 0"),
        ({"minimum_calls": 1.5}, TypeError, "minimum_calls must be a whole number of 1 or more, got 1.5"),
        (
            {"max_rejection_rate": 1.01},
            ValueError,
            "max_rejection_rate must be a number of 0 or more and at most 1",
        ),
        (
            {"max_rejection_rate": -0.1},
            ValueError,
            "max_rejection_rate must be a number of 0 or more and at most 1",
        ),
        (
            {"max_rejection_rate": True},
            TypeError,
            "max_rejection_rate must be a number of 0 or more and at most 1",
        ),
        ({"on": "OSError"}, TypeError, "on must be an exception type or a tuple of them, got 'OSError'"),
        ({"key": "host"}, TypeError, "key must be a function that is not async, got 'host'"),
        ({"max_keys": 0}, ValueError, "max_keys must be a whole number of 1 or more, got 0"),
        ({"random": 0.5}, TypeError, "random must be a function that is not async, got 0.5"),
        ({"name": ""}, ValueError, "name must be a string that is not empty, got ''"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        adaptive_throttle(**arguments)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "harmful", [lambda: fallback(None), lambda: cached(60)], ids=["fallback", "cached"]
)
def test_what_hides_failures_belongs_outside(harmful: Callable[[], Any]) -> None:
    with pytest.warns(StackOrderWarning, match="adaptive_throttle is outside"):
        stack(adaptive_throttle(), harmful())(Service().serve)
    stack(harmful(), adaptive_throttle())(Service().serve)


async def test_it_stands_beside_the_breaker_inside_retry_and_outside_the_rate_limit() -> None:
    service = Service()
    service.error = OSError()
    throttle = adaptive_throttle(minimum_calls=1, random=never)
    layers = stack(retry(attempts=5, wait=0), throttle, circuit_breaker(100), rate_limited(100))
    with pytest.raises(ThrottledError) as caught:
        await layers(service.serve)()
    assert isinstance(caught.value.__cause__, OSError)
    assert service.received == 1  # a rejection is not retried
    assert throttle.snapshot()["rejected"] == 1
