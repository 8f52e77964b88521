"""`hedge` and cancellation: no attempt outlives its call, and no cancellation is swallowed."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from resilience import CallTimeoutError, Percentile, RetryBudget, hedge, timeout
from tests.support.attempts import Attempts
from tests.support.virtual_time import now, settle

FOREVER = 1e6


class Steps:
    """A function whose attempts each take some loop turns, and some more to die."""

    def __init__(self, *turns: int, outcome: Callable[[int], object] = int, dying: int = 0, deaf: int = 0):
        self.turns = turns
        self.outcome = outcome
        self.dying = dying
        self.deaf = deaf
        self.started = 0
        self.running: set[int] = set()

    async def __call__(self) -> object:
        self.started += 1
        number = self.started
        self.running.add(number)
        deaf = self.deaf
        left = self.turns[min(number, len(self.turns)) - 1]
        try:
            while left:
                left -= 1
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    if not deaf:
                        raise
                    deaf -= 1
        except asyncio.CancelledError:
            for _ in range(self.dying):
                await asyncio.sleep(0)
            raise
        finally:
            self.running.remove(number)
        return self.outcome(number)


def failure(number: int) -> object:
    raise OSError(number)


def only_last(number: int) -> object:
    return number if number == 3 else failure(number)


SHAPES: dict[str, Callable[[], Steps]] = {
    "all succeed": lambda: Steps(12),
    "the first is slow": lambda: Steps(40, 6),
    "the last is fast": lambda: Steps(40, 40, 5),
    "all fail": lambda: Steps(8, outcome=failure),
    "all fail at once": lambda: Steps(0, outcome=failure),
    "only the last succeeds": lambda: Steps(6, 9, 7, outcome=only_last),
    "they die slowly": lambda: Steps(12, dying=5),
    "the losers die slowly": lambda: Steps(40, 6, dying=7),
    "they are deaf once": lambda: Steps(12, deaf=1),
    "deaf and slow": lambda: Steps(30, 9, deaf=1, dying=4),
    "they fail while they die": lambda: Steps(12, 14, 9, dying=3, outcome=failure),
}
every_shape = pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES.keys())


@every_shape
@pytest.mark.parametrize("max_hedges", [1, 2])
async def test_t9_cancelled_in_any_turn_every_attempt_ends_before_the_call(
    make: Callable[[], Steps], max_hedges: int
) -> None:
    turns, was_running = 0, True
    while was_running:
        steps = make()
        at_the_end: list[tuple[set[int], int]] = []

        def note(_: object, steps: Steps = steps, seen: list[tuple[set[int], int]] = at_the_end) -> None:
            seen.append((set(steps.running), steps.started))

        task = asyncio.create_task(hedge(0, max_hedges=max_hedges)(steps)())
        task.add_done_callback(note)
        await settle(turns)
        before = steps.started
        was_running = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == was_running, f"swallowed after {turns} turns"
        await settle(60)
        assert at_the_end == [(set(), steps.started)], f"something outlived its call, {turns} turns"
        assert steps.started <= before + 1, "more began than what was about to begin"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        turns += 1
    assert turns > 2


@every_shape
@pytest.mark.parametrize("apart", [1, 2, 5])
async def test_t9_each_further_cancellation_reaches_the_attempts_and_none_is_swallowed(
    make: Callable[[], Steps], apart: int
) -> None:
    for turns in range(1, 20):
        steps = make()
        task = asyncio.create_task(hedge(0, max_hedges=2)(steps)())
        await settle(turns)
        was_running = task.cancel("first")
        await settle(apart)
        task.cancel("second")
        await asyncio.wait([task])
        assert steps.running == set()
        assert not was_running or task.cancelled()
        await settle(60)
        assert steps.running == set()


async def test_t9_an_outer_cancellation_cancels_and_awaits_all_of_three_attempts() -> None:
    attempts = Attempts((FOREVER, "never"), slow_to_die=3)
    task = asyncio.create_task(hedge(1, max_hedges=2)(attempts)())
    await asyncio.sleep(5)
    assert attempts.running == {1, 2, 3}
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError, match="because"):
        await task
    assert attempts.running == set()
    assert sorted(attempts.cancelled) == [1, 2, 3]
    assert attempts.started == [0, 1, 2]
    assert now() == 5


async def test_t9_all_attempts_are_cancelled_at_once_not_one_after_the_other() -> None:
    cancelled_at: list[float] = []

    @hedge(1, max_hedges=2)
    async def call() -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            cancelled_at.append(now())
            await asyncio.sleep(10)

    task = asyncio.create_task(call())
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.wait([task])
    assert cancelled_at == [5, 5, 5]
    assert now() == 15


async def test_the_winner_waits_for_losers_that_take_long() -> None:
    ended: list[float] = []

    @hedge(1)
    async def call() -> str:
        if now() == 1:
            return "fast"
        try:
            await asyncio.sleep(FOREVER)
        finally:
            await asyncio.sleep(4)
            ended.append(now())
        raise AssertionError

    assert await call() == "fast"
    assert ended == [5]
    assert now() == 5


async def test_a_loser_that_suppresses_its_cancellation_is_awaited_and_its_result_dropped() -> None:
    attempts = Attempts((10, "late"), (1, "fast"), deaf=1)
    assert await hedge(2)(attempts)() == "fast"
    assert now() == 10
    assert attempts.cancelled == []
    assert attempts.running == set()


async def test_cancelled_while_it_waits_for_losers_the_caller_is_cancelled() -> None:
    attempts = Attempts((10, "late"), (1, "fast"), deaf=1)
    task = asyncio.create_task(hedge(2)(attempts)())
    await asyncio.sleep(5)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert attempts.cancelled == [1], "the cancellation reached the deaf loser as well"
    assert now() == 5


async def test_many_cancellations_of_a_deaf_loser_do_no_harm() -> None:
    attempts = Attempts((10, "late"), (1, "fast"), deaf=sys.getrecursionlimit() + 10)
    task = asyncio.create_task(hedge(2)(attempts)())
    await asyncio.sleep(5)
    for _ in range(sys.getrecursionlimit() + 5):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled()
    assert now() == 10


@pytest.mark.parametrize("cancelled_first", [True, False])
@pytest.mark.parametrize("turns", range(6))
async def test_a_success_and_the_callers_cancellation_in_one_turn(
    cancelled_first: bool, turns: int
) -> None:
    answer = asyncio.get_running_loop().create_future()

    @hedge(1)
    async def call() -> str:
        return await asyncio.shield(answer)

    task = asyncio.create_task(call())
    await asyncio.sleep(3)
    if cancelled_first:
        was_running = task.cancel()
        await settle(turns)
        answer.set_result("ok")
    else:
        answer.set_result("ok")
        await settle(turns)
        was_running = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == was_running
    assert task.cancelled() or task.result() == "ok"


async def test_a_timeout_around_it_ends_all_attempts_and_awaits_them() -> None:
    attempts = Attempts((FOREVER, "never"), slow_to_die=3)
    with pytest.raises(CallTimeoutError):
        await timeout(5)(hedge(1, max_hedges=2)(attempts))()
    assert attempts.running == set()
    assert len(attempts.cancelled) == 3
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_the_error_of_a_loser_is_never_reported_as_never_retrieved() -> None:
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))

    @hedge(1, max_hedges=2)
    async def call() -> str:
        if now() == 2:
            return "third"
        try:
            await asyncio.sleep(FOREVER)
        finally:
            raise OSError("while dying")
        raise AssertionError

    assert await call() == "third"
    with pytest.raises(OSError, match="first"):
        await hedge(1)(Attempts((5, OSError("first")), (2, OSError("second"))))()
    task = asyncio.create_task(call())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    gc.collect()
    await settle()
    assert reports == []


class FailureError(Exception):
    """Can be weakly referenced."""


class LeavingError(BaseException):
    """Ends the call from whichever attempt it comes."""


@pytest.mark.parametrize(("kind", "count"), [(FailureError, 3), (LeavingError, 1)])
async def test_t34_all_errors_are_freed_with_the_last_reference(
    kind: type[BaseException], count: int
) -> None:
    errors: list[weakref.ref[BaseException]] = []

    @hedge(1, max_hedges=2)
    async def call() -> None:
        await asyncio.sleep(5)
        error = kind(len(errors))
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(kind, match="0") as caught:
            await call()
        del caught
        await settle()
        assert [error() for error in errors] == [None] * count
    finally:
        gc.enable()


async def test_an_attempt_that_somebody_cancels_before_it_begins_ends_the_call() -> None:
    async def function() -> None:
        raise AssertionError("never begun")

    task = asyncio.create_task(hedge(FOREVER)(function)())
    await asyncio.sleep(0)
    (attempt,) = asyncio.all_tasks() - {task, asyncio.current_task()}
    attempt.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert now() < 5


async def test_t8_a_call_that_is_closed_cancels_its_attempts() -> None:
    attempts = Attempts((FOREVER, "never"))
    call: Any = hedge(1)(attempts)()
    call.send(None)
    await settle()
    assert attempts.running == {1}
    call.close()
    await settle()
    assert attempts.running == set()
    assert attempts.cancelled == [1]
    timers: Any = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert all(each.cancelled() for each in timers)


async def test_t8_a_call_that_is_closed_while_it_waits_for_losers() -> None:
    attempts = Attempts((FOREVER, "slow"), (0, "fast"), slow_to_die=5)
    call: Any = hedge(0)(attempts)()
    waiting = call.send(None)
    while not attempts.cancelled:
        await asyncio.sleep(0)
        if waiting.done():
            waiting._asyncio_future_blocking = False
            waiting = call.send(None)
    call.close()
    await settle()
    assert attempts.running == set()


def test_t64_a_call_that_is_left_behind_by_its_loop_is_silent() -> None:
    reports: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, report: reports.append(report["message"]))

    @hedge(60)
    async def call() -> None:
        await asyncio.Event().wait()

    running: Any = call()

    async def begin() -> None:
        running.send(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(begin())
    loop.close()
    running.close()
    running = None
    gc.collect()  # an error in a finalizer would be a warning, and so an error
    assert reports == ["Task was destroyed but it is pending!"]


class Done(asyncio.Future[Any]):
    """What became of a coroutine that ran at once."""

    def set_name(self, name: object) -> None:
        """Be like a task."""


async def test_attempts_may_be_over_when_they_begin() -> None:
    loop = asyncio.get_running_loop()

    def run_at_once(_: object, coroutine: Any, **options: object) -> Any:
        done = Done(loop=loop)
        try:
            coroutine.send(None)
        except StopIteration as end:
            done.set_result(end.value)
        except OSError as error:
            done.set_exception(error)
        return done

    calls = 0

    @hedge(FOREVER, max_hedges=2)
    async def call(failures: int) -> int:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise OSError(calls)
        return calls

    loop.set_task_factory(run_at_once)
    try:
        assert await call(0) == 1
        calls = 0
        assert await call(2) == 3
        calls = 0
        with pytest.raises(OSError, match="1"):
            await call(3)
    finally:
        loop.set_task_factory(None)
    assert now() == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_it_works_with_eager_tasks() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    assert await hedge(1)(Attempts((FOREVER, "slow"), (1, "fast")))() == "fast"
    calls = 0

    @hedge(1, max_hedges=2)
    async def at_once() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError("reset")
        return "third"

    assert await at_once() == "third"
    calls = -9
    with pytest.raises(OSError, match="reset"):
        await at_once()
    loop.set_task_factory(None)


async def test_t3_a_cancelled_call_leaves_budget_and_percentile_as_they_were_but_for_its_hedges() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1)
    policy = hedge(Percentile(50, initial=1, minimum_calls=1), max_hedges=2, budget=budget)
    task = asyncio.create_task(policy(Attempts((FOREVER, "never")))())
    await asyncio.sleep(1.5)
    task.cancel()
    await asyncio.wait([task])
    assert policy.snapshot()["samples"] == 0
    assert budget.snapshot(now()) == {"calls": 1, "retries": 1, "retries_left": 9}
    await asyncio.sleep(5)
    assert budget.snapshot(now())["retries"] == 1
