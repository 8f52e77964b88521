"""`circuit_breaker`: when it rejects, what counts, and what can never go wrong."""

import asyncio
import contextlib
import gc
import inspect
import json
import sys
import threading
import traceback
import weakref
from datetime import timedelta
from types import SimpleNamespace

import freezegun
import pytest
import tenacity

from resilience import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    FullJitter,
    RejectedError,
    _breaker_state,
    circuit_breaker,
    inactive,
    policies,
    subscribe,
)
from tests.support.virtual_time import advance, now, settle


class DownError(Exception):
    """The service is down."""


class Service:
    """What is called: it does what it is told, and counts."""

    def __init__(self):
        self.calls = 0
        self.running = 0
        self.most = 0
        self.answer = "ok"
        self.takes = 0.0

    async def __call__(self, *args, **kwargs):
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        answer = self.answer
        try:
            if self.takes:
                await asyncio.sleep(self.takes)
        finally:
            self.running -= 1
        if isinstance(answer, BaseException) or inspect.isclass(answer):
            raise answer
        return answer


@pytest.fixture
def service():
    return Service()


async def fail(policy, times=1, error=DownError):
    async def failing(*args):
        raise error

    for _ in range(times):
        with pytest.raises(error if inspect.isclass(error) else type(error)):
            await policy.call(failing)


async def succeed(policy, times=1):
    async def succeeding(*args):
        return "ok"

    for _ in range(times):
        assert await policy.call(succeeding) == "ok"


async def rejected(policy, *args):
    async def never(*args):
        raise AssertionError("it was called")

    with pytest.raises(CircuitBreakerOpenError) as caught:
        await policy.call(never, *args)
    return caught.value.retry_after


def kinds(events):
    return [event.kind.partition(".")[2] for event in events]


async def hung():
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def running(coroutine):
    """A call in the background, cancelled at the end unless it has ended."""
    task = asyncio.create_task(coroutine)
    await settle()
    yield task
    task.cancel()
    await asyncio.wait([task])


# --- The life of a circuit ---


async def test_opens_after_failures_in_a_row_and_closes_after_a_good_probe(service):
    breaker = circuit_breaker(failure_threshold=3, recovery_timeout=10)
    guarded = breaker(service)
    service.answer = DownError
    for _ in range(3):
        assert breaker.state is CircuitState.CLOSED
        with pytest.raises(DownError):
            await guarded()
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await guarded()
    assert caught.value.retry_after == 10
    assert caught.value.policy == "Service"
    assert service.calls == 3
    advance(10)
    service.answer = "back"
    assert breaker.state is CircuitState.HALF_OPEN
    assert await guarded() == "back"
    assert breaker.state is CircuitState.CLOSED
    assert service.calls == 4


async def test_the_default_is_five_in_a_row_for_thirty_seconds():
    breaker = circuit_breaker()
    await fail(breaker, 4)
    await succeed(breaker)
    await fail(breaker, 4)
    assert breaker.state is CircuitState.CLOSED
    await fail(breaker)
    assert await rejected(breaker) == 30


async def test_t22_the_call_that_trips_it_raises_its_own_error(service):
    breaker = circuit_breaker(failure_threshold=1)
    service.answer = error = DownError("the cause")
    with pytest.raises(DownError) as caught:
        await breaker(service)()
    assert caught.value is error


async def test_t20_a_rate_trips_where_a_row_never_would():
    breaker = circuit_breaker(failure_rate=0.5, window=20, minimum_calls=10)
    for _ in range(3):
        await fail(breaker, 2)
        await succeed(breaker)
    assert breaker.state is CircuitState.CLOSED
    await fail(breaker)
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("window", [10, timedelta(seconds=10)])
async def test_given_rules_all_apply_and_others_do_not(window):
    only_rate = circuit_breaker(failure_rate=1.0, window=window, minimum_calls=10)
    await succeed(only_rate)
    await fail(only_rate, 9)
    assert only_rate.state is CircuitState.CLOSED
    both = circuit_breaker(5, failure_rate=1.0, window=window, minimum_calls=10)
    await succeed(both)
    await fail(both, 5)
    assert both.state is CircuitState.OPEN
    both.reset()
    for _ in range(3):
        await fail(both, 4)
        await succeed(both)
    assert both.state is CircuitState.CLOSED


async def test_failures_leave_a_window_of_seconds():
    breaker = circuit_breaker(failure_rate=0.5, window=timedelta(seconds=10), minimum_calls=4)
    await fail(breaker, 3)
    advance(9.4)
    assert breaker.snapshot()["failures"] == 3
    advance(0.6)
    assert breaker.snapshot()["failures"] == 0
    await fail(breaker, 3)
    assert breaker.state is CircuitState.CLOSED
    await fail(breaker)
    assert breaker.state is CircuitState.OPEN


async def test_slow_successes_trip_and_are_no_failures(service):
    breaker = circuit_breaker(slow_call=2, slow_call_rate=0.5, window=4, minimum_calls=4)
    guarded = breaker(service)
    for takes in (0, 1.9, 2, 2):
        service.takes = takes
        assert breaker.state is CircuitState.CLOSED
        assert await guarded() == "ok"
    assert breaker.state is CircuitState.OPEN
    row = circuit_breaker(failure_threshold=1, slow_call=0, minimum_calls=20)
    await succeed(row, 19)
    assert row.state is CircuitState.CLOSED
    await succeed(row)
    assert row.state is CircuitState.OPEN


async def test_a_slow_failure_is_both(service):
    breaker = circuit_breaker(failure_rate=1.0, slow_call=1, window=10)
    guarded = breaker(service)
    service.takes, service.answer = 1, DownError
    with pytest.raises(DownError):
        await guarded()
    snapshot = breaker.snapshot()
    assert (snapshot["failure_rate"], snapshot["slow_call_rate"]) == (1.0, 1.0)
    assert (snapshot["failures"], snapshot["slow_calls"], snapshot["calls"]) == (1, 1, 1)


async def test_a_slow_probe_opens_it_again(service, events):
    breaker = circuit_breaker(failure_threshold=1, slow_call=1)
    await fail(breaker)
    advance(30)
    service.takes = 1
    assert await breaker(service)() == "ok"
    assert await rejected(breaker) == 30
    assert events[2].attributes == {"reason": "probe_slow", "retry_after": 30}


async def test_results_may_be_failures(service):
    breaker = circuit_breaker(failure_threshold=2, on_result=lambda value: value == 500)
    guarded = breaker(service)
    service.answer = 500
    assert [await guarded(), await guarded()] == [500, 500]
    assert breaker.state is CircuitState.OPEN
    advance(30)
    service.answer = 200
    assert await guarded() == 200
    assert breaker.state is CircuitState.CLOSED


async def test_several_probes_must_succeed():
    breaker = circuit_breaker(failure_threshold=1, half_open_calls=3)
    await fail(breaker)
    advance(30)
    await succeed(breaker, 2)
    assert breaker.state is CircuitState.HALF_OPEN
    await fail(breaker)
    assert await rejected(breaker) == 30
    advance(30)
    await succeed(breaker, 3)
    assert breaker.state is CircuitState.CLOSED


