"""`hedge`: when another attempt begins, which one decides, what is charged and what is told."""

import asyncio
import contextvars
import functools
from datetime import timedelta
from typing import Any

import pytest

from resilience import (
    CallTimeoutError,
    Event,
    Hedge,
    Percentile,
    RateLimitExceededError,
    RetryBudget,
    circuit_breaker,
    deadline,
    hedge,
    inactive,
    rate_limited,
    retry,
    subscribe,
    timeout,
)
from tests.support.attempts import Attempts
from tests.support.virtual_time import now, settle

FOREVER = 1e6


# --- When another attempt begins ---


async def test_a_call_that_answers_in_time_is_made_once() -> None:
    attempts = Attempts((0.999, "first"))
    assert await hedge(1.0)(attempts)() == "first"
    assert attempts.started == [0]
    assert now() == 0.999
    await asyncio.sleep(10)
    assert attempts.started == [0]


@pytest.mark.parametrize("delay", [2, 2.0, timedelta(seconds=2), lambda: 2, lambda: timedelta(seconds=2)])
async def test_after_the_delay_another_one_begins_and_the_first_success_wins(delay: Any) -> None:
    attempts = Attempts((FOREVER, "slow"), (0.5, "fast"))
    assert await hedge(delay)(attempts)() == "fast"
    assert attempts.started == [0, 2]
    assert attempts.cancelled == [1]
    assert now() == 2.5


async def test_the_first_may_still_win() -> None:
    attempts = Attempts((1.5, "first"), (FOREVER, "second"))
    assert await hedge(1)(attempts)() == "first"
    assert attempts.started == [0, 1]
    assert attempts.cancelled == [2]
    assert now() == 1.5


@pytest.mark.parametrize("max_hedges", [1, 2, 3])
async def test_each_delay_begins_one_more_up_to_the_number_allowed(max_hedges: int) -> None:
    attempts = Attempts((20, "first"), (FOREVER, "never"))
    assert await hedge(3, max_hedges=max_hedges)(attempts)() == "first"
    assert attempts.started == [3 * number for number in range(max_hedges + 1)]
    assert sorted(attempts.cancelled) == list(range(2, max_hedges + 2))


async def test_by_default_there_is_one_hedge() -> None:
    attempts = Attempts((100, "first"))
    assert await hedge(1)(attempts)() == "first"
    assert attempts.started == [0, 1]


async def test_a_failure_begins_the_next_at_once_and_the_delay_anew() -> None:
    attempts = Attempts((0.5, OSError()), (FOREVER, "slow"), (0.25, "third"))
    assert await hedge(2, max_hedges=2)(attempts)() == "third"
    assert attempts.started == [0, 0.5, 2.5]
    assert now() == 2.75


async def test_each_failure_releases_one() -> None:
    attempts = Attempts((4, OSError()), (1, OSError()), (9, "third"), (FOREVER, "never"))
    assert await hedge(3, max_hedges=3)(attempts)() == "third"
    assert attempts.started == [0, 3, 4, 4]


async def test_a_hedge_that_fails_does_not_end_the_call() -> None:
    attempts = Attempts((5, "first"), (1, OSError("reset")))
    assert await hedge(2)(attempts)() == "first"
    assert attempts.started == [0, 2]
    assert now() == 5


async def test_zero_starts_all_in_the_same_moment() -> None:
    attempts = Attempts((5, "first"), (4, "second"), (3, "third"))
    assert await hedge(0, max_hedges=2)(attempts)() == "third"
    assert attempts.started == [0, 0, 0]
    assert attempts.cancelled == [1, 2]
    assert now() == 3


async def test_what_is_done_at_once_is_done_once_even_with_zero() -> None:
    calls: list[int] = []

    async def at_once() -> str:
        calls.append(1)
        return "done"

    assert await hedge(0, max_hedges=3)(at_once)() == "done"
    assert calls == [1]


async def test_the_delay_may_depend_on_the_arguments() -> None:
    attempts = Attempts((10, "first"))
    seen: list[object] = []

    def delay(*args: object, **kwargs: object) -> float:
        seen.append((args, kwargs))
        return 7

    assert await hedge(delay)(attempts)("a", key="b") == "first"
    assert attempts.started == [0, 7]
    assert seen == [(("a",), {"key": "b"})]


