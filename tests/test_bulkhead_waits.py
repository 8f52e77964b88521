"""The waits of a bulkhead: how long, until which deadline, and how a cancellation ends them."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import freezegun
import pytest

import resilience
from resilience import (
    Bulkhead,
    BulkheadFullError,
    CallTimeoutError,
    Event,
    bulkhead,
    deadline,
    timeout,
)
from tests.support.bulkheads import Work, cancel, every_kind, free, pending_timers, start
from tests.support.virtual_time import advance, now, settle


@pytest.fixture
def work() -> Work:
    return Work()


# --- Waits ---


@every_kind
async def test_max_wait_ends_a_wait_exactly(make: Callable[..., Bulkhead], work: Work) -> None:
    policy = make(1, max_queue=None, max_wait=timedelta(seconds=2.5))
    guarded = policy(work)
    holder = start(guarded, "a")
    await asyncio.sleep(0.7)
    with pytest.raises(BulkheadFullError) as caught:
        await guarded("b")
    assert now() == 3.2
    assert caught.value.retry_after is None
    assert policy.snapshot()["rejected"] == 1
    waiting = start(guarded, "c")
    await asyncio.sleep(2.25)
    await work.end("a")
    assert work.running == ["c"]
    await asyncio.sleep(10)
    assert work.running == ["c"], "the time of its wait does not count any more"
    await work.end("c")
    assert await asyncio.gather(holder, waiting) == ["a", "c"]
    assert pending_timers() == 0
    free(policy)


@every_kind
async def test_max_wait_0_never_waits(make: Callable[..., Bulkhead], work: Work) -> None:
    policy = make(1, max_queue=None, max_wait=0)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    with pytest.raises(BulkheadFullError):
        await guarded("b")
    assert now() == 0
    await work.end("a")
    await holder
    free(policy)


@every_kind
async def test_the_deadline_ends_a_wait(
    make: Callable[..., Bulkhead], work: Work, events: list[Event]
) -> None:
    policy = make(1, max_queue=None, max_wait=60)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    limit = timeout(3)
    with pytest.raises(BulkheadFullError):
        await limit.call(guarded, "b")
    assert now() == 3
    with pytest.raises(BulkheadFullError):
        await timeout(100).call(guarded, "c")
    assert now() == 63
    reasons = [event.attributes["reason"] for event in events if event.kind == "bulkhead.rejected"]
    assert reasons == ["deadline", "max_wait"]
    await work.end("a")
    await holder
    free(policy)


@every_kind
async def test_a_wait_that_cannot_fit_is_refused_at_once(make: Callable[..., Bulkhead], work: Work) -> None:
    policy = make(1, max_queue=None)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()

    @timeout(1)
    async def late() -> None:
        advance(2)
        assert deadline() == 0
        await guarded("b")

    with pytest.raises(BulkheadFullError):
        await late()
    assert now() == 2
    assert policy.snapshot()["queued"] == 0

    @timeout(1)
    async def late_but_free() -> str:
        advance(2)
        task = asyncio.current_task()
        assert task is not None
        return await policy.call(asyncio.sleep, 0, "a free slot needs no wait")

    await work.end("a")
    await holder
    assert await late_but_free() == "a free slot needs no wait"
    free(policy)


async def test_a_task_that_outlives_the_scope_of_its_deadline_waits_on(work: Work) -> None:
    policy = bulkhead(1, max_queue=1)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()

    @timeout(5)
    async def leave_one_behind() -> "asyncio.Task[Any]":
        task = start(guarded, "b")
        await asyncio.sleep(1)
        return task

    waiting = await leave_one_behind()
    await asyncio.sleep(100)
    assert policy.snapshot()["queued"] == 1
    await work.end("a")
    await work.end("b")
    assert await asyncio.gather(holder, waiting) == ["a", "b"]
    free(policy)


async def test_max_wait_counts_on_when_the_deadline_no_longer_does(work: Work) -> None:
    policy = bulkhead(1, max_queue=1, max_wait=20)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()

    @timeout(5)
    async def leave_one_behind() -> "asyncio.Task[Any]":
        task = start(guarded, "b")
        await asyncio.sleep(1)
        return task

    waiting = await leave_one_behind()
    with pytest.raises(BulkheadFullError):
        await waiting
    assert now() == 20
    await cancel(holder)
    free(policy)


async def test_a_timeout_cuts_off_the_call_and_not_the_wait(work: Work) -> None:
    policy = bulkhead(1, max_queue=1)
    guarded = timeout(2)(policy(work))
    with pytest.raises(CallTimeoutError):
        await guarded("a")
    assert now() == 2
    free(policy)


async def test_t63_in_frozen_time_a_wait_goes_on_and_does_not_spin(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = bulkhead(1, max_queue=1, max_wait=4)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    waiting = start(guarded, "b")
    await settle()
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **kwargs)

    monkeypatch.setattr(loop, "call_at", counted)
    frozen = [3.9999]
    with monkeypatch.context() as patch:
        patch.setattr("resilience._clock.monotonic", lambda: frozen[0])
        await asyncio.sleep(5)
        assert policy.snapshot()["queued"] == 1
        assert 990 < len(timers) <= 1002, "a residue is waited for a millisecond at a time"
        frozen[0] = 4.0
        with pytest.raises(BulkheadFullError):
            await waiting
    await cancel(holder)
    free(policy)


async def test_when_the_clock_is_set_back_nobody_waits_longer_than_once_more(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    offset = 0.0
    monkeypatch.setattr("resilience._clock.monotonic", lambda: loop.time() + offset)
    policy = bulkhead(1, max_queue=1, max_wait=4)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    waiting = start(guarded, "b")
    await asyncio.sleep(1)
    offset = -1000.0
    with pytest.raises(BulkheadFullError):
        await waiting
    assert now() == 8
    await cancel(holder)
    free(policy)


@pytest.mark.real_time
async def test_t63_freezegun_holds_up_nobody() -> None:
    policy = bulkhead(1, max_queue=5, max_wait=10)
    order: list[int] = []

    @policy
    async def call(number: int) -> None:
        await asyncio.sleep(0)
        order.append(number)

    with freezegun.freeze_time("2020-01-01"):
        await asyncio.gather(*map(call, range(5)))
    assert order == list(range(5))
    free(policy)


async def test_the_context_of_a_waiter_is_not_kept_alive(work: Work) -> None:
    class Token:
        """Can be weakly referenced."""

    variable: contextvars.ContextVar[Token] = contextvars.ContextVar("variable")
    policy = bulkhead(1, max_queue=1, max_wait=3)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()

    async def wait() -> "weakref.ref[Token]":
        token = Token()
        variable.set(token)
        with pytest.raises(BulkheadFullError):
            await guarded("b")
        return weakref.ref(token)

    token = await asyncio.create_task(wait())
    await asyncio.sleep(10)
    gc.collect()
    assert token() is None
    await cancel(holder)


# --- Cancellation ---


@every_kind
@pytest.mark.parametrize("turns", range(10))
@pytest.mark.parametrize("victim", range(5))
@pytest.mark.parametrize("max_wait", [None, 1000])
async def test_t5_t3_cancelled_in_any_turn_no_slot_is_lost_and_none_is_made(
    make: Callable[..., Bulkhead], turns: int, victim: int, max_wait: float | None
) -> None:
    policy = make(2, max_queue=None, max_wait=max_wait)
    running = most = 0
    done: list[int] = []

    @policy
    async def call(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            running -= 1
        done.append(number)

    tasks = [start(call, number) for number in range(6)]
    await settle(turns)
    tasks[victim].cancel()
    await asyncio.wait(tasks, timeout=1)
    assert all(task.done() for task in tasks)
    assert most <= 2
    assert set(done) >= set(range(6)) - {victim}
    assert [number for number in done if number != victim] == [n for n in range(6) if n != victim]
    assert pending_timers() <= 1  # that of `asyncio.wait`
    free(policy)


@every_kind
async def test_t5_cancelled_just_after_it_was_granted_it_passes_the_slot_on(
    make: Callable[..., Bulkhead], work: Work
) -> None:
    policy = make(1, max_queue=None)
    guarded = policy(work)
    first, second, third = (start(guarded, name) for name in "abc")
    await settle()
    work.gates["a"].set_result(None)
    while not first.done():
        await asyncio.sleep(0)
    assert work.running == []
    assert policy.snapshot()["in_flight"] == 1, "it is granted to the second, which has not run yet"
    second.cancel()
    await settle()
    assert work.running == ["c"]
    assert second.cancelled()
    await work.end("c")
    assert await third == "c"
    free(policy)


async def test_t5_all_who_were_granted_one_after_the_other_may_be_cancelled(work: Work) -> None:
    policy = bulkhead(1, max_queue=None)
    guarded = policy(work)
    tasks = [start(guarded, str(number)) for number in range(10)]
    await settle()
    await cancel(*tasks[:-1])
    await settle()
    assert work.running == ["9"]
    assert work.began == ["0", "9"]
    await work.end("9")
    free(policy)


async def test_b15_cancelled_in_the_queue_its_place_goes_to_the_next(work: Work) -> None:
    policy = bulkhead(1, max_queue=2, max_wait=60)
    guarded = policy(work)
    first, second, third = (start(guarded, name) for name in "abc")
    await settle()
    await cancel(second)
    assert policy.snapshot()["queued"] == 1
    assert pending_timers() == 1
    fourth = start(guarded, "d")
    await settle()
    await work.end("a")
    assert work.running == ["c"]
    await work.end("c")
    await work.end("d")
    assert await asyncio.gather(first, third, fourth) == list("acd")
    assert pending_timers() == 0
    free(policy)


async def test_a_place_of_one_who_was_cancelled_is_free_at_once() -> None:
    policy = bulkhead(1, max_queue=1)
    work = Work()
    guarded = policy(work)
    tasks = [start(guarded, name) for name in "ab"]
    await settle()
    tasks[1].cancel()  # it has not run yet
    tasks.append(start(guarded, "c"))
    await settle()
    await work.end("a")
    assert work.running == ["c"]
    await cancel(tasks[2])
    free(policy)


@every_kind
async def test_refused_and_cancelled_in_one_turn_is_cancelled(
    make: Callable[..., Bulkhead], work: Work
) -> None:
    policy = make(1, max_queue=1, max_wait=5)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    waiting = start(guarded, "b")
    await settle()
    asyncio.get_running_loop().call_later(5, waiting.cancel)
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert policy.snapshot()["in_flight"] == 1
    await work.end("a")
    await holder
    free(policy)


async def test_granted_and_out_of_time_in_one_turn_is_granted(work: Work) -> None:
    policy = bulkhead(1, max_queue=1, max_wait=5)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    asyncio.get_running_loop().call_later(5, policy.entrance.leave, policy.entrance.straight)
    waiting = start(guarded, "b")
    await asyncio.sleep(5)
    await settle()
    assert work.running == ["a", "b"]
    assert policy.snapshot()["rejected"] == 0
    await cancel(holder, waiting)


async def test_an_interrupt_of_a_listener_leaves_the_queue(work: Work) -> None:
    policy = bulkhead(1, max_queue=1)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    unsubscribe = resilience.subscribe(interrupt)
    with pytest.raises(KeyboardInterrupt):
        await guarded("b")
    unsubscribe()
    assert policy.snapshot()["queued"] == 0
    await cancel(holder)
    free(policy)


async def test_of_two_calls_the_older_may_end_last_normally_or_cancelled(work: Work) -> None:
    policy = bulkhead(2, max_queue=1)
    guarded = policy(work)
    for cancelled in (False, True):
        old, new, waiting = (start(guarded, name) for name in ("old", "new", "waiting"))
        await settle()
        await work.end("new")
        assert work.running == ["old", "waiting"]
        if cancelled:
            await cancel(old)
        else:
            await work.end("old")
        assert policy.snapshot()["in_flight"] == 1
        await work.end("waiting")
        assert (await new, await waiting) == ("new", "waiting")
        free(policy)
