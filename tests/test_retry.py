"""`retry`: what is retried, how often, and how it ends."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import math
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import freezegun
import pytest

from resilience import (
    CallTimeoutError,
    CircuitBreakerOpenError,
    DecorrelatedJitter,
    Event,
    FullJitter,
    RateLimitExceededError,
    RejectedError,
    ResilienceError,
    Retry,
    RetryBudget,
    RetryExhaustedError,
    deadline,
    inactive,
    policies,
    retry,
    stack,
    timeout,
)
from tests.support.virtual_time import advance, now


class Flaky:
    """A function that gives the outcomes of a list, and notes when it was called."""

    def __init__(self, *outcomes: object, takes: float = 0.0) -> None:
        self.outcomes = outcomes
        self.takes = takes
        self.times: list[float] = []

    @property
    def calls(self) -> int:
        return len(self.times)

    async def __call__(self, *args: object, **kwargs: object) -> Any:
        self.times.append(now())
        outcome = self.outcomes[min(self.calls, len(self.outcomes)) - 1]
        if self.takes:
            await asyncio.sleep(self.takes)
        if isinstance(outcome, type) and issubclass(outcome, BaseException):
            raise outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


# --- How often --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
async def test_t29_attempts_counts_the_first_call_too(attempts: int) -> None:
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(attempts, wait=0)(flaky)()
    assert flaky.calls == attempts


async def test_bare_and_called() -> None:
    for decorator in (retry, retry(), retry(3), retry(attempts=3)):
        flaky = Flaky(ConnectionError, ConnectionError, "value")
        assert await decorator(flaky)() == "value"
        assert flaky.calls == 3


async def test_bare_with_options_decorates() -> None:
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(flaky, wait=0, on=KeyError)()
    assert flaky.calls == 1


async def test_arguments_reach_every_attempt() -> None:
    seen: list[tuple[object, ...]] = []

    @retry(wait=0)
    async def function(*args: object, **kwargs: object) -> str:
        seen.append((args, kwargs))
        if len(seen) < 3:
            raise ConnectionError
        return "value"

    assert await function(1, function=2, self=3, error=4) == "value"
    assert seen == [((1,), {"function": 2, "self": 3, "error": 4})] * 3


async def test_no_limit_of_attempts_with_a_deadline() -> None:
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(None, deadline=10, wait=1, budget=None)(flaky)()
    assert flaky.times == [float(each) for each in range(10)]


def test_t18_t30_sync_functions_and_async_generators_are_refused() -> None:
    def sync() -> None: ...

    async def generator() -> Any:
        yield 1

    with pytest.raises(TypeError, match="is not async"):
        retry(sync)
    with pytest.raises(TypeError, match="async generator"):
        retry(wait=0)(generator)


async def test_t30_each_attempt_makes_a_new_coroutine() -> None:
    flaky = Flaky(ConnectionError, "value")
    bound = functools.partial(flaky, 1)
    assert await retry(wait=0).call(bound) == "value"


async def test_t35_one_policy_on_two_functions_counts_each_call_on_its_own() -> None:
    policy = retry(3, wait=0)
    one, two = Flaky(ConnectionError), Flaky(ConnectionError)
    first, second = policy(one), policy(two)
    for function in (first, second, first):
        with pytest.raises(ConnectionError):
            await function()
    assert (one.calls, two.calls) == (6, 3)


# --- What is retried --------------------------------------------------------------------------------


async def test_on_a_type_a_tuple_and_a_predicate() -> None:
    async def is_value_error(error: Exception) -> bool:
        await asyncio.sleep(0)
        return isinstance(error, ValueError)

    ons: list[Any] = [
        ValueError,
        (KeyError, ValueError),
        lambda e: isinstance(e, ValueError),
        is_value_error,
    ]
    for on in ons:
        matching, other = Flaky(ValueError, "value"), Flaky(ConnectionError, "value")
        assert await retry(on=on, wait=0)(matching)() == "value"
        with pytest.raises(ConnectionError):
            await retry(on=on, wait=0)(other)()
        assert (matching.calls, other.calls) == (2, 1)


async def test_what_is_not_retried_leaves_untouched(events: list[Event]) -> None:
    error = ConnectionError("untouched")
    with pytest.raises(ConnectionError) as caught:
        await retry(on=ValueError)(Flaky(error))()
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert error.__cause__ is error.__context__ is None
    assert events == []


@pytest.mark.parametrize("raised", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("form", ["types", "predicate", "deadline"])
def test_t1_t8_nobody_is_asked_about_cancellation_and_exits(raised: type[BaseException], form: str) -> None:
    asked: list[BaseException] = []
    calls = 0

    def predicate(error: BaseException) -> bool:
        asked.append(error)
        return True

    policy = retry(
        on=BaseException if form == "types" else predicate,
        wait=0,
        deadline=9 if form == "deadline" else None,
    )

    @policy
    async def function() -> None:
        nonlocal calls
        calls += 1
        raise raised

    with pytest.raises(raised):
        asyncio.run(function())
    assert (calls, asked) == (1, [])


async def test_t32_own_rejections_are_retried_only_when_named() -> None:
    for on in (Exception, (Exception, ConnectionError, CallTimeoutError), lambda error: True):
        flaky = Flaky(CircuitBreakerOpenError(retry_after=0), "value")
        with pytest.raises(CircuitBreakerOpenError):
            await retry(on=on, wait=0)(flaky)()
        assert flaky.calls == 1
    for on in (CircuitBreakerOpenError, RejectedError, ResilienceError, (ConnectionError, RejectedError)):
        flaky = Flaky(CircuitBreakerOpenError(retry_after=0), "value")
        assert await retry(on=on, wait=0)(flaky)() == "value"
    flaky = Flaky(CircuitBreakerOpenError(retry_after=0), "value")
    with pytest.raises(CircuitBreakerOpenError):
        await retry(on=RateLimitExceededError, wait=0)(flaky)()


async def test_predicates_are_not_asked_about_own_rejections() -> None:
    asked: list[Exception] = []
    with pytest.raises(RejectedError):
        await retry(on=lambda error: not asked.append(error))(Flaky(RejectedError()))()
    assert asked == []


async def test_an_attempt_timeout_is_an_ordinary_error() -> None:
    flaky = Flaky("value", takes=5)
    with pytest.raises(CallTimeoutError) as caught:
        await retry(3, wait=1)(timeout(2)(flaky))()
    assert flaky.times == [0, 3, 6]
    assert caught.value.__notes__ == ["gave up after 3 attempts in 8 s: no attempts left"]


async def test_a_predicate_that_raises_shows_the_real_error() -> None:
    error = ConnectionError()
    fault = ZeroDivisionError()

    def broken(_: Exception) -> bool:
        raise fault

    flaky = Flaky(error)
    with pytest.raises(ZeroDivisionError) as caught:
        await retry(on=broken)(flaky)()
    assert caught.value is fault
    assert fault.__cause__ is error
    assert flaky.calls == 1


async def test_a_predicate_that_raises_the_error_itself_makes_no_cycle() -> None:
    def again(error: Exception) -> bool:
        raise error

    error = ConnectionError()
    error.__context__ = KeyError()
    with pytest.raises(ConnectionError) as caught:
        await retry(on=again)(Flaky(error))()
    assert caught.value is error
    assert error.__cause__ is None
    assert not error.__suppress_context__


async def test_a_predicate_that_raises_keeps_a_cause_of_its_own() -> None:
    def broken(_: Exception) -> bool:
        raise LookupError from ValueError("own")

    with pytest.raises(LookupError) as caught:
        await retry(on=broken)(Flaky(ConnectionError))()
    assert isinstance(caught.value.__cause__, ValueError)


async def test_t36_a_type_error_of_a_predicate_is_not_swallowed() -> None:
    def takes_none() -> bool:
        return True

    def calls_wrongly(value: object) -> bool:
        return takes_none(value)

    with pytest.raises(TypeError, match="positional argument"):
        await retry(on=calls_wrongly)(Flaky(ConnectionError))()
    with pytest.raises(TypeError, match="positional argument"):
        await retry(on_result=calls_wrongly)(Flaky(1))()


# --- The value --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_result(is_async: bool, events: list[Event]) -> None:
    async def is_none(value: object) -> bool:
        await asyncio.sleep(0)
        return value is None

    on_result: Any = is_none if is_async else lambda value: value is None
    flaky = Flaky(None, ConnectionError, None, "value")
    assert await retry(5, on_result=on_result, wait=0)(flaky)() == "value"
    assert flaky.calls == 4
    assert kinds(events) == ["retry.scheduled"] * 3 + ["retry.succeeded"]
    assert [event.attributes.get("error") for event in events] == [None, "ConnectionError", None, None]


async def test_the_last_value_is_returned_when_attempts_run_out(events: list[Event]) -> None:
    flaky = Flaky(1, 2, 3)
    assert await retry(3, on_result=lambda value: True, wait=0)(flaky)() == 3
    assert events[-1].kind == "retry.gave_up"
    assert dict(events[-1].attributes) == {
        "reason": "exhausted",
        "attempts": 3,
        "elapsed": 0,
        "error": None,
    }


async def test_wrap_raises_when_the_value_is_never_right() -> None:
    with pytest.raises(RetryExhaustedError) as caught:
        await retry(2, on_result=lambda value: True, wait=0, wrap=True)(Flaky(0))()
    assert caught.value.attempts == 2
    assert caught.value.__cause__ is None


async def test_a_right_value_at_once_is_no_event(events: list[Event]) -> None:
    assert await retry(on_result=lambda value: False)(Flaky("value"))() == "value"
    assert events == []


async def test_a_predicate_on_the_value_that_raises_is_not_an_attempt_that_failed() -> None:
    flaky = Flaky("value")
    with pytest.raises(ZeroDivisionError):
        await retry(on_result=lambda value: 1 / 0, wait=0)(flaky)()
    assert flaky.calls == 1


# --- The end ----------------------------------------------------------------------------------------


async def test_t33_the_original_error_is_raised_with_one_note() -> None:
    errors = [ConnectionError(1), ConnectionError(2), ConnectionError(3)]
    with pytest.raises(ConnectionError) as caught:
        await retry(3, wait=[1, 0.25])(Flaky(*errors))()
    assert caught.value is errors[2]
    assert errors[2].__notes__ == ["gave up after 3 attempts in 1.25 s: no attempts left"]
    assert errors[2].__cause__ is errors[2].__context__ is None
    assert not hasattr(errors[0], "__notes__")


async def test_t33_its_traceback_begins_in_the_caller_and_ends_where_it_was_raised() -> None:
    async def function() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError) as caught:
        await retry(3, wait=0)(function)()
    names = [entry.name for entry in caught.traceback]
    assert names[0] == "test_t33_its_traceback_begins_in_the_caller_and_ends_where_it_was_raised"
    assert names[-1] == "function"
    assert len(names) <= 4


async def test_one_attempt_is_named_in_the_singular() -> None:
    with pytest.raises(ConnectionError) as caught:
        await retry(1)(Flaky(ConnectionError))()
    assert caught.value.__notes__ == ["gave up after 1 attempt in 0 s: no attempts left"]


async def test_notes_of_one_error_raised_again_and_again_do_not_grow() -> None:
    stored = ConnectionError()
    stored.add_note("the user's own")
    function = retry(2, wait=0)(Flaky(stored))
    for _ in range(5):
        with pytest.raises(ConnectionError):
            await function()
    assert stored.__notes__ == ["the user's own", "gave up after 2 attempts in 0 s: no attempts left"]


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int = 1


async def test_an_error_that_takes_no_note_is_raised_all_the_same() -> None:
    odd = ConnectionError()
    odd.__notes__ = ("not a list",)  # type: ignore[assignment]
    for error in (FrozenError(), odd):
        with pytest.raises(type(error)) as caught:
            await retry(2, wait=0)(Flaky(error))()
        assert caught.value is error


async def test_not_retryable_after_a_retry(events: list[Event]) -> None:
    with pytest.raises(KeyError) as caught:
        await retry(5, on=ConnectionError, wait=0, wrap=True)(Flaky(ConnectionError, KeyError("secret")))()
    assert caught.value.__notes__ == ["gave up after 2 attempts in 0 s: this error is not retried"]
    assert events[-1].kind == "retry.gave_up"
    expected = {"reason": "not_retryable", "attempts": 2, "elapsed": 0, "error": "KeyError"}
    assert dict(events[-1].attributes) == expected


async def test_wrap() -> None:
    error = ConnectionError()
    with pytest.raises(RetryExhaustedError, match="fetch: gave up after 2 attempts in 3 s") as caught:
        await retry(2, wait=3, wrap=True, name="fetch")(Flaky(error))()
    assert (caught.value.attempts, caught.value.elapsed) == (2, 3)
    assert caught.value.__cause__ is error
    assert caught.value.details == {"policy": "fetch", "reason": "exhausted", "attempts": 2, "elapsed": 3}
    assert not hasattr(error, "__notes__")


async def test_wrap_leaves_what_is_not_retried_alone() -> None:
    with pytest.raises(ConnectionError):
        await retry(on=KeyError, wrap=True)(Flaky(ConnectionError))()


async def test_events_of_a_call_that_succeeds_in_the_end(events: list[Event]) -> None:
    await retry(wait=[2, 3], name="fetch")(Flaky(ConnectionError("token=secret"), KeyError, 1))()
    assert [(event.kind, event.policy, event.name, event.at) for event in events] == [
        ("retry.scheduled", "retry", "fetch", 0),
        ("retry.scheduled", "retry", "fetch", 2),
        ("retry.succeeded", "retry", "fetch", 5),
    ]
    assert [dict(event.attributes) for event in events] == [
        {"attempt": 1, "delay": 2, "error": "ConnectionError"},
        {"attempt": 2, "delay": 3, "error": "KeyError"},
        {"attempts": 3, "elapsed": 5},
    ]
    assert "secret" not in repr(events)


async def test_a_call_that_succeeds_at_once_is_no_event(events: list[Event]) -> None:
    await retry(Flaky(1))()
    await retry(deadline=5)(Flaky(1))()
    assert events == []


# --- Waiting ----------------------------------------------------------------------------------------


async def test_waits_constant_and_in_steps() -> None:
    waits: list[tuple[Any, list[float]]] = [
        (2, [0, 2, 4, 6]),
        (timedelta(seconds=2), [0, 2, 4, 6]),
        ([1, 2.5], [0, 1, 3.5, 6]),
        ((timedelta(minutes=1), 0), [0, 60, 60, 60]),
        (0, [0, 0, 0, 0]),
    ]
    for wait, times in waits:
        flaky = Flaky(ConnectionError)
        began = now()
        with pytest.raises(ConnectionError):
            await retry(4, wait=wait)(flaky)()
        assert [at - began for at in flaky.times] == times


async def test_the_default_wait_is_random() -> None:
    times: set[float] = set()
    for _ in range(20):
        flaky = Flaky(ConnectionError, 1)
        began = now()
        await retry(flaky)()
        times.add(flaky.times[1] - began)
    assert max(times) <= 0.1
    assert len(times) == 20


async def test_t24_concurrent_calls_do_not_share_their_steps() -> None:
    policy = retry(4, wait=[1, 2, 4])
    flakies = [Flaky(ConnectionError, takes=index / 10) for index in range(3)]
    await asyncio.gather(*(policy(flaky)() for flaky in flakies), return_exceptions=True)
    for index, flaky in enumerate(flakies):
        took = index / 10
        expected = [0, 1 + took, 3 + 2 * took, 7 + 3 * took]
        assert flaky.times == pytest.approx(expected)


@pytest.mark.parametrize("attempts", [2, 3, 50])
async def test_without_a_wait_other_tasks_are_not_held_up(attempts: int) -> None:
    turns = 0
    done = False

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    with pytest.raises(ConnectionError):
        await retry(attempts, wait=0, budget=None)(Flaky(ConnectionError))()
    done = True
    await task
    assert turns >= attempts - 3


async def test_without_a_wait_a_deadline_and_a_cancellation_still_come_through() -> None:
    flaky = Flaky(ConnectionError)
    task = asyncio.create_task(retry(None, deadline=5, wait=0, budget=None)(flaky)())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    calls = flaky.calls
    await asyncio.sleep(1)
    assert flaky.calls == calls < 10


@pytest.mark.parametrize("returned", [-1, -0.001, math.nan, -math.inf])
async def test_b15_a_wait_that_is_no_wait_is_a_clear_error(returned: float) -> None:
    error = ConnectionError()
    flaky = Flaky(error)
    with pytest.raises(
        ValueError, match=f"^wait must return seconds of 0 or more, got {returned}"
    ) as caught:
        await retry(wait=lambda state: returned)(flaky)()
    assert caught.value.__cause__ is error
    assert flaky.calls == 1


@pytest.mark.parametrize("returned", [None, "1", True])
async def test_a_wait_of_the_wrong_type_is_a_clear_error(returned: Any) -> None:
    with pytest.raises(TypeError, match="^wait must return seconds"):
        await retry(wait=lambda state: returned)(Flaky(ConnectionError))()


@pytest.mark.parametrize("returned", [math.inf, 1e300, 10**400, 3e9])
async def test_an_endless_wait_does_not_fit(returned: float, events: list[Event]) -> None:
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(wait=lambda state: returned)(flaky)()
    assert flaky.calls == 1
    assert events[-1].attributes["reason"] == "deadline"


async def test_a_wait_may_be_a_function_sync_or_async() -> None:
    async def slow(state: Any) -> float:
        await asyncio.sleep(0)
        return state.attempt_number * 2.0

    for wait in (slow, lambda state: timedelta(seconds=2 * state.attempt_number)):
        flaky = Flaky(ConnectionError)
        began = now()
        with pytest.raises(ConnectionError):
            await retry(3, wait=wait)(flaky)()
        assert [at - began for at in flaky.times] == [0, 2, 6]


# --- retry_after ------------------------------------------------------------------------------------


class BusyError(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__()
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("asked", "waited"), [(5, 5), (7.5, 7.5), (timedelta(seconds=30), 30), (0, 0.5), (0.75, 0.75), (30, 30)]
)
@pytest.mark.usefixtures("punctual")
async def test_retry_after_is_the_lower_bound_of_the_wait(asked: object, waited: float) -> None:
    flaky = Flaky(BusyError(asked), "value")
    assert await retry(wait=0.5)(flaky)() == "value"
    assert flaky.times == [0, waited]


@pytest.mark.parametrize(("asked", "at_most"), [(0.5, 0.05), (5, 0.5), (10, 1), (30, 1)])
async def test_h4_3_4_who_is_asked_to_come_later_comes_a_little_later_than_others(
    asked: float, at_most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for drawn in (0.0, 0.25, 0.99):
        monkeypatch.setattr("random.random", lambda drawn=drawn: drawn)
        began = now()
        flaky = Flaky(BusyError(asked), "value")
        await retry(wait=0)(flaky)()
        assert flaky.times[1] - began == pytest.approx(asked + drawn * at_most)


async def test_h4_3_4_nobody_comes_too_late_because_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.9)
    flaky = Flaky(BusyError(10), "value")
    assert await retry(wait=0, deadline=10.5)(flaky)() == "value"
    assert flaky.times == [0, pytest.approx(10.45)]


async def test_a_rejection_of_our_own_policies_is_retried_at_the_time_that_it_tells() -> None:
    flaky = Flaky(RateLimitExceededError(retry_after=5, policy="x"), "value")
    await retry(wait=0, on=RateLimitExceededError)(flaky)()
    assert flaky.times == [0, 5]


@pytest.mark.parametrize(
    "asked",
    [None, -5, math.nan, math.inf, -math.inf, "5", True, b"5", [5], object(), timedelta(seconds=-5)],
)
async def test_t31_nonsense_in_retry_after_is_ignored(asked: object) -> None:
    flaky = Flaky(BusyError(asked), "value")
    assert await retry(wait=0.5)(flaky)() == "value"
    assert flaky.times == [0, 0.5]


async def test_t31_a_retry_after_that_raises_is_ignored() -> None:
    class OddError(Exception):
        @property
        def retry_after(self) -> float:
            raise RuntimeError("no")

    flaky = Flaky(OddError(), "value")
    assert await retry(wait=0.5)(flaky)() == "value"
    assert flaky.times == [0, 0.5]


@pytest.mark.parametrize("asked", [30.1, 10**400, timedelta(days=1)])
async def test_t31_a_retry_after_above_the_cap_ends_the_call_at_once(
    asked: object, events: list[Event]
) -> None:
    error = BusyError(asked)
    flaky = Flaky(error)
    with pytest.raises(BusyError) as caught:
        await retry(wait=2)(flaky)()
    assert caught.value is error
    assert error.__notes__ == [
        "gave up after 1 attempt in 0 s: retry_after is later than this call may wait"
    ]
    assert now() == 0
    assert flaky.calls == 1
    assert kinds(events) == ["retry.gave_up"]
    assert events[0].attributes["reason"] == "retry_after"


async def test_the_cap_is_the_max_of_the_wait() -> None:
    class Capped:
        def __init__(self, most: object) -> None:
            self.max = most

        def __call__(self, state: object) -> float:
            return 1.0

    for most, asked, calls in [
        (60, 59, 2),
        (60, 61, 1),
        (5, 6, 1),
        (timedelta(seconds=5), 6, 1),
        ("x", 6, 2),
    ]:
        flaky = Flaky(BusyError(asked), "value")
        with contextlib.suppress(BusyError):
            await retry(wait=Capped(most))(flaky)()
        assert flaky.calls == calls


@pytest.mark.parametrize("wait", [FullJitter(0.1, max=5), DecorrelatedJitter(0.1, max=5)])
async def test_t31_the_max_of_our_own_waits_is_the_cap_as_well(wait: Any) -> None:
    for asked, calls in ((5, 2), (6, 1)):
        flaky = Flaky(BusyError(asked), "value")
        with contextlib.suppress(BusyError):
            await retry(wait=wait)(flaky)()
        assert flaky.calls == calls


@pytest.mark.parametrize("asked", [40, 60])
async def test_a_retry_after_that_is_no_longer_than_the_wait_does_no_harm(asked: float) -> None:
    flaky = Flaky(BusyError(asked), "value")
    await retry(wait=60)(flaky)()
    assert flaky.times == [0, 60]


async def test_t31_a_retry_after_past_the_deadline_ends_the_call_at_once(events: list[Event]) -> None:
    with pytest.raises(BusyError):
        await retry(wait=1, deadline=10)(Flaky(BusyError(20)))()
    assert now() == 0
    assert events[-1].attributes["reason"] == "retry_after"


# --- Deadlines --------------------------------------------------------------------------------------


async def test_t25_a_wait_that_does_not_fit_ends_the_call_at_once(events: list[Event]) -> None:
    flaky = Flaky(ConnectionError, takes=1)
    with pytest.raises(ConnectionError) as caught:
        await retry(9, wait=3, deadline=8)(flaky)()
    assert flaky.times == [0, 4]
    assert now() == 5
    assert caught.value.__notes__ == ["gave up after 2 attempts in 5 s: no time left for another attempt"]
    assert events[-1].attributes["reason"] == "deadline"


async def test_a_wait_that_leaves_no_time_for_an_attempt_does_not_fit() -> None:
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(9, wait=5, deadline=5)(flaky)()
    assert flaky.calls == 1


async def test_t25_an_attempt_is_cut_off_from_the_last_real_error(events: list[Event]) -> None:
    last = ConnectionError()
    ended: list[float] = []

    @retry(9, wait=1, deadline=5, name="fetch")
    async def function() -> None:
        if now() == 0:
            raise last
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(now())

    with pytest.raises(CallTimeoutError, match="fetch: cut off after 5 s") as caught:
        await function()
    assert ended == [5]
    assert caught.value.__cause__ is last
    assert asyncio.current_task().cancelling() == 0
    assert kinds(events) == ["retry.scheduled", "retry.gave_up"]
    expected = {"reason": "deadline", "attempts": 2, "elapsed": 5, "error": "CallTimeoutError"}
    assert dict(events[-1].attributes) == expected


async def test_a_first_attempt_that_is_cut_off_has_no_cause() -> None:
    with pytest.raises(CallTimeoutError) as caught:
        await retry(deadline=5)(Flaky(1, takes=100))()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert now() == 5


async def test_the_deadline_is_seen_inside() -> None:
    seen: list[float | None] = []

    @retry(3, wait=2, deadline=10)
    async def function() -> None:
        seen.append(deadline())
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await function()
    assert seen == [10, 8, 6]
    assert deadline() is None


async def test_b22_an_outer_deadline_counts_as_well() -> None:
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await timeout(5)(retry(9, wait=2)(flaky))()
    assert flaky.times == [0, 2, 4]
    assert now() == 4


async def test_no_attempt_begins_when_the_wait_took_too_long(events: list[Event]) -> None:
    flaky = Flaky(ConnectionError)
    budget = RetryBudget(0, 1, 1)
    task = asyncio.create_task(retry(9, wait=2, deadline=5, budget=budget)(flaky)())
    await asyncio.sleep(1)
    advance(4.0)  # the loop was busy: the timers of the wait and of the deadline are both late
    with pytest.raises((ConnectionError, CallTimeoutError)):
        await task
    assert flaky.calls == 1
    assert budget.snapshot(now())["retries"] == 0


async def test_a_deadline_of_an_outer_scope_that_passes_in_the_wait(events: list[Event]) -> None:
    flaky = Flaky(ConnectionError)
    policy = retry(9, wait=2)

    @timeout(5)
    async def outer() -> None:
        asyncio.get_running_loop().call_later(1.9, advance, 4.0)
        await policy(flaky)()

    with pytest.raises(ConnectionError):
        await outer()
    assert flaky.calls == 1
    assert events[-1].attributes["reason"] == "deadline"
    assert policy.snapshot()["budget"]["retries"] == 0


async def test_t28_a_deadline_of_zero_lets_the_call_begin() -> None:
    assert await retry(deadline=0)(Flaky("value"))() == "value"
    with pytest.raises(CallTimeoutError):
        await retry(deadline=0)(Flaky("value", takes=1))()
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(deadline=0, wait=0)(flaky)()
    assert flaky.calls == 1


@pytest.mark.parametrize("argument", ["on", "on_result", "wait", "stop"])
async def test_b22_the_time_that_a_slow_predicate_or_strategy_takes_counts_as_well(argument: str) -> None:
    async def slow(_: object) -> float:
        await asyncio.sleep(3)
        return {"wait": 4.0, "stop": False}.get(argument, True)

    error = ConnectionError()
    flaky = Flaky("value" if argument == "on_result" else error)
    options: Any = {"wait": 4.0, argument: slow}
    result = await asyncio.gather(timeout(5)(retry(**options)(flaky))(), return_exceptions=True)
    assert result == ["value" if argument == "on_result" else error]
    assert now() == 3


async def test_a_function_that_turns_the_cut_off_into_its_own_error() -> None:
    calls = 0

    @retry(9, wait=0, deadline=5)
    async def function() -> None:
        nonlocal calls
        calls += 1
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise ConnectionError from None

    with pytest.raises(ConnectionError):
        await function()
    assert calls == 1
    assert asyncio.current_task().cancelling() == 0


async def test_the_callers_cancellation_wins_over_the_deadline() -> None:
    task = asyncio.create_task(retry(9, wait=1, deadline=5)(Flaky(1, takes=100))())
    asyncio.get_running_loop().call_at(5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_async_predicate_that_hangs_is_cut_off() -> None:
    error = ConnectionError()

    async def hang(_: Exception) -> bool:
        await asyncio.sleep(100)
        return True

    with pytest.raises(CallTimeoutError) as caught:
        await retry(on=hang, deadline=5)(Flaky(error))()
    assert now() == 5
    assert caught.value.__cause__ is error


def test_time_limit() -> None:
    assert retry(deadline=timedelta(seconds=5)).time_limit == 5
    assert retry().time_limit is None


# --- Budget -----------------------------------------------------------------------------------------


async def test_b12_an_exhausted_budget_only_stops_the_new_attempt(events: list[Event]) -> None:
    policy = retry(3, wait=1, budget=RetryBudget(0, 0.1, 10))
    slow = Flaky(ConnectionError, "value", takes=1)
    task = asyncio.create_task(policy(slow)())
    await asyncio.sleep(1.5)  # its retry is reserved, and waits
    error = ConnectionError()
    with pytest.raises(ConnectionError) as caught:
        await policy(Flaky(error))()
    assert caught.value is error
    assert error.__notes__ == ["gave up after 1 attempt in 0 s: the retry budget is used up"]
    assert events[-1].attributes["reason"] == "budget"
    assert await task == "value"


async def test_t32_only_retries_are_charged() -> None:
    policy = retry(3, wait=0, budget=RetryBudget(ratio=1, min_per_second=0))
    for _ in range(100):
        await policy(Flaky(1))()
    assert policy.snapshot() == {"budget": {"calls": 100, "retries": 0, "retries_left": 100}}


@pytest.mark.parametrize("options", [{}, {"deadline": 60}, {"on_result": lambda value: False}])
async def test_every_form_counts_each_call_once(options: Any) -> None:
    budget = RetryBudget(ratio=1, min_per_second=0)
    policy = retry(3, wait=0, budget=budget, **options)
    with pytest.raises(ConnectionError):
        await policy(Flaky(ConnectionError))()
    assert budget.snapshot(0) == {"calls": 1, "retries": 1, "retries_left": 0}


async def test_b11_concurrent_failures_do_not_overshoot() -> None:
    policy = retry(9, wait=0.1, budget=RetryBudget(ratio=0.2, min_per_second=0))
    flaky = Flaky(ConnectionError, takes=0.01)
    function = policy(flaky)
    await asyncio.gather(*(function() for _ in range(100)), return_exceptions=True)
    assert flaky.calls == 120


async def test_a_shared_budget_limits_both() -> None:
    budget = RetryBudget(0, 0.3, 10)
    one, two = Flaky(ConnectionError), Flaky(ConnectionError)
    for flaky in (one, two):
        with pytest.raises(ConnectionError):
            await retry(3, wait=0, budget=budget)(flaky)()
    assert one.calls + two.calls == 2 + 3


async def test_a_retry_that_ended_the_call_otherwise_is_not_refunded() -> None:
    budget = RetryBudget(0, 1, 10)
    with pytest.raises(KeyError):
        await retry(9, on=ConnectionError, wait=0, budget=budget)(
            Flaky(ConnectionError, ConnectionError, KeyError)
        )()
    assert budget.snapshot(0)["retries"] == 2


async def test_reset_and_snapshot() -> None:
    policy = retry(2, wait=0)
    with pytest.raises(ConnectionError):
        await policy(Flaky(ConnectionError))()
    assert policy.snapshot() == {"budget": {"calls": 1, "retries": 1, "retries_left": 99}}
    policy.reset()
    assert policy.snapshot() == {"budget": {"calls": 0, "retries": 0, "retries_left": 100}}
    without = retry(budget=None)
    without.reset()
    assert without.snapshot() == {"budget": None}


# --- Cancellation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"deadline": 1000}, {"on_result": lambda value: value == "wrong"}])
@pytest.mark.parametrize("wait", [0, 1])
async def test_t1_t2_a_cancellation_at_any_moment_is_neutral(wait: float, options: Any) -> None:
    async def is_worth_it(error: Exception) -> bool:
        await asyncio.sleep(0)
        return True

    completed = False
    for turns in range(100):
        budget = RetryBudget(0, 100, 10)
        flaky = Flaky(ConnectionError, ConnectionError, "value", takes=0.5)
        policy = retry(5, on=is_worth_it, wait=wait, budget=budget, **options)
        task = asyncio.create_task(policy(flaky)())
        for _ in range(turns):
            if task.done():
                break
            await asyncio.sleep(0 if turns % 2 else 0.1)
        if task.done():
            completed = task.result() == "value"
            if completed and turns % 2:
                break
            continue
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        calls = flaky.calls
        assert budget.snapshot(now())["retries"] == max(0, calls - 1)
        await asyncio.sleep(10)
        assert flaky.calls == calls
    assert completed or not options


async def test_a_cancellation_in_the_wait_gives_the_retry_back_at_once() -> None:
    budget = RetryBudget(0, 1, 10)
    flaky = Flaky(ConnectionError)
    task = asyncio.create_task(retry(wait=5, budget=budget)(flaky)())
    await asyncio.sleep(1)
    assert budget.snapshot(now())["retries"] == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 1
    assert budget.snapshot(now())["retries"] == 0
    assert flaky.calls == 1


async def test_the_older_of_two_calls_ends_last_normally_and_cancelled() -> None:
    for cancel in (False, True):
        budget = RetryBudget(0, 1, 100)
        policy = retry(3, wait=1, budget=budget)
        older, newer = Flaky(ConnectionError, "old", takes=10), Flaky(ConnectionError, "new", takes=1)
        task = asyncio.create_task(policy(older)())
        await asyncio.sleep(0)
        assert await policy(newer)() == "new"
        if cancel:
            await asyncio.sleep(7.5)  # into the wait of the older one
            task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        assert results == ["old"] or isinstance(results[0], asyncio.CancelledError)
        assert budget.snapshot(now())["retries"] == (1 if cancel else 2)


# --- Memory -----------------------------------------------------------------------------------------


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "deadline": lambda: {"deadline": 60},
    "wrap": lambda: {"wrap": True},
    "on_result": lambda: {"on_result": lambda value: False},
    "strategies": lambda: {"wait": lambda state: 0, "stop": lambda state: state.attempt_number > 2},
    "predicate": lambda: {"on": lambda error: True},
    "one attempt": lambda: {"attempts": 1},
    "broken": lambda: {"on": lambda error: 1 / 0},
    "not retried": lambda: {"on": KeyError},
    "cancelled": lambda: {"wait": 1, "stop": lambda state: False},
    "cancelled with deadline": lambda: {"wait": 1, "deadline": 60},
    "cut off": lambda: {"deadline": 0.5, "wait": 0.1, "on_result": lambda value: False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
async def test_t34_errors_are_freed_without_the_garbage_collector(options: Any, no_gc: None) -> None:
    refs: list[weakref.ref[BaseException]] = []

    class TrackedError(Exception):
        pass

    async def fail(how_often: int) -> str:
        if len(refs) < how_often:
            error = TrackedError()
            refs.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        await asyncio.sleep(0.45)
        return "value"

    policy = retry(**{"wait": 0, **options()})
    for how_often in (2, 100):
        refs.clear()
        task = asyncio.create_task(policy(fail)(how_often))
        await asyncio.sleep(0.1)
        if policy.config.wait == 1:
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or not isinstance(task.exception(), AssertionError)
        del task
        await asyncio.sleep(0)  # the loop lets go of the task
        assert refs
        assert [ref() for ref in refs] == [None] * len(refs)


async def test_the_timer_of_a_deadline_keeps_no_callers_context(no_gc: None) -> None:
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")
    policy = retry(deadline=1000)

    class Request:
        pass

    async def handle() -> weakref.ref[Request]:
        request = Request()
        variable.set(request)
        await policy(Flaky(1, takes=0.1))()
        return weakref.ref(request)

    ref = await asyncio.create_task(handle())
    await asyncio.sleep(0)
    assert ref() is None


async def test_errors_of_earlier_attempts_are_not_chained() -> None:
    errors = [ConnectionError(index) for index in range(200)]
    with pytest.raises(ConnectionError) as caught:
        await retry(200, wait=0, budget=None)(Flaky(*errors))()
    assert caught.value is errors[-1]
    assert errors[-1].__context__ is None


async def test_t34_cyclic_causes_are_not_walked() -> None:
    one, two = ConnectionError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    with pytest.raises(ConnectionError):
        await retry(2, wait=0)(Flaky(one))()


# --- Switches, loops, threads, time -----------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"deadline": 60}])
async def test_switched_off_it_is_as_if_undecorated(options: Any) -> None:
    policy = retry(3, wait=0, **options)
    flaky = Flaky(ConnectionError)
    function = policy(flaky)
    policy.enabled = False
    with pytest.raises(ConnectionError) as caught:
        await function()
    policy.enabled = True
    with inactive(), pytest.raises(ConnectionError):
        await function()
    assert flaky.calls == 2
    assert not hasattr(caught.value, "__notes__")
    assert policy.snapshot()["budget"]["calls"] == 0


async def test_a_call_that_began_finishes_as_it_began() -> None:
    policy = retry(3, wait=1)
    flaky = Flaky(ConnectionError)
    task = asyncio.create_task(policy(flaky)())
    await asyncio.sleep(0.5)
    policy.enabled = False
    with pytest.raises(ConnectionError):
        await task
    assert flaky.calls == 3


@pytest.mark.parametrize("options", [{}, {"deadline": 60}])
def test_t64_three_loops_one_after_another(options: Any) -> None:
    policy = retry(3, wait=0.001, **options)
    calls = 0

    @policy
    async def function() -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            await asyncio.sleep(0)
            raise ConnectionError
        return calls

    assert [asyncio.run(function()) for _ in range(3)] == [3, 6, 9]


@pytest.mark.parametrize("options", [{}, {"deadline": 60}])
def test_t64_four_loops_in_four_threads_share_one_budget(options: Any) -> None:
    policy = retry(5, wait=0, budget=RetryBudget(ratio=0, min_per_second=1, window=300), **options)
    count = 0
    lock = threading.Lock()
    failures: list[BaseException] = []

    @policy
    async def function() -> None:
        nonlocal count
        with lock:
            count += 1
        await asyncio.sleep(0)
        raise ConnectionError

    async def load() -> None:
        for _ in range(10):
            results = await asyncio.gather(*(function() for _ in range(20)), return_exceptions=True)
            failures.extend(each for each in results if not isinstance(each, ConnectionError))

    threads = [threading.Thread(target=asyncio.run, args=(load(),)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert failures == []
    assert count == 4 * 200 + 300
    assert policy.snapshot()["budget"] == {"calls": 800, "retries": 300, "retries_left": 0}


@pytest.mark.real_time
async def test_t62_t63_frozen_time_moves_deadline_and_budget() -> None:
    policy = retry(2, wait=0, budget=RetryBudget(0, 0.1, 10))
    with freezegun.freeze_time(real_asyncio=True) as frozen:
        calls = 0

        @policy
        async def function() -> None:
            nonlocal calls
            calls += 1
            raise ConnectionError

        for _ in range(2):
            with pytest.raises(ConnectionError):
                await function()
        assert calls == 3
        frozen.tick(10.5)
        with pytest.raises(ConnectionError):
            await function()
        assert calls == 5

        @retry(5, wait=0, deadline=10)
        async def slow() -> None:
            frozen.tick(6)
            raise ConnectionError

        began = time.monotonic()
        with pytest.raises(ConnectionError):
            await slow()
        assert time.monotonic() - began == pytest.approx(12)
    with pytest.raises(ConnectionError):  # the clock is set back: the budget begins anew
        await function()
    assert calls == 7


def test_a_success_does_not_import_tenacity() -> None:
    code = (
        "import asyncio, sys\n"
        "from resilience import retry\n"
        "@retry(stop=lambda state: True, wait=lambda state: 0)\n"
        "async def fine(): return 1\n"
        "@retry(wait=0)\n"
        "async def flaky(): raise ConnectionError\n"
        "asyncio.run(fine())\n"
        "try: asyncio.run(flaky())\n"
        "except ConnectionError: pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('tenacity', 'loguru')])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# --- Arguments --------------------------------------------------------------------------------------


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"attempts": 0}, ValueError, "attempts must be a whole number of 1 or more, got 0"),
    ({"attempts": -1}, ValueError, "attempts must be .* got -1"),
    ({"attempts": 2.0}, TypeError, "attempts must be .* got 2.0"),
    ({"attempts": True}, TypeError, "attempts must be .* got True"),
    ({"attempts": "3"}, TypeError, "attempts must be .* got '3'"),
    ({"attempts": None}, ValueError, "attempts must be .* got None"),
    ({"on": int}, TypeError, "on must be .* got <class 'int'>"),
    ({"on": ConnectionError()}, TypeError, r"on must be .* got ConnectionError\(\)"),
    ({"on": (ConnectionError, 1)}, TypeError, "on must be"),
    ({"on": None}, TypeError, "on must be .* got None"),
    ({"on_result": 1}, TypeError, "on_result must be .* got 1"),
    ({"wait": -1}, ValueError, "wait must be .* got -1"),
    ({"wait": math.nan}, ValueError, "wait must be .* got nan"),
    ({"wait": math.inf}, ValueError, "wait must be .* got inf"),
    ({"wait": timedelta(seconds=-1)}, ValueError, "wait must be"),
    ({"wait": True}, TypeError, "wait must be .* got True"),
    ({"wait": "1"}, TypeError, "wait must be .* got '1'"),
    ({"wait": []}, ValueError, r"wait must be .* got \[\]"),
    ({"wait": [1, -1]}, ValueError, "wait must be .* got -1"),
    ({"wait": [1, "1"]}, TypeError, "wait must be .* got '1'"),
    ({"wait": iter([1])}, TypeError, "wait must be"),
    ({"deadline": -1}, ValueError, "deadline must be .* got -1"),
    ({"deadline": math.inf}, ValueError, "deadline must be .* got inf"),
    ({"deadline": "1"}, TypeError, "deadline must be .* got '1'"),
    ({"budget": 5}, TypeError, "budget must be a RetryBudget or None, got 5"),
    ({"budget": False}, TypeError, "budget must be .* got False"),
    ({"stop": 3}, TypeError, "stop must be .* got 3"),
    ({"wrap": 1}, TypeError, "wrap must be .* got 1"),
    ({"name": ""}, ValueError, "name must be"),
    ({"name": 1}, TypeError, "name must be .* got 1"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), WRONG, ids=[str(each[0]) for each in WRONG])
def test_wrong_arguments_are_named(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        retry(**arguments)


def test_configuration_and_repr() -> None:
    assert repr(retry()) == "retry()"
    assert repr(retry(4, on=ConnectionError, wait=0)) == "retry(attempts=4, on=ConnectionError, wait=0)"
    assert repr(retry(budget=None, wrap=True)) == "retry(budget=None, wrap=True)"
    assert retry().config.attempts == 3
    assert retry(stop=lambda state: True).config.attempts is None
    assert retry(5, stop=lambda state: True).config.attempts == 5
    with pytest.raises(AttributeError):
        retry().config.attempts = 4  # type: ignore[misc]


def test_policies_sees_it() -> None:
    policy = retry()

    @policy
    async def function() -> None: ...

    assert policies(function) == (policy,)
    assert isinstance(policy, Retry)


@pytest.mark.parametrize("form", ["decorator", "deadline", "block"])
@pytest.mark.parametrize("on", [OSError, (OSError, RateLimitExceededError)])
async def test_t22_a_rejection_that_ends_the_retries_has_the_last_real_error_as_its_cause(
    form: str, on: Any
) -> None:
    real = OSError("real")
    outcomes = iter([real, RateLimitExceededError(), RateLimitExceededError()])
    policy = retry(3, wait=0, on=on, deadline=5 if form == "deadline" else None)

    async def call() -> None:
        raise next(outcomes)

    async def block() -> None:
        async for attempt in policy.attempts():
            with attempt:
                await call()

    with pytest.raises(RateLimitExceededError) as caught:
        await (block() if form == "block" else policy.call(call))
    assert caught.value.__cause__ is real


async def test_a_rejection_keeps_a_cause_of_its_own() -> None:
    own = KeyError("own")

    def rejected() -> CircuitBreakerOpenError:
        error = CircuitBreakerOpenError()
        error.__cause__ = own
        return error

    outcomes = iter([OSError("real"), rejected()])

    async def call() -> None:
        raise next(outcomes)

    with pytest.raises(CircuitBreakerOpenError) as caught:
        await retry(3, wait=0).call(call)
    assert caught.value.__cause__ is own


# --- The last real error under a time limit around the call -----------------------------------------


async def as_block(policy: Retry, function: Callable[[], Any]) -> Any:
    async for attempt in policy.attempts():
        with attempt:
            return await function()
    raise AssertionError


def in_form(form: str, function: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    """Put a function under retry in one of its forms."""
    if form == "block":
        return lambda: as_block(retry(**options), function)
    return retry(**options, deadline=1000 if form == "deadline" else None)(function)


every_form = pytest.mark.parametrize("form", ["decorator", "deadline", "block"])


@every_form
async def test_b22_an_outer_timeout_that_cuts_an_attempt_off_has_the_last_real_error_as_its_cause(
    form: str,
) -> None:
    first, last = ConnectionError("first"), ConnectionError("last")
    outcomes = iter([first, last])

    async def call() -> None:
        if error := next(outcomes, None):
            raise error
        await asyncio.sleep(100)

    with pytest.raises(CallTimeoutError, match="outer: cut off after 5 s") as caught:
        await timeout(5, name="outer").call(in_form(form, call, attempts=9, wait=1))
    assert now() == 5
    assert caught.value.__cause__ is last
    assert last.__cause__ is last.__context__ is None
    assert not hasattr(last, "__notes__")
    assert asyncio.current_task().cancelling() == 0


@every_form
async def test_b22_so_has_one_that_cuts_off_a_predicate(form: str) -> None:
    error = ConnectionError()

    async def hang(_: Exception) -> bool:
        await asyncio.sleep(100)
        return True

    with pytest.raises(CallTimeoutError) as caught:
        await timeout(5).call(in_form(form, Flaky(error), on=hang))
    assert caught.value.__cause__ is error


@every_form
@pytest.mark.parametrize("moment", ["wait", "attempt"])
async def test_b22_a_foreign_timeout_shows_the_last_real_error_in_its_chain(form: str, moment: str) -> None:
    error = ConnectionError()
    call = in_form(form, Flaky(error, "value", takes=3), attempts=9, wait=10)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(5 if moment == "wait" else 14):
            await call()
    cancelled = caught.value.__cause__
    assert isinstance(cancelled, asyncio.CancelledError)
    assert cancelled.__cause__ is error


async def test_b22_of_two_retries_the_inner_one_knows_the_later_error() -> None:
    flaky = Flaky(KeyError(1), KeyError(2), ConnectionError(3), "value", takes=1)
    inner = retry(2, wait=0, on=KeyError)
    for limit, calls in ((timeout(3.5), 4), (retry(9, wait=0, deadline=3.5), 4)):
        flaky.times.clear()
        with pytest.raises(CallTimeoutError) as caught:
            await limit.call(stack(retry(9, wait=0), inner, check=False)(flaky))
        assert flaky.calls == calls
        assert str(caught.value.__cause__) == "3"


async def test_b22_a_deadline_knows_the_last_error_of_a_retry_inside_of_its_first_attempt() -> None:
    error = ConnectionError()
    flaky = Flaky(error, "value", takes=1)
    with pytest.raises(CallTimeoutError) as caught:
        await stack(retry(deadline=1.5), retry(wait=0), check=False)(flaky)()
    assert caught.value.__cause__ is error


async def test_a_first_attempt_that_an_outer_timeout_cuts_off_shows_where_it_was() -> None:
    with pytest.raises(CallTimeoutError) as caught:
        await timeout(5)(retry()(Flaky(1, takes=100)))()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert caught.value.__cause__.__cause__ is None


@every_form
@pytest.mark.parametrize("moment", [1, 11])
async def test_the_callers_cancellation_stays_what_it_is(form: str, moment: float) -> None:
    error = ConnectionError()
    cancelled: list[asyncio.CancelledError] = []

    async def work() -> None:
        try:
            await in_form(form, Flaky(error, "value", takes=2), attempts=9, wait=8)()
        except asyncio.CancelledError as caught:
            cancelled.append(caught)
            raise

    task = asyncio.create_task(work())
    await asyncio.sleep(moment)
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError, match="because"):
        await task
    assert task.cancelled()
    (seen,) = cancelled
    assert type(seen) is asyncio.CancelledError
    assert seen.args == ("because",)
    assert seen.__cause__ is (None if moment == 1 else error)


@every_form
async def test_a_cancellation_keeps_a_cause_of_its_own(form: str) -> None:
    own = KeyError("own")
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        raise asyncio.CancelledError from own

    with pytest.raises(asyncio.CancelledError) as caught:
        await in_form(form, call, wait=0)()
    assert caught.value.__cause__ is own


@pytest.mark.parametrize("moment", ["attempt", "wait"])
@every_form
async def test_t34_the_error_that_a_cut_off_tells_is_freed_with_it(
    form: str, moment: str, no_gc: None
) -> None:
    refs: list[weakref.ref[BaseException]] = []

    class TrackedError(Exception):
        pass

    async def call() -> None:
        if not refs:
            error = TrackedError()
            refs.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        await asyncio.sleep(100)

    async def under_a_foreign_limit(call: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            await call()

    retried = in_form(form, call, wait=0 if moment == "attempt" else 50)
    with pytest.raises(TimeoutError):
        await (timeout(5).call(retried) if moment == "attempt" else under_a_foreign_limit(retried))
    await asyncio.sleep(0)
    assert [ref() for ref in refs] == [None]


# --- Per call, and nothing of it on the policy ------------------------------------------------------


def state_of(thing: object, depth: int = 4) -> object:
    """Describe a policy by all that it holds, but the counts of its budget."""
    kind = type(thing)
    is_part = kind.__module__.startswith(("resilience._retry", "resilience._backoff"))
    if depth == 0 or not is_part or isinstance(thing, RetryBudget):
        return id(thing)
    names = list(getattr(thing, "__dict__", ())) + list(getattr(kind, "__slots__", ()))
    return {name: state_of(getattr(thing, name, None), depth - 1) for name in names}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"deadline": 60},
        {"wait": [1, 2]},
        {"on": lambda error: True},
        {"on_result": lambda value: value is None},
        {"wait": lambda state: 1.0, "stop": lambda state: state.attempt_number == 3},
    ],
)
async def test_t24_nothing_of_a_call_is_kept_on_the_policy(options: Any) -> None:
    policy = retry(**{"wait": 1, **options})
    function = policy(Flaky(ConnectionError, KeyError, None, "value", takes=1))
    with contextlib.suppress(ConnectionError, KeyError):  # what is made once, such as a timer queue
        await function()
    before = state_of(policy)
    flaky = Flaky(ConnectionError("a"), ConnectionError("b"), "value", takes=1)
    calls = [asyncio.create_task(policy.call(flaky)) for _ in range(5)]
    for _ in range(20):
        assert state_of(policy) == before
        await asyncio.sleep(0.5)
    await asyncio.gather(*calls, return_exceptions=True)
    assert state_of(policy) == before
    for name in ("statistics", "attempt", "retry_state", "begin"):
        assert not hasattr(policy, name)
        assert not hasattr(function, name)


async def test_b18_each_attempt_gets_the_arguments_as_the_caller_gave_them() -> None:
    seen: list[tuple[object, ...]] = []
    body = object()

    @retry(wait=0)
    async def send(*chunks: object, **headers: object) -> str:
        seen.append((chunks, dict(headers)))
        headers.clear()
        headers["changed"] = True
        if len(seen) < 3:
            raise ConnectionError
        return "sent"

    assert await send(body, trace=1) == "sent"
    assert seen == [((body,), {"trace": 1})] * 3


async def test_t30_a_coroutine_object_is_refused() -> None:
    async def call() -> None: ...

    coroutine = call()
    with pytest.raises(TypeError):
        await retry().call(coroutine)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        retry(coroutine)  # type: ignore[call-overload]
    coroutine.close()


@pytest.mark.usefixtures("punctual")
async def test_b10_an_error_that_comes_at_once_and_one_that_comes_late_are_retried_alike() -> None:
    for takes in (0.0, 50.0):
        flaky = Flaky(BusyError(3), "value", takes=takes)
        began = now()
        assert await retry(wait=1)(flaky)() == "value"
        assert flaky.times[1] - began == takes + 3


@pytest.mark.parametrize("value", [0, 0.0, False, "", (), None])
async def test_t28_a_falsy_value_is_a_value(value: object) -> None:
    judged: list[object] = []
    flaky = Flaky(value)
    assert await retry(wait=0)(flaky)() is value
    assert await retry(2, on_result=lambda each: judged.append(each) or not each, wait=0)(flaky)() is value
    assert judged == [value, value]
    assert flaky.calls == 3


async def test_a_fault_that_takes_no_cause_is_raised_all_the_same() -> None:
    def broken(_: Exception) -> bool:
        raise FrozenError

    error = ConnectionError()
    with pytest.raises(FrozenError) as caught:
        await retry(on=broken)(Flaky(error))()
    assert caught.value.__context__ is error


async def test_t26_more_attempts_than_doublings_fit_into_a_float() -> None:
    calls = 0

    @retry(1100, budget=None)
    async def call() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await call()
    assert calls == 1100
    assert 1000 * 10 < now() < 1100 * 30


@pytest.mark.parametrize("turns", range(12))
@every_form
async def test_b11_a_cancellation_in_any_turn_charges_what_was_sent_and_no_more(
    form: str, turns: int
) -> None:
    budget = RetryBudget(0, 100, 10)
    sent = 0

    async def call() -> str:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0)
        if sent < 4:
            raise ConnectionError
        return "value"

    task = asyncio.create_task(in_form(form, call, attempts=9, wait=0, budget=budget)())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert budget.snapshot()["retries"] == max(sent - 1, 0)
    assert budget.snapshot()["calls"] == (1 if turns else 0)


@pytest.mark.parametrize("stored", [False, True])
async def test_a_rejection_after_which_there_is_nothing_to_tell_is_left_as_it_is(stored: bool) -> None:
    rejection = CircuitBreakerOpenError()
    context = rejection.__context__ = KeyError("handled when it was raised")
    policy = retry(2, wait=0, on=CircuitBreakerOpenError if stored else OSError)
    flaky = Flaky(rejection)
    with pytest.raises(CircuitBreakerOpenError):
        await policy(flaky)()
    assert flaky.calls == (2 if stored else 1)
    assert rejection.__cause__ is None
    assert rejection.__context__ is context
    assert not rejection.__suppress_context__
