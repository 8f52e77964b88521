"""`retry` with tenacity's own strategies."""

import asyncio
import contextlib
import random
import threading
from typing import Any

import pytest
import tenacity

from resilience import (
    CircuitBreakerOpenError,
    Event,
    RateLimitExceededError,
    RejectedError,
    ResilienceError,
    retry,
)
from resilience._tenacity import CallState, asks_about_results
from tests.support.virtual_time import now
from tests.test_retry import Flaky

asynchronous: Any = getattr(tenacity, "asyncio", None)
needs_async = pytest.mark.skipif(asynchronous is None, reason="since tenacity 9")


async def times_of(policy: Any, *outcomes: object, takes: float = 0) -> list[float]:
    flaky = Flaky(*outcomes, takes=takes)
    began = now()
    with contextlib.suppress(ConnectionError):
        await policy(flaky)()
    return [at - began for at in flaky.times]


# --- stop -------------------------------------------------------------------------------------------


async def test_stop_after_attempt(events: list[Event]) -> None:
    policy = retry(stop=tenacity.stop_after_attempt(5), wait=0)
    assert len(await times_of(policy, ConnectionError)) == 5
    assert events[-1].attributes["reason"] == "exhausted"


async def test_attempts_and_stop_both_count() -> None:
    assert len(await times_of(retry(2, stop=tenacity.stop_after_attempt(5), wait=0), ConnectionError)) == 2
    assert len(await times_of(retry(9, stop=tenacity.stop_after_attempt(5), wait=0), ConnectionError)) == 5


async def test_t62_stop_after_delay_goes_by_our_clock() -> None:
    policy = retry(stop=tenacity.stop_after_delay(10), wait=3)
    assert await times_of(policy, ConnectionError, takes=1) == [0, 4, 8, 12]


@pytest.mark.skipif(not hasattr(tenacity, "stop_before_delay"), reason="not in this tenacity")
async def test_stop_before_delay_knows_the_next_wait() -> None:
    policy = retry(stop=tenacity.stop_before_delay(10), wait=3)
    assert await times_of(policy, ConnectionError) == [0, 3, 6, 9]


async def test_stop_when_an_event_is_set_and_combined() -> None:
    event = threading.Event()
    stop = tenacity.stop_when_event_set(event) | tenacity.stop_after_attempt(4)
    assert len(await times_of(retry(stop=stop, wait=0), ConnectionError)) == 4
    event.set()
    assert len(await times_of(retry(stop=stop, wait=0), ConnectionError)) == 1


async def test_an_async_stop() -> None:
    async def stop(state: tenacity.RetryCallState) -> bool:
        await asyncio.sleep(0)
        return state.attempt_number >= 3

    assert len(await times_of(retry(stop=stop, wait=0), ConnectionError)) == 3


async def test_no_limit_with_stop_never() -> None:
    outcomes = [ConnectionError] * 20 + [1]
    assert len(await times_of(retry(stop=tenacity.stop_never, wait=0), *outcomes)) == 21


# --- wait -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (tenacity.wait_none(), [0, 0, 0, 0]),
        (tenacity.wait_fixed(2), [0, 2, 4, 6]),
        (tenacity.wait_incrementing(1, 1), [0, 1, 3, 6]),
        (tenacity.wait_exponential(multiplier=1), [0, 1, 3, 7]),
        (tenacity.wait_exponential(multiplier=1, max=2), [0, 1, 3, 5]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(5)), [0, 1, 6, 11]),
        (tenacity.wait_fixed(1) + tenacity.wait_incrementing(0, 1), [0, 1, 3, 6]),
    ],
)
async def test_waits(wait: Any, expected: list[float]) -> None:
    assert await times_of(retry(4, wait=wait), ConnectionError) == expected


async def test_random_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    assert await times_of(retry(3, wait=tenacity.wait_random_exponential()), ConnectionError) == [0, 1, 3]
    policy = retry(3, wait=tenacity.wait_exponential_jitter(max=2))
    assert await times_of(policy, ConnectionError) == [0, 2, 4]


@pytest.mark.skipif(not hasattr(tenacity, "wait_exception"), reason="not in this tenacity")
async def test_a_wait_that_reads_the_exception() -> None:
    wait = tenacity.wait_exception(lambda error: float(str(error)))
    policy = retry(3, wait=wait)
    assert await times_of(policy, ConnectionError("2"), ConnectionError("5"), 1) == [0, 2, 7]


