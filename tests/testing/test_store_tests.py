"""The tests for stores: a good store passes them all, and each defect fails those that name it."""

import asyncio
import json
import pickle
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from resilience import CacheEntry
from resilience.testing import CacheStoreTests

pytestmark = pytest.mark.real_time


class GoodStore:
    """Keeps pickled entries, as a store outside of the process would."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[float, bytes]] = {}

    async def get(self, key: str) -> CacheEntry | None:
        await asyncio.sleep(0)
        if key not in self.entries:
            return None
        stored_at, data = self.entries[key]
        entry: CacheEntry = pickle.loads(data)
        passed = time.monotonic() - stored_at
        return replace(entry, expires_in=entry.expires_in - passed) if passed < entry.keep_for else None

    async def set(self, key: str, entry: CacheEntry) -> None:
        await asyncio.sleep(0)
        self.entries[key] = (time.monotonic(), pickle.dumps(entry))

    async def delete(self, key: str) -> None:
        self.entries.pop(key, None)

    async def clear(self) -> None:
        self.entries.clear()


class TestGoodStore(CacheStoreTests):
    @pytest.fixture
    def store(self) -> object:
        return GoodStore()


class TestAsyncFunction(CacheStoreTests):
    @pytest.fixture
    def store(self) -> object:
        async def open_store() -> GoodStore:
            return GoodStore()

        return open_store


class BoundStore(GoodStore):
    """Works in one loop only, and only while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.is_open = True

    async def get(self, key: str) -> CacheEntry | None:
        assert self.is_open
        assert asyncio.get_running_loop() is self.loop
        return await super().get(key)


class TestContextManager(CacheStoreTests):
    opened: ClassVar[list[BoundStore]] = []

    @pytest.fixture
    def store(self) -> object:
        @asynccontextmanager
        async def open_store() -> AsyncGenerator[BoundStore]:
            store = BoundStore()
            self.opened.append(store)
            yield store
            store.is_open = False

        yield open_store
        assert len(self.opened) == 1
        assert not self.opened.pop().is_open


# --- Broken stores ----------------------------------------------------------------------------------------


class LosesNone(GoodStore):
    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        return None if entry is not None and entry.value is None else entry