@pytest.mark.parametrize("wrong", [-1, "soon", None, float("nan"), float("inf"), True])
async def test_a_delay_function_that_returns_nonsense_is_told_before_anything_starts(wrong: Any) -> None:
    attempts = Attempts((1, "unused"))
    with pytest.raises((TypeError, ValueError), match="^delay must be seconds .*, got") as caught:
        await hedge(lambda: wrong)(attempts)()
    assert repr(wrong) in str(caught.value)
    assert attempts.started == []


async def test_a_delay_function_that_fails_raises_its_own_error() -> None:
    attempts = Attempts((1, "unused"))
    with pytest.raises(ZeroDivisionError):
        await hedge(lambda: 1 / 0)(attempts)()
    assert attempts.started == []


# --- Which one decides ---


async def test_when_all_fail_the_first_one_s_error_is_raised() -> None:
    errors = [OSError("first"), KeyError("second"), ValueError("third")]
    attempts = Attempts((5, errors[0]), (1, errors[1]), (1, errors[2]))
    with pytest.raises(OSError, match="first") as caught:
        await hedge(2, max_hedges=2)(attempts)()
    assert caught.value is errors[0]
    assert attempts.started == [0, 2, 3]
    assert now() == 5
    assert caught.value.__notes__ == [
        "all attempts of the hedge failed, the others with KeyError, ValueError"
    ]
    assert "second" not in str(caught.value.__notes__)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


async def test_the_note_does_not_pile_up_on_an_error_that_is_raised_again_and_again() -> None:
    error = OSError("the same")
    decorated = hedge(1)(Attempts((0, error)))
    for _ in range(3):
        with pytest.raises(OSError, match="the same"):
            await decorated()
    assert len(error.__notes__) == 1


async def test_an_error_without_attributes_is_raised_all_the_same() -> None:
    class RigidError(OSError):
        def add_note(self, note: str) -> None:
            raise TypeError("no notes here")

    with pytest.raises(RigidError):
        await hedge(1)(Attempts((0, RigidError())))()


async def test_a_lone_attempt_s_error_has_no_note() -> None:
    error = RateLimitExceededError()
    with pytest.raises(RateLimitExceededError):
        await hedge(1)(Attempts((0, error)))()
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("outcomes", [("ok", OSError()), (OSError(), "ok")])
async def test_a_success_and_a_failure_in_one_turn_is_a_success(outcomes: tuple[Any, Any]) -> None:
    attempts = Attempts((3, outcomes[0]), (1, outcomes[1]))
    assert await hedge(2, max_hedges=5)(attempts)() == "ok"
    assert now() == 3
    assert attempts.started == [0, 2], "the failure released another attempt that nobody needs"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("apart", [0, 1])
async def test_of_two_successes_in_one_turn_the_earlier_attempt_wins(
    order: tuple[int, int], apart: int
) -> None:
    gates = {1: asyncio.Event(), 2: asyncio.Event()}
    count = 0

    @hedge(1)
    async def call() -> int:
        nonlocal count
        count += 1
        number = count
        await gates[number].wait()
        return number

    task = asyncio.create_task(call())
    await asyncio.sleep(2)
    gates[order[0]].set()
    await settle(3 * apart)
    gates[order[1]].set()
    assert await task == (order[0] if apart else 1)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "leave", [GeneratorExit, asyncio.CancelledError, type("Odd", (BaseException,), {})]
)
async def test_what_is_no_exception_ends_the_call_from_whichever_attempt(leave: Any, number: int) -> None:
    plans = [(FOREVER, "never"), (FOREVER, "never")]
    plans[number - 1] = (5, leave("out"))
    attempts = Attempts(*plans)
    with pytest.raises(leave, match="out"):
        await hedge(1)(attempts)()
    assert attempts.started == [0, 1]
    assert attempts.cancelled == [3 - number]
    assert attempts.running == set()


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("number", [1, 2])
def test_an_exit_in_an_attempt_ends_the_loop_and_every_attempt(leave: Any, number: int) -> None:
    begun: list[int] = []
    ended: list[int] = []

    @hedge(0)
    async def call() -> None:
        begun.append(own := len(begun) + 1)
        try:
            while own != number or len(begun) < 2:
                await asyncio.sleep(0)
            raise leave("out")
        finally:
            ended.append(own)

    async def main() -> None:
        with pytest.raises((leave, asyncio.CancelledError)):
            await call()
        assert sorted(ended) == [1, 2]

    with pytest.raises(leave, match="out"):
        asyncio.run(main())
    assert sorted(ended) == [1, 2]


# --- Rejections ---