@pytest.mark.usefixtures("punctual")
async def test_the_cap_for_retry_after_is_the_max_of_the_wait() -> None:
    error = ConnectionError()
    error.retry_after = 50  # type: ignore[attr-defined]
    wait = tenacity.wait_exponential(max=60)
    assert await times_of(retry(wait=wait), error, 1) == [0, 50]
    assert await times_of(retry(wait=tenacity.wait_exponential(max=40)), error, 1) == [0]
    assert await times_of(retry(wait=tenacity.wait_fixed(1)), error, 1) == [0]


@pytest.mark.parametrize(
    "wait", [tenacity.wait_exponential(), tenacity.wait_random_exponential(), tenacity.wait_incrementing()]
)
@pytest.mark.usefixtures("punctual")
async def test_t31_the_endless_max_that_tenacity_gives_by_default_is_no_cap(wait: Any) -> None:
    error = ConnectionError()
    error.retry_after = 86_400  # type: ignore[attr-defined]
    assert await times_of(retry(wait=wait), error, 1) == [0]
    error.retry_after = 30  # type: ignore[attr-defined]
    assert await times_of(retry(wait=wait), error, 1) == [0, 30]


async def test_t24_concurrent_calls_have_a_state_each() -> None:
    policy = retry(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_chain(*(tenacity.wait_fixed(each) for each in (1, 2, 4))),
        on=tenacity.retry_if_exception_type(ConnectionError),
    )
    flakies = [Flaky(ConnectionError, takes=index / 10) for index in range(5)]
    await asyncio.gather(*(policy(flaky)() for flaky in flakies), return_exceptions=True)
    for index, flaky in enumerate(flakies):
        took = index / 10
        assert flaky.times == pytest.approx([0, 1 + took, 3 + 2 * took, 7 + 3 * took])


# --- on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "on",
    [
        tenacity.retry_if_exception_type(ConnectionError),
        tenacity.retry_if_not_exception_type(KeyError),
        tenacity.retry_if_exception(lambda error: isinstance(error, ConnectionError)),
        tenacity.retry_if_exception_message(message="again"),
        tenacity.retry_if_exception_cause_type(ValueError),
        tenacity.retry_if_exception_type(ConnectionError) | tenacity.retry_if_exception_message(match="x"),
        tenacity.retry_if_exception_type(OSError) & tenacity.retry_if_exception_message(match="again"),
    ],
)
async def test_retry_objects(on: Any) -> None:
    error = ConnectionError("again")
    error.__cause__ = ValueError()
    assert not asks_about_results(on)
    assert len(await times_of(retry(on=on, wait=0), error, 1)) == 2
    other = Flaky(KeyError("other"))
    with pytest.raises(KeyError):
        await retry(on=on, wait=0)(other)()
    assert other.calls == 1


async def test_retry_objects_that_judge_the_value() -> None:
    is_none = tenacity.retry_if_result(lambda value: value is None)
    both = tenacity.retry_any(tenacity.retry_if_exception_type(ConnectionError), is_none)
    for on, outcomes in (
        (is_none, (None, None, 1)),
        (tenacity.retry_if_not_result(lambda value: value == 1), (None, 0, 1)),
        (both, (None, ConnectionError, 1)),
        (tenacity.retry_unless_exception_type(KeyError), (1, ConnectionError, 2)),
    ):
        assert asks_about_results(on)
        assert len(await times_of(retry(on=on, wait=0), *outcomes)) == 3
    assert await retry(2, on=is_none, wait=0)(Flaky(None))() is None


async def test_retry_never() -> None:
    assert not asks_about_results(tenacity.retry_never)
    assert len(await times_of(retry(on=tenacity.retry_never), ConnectionError)) == 1


@needs_async
async def test_async_retry_objects() -> None:
    async def is_busy(error: BaseException) -> bool:
        await asyncio.sleep(0)
        return isinstance(error, ConnectionError)

    async def is_none(value: object) -> bool:
        await asyncio.sleep(0)
        return value is None

    by_error = asynchronous.retry_if_exception(is_busy)
    by_value = asynchronous.retry_if_result(is_none)
    assert not asks_about_results(by_error)
    for on, outcomes in (
        (by_error, (ConnectionError, ConnectionError, 1)),
        (by_value, (None, None, 1)),
        (by_error | by_value, (None, ConnectionError, 1)),
        (tenacity.retry_if_exception_type(ConnectionError) | by_value, (ConnectionError, None, 1)),
    ):
        assert len(await times_of(retry(on=on, wait=0), *outcomes)) == 3