async def test_the_pause_may_grow_with_the_openings_in_a_row():
    asked = []

    def growing(state):
        asked.append(state.attempt_number)
        return tenacity.wait_exponential(multiplier=10, max=60)(state)

    breaker = circuit_breaker(failure_threshold=2, recovery_timeout=growing)
    await fail(breaker, 2)
    for pause in (10, 20, 40, 60):
        assert await rejected(breaker) == pause
        advance(pause)
        await fail(breaker)
    assert await rejected(breaker) == 60
    advance(60)
    await succeed(breaker)
    await fail(breaker, 2)
    assert await rejected(breaker) == 10
    assert asked == [1, 2, 3, 4, 5, 1]


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_fixed(7),
        tenacity.wait_chain(tenacity.wait_fixed(7), tenacity.wait_fixed(9)),
        tenacity.wait_incrementing(start=7),
        tenacity.wait_none() + tenacity.wait_fixed(7),
        lambda state: timedelta(seconds=7),
    ],
)
async def test_the_pause_may_be_any_wait_of_tenacity(wait):
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=wait)
    await fail(breaker)
    assert await rejected(breaker) == 7


# --- Half-open ---


@pytest.mark.parametrize("places", [1, 3])
async def test_t11_b1_half_open_admits_only_its_probes(service, places):
    breaker = circuit_breaker(failure_threshold=1, half_open_calls=places)
    await fail(breaker)
    advance(30)
    service.takes = 1
    guarded = breaker(service)
    results = await asyncio.gather(*(guarded() for _ in range(50)), return_exceptions=True)
    assert service.calls == service.most == places
    assert results.count("ok") == places
    assert all(each.retry_after == 30 for each in results if isinstance(each, CircuitBreakerOpenError))
    assert breaker.state is CircuitState.CLOSED


async def test_t12_b4_a_hung_probe_loses_its_place():
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=10)
    await fail(breaker)
    advance(10)
    release = asyncio.Event()
    async with running(breaker.call(release.wait)) as probe:
        advance(4)
        assert await rejected(breaker) == 6
        advance(6)
        await succeed(breaker)
        assert breaker.state is CircuitState.CLOSED
        release.set()
        assert await probe
    assert breaker.snapshot()["late"] == 1


async def test_t12_b3_b9_the_late_failure_of_a_hung_probe_touches_no_newer_one(events):
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=10)
    await fail(breaker)
    advance(10)
    release = asyncio.Event()

    async def fails_late():
        await release.wait()
        raise DownError

    async with running(breaker.call(fails_late)) as old:
        advance(10)
        async with running(breaker.call(hung)):
            release.set()
            with pytest.raises(DownError):
                await old
            assert breaker.state is CircuitState.HALF_OPEN
            assert await rejected(breaker) == 10
    assert kinds(events) == ["opened", "half_opened", "late", "rejected"]


@pytest.mark.parametrize("how", ["decorator", "call", "block", "keyed"])
@pytest.mark.parametrize("turns", range(8))
async def test_t3_b4_a_probe_cancelled_in_any_turn_gives_its_place_back(how, turns):
    breaker = circuit_breaker(failure_threshold=1, key=(lambda: "key") if how == "keyed" else None)
    await fail(breaker)
    advance(30)

    async def work():
        for _ in range(3):
            await asyncio.sleep(0)

    async def block():
        async with breaker:
            await work()

    use = {"decorator": breaker(work), "block": block, "keyed": breaker(work)}.get(how)
    task = asyncio.create_task(use() if use else breaker.call(work))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        assert breaker.state is CircuitState.CLOSED
        return
    assert breaker.state is CircuitState.HALF_OPEN
    seen = breaker.at("key").snapshot() if how == "keyed" else breaker.snapshot()
    assert (seen["probes"], seen["late"], seen["openings"]) == (0, 0, 1)
    await succeed(breaker)
    assert breaker.state is CircuitState.CLOSED


async def test_b10_a_prompt_error_of_a_probe_opens_it_at_once():
    breaker = circuit_breaker(failure_threshold=1)
    await fail(breaker)
    advance(30)
    await fail(breaker)
    assert await rejected(breaker) == 30


async def test_an_ignored_probe_gives_its_place_back():
    breaker = circuit_breaker(failure_threshold=1, ignore=KeyError)
    await fail(breaker)
    advance(30)
    await fail(breaker, error=KeyError)
    assert breaker.state is CircuitState.HALF_OPEN
    await succeed(breaker)
    assert breaker.state is CircuitState.CLOSED


async def test_without_a_pause_half_open_still_admits_one_probe_at_once(service):
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=0)
    await fail(breaker)
    service.takes = 0.5
    guarded = breaker(service)
    await asyncio.gather(*(guarded() for _ in range(10)), return_exceptions=True)
    assert service.calls == 1


async def test_t28_zero_is_a_value():
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=0)
    assert breaker.config.recovery_timeout == 0
    await fail(breaker)
    assert breaker.state is CircuitState.HALF_OPEN
    await succeed(breaker)
    assert circuit_breaker(slow_call=0).config.slow_call == 0
    assert circuit_breaker(failure_rate=0).config.failure_rate == 0
    assert circuit_breaker(slow_call_rate=0).config.slow_call_rate == 0


# --- Late results ---


@pytest.mark.parametrize("outcome", ["returns", "raises", "is cancelled"])
async def test_t10_b2_a_call_of_an_earlier_era_changes_nothing(outcome, events):
    breaker = circuit_breaker(failure_threshold=2)
    release = asyncio.Event()

    async def old_call():
        await release.wait()
        if outcome == "raises":
            raise DownError

    async with running(breaker.call(old_call)) as first, running(breaker.call(old_call)) as second:
        await fail(breaker, 2)
        advance(29)
        await settle()
        release.set()
        if outcome == "is cancelled":
            first.cancel()
        await asyncio.wait([first])
        assert await rejected(breaker) == 1
        await asyncio.wait([second])
        assert await rejected(breaker) == 1
    late = 1 if outcome == "is cancelled" else 2
    assert breaker.snapshot()["late"] == kinds(events).count("late") == late


@pytest.mark.parametrize("outcome", ["returns", "raises", "is cancelled"])
async def test_t10_b2_the_older_of_two_calls_ends_in_half_open(outcome):
    breaker = circuit_breaker(failure_threshold=1)
    release = asyncio.Event()

    async def old_call():
        await release.wait()
        if outcome == "raises":
            raise DownError

    async with running(breaker.call(old_call)) as old:
        await fail(breaker)
        advance(30)
        async with running(breaker.call(hung)):
            if outcome == "is cancelled":
                old.cancel()
            release.set()
            await asyncio.wait([old])
            assert breaker.state is CircuitState.HALF_OPEN
            assert await rejected(breaker) == 30
        await succeed(breaker)
        assert breaker.state is CircuitState.CLOSED
        assert breaker.snapshot()["failures"] == 0


async def test_t13_b8_late_failures_do_not_extend_the_pause():
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=10)
    gates = [asyncio.Event() for _ in range(3)]

    async def fails(gate):
        await gate.wait()
        raise DownError

    tasks = [asyncio.create_task(breaker.call(fails, gate)) for gate in gates]
    await settle()
    advance(100)
    for gate, expected in zip(gates, (10, 8, 6), strict=True):
        gate.set()
        await settle()
        assert await rejected(breaker) == expected
        advance(2)
    await asyncio.wait(tasks)
    assert breaker.snapshot()["opened_count"] == 1


