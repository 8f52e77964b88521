"""`memory_ttl` of `cached`: the memory of this process over a store that several share."""

import asyncio
import math
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilience import Cached, CacheEntry, Event, cached
from resilience._cache_levels import LayeredStore
from tests.support.cache_sources import DictStore, clock_ahead
from tests.support.virtual_time import advance, now, settle


class Process:
    """What one of several processes on a store has."""

    def __init__(self, store: DictStore, **options: Any) -> None:
        options = {"ttl": 100, "memory_ttl": 10, "tags": lambda key: f"tag {key}", **options}
        self.policy: Cached = cached(store=store, **options)
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        self.load = self.policy(self._load)

    async def _load(self, key: str) -> str:
        self.calls.append(key)
        number = len(self.calls)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return f"{key}{number}"


# A bound method needs a key in a shared store.
def process(store: DictStore, **options: Any) -> Process:
    return Process(store, key=lambda key: key, **options)


async def test_a_hit_in_memory_makes_no_round_trip() -> None:
    store = DictStore()
    here = process(store)
    assert [await here.load("a") for _ in range(5)] == ["a1"] * 5
    assert store.log == ["get", "set"]
    info = here.policy.info()
    assert (info.hits, info.misses, info.size) == (4, 1, None)


async def test_memory_is_off_unless_asked_for() -> None:
    store = DictStore()
    here = process(store, memory_ttl=0)
    assert here.policy.config.memory_ttl == cached().config.memory_ttl == 0
    assert [await here.load("a"), await here.load("a")] == ["a1", "a1"]
    assert store.log == ["get", "set", "get"]
    assert not isinstance(here.policy._store, LayeredStore)


async def test_what_another_process_stored_is_kept_in_memory_too() -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await there.load("a")
    store.log.clear()
    assert [await here.load("a"), await here.load("a")] == ["a1", "a1"]
    assert store.log == ["get"]
    assert here.calls == []


@pytest.mark.parametrize("is_own", [True, False])
async def test_the_store_is_asked_again_after_the_memorys_time(is_own: bool) -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await (here if is_own else there).load("a")
    await here.load("a")
    store.log.clear()
    advance(9.999)
    assert await here.load("a") == "a1"
    assert store.log == []
    advance(0.001)
    assert [await here.load("a"), await here.load("a")] == ["a1", "a1"]
    assert store.log == ["get"]
    advance(9.999)
    await here.load("a")
    assert store.log == ["get"]


async def test_the_memorys_time_begins_when_the_store_is_asked() -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await there.load("a")
    store.delay = 3
    await here.load("a")  # asked at 0, answered at 3
    advance(6.5)
    assert await here.load("a") == "a1"
    assert store.log.count("get") == 2
    advance(0.5)
    await here.load("a")
    assert store.log.count("get") == 3


async def test_memory_keeps_nothing_longer_than_it_is_fresh_in_the_store() -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await there.load("a")
    advance(95)
    assert await here.load("a") == "a1"
    advance(4.999)
    assert await here.load("a") == "a1"
    advance(0.001)
    assert await here.load("a") == "a1"
    assert here.calls == ["a"]
    short = process(DictStore(), ttl=5)
    await short.load("a")
    advance(5)
    assert await short.load("a") == "a2"


async def test_the_time_of_an_answer_is_not_added_to_what_is_left() -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await there.load("a")
    get = store.get

    async def slow_answer(key: str) -> CacheEntry | None:
        found = await get(key)
        await asyncio.sleep(3)
        return found

    store.get = slow_answer  # type: ignore[method-assign]
    advance(95)
    assert await here.load("a") == "a1"  # at 98; told that 5 seconds are left, from 95 on
    assert here.calls == []
    advance(1.5)
    assert await here.load("a") == "a1"
    assert here.calls == []
    advance(0.5)
    assert await here.load("a") == "a1"
    assert here.calls == ["a"]


async def test_an_invalidation_elsewhere_is_seen_after_the_memorys_time() -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await here.load("a")
    advance(5)
    await there.policy.invalidate("a")
    advance(4.5)
    assert await here.load("a") == "a1", "known in memory"
    advance(0.5)
    assert await here.load("a") == "a2"
    assert here.policy._store._memory.size() == 1  # type: ignore[attr-defined]


