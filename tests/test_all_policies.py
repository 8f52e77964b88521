"""What holds for every policy alike: tasks, threads, loops, cancellation, the switch, overlapping calls."""

import asyncio
import functools
import gc
import inspect
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    Percentile,
    Policy,
    RetryBudget,
    adaptive_throttle,
    bulkhead,
    cached,
    circuit_breaker,
    fallback,
    hedge,
    inactive,
    map_errors,
    policies,
    rate_limited,
    retry,
    stack,
    timeout,
    track_metrics,
)
from resilience.testing import inject_errors, inject_latency, inject_result
from tests.support.virtual_time import now, settle

serial = itertools.count()


class MappedError(Exception):
    """What map_errors turns a KeyError into."""


POLICIES: dict[str, Callable[[], Policy]] = {
    "retry": lambda: retry(attempts=3, on=LookupError, wait=0.01),
    "retry with deadline": lambda: retry(attempts=3, on=LookupError, wait=0.01, deadline=60),
    "window": lambda: rate_limited(100_000),
    "bucket": lambda: rate_limited(100_000, burst=100_000),
    "window by key": lambda: rate_limited(100_000, key=lambda *args, **kwargs: 1),
    "breaker": lambda: circuit_breaker(failure_threshold=1_000_000),
    "breaker over calls": lambda: circuit_breaker(failure_rate=1.0, window=1000, slow_call=100),
    "breaker by key": lambda: circuit_breaker(key=lambda *args, **kwargs: 1),
    "breaker over abandoned calls": lambda: circuit_breaker(10**6, abandoned_rate=1.0, minimum_calls=100),
    "throttle": lambda: adaptive_throttle(minimum_calls=1_000_000),
    "throttle by key": lambda: adaptive_throttle(minimum_calls=1_000_000, key=lambda *args, **kwargs: 1),
    "cached": lambda: cached(key=lambda *args, **kwargs: next(serial)),
    "metrics": lambda: track_metrics("test"),
    "errors": lambda: map_errors({KeyError: MappedError}),
    "timeout": lambda: timeout(60),
    "bulkhead": lambda: bulkhead(100_000),
    "bulkhead with a queue": lambda: bulkhead(20, max_queue=None),
    "bulkhead by key": lambda: bulkhead(20, max_queue=None, key=lambda *args, **kwargs: 1),
    "adaptive bulkhead": lambda: bulkhead(AdaptiveLimit(20), max_queue=None),
    "fallback": lambda: fallback(None, on=ZeroDivisionError),
    "hedge": lambda: hedge(60, budget=RetryBudget()),
    "hedge by percentile": lambda: hedge(Percentile(95, initial=60, minimum_calls=1000), max_hedges=2),
    "injected latency": lambda: inject_latency(0, enabled=True),
    "injected errors": lambda: inject_errors(KeyError, rate=0, enabled=True),
    "injected result": lambda: inject_result(None, rate=0, enabled=True),
    "six": lambda: stack(
        map_errors({KeyError: MappedError}),
        track_metrics("test"),
        cached(key=lambda *args, **kwargs: next(serial)),
        retry(attempts=3, on=LookupError, wait=0.01),
        circuit_breaker(failure_threshold=1_000_000),
        rate_limited(100_000),
    ),
}
every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES.keys())


async def echo(value: int = 0, *, steps: int = 1) -> int:
    """Return the value after some loop turns."""
    for _ in range(steps):
        await asyncio.sleep(0)
    return value


@every_policy
async def test_t73_the_wrapper_looks_like_the_function(make: Callable[[], Policy]) -> None:
    policy = make()
    decorated = timeout(100)(policy(echo))
    assert inspect.iscoroutinefunction(decorated)
    assert inspect.signature(decorated) == inspect.signature(echo)
    assert decorated.__doc__ == echo.__doc__
    assert inspect.unwrap(decorated) is echo
    assert policies(decorated)
    assert await decorated(5, steps=2) == 5


@every_policy
async def test_methods_partials_and_call(make: Callable[[], Policy]) -> None:
    class Service:
        def __init__(self, value: int) -> None:
            self.value = value

        @make()
        async def get(self, add: int) -> int:
            return self.value + add

    assert (await Service(1).get(2), await Service(3).get(4)) == (3, 7)
    policy = make()
    assert await policy.call(echo, 6) == 6
    assert await policy(functools.partial(echo, 7))() == 7


@every_policy
async def test_the_arguments_arrive_as_they_were_given(make: Callable[[], Policy]) -> None:
    async def show(*args: object, **kwargs: object) -> object:
        return args, kwargs

    policy = make()
    decorated = policy(show)
    expected = ((1, None), {"steps": 2, "key": None})
    assert await decorated(1, None, steps=2, key=None) == expected
    assert await policy.call(show, 1, None, steps=2, key=None) == expected
    with inactive():
        assert await decorated(1, None, steps=2, key=None) == expected
    policy.enabled = False
    assert await decorated(1, None, steps=2, key=None) == expected