# --- What counts ---


async def test_t2_b6_cancellation_counts_as_nothing(service):
    breaker = circuit_breaker(failure_threshold=2)
    await fail(breaker)
    async with running(breaker.call(hung)):
        pass
    assert breaker.snapshot()["failures"] == 1, "neither a failure nor a success"
    await fail(breaker)
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("leaves", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_is_no_exception_counts_as_nothing(leaves):
    breaker = circuit_breaker(failure_threshold=2, on=BaseException)
    await fail(breaker)

    async def leave():
        raise leaves

    with pytest.raises(leaves):
        await breaker.call(leave)
    assert breaker.snapshot()["failures"] == 1


async def test_a_closed_coroutine_gives_its_probe_back():
    breaker = circuit_breaker(failure_threshold=1)
    await fail(breaker)
    advance(30)

    async def suspend():
        await asyncio.Event().wait()

    coroutine = breaker(suspend)()
    coroutine.send(None)
    assert breaker.snapshot()["probes"] == 1
    coroutine.close()
    assert breaker.snapshot()["probes"] == 0


@pytest.mark.parametrize(
    ("arguments", "neutral"),
    [
        ({"on": OSError}, KeyError),
        ({"on": (OSError, DownError)}, KeyError),
        ({"on": lambda error: not isinstance(error, KeyError)}, KeyError),
        ({"ignore": LookupError}, KeyError),
        ({"ignore": (KeyError, ValueError)}, KeyError),
        ({"ignore": lambda error: error.args == ()}, KeyError),
        ({}, BulkheadFullError),
        ({"on": (OSError, RejectedError)}, BulkheadFullError),
        ({}, CircuitBreakerOpenError),
    ],
)
async def test_t15_t23_b5_what_is_not_meant_is_neutral(arguments, neutral):
    breaker = circuit_breaker(failure_threshold=2, **arguments)
    await fail(breaker, error=OSError("down"))
    await fail(breaker, 10, neutral)
    assert breaker.snapshot()["failures"] == 1, "a neutral outcome neither adds nor resets"
    assert breaker.state is CircuitState.CLOSED
    await fail(breaker, error=OSError("down"))
    assert breaker.state is CircuitState.OPEN


async def test_a_time_limit_further_in_is_a_failure():
    breaker = circuit_breaker(failure_threshold=1)
    await fail(breaker, error=CallTimeoutError)
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("which", ["on", "ignore", "on_result"])
@pytest.mark.parametrize("how", ["closed", "probe", "keyed"])
async def test_a_function_of_the_user_that_raises_leaks_nothing(which, how, service):
    broken = False

    def judge(_):
        if broken:
            raise ZeroDivisionError
        return which == "on"

    key = (lambda *args: "key") if how == "keyed" else None
    breaker = circuit_breaker(failure_threshold=1, key=key, **{which: judge})
    if how == "probe":
        await fail(breaker)
        advance(30)
    broken = True
    service.answer = "ok" if which == "on_result" else DownError
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await breaker(service)()
    seen = breaker.at("key").snapshot() if how == "keyed" else breaker.snapshot()
    assert (seen["failures"], seen["probes"], seen["rejected"]) == (0, 0, 0)
    assert service.calls == 3


@pytest.mark.parametrize("which", ["on", "ignore", "on_result"])
async def test_a_verdict_without_a_truth_value_leaks_nothing(which, service):
    class Verdict:
        def __bool__(self):
            raise ZeroDivisionError("neither true nor false")

    broken = False
    breaker = circuit_breaker(1, **{which: lambda _: Verdict() if broken else which == "on"})
    await fail(breaker)
    advance(30)
    broken = True
    service.answer = "ok" if which == "on_result" else DownError
    with pytest.raises(ZeroDivisionError):
        await breaker(service)()
    assert breaker.snapshot()["probes"] == 0


async def test_a_key_function_that_raises_calls_nothing(service):
    breaker = circuit_breaker(key=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await breaker(service)()
    assert service.calls == 0


async def test_a_wait_that_raises_is_raised_and_leaks_nothing():
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=lambda state: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await fail(breaker)
    assert breaker.state is CircuitState.CLOSED
    negative = circuit_breaker(failure_threshold=1, recovery_timeout=lambda state: -1)
    with pytest.raises(ValueError, match=r"recovery_timeout must be seconds .* got -1"):
        await fail(negative)


# --- Rejections ---


async def test_t21_retry_after_comes_from_the_same_clock():
    advance(1e6)
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=10)
    await fail(breaker)
    advance(2.5)
    assert await rejected(breaker) == 7.5
    assert breaker.snapshot()["retry_after"] == 7.5
    await asyncio.sleep(7.5)
    await succeed(breaker)


async def test_t16_each_rejection_is_a_new_error_with_a_traceback_of_its_own(service):
    breaker = circuit_breaker(failure_threshold=1)
    guarded = breaker(service)
    await fail(breaker)
    errors = []
    for _ in range(5):
        try:
            await guarded()
        except CircuitBreakerOpenError as error:
            errors.append(error)
    assert len({id(error) for error in errors}) == 5
    assert {len(traceback.extract_tb(error.__traceback__)) for error in errors} == {2}
    assert {error.__context__ for error in errors} == {None}


@pytest.mark.parametrize("arguments", [{}, {"key": lambda: "key"}])
async def test_b21_no_error_outlives_its_handling(service, arguments):
    breaker = circuit_breaker(failure_threshold=1, **arguments)
    guarded = breaker(service)

    async def error_of_call():
        try:
            await guarded()
        except Exception as error:
            return error

    class HeavyError(Exception):
        """Can be weakly referenced, as every error."""

    service.answer = HeavyError
    gc.collect()
    gc.disable()
    try:
        references = [weakref.ref(await error_of_call()) for _ in range(3)]
        assert [reference() for reference in references] == [None] * 3
    finally:
        gc.enable()
    assert breaker.state is CircuitState.OPEN


async def test_retry_after_in_half_open_is_when_the_first_place_may_be_free():
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=10, half_open_calls=2)
    await fail(breaker)
    advance(10)
    async with running(breaker.call(hung)):
        advance(3)
        async with running(breaker.call(hung)):
            assert await rejected(breaker) == 7
            advance(6.5)
            assert await rejected(breaker) == 0.5


# --- Modes ---


async def test_forced_open_stays_open_until_reset(service):
    breaker = circuit_breaker(failure_threshold=1, name="api")
    breaker.force_open()
    advance(1e9)
    assert breaker.state is CircuitState.FORCED_OPEN
    assert await rejected(breaker) is None
    with pytest.raises(CircuitBreakerOpenError, match="^api: the circuit is open$"):
        await breaker(service)()
    assert service.calls == 0
    breaker.reset()
    await succeed(breaker)
    assert breaker.state is CircuitState.CLOSED


async def test_calls_in_flight_do_not_leave_a_forced_mode(service):
    breaker = circuit_breaker(failure_threshold=1)
    release = asyncio.Event()
    async with running(breaker.call(release.wait)) as call:
        breaker.force_open()
        release.set()
        await call
    assert breaker.state is CircuitState.FORCED_OPEN
    assert breaker.snapshot()["late"] == 1


