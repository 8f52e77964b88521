"""The tests for stores: a good store passes them all, and each defect fails those that name it."""

import asyncio
import json
import math
import pickle
import re
import time
import unicodedata
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
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


class StrictStore(GoodStore):
    """Takes what `cached` gives to a store, and nothing else."""

    async def get(self, key: str) -> CacheEntry | None:
        assert type(key) is str
        return await super().get(key)

    async def set(self, key: str, entry: CacheEntry) -> None:
        assert type(key) is str
        assert type(entry) is CacheEntry
        assert 0 < entry.expires_in <= entry.keep_for
        assert type(entry.tags) is tuple
        await super().set(key, entry)

    async def delete(self, key: str) -> None:
        assert type(key) is str
        await super().delete(key)


class TestStrictStore(CacheStoreTests):
    @pytest.fixture
    def store(self) -> object:
        return StrictStore


class CoarseStore(GoodStore):
    """Counts tenths of a second, and keeps entries for longer than it must: it may."""

    async def get(self, key: str) -> CacheEntry | None:
        if key not in self.entries:
            return None
        stored_at, data = self.entries[key]
        entry: CacheEntry = pickle.loads(data)
        left = entry.expires_in - (time.monotonic() - stored_at)
        return replace(entry, expires_in=max(math.ceil(left * 10) / 10, 0.0))


class TestCoarseStore(CacheStoreTests):
    @pytest.fixture
    def store(self) -> object:
        return CoarseStore()


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


class Shifts(GoodStore):
    """Returns other times than those that are left."""

    by = 0.0

    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        return entry and replace(entry, expires_in=entry.expires_in + self.by)


class IsLate(Shifts):
    by = 0.5


class IsTooEarly(Shifts):
    by = -10.1


class CountsTooFast(Shifts):
    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        self.by -= 10.5
        return entry


class LosesExpiredValues(GoodStore):
    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        return entry if entry is None or entry.expires_in > 0 else replace(entry, value=None)


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
    is_broken = False

    async def set(self, key: str, entry: CacheEntry) -> None:
        if not self.is_broken:
            await super().set(key, entry)

    async def clear(self) -> None:
        self.entries = {}
        self.is_broken = True


class DeletesNothing(GoodStore):
    async def delete(self, key: str) -> None:
        pass


class NeverKnowsDeletedKeysAgain(GoodStore):
    def __init__(self) -> None:
        super().__init__()
        self.deleted: set[str] = set()

    async def get(self, key: str) -> CacheEntry | None:
        return None if key in self.deleted else await super().get(key)

    async def delete(self, key: str) -> None:
        self.deleted.add(key)


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