async def test_a_rejection_starts_no_other_attempt() -> None:
    breaker = circuit_breaker(failure_threshold=1)
    breaker.force_open()
    attempts = Attempts((1, "unused"))
    with pytest.raises(Exception, match="circuit is open"):
        await hedge(0, max_hedges=3)(breaker(attempts))()
    assert attempts.started == []
    assert breaker.snapshot()["state"] == "forced_open"


async def test_a_rejected_hedge_starts_no_other_at_once_and_waits_for_the_first() -> None:
    limited = rate_limited(1, per=1000, max_wait=0)
    attempts = Attempts((10, "first"))
    asked: list[float] = []
    guarded = limited(attempts)

    @hedge(3, max_hedges=2)
    async def call() -> str:
        asked.append(now())
        return await guarded()

    assert await call() == "first"
    assert asked == [0, 3, 6]
    assert attempts.started == [0]


async def test_a_rejected_first_attempt_waits_for_the_hedge_under_way() -> None:
    attempts = Attempts((2, RateLimitExceededError()), (5, "second"))
    assert await hedge(1)(attempts)() == "second"
    assert now() == 6


@pytest.mark.real_time
def test_a_delay_below_a_millisecond_is_a_delay_also_where_the_loop_counts_whole_ones() -> None:
    class CoarseLoop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return 0.0  # so fast are the calls

        def call_later(self, delay: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            return super().call_later(round(delay, 3), *args, **kwargs)

    calls = 0

    @hedge(0.0004)
    async def fetch() -> None:
        nonlocal calls
        calls += 1
        for _ in range(5):
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=CoarseLoop) as runner:
        runner.run(fetch())
        assert calls == 1


# --- The budget ---


async def test_b11_hedges_are_charged_and_calls_counted() -> None:
    budget = RetryBudget(ratio=1.0, min_per_second=0)
    call = hedge(1, max_hedges=2, budget=budget)(Attempts((5, "first")))
    assert await call() == "first"
    assert budget.snapshot(now()) == {"calls": 1, "retries": 1, "retries_left": 0}


async def test_b11_the_budget_is_reserved_at_once_by_calls_that_are_hedged_together() -> None:
    budget = RetryBudget(ratio=0.25, min_per_second=0)
    attempts = Attempts((5, "slow"))
    call = hedge(1, budget=budget)(attempts)
    await asyncio.gather(*(call() for _ in range(32)))
    assert len(attempts.started) == 32 + 8
    assert budget.snapshot(now())["retries"] == 8


async def test_b12_an_exhausted_budget_suppresses_only_the_new_attempt() -> None:
    budget = RetryBudget(ratio=0, min_per_second=0)
    attempts = Attempts((10, "first"))
    assert await hedge(1, max_hedges=3, budget=budget)(attempts)() == "first"
    assert attempts.started == [0]
    assert attempts.cancelled == []
    assert now() == 10


async def test_b12_a_suppressed_hedge_is_left_out_and_the_next_has_its_own_chance() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=1)
    attempts = Attempts((10, "first"))
    assert budget.reserve(now()) is not None
    assert await hedge(0.5, max_hedges=2, budget=budget)(attempts)() == "first"
    assert attempts.started == [0, 1]


async def test_an_exhausted_budget_lets_a_failure_through() -> None:
    budget = RetryBudget(ratio=0, min_per_second=0)
    attempts = Attempts((1, OSError("real")))
    with pytest.raises(OSError, match="real") as caught:
        await hedge(5, budget=budget)(attempts)()
    assert attempts.started == [0]
    assert not hasattr(caught.value, "__notes__")


async def test_a_rejected_hedge_is_given_back_once() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1)
    attempts = Attempts((10, "first"), (0, RateLimitExceededError()))
    await hedge(1, max_hedges=4, budget=budget)(attempts)()
    assert len(attempts.started) == 5
    assert budget.snapshot(now())["retries"] == 0
    failed = Attempts((10, "first"), (0, OSError("reset")))
    await hedge(1, budget=budget)(failed)()
    assert budget.snapshot(now())["retries"] == 1


async def test_a_hedge_rejected_in_the_turn_in_which_another_attempt_wins_is_given_back_too() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1)
    attempts = Attempts((2, "first"), (1, RateLimitExceededError()))
    assert await hedge(1, budget=budget)(attempts)() == "first"
    assert attempts.started == [0, 1]
    assert budget.snapshot(now())["retries"] == 0