async def test_a_shadow_judges_and_rejects_nothing(events):
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=10)
    breaker.shadow()
    assert breaker.state is CircuitState.SHADOW
    await fail(breaker, 3)
    assert breaker.state is CircuitState.SHADOW
    assert breaker.snapshot()["would_be"] == "open"
    assert breaker.snapshot()["rejected"] == 0
    advance(10)
    assert breaker.snapshot()["would_be"] == "half_open"
    await succeed(breaker)
    assert breaker.snapshot()["would_be"] == "closed"
    assert [(event.kind, dict(event.attributes)) for event in events] == [
        (
            "circuit_breaker.opened",
            {"reason": "failure_threshold", "failures": 1, "retry_after": 10, "shadow": True},
        ),
        ("circuit_breaker.rejected", {"retry_after": 10, "shadow": True}),
        ("circuit_breaker.rejected", {"retry_after": 10, "shadow": True}),
        ("circuit_breaker.half_opened", {"shadow": True}),
        ("circuit_breaker.closed", {"reason": "recovered", "shadow": True}),
    ]
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED


async def test_reset_forgets_everything():
    breaker = circuit_breaker(failure_threshold=2)
    fresh = breaker.snapshot()
    await fail(breaker, 2)
    await rejected(breaker)
    breaker.reset()
    assert breaker.snapshot() == fresh
    await fail(breaker)
    breaker.reset()
    await fail(breaker)
    assert breaker.state is CircuitState.CLOSED


async def test_snapshot_is_plain_data():
    breaker = circuit_breaker(failure_threshold=3, failure_rate=0.9, slow_call=1, name="api")
    await fail(breaker, 2)
    await succeed(breaker)
    assert json.loads(json.dumps(breaker.snapshot())) == {
        "name": "api",
        "state": "closed",
        "would_be": "closed",
        "failures": 2,
        "slow_calls": 0,
        "abandoned_calls": 0,
        "calls": 3,
        "failure_rate": 2 / 3,
        "slow_call_rate": 0.0,
        "abandoned_rate": None,
        "retry_after": None,
        "probes": 0,
        "half_open_rate": None,
        "openings": 0,
        "outcomes": {"success": 1, "failure": 2, "slow": 0, "ignored": 0, "abandoned": 0},
        "opened_count": 0,
        "rejected": 0,
        "late": 0,
    }


async def test_snapshot_in_each_phase():
    breaker = circuit_breaker(1, abandoned_rate=1.0, half_open_rates=(0.5,), name="api")
    nothing = {"failures": 0, "slow_calls": 0, "abandoned_calls": 0, "calls": None}
    no_rates = {"failure_rate": None, "slow_call_rate": None, "abandoned_rate": None}
    counted = {"success": 0, "failure": 1, "slow": 0, "ignored": 0, "abandoned": 0}
    await fail(breaker)
    await rejected(breaker)
    expected = {
        "name": "api",
        "state": "open",
        "would_be": "open",
        **nothing,
        **no_rates,
        "retry_after": 30,
        "probes": 0,
        "half_open_rate": None,
        "openings": 1,
        "outcomes": counted,
        "opened_count": 1,
        "rejected": 1,
        "late": 0,
    }
    assert breaker.snapshot() == expected
    advance(30)
    expected |= {"state": "half_open", "would_be": "half_open", "retry_after": None}
    assert breaker.snapshot() == expected
    async with running(breaker.call(hung)):
        assert breaker.snapshot() == {**expected, "probes": 1, "retry_after": 30}
    counted["abandoned"] = 1
    await succeed(breaker)
    counted["success"] = 1
    assert breaker.snapshot() == {
        **expected,
        "calls": 0,
        "abandoned_rate": 0.0,
        "half_open_rate": 0.5,
    }
    breaker.force_open()
    expected |= {"state": "forced_open", "would_be": "forced_open", "openings": 0}
    assert breaker.snapshot() == {**expected, "calls": 0, "abandoned_rate": 0.0}


async def test_snapshot_counts_how_calls_ended(service):
    breaker = circuit_breaker(9, slow_call=5, ignore=KeyError)
    guarded = breaker(service)
    await succeed(breaker, 3)
    await fail(breaker, 2)
    await fail(breaker, error=KeyError)
    await fail(breaker, error=BulkheadFullError)
    async with running(breaker.call(hung)):
        pass
    coroutine = breaker.call(hung)
    coroutine.send(None)
    coroutine.close()
    service.takes = 5
    await guarded()
    service.answer = DownError
    with pytest.raises(DownError):
        await guarded()
    outcomes = {"success": 3, "failure": 3, "slow": 1, "ignored": 3, "abandoned": 1}
    assert breaker.snapshot()["outcomes"] == outcomes


async def test_successes_are_not_counted_where_that_would_cost_something():
    breaker = circuit_breaker(2)
    await succeed(breaker)
    await fail(breaker)
    assert breaker.snapshot()["outcomes"] == {
        "success": None,
        "failure": 1,
        "slow": 0,
        "ignored": 0,
        "abandoned": 0,
    }


# --- Blocks ---


async def test_t14_a_block_behaves_like_the_decorator(service):
    breaker = circuit_breaker(failure_threshold=2, ignore=KeyError)

    async def block():
        async with breaker as entered:
            assert entered is breaker
            return await service()

    service.answer = DownError
    for _ in range(2):
        with pytest.raises(DownError):
            await block()
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await block()
    assert (caught.value.retry_after, service.calls) == (30, 2)
    advance(30)
    service.answer = KeyError
    with pytest.raises(KeyError):
        await block()
    assert breaker.state is CircuitState.HALF_OPEN
    service.answer, service.takes = "ok", 1
    results = await asyncio.gather(*(block() for _ in range(10)), return_exceptions=True)
    assert results.count("ok") == 1
    assert breaker.state is CircuitState.CLOSED


async def test_t14_blocks_are_timed_and_tell_what_they_change_like_calls(service, events):
    breaker = circuit_breaker(
        failure_rate=1.0, slow_call=2, window=2, minimum_calls=2, recovery_timeout=10, name="api"
    )

    async def block(service):
        async with breaker:
            await service()

    service.takes = 2
    await block(service)
    assert breaker.snapshot()["slow_calls"] == 1
    service.answer = DownError
    with pytest.raises(DownError):
        await block(service)
    assert breaker.state is CircuitState.OPEN
    advance(10)
    await block(Service())
    assert breaker.state is CircuitState.CLOSED
    assert [(event.kind.partition(".")[2], event.name) for event in events] == [
        ("opened", "api"),
        ("half_opened", "api"),
        ("closed", "api"),
    ]
    assert events[0].attributes["reason"] == "slow_call_rate"


async def test_t14_blocks_nest_and_overlap():
    breaker = circuit_breaker(failure_threshold=1, half_open_calls=2)
    other = circuit_breaker(failure_threshold=1)
    await fail(breaker)
    advance(30)

    async def nest():
        async with breaker, other:
            async with breaker:
                assert breaker.snapshot()["probes"] == 2
                assert await rejected(breaker) == 30
            assert breaker.snapshot()["probes"] == 1
            raise DownError

    with pytest.raises(DownError):
        await nest()
    assert (breaker.state, other.state) == (CircuitState.OPEN, CircuitState.OPEN)


