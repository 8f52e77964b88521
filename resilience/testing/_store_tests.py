"""`CacheStoreTests`: what every `CacheStore` must do, as a test class to inherit from.

The tests are plain functions that run an event loop of their own, in real time, as a store outside of the
process knows no other. They need no plugin for async tests, and take less than a second together.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeAlias, cast
from uuid import uuid4

from resilience._cache import cached
from resilience._cache_shared import CacheEntry, CacheStore

MakesStore: TypeAlias = "CacheStore | Callable[[], Any]"

_SOON = 0.2
"""Seconds that a test lets pass; an entry that expires "soon" has expired after them."""

_LARGE = "0123456789" * 100_000

_TAGS = ((), ("users",), ("b", "a", "ä b,c:d", ""))

_ENDINGS = (
    *("", " ", "A", "a", "é", "e\N{COMBINING ACUTE ACCENT}"),
    *("*", "?", "[a]", "%", "_", ":", "/", "'", '"'),
    *("x" * 2000 + "1", "x" * 2000 + "2"),
)
"""What keys may differ in: whatever a store may drop, fold, cut off or take for a pattern."""


class CacheStoreTests:
    """Tests of a `CacheStore`, for those who write one.

    Inherit from it, and give it a fixture ``store``: the store, or a function that opens one. A store that
    belongs to an event loop needs a function, as each test has a loop of its own; it may be an ordinary
    function, an async one, or one that returns an async context manager, which closes the store::

        class TestRedisStore(CacheStoreTests):
            @pytest.fixture
            def store(self, redis_url):
                @asynccontextmanager
                async def open_store():
                    async with redis.from_url(redis_url) as client:
                        yield RedisStore(client)

                return open_store

    The keys are new ones in every run, but the store is cleared: give it one that holds nothing else.

    Attributes:
        values: What must come back as it went in. Set it to what your store can keep, if it cannot keep
            everything, such as to what JSON knows.
    """

    values: ClassVar[Sequence[object]] = (
        *(None, False, 0, 0.0, "", b"", [], {}, ()),
        *(
            True,
            1,
            -1.5,
            2**80,
            "text",
            "Ünïcödé \N{SNOWMAN} \U0001f600",
            b"\x00\xff",
            [1, [2]],
            {"a": {"b": None}},
        ),
        *((1, "two"), "line\nbreak", "0", "None"),
    )

    def test_it_has_the_methods_of_a_cache_store(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            for name in ("get", "set", "delete", "clear"):
                method: Any = getattr(opened, name)
                assert inspect.iscoroutinefunction(inspect.unwrap(method)), f"{name} must be async"

        _run(check, store)

    def test_an_unknown_key_has_no_entry(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            found = await opened.get(_key())
            assert found is None, f"get of an unknown key must return None, got {found!r}"

        _run(check, store)

    def test_every_value_comes_back_as_it_went_in(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            for value in self.values:
                key = _key()
                await _set(opened, key, value)
                entry = await _entry(opened, key, f"for the value {value!r}")
                same = type(entry.value) is type(value) and entry.value == value
                assert same, f"{value!r} came back as {entry.value!r}"

        _run(check, store)

    def test_a_large_value_comes_back_as_it_went_in(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            key = _key()
            await _set(opened, key, _LARGE)
            entry = await _entry(opened, key, "for a value of a million characters")
            assert entry.value == _LARGE, "a value of a million characters came back changed"

        _run(check, store)

    def test_tags_come_back_as_they_went_in(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            for tags in _TAGS:
                key = _key()
                await _set(opened, key, tags=tags)
                entry = await _entry(opened, key, f"with the tags {tags!r}")
                assert tuple(entry.tags) == tags, f"the tags {tags!r} came back as {entry.tags!r}"

        _run(check, store)

    def test_expires_in_is_what_is_left(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            key = _key()
            await opened.set(key, CacheEntry("value", 60.0, 120.0))
            first = (await _entry(opened, key)).expires_in
            assert 50 < first <= 60, (
                f"right after a set with expires_in=60.0, get must say so, got {first!r}"
            )
            await asyncio.sleep(_SOON)
            later = (await _entry(opened, key)).expires_in
            assert first - 10 < later <= first - _SOON / 2, (
                f"expires_in must count down: {_SOON} s after {first!r} it is {later!r}"
            )

        _run(check, store)

    def test_an_expired_entry_stays_until_keep_for(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            key = _key()
            await opened.set(key, CacheEntry("value", _SOON / 4, 60.0))
            await asyncio.sleep(_SOON)
            entry = await _entry(opened, key, "that has expired, but is to be kept for 60 s")
            assert entry.expires_in <= 0, (
                f"an expired entry must say so, got expires_in={entry.expires_in!r}"
            )
            assert entry.value == "value", f"'value' came back as {entry.value!r}"

        _run(check, store)

    def test_an_entry_that_is_not_kept_is_not_fresh(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            key = _key()
            await opened.set(key, CacheEntry("value", _SOON / 4, _SOON / 4))
            await asyncio.sleep(_SOON)
            entry = await opened.get(key)
            assert entry is None or entry.expires_in <= 0, (
                f"after keep_for an entry may be gone or expired, got expires_in={entry.expires_in!r}"
            )

        _run(check, store)

    def test_set_replaces_all_of_an_entry(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            key = _key()
            await opened.set(key, CacheEntry({"old": 1}, 600.0, 600.0, ("old",)))
            await _set(opened, key, {"new": 2}, ("new",))
            entry = await _entry(opened, key)
            assert entry.value == {"new": 2}, (
                f"the second value must replace the first, got {entry.value!r}"
            )
            assert tuple(entry.tags) == ("new",), f"so must the tags, got {entry.tags!r}"
            assert entry.expires_in <= 60, f"so must expires_in, got {entry.expires_in!r}"

        _run(check, store)

    def test_keys_that_look_alike_are_different(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            base = _key()
            keys = [base + ending for ending in _ENDINGS]
            for number, key in enumerate(keys):
                await _set(opened, key, number)
            for number, key in enumerate(keys):
                entry = await _entry(opened, key, f"under the key {key!r}")
                assert entry.value == number, f"{key!r} has the entry of {keys[entry.value]!r}"

        _run(check, store)

    def test_delete_forgets_one_key(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            keys = [_key() for _ in range(3)]
            for key in keys:
                await _set(opened, key)
            await opened.delete(keys[1])
            assert await opened.get(keys[1]) is None, "a deleted key must have no entry"
            for key in (keys[0], keys[2]):
                await _entry(opened, key, "as another key was deleted")
            await _set(opened, keys[1], "again")
            assert (await _entry(opened, keys[1], "set after a delete")).value == "again"

        _run(check, store)

    def test_delete_of_an_unknown_key_does_nothing(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            key = _key()
            await _set(opened, key)
            await opened.delete(_key())
            await _entry(opened, key, "as an unknown key was deleted")

        _run(check, store)

    def test_clear_forgets_all_keys(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            keys = [_key() for _ in range(10)]
            for key in keys:
                await _set(opened, key)
            await opened.clear()
            left = [key for key in keys if await opened.get(key) is not None]
            assert not left, f"after a clear there are still entries: {left}"
            await opened.clear()
            await _set(opened, keys[0], "again")
            assert (await _entry(opened, keys[0], "set after a clear")).value == "again"

        _run(check, store)

    def test_concurrent_calls_do_not_mix_entries(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            shared, own = _key(), [_key() for _ in range(50)]
            await asyncio.gather(
                *(_set(opened, key, number) for number, key in enumerate(own)),
                *(_set(opened, shared, number, (f"tag {number}",)) for number in range(50)),
            )
            found = await asyncio.gather(*(_entry(opened, key) for key in own))
            for number, entry in enumerate(found):
                assert entry.value == number, f"the entry of {number} has {entry.value!r}"
            last = await _entry(opened, shared)
            assert tuple(last.tags) == (f"tag {last.value}",), "value and tags of two sets are mixed"

        _run(check, store)

    def test_cached_works_with_it(self, store: MakesStore) -> None:
        async def check(opened: CacheStore) -> None:
            calls: list[str] = []
            prefix = _key()

            def key(login: str) -> str:
                return prefix + login

            users = cached(60, store=opened, key=key)

            @users
            async def get_user(login: str) -> None:
                calls.append(login)

            for login in ("ada", "ada", "bob", "ada"):
                await get_user(login)
            assert calls == ["ada", "bob"], f"each user is to be loaded once, but these were: {calls}"
            await users.invalidate("ada")
            await get_user("ada")
            await get_user("bob")
            assert calls == ["ada", "bob", "ada"], (
                f"one user was invalidated, and these were loaded: {calls}"
            )
            await users.clear()
            await get_user("bob")
            assert calls[3:] == ["bob"], f"all was cleared, and these were loaded: {calls[3:]}"

        _run(check, store)


def _key() -> str:
    return f"resilience-test-{uuid4()}"


async def _set(store: CacheStore, key: str, value: object = "value", tags: tuple[str, ...] = ()) -> None:
    await store.set(key, CacheEntry(value, 60.0, 60.0, tags))


async def _entry(store: CacheStore, key: str, which: str = "that was set") -> CacheEntry:
    entry = await store.get(key)
    assert entry is not None, f"the entry {which} is gone"
    return entry


def _run(check: Callable[[CacheStore], Awaitable[None]], store: MakesStore) -> None:
    async def main() -> None:
        async with _opened(store) as opened:
            await check(opened)

    # With a factory the runner leaves the current event loop of the thread alone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())


@asynccontextmanager
async def _opened(store: Any) -> AsyncGenerator[CacheStore]:
    # A class has the methods of a store, too, but is a function that opens one.
    opened: Any = store() if isinstance(store, type) or not isinstance(store, CacheStore) else store
    if inspect.isawaitable(opened):
        opened = await opened
    if isinstance(opened, CacheStore):
        yield opened
        return
    if not hasattr(opened, "__aenter__"):
        raise TypeError(f"store must be a CacheStore, or a function that opens one, got {opened!r}")
    async with opened as entered:
        yield cast("CacheStore", entered)