async def test_a_rejected_first_attempt_gives_nothing_back() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1)
    with pytest.raises(RateLimitExceededError):
        await hedge(1, budget=budget)(Attempts((0, RateLimitExceededError())))()
    with pytest.raises(RateLimitExceededError):
        await hedge(1)(Attempts((2, RateLimitExceededError()), (0, RateLimitExceededError())))()
    assert budget.snapshot(now())["retries"] == 0


async def test_one_budget_may_be_shared_with_a_retry() -> None:
    budget = RetryBudget(ratio=0, min_per_second=0.2)  # two in ten seconds
    attempts = Attempts((5, OSError("reset")))
    with pytest.raises(OSError, match="reset"):
        await retry(attempts=9, wait=0, budget=budget)(Attempts((0, OSError("reset"))))()
    with pytest.raises(OSError, match="reset"):
        await hedge(1, budget=budget)(attempts)()
    assert attempts.started == [0]
    assert budget.snapshot(now()) == {"calls": 2, "retries": 2, "retries_left": 0}


# --- The deadline and the context ---


async def test_attempts_see_the_deadline_of_the_caller() -> None:
    seen: list[float | None] = []

    @timeout(10)
    @hedge(1)
    async def call() -> None:
        seen.append(deadline())
        await asyncio.sleep(5)

    await call()
    assert seen == [10, 9]


async def test_no_attempt_is_started_when_no_time_is_left() -> None:
    attempts = Attempts((FOREVER, "never"))
    with pytest.raises(CallTimeoutError):
        await timeout(3)(hedge(3)(attempts))()
    assert attempts.started == [0]
    assert attempts.cancelled == [1]
    assert now() == 3


async def test_an_attempt_is_started_even_if_little_time_is_left() -> None:
    attempts = Attempts((2.75, OSError()), (0.125, "second"))
    assert await timeout(3)(hedge(9)(attempts))() == "second"
    assert attempts.started == [0, 2.75]


async def test_a_failure_when_the_time_is_up_starts_no_other_attempt() -> None:
    class Clumsy(Attempts):
        async def __call__(self, *args: object, **kwargs: object) -> Any:
            try:
                await super().__call__()
            except asyncio.CancelledError:
                raise OSError("while cleaning up") from None

    attempts = Clumsy((2, OSError("too late")))
    with pytest.raises((CallTimeoutError, OSError)):
        await timeout(2)(hedge(5)(attempts))()
    assert attempts.started == [0]


async def test_a_timeout_of_each_attempt_is_a_failure_like_others() -> None:
    attempts = Attempts((FOREVER, "never"), (1, "second"))
    assert await hedge(10)(timeout(2)(attempts))() == "second"
    assert attempts.started == [0, 2]


@pytest.mark.parametrize("result_first", [True, False])
async def test_t6_a_result_in_the_same_turn_as_a_timeout_wins(result_first: bool) -> None:
    answer = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    @timeout(1)
    @hedge(5)
    async def call() -> str:
        return await answer

    if result_first:
        loop.call_later(1, answer.set_result, "in time")
    task = asyncio.create_task(call())
    await settle(4)
    if not result_first:
        loop.call_later(1, answer.set_result, "in time")
    assert await task == "in time"
    assert now() == 1


user = contextvars.ContextVar("user", default="nobody")


async def test_t50_each_attempt_has_a_copy_of_the_caller_s_context() -> None:
    seen: list[str] = []

    @hedge(1, max_hedges=2)
    async def call() -> str:
        seen.append(user.get())
        user.set(f"attempt {len(seen)}")
        await asyncio.sleep({1: 9, 2: 3, 3: 8}[len(seen)])
        return user.get()

    user.set("the caller")
    assert await call() == "attempt 2"
    assert seen == ["the caller"] * 3
    assert user.get() == "the caller"


# --- A percentile as delay ---


async def test_a_percentile_is_measured_by_the_policy() -> None:
    policy = hedge(Percentile(50, initial=3, minimum_calls=3, window=4))
    assert policy.snapshot() == {"delay": 3, "samples": 0, "budget": None}
    for seconds in (1.0, 2.0):
        await policy(Attempts((seconds, "ok")))()
    assert policy.snapshot() == {"delay": 3, "samples": 2, "budget": None}
    await policy(Attempts((0.5, "ok")))()
    assert policy.snapshot() == {"delay": 1, "samples": 3, "budget": None}
    attempts = Attempts((5, "first"))
    began = now()
    await policy(attempts)()
    assert attempts.started == [began, began + 1]
    policy.reset()
    assert policy.snapshot() == {"delay": 3, "samples": 0, "budget": None}