async def test_t14_tasks_do_not_mix_up_their_blocks():
    breaker = circuit_breaker(failure_threshold=1, half_open_calls=3)
    await fail(breaker)
    advance(30)
    gates = [asyncio.Event() for _ in range(2)]

    async def block(gate):
        async with breaker:
            await gate.wait()

    async with breaker:
        children = [asyncio.create_task(block(gate)) for gate in gates]
        await settle()
        assert breaker.snapshot()["probes"] == 3
        gates[0].set()
        await children[0]
        children[1].cancel()
        await asyncio.wait(children[1:])
        assert breaker.snapshot()["probes"] == 1
    assert breaker.state is CircuitState.HALF_OPEN
    await succeed(breaker)
    assert breaker.state is CircuitState.CLOSED


async def test_blocks_that_do_not_nest_find_their_own_admission():
    first, second = circuit_breaker(failure_threshold=1), circuit_breaker(failure_threshold=1)
    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(DownError, DownError(), None)
    assert (first.state, second.state) == (CircuitState.OPEN, CircuitState.CLOSED)
    await second.__aexit__(DownError, DownError(), None)
    assert second.state is CircuitState.OPEN


async def test_a_block_may_be_left_by_another_task():
    breaker = circuit_breaker(failure_threshold=1)
    await fail(breaker)
    advance(30)
    stack = contextlib.AsyncExitStack()
    await asyncio.create_task(stack.enter_async_context(breaker))
    assert breaker.snapshot()["probes"] == 1
    await stack.aclose()
    assert breaker.state is CircuitState.CLOSED


async def test_a_block_that_was_not_entered_cannot_be_left():
    with pytest.raises(RuntimeError, match="not open"):
        await circuit_breaker().__aexit__(None, None, None)


async def test_a_block_finishes_as_it_began():
    breaker = circuit_breaker(failure_threshold=1)

    async def block(*, enabled_inside):
        async with breaker:
            breaker.enabled = enabled_inside
            raise DownError

    breaker.enabled = False
    with pytest.raises(DownError):
        await block(enabled_inside=True)
    assert breaker.state is CircuitState.CLOSED
    with pytest.raises(DownError):
        await block(enabled_inside=False)
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(DownError):
        await block(enabled_inside=True)
    with inactive():
        async with breaker:
            pass
    assert breaker.state is CircuitState.OPEN


# --- Keys ---


async def test_b24_keys_have_circuits_of_their_own(service):
    breaker = circuit_breaker(failure_threshold=1, key=lambda host, path="/": host)
    guarded = breaker(service)
    service.answer = DownError
    with pytest.raises(DownError):
        await guarded("a")
    service.answer = "ok"
    assert await guarded("b", path="/x") == "ok"
    with pytest.raises(CircuitBreakerOpenError):
        await guarded("a", "/y")
    assert breaker.at("a").state is CircuitState.OPEN
    assert breaker.at("b").state is CircuitState.CLOSED
    assert breaker.state is CircuitState.OPEN, "the worst of all"


@pytest.mark.parametrize("key", [None, "", 0, False, ()])
async def test_b16_falsy_keys_are_keys(key, service):
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key)
    guarded = breaker(service)
    service.answer = DownError
    with pytest.raises(DownError):
        await guarded(key)
    with pytest.raises(CircuitBreakerOpenError):
        await guarded(key)
    service.answer = "ok"
    assert await guarded("other") == "ok"
    assert breaker.at(key).state is CircuitState.OPEN


async def test_b16_alternating_keys_wipe_out_no_penalty(service):
    breaker = circuit_breaker(failure_threshold=2, key=lambda key: key, max_keys=10)
    guarded = breaker(service)
    service.answer = DownError
    for key in range(3):
        for _ in range(2 if key < 2 else 1):
            with pytest.raises(DownError):
                await guarded(key)
    service.answer = "ok"
    for key in range(1000, 2000):
        await guarded(key)
    assert breaker.snapshot()["keys"] == 10
    for key in range(2):
        with pytest.raises(CircuitBreakerOpenError):
            await guarded(key)
    assert breaker.at(2).snapshot()["failures"] == 1


async def test_b16_calls_in_flight_keep_their_circuit():
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, max_keys=1)
    release = asyncio.Event()

    async def fails_late(key):
        await release.wait()
        raise DownError

    async with running(breaker(fails_late)("busy")) as task:
        for key in range(20):
            await succeed(breaker.at(key))
        release.set()
        with pytest.raises(DownError):
            await task
        assert breaker.at("busy").state is CircuitState.OPEN


async def test_when_no_circuit_is_idle_new_keys_share_one():
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, max_keys=2)
    for key in ("a", "b", "c"):
        await fail(breaker.at(key))
    await rejected(breaker.at("d"))
    assert breaker.at("d").state is CircuitState.OPEN
    for command in ("force_open", "shadow"):
        with pytest.raises(
            RuntimeError, match=r"no circuit is left for this key: all 2 \(max_keys\) are busy"
        ):
            getattr(breaker.at("d"), command)()
    assert breaker.snapshot()["state"] == "open"
    breaker.at("a").reset()
    assert breaker.at("d").state is CircuitState.CLOSED
    assert not breaker.at("d").snapshot()["shared"], "it took the place of one that is idle now"


async def test_the_handle_of_a_key_without_a_circuit_of_its_own_sees_and_resets_the_shared_one():
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, max_keys=2)
    for key in ("a", "b", "c"):
        await fail(breaker.at(key))
    await rejected(breaker.at("d"))
    shared = json.loads(json.dumps(breaker.at("d").snapshot()))
    assert shared == {**breaker.at("e").snapshot(), "shared": True}
    assert (shared["state"], shared["retry_after"], shared["rejected"]) == ("open", 30, 1)
    assert shared["outcomes"]["failure"] == 1
    assert not breaker.at("a").snapshot()["shared"]
    breaker.at("d").reset()
    assert breaker.at("e").state is CircuitState.CLOSED
    await succeed(breaker.at("f"))
    assert breaker.at("a").state is CircuitState.OPEN
    assert breaker.snapshot()["keys"] == 2


async def test_the_handle_of_a_key(service, events):
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, name="api")
    handle = breaker.at("k")
    handle.force_open()
    assert handle.state is CircuitState.FORCED_OPEN
    assert await rejected(handle) is None
    await succeed(breaker.at("other"))
    handle.shadow()
    await fail(handle, 2)
    assert handle.snapshot()["would_be"] == "open"
    handle.reset()
    assert handle.state is CircuitState.CLOSED
    with pytest.raises(DownError):
        async with handle:
            raise DownError
    with pytest.raises(CircuitBreakerOpenError):
        async with breaker.at("k"):
            raise AssertionError
    assert await breaker.at("k2").call(service, 1, b=2) == "ok"
    breaker.enabled = False
    assert await handle.call(service) == "ok"
    async with handle:
        pass
    assert handle.snapshot()["name"] == "api"
    assert {event.name for event in events} == {"api"}


async def test_the_handle_of_a_key_passes_the_arguments_on_under_the_name_of_the_function():
    handle = circuit_breaker(failure_threshold=1, key=lambda key: key).at("k")

    async def work(*args, **kwargs):
        return args, kwargs

    assert await handle.call(work, 1, 2, b=3) == ((1, 2), {"b": 3})
    await fail(handle)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await handle.call(work)
    assert caught.value.policy == work.__qualname__


