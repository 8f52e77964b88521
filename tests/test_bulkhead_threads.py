"""One bulkhead in several loops and threads, and calls that the garbage collector ends at any moment."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import Bulkhead, BulkheadFullError, Priority, bulkhead
from resilience._bulkhead_entrance import EVERY
from resilience._bulkhead_slots import Slots
from tests.support.bulkheads import Work, cancel, every_kind, free, start
from tests.support.virtual_time import settle

pytestmark = pytest.mark.real_time


@pytest.fixture
def _busy_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(count: int, main: Callable[[], Any]) -> list[Any]:
    """Run a coroutine function in a loop in each of some threads, all at once."""
    results: list[Any] = []
    together = threading.Barrier(count)

    def run() -> None:
        together.wait()
        try:
            results.append(asyncio.run(main()))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "somebody waits for ever"
    return results


class Gauge:
    """How many are inside at once, over all threads."""

    def __init__(self) -> None:
        self.most = self.now = 0
        self.lock = threading.Lock()

    async def work(self, turns: int) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            with self.lock:
                self.now -= 1


@every_kind
@pytest.mark.usefixtures("_busy_threads")
def test_t64_the_limit_holds_for_four_loops_in_four_threads_together(make: Callable[..., Bulkhead]) -> None:
    gauge, policy = Gauge(), make(3, max_queue=None)
    guarded = policy(gauge.work)

    async def main() -> int:
        for _ in range(10):
            tasks = [asyncio.create_task(guarded(number % 3)) for number in range(20)]
            await asyncio.sleep(0)
            tasks[7].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return 1

    assert in_threads(4, main) == [1] * 4
    assert gauge.most == 3
    free(policy)


@every_kind
@pytest.mark.usefixtures("_busy_threads")
def test_t64_the_limit_holds_without_a_queue_too(make: Callable[..., Bulkhead]) -> None:
    gauge, policy = Gauge(), make(2)
    guarded = policy(gauge.work)

    async def main() -> int:
        rejected = 0
        for _ in range(100):
            ends = await asyncio.gather(*(guarded(1) for _ in range(4)), return_exceptions=True)
            assert all(end is None or isinstance(end, BulkheadFullError) for end in ends)
            rejected += sum(end is not None for end in ends)
        return rejected

    rejected = in_threads(4, main)
    assert gauge.most <= 2
    assert policy.snapshot()["rejected"] == sum(rejected)
    free(policy)


@every_kind
def test_t64_three_loops_one_after_another_each_with_a_queue(make: Callable[..., Bulkhead]) -> None:
    gauge, policy = Gauge(), make(1, max_queue=None)
    guarded = policy(gauge.work)

    async def main() -> None:
        await asyncio.gather(*(guarded(1) for _ in range(10)))

    for _ in range(3):
        asyncio.run(main())
    assert gauge.most == 1
    free(policy)


def test_priorities_hold_across_threads() -> None:
    policy = bulkhead(1, max_queue=None, priority=lambda name: Priority[name])
    order: list[str] = []
    queued = threading.Semaphore(0)

    @policy
    async def work(name: str) -> None:
        order.append(name)

    async def one(name: str) -> None:
        task = asyncio.create_task(work(name))
        await asyncio.sleep(0)
        queued.release()
        await task

    async def hold() -> None:
        async with policy:
            threads = []
            for name in ("BULK", "LOW", "HIGH", "CRITICAL", "NORMAL"):
                threads.append(threading.Thread(target=asyncio.run, args=(one(name),)))
                threads[-1].start()
                await asyncio.to_thread(queued.acquire)
        for thread in threads:
            await asyncio.to_thread(thread.join, 60)

    asyncio.run(hold())
    assert order == ["CRITICAL", "HIGH", "NORMAL", "LOW", "BULK"]
    free(policy)


async def test_t5_granted_by_another_thread_and_cancelled_before_it_knows() -> None:
    policy, work = bulkhead(1, max_queue=2), Work()
    guarded = policy(work)
    permit = policy.entrance.arrive(EVERY, Priority.NORMAL, "api")
    assert permit is not None
    tasks = [start(guarded, name) for name in "ab"]
    await settle()
    thread = threading.Thread(target=policy.entrance.leave, args=(permit,))
    thread.start()
    thread.join(60)
    assert policy.snapshot()["in_flight"] == 1
    tasks[0].cancel()
    await settle()
    assert work.running == ["b"]
    await work.end("b")
    assert await tasks[1] == "b"
    free(policy)


# --- Loops that were closed -----------------------------------------------------------------------------


def forsaken(policy: Bulkhead, count: int) -> "list[asyncio.Task[Any]]":
    """Let callers wait in a loop that is closed then."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    tasks = [loop.create_task(policy.call(asyncio.sleep, 0)) for _ in range(count)]
    loop.run_until_complete(settle())
    loop.close()
    return tasks