async def test_t63_a_latency_that_the_clock_cannot_tell_does_not_have_every_call_hedged() -> None:
    policy = hedge(Percentile(95, initial=3, minimum_calls=1))
    await policy(Attempts((0, "at once")))()
    assert policy.snapshot()["samples"] == 1
    calls = 0

    @policy
    async def some_turns() -> None:
        nonlocal calls
        calls += 1
        await settle()

    await some_turns()
    assert calls == 1


async def test_two_policies_with_one_percentile_measure_each_for_itself() -> None:
    rule = Percentile(50, initial=3, minimum_calls=1)
    one, other = hedge(rule), hedge(rule)
    await one(Attempts((1, "ok")))()
    assert (one.snapshot()["delay"], other.snapshot()["delay"]) == (1, 3)


async def test_a_first_attempt_that_lost_counts_with_the_time_it_took_at_least() -> None:
    policy = hedge(Percentile(50, initial=3, minimum_calls=1))
    assert await policy(Attempts((FOREVER, "slow"), (0.25, "fast"), slow_to_die=5))() == "fast"
    assert policy.snapshot() == {"delay": 3.25, "samples": 1, "budget": None}


async def test_the_percentile_does_not_sink_with_the_hedges_that_it_causes() -> None:
    policy = hedge(Percentile(90, initial=10, minimum_calls=10, window=100))
    for _ in range(200):
        for seconds in [1.0] * 8 + [5.0] * 2:  # a fifth is slow, its hedges are fast
            await policy(Attempts((seconds, "ok"), (0.25, "ok")))()
    assert policy.snapshot()["delay"] >= 5


@pytest.mark.parametrize(
    "outcomes",
    [
        [(0.5, OSError("reset"))],
        [(0.5, OSError()), (0.5, "second")],
        [(0.5, RateLimitExceededError())],
        [(0.5, asyncio.CancelledError())],
    ],
)
async def test_a_first_attempt_that_failed_says_nothing_about_latency(outcomes: list[Any]) -> None:
    policy = hedge(Percentile(50, initial=3, minimum_calls=1))
    task = asyncio.create_task(policy(Attempts(*outcomes))())
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() or task.result() == "second"
    assert policy.snapshot()["samples"] == 0


async def test_t2_a_cancelled_call_says_nothing_about_latency() -> None:
    policy = hedge(Percentile(50, initial=3, minimum_calls=1))
    task = asyncio.create_task(policy(Attempts((FOREVER, "never")))())
    await asyncio.sleep(10)
    task.cancel()
    await asyncio.wait([task])
    assert policy.snapshot()["samples"] == 0


# --- Events, the switch, configuration ---


def told(events: list[Event]) -> list[tuple[str, dict[str, object]]]:
    assert {event.policy for event in events} <= {"hedge"}
    return [(event.kind, dict(event.attributes)) for event in events]


async def test_it_tells_of_attempts_that_begin_and_of_a_hedge_that_wins(events: list[Event]) -> None:
    attempts = Attempts((5, OSError()), (FOREVER, "never"), (1, "third"))
    assert await hedge(2, max_hedges=2, name="search")(attempts)() == "third"
    assert told(events) == [
        ("hedge.started", {"attempt": 2, "reason": "delay"}),
        ("hedge.started", {"attempt": 3, "reason": "delay"}),
        ("hedge.won", {"attempt": 3}),
    ]
    assert [event.at for event in events] == [2, 4, 5]
    assert {event.name for event in events} == {"search"}


async def test_it_tells_of_attempts_that_begin_because_one_failed(events: list[Event]) -> None:
    assert await hedge(2)(Attempts((1, OSError()), (1, "second")))() == "second"
    assert told(events) == [
        ("hedge.started", {"attempt": 2, "reason": "failed"}),
        ("hedge.won", {"attempt": 2}),
    ]


async def test_it_tells_nothing_of_a_win_where_there_is_none(events: list[Event]) -> None:
    assert await hedge(1)(Attempts((5, "first")))() == "first"
    with pytest.raises(OSError, match="reset"):
        await hedge(1)(Attempts((0, OSError("reset"))))()
    with pytest.raises(GeneratorExit):
        await hedge(1)(Attempts((5, "late"), (1, GeneratorExit())))()
    assert {kind for kind, _ in told(events)} == {"hedge.started"}