async def test_a_block_of_a_key_counts_for_that_key_alone():
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, name="api")
    with pytest.raises(DownError):
        async with breaker.at("down"):
            raise DownError
    assert breaker.at("down").state is CircuitState.OPEN
    async with breaker.at("other"), breaker.at(None):
        pass
    with pytest.raises(CircuitBreakerOpenError) as caught:
        async with breaker.at("down"):
            raise AssertionError
    assert (caught.value.policy, caught.value.retry_after) == ("api", 30)


async def test_commands_on_the_policy_act_on_all_keys_also_later_ones():
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, max_keys=3)
    await succeed(breaker.at("old"))
    breaker.force_open()
    for key in ("old", "new"):
        assert await rejected(breaker.at(key)) is None
    breaker.at("old").reset()
    for number in range(20):
        assert await rejected(breaker.at(number)) is None
    await succeed(breaker.at("old"))
    assert breaker.state is CircuitState.FORCED_OPEN
    breaker.shadow()
    assert breaker.state is CircuitState.SHADOW
    for key in ("old", "newest"):
        await fail(breaker.at(key), 3)
    assert breaker.snapshot()["would_be"] == "open"
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot()["keys"] == 0
    await succeed(breaker.at("new"))


async def test_a_reset_during_a_call_makes_it_late():
    breaker = circuit_breaker(failure_threshold=1, key=lambda: "key")
    release = asyncio.Event()

    async def fails_late():
        await release.wait()
        raise DownError

    async with running(breaker(fails_late)()) as task:
        breaker.reset()
        release.set()
        await asyncio.wait([task])
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot()["late"] == 1


async def test_snapshot_with_keys_is_plain_data_without_the_keys():
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, name="api")
    await fail(breaker.at("secret"))
    await rejected(breaker.at("secret"))
    await succeed(breaker.at("other"))
    assert json.loads(json.dumps(breaker.snapshot())) == {
        "name": "api",
        "state": "open",
        "would_be": "open",
        "keys": 2,
        "states": {"open": 1, "closed": 1},
        "outcomes": {"success": 1, "failure": 1, "slow": 0, "ignored": 0, "abandoned": 0},
        "opened_count": 1,
        "rejected": 1,
        "late": 0,
    }


async def test_b17_keys_are_in_no_event(events):
    breaker = circuit_breaker(failure_threshold=1, key=lambda key: key, name="api")
    handle = breaker.at("secret")
    await fail(handle)
    await rejected(handle)
    advance(30)
    await succeed(handle)
    breaker.force_open()
    breaker.reset()
    assert kinds(events) == ["opened", "rejected", "half_opened", "closed", "opened", "closed"]
    assert "secret" not in repr(events)


async def test_a_block_of_a_keyed_breaker_names_at():
    breaker = circuit_breaker(key=lambda: "key")
    with pytest.raises(TypeError, match=r"^this .* circuit per key: write .*breaker\.at\(key\):` instead$"):
        async with breaker:
            pass


async def test_at_needs_keys_and_a_hashable_one(service):
    with pytest.raises(TypeError, match=r"at\(\) is for a circuit breaker with key="):
        circuit_breaker().at("key")
    breaker = circuit_breaker(key=lambda key: key)
    with pytest.raises(TypeError, match="unhashable"):
        breaker.at([])
    with pytest.raises(TypeError, match="key= must return a hashable value"):
        await breaker(service)([])
    assert service.calls == 0
    await succeed(breaker.at(1))


# --- Events ---


async def test_events_tell_the_whole_story(events):
    breaker = circuit_breaker(failure_rate=0.5, window=4, minimum_calls=4, name="api")
    await succeed(breaker, 2)
    await fail(breaker, 2)
    advance(1)
    await rejected(breaker)
    advance(29)
    await succeed(breaker)
    assert [(event.kind, event.name, event.at, dict(event.attributes)) for event in events] == [
        (
            "circuit_breaker.opened",
            "api",
            0,
            {"reason": "failure_rate", "retry_after": 30, "failures": 2, "calls": 4, "rate": 0.5},
        ),
        ("circuit_breaker.rejected", "api", 1, {"retry_after": 29}),
        ("circuit_breaker.half_opened", "api", 30, {}),
        ("circuit_breaker.closed", "api", 30, {"reason": "recovered"}),
    ]


@pytest.mark.parametrize("fails", [True, False])
async def test_a_late_outcome_is_told(fails, events):
    breaker = circuit_breaker(failure_threshold=1, slow_call=1, name="api")
    release = asyncio.Event()

    async def old_call():
        await release.wait()
        if fails:
            raise DownError

    async with running(breaker.call(old_call)) as task:
        await fail(breaker)
        advance(5)
        release.set()
        await asyncio.wait([task])
    late = events[-1]
    assert (late.kind, late.name, dict(late.attributes)) == (
        "circuit_breaker.late",
        "api",
        {"failed": fails},
    )
    breaker.shadow()
    async with running(breaker.call(hung)) as task:
        breaker.reset()
        breaker.shadow()
    assert kinds(events).count("late") == 1, "a cancelled call is none"


async def test_an_opening_that_was_overtaken_is_not_told(events):
    def overtaken(state):
        breaker.reset()
        return 10

    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=overtaken)
    await fail(breaker)
    assert breaker.state is CircuitState.CLOSED
    assert kinds(events) == []


async def test_commands_tell_only_what_they_changed(events):
    breaker = circuit_breaker()
    breaker.reset()
    breaker.force_open()
    breaker.force_open()
    breaker.reset()
    breaker.shadow()
    breaker.reset()
    assert kinds(events) == ["opened", "closed"]
    assert events[0].attributes == {"reason": "forced", "retry_after": None}
    assert events[1].attributes == {"reason": "reset"}


async def test_t72_a_listener_may_raise_and_may_call_back():
    breaker = circuit_breaker(failure_threshold=1)
    seen = []

    def listener(event):
        seen.append((event.kind, breaker.state, breaker.snapshot()["opened_count"]))
        raise ZeroDivisionError

    unsubscribe = subscribe(listener)
    try:
        await fail(breaker)
        await rejected(breaker)
    finally:
        unsubscribe()
    assert seen == [("circuit_breaker.opened", "open", 1), ("circuit_breaker.rejected", "open", 1)]


async def test_t71_circuits_are_not_joined_by_name():
    first, second = circuit_breaker(failure_threshold=1), circuit_breaker(failure_threshold=1)

    async def same():
        raise DownError

    with pytest.raises(DownError):
        await first(same)()
    assert (first.state, second.state) == (CircuitState.OPEN, CircuitState.CLOSED)


# --- The decorator ---


async def test_one_object_on_two_functions_shares_its_circuit(service):
    breaker = circuit_breaker(failure_threshold=1)
    one, two = breaker(service), breaker(Service())
    service.answer = DownError
    with pytest.raises(DownError):
        await one()
    with pytest.raises(CircuitBreakerOpenError):
        await two()