def end(tasks: "list[asyncio.Task[Any]]") -> None:
    while tasks:
        task = tasks.pop()
        task._log_destroy_pending = False


async def test_one_whose_loop_was_closed_is_passed_over() -> None:
    policy, work = bulkhead(1, max_queue=5), Work()
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    tasks = await asyncio.to_thread(forsaken, policy, 2)
    waiting = start(guarded, "b")
    await settle()
    assert policy.snapshot()["queued"] == 3
    await work.end("a")
    assert work.running == ["b"]
    await work.end("b")
    await asyncio.gather(holder, waiting)
    free(policy)
    end(tasks)


async def test_those_whose_loop_was_closed_do_not_fill_the_queue() -> None:
    policy, work = bulkhead(1, max_queue=2), Work()
    guarded = policy(work)
    tasks = [start(guarded, "a")]
    await settle()
    gone = await asyncio.to_thread(forsaken, policy, 2)
    for name in "bc":
        tasks.append(start(guarded, name))
        await settle()
    with pytest.raises(BulkheadFullError):
        await guarded("d")
    for name in "abc":
        await work.end(name)
    assert await asyncio.gather(*tasks) == list("abc")
    free(policy)
    end(gone)


async def test_a_loop_that_is_closed_in_the_moment_of_the_grant_keeps_no_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, work = bulkhead(1, max_queue=2), Work()
    guarded = policy(work)
    first = start(guarded, "a")
    await settle()
    gone = await asyncio.to_thread(forsaken, policy, 1)
    waiting = start(guarded, "b")
    await settle()
    monkeypatch.setattr(policy.entrance.one.queue.oldest.loop, "is_closed", lambda: False)
    with pytest.raises(RuntimeError):
        policy.entrance.one.queue.oldest.loop.call_soon_threadsafe(print)
    await work.end("a")
    assert work.running == ["b"]
    assert policy.snapshot()["in_flight"] == 1
    monkeypatch.undo()
    await work.end("b")
    await asyncio.gather(first, waiting)
    free(policy)
    end(gone)


# --- Ends in the middle of something else ---------------------------------------------------------------