async def test_on_and_on_result_together() -> None:
    policy = retry(
        5, on=tenacity.retry_if_exception_type(ConnectionError), on_result=lambda v: v == 0, wait=0
    )
    assert len(await times_of(policy, ConnectionError, 0, 1)) == 3


async def test_t32_retry_objects_are_not_asked_about_own_rejections() -> None:
    flaky = Flaky(CircuitBreakerOpenError())
    with pytest.raises(CircuitBreakerOpenError):
        await retry(on=tenacity.retry_always, wait=0)(flaky)()
    assert flaky.calls == 1


@pytest.mark.parametrize(
    "on",
    [
        tenacity.retry_if_exception_type(CircuitBreakerOpenError),
        tenacity.retry_if_exception_type((KeyError, RejectedError)),
        tenacity.retry_if_exception_type(KeyError) | tenacity.retry_if_exception_type(ResilienceError),
        tenacity.retry_unless_exception_type(RateLimitExceededError)
        & tenacity.retry_if_exception_type(RejectedError),
    ],
)
async def test_t32_own_rejections_that_a_retry_object_names_are_retried(on: Any) -> None:
    assert await times_of(retry(on=on, wait=2), CircuitBreakerOpenError(retry_after=1), 1) == [0, 2]


@pytest.mark.parametrize(
    "on",
    [
        tenacity.retry_if_not_exception_type(CircuitBreakerOpenError),
        tenacity.retry_unless_exception_type(RejectedError),
        tenacity.retry_if_exception_type((Exception, RateLimitExceededError)),
        tenacity.retry_if_exception(lambda error: True),
    ],
)
async def test_t32_own_rejections_that_it_excludes_or_does_not_name_are_not(on: Any) -> None:
    flaky = Flaky(CircuitBreakerOpenError(retry_after=1), 1)
    with pytest.raises(CircuitBreakerOpenError):
        await retry(on=on, wait=2)(flaky)()
    assert flaky.calls == 1


@pytest.mark.parametrize("on", [KeyError, lambda error: False, tenacity.retry_if_exception_type(KeyError)])
async def test_try_again_is_always_retried(on: Any) -> None:
    error = tenacity.TryAgain()
    flaky = Flaky(error, 1)
    assert await retry(on=on, wait=0)(flaky)() == 1
    with pytest.raises(tenacity.TryAgain) as caught:
        await retry(2, on=on, wait=0)(Flaky(error))()
    assert caught.value is error


# --- The call state ---------------------------------------------------------------------------------


async def test_the_call_state() -> None:
    seen: list[dict[str, Any]] = []
    states: set[int] = set()

    def stop(state: tenacity.RetryCallState) -> bool:
        states.add(id(state))
        outcome = state.outcome
        assert outcome is not None
        seen.append(
            {
                "attempt": state.attempt_number,
                "failed": outcome.failed,
                "error": str(outcome.exception()),
                "outcome's": outcome.attempt_number,
                "since": state.seconds_since_start,
                "idle": state.idle_for,
                "upcoming": state.upcoming_sleep,
                "args": (state.args, state.kwargs),
                "next": state.next_action,
            }
        )
        assert isinstance(state, tenacity.RetryCallState)
        assert isinstance(outcome, tenacity.Future)
        assert state.fn is flaky
        assert isinstance(state.retry_object, tenacity.AsyncRetrying)
        assert state.retry_object.stop is stop
        assert state.retry_object is state.retry_object
        assert "attempt #" in repr(state)
        return state.attempt_number == 3

    await asyncio.sleep(100)
    flaky = Flaky(ConnectionError("1"), ConnectionError("2"), ConnectionError("3"), takes=1)
    policy = retry(stop=stop, wait=[2, 3, 4], on=tenacity.retry_if_exception_type(ConnectionError))
    with pytest.raises(ConnectionError):
        await policy(flaky)(5, text="x")
    common = {"failed": True, "args": ((5,), {"text": "x"}), "next": None}
    assert seen == [
        {"attempt": 1, "outcome's": 1, "error": "1", "since": 1, "idle": 0, "upcoming": 2, **common},
        {"attempt": 2, "outcome's": 2, "error": "2", "since": 4, "idle": 2, "upcoming": 3, **common},
        {"attempt": 3, "outcome's": 3, "error": "3", "since": 8, "idle": 5, "upcoming": 4, **common},
    ]
    assert len(states) == 1


