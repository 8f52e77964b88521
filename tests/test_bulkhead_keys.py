"""A bulkhead with ``key=``: slots and a queue for each, bounded."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    BulkheadFullError,
    bulkhead,
)
from tests.support.bulkheads import Work, cancel, free, start
from tests.support.virtual_time import settle


@pytest.fixture
def work() -> Work:
    return Work()


async def test_each_key_has_slots_and_a_queue_of_its_own() -> None:
    policy = bulkhead(1, max_queue=1, key=lambda name: name[0], name="tenants")
    work = Work()
    guarded = policy(work)
    tasks = [start(guarded, name) for name in ("a1", "a2", "b1", "b2", "c1")]
    await settle()
    assert work.running == ["a1", "b1", "c1"]
    with pytest.raises(BulkheadFullError):
        await guarded("a3")
    assert policy.snapshot() == {
        "name": "tenants", "max_concurrent": 1, "in_flight": 3, "queued": 2, "rejected": 1, "keys": 3,
    }  # fmt: skip
    assert policy.at("a").snapshot() == {
        "name": "tenants", "max_concurrent": 1, "in_flight": 1, "queued": 1, "rejected": 1,
    }  # fmt: skip
    assert policy.at("never").snapshot()["in_flight"] == 0
    assert policy.snapshot()["keys"] == 3, "to look at a key does not make it one"
    await work.end("a1")
    assert work.running == ["b1", "c1", "a2"]
    policy.at("a").reset()
    policy.at("never").reset()
    assert (policy.at("a").snapshot()["rejected"], policy.snapshot()["rejected"]) == (0, 1)
    policy.reset()
    assert policy.snapshot()["rejected"] == 0
    await cancel(*tasks)
    free(policy)


async def test_t53_keys_do_not_hold_each_other_up() -> None:
    policy = bulkhead(1, max_queue=None, key=lambda name: name[0])
    work = Work()
    guarded = policy(work)
    tasks = [start(guarded, f"a{number}") for number in range(50)]
    tasks.append(start(guarded, "b"))
    await settle()
    assert work.running == ["a0", "b"]
    await cancel(*tasks)
    free(policy)


async def test_falsy_keys_are_keys() -> None:
    keys: Iterator[Any] = iter([None, 0, "", (), False])
    policy = bulkhead(1, key=lambda name: next(keys))
    work = Work()
    guarded = policy(work)
    tasks = [start(guarded, name) for name in "abcd"]
    await settle()
    assert work.running == list("abcd")
    with pytest.raises(BulkheadFullError):
        await guarded("e")  # False is 0
    await cancel(*tasks)


async def test_the_handle_of_a_key_calls_and_guards_blocks() -> None:
    policy = bulkhead(1, max_queue=1, key=lambda name: name)
    handle = policy.at("a")
    work = Work()
    task = start(policy(work), "a")
    await settle()
    waiting = start(handle.call, work, "through the handle")
    await settle()
    assert policy.at("a").snapshot()["queued"] == 1
    with pytest.raises(BulkheadFullError):
        async with policy.at("a"):
            raise AssertionError
    async with policy.at("b") as entered:
        assert entered.snapshot()["in_flight"] == 1
        assert policy.at("b").snapshot()["in_flight"] == 1
    await work.end("a")
    await work.end("through the handle")
    assert await asyncio.gather(task, waiting) == ["a", "through the handle"]
    with pytest.raises(TypeError, match="is not async"):
        await handle.call(lambda: None)
    assert repr(handle).startswith("bulkhead(1, max_queue=1, key=")
    assert repr(handle).endswith(".at('a')")
    free(policy)


async def test_the_handle_of_a_key_passes_the_arguments_on_under_the_name_of_the_function(
    work: Work,
) -> None:
    handle = bulkhead(1, key=lambda name: name).at("a")

    async def call(*args: int, **kwargs: int) -> object:
        return args, kwargs

    assert await handle.call(call, 1, 2, b=3) == ((1, 2), {"b": 3})
    running = start(handle.call, work, "a")
    await settle()
    with pytest.raises(BulkheadFullError) as caught:
        await handle.call(call)
    assert caught.value.policy == call.__qualname__
    await cancel(running)


async def test_with_keys_a_block_names_at_and_without_keys_there_is_no_at() -> None:
    with pytest.raises(TypeError, match=r"^this .* write `async with bulkhead\.at\(key\):` instead$"):
        async with bulkhead(1, key=lambda: 1):
            raise AssertionError
    with pytest.raises(TypeError, match=r"^at\(\) is for a bulkhead with key=.* all calls$"):
        bulkhead(1).at("a")
    with pytest.raises(TypeError, match="unhashable"):
        bulkhead(1, key=lambda: 1).at([])


async def test_an_unhashable_key_says_what_is_wrong(work: Work) -> None:
    policy = bulkhead(1, key=lambda name: [name])
    with pytest.raises(TypeError, match="key= must return a hashable value, got a list"):
        await policy(work)("a")
    assert work.began == []


async def test_b16_keys_in_use_are_never_dropped_and_further_ones_share() -> None:
    policy = bulkhead(1, max_queue=1, key=lambda name: name, max_keys=2)
    work = Work()
    guarded = policy(work)
    tasks = [start(guarded, name) for name in ("a", "b", "c")]
    await settle()
    waiting = start(guarded, "d")
    await settle()
    assert work.running == ["a", "b", "c"], "c and d share what is left over"
    with pytest.raises(BulkheadFullError):
        await guarded("e")
    assert policy.snapshot()["keys"] == 2
    assert policy.snapshot()["in_flight"] == 3
    await work.end("a")
    tasks.append(start(guarded, "f"))
    await settle()
    assert "f" in work.running
    assert policy.at("a").snapshot()["rejected"] == 0, "a was idle and made room"
    await cancel(*tasks, waiting)
    free(policy)


async def test_many_keys_take_bounded_memory() -> None:
    policy = bulkhead(1, key=lambda number: number, max_keys=100)

    @policy
    async def call(number: int) -> int:
        return number

    for number in range(5000):
        await call(number)
    assert policy.snapshot()["keys"] == 100
    free(policy)


async def test_b16_an_eviction_does_not_forgive_an_overload() -> None:
    policy = bulkhead(AdaptiveLimit(10), key=lambda number: number, max_keys=3)

    @policy
    async def call(number: int) -> None:
        await asyncio.sleep(1)
        if number == 7:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await call(7)
    assert policy.at(7).snapshot()["max_concurrent"] == 9
    for number in range(100):
        await call(100 + number)
    assert policy.at(7).snapshot()["max_concurrent"] == 9
    assert policy.snapshot()["max_concurrent"] == 10
    assert policy.snapshot()["keys"] == 3
