"""``async with`` a bulkhead: blocks take and give back like calls, wherever they end."""

import asyncio
import gc
from contextlib import AsyncExitStack
from typing import Any

import pytest

from resilience import (
    BulkheadFullError,
    Event,
    Priority,
    bulkhead,
    inactive,
)
from tests.support.bulkheads import Work, cancel, free, start
from tests.support.virtual_time import now, settle


@pytest.fixture
def work() -> Work:
    return Work()


async def test_t14_a_block_is_like_a_call(work: Work) -> None:
    policy = bulkhead(1, max_queue=1)
    async with policy as entered:
        assert entered is policy
        assert policy.snapshot()["in_flight"] == 1
        waiting = start(policy(work), "a")
        await settle()
        with pytest.raises(BulkheadFullError) as caught:
            async with policy:
                raise AssertionError
        assert caught.value.policy == "Work"
    await settle()
    assert work.running == ["a"]
    await work.end("a")
    await waiting
    with pytest.raises(OSError, match="real"):
        async with policy:
            raise OSError("real")
    free(policy)


async def test_a_block_waits_its_turn_and_its_priority_counts() -> None:
    policy = bulkhead(1, max_queue=None, priority=Priority.HIGH)
    order: list[str] = []

    async def block(name: str) -> None:
        async with policy:
            order.append(name)
            await asyncio.sleep(1)

    await asyncio.gather(*map(block, "abc"))
    assert order == list("abc")
    assert now() == 3
    free(policy)


async def test_a_block_tells_its_priority_and_the_name_of_the_policy(events: list[Event]) -> None:
    policy = bulkhead(1, max_queue=1, priority=Priority.HIGH, name="db")
    async with policy:
        waiting = start(policy.__aenter__)
        await settle()
        with pytest.raises(BulkheadFullError) as caught:
            await policy.__aenter__()
        assert caught.value.policy == "db"
        await cancel(waiting)
    assert [(event.kind, event.name, event.attributes["priority"]) for event in events] == [
        ("bulkhead.queued", "db", "high"),
        ("bulkhead.rejected", "db", "high"),
    ]


async def test_a_block_does_not_ask_a_priority_function(events: list[Event]) -> None:
    policy = bulkhead(1, max_queue=1, priority=lambda name: Priority.BULK)
    async with policy:
        task = start(policy.__aenter__)
        await settle()
        await cancel(task)
    assert [event.attributes["priority"] for event in events] == ["normal"]
    free(policy)


async def test_blocks_nest_and_overlap() -> None:
    outer, inner = bulkhead(2), bulkhead(1)
    async with outer, inner, outer:
        assert (outer.snapshot()["in_flight"], inner.snapshot()["in_flight"]) == (2, 1)
    await outer.__aenter__()
    await inner.__aenter__()
    await outer.__aexit__(None, None, None)
    assert (outer.snapshot()["in_flight"], inner.snapshot()["in_flight"]) == (0, 1)
    await inner.__aexit__(None, None, None)
    free(outer)
    free(inner)


@pytest.mark.parametrize("turns", range(8))
async def test_t4_a_block_cancelled_in_any_turn_loses_no_slot(turns: int) -> None:
    policy = bulkhead(1, max_queue=None)
    entered: list[int] = []

    async def block(number: int) -> None:
        async with policy:
            entered.append(number)
            await asyncio.sleep(0)

    tasks = [start(block, number) for number in range(4)]
    await settle(turns)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert {0, 2, 3} <= set(entered)
    free(policy)


async def test_a_block_that_began_switched_off_gives_nothing_back() -> None:
    policy = bulkhead(2)
    async with policy:
        with inactive():
            await policy.__aenter__()
        policy.enabled = False
        async with policy, policy, policy:
            policy.enabled = True
            assert policy.snapshot()["in_flight"] == 1
        await policy.__aexit__(None, None, None)
        assert policy.snapshot()["in_flight"] == 1
    free(policy)


async def test_a_call_that_began_switched_off_ends_so_and_the_other_way_round(work: Work) -> None:
    policy = bulkhead(1)
    guarded = policy(work)
    policy.enabled = False
    off = [start(guarded, name) for name in "ab"]
    await settle()
    policy.enabled = True
    on = start(guarded, "c")
    await settle()
    assert policy.snapshot()["in_flight"] == 1
    policy.enabled = False
    for name in "abc":
        await work.end(name)
    await asyncio.gather(*off, on)
    free(policy)


async def test_a_block_may_end_in_another_task() -> None:
    policy, other = bulkhead(2), bulkhead(5)
    async with other:
        async with AsyncExitStack() as stack:
            await asyncio.create_task(stack.enter_async_context(policy))
            assert policy.snapshot()["in_flight"] == 1
        free(policy)
        assert other.snapshot()["in_flight"] == 1

    async def generator() -> Any:
        async with policy:
            yield policy.snapshot()["in_flight"]

    # Entered and left in two tasks, as the fixtures of some plugins are.
    steps = generator()
    assert await asyncio.create_task(steps.__anext__()) == 1
    with pytest.raises(StopAsyncIteration):
        await asyncio.create_task(steps.__anext__())
    free(policy)


def test_t3_blocks_and_calls_that_the_garbage_collector_ends_give_their_slots_back() -> None:
    policy = bulkhead(4, max_queue=4)

    async def block() -> None:
        async with policy:
            await asyncio.get_running_loop().create_future()

    @policy
    async def call() -> None:
        await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it tells of the tasks that are destroyed
    tasks = [loop.create_task(each()) for each in (block, call, block, call, block, call)]
    loop.run_until_complete(settle())
    assert policy.snapshot()["in_flight"] == 4
    assert policy.snapshot()["queued"] == 2
    loop.close()
    tasks.clear()
    gc.collect()
    assert policy.snapshot()["in_flight"] == 0
    asyncio.run(policy.call(asyncio.sleep, 0))
    free(policy)


async def test_a_block_that_was_not_entered_says_so() -> None:
    policy = bulkhead(1)
    with pytest.raises(RuntimeError, match="an `async with` block ended that was not open"):
        await policy.__aexit__(None, None, None)
    free(policy)