async def test_what_is_gone_from_the_store_leaves_the_memory() -> None:
    store = DictStore()
    here = process(store)
    await here.load("a")
    store.entries.clear()
    here.error = LookupError("down")
    advance(10)
    with pytest.raises(LookupError):
        await here.load("a")
    assert here.policy._store._memory.size() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "forget",
    [
        lambda policy: policy.invalidate("a"),
        lambda policy: policy.invalidate_tag("tag a"),
        lambda policy: policy.clear(),
        lambda policy: policy.reset(),
    ],
    ids=["invalidate", "invalidate_tag", "clear", "reset"],
)
async def test_t38_what_is_invalidated_here_is_gone_from_both(forget: Callable[[Cached], Any]) -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await here.load("a")
    await forget(here.policy)
    assert store.entries == {}
    assert await here.load("a") == "a2"
    assert await there.load("a") == "a2"
    await forget(there.policy)
    assert store.entries == {}


async def test_a_tag_reaches_what_only_one_of_the_levels_remembers() -> None:
    store = DictStore()
    here = process(store, maxsize=2, tags="t")
    for key in "abac":  # in memory are the last ones used, a and c; the tags are known of those stored last
        await here.load(key)
    level: Any = here.policy._store
    assert set(level._memory.tagged("t")) == set(here.policy._keys.of_call(("a",), {})) | set(
        here.policy._keys.of_call(("c",), {})
    )
    assert set(level._shared.tagged("t")) == set(here.policy._keys.of_call(("b",), {})) | set(
        here.policy._keys.of_call(("c",), {})
    )
    await here.policy.invalidate_tag("t")
    assert store.entries == {}
    assert await here.load("a") == "a4"


@pytest.mark.parametrize("begins", ["before", "during"])
async def test_t38_an_answer_that_comes_after_the_invalidation_is_not_kept(begins: str) -> None:
    store = DictStore()
    here, there = process(store), process(store)
    await there.load("a")
    get, delete = store.get, store.delete

    async def slow_get(key: str) -> CacheEntry | None:
        found = await get(key)
        await asyncio.sleep(5)
        return found

    async def slow_delete(key: str) -> None:
        await asyncio.sleep(2)
        await delete(key)

    store.get, store.delete = slow_get, slow_delete  # type: ignore[method-assign]
    if begins == "before":
        looking = asyncio.create_task(here.load("a"))
        await settle()
    invalidating = asyncio.create_task(_await(here.policy.invalidate("a")))
    if begins == "during":
        await asyncio.sleep(1)
        looking = asyncio.create_task(here.load("a"))
    await invalidating
    assert not looking.done()
    assert await looking == "a1"
    assert here.calls == []
    assert await here.load("a") == "a1"
    assert here.calls == ["a"], "the older answer is not in the memory"


async def _await(awaitable: Any) -> None:
    await awaitable


async def test_t38_a_look_during_the_deletion_does_not_bring_the_entry_back() -> None:
    store = DictStore()
    here = process(store)
    await here.load("a")
    release = asyncio.Event()
    delete = store.delete

    async def slow_delete(key: str) -> None:
        await release.wait()
        await delete(key)

    store.delete = slow_delete  # type: ignore[method-assign]
    rest = asyncio.create_task(_await(here.policy.invalidate("a")))
    await settle()
    assert await here.load("a") == "a1", "it is still in the store"
    assert await here.load("a") == "a1"
    assert store.log.count("get") == 2, "and was taken into the memory again"
    release.set()
    await rest
    assert await here.load("a") == "a2"


async def test_a_load_that_was_invalidated_reaches_neither_level() -> None:
    store = DictStore()
    here = process(store)
    here.seconds = 5
    loading = asyncio.create_task(here.load("a"))
    await settle()
    await here.policy.invalidate("a")
    assert await loading == "a1"
    assert store.entries == {}
    assert await here.load("a") == "a2"