@every_policy
async def test_switched_off_the_function_runs_alone(make: Callable[[], Policy]) -> None:
    policy = make()
    calls: list[int] = []

    @policy
    async def fail() -> None:
        calls.append(1)
        raise KeyError("real")

    policy.enabled = False
    with pytest.raises(KeyError) as caught:
        await fail()
    assert not getattr(caught.value, "__notes__", [])
    policy.enabled = True
    with inactive(), pytest.raises(KeyError):
        await fail()
    assert len(calls) == 2
    assert now() == 0


@every_policy
async def test_t17_calls_overlap(make: Callable[[], Policy]) -> None:
    running = 0
    most = 0
    go_on = asyncio.Event()

    @make()
    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1
        return number

    tasks = [asyncio.create_task(work(number)) for number in range(20)]
    await settle()
    go_on.set()
    assert await asyncio.gather(*tasks) == list(range(20))
    assert most == 20


@every_policy
@pytest.mark.parametrize("turns", range(14))
async def test_cancelled_in_any_turn_a_call_ends_and_the_next_one_works(
    make: Callable[[], Policy], turns: int
) -> None:
    policy = make()
    started: list[str] = []

    @policy
    async def work(name: str, failures: int) -> str:
        started.append(name)
        await asyncio.sleep(0)
        if started.count(name) <= failures:
            raise LookupError(name)
        await asyncio.sleep(0)
        return name

    task = asyncio.create_task(work("cancelled", 1))
    await settle(turns)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=1)
    assert done == {task}
    before = started.count("cancelled")
    await settle()
    assert started.count("cancelled") == before, "it went on after its cancellation"
    assert await work("next", 0) == "next"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@every_policy
async def test_a_cancellation_is_never_swallowed(make: Callable[[], Policy]) -> None:
    @make()
    async def forever() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(forever())
    await settle()
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@every_policy
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes_untouched(
    make: Callable[[], Policy], error: type[BaseException]
) -> None:
    calls: list[int] = []

    @make()
    async def leave() -> None:
        calls.append(1)
        raise error("out")

    async def main() -> str:
        try:
            await leave()
        except error as caught:
            return str(caught)
        raise AssertionError

    with_tasks = {POLICIES[each] for each in ("cached", "six", "hedge", "hedge by percentile")}
    if make in with_tasks and error is not GeneratorExit:
        # It ends the task of the shared load or of the attempt, and with it the loop, as in every task.
        with pytest.raises(error, match="out"):
            asyncio.run(main())
    else:
        assert asyncio.run(main()) == "out"
    assert len(calls) == 1


@every_policy
async def test_of_two_overlapping_calls_the_older_may_end_last(make: Callable[[], Policy]) -> None:
    for cancelled in (False, True):
        policy = make()
        gates = {"old": asyncio.Event(), "new": asyncio.Event()}
        decorated = policy(functools.partial(wait_for_gate, gates))
        old = asyncio.create_task(decorated("old"))
        await settle()
        new = asyncio.create_task(decorated("new"))
        await settle()
        gates["new"].set()
        assert await new == "new"
        if cancelled:
            old.cancel()
            await asyncio.wait([old])
            assert old.cancelled()
        else:
            gates["old"].set()
            assert await old == "old"
        assert await policy.call(echo, 3) == 3


async def wait_for_gate(gates: dict[str, asyncio.Event], name: str) -> str:
    await gates[name].wait()
    return name


@every_policy
def test_t64_three_loops_one_after_another(make: Callable[[], Policy]) -> None:
    policy = make()
    decorated = policy(echo)

    async def main() -> list[int]:
        return await asyncio.gather(*(decorated(number, steps=3) for number in range(50)))

    for _ in range(3):
        assert asyncio.run(main()) == list(range(50))


@every_policy
def test_t64_four_threads_with_a_loop_each(make: Callable[[], Policy]) -> None:
    decorated = make()(echo)
    together = threading.Barrier(4)
    results: list[Any] = []

    async def main() -> int:
        together.wait()
        sums = 0
        for _ in range(20):
            sums += sum(await asyncio.gather(*(decorated(number) for number in range(50))))
        return sums

    def run() -> None:
        try:
            results.append(asyncio.run(main()))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert results == [20 * sum(range(50))] * 4


@every_policy
def test_t34_an_error_is_freed_with_its_last_reference(make: Callable[[], Policy]) -> None:
    import weakref

    class FailureError(LookupError):
        """Can be weakly referenced."""

    @make()
    async def fail() -> None:
        raise FailureError

    async def main() -> "weakref.ref[BaseException]":
        try:
            await fail()
        except Exception as error:
            return weakref.ref(error if isinstance(error, FailureError) else error.__cause__)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main())() is None, "something keeps the error alive until a garbage collection"
    finally:
        gc.enable()


@every_policy
def test_t69_no_policy_starts_a_thread(make: Callable[[], Policy]) -> None:
    before = threading.active_count()
    decorated = make()(echo)
    assert asyncio.run(decorated(3)) == 3
    assert threading.active_count() == before


def test_every_policy_shows_itself_in_one_line() -> None:
    for name, make in POLICIES.items():
        assert "\n" not in repr(make()), name