@every_kind
async def test_a_call_that_ends_while_somebody_decides_gives_its_slot_back(
    make: Callable[..., Bulkhead], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may end a forgotten call in the middle of a decision about another."""
    policy, work = make(2, max_queue=1), Work()
    guarded = policy(work)
    forgotten = guarded("forgotten")
    forgotten.send(None)
    tasks = [start(guarded, "a")]
    await settle()
    decide = Slots.take

    def collect(slots: Slots[Any], permit: Any, now: float) -> bool:
        forgotten.close()
        return decide(slots, permit, now)

    monkeypatch.setattr(Slots, "take", collect)
    tasks.append(start(guarded, "b"))
    await settle()
    assert work.running == ["a", "b"], "b was put in the queue, and got the slot then"
    assert policy.snapshot()["in_flight"] == 2
    await work.end("a")
    await work.end("b")
    await asyncio.gather(*tasks)
    free(policy)


async def test_one_who_is_ended_in_the_queue_leaves_it() -> None:
    policy, work = bulkhead(1, max_queue=2), Work()
    guarded = policy(work)
    first = start(guarded, "a")
    await settle()
    forgotten = guarded("forgotten")
    forgotten.send(None)
    second = start(guarded, "b")
    await settle()
    assert policy.snapshot()["queued"] == 2
    forgotten.close()
    assert policy.snapshot()["queued"] == 1
    await work.end("a")
    await work.end("b")
    assert await asyncio.gather(first, second) == ["a", "b"]
    free(policy)


@every_kind
async def test_to_give_back_nobody_waits_for_the_lock(make: Callable[..., Bulkhead]) -> None:
    policy = make(1)
    entrance = policy.entrance
    permit = entrance.arrive("one", Priority.NORMAL, "api")
    assert permit is not None

    def give_back(_: float) -> None:
        thread = threading.Thread(target=entrance.leave, args=(permit,))
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        assert len(entrance._ended) == 1

    entrance._alone(give_back)
    assert not entrance._ended
    free(policy)


async def test_what_ended_in_the_meantime_is_done_in_order_by_one() -> None:
    policy, work = bulkhead(3, max_queue=None, priority=lambda *_: Priority.LOW), Work()
    guarded = policy(work)
    forgotten = [guarded(str(number)) for number in range(3)]
    for each in forgotten:
        each.send(None)
    tasks = [start(guarded, name) for name in "abcd"]
    await settle()

    def forget(_: float) -> None:
        for each in forgotten:
            each.close()
        assert len(policy.entrance._ended) == 3

    policy.entrance._alone(forget)
    await settle()
    assert work.running == ["a", "b", "c"]
    await cancel(*tasks)
    free(policy)


async def test_an_error_in_the_middle_lets_go_of_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = bulkhead(1, priority=lambda *_: Priority.LOW)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Slots, "give_back", broken)
    with pytest.raises(ZeroDivisionError):
        await policy.call(asyncio.sleep, 0)
    assert not policy.entrance._lock.locked()


async def test_an_interrupt_before_a_decision_lets_go_of_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, work = bulkhead(1, max_queue=1), Work()
    tasks = [start(policy(work), "a")]
    await settle()

    def interrupted() -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("resilience._clock.monotonic", interrupted)
        with pytest.raises(KeyboardInterrupt):
            policy.reset()
    assert not policy.entrance._lock.locked()
    assert policy.entrance.one.admits == 1
    await work.end("a")
    await asyncio.gather(*tasks)
    free(policy)


async def test_without_a_gil_every_call_takes_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilience._bulkhead_config.HAS_GIL", False)
    policy, work = bulkhead(2, max_queue=1), Work()
    assert policy.entrance.one.admits == 0
    tasks = [start(policy(work), name) for name in "abc"]
    await settle()
    assert work.running == ["a", "b"]
    assert policy.entrance.one.admits == 0
    for name in "abc":
        await work.end(name)
    await asyncio.gather(*tasks)
    assert policy.snapshot()["in_flight"] == 0


async def test_the_straight_path_is_taken_without_the_lock() -> None:
    policy, work = bulkhead(2), Work()
    assert policy.entrance._alone(lambda _: policy.entrance.one.admits) == 0  # whoever decides turns it off
    policy.entrance._lock.acquire()
    tasks = [start(policy(work), "a"), start(policy.__aenter__)]
    await settle()
    assert work.running == ["a"]
    with pytest.raises(BulkheadFullError):
        await policy.call(work, "b")
    assert policy.entrance.one.rejected == 1
    await work.end("a")
    policy.entrance.leave(policy.entrance.straight)
    policy.entrance._lock.release()
    await asyncio.gather(*tasks)
    free(policy)


def test_a_decision_turns_the_straight_path_on_again_only_if_nobody_waits() -> None:
    policy = bulkhead(1, max_queue=1)
    work = Work()

    async def main() -> None:
        tasks = [start(policy(work), name) for name in "ab"]
        await settle()
        assert policy.entrance.one.admits == 0
        assert policy.entrance.snapshot(EVERY)["queued"] == 1
        assert policy.entrance.one.admits == 0
        await work.end("a")
        assert policy.entrance.one.admits == 1
        await work.end("b")
        await asyncio.gather(*tasks)

    asyncio.run(main())
    free(policy)
