"""The places where `cached` keeps its entries: cachetools containers, and stores for several processes."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import cachetools
import pytest

from resilience import CacheStore, Event, cached, retry, stack
from resilience._cache_memory import MemoryStore, _locks
from resilience._cache_store import Entry, TagIndex
from tests.support.cache_sources import DictStore
from tests.support.virtual_time import advance, now, settle

CONTAINERS: dict[str, Callable[[int], Any]] = {
    "LRU": cachetools.LRUCache,
    "LFU": cachetools.LFUCache,
    "FIFO": cachetools.FIFOCache,
    "RR": cachetools.RRCache,
    "TTL": lambda maxsize: cachetools.TTLCache(maxsize, 1000),
    "TLRU": lambda maxsize: cachetools.TLRUCache(maxsize, lambda key, value, now: now + 1000),
    "plain": cachetools.Cache,
}
every_container = pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS.keys())


def counting(**options: Any) -> Any:
    """Make a policy, and a cached function that counts its calls in ``calls``."""
    policy = cached(**options)
    calls: list[Any] = []

    @policy
    async def load(key: object = None) -> Any:
        calls.append(key)
        return len(calls)

    return policy, load, calls


# --- Containers -------------------------------------------------------------------------------------


@every_container
async def test_every_container_holds_the_entries(make: Callable[[int], Any]) -> None:
    container = make(3)
    policy, load, _calls = counting(store=container, ttl=10, tags=lambda key: f"tag {key}")
    assert [await load("a"), await load("a"), await load("b")] == [1, 1, 2]
    assert sorted(container.values()) == [1, 2]
    advance(10)
    assert await load("a") == 3
    policy.invalidate("a")
    assert sorted(container.values()) == [2]
    policy.invalidate_tag("tag b")
    assert len(container) == 0
    for key in range(10):
        await load(key)
    info = policy.info()
    assert len(container) == info.size == 3
    assert info.evictions == 7
    assert len(policy._store._entries) == 3
    assert len(policy._store._tags._tags) == 3
    policy.clear()
    assert len(container) == len(policy._store._entries) == policy.info().size == 0


@every_container
async def test_t51_containers_survive_threads(make: Callable[[int], Any]) -> None:
    container = make(5)
    policies = [cached(store=container, ttl=0.001), cached(store=container)]
    failures: list[BaseException] = []

    async def load(key: int) -> int:
        return key

    async def work() -> None:
        decorated = [policy(load) for policy in policies]
        for turn in range(60):
            for each in decorated:
                keys = [(turn + step) % 9 for step in range(4)]
                assert await asyncio.gather(*map(each, keys)) == keys
            policies[turn % 2].invalidate(turn % 9)

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(container) <= 5
    for key in range(20):  # a corrupted container raises for ever
        container[key] = key
    assert len(container) == 5


async def test_an_lfu_container_keeps_what_is_used_most_also_after_a_reload() -> None:
    _, load, calls = counting(store=cachetools.LFUCache(2), ttl=10)
    for _ in range(5):
        await load("often")
    advance(10)
    await load("often")
    await load("once")
    await load("new")
    assert calls == ["often", "often", "once", "new"]
    await load("often")
    assert calls == ["often", "often", "once", "new"]


async def test_a_container_with_sizes_gets_the_values_themselves() -> None:
    container: Any = cachetools.LRUCache(10, getsizeof=len)
    policy = cached(store=container, ttl=10)
    size = 4

    @policy
    async def load(key: str) -> str:
        return key * size

    await load("a")
    await load("b")
    assert container.currsize == 8
    await load("c")
    assert sorted(container.values()) == ["bbbb", "cccc"]
    assert policy.info().evictions == 1
    size = 11
    assert await load("d") == "d" * 11
    assert policy.info().size == 2, "what is larger than the container is not kept, and drives nothing out"
    advance(10)
    size = 7
    assert await load("c") == "c" * 7
    assert list(container.values()) == ["ccccccc"]
    assert policy.info().evictions == 2
    size = 11
    advance(10)
    await load("c")
    assert len(container) == policy.info().size == 0


async def test_an_entry_that_grows_within_the_room_drives_nothing_out() -> None:
    policy = cached(store=cachetools.LRUCache(10, getsizeof=len), ttl=10)
    sizes = {"a": 4, "b": 4}

    @policy
    async def load(key: str) -> str:
        return key * sizes[key]

    await load("a")
    await load("b")
    advance(10)
    sizes["a"] = 6
    await load("a")
    assert policy.info().evictions == 0
    assert policy.info().size == 2


async def test_an_entry_that_grows_may_drive_itself_out_first() -> None:
    container: Any = cachetools.FIFOCache(10, getsizeof=len)
    policy = cached(store=container, ttl=10)
    sizes = {"a": 3, "b": 3}

    @policy
    async def load(key: str) -> str:
        return key * sizes[key]

    await load("a")
    await load("b")
    advance(10)
    sizes["a"] = 8
    await load("a")
    assert list(container.values()) == ["aaaaaaaa"]
    assert policy.info().evictions == 1
    assert policy.info().size == 1


@pytest.mark.parametrize("store", [{}, "memory", 5])
def test_what_is_no_place_for_entries_is_told(store: Any) -> None:
    with pytest.raises(TypeError, match=r"^store must be a cachetools\.Cache or an async CacheStore, got "):
        cached(store=store)


async def test_a_container_without_room_keeps_nothing() -> None:
    policy, load, _ = counting(store=cachetools.LRUCache(0))
    assert [await load(), await load()] == [1, 2]
    assert policy.info().size == 0


async def test_times_of_the_container_itself_hold_as_well() -> None:
    time_now = 0.0
    container: Any = cachetools.TTLCache(100, 5, timer=lambda: time_now)
    policy, load, _calls = counting(store=container, ttl=1000)
    for key in range(50):
        await load(key)
    time_now = 5.0
    assert await load(0) == 51
    assert policy.info().size == 1
    for key in range(100, 120):
        await load(key)
    assert len(policy._store._entries) == len(container) == 21, "entries that the container lost are kept"
    assert policy.info().evictions == 0


async def test_a_container_that_refuses_a_value_by_its_time() -> None:
    container: Any = cachetools.TLRUCache(10, lambda key, value, now: now + (1000 if value > 1 else -1))
    policy, load, _ = counting(store=container)
    assert [await load("a"), await load("a"), await load("a")] == [1, 2, 2]
    assert policy.info().size == 1


async def test_a_container_that_refuses_a_new_value_forgets_the_old_one() -> None:
    class Choosy(cachetools.LRUCache[Any, Any]):
        def __setitem__(self, key: Any, value: Any, **options: Any) -> None:
            self.pop(key, None)
            if value == 1:
                super().__setitem__(key, value, **options)

    policy, load, _ = counting(store=Choosy(10), ttl=10)
    assert await load("a") == 1
    advance(10)
    assert await load("a") == 2
    assert policy.info().size == len(policy._store._entries) == 0


async def test_what_the_owner_deletes_is_forgotten_with_the_next_change() -> None:
    container: Any = cachetools.LRUCache(10)
    policy, load, _ = counting(store=container)
    for key in range(5):
        await load(key)
    container.popitem()
    del container[next(key for key, value in container.items() if value == 4)]
    await load("new")
    assert policy.info().size == len(policy._store._entries) == len(container) == 4


async def test_an_entry_may_fill_the_container_and_drive_out_all_others() -> None:
    policy = cached(store=cachetools.LRUCache(10, getsizeof=len))
    sizes = {"a": 4, "b": 4, "c": 10}

    @policy
    async def load(key: str) -> str:
        return key * sizes[key]

    for key in sizes:
        await load(key)
    assert (policy.info().size, policy.info().evictions) == (1, 2)
    await load("c")
    assert policy.info().hits == 1


async def test_the_owner_may_empty_the_container() -> None:
    container: Any = cachetools.LRUCache(10)
    _, load, _ = counting(store=container)
    assert await load() == 1
    container.clear()
    assert await load() == 2


async def test_a_container_with_entries_of_others() -> None:
    container: Any = cachetools.LRUCache(3)
    container["mine"] = "something"
    policy, load, _ = counting(store=container)
    other, load_other, _ = counting(store=container)
    assert [await load("a"), await load_other("a"), await load("b")] == [1, 1, 2]
    assert "mine" not in container
    assert policy.info().evictions == 0
    policy.clear()
    assert len(container) == other.info().size == 1
    await load("c")
    await load("d")
    await load("e")
    assert other.info().size == 0
    assert await load_other("a") == 2


async def test_one_container_has_one_lock() -> None:
    container: Any = cachetools.LRUCache(3)
    gc.collect()
    before = len(_locks)
    one, two = cached(store=container), cached(store=container)
    assert one._store.lock is two._store.lock
    assert cached(store=cachetools.LRUCache(3))._store.lock is not one._store.lock
    gc.collect()
    assert len(_locks) == before + 1
    del one, two, container
    gc.collect()
    assert len(_locks) == before


async def test_a_container_that_fails_does_not_fail_the_call(events: list[Event]) -> None:
    policy, load, _ = counting(store=cachetools.LRUCache(3, getsizeof=len))  # len of an int
    assert [await load(), await load()] == [1, 2]
    failed = [dict(event.attributes) for event in events if event.kind == "cache.store_failed"]
    assert failed == [{"operation": "set", "error": "TypeError"}] * 2
    assert policy.snapshot()["store_failures"] == 2


async def test_stale_values_and_negative_entries_with_a_container() -> None:
    policy = cached(store=cachetools.LRUCache(3), ttl=10, stale_if_error=10, error_ttl=5)
    error: Exception | None = None

    @policy
    async def load(key: str) -> str:
        if error:
            raise error
        return key

    await load("a")
    advance(10)
    error = LookupError("down")
    assert await load("a") == "a"
    with pytest.raises(LookupError):
        await load("b")
    assert policy.info().size == 3  # a value and two errors


def test_the_repr_does_not_show_what_is_stored() -> None:
    container: Any = cachetools.LRUCache(3)
    container["secret"] = "secret"
    assert "secret" not in repr(cached(store=container))
    assert "secret" not in repr(cached(store=container).config)


def test_maxsize_is_for_the_default_store() -> None:
    assert isinstance(cached(maxsize=5)._store, MemoryStore)


async def test_builds_without_the_gil_find_entries_with_the_lock() -> None:
    store = MemoryStore(2)
    store.at_hand, store.touch = store, lambda _: None
    for key in ("a", "b"):
        await store.write(Entry(key, key, (), 0, 10), lambda: True)
    entry = store.find("a")
    assert entry is not None
    assert entry.value == "a"
    await store.write(Entry("c", "c", (), 0, 10), lambda: True)
    assert store.find("b") is None
    assert store.find("a") is entry


async def test_builds_without_the_gil_count_with_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilience._cache.HAS_GIL", False)
    monkeypatch.setattr("resilience._cache_memory.HAS_GIL", False)
    policy, load, _ = counting(maxsize=2)
    assert [await load("a"), await load("a"), await load("b"), await load("a"), await load("c")] == [
        1,
        1,
        2,
        1,
        3,
    ]
    assert await load("a") == 1
    assert policy.info().hits == 3


async def test_an_entry_dropped_in_the_middle_of_a_hit_is_loaded_anew() -> None:
    policy, load, _ = counting()
    await load()

    def touch(entry: object) -> None:
        policy.clear()
        raise KeyError(entry)

    policy._store.touch = touch
    again = policy(load.__wrapped__)
    assert await again() == 2
    assert policy.info().hits == 0
    assert await load() == 2


class Changing:
    """A key that may change."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self) -> int:
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Changing) and other.value == self.value