async def test_a_suppressed_hedge_is_no_event(events: list[Event]) -> None:
    await hedge(1, budget=RetryBudget(ratio=0, min_per_second=0))(Attempts((5, "first")))()
    assert await timeout(9)(hedge(9)(Attempts((5, "first"))))() == "first"
    assert events == []


async def test_b15_nothing_listens_after_the_call_and_a_broken_listener_does_no_harm() -> None:
    unsubscribe = subscribe(lambda event: 1 / 0)
    try:
        assert await hedge(1)(Attempts((FOREVER, "slow"), (1, "fast")))() == "fast"
    finally:
        unsubscribe()
    timers: Any = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert all(each.cancelled() for each in timers)


async def test_switched_off_the_function_runs_in_the_caller_s_own_task() -> None:
    attempts = Attempts((5, "first"))
    policy = hedge(1)
    decorated = policy(attempts)
    policy.enabled = False
    assert await decorated() == "first"
    policy.enabled = True
    with inactive():
        assert await decorated() == "first"
    assert attempts.started == [0, 5]
    assert await policy(asyncio.sleep)(0, "x") == "x"


async def test_a_call_that_began_is_hedged_to_its_end() -> None:
    policy = hedge(1)
    attempts = Attempts((FOREVER, "slow"), (1, "fast"))
    task = asyncio.create_task(policy(attempts)())
    await settle()
    policy.enabled = False
    assert await task == "fast"


async def test_t24_overlapping_calls_share_nothing() -> None:
    policy = hedge(1)

    @policy
    async def call(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return name

    tasks = [asyncio.create_task(call(str(number), number / 3)) for number in range(12)]
    assert await asyncio.gather(*tasks) == [str(number) for number in range(12)]


async def test_it_hedges_whatever_can_be_awaited() -> None:
    def future(number: int) -> "asyncio.Future[int]":
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(number)
        return answer

    assert await hedge(1)(lambda number: future(number))(5) == 5
    assert await hedge(1)(functools.partial(asyncio.sleep, 0, "x"))() == "x"
    assert await hedge(1).call(asyncio.sleep, 3, "y") == "y"


def test_it_shows_its_arguments() -> None:
    def half_a_second(*args: object) -> float:
        return 0.5

    budget = RetryBudget(ratio=0.5)
    assert repr(hedge(0.5)) == "hedge(0.5)"
    assert repr(hedge(Percentile(95), max_hedges=2)) == "hedge(Percentile(95), max_hedges=2)"
    assert repr(hedge(1, budget=budget)) == "hedge(1, budget=RetryBudget(ratio=0.5))"
    assert "half_a_second" in repr(hedge(half_a_second))
    policy = hedge(timedelta(seconds=1), name="search")
    assert isinstance(policy, Hedge)
    assert (policy.kind, policy.name, policy.has_state) == ("hedge", "search", True)
    assert policy.config.delay == 1
    assert policy.config.max_hedges == 1
    assert policy.config.budget is None
    with pytest.raises(AttributeError):
        policy.config.delay = 2  # type: ignore[misc]


async def test_its_state_is_that_of_percentile_and_budget() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1)
    policy = hedge(0.5, budget=budget)
    await policy(Attempts((1, "ok")))()
    assert policy.snapshot() == {"delay": 0.5, "samples": 0, "budget": budget.snapshot(now())}
    assert budget.snapshot(now())["retries"] == 1
    policy.reset()
    assert budget.snapshot(now())["retries"] == 0
    assert hedge(lambda: 1).snapshot() == {"delay": None, "samples": 0, "budget": None}
    hedge(1).reset()


@pytest.mark.parametrize("wrong", [None, "1", -1, -0.001, float("nan"), float("inf"), True, [1], float])
def test_a_wrong_delay_is_told(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="^delay must be .*, got") as caught:
        hedge(wrong)
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("wrong", [None, "1", 0, -1, 1.0, True])
def test_a_wrong_max_hedges_is_told(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="^max_hedges must be .* of 1 or more, got"):
        hedge(1, max_hedges=wrong)


@pytest.mark.parametrize("wrong", [0.2, "default", RetryBudget, True])
def test_a_wrong_budget_is_told(wrong: Any) -> None:
    with pytest.raises(TypeError, match="^budget must be a RetryBudget or None, got"):
        hedge(1, budget=wrong)


@pytest.mark.parametrize("name", [5, ""])
def test_a_wrong_name_is_told(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="name must be"):
        hedge(1, name=name)


def test_it_needs_a_delay() -> None:
    with pytest.raises(TypeError):
        hedge()  # type: ignore[call-arg]