def test_an_outcome_is_a_future_that_is_done() -> None:
    state = CallState(None, (), {}, 0.0, dict)
    state.record(1, 1.0, None, "value")
    returned = state.outcome
    assert (returned.result(), returned.exception(), returned.failed) == ("value", None, False)
    assert returned.done()
    called: list[object] = []
    returned.add_done_callback(called.append)
    assert called == [returned]
    assert (returned.attempt_number, returned.result()) == (1, "value")
    assert "returned str" in repr(returned)
    error = KeyError()
    state.record(2, 1.0, error, None)
    raised = state.outcome
    assert raised is not returned
    assert (raised.exception(), raised.failed) == (error, True)
    with pytest.raises(KeyError):
        raised.result()
    assert raised.done()
    assert not raised.cancelled()
    assert not raised.running()
    assert (raised.attempt_number, raised.exception()) == (2, error)
    assert "raised KeyError" in repr(raised)
    for each in (state, raised):
        with pytest.raises(AttributeError, match="no attribute 'other'"):
            _ = each.other
    assert str(state.retry_object)


async def test_the_call_state_tells_of_an_attempt_that_returned() -> None:
    seen: list[tuple[object, ...]] = []

    def stop(state: Any) -> bool:
        seen.append((state.outcome.result(), state.outcome.failed, state.seconds_since_start))
        return False

    policy = retry(stop=stop, on_result=lambda value: value < 3, wait=2)
    assert await times_of(policy, 1, 2, 3, takes=1) == [0, 3, 6]
    assert seen == [(1, False, 1), (2, False, 4)]


@pytest.mark.usefixtures("punctual")
async def test_stop_knows_of_a_retry_after_that_is_longer_than_the_wait() -> None:
    seen: list[float] = []
    errors = [ConnectionError(), ConnectionError()]
    errors[0].retry_after, errors[1].retry_after = 7, 2  # type: ignore[attr-defined]
    policy = retry(stop=lambda state: seen.append(state.upcoming_sleep), wait=3)
    assert await times_of(policy, *errors, 1) == [0, 7, 10]
    assert seen == [7, 3]


async def test_the_retry_object_has_the_strategies_given_and_tenacitys_defaults_for_others() -> None:
    seen: list[tenacity.AsyncRetrying] = []

    class Wait(tenacity.wait.wait_base):
        def __call__(self, state: Any) -> float:
            seen.append(state.retry_object)
            return 0.0

    wait, on = Wait(), tenacity.retry_if_exception_type(ConnectionError)
    await times_of(retry(wait=wait, on=on), ConnectionError, 1)
    await times_of(retry(wait=wait, on=ConnectionError), ConnectionError, 1)
    assert [each.wait for each in seen] == [wait, wait]
    assert [each.stop for each in seen] == [tenacity.stop_never] * 2
    assert seen[0].retry is on
    assert isinstance(seen[1].retry, tenacity.retry_if_exception_type)


async def test_a_first_success_makes_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr("resilience._tenacity.CallState.__init__", lambda self, *args: made.append(args))
    policy = retry(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_none(),
        on=tenacity.retry_if_exception_type(ConnectionError),
    )
    assert await policy(Flaky("value"))() == "value"
    assert made == []


async def test_with_a_block() -> None:
    states: list[tenacity.RetryCallState] = []
    policy = retry(stop=tenacity.stop_after_attempt(3), wait=lambda state: states.append(state) or 0)
    with pytest.raises(ConnectionError):  # noqa: PT012
        async for attempt in policy.attempts():
            with attempt:
                raise ConnectionError
    assert [state.attempt_number for state in set(states)] == [3]
    assert states[0].fn is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"stop": tenacity.stop_after_attempt},
            "stop must be .* the class stop_after_attempt: call it",
        ),
        ({"wait": tenacity.wait_fixed}, "wait must be .*, got the class wait_fixed: call it"),
        (
            {"on_result": tenacity.retry_if_result(bool)},
            "on_result must be a function of the value, got <.*: give it as on=",
        ),
        (
            {"attempts": tenacity.stop_after_attempt(3)},
            "^attempts must be a whole number or a function to decorate, got <.*: give it as stop=",
        ),
        ({"attempts": tenacity.retry_if_result(bool)}, "attempts must be .*: give it as on="),
        ({"attempts": tenacity.wait_fixed(3)}, "attempts must be .*: give it as wait="),
    ],
)
def test_strategies_in_the_wrong_place_are_told_where_they_belong(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        retry(**arguments)