class LosesFalsyValues(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        if entry.value or entry.value is None:
            await super().set(key, entry)


class KnowsEveryKey(GoodStore):
    async def get(self, key: str) -> CacheEntry | None:
        return await super().get(key) or CacheEntry(None, 0.0, 0.0)


class ReturnsAbsoluteTimes(GoodStore):
    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        return entry and replace(entry, expires_in=time.time() + entry.expires_in)


class ReturnsWhatWasSet(GoodStore):
    async def get(self, key: str) -> CacheEntry | None:
        return pickle.loads(self.entries[key][1]) if key in self.entries else None


class CountsWholeMinutes(GoodStore):
    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        return entry and replace(entry, expires_in=60.0 * round(entry.expires_in / 60))


class DropsWhatExpired(GoodStore):
    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        return None if entry is None or entry.expires_in <= 0 else entry


class ClearsNothing(GoodStore):
    async def clear(self) -> None:
        pass


class ClearsAllButOne(GoodStore):
    async def clear(self) -> None:
        for key in list(self.entries)[1:]:
            del self.entries[key]


class IsBrokenByClear(GoodStore):
    async def clear(self) -> None:
        self.entries = {}
        self.set = self.delete  # type: ignore[method-assign,assignment]


class DeletesNothing(GoodStore):
    async def delete(self, key: str) -> None:
        pass


class DeletesEverything(GoodStore):
    async def delete(self, key: str) -> None:
        self.entries.clear()


class FailsToDeleteWhatIsUnknown(GoodStore):
    async def delete(self, key: str) -> None:
        del self.entries[key]


class LosesTags(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        await super().set(key, replace(entry, tags=()))


class SortsTags(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        await super().set(key, replace(entry, tags=tuple(sorted(entry.tags))))


class KeepsTheFirstTags(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        old = await self.get(key)
        await super().set(key, entry if old is None else replace(entry, tags=old.tags))


class KeepsTheFirstValue(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        old = await self.get(key)
        await super().set(key, entry if old is None else replace(entry, value=old.value))


class KeepsTheFirstTime(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        old = await self.get(key)
        await super().set(key, entry if old is None else replace(entry, expires_in=old.expires_in))


class KnowsOnlyJson(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        value = json.loads(json.dumps(entry.value, default=str))
        await super().set(key, replace(entry, value=value))


class CutsLargeValues(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        value = entry.value[:65536] if isinstance(entry.value, str) else entry.value
        await super().set(key, replace(entry, value=value))


class Keys(GoodStore):
    def spell(self, key: str) -> str:
        raise NotImplementedError

    async def get(self, key: str) -> CacheEntry | None:
        return await super().get(self.spell(key))

    async def set(self, key: str, entry: CacheEntry) -> None:
        await super().set(self.spell(key), entry)

    async def delete(self, key: str) -> None:
        await super().delete(self.spell(key))


class CutsKeys(Keys):
    def spell(self, key: str) -> str:
        return key[:250]


class IgnoresCase(Keys):
    def spell(self, key: str) -> str:
        return key.lower()


class StripsKeys(Keys):
    def spell(self, key: str) -> str:
        return key.strip()


class ForgetsAccents(Keys):
    def spell(self, key: str) -> str:
        return key.encode("ascii", "ignore").decode()


class MixesCalls(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        self.latest = entry
        await asyncio.sleep(0)
        await super().set(key, self.latest)


class IsNotAsync(GoodStore):
    def clear(self) -> None:  # type: ignore[override]
        pass


BROKEN: dict[type[GoodStore], str] = {
    LosesNone: "test_every_value_comes_back_as_it_went_in",
    LosesFalsyValues: "test_every_value_comes_back_as_it_went_in",
    KnowsEveryKey: "test_an_unknown_key_has_no_entry",
    ReturnsAbsoluteTimes: "test_expires_in_is_what_is_left",
    ReturnsWhatWasSet: "test_an_entry_that_is_not_kept_is_not_fresh",
    CountsWholeMinutes: "test_expires_in_is_what_is_left",
    DropsWhatExpired: "test_an_expired_entry_stays_until_keep_for",
    ClearsNothing: "test_clear_forgets_all_keys",
    ClearsAllButOne: "test_clear_forgets_all_keys",
    IsBrokenByClear: "test_clear_forgets_all_keys",
    DeletesNothing: "test_delete_forgets_one_key",
    DeletesEverything: "test_delete_of_an_unknown_key_does_nothing",
    FailsToDeleteWhatIsUnknown: "test_delete_of_an_unknown_key_does_nothing",
    LosesTags: "test_tags_come_back_as_they_went_in",
    SortsTags: "test_tags_come_back_as_they_went_in",
    KeepsTheFirstTags: "test_set_replaces_all_of_an_entry",
    KeepsTheFirstValue: "test_set_replaces_all_of_an_entry",
    KeepsTheFirstTime: "test_set_replaces_all_of_an_entry",
    KnowsOnlyJson: "test_every_value_comes_back_as_it_went_in",
    CutsLargeValues: "test_a_large_value_comes_back_as_it_went_in",
    CutsKeys: "test_keys_that_look_alike_are_different",
    IgnoresCase: "test_keys_that_look_alike_are_different",
    StripsKeys: "test_keys_that_look_alike_are_different",
    ForgetsAccents: "test_keys_that_look_alike_are_different",
    MixesCalls: "test_concurrent_calls_do_not_mix_entries",
    IsNotAsync: "test_it_has_the_methods_of_a_cache_store",
}


@pytest.mark.parametrize(
    ("store", "test"), BROKEN.items(), ids=lambda each: getattr(each, "__name__", each)
)
def test_a_broken_store_fails(store: Callable[[], object], test: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - a store may fail in its own way, too
        getattr(CacheStoreTests(), test)(store)
    assert str(caught.value), "it does not say what is wrong"


@pytest.mark.parametrize("store", [DeletesNothing, ClearsNothing, LosesNone, DeletesEverything])
def test_a_broken_store_fails_with_cached(store: type[GoodStore]) -> None:
    with pytest.raises(AssertionError, match="loaded"):
        CacheStoreTests().test_cached_works_with_it(store())


def test_every_test_is_failed_by_some_broken_store() -> None:
    tests = {name for name in dir(CacheStoreTests) if name.startswith("test_")}
    assert tests - set(BROKEN.values()) == {"test_cached_works_with_it"}


def test_values_can_be_narrowed_to_what_a_store_can_keep() -> None:
    class JsonStoreTests(CacheStoreTests):
        values = (None, False, 0, "", [], {}, "text", [1, {"a": None}])

    JsonStoreTests().test_every_value_comes_back_as_it_went_in(KnowsOnlyJson())


def test_every_value_is_of_a_type_of_its_own_or_differs() -> None:
    assert {type(value) for value in CacheStoreTests.values} >= {
        *(type(None), bool, int, float, str, bytes, list, dict, tuple)
    }


@pytest.mark.parametrize("store", [lambda: 1, lambda: object])
def test_what_is_no_store_is_told(store: Any) -> None:
    with pytest.raises(TypeError, match="store must be a CacheStore, or a function that opens one, got "):
        CacheStoreTests().test_an_unknown_key_has_no_entry(store)


def test_the_current_event_loop_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        CacheStoreTests().test_an_unknown_key_has_no_entry(GoodStore())
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()