async def test_t44_keys_whose_hash_changed_are_still_evicted_in_their_turn() -> None:
    policy, load, _ = counting(maxsize=3)
    keys = [Changing(value) for value in (100, 101, 102)]
    for key in keys:
        await load(key)
    keys[0].value, keys[2].value = 200, 201
    for number in range(20):
        await load(number)
        assert policy.info().size == len(policy._store._order) == 3
    assert policy.info().evictions == 20
    assert policy.snapshot()["store_failures"] == 0


async def test_t44_a_key_that_became_another_one_does_not_stay_for_ever() -> None:
    policy, load, calls = counting(maxsize=3)
    older, newer = Changing(100), Changing(101)
    await load(older)
    await load(newer)
    older.value = 101
    for number in range(3):
        await load(number)
    assert policy.info().size == len(policy._store._order) == 3
    assert [await load(number) for number in range(3)] == [3, 4, 5]
    assert len(calls) == 5


async def test_a_replaced_entry_leaves_one_key_and_one_place() -> None:
    store = MemoryStore(2)
    entries = [Entry(("key", number // number), number, (), 0, 10) for number in (1, 2)]
    for entry in entries:
        assert await store.write(entry, lambda: True) == 0
    assert list(store._order) == [entries[1]]
    assert entries[1].key is entries[0].key is next(iter(store._entries))
    assert store.find(("key", 1)) is entries[1]
    store.drop([("key", 1)])
    assert not store._order
    assert not store._entries


async def test_what_is_not_wanted_is_not_put_in_memory() -> None:
    store = MemoryStore(2)
    assert await store.write(Entry("key", 1, ("t",), 0, 10), lambda: False) == 0
    assert store.size() == 0
    assert "t" not in store._tags


def test_a_tag_index_is_bounded_where_it_is_asked_to_be() -> None:
    index = TagIndex()
    for key in range(10):
        index.add(key, ("all", f"tag {key}"))
        index.shrink(3)
    assert set(index.keys("all")) == {7, 8, 9}
    assert index.keys("tag 1") == ()
    index.add(9, ())
    assert set(index.keys("all")) == {7, 8}


# --- Shared stores ----------------------------------------------------------------------------------


def shared(store: DictStore, **options: Any) -> Any:
    """Make a policy on a store, and its function: what one of several processes has."""
    policy = cached(store=store, **options)
    calls: list[Any] = []

    @policy
    async def load(key: object = None, *more: object, **options: object) -> Any:
        calls.append(key)
        await asyncio.sleep(1)
        if key == "fail" or (key == "error" and calls.count(key) > 1):
            raise LookupError(key)
        return [key, len(calls)]

    return policy, load, calls


def test_the_protocol_can_be_checked() -> None:
    assert isinstance(DictStore(), CacheStore)
    assert not isinstance({}, CacheStore)

    class Sync(DictStore):
        def get(self, key: str) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(TypeError, match="get is not async"):
        cached(store=Sync())


async def test_a_shared_store_is_shared() -> None:
    store = DictStore()
    _, here, calls_here = shared(store, ttl=10)
    policy, there, calls_there = shared(store, ttl=10)
    assert await here("a") == ["a", 1]
    assert await there("a") == ["a", 1]
    assert (calls_here, calls_there) == (["a"], [])
    assert policy.info().hits == 1
    assert policy.info().size is None
    advance(9)
    assert await there("a") == ["a", 1]
    advance(0.999)
    assert await there(key="a") == ["a", 1]
    advance(0.001)
    assert await there("a") == ["a", 1]
    assert (calls_here, calls_there) == (["a"], ["a"])


async def test_keys_of_a_shared_store_are_text_that_tells_types_apart() -> None:
    store = DictStore()
    _, load, calls = shared(store)
    different: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((1,), {}),
        ((1.0,), {}),
        ((True,), {}),
        (("1",), {}),
        ((b"1",), {}),
        (("None",), {}),
        (("a, b",), {}),
        (("a", "b"), {}),
        ((("a", "b"),), {}),
        ((("a",), "b"), {}),
        (("a", ("b",)), {}),
        ((frozenset({"a", "b"}),), {}),
        (("a",), {"x": 1}),
        (("a",), {"x": 1, "y": 2}),
        (("a",), {"y": (1, 2)}),
    ]
    for args, kwargs in different:
        await load(*args, **kwargs)
    assert len(calls) == len(store.entries) == len(different)
    assert all(isinstance(key, str) for key in store.entries)
    assert all("test_cache_store.shared.<locals>.load" in key for key in store.entries)
    await load(key="a", y=2, x=1)
    await load(frozenset({"b", "a"}))
    assert len(calls) == len(different)


async def test_t43_what_has_no_exact_spelling_is_refused() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "'a'"

    class Name(str):
        __slots__ = ()

    store = DictStore()
    policy, load, calls = shared(store)
    for value in (Odd(), Name("a"), ["a"], ("a", Odd()), frozenset({Name("a")})):
        with pytest.raises(TypeError, match=r"argument 'key' is a .* shared store: give cached\(\) a key="):
            await load(value)
        with pytest.raises(TypeError, match="argument 'key'"):
            policy.invalidate(value)
    assert calls == []
    _, load, _ = shared(store, key=lambda key: Odd())
    with pytest.raises(TypeError, match=r"the result of key= is a .*Odd"):
        await load("a")


async def test_key_works_with_a_shared_store() -> None:
    store = DictStore()
    policy, load, _calls = shared(store, key=lambda key: (key.lower(), 1))
    assert await load("A") == await load("a") == ["A", 1]
    await policy.invalidate("A")
    assert store.entries == {}


async def test_methods_need_a_key_with_a_shared_store() -> None:
    store = DictStore()
    with pytest.raises(TypeError, match=r"Service\.get is a method.*key="):

        class Service:
            @cached(store=store)
            async def get(self) -> None: ...

    class Other:
        calls = 0

        async def get(self, key: str) -> str:
            Other.calls += 1
            return key

        @cached(store=store, key=lambda self, key: key)
        async def decorated(self, key: str) -> str:
            return await self.get(key)

    with pytest.raises(TypeError, match="is a method"):
        cached(store=store)(Other().get)
    assert [await Other().decorated("a"), await Other().decorated("a")] == ["a", "a"]
    assert Other.calls == 1
    bound = cached(store=store, key=lambda key: key)
    assert [await bound.call(Other().get, "b"), await bound.call(Other().get, "b")] == ["b", "b"]
    assert Other.calls == 2


async def test_the_end_of_an_instance_does_not_touch_a_shared_store() -> None:
    store = DictStore()
    policy, load, _ = shared(store)

    class Instance:
        pass

    await load("a")
    instance = Instance()
    policy._keys._instances.of(instance)
    del instance
    gc.collect()
    assert len(store.entries) == 1


async def test_concurrent_callers_make_one_look_and_one_call() -> None:
    store = DictStore()
    store.delay = 1
    policy, load, _calls = shared(store)
    assert await asyncio.gather(*(load("a") for _ in range(5))) == [["a", 1]] * 5
    assert store.log == ["get", "set"]
    assert (policy.info().misses, policy.info().coalesced) == (1, 4)
    assert await asyncio.gather(*(load("a") for _ in range(5))) == [["a", 1]] * 5
    assert store.log == ["get", "set", "get"]
    assert (policy.info().hits, policy.info().coalesced) == (5, 4)


async def test_t42_none_is_a_value_in_a_shared_store() -> None:
    calls: list[int] = []
    store = DictStore()

    @cached(store=store)
    async def load() -> None:
        calls.append(1)

    assert [await load(), await load()] == [None, None]
    assert calls == [1]


async def test_expired_values_of_a_shared_store_are_of_use_too() -> None:
    store = DictStore()
    policy, load, calls = shared(store, ttl=10, stale_while_revalidate=20, stale_if_error=50)
    await load("a")
    (entry,) = [entry for _, entry in store.entries.values()]
    assert (entry.expires_in, entry.keep_for) == (10, 60)
    advance(10)
    before = now()
    assert [await load("a"), await load("a")] == [["a", 1]] * 2
    assert now() == before
    await asyncio.sleep(1.5)
    assert await load("a") == ["a", 2]
    assert calls == ["a", "a"]
    assert policy.info().stale == 2
    await load("error")
    advance(35)
    assert await load("error") == ["error", 3]
    assert policy.info().stale == 3
    advance(30)
    with pytest.raises(LookupError):
        await load("error")
    await policy.aclose()


@pytest.mark.parametrize("is_awaited", [False, True])
async def test_an_expired_value_that_was_invalidated_while_loading_does_not_stand_in(
    is_awaited: bool,
) -> None:
    store = DictStore()
    policy, load, _ = shared(store, ttl=10, stale_if_error=50)
    await load("error")
    advance(10)
    task = asyncio.create_task(load("error"))
    await asyncio.sleep(0.5)
    rest = policy.invalidate("error")
    if is_awaited:
        await rest
    with pytest.raises(LookupError):
        await task


async def test_who_comes_after_the_window_joins_the_refresh_of_a_shared_store() -> None:
    store = DictStore()
    _policy, load, calls = shared(store, ttl=10, stale_while_revalidate=5)
    await load("a")
    advance(14.5)
    await load("a")
    await settle()
    advance(0.75)
    assert await load("a") == ["a", 2]
    assert calls == ["a", "a"]


async def test_errors_are_remembered_in_this_process() -> None:
    store = DictStore()
    _, load, calls = shared(store, error_ttl=5)
    for _ in range(3):
        with pytest.raises(LookupError):
            await load("fail")
    assert calls == ["fail"]
    assert store.entries == {}


async def test_invalidation_of_a_shared_store_is_awaited() -> None:
    store = DictStore()
    policy, load, _calls = shared(store, tags=lambda key: f"tag {key}")
    await load("a")
    await load("b")
    await policy.invalidate("a")
    assert await load("a") == ["a", 3]
    await policy.invalidate_tag("tag b")
    assert await load("b") == ["b", 4]
    await policy.clear()
    assert store.entries == {}
    await load("a")
    await policy.reset()
    assert store.entries == {}
    policy.clear()  # never awaited, never complained about
    gc.collect()


async def test_a_tag_reaches_what_this_process_has_read() -> None:
    store = DictStore()
    _, here, _ = shared(store, tags="t")
    policy, there, calls = shared(store, tags="t")
    await here("a")
    await there("a")
    await policy.invalidate_tag("t")
    await there("a")
    assert calls == ["a"]
    assert store.log.count("delete") == 1


async def test_t38_an_invalidation_while_the_load_is_being_stored_wins() -> None:
    store = DictStore()
    policy, load, _calls = shared(store)
    task = asyncio.create_task(load("a"))
    await asyncio.sleep(0.5)
    await policy.invalidate("a")
    assert await task == ["a", 1]
    assert store.entries == {}
    assert "set" not in store.log
    store.delay = 2
    task = asyncio.create_task(load("a"))
    await asyncio.sleep(4)  # it has looked and loaded, and is storing
    assert store.log[-1] == "set"
    policy.invalidate("a")  # not awaited: its own deletion would come too early or too late
    assert await task == ["a", 2]
    assert store.entries == {}


async def test_t67_a_store_that_fails_does_not_fail_the_call(events: list[Event]) -> None:
    store = DictStore()
    policy, load, _calls = shared(store)
    store.failing = {"get", "set"}
    assert [await load("a"), await load("a")] == [["a", 1], ["a", 2]]
    failed = [dict(event.attributes) for event in events if event.kind == "cache.store_failed"]
    assert (
        failed
        == [
            {"operation": "get", "error": "ConnectionError"},
            {"operation": "set", "error": "ConnectionError"},
        ]
        * 2
    )
    assert policy.snapshot()["store_failures"] == 4
    store.failing = set()
    assert [await load("a"), await load("a")] == [["a", 3], ["a", 3]]


async def test_t67_a_store_that_returns_nonsense_does_not_fail_the_call() -> None:
    store = DictStore()
    policy, load, _calls = shared(store)

    async def get(key: str) -> Any:
        return "nonsense"

    store.get = get  # type: ignore[method-assign]
    assert await load("a") == ["a", 1]
    assert policy.snapshot()["store_failures"] == 1


async def test_t67_a_failed_invalidation_is_told() -> None:
    store = DictStore()
    policy, load, _ = shared(store)
    await load("a")
    store.failing = {"delete", "clear"}
    with pytest.raises(ConnectionError):
        await policy.invalidate("a")
    with pytest.raises(ConnectionError):
        await policy.clear()


@pytest.mark.parametrize("turns", range(14))
@pytest.mark.parametrize("all_of_them", [False, True])
async def test_cancelled_in_any_turn(turns: int, all_of_them: bool) -> None:
    store = DictStore()
    policy = cached(store=store)
    running = 0

    @policy
    async def load(key: str) -> str:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(0)
            return key
        finally:
            running -= 1

    tasks = [asyncio.create_task(load("a")) for _ in range(2)]
    await settle(turns)
    tasks[0].cancel()
    if all_of_them:
        tasks[1].cancel()
    await asyncio.wait(tasks)
    if not all_of_them:
        assert tasks[1].result() == "a"
    assert running == 0
    assert policy.snapshot()["in_flight"] == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await load("a") == "a"


async def test_a_stack_on_a_shared_store_uses_the_functions_name() -> None:
    store = DictStore()
    calls: list[int] = []

    @stack(cached(store=store), retry(attempts=2))
    async def load(key: str) -> str:
        calls.append(1)
        return key

    assert [await load("a"), await load(key="a")] == ["a", "a"]
    assert calls == [1]
    (key,) = store.entries
    assert (
        key == f"{__name__}.test_a_stack_on_a_shared_store_uses_the_functions_name.<locals>.load(key='a')"
        or ("load('a')" in key)
    )


@pytest.mark.real_time
async def test_hits_are_cheap_enough_to_be_worth_it() -> None:
    """A guard against a slip, not a benchmark: a hit must not reach the loop."""
    _, load, _ = counting()
    await load()
    began = time.perf_counter()
    for _ in range(1000):
        await load()
    assert time.perf_counter() - began < 0.5