async def test_it_works_bare_and_with_arguments():
    @circuit_breaker
    async def bare(value: int) -> int:
        """Double it."""
        return value * 2

    @circuit_breaker()
    async def called(value: int) -> int:
        return value * 2

    assert (await bare(2), await called(3)) == (4, 6)
    assert bare.__doc__ == "Double it."
    (policy,) = policies(bare)
    assert isinstance(policy, CircuitBreaker)
    assert (policy.name, repr(policy)) == (
        "test_it_works_bare_and_with_arguments.<locals>.bare",
        "circuit_breaker()",
    )

    class Api:
        @circuit_breaker
        async def method(self, value: int) -> int:
            return value

        @circuit_breaker
        @classmethod
        async def of_class(cls) -> type:
            return cls

        @circuit_breaker
        @staticmethod
        async def static() -> str:
            return "static"

    assert (await Api().method(1), await Api.of_class(), await Api.static()) == (1, Api, "static")


def test_t18_what_is_not_async_is_refused_at_decoration():
    def plain():
        return 1

    with pytest.raises(TypeError, match="plain is not async"):
        circuit_breaker(plain)


async def test_t18_nothing_is_counted_before_the_call_is_awaited():
    breaker = circuit_breaker(failure_threshold=1)
    await fail(breaker)
    advance(30)

    async def work():
        return "ok"

    coroutine = breaker(work)()
    assert breaker.snapshot()["probes"] == 0
    coroutine.close()
    assert breaker.snapshot()["openings"] == 1


async def test_t19_a_copied_wrapper_disables_nothing():
    import functools

    inner, outer = circuit_breaker(failure_threshold=1, on=KeyError), circuit_breaker(failure_threshold=1)

    async def work():
        raise DownError

    decorated = inner(work)

    @outer
    @functools.wraps(decorated)
    async def foreign():
        return await decorated()

    with pytest.raises(DownError):
        await foreign()
    assert (inner.state, outer.state) == (CircuitState.CLOSED, CircuitState.OPEN)


async def test_b5_of_two_breakers_each_judges_for_itself():
    inner, outer = circuit_breaker(failure_threshold=1), circuit_breaker(failure_threshold=2)

    async def work():
        raise DownError

    decorated = outer(inner(work))
    with pytest.raises(DownError):
        await decorated()
    for _ in range(5):
        with pytest.raises(CircuitBreakerOpenError):
            await decorated()
    assert outer.snapshot()["failures"] == 1, "a rejection from further in is neutral"


def test_repr_shows_what_differs_from_the_defaults():
    shown = {
        repr(circuit_breaker()),
        repr(circuit_breaker(5, recovery_timeout=30)),
        repr(circuit_breaker(failure_threshold=5, window=100, minimum_calls=20)),
    }
    assert shown == {"circuit_breaker()"}
    policy = circuit_breaker(3, failure_rate=0.5, recovery_timeout=timedelta(minutes=1), on=OSError)
    expected = "circuit_breaker(failure_threshold=3, recovery_timeout=60.0, failure_rate=0.5, on=OSError)"
    assert repr(policy) == expected