async def test_what_the_memory_drops_is_still_in_the_store(events: list[Event]) -> None:
    store = DictStore()
    here = process(store, maxsize=2)
    assert [await here.load(key) for key in "abc"] == ["a1", "b2", "c3"]
    assert here.policy._store._memory.size() == 2  # type: ignore[attr-defined]
    assert here.policy.info().evictions == 0
    store.log.clear()
    assert [await here.load("c"), await here.load("a"), await here.load("a")] == ["c3", "a1", "a1"]
    assert store.log == ["get"]
    assert "cache.evicted" not in [event.kind for event in events]


async def test_concurrent_callers_share_one_look_and_one_call() -> None:
    store = DictStore()
    here = process(store)
    here.seconds = 1
    assert await asyncio.gather(*(here.load("a") for _ in range(10))) == ["a1"] * 10
    assert store.log == ["get", "set"]
    advance(10)
    assert await asyncio.gather(*(here.load("a") for _ in range(10))) == ["a1"] * 10
    assert store.log == ["get", "set", "get"]
    assert here.calls == ["a"]


@pytest.mark.parametrize("failing", ["get", "set"])
async def test_t67_a_store_that_fails_leaves_the_memory_at_work(failing: str) -> None:
    store = DictStore()
    here = process(store)
    store.failing = {failing}
    assert [await here.load("a"), await here.load("a")] == ["a1", "a1"]
    assert here.policy.snapshot()["store_failures"] == 1
    advance(10)
    assert await here.load("a") == "a2"


