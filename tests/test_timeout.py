"""`timeout` and `deadline()`: what counts as an expiry, who wins, and what is left behind."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from resilience import CallTimeoutError, Event, _clock, deadline, inactive, retry, stack, timeout
from resilience._deadline import Scope, TimeLimit, innermost
from tests.support.virtual_time import advance, now, run_virtually, settle


async def test_cuts_a_call_off_at_its_limit_and_awaits_its_end() -> None:
    ended_at = None

    @timeout(2)
    async def slow() -> None:
        nonlocal ended_at
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.5)
            ended_at = now()

    with pytest.raises(CallTimeoutError, match="cut off after 2 s") as caught:
        await slow()
    assert ended_at == 2.5
    assert caught.value.details == {
        "policy": "test_cuts_a_call_off_at_its_limit_and_awaits_its_end.<locals>.slow",
        "timeout": 2.0,
    }
    assert isinstance(caught.value, TimeoutError)
    assert asyncio.current_task().cancelling() == 0


async def test_a_call_in_time_keeps_its_result_and_its_error() -> None:
    @timeout(timedelta(seconds=1))
    async def call(error: Exception | None) -> str:
        await asyncio.sleep(0.5)
        if error:
            raise error
        return "done"

    assert await call(None) == "done"
    for error in (ValueError("mine"), TimeoutError("mine too")):
        with pytest.raises(type(error)) as caught:
            await call(error)
        assert caught.value is error


async def test_the_callers_cancellation_is_not_a_timeout() -> None:
    @timeout(5)
    async def slow() -> None:
        await asyncio.sleep(10)

    task = asyncio.create_task(slow())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 1


async def test_a_cancellation_in_the_same_turn_as_the_expiry_wins() -> None:
    @timeout(1)
    async def slow() -> None:
        await asyncio.sleep(10)

    for turns in range(5):
        task = asyncio.create_task(slow())
        await settle(2)
        asyncio.get_running_loop().call_later(1, task.cancel)
        for _ in range(turns):
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("result_first", [True, False])
async def test_t6_a_result_in_the_same_turn_as_the_expiry_wins(result_first: bool) -> None:
    limit = timeout(1)
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    @limit
    async def wait() -> str:
        return await answer

    if result_first:
        loop.call_later(1, answer.set_result, "in time")
    task = asyncio.create_task(wait())
    await settle(2)
    if not result_first:
        loop.call_later(1, answer.set_result, "in time")
    assert await task == "in time"
    assert now() == 1


async def test_of_nested_limits_the_one_that_expired_raises() -> None:
    outer, inner = timeout(5, name="outer"), timeout(2, name="inner")

    @outer
    @inner
    async def slow() -> None:
        await asyncio.sleep(10)

    with pytest.raises(CallTimeoutError, match="inner"):
        await slow()

    @timeout(1, name="outer")
    async def around() -> None:
        await inner.call(asyncio.sleep, 10)

    with pytest.raises(CallTimeoutError, match="outer"):
        await around()


async def test_nested_limits_that_expire_together_leave_no_cancellation_behind() -> None:
    @timeout(1, name="outer")
    async def outer() -> None:
        await timeout(1, name="inner").call(asyncio.sleep, 10)

    with pytest.raises(CallTimeoutError, match="outer"):
        await outer()
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(1)


async def test_a_function_that_ends_normally_after_its_cancellation_keeps_its_result() -> None:
    @timeout(1)
    async def stubborn() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "saved"
        raise AssertionError

    assert await stubborn() == "saved"
    assert asyncio.current_task().cancelling() == 0


async def test_an_error_during_the_cut_off_is_not_hidden() -> None:
    @timeout(1)
    async def failing() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise RuntimeError("while cleaning up")

    with pytest.raises(RuntimeError, match="cleaning up"):
        await failing()
    assert asyncio.current_task().cancelling() == 0


async def test_t28_zero_seconds_is_a_limit() -> None:
    with pytest.raises(CallTimeoutError):
        await timeout(0).call(asyncio.sleep, 1)
    assert now() < 0.001


async def test_deadline_is_the_nearest_open_one() -> None:
    seen: list[float | None] = []

    async def look() -> None:
        seen.append(deadline())

    @timeout(10)
    async def outer() -> None:
        await look()
        await asyncio.sleep(1)
        await timeout(3).call(look)
        await timeout(30).call(look)
        advance(20)
        await look()

    await look()
    await outer()
    await look()
    assert seen == [None, 10, 3, 9, 0.0, None]


async def test_a_task_that_outlives_its_scope_is_free_of_it() -> None:
    left: list[float | None] = []
    go_on = asyncio.Event()

    async def background() -> None:
        left.append(deadline())
        await go_on.wait()
        left.append(deadline())
        await timeout(3).call(look)

    async def look() -> None:
        left.append(deadline())

    @timeout(5)
    async def start() -> asyncio.Task[None]:
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        return task

    task = await start()
    go_on.set()
    await task
    assert left == [5, None, 3]


async def test_a_call_that_is_closed_from_elsewhere_takes_no_deadline_from_there() -> None:
    @timeout(5)
    async def hang() -> None:
        await asyncio.sleep(100)

    @timeout(10)
    async def close() -> float | None:
        call = hang()
        contextvars.Context().run(call.send, None)
        call.close()
        return deadline()

    assert await close() == 10


async def test_tasks_that_start_each_other_inside_of_limits_form_no_chain() -> None:
    scopes = weakref.WeakSet[Scope]()
    limit = timeout(5)
    kept: list[int] = []
    ended = asyncio.Event()

    async def link(number: int) -> None:
        @limit
        async def start_next() -> None:
            scopes.add(innermost.get())
            if number:
                asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(link(number - 1)))
            await settle(3)

        await start_next()
        if number == 0:
            gc.collect()
            kept.append(len(scopes))
            ended.set()

    await link(50)
    await ended.wait()
    await settle()
    assert kept[0] <= 3


async def test_calls_in_a_row_keep_no_more_than_the_last_one() -> None:
    scopes = weakref.WeakSet[Scope]()

    @timeout(5)
    async def outer() -> None:
        await inner()
        await inner()

    @timeout(3)
    async def inner() -> None:
        scopes.add(innermost.get())
        assert deadline() == 3

    for _ in range(20):
        await outer()
        assert deadline() is None
    gc.collect()
    assert len(scopes) == 1


async def test_under_limits_that_ended_one_by_one_the_outer_one_counts() -> None:
    seen: list[float | None] = []

    @timeout(1)
    async def short() -> None:
        seen.append(deadline())

    @timeout(5)
    async def long() -> None:
        await short()
        seen.append(deadline())
        await asyncio.create_task(short())
        seen.append(deadline())
        await asyncio.create_task(look())

    async def look() -> None:
        seen.append(deadline())

    await long()
    await look()
    assert seen == [1, 5, 1, 5, 5, None]


async def test_the_event_tells_of_the_expiry(events: list[Event]) -> None:
    with pytest.raises(CallTimeoutError):
        await timeout(2, name="slow").call(asyncio.sleep, 10)
    (event,) = events
    assert (event.kind, event.policy, event.name, event.at) == ("timeout.expired", "timeout", "slow", 2)
    assert event.attributes == {"seconds": 2}


async def test_switched_off_it_lets_calls_run() -> None:
    policy = timeout(1)
    policy.enabled = False
    await policy.call(asyncio.sleep, 3)
    policy.enabled = True
    with inactive():
        await policy.call(asyncio.sleep, 3)
    assert now() == 6


async def test_a_call_that_began_finishes_as_it_began() -> None:
    policy = timeout(1)
    task = asyncio.create_task(policy.call(asyncio.sleep, 3))
    await settle(1)
    policy.enabled = False
    with pytest.raises(CallTimeoutError):
        await task


async def test_many_calls_share_one_timer_and_leave_nothing() -> None:
    limit = TimeLimit(10)
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        scope = limit.open(now())
        scope.close()
    assert len(loop._scheduled) == 1
    (queue,) = limit._queues.values()
    assert not queue.scopes


async def test_calls_that_ended_do_not_delay_the_expiry_of_others() -> None:
    policy = timeout(2)
    ended: list[float] = []

    async def one(seconds: float) -> None:
        try:
            await policy.call(asyncio.sleep, seconds)
        except CallTimeoutError:
            ended.append(now())

    tasks = [asyncio.create_task(one(0.1))]
    await asyncio.sleep(0.5)
    tasks.append(asyncio.create_task(one(9)))
    await asyncio.sleep(0.25)
    tasks.append(asyncio.create_task(one(9)))
    await asyncio.wait(tasks)
    assert ended == [2.5, 2.75]


async def test_t63_a_clock_that_is_set_back_does_not_end_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = timeout(5)
    virtual = _clock.monotonic
    with monkeypatch.context() as patch:
        patch.setattr(_clock, "monotonic", lambda: virtual() + 1_700_000_000)  # frozen time
        began_before = asyncio.create_task(policy.call(asyncio.sleep, 1000))
        await asyncio.sleep(1)
    await asyncio.sleep(1)
    began_after = asyncio.create_task(policy.call(asyncio.sleep, 1000))
    await asyncio.wait([began_before, began_after])
    assert isinstance(began_before.exception(), CallTimeoutError)
    assert isinstance(began_after.exception(), CallTimeoutError)
    assert now() <= 2 * 5 + 1
    began = now()
    with pytest.raises(CallTimeoutError):
        await policy.call(asyncio.sleep, 1000)
    assert now() == began + 5


def test_t64_one_policy_serves_several_loops() -> None:
    policy = timeout(1)

    async def main() -> None:
        with pytest.raises(CallTimeoutError):
            await policy.call(asyncio.sleep, 5)

    for _ in range(3):
        run_virtually(main())
    gc.collect()
    assert len(policy._limit._queues) == 1


async def test_outside_a_task_it_says_so() -> None:
    @timeout(1)
    async def call() -> None: ...

    error: list[BaseException] = []

    def step() -> None:
        try:
            call().send(None)
        except RuntimeError as caught:
            error.append(caught)

    asyncio.get_running_loop().call_soon(step)
    await settle(2)
    assert "must run in a task" in str(error[0])


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_every_turn_it_leaves_nothing(turns: int) -> None:
    policy = timeout(1)

    @policy
    async def steps() -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    task = asyncio.create_task(steps())
    await settle(turns)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == (turns < 5)
    assert all(not queue.scopes for queue in policy._limit._queues.values())
    assert deadline() is None


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_bad_seconds(seconds: object) -> None:
    with pytest.raises(ValueError, match="seconds must be"):
        timeout(seconds)


@pytest.mark.parametrize("seconds", ["1", None, True, 1j])
def test_seconds_of_the_wrong_type(seconds: object) -> None:
    with pytest.raises(TypeError, match="seconds must be"):
        timeout(seconds)


def test_used_bare_it_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match=r"timeout needs its seconds, as in @timeout\(5\); got <function"):

        @timeout
        async def call() -> None: ...


async def test_of_many_nested_limits_the_nearest_counts_wherever_it_stands() -> None:
    async def left() -> float | None:
        return deadline()

    for seconds in ((1, 2, 3, 4), (4, 3, 2, 1), (3, 1, 4, 2), (3, 4, 2, 1)):
        limits = stack(*map(timeout, seconds), check=False)
        assert await limits(left)() == 1


async def test_a_task_that_outlives_the_inner_limit_is_still_under_the_outer_one() -> None:
    async def child() -> float | None:
        await asyncio.sleep(1)
        return deadline()

    @timeout(5)
    async def start() -> "asyncio.Task[float | None]":
        return asyncio.create_task(child())

    @timeout(10)
    async def work() -> float | None:
        return await (await start())

    assert await work() == 9


async def test_a_generator_that_is_left_open_takes_no_limit_away_from_its_caller() -> None:
    async def numbers() -> AsyncIterator[int]:
        async for attempt in retry(deadline=3).attempts():
            with attempt:
                yield 1

    left_open = numbers()

    @timeout(5)
    async def first() -> int:
        return await anext(left_open)

    @timeout(10)
    async def work() -> float | None:
        assert await first() == 1
        return deadline()

    assert await work() == 10
    assert deadline() is None
    await left_open.aclose()


def test_repr() -> None:
    assert repr(timeout(5)) == "timeout(5)"