def test_config_is_frozen_and_says_what_is_meant():
    config = circuit_breaker(failure_rate=0.5, window=10).config
    assert (config.failure_threshold, config.minimum_calls) == (None, 10)
    assert circuit_breaker(5, failure_rate=0.5).config.failure_threshold == 5
    assert circuit_breaker(slow_call=1).config.failure_threshold is None
    assert circuit_breaker(failure_rate=0.5, window=timedelta(1)).config.minimum_calls == 20
    with pytest.raises(AttributeError):
        config.window = 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"failure_threshold": 0},
            ValueError,
            "failure_threshold must be a whole number of 1 or more, got 0",
        ),
        ({"failure_threshold": 2.5}, TypeError, "failure_threshold .* got 2.5"),
        ({"failure_threshold": True}, TypeError, "failure_threshold .* got True"),
        ({"failure_threshold": "5"}, TypeError, "failure_threshold .* got '5'"),
        ({"recovery_timeout": -1}, ValueError, "recovery_timeout .* got -1"),
        ({"recovery_timeout": float("inf")}, ValueError, "recovery_timeout .* got inf"),
        ({"recovery_timeout": float("nan")}, ValueError, "recovery_timeout .* got nan"),
        ({"recovery_timeout": "30"}, TypeError, "recovery_timeout .* got '30'"),
        ({"recovery_timeout": None}, TypeError, "recovery_timeout .* got None"),
        ({"recovery_timeout": tenacity.wait_fixed}, TypeError, "recovery_timeout .*wait_fixed"),
        (
            {"recovery_timeout": hung},
            TypeError,
            "recovery_timeout must be a function that is not async, got",
        ),
        ({"failure_rate": 1.1}, ValueError, "failure_rate .* at most 1, got 1.1"),
        ({"failure_rate": -0.1}, ValueError, "failure_rate .* got -0.1"),
        ({"failure_rate": "half"}, TypeError, "failure_rate .* got 'half'"),
        ({"window": 0}, ValueError, "window .* got 0"),
        ({"window": 10.0}, TypeError, "window must be .* timedelta, got 10.0"),
        ({"window": True}, TypeError, "window .* got True"),
        ({"window": timedelta(0)}, ValueError, "window .* above 0"),
        ({"window": None}, TypeError, "window .* got None"),
        ({"minimum_calls": 0}, ValueError, "minimum_calls .* got 0"),
        ({"minimum_calls": 1.5}, TypeError, "minimum_calls .* got 1.5"),
        (
            {"minimum_calls": 11, "window": 10},
            ValueError,
            r"minimum_calls must be at most window \(10 calls\), got 11",
        ),
        ({"slow_call": -1}, ValueError, "slow_call .* got -1"),
        ({"slow_call": "1"}, TypeError, "slow_call .* got '1'"),
        ({"slow_call_rate": 2}, ValueError, "slow_call_rate .* got 2"),
        ({"slow_call_rate": None}, TypeError, "slow_call_rate .* got None"),
        ({"recovery_timeout": []}, ValueError, r"recovery_timeout .* at least one pause, got \[\]"),
        ({"recovery_timeout": [5, -1]}, ValueError, "recovery_timeout .* got -1"),
        ({"recovery_timeout": (5, None)}, TypeError, "recovery_timeout .* got None"),
        ({"recovery_timeout": b"30"}, TypeError, "recovery_timeout .* got b'30'"),
        ({"recovery_timeout": bytearray(b"30")}, TypeError, "recovery_timeout .* got bytearray"),
        ({"recovery_timeout": FullJitter}, TypeError, "recovery_timeout .*FullJitter"),
        ({"abandoned_rate": 1.1}, ValueError, "abandoned_rate .* at most 1, got 1.1"),
        ({"abandoned_rate": "all"}, TypeError, "abandoned_rate .* got 'all'"),
        ({"half_open_rates": 0.5}, TypeError, "half_open_rates must be a sequence of numbers .* got 0.5"),
        ({"half_open_rates": None}, TypeError, "half_open_rates must be a sequence .* got None"),
        ({"half_open_rates": "0.5"}, TypeError, "half_open_rates must be a sequence .* got '0.5'"),
        ({"half_open_rates": (0, 0.5)}, ValueError, "half_open_rates .* above 0 and at most 1, got 0"),
        ({"half_open_rates": (0.5, 1.5)}, ValueError, "half_open_rates .* got 1.5"),
        ({"half_open_rates": ("half",)}, TypeError, "half_open_rates .* got 'half'"),
        (
            {"half_open_rates": (0.5, 0.1)},
            ValueError,
            r"half_open_rates must be numbers above 0 and at most 1 that rise, got \(0.5, 0.1\)",
        ),
        ({"half_open_rates": (0.5, 0.5)}, ValueError, "half_open_rates must be .* that rise"),
        ({"half_open_stage": 0}, ValueError, "half_open_stage must be seconds .* above 0, got 0"),
        ({"half_open_stage": "1"}, TypeError, "half_open_stage .* got '1'"),
        ({"half_open_calls": 0}, ValueError, "half_open_calls .* got 0"),
        ({"half_open_calls": 1.0}, TypeError, "half_open_calls .* got 1.0"),
        ({"on": int}, TypeError, "on must be an exception type .* got <class 'int'>"),
        ({"on": "OSError"}, TypeError, "on must be .* got 'OSError'"),
        ({"on": None}, TypeError, "on must be .* got None"),
        ({"on": (OSError, 5)}, TypeError, "on must be an exception type or a tuple"),
        ({"on": hung}, TypeError, "on must be a function that is not async, got"),
        ({"ignore": int}, TypeError, "ignore must be an exception type .* got <class 'int'>"),
        ({"ignore": 404}, TypeError, "ignore must be .* got 404"),
        ({"on_result": 500}, TypeError, "on_result must be a function that is not async, got 500"),
        ({"on_result": hung}, TypeError, "on_result must be a function that is not async, got"),
        ({"key": "host"}, TypeError, "key must be a function that is not async, got 'host'"),
        ({"key": hung}, TypeError, "key must be a function that is not async, got"),
        ({"max_keys": 0}, ValueError, "max_keys .* got 0"),
        ({"max_keys": "many"}, TypeError, "max_keys .* got 'many'"),
        ({"name": ""}, ValueError, "name must be a string that is not empty, got ''"),
        ({"name": 5}, TypeError, "name .* got 5"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        circuit_breaker(**arguments)


# --- Clocks, loops, threads ---


@pytest.mark.real_time
async def test_t62_t63_frozen_time_moves_it_to_half_open():
    breaker = circuit_breaker(failure_threshold=1, failure_rate=0.5, window=timedelta(seconds=10))
    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        await fail(breaker)
        frozen.tick(29)
        assert await rejected(breaker) == pytest.approx(1)
        frozen.tick(1)
        assert breaker.state is CircuitState.HALF_OPEN
        await succeed(breaker)
        assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_wait_that_raises_gives_the_probe_back(keyed):
    pauses = iter([10])
    breaker = circuit_breaker(
        failure_threshold=1,
        recovery_timeout=lambda state: next(pauses),
        key=(lambda: "key") if keyed else None,
    )
    await fail(breaker)
    advance(10)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await breaker.call(failing_call)
    assert breaker.state is CircuitState.HALF_OPEN
    await succeed(breaker)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("keyed", [False, True])
def test_t64_one_breaker_in_three_loops(keyed):
    breaker = circuit_breaker(failure_threshold=3, key=(lambda *args: "key") if keyed else None)
    decorated = breaker(failing_call)
    for _ in range(3):
        assert breaker.state is CircuitState.CLOSED
        with pytest.raises(DownError):
            asyncio.run(decorated())
    with pytest.raises(CircuitBreakerOpenError):
        asyncio.run(decorated())


async def failing_call():
    await asyncio.sleep(0)
    raise DownError


@pytest.mark.parametrize("has_gil", [True, False])
@pytest.mark.parametrize("arguments", [{}, {"key": lambda: "key"}, {"slow_call": 1000}])
def test_t64_t66_threads_share_the_probes(arguments, has_gil, monkeypatch):
    monkeypatch.setattr(_breaker_state, "HAS_GIL", has_gil and _breaker_state.HAS_GIL)
    clock = [0.0]
    monkeypatch.setattr("resilience._clock.monotonic", lambda: clock[0])
    breaker = circuit_breaker(failure_threshold=1, half_open_calls=3, recovery_timeout=1000, **arguments)
    lock = threading.Lock()
    seen = SimpleNamespace(running=0, most=0, calls=0, good=False)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    @breaker
    async def work():
        with lock:
            seen.running += 1
            seen.calls += 1
            seen.most = max(seen.most, seen.running)
        try:
            await asyncio.sleep(0.001)
        finally:
            with lock:
                seen.running -= 1
        if not seen.good:
            raise DownError
        return "ok"

    def in_threads(count):
        together = threading.Barrier(4)
        results = []

        async def main():
            together.wait()
            calls = (work() for _ in range(count))
            results.extend(await asyncio.gather(*calls, return_exceptions=True))

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert len(results) == 4 * count
        return results

    try:
        with pytest.raises(DownError):
            asyncio.run(work())
        assert all(isinstance(each, CircuitBreakerOpenError) for each in in_threads(50))
        for good in (False, True):
            clock[0] += 1000
            seen.most, seen.calls, seen.good = 0, 0, good
            results = in_threads(50)
            assert seen.most == 3 or good
            assert seen.calls == 3 or good
            assert results.count("ok") >= 3 * good
    finally:
        sys.setswitchinterval(interval)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("window", [1000, timedelta(hours=1)])
def test_t66_threads_lose_no_success_and_no_failure(window, monkeypatch):
    breaker = circuit_breaker(failure_rate=1.0, window=window, minimum_calls=1000)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    @breaker
    async def work(number):
        if number % 5 == 0:
            raise DownError

    async def main():
        for number in range(200):
            with contextlib.suppress(DownError):
                await work(number)

    try:
        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    snapshot = breaker.snapshot()
    assert (snapshot["calls"], snapshot["failures"]) == (800, 160)
    assert (snapshot["outcomes"]["success"], snapshot["outcomes"]["failure"]) == (640, 160)


def test_a_call_collected_under_the_lock_gives_its_permit_back():
    breaker = circuit_breaker(failure_threshold=1, key=lambda: "key")

    async def suspend():
        await asyncio.Event().wait()

    coroutine = breaker(suspend)()
    loop = asyncio.new_event_loop()
    with breaker._circuits._lock:
        asyncio._set_running_loop(loop)
        coroutine.send(None)
        asyncio._set_running_loop(None)
        del coroutine
    loop.close()
    circuit = breaker._circuits._keyed.peek("key")
    assert circuit.in_flight == 0


@pytest.mark.skipif(not _breaker_state.HAS_GIL, reason="builds without the GIL always lock")
@pytest.mark.parametrize("window", [100, timedelta(hours=1)])
@pytest.mark.parametrize(
    "arguments", [{}, {"failure_rate": 0.5}, {"failure_threshold": 5, "failure_rate": 0.5}]
)
async def test_successes_of_a_closed_circuit_take_no_lock(arguments, window, service, monkeypatch):
    breaker = circuit_breaker(window=window, **arguments)
    guarded = breaker(service)
    await guarded()
    with monkeypatch.context() as patch:
        patch.setattr(breaker._circuits, "_lock", None)
        assert [await guarded() for _ in range(5)] == ["ok"] * 5
    if "failure_rate" in arguments:
        assert breaker.snapshot()["calls"] == breaker.snapshot()["outcomes"]["success"] == 6


async def test_t17_the_lock_is_not_held_during_a_call(service):
    breaker = circuit_breaker(key=lambda: "key", slow_call=100)
    service.takes = 1
    await asyncio.gather(*(breaker(service)() for _ in range(20)))
    assert (service.most, now()) == (20, 1)
