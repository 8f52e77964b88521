"""A store that several processes may share: what the user must offer, and the entries of `cached` in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from resilience import _clock
from resilience._cache_store import Entry, Rest, Store, TagIndex


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What a `CacheStore` keeps: any result, ``None`` included.

    All times are relative, as the clocks of two processes differ: the store's own clock measures them.

    Attributes:
        value: The result of the call.
        expires_in: Seconds until it expires: when it is stored, from then on; when it is read, what is
            left of that, 0 or less if it has expired.
        keep_for: Seconds from storing it until the store may drop it; not less than ``expires_in``, as
            an expired value can still be of use.
        tags: What it can be invalidated by.
        took: Seconds that the call took, for ``early_refresh``; 0 without that.
    """

    value: Any
    expires_in: float
    keep_for: float
    tags: tuple[str, ...] = ()
    took: float = 0.0


@runtime_checkable
class CacheStore(Protocol):
    """A store that several processes may share; an object with these methods is one.

    Keys are text, made of the function's full name and the arguments of the call. A store that fails does
    not fail the call: the function is called instead, and the event ``cache.store_failed`` tells.

    Example:
        >>> from dataclasses import replace
        >>> from time import monotonic
        >>> class DictStore:
        ...     def __init__(self) -> None:
        ...         self.entries: dict[str, tuple[float, CacheEntry]] = {}
        ...
        ...     async def get(self, key: str) -> CacheEntry | None:
        ...         if key not in self.entries:
        ...             return None
        ...         stored_at, entry = self.entries[key]
        ...         return replace(entry, expires_in=stored_at + entry.expires_in - monotonic())
        ...
        ...     async def set(self, key: str, entry: CacheEntry) -> None:
        ...         self.entries[key] = (monotonic(), entry)
        ...
        ...     async def delete(self, key: str) -> None:
        ...         self.entries.pop(key, None)
        ...
        ...     async def clear(self) -> None:
        ...         self.entries.clear()
        >>> isinstance(DictStore(), CacheStore)
        True
    """

    async def get(self, key: str) -> CacheEntry | None:
        """Return the entry of a key with the time that is left of it, or ``None`` if there is none."""
        ...

    async def set(self, key: str, entry: CacheEntry) -> None:
        """Keep an entry under a key, instead of what was there."""
        ...

    async def delete(self, key: str) -> None:
        """Forget a key, if it is known."""
        ...

    async def clear(self) -> None:
        """Forget all keys."""
        ...


class SharedStore(Store):
    """Entries in a `CacheStore`. Nothing is at hand: each look costs a round trip.

    Args:
        store: The user's object.
        maxsize: Of how many keys the tags are remembered.
        window: How many seconds after its expiry an entry can be of use.
        early_refresh: How eagerly entries are replaced ahead of their expiry.
    """

    is_shared = True

    # Keys and tags are text here, which the types of other stores do not promise: hence `Any`.

    def __init__(self, store: CacheStore, maxsize: int, window: float, early_refresh: float) -> None:
        super().__init__()
        self._store = store
        self._maxsize = maxsize
        self._window = window
        self._early_refresh = early_refresh
        self.at_hand = dict[Hashable, Entry]()
        self.touch = self.at_hand.get

    async def read(self, key: Any) -> Entry | None:
        """Return the entry of a key, its time converted to this process's clock."""
        asked_at = _clock.monotonic()  # before asking, as the answer is under way for a while
        found = await self._store.get(key)
        if found is None:
            return None
        self._remember_tags(key, found.tags)
        return Entry(
            key,
            found.value,
            found.tags,
            asked_at,
            asked_at + found.expires_in,
            took=found.took,
            early_refresh=self._early_refresh,
        )

    async def write(self, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        """Store an entry, unless it is no longer wanted before or after that."""
        if not is_wanted():
            return 0
        name: Any = entry.key
        tags: Any = entry.tags
        left = entry.expires_at - _clock.monotonic()
        self._remember_tags(name, tags)
        await self._store.set(name, CacheEntry(entry.value, left, left + self._window, tags, entry.took))
        if not is_wanted():
            await self._store.delete(name)
        return 0

    def drop(self, keys: Iterable[Any]) -> Rest:
        with self.lock:
            names = list(keys)
            for name in names:
                self._tags.remove(name)
        return Rest(*(partial(self._store.delete, name) for name in names))

    def clear(self) -> Rest:
        with self.lock:
            self._tags = TagIndex()
        return Rest(self._store.clear)

    def size(self) -> None:
        return None

    def _remember_tags(self, key: Hashable, tags: tuple[Hashable, ...]) -> None:
        with self.lock:
            self._tags.add(key, tags)
            self._tags.shrink(self._maxsize)