class LosesTaggedEntries(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        if not entry.tags:
            await super().set(key, entry)


class MixesTags(GoodStore):
    """Keeps the tags beside the values, and so does two things that are not one."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, tuple[str, ...]] = {}

    async def get(self, key: str) -> CacheEntry | None:
        entry = await super().get(key)
        return entry and replace(entry, tags=self.tags[key])

    async def set(self, key: str, entry: CacheEntry) -> None:
        self.tags.setdefault(key, entry.tags)
        await super().set(key, entry)


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


class KeepsNumbersAsFloats(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        value = float(entry.value) if type(entry.value) is int else entry.value
        await super().set(key, replace(entry, value=value))


class RoundsNumbers(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        value = float(round(entry.value)) if type(entry.value) is float else entry.value
        await super().set(key, replace(entry, value=value))


class LosesLargeValues(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        if len(pickle.dumps(entry)) < 1_000_000:
            await super().set(key, entry)


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


class Composes(Keys):
    def spell(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


class LosesKeys(GoodStore):
    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending

    async def set(self, key: str, entry: CacheEntry) -> None:
        if not key.endswith(self.ending):
            await super().set(key, entry)


class MixesCalls(GoodStore):
    async def set(self, key: str, entry: CacheEntry) -> None:
        self.latest = entry
        await asyncio.sleep(0)
        await super().set(key, self.latest)


class IsNotAsync(GoodStore):
    def clear(self) -> None:  # type: ignore[override]
        pass


BROKEN: list[tuple[Callable[[], GoodStore], str, str]] = [
    (LosesNone, "test_every_value_comes_back_as_it_went_in", "^the entry for the value None is gone$"),
    (
        LosesFalsyValues,
        "test_every_value_comes_back_as_it_went_in",
        "^the entry for the value False is gone",
    ),
    (KnowsOnlyJson, "test_every_value_comes_back_as_it_went_in", r"^b'' came back as \"b''\"$"),
    (KeepsNumbersAsFloats, "test_every_value_comes_back_as_it_went_in", r"^0 came back as 0\.0$"),
    (RoundsNumbers, "test_every_value_comes_back_as_it_went_in", r"^-1\.5 came back as -2\.0$"),
    (
        LosesLargeValues,
        "test_a_large_value_comes_back_as_it_went_in",
        "^the entry for a value of a million .* gone",
    ),
    (
        CutsLargeValues,
        "test_a_large_value_comes_back_as_it_went_in",
        "^a value of a million .* came back changed$",
    ),
    (
        KnowsEveryKey,
        "test_an_unknown_key_has_no_entry",
        "^get of an unknown key must return None, got CacheEntry",
    ),
    (LosesTags, "test_tags_come_back_as_they_went_in", r"^the tags \('users',\) came back as \(\)$"),
    (SortsTags, "test_tags_come_back_as_they_went_in", r"^the tags \('b', 'a', .* came back as \('', 'a',"),
    (
        LosesTaggedEntries,
        "test_tags_come_back_as_they_went_in",
        r"^the entry with the tags \('users',\) is gone$",
    ),
    (
        ReturnsAbsoluteTimes,
        "test_expires_in_is_what_is_left",
        r"^right after a set with expires_in=60\.0, .* got \d",
    ),
    (IsLate, "test_expires_in_is_what_is_left", "^right after a set .* got 60.[45]"),
    (IsTooEarly, "test_expires_in_is_what_is_left", "^right after a set .* got 49"),
    (
        ReturnsWhatWasSet,
        "test_expires_in_is_what_is_left",
        "^expires_in must count down: .* after 60.0 it is 60.0$",
    ),
    (
        CountsWholeMinutes,
        "test_expires_in_is_what_is_left",
        "^expires_in must count down: .* after 60.0 it is 60.0$",
    ),
    (CountsTooFast, "test_expires_in_is_what_is_left", "^expires_in must count down: "),
    (
        DropsWhatExpired,
        "test_an_expired_entry_stays_until_keep_for",
        "^the entry that has expired, .* for 60 s is gone$",
    ),
    (
        IsLate,
        "test_an_expired_entry_stays_until_keep_for",
        r"^an expired entry must say so, got expires_in=0\.",
    ),
    (LosesExpiredValues, "test_an_expired_entry_stays_until_keep_for", "^'value' came back as None$"),
    (
        ReturnsWhatWasSet,
        "test_an_entry_that_is_not_kept_is_not_fresh",
        "^after keep_for .* got expires_in=0.05$",
    ),
    (
        KeepsTheFirstValue,
        "test_set_replaces_all_of_an_entry",
        "^the second value must replace .* got {'old': 1}$",
    ),
    (KeepsTheFirstTags, "test_set_replaces_all_of_an_entry", r"^so must the tags, got \('old',\)$"),
    (KeepsTheFirstTime, "test_set_replaces_all_of_an_entry", r"^so must expires_in, got [56]\d\d\."),
    (IsLate, "test_set_replaces_all_of_an_entry", r"^so must expires_in, got 60\."),
    (CutsKeys, "test_keys_that_look_alike_are_different", "^'.*x1' has the entry of '.*x2'$"),
    (IgnoresCase, "test_keys_that_look_alike_are_different", "^'.*A' has the entry of '.*a'$"),
    (StripsKeys, "test_keys_that_look_alike_are_different", "^'.*' has the entry of '.* '$"),
    (ForgetsAccents, "test_keys_that_look_alike_are_different", "^'.*' has the entry of '.*é'$"),
    (Composes, "test_keys_that_look_alike_are_different", "^'.*é' has the entry of '.*e\u0301'$"),
    (
        partial(LosesKeys, "*"),
        "test_keys_that_look_alike_are_different",
        r"^the entry under the key '.*\*' is gone$",
    ),
    (DeletesNothing, "test_delete_forgets_one_key", "^a deleted key must have no entry$"),
    (DeletesEverything, "test_delete_forgets_one_key", "^the entry as another key was deleted is gone$"),
    (NeverKnowsDeletedKeysAgain, "test_delete_forgets_one_key", "^the entry set after a delete is gone$"),
    (
        DeletesEverything,
        "test_delete_of_an_unknown_key_does_nothing",
        "^the entry as an unknown key was deleted is gone$",
    ),
    (FailsToDeleteWhatIsUnknown, "test_delete_of_an_unknown_key_does_nothing", "resilience-test-"),
    (
        ClearsNothing,
        "test_clear_forgets_all_keys",
        "^after a clear there are still entries: [^,]*(, [^,]*){9}$",
    ),
    (
        ClearsAllButOne,
        "test_clear_forgets_all_keys",
        r"^after a clear there are still entries: \['[^,]*'\]$",
    ),
    (IsBrokenByClear, "test_clear_forgets_all_keys", "^the entry set after a clear is gone$"),
    (MixesCalls, "test_concurrent_calls_do_not_mix_entries", "^the entry of 0 has 49$"),
    (MixesTags, "test_concurrent_calls_do_not_mix_entries", "^value and tags of two sets are mixed$"),
    (IsNotAsync, "test_it_has_the_methods_of_a_cache_store", "^clear must be async$"),
]


@pytest.mark.parametrize(("store", "test", "message"), BROKEN)
def test_a_broken_store_fails_and_says_why(store: Callable[[], GoodStore], test: str, message: str) -> None:
    with pytest.raises((AssertionError, KeyError)) as caught:
        getattr(CacheStoreTests(), test)(store)
    first, *_ = str(caught.value).splitlines()  # pytest adds others
    assert re.search(message, first)


@pytest.mark.parametrize("store", [DeletesNothing, ClearsNothing, LosesNone, DeletesEverything])
def test_a_broken_store_fails_with_cached(store: type[GoodStore]) -> None:
    with pytest.raises(AssertionError, match="loaded"):
        CacheStoreTests().test_cached_works_with_it(store())


def test_every_test_is_failed_by_some_broken_store() -> None:
    tests = {name for name in dir(CacheStoreTests) if name.startswith("test_")}
    assert tests - {test for _, test, _ in BROKEN} == {"test_cached_works_with_it"}


def test_the_tests_can_run_again_on_what_they_left_in_a_store() -> None:
    store = GoodStore()
    for _ in range(2):
        for name in dir(CacheStoreTests):
            if name.startswith("test_"):
                getattr(CacheStoreTests(), name)(store)


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
