"""The entries of `cached` in a store of the user that several processes may share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import cast

from resilience import _clock
from resilience._cache_store import CacheEntry, CacheStore, Entry, Rest, Store, TagIndex


class SharedStore(Store):
    """Entries in a `CacheStore`. Nothing is at hand: each look costs a round trip.

    Args:
        store: The user's object.
        maxsize: Of how many keys the tags are remembered.
        window: How many seconds after its expiry an entry can be of use.
    """

    is_shared = True

    def __init__(self, store: CacheStore, maxsize: int, window: float) -> None:
        super().__init__()
        self._store = store
        self._maxsize = maxsize
        self._window = window
        self._tags = TagIndex()
        self.at_hand = dict[Hashable, Entry]()
        self.touch = self.at_hand.__getitem__

    async def read(self, key: Hashable) -> Entry | None:
        """Return the entry of a key, its time converted to this process's clock."""
        found = await self._store.get(cast("str", key))
        if found is None:
            return None
        self._remember_tags(key, found.tags)
        return Entry(found.value, _clock.monotonic() + found.expires_in, found.tags)

    async def write(self, key: Hashable, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        """Store an entry, unless it is no longer wanted before or after that."""
        if not is_wanted():
            return 0
        name = cast("str", key)
        tags = cast("tuple[str, ...]", entry.tags)
        expires_in = entry.expires_at - _clock.monotonic()
        self._remember_tags(key, tags)
        await self._store.set(name, CacheEntry(entry.value, expires_in, expires_in + self._window, tags))
        if not is_wanted():
            await self._store.delete(name)
        return 0

    def drop(self, keys: Iterable[Hashable]) -> Rest:
        """Drop entries when awaited."""
        with self.lock:
            names = cast("list[str]", list(keys))
            for name in names:
                self._tags.remove(name)
        return Rest(*(partial(self._store.delete, name) for name in names))

    def drop_tag(self, tag: Hashable) -> Rest:
        """Drop those entries with a tag that this process stored or read, when awaited."""
        with self.lock:
            keys = self._tags.keys(tag)
        return self.drop(keys)

    def clear(self) -> Rest:
        """Drop all entries of the store when awaited."""
        with self.lock:
            self._tags = TagIndex()
        return Rest(self._store.clear)

    def size(self) -> None:
        """Return nothing: only the store knows."""

    def _remember_tags(self, key: Hashable, tags: tuple[Hashable, ...]) -> None:
        with self.lock:
            self._tags.add(key, tags)
            self._tags.shrink(self._maxsize)
