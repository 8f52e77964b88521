"""`retry` as a block: it behaves as the decorator does."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from resilience import (
    CallTimeoutError,
    CircuitBreakerOpenError,
    Event,
    Retry,
    RetryBudget,
    RetryExhaustedError,
    deadline,
    inactive,
    retry,
    timeout,
)
from resilience._deadline import innermost
from tests.support.virtual_time import now


async def as_block(policy: Retry, function: Callable[[], Any]) -> Any:
    async for attempt in policy.attempts():
        with attempt:
            value = await function()
            attempt.set_result(value)
    return value


async def as_decorator(policy: Retry, function: Callable[[], Any]) -> Any:
    @policy
    async def decorated() -> Any:
        return await function()

    return await decorated()


CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "success": ({}, ["value"]),
    "later success": ({}, [ConnectionError(), ConnectionError(), "value"]),
    "exhausted": ({}, [ConnectionError()]),
    "one attempt": ({"attempts": 1}, [ConnectionError()]),
    "not retried": ({"on": KeyError}, [ConnectionError()]),
    "not retried later": ({"on": ConnectionError}, [ConnectionError(), KeyError()]),
    "rejected": ({}, [CircuitBreakerOpenError()]),
    "wrapped": ({"wrap": True}, [ConnectionError()]),
    "value": ({"on_result": lambda value: value < 3}, [1, 2, 3]),
    "value never right": ({"on_result": lambda value: True}, [1, 2, 3, 4]),
    "value never right, wrapped": ({"on_result": lambda value: True, "wrap": True}, [1]),
    "no time": ({"deadline": 3.5, "wait": 2, "attempts": 9}, [ConnectionError()]),
    "cut off": ({"deadline": 3.5, "wait": 1, "attempts": 9}, [ConnectionError(), 100.0]),
    "cut off at once": ({"deadline": 3.5}, [100.0]),
    "budget": ({"budget": lambda: RetryBudget(0, 0.1, 10)}, [ConnectionError()]),
    "strategies": (
        {"wait": lambda state: state.attempt_number, "stop": lambda state: state.seconds_since_start > 4},
        [ConnectionError()],
    ),
    "broken": ({"on": lambda error: 1 / 0}, [ConnectionError()]),
    "cancelled": ({}, [asyncio.CancelledError()]),
    "exit": ({}, [GeneratorExit()]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_t14_the_block_does_what_the_decorator_does(
    case: tuple[dict[str, Any], list[Any]], events: list[Event]
) -> None:
    options, outcomes = case
    seen: list[Any] = []
    for form in (as_decorator, as_block):
        calls: list[float] = []
        began = now()

        async def function() -> Any:
            calls.append(now() - began)  # noqa: B023
            outcome = outcomes[min(len(calls), len(outcomes)) - 1]  # noqa: B023
            if isinstance(outcome, float):
                await asyncio.sleep(outcome)
            if isinstance(outcome, BaseException):
                outcome.__notes__ = []
                outcome.__cause__ = None
                raise outcome
            return outcome

        made = {name: each() if name == "budget" else each for name, each in options.items()}
        policy = retry(**{"wait": 1, "name": "fetch", **made})
        result: Any
        try:
            result = await form(policy, function)
        except BaseException as error:
            result = (type(error), str(error), list(getattr(error, "__notes__", ())), error.__cause__)
        told = [(each.kind, each.at - began, dict(each.attributes)) for each in events]
        seen.append((result, calls, now() - began, told, policy.snapshot()["budget"]["retries"]))
        events.clear()
        assert deadline() is None
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(20 - now() % 20)
    assert seen[0] == seen[1]


async def test_attempts_are_numbered() -> None:
    numbers: list[int] = []
    async for attempt in retry(wait=0).attempts():
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise ConnectionError
    assert numbers == [1, 2, 3]


async def test_return_inside_the_block(events: list[Event]) -> None:
    async def fetch() -> str:
        async for attempt in retry(wait=0, deadline=5).attempts():
            with attempt:
                if attempt.number < 2:
                    raise ConnectionError
                return "value"
        raise AssertionError

    assert await fetch() == "value"
    assert innermost.get() is None
    assert [event.kind for event in events] == ["retry.scheduled", "retry.succeeded"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("where", ["inside", "after"])
async def test_break_in_the_middle_leaves_nothing_behind(number: int, where: str) -> None:
    policy = retry(wait=0.5, deadline=5)
    seen: list[int] = []
    async for attempt in policy.attempts():
        with attempt:
            seen.append(attempt.number)
            if attempt.number == number and where == "inside":
                break
            raise ConnectionError
        if attempt.number == number:
            break
    assert seen == list(range(1, number + 1))
    assert innermost.get() is None
    assert deadline() is None
    await asyncio.sleep(100)  # no timer is left that would cancel this
    assert asyncio.current_task().cancelling() == 0


async def test_an_error_outside_of_the_block_is_not_retried() -> None:
    loops = 0
    with pytest.raises(ConnectionError):  # noqa: PT012
        async for attempt in retry(wait=0, deadline=5).attempts():
            loops += 1
            with attempt:
                pass
            raise ConnectionError
    assert loops == 1
    assert innermost.get() is None


async def test_the_deadline_is_seen_in_the_block_only() -> None:
    seen: list[float | None] = []
    with pytest.raises(ConnectionError):  # noqa: PT012
        async for attempt in retry(3, wait=2, deadline=10).attempts():
            assert deadline() is None
            with attempt:
                seen.append(deadline())
                raise ConnectionError
    assert seen == [10, 8, 6]
    assert deadline() is None


async def test_an_async_predicate_that_hangs_is_cut_off() -> None:
    error = ConnectionError()

    async def hang(_: Exception) -> bool:
        await asyncio.sleep(100)
        return True

    with pytest.raises(CallTimeoutError) as caught:  # noqa: PT012
        async for attempt in retry(on=hang, deadline=5).attempts():
            with attempt:
                raise error
    assert now() == 5
    assert caught.value.__cause__ is error
    assert asyncio.current_task().cancelling() == 0


async def test_concurrent_blocks_of_one_policy_are_cut_off_each_at_its_time() -> None:
    policy = retry(9, wait=1, deadline=5, budget=None)

    async def work(start: float, first: float) -> float:
        await asyncio.sleep(start)
        with contextlib.suppress(CallTimeoutError):
            async for attempt in policy.attempts():
                with attempt:
                    if attempt.number == 1:
                        await asyncio.sleep(first)
                        raise ConnectionError
                    await asyncio.sleep(100)
        return now()

    ends = await asyncio.gather(work(0, 3), work(1, 0), work(2, 1), work(2.5, 100))
    assert ends == [5, 6, 7, 7.5]


async def test_a_block_leaves_no_timer_behind() -> None:
    policy = retry(wait=0, deadline=1000)
    for _ in range(50):
        async for attempt in policy.attempts():
            with attempt:
                if attempt.number < 2:
                    raise ConnectionError
    left = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    assert left == []


async def test_switched_off_it_runs_once_and_keeps_out() -> None:
    policy = retry(wait=0, deadline=5)
    for off in ("policy", "process"):
        policy.enabled = off != "policy"
        numbers: list[int] = []
        with contextlib.ExitStack() as stack:
            if off == "process":
                stack.enter_context(inactive())
            with pytest.raises(ConnectionError) as caught:  # noqa: PT012
                async for attempt in policy.attempts():
                    with attempt:
                        numbers.append(attempt.number)
                        assert deadline() is None
                        raise ConnectionError
            async for attempt in policy.attempts():
                with attempt:
                    numbers.append(attempt.number)
        assert numbers == [1, 1]
        assert not hasattr(caught.value, "__notes__")


async def test_an_attempt_that_is_not_entered_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match="with attempt"):
        async for _ in retry().attempts():
            pass


@pytest.mark.parametrize("options", [{}, {"deadline": 5}])
async def test_an_attempt_is_for_one_block(options: Any) -> None:
    for nested in (True, False):
        with pytest.raises(RuntimeError, match="an attempt is for one block"):  # noqa: PT012
            async for attempt in retry(1, **options).attempts():
                with attempt:
                    if nested:
                        with attempt:
                            pass
                with attempt:
                    pass
        assert innermost.get() is None
        await asyncio.sleep(100)  # no timer is left that would cancel this


async def test_t14_a_stop_async_iteration_of_the_block_does_not_pass_for_the_end_of_the_loop() -> None:
    async def nothing() -> AsyncIterator[int]:
        return
        yield

    entered = 0
    with pytest.raises(RuntimeError, match="raised StopAsyncIteration") as caught:  # noqa: PT012
        async for attempt in retry(2, wait=0).attempts():
            with attempt:
                entered += 1
                await anext(nothing())
    assert entered == 2
    assert isinstance(caught.value.__cause__, StopAsyncIteration)
    assert caught.value.__cause__.__notes__ == ["gave up after 2 attempts in 0 s: no attempts left"]


async def test_a_block_that_tells_no_value_is_not_judged() -> None:
    judged: list[object] = []
    numbers: list[int] = []
    async for attempt in retry(wait=0, on_result=judged.append).attempts():
        with attempt:
            numbers.append(attempt.number)
    assert (numbers, judged) == ([1], [])


async def test_one_loop_for_each_attempts() -> None:
    attempts = retry().attempts()
    async for attempt in attempts:
        with attempt:
            pass
    with pytest.raises(RuntimeError, match=r"^attempts\(\) is for one loop"):
        async for _ in attempts:
            pass
    with pytest.raises(StopAsyncIteration):
        await anext(attempts)


async def test_after_the_end_it_stays_at_its_end() -> None:
    attempts = retry(1).attempts()
    attempt = await anext(attempts)
    with attempt:
        raise ConnectionError
    with pytest.raises(ConnectionError):
        await anext(attempts)
    with pytest.raises(StopAsyncIteration):
        await anext(attempts)


@pytest.mark.parametrize("options", [{}, {"deadline": 1000}])
async def test_a_cancellation_at_any_moment_is_neutral(options: Any) -> None:
    async def is_worth_it(error: Exception) -> bool:
        await asyncio.sleep(0)
        return True

    for turns in range(40):
        budget = RetryBudget(0, 100, 10)
        policy = retry(5, on=is_worth_it, wait=1, budget=budget, **options)
        calls: list[float] = []

        async def work() -> str:
            async for attempt in policy.attempts():  # noqa: B023
                with attempt:
                    calls.append(now())  # noqa: B023
                    await asyncio.sleep(0.5)
                    if attempt.number < 3:
                        raise ConnectionError
                    return "value"
            raise AssertionError

        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0.1)
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        if task.done():
            assert await task == "value"
            continue
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert budget.snapshot(now())["retries"] == max(0, len(calls) - 1)
        begun = len(calls)
        await asyncio.sleep(10)
        assert len(calls) == begun


@pytest.mark.parametrize("options", [{}, {"deadline": 5}])
async def test_t8_an_async_generator_that_is_closed_in_a_block(options: Any, events: list[Event]) -> None:
    ended: list[type[BaseException] | None] = []

    async def items() -> AsyncIterator[int]:
        async for attempt in retry(wait=0, **options).attempts():
            with attempt:
                try:
                    yield attempt.number
                except BaseException as error:
                    ended.append(type(error))
                    raise

    generator = items()
    assert await anext(generator) == 1
    await generator.aclose()
    other = items()
    assert await anext(other) == 1
    await asyncio.create_task(other.aclose())  # as the loop does with those it finds
    assert ended == [GeneratorExit, GeneratorExit]
    assert events == []
    await asyncio.sleep(100)
    assert asyncio.current_task().cancelling() == 0


async def test_a_generator_that_is_left_open_does_not_keep_its_deadline_on_the_caller() -> None:
    async def items() -> AsyncIterator[int]:
        async for attempt in retry(deadline=5).attempts():
            with attempt:
                yield attempt.number

    @timeout(10)
    async def begin() -> AsyncIterator[int]:
        generator = items()
        assert await anext(generator) == 1
        assert deadline() == 5
        return generator

    generator = await begin()
    assert deadline() is None
    await generator.aclose()
    assert deadline() is None


async def test_a_generator_that_ends_in_a_call_takes_no_deadline_from_it() -> None:
    async def items() -> AsyncIterator[int]:
        async for attempt in retry(deadline=20).attempts():
            with attempt:
                yield attempt.number

    generator = items()

    @timeout(10)
    async def end() -> float | None:
        await generator.aclose()
        return deadline()

    assert await anext(generator) == 1
    assert await end() == 10
    assert deadline() is None


@pytest.mark.parametrize("leaves_by", ["break", "return"])
async def test_t34_a_loop_that_is_left_after_its_result_frees_the_error(leaves_by: str) -> None:
    refs: list[weakref.ref[BaseException]] = []

    class TrackedError(Exception):
        pass

    async def block() -> None:
        async for attempt in retry(wait=0, on_result=bool).attempts():
            with attempt:
                if attempt.number == 1:
                    error = TrackedError()
                    refs.append(weakref.ref(error))
                    try:
                        raise error
                    finally:
                        del error
                attempt.set_result(0)
                if leaves_by == "return":
                    return
                break

    gc.collect()
    gc.disable()
    try:
        await block()
        assert [ref() for ref in refs] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "options", [{}, {"deadline": 5}, {"wrap": True}, {"on": KeyError}, {"attempts": 9}]
)
async def test_t34_errors_are_freed_without_the_garbage_collector(options: Any) -> None:
    refs: list[weakref.ref[BaseException]] = []

    class TrackedError(Exception):
        pass

    async def work() -> None:
        async for attempt in retry(**{"wait": 0, **options}).attempts():
            with attempt:
                if attempt.number < 5:
                    error = TrackedError()
                    refs.append(weakref.ref(error))
                    try:
                        raise error
                    finally:
                        del error

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(TrackedError, RetryExhaustedError):
            await work()
        assert refs
        assert [ref() for ref in refs] == [None] * len(refs)
    finally:
        gc.enable()


def test_t64_three_loops_one_after_another() -> None:
    policy = retry(wait=0.001, deadline=60)

    async def work() -> int:
        async for attempt in policy.attempts():
            with attempt:
                if attempt.number < 3:
                    raise ConnectionError
                return attempt.number
        raise AssertionError

    assert [asyncio.run(work()) for _ in range(3)] == [3, 3, 3]


async def test_a_deadline_needs_a_task() -> None:
    attempts = retry(deadline=5).attempts()
    loop = asyncio.get_running_loop()
    problem: list[Exception] = []

    def outside_of_any_task() -> None:
        coroutine = attempts.__anext__()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            try:
                stop.value.__enter__()
            except RuntimeError as error:
                problem.append(error)

    loop.call_soon(outside_of_any_task)
    await asyncio.sleep(0)
    assert "must run in a task" in str(problem[0])