async def test_expired_values_are_of_use_in_two_levels_too() -> None:
    store = DictStore()
    here = process(store, stale_while_revalidate=50, stale_if_error=80)
    await here.load("a")
    advance(100)
    assert await here.load("a") == "a1"
    await settle()
    assert await here.load("a") == "a2"
    assert here.policy.info().stale == 1
    advance(160)
    here.error = LookupError("down")
    assert await here.load("a") == "a2"
    advance(20)
    with pytest.raises(LookupError):
        await here.load("a")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw is the mean: one scale ahead of the expiry."""
    monkeypatch.setattr("random.random", lambda: 1 - math.exp(-1))


@pytest.mark.usefixtures("drawn")
async def test_while_a_refresh_may_come_a_hit_in_memory_still_makes_no_round_trip() -> None:
    store = DictStore()
    here = process(store, early_refresh=1, memory_ttl=1000)
    here.seconds = 8
    await here.load("a")  # at 8, until 108, due at 100, possible from 28 on
    store.log.clear()
    advance(91.5)
    assert [await here.load("a") for _ in range(3)] == ["a1"] * 3
    await settle()
    assert store.log == []
    assert here.policy.info().hits == 3
    advance(0.5)
    before = now()
    assert await here.load("a") == "a1"
    assert now() == before
    await settle()
    assert store.log == ["get"]
    await asyncio.sleep(8.5)
    assert await here.load("a") == "a2"
    assert store.log == ["get", "set"]


@pytest.mark.usefixtures("drawn")
async def test_what_another_process_refreshed_is_taken_from_there() -> None:
    store = DictStore()
    here, there = (process(store, early_refresh=1, memory_ttl=1000) for _ in range(2))
    there.seconds = 8
    await there.load("a")  # at 8, until 108, due at 100
    await here.load("a")
    await there.policy.invalidate("a")
    await there.load("a")  # at 16, until 116, due at 108
    advance(84)  # at 100: the one that is known here is due, but there is another one
    assert await here.load("a") == "a1"
    await settle()
    assert await here.load("a") == "a2"
    assert here.calls == []
    assert here.policy.snapshot()["in_flight"] == 0
    advance(8)
    assert await here.load("a") == "a2"
    await settle()
    assert here.calls == ["a"]
    await here.policy.aclose()


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(("left", "is_taken"), [(16, False), (16.5, True), (-1, False)])
async def test_a_look_at_the_same_entry_does_not_pass_for_a_newer_one(left: float, is_taken: bool) -> None:
    """Two answers about one entry differ by the time they were under way; what has expired is no use."""
    store = DictStore()
    here = process(store, early_refresh=1, memory_ttl=1000)
    here.seconds = 8
    await here.load("a")
    ((key, (_, entry)),) = store.entries.items()
    advance(96)  # at 104: 4 seconds are left, and the call took 8
    store.entries[key] = (now(), replace(entry, value="other", expires_in=left - 8))
    if left < 0:
        store.entries[key] = (now(), replace(entry, value="other", expires_in=0, took=-1000))
    await here.load("a")
    await settle()
    assert here.calls == (["a"] if is_taken else ["a", "a"])
    if is_taken:
        assert await here.load("a") == "other"
    await here.policy.aclose()


@pytest.mark.usefixtures("drawn")
async def test_t63_the_memory_of_a_later_clock_is_not_asked() -> None:
    store = DictStore()
    here = process(store, memory_ttl=50)
    with clock_ahead(1000):
        await here.load("a")
    assert await here.load("a") == "a1"
    assert store.log == ["get", "set", "get"]
    assert here.calls == ["a"]


async def test_the_memorys_time_holds_while_a_refresh_may_come() -> None:
    store = DictStore()
    here = process(store, early_refresh=0.5, memory_ttl=8)
    here.seconds = 8
    random.seed(1)
    await here.load("a")  # at 8, until 108, possible from 68 on
    advance(62)
    await here.load("a")
    store.log.clear()
    advance(7.5)
    await here.load("a")
    assert store.log == []
    advance(0.5)
    await here.load("a")
    assert store.log == ["get"]


async def test_copies_are_handed_out_from_memory_as_well() -> None:
    policy = cached(store=DictStore(), memory_ttl=10, copy=list)

    @policy
    async def load() -> list[int]:
        return [1]

    for _ in range(3):
        value = await load()
        assert value == [1]
        value.append(2)


async def test_a_stored_entry_says_all_about_itself() -> None:
    store = DictStore()
    here = process(store, early_refresh=1, stale_if_error=7)
    here.seconds = 3
    await here.load("a")
    ((_, entry),) = store.entries.values()
    assert entry == CacheEntry("a1", expires_in=100, keep_for=107, tags=("tag a",), took=3)


class ThreadedStore:
    """Can be used in several threads; it has no clock."""

    def __init__(self) -> None:
        self.entries: dict[str, CacheEntry] = {}

    async def get(self, key: str) -> CacheEntry | None:
        await asyncio.sleep(0)
        return self.entries.get(key)

    async def set(self, key: str, entry: CacheEntry) -> None:
        await asyncio.sleep(0)
        self.entries[key] = entry

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        self.entries.pop(key, None)

    async def clear(self) -> None:
        self.entries.clear()


@pytest.mark.real_time
async def test_t51_two_levels_survive_threads() -> None:
    policy = cached(store=ThreadedStore(), memory_ttl=0.001, maxsize=4, tags="t")
    failures: list[BaseException] = []

    @policy
    async def load(key: int) -> int:
        await asyncio.sleep(0)
        return key

    async def work() -> None:
        for turn in range(60):
            keys = [(turn + each) % 7 for each in range(5)]
            assert await asyncio.gather(*map(load, keys)) == keys
            if turn % 10 == 0:
                await policy.invalidate(turn % 7)
            if turn % 25 == 0:
                await policy.invalidate_tag("t")

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    assert failures == []
    assert policy.snapshot()["in_flight"] == 0
    assert policy._store._memory.size() <= 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("turns", range(16))
@pytest.mark.parametrize("all_of_them", [False, True])
async def test_cancelled_in_any_turn(turns: int, all_of_them: bool) -> None:
    store = DictStore()
    here = process(store)
    tasks = [asyncio.create_task(here.load("a")) for _ in range(2)]
    await settle(turns)
    tasks[0].cancel()
    if all_of_them:
        tasks[1].cancel()
    await asyncio.wait(tasks)
    if not all_of_them:
        assert tasks[1].result().startswith("a")
    assert here.policy.snapshot()["in_flight"] == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (await here.load("a")).startswith("a")
    await here.policy.invalidate("a")
    assert await here.load("a") == f"a{len(here.calls)}"
    assert store.entries
