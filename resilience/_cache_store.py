"""Where `cached` keeps its entries: what all places have in common.

There are three: memory, a cachetools container of the user, and a `CacheStore`. ``at_hand`` and
``touch`` are the two steps of a hit and never wait; a store that has to be asked is asked by ``read``.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable
from typing import Any, Protocol


class Entry:
    """A value, until when it is fresh, and what it can be dropped by. Never changed."""

    __slots__ = ("expires_at", "tags", "value")

    def __init__(self, value: Any, expires_at: float, tags: tuple[Hashable, ...]) -> None:
        self.value = value
        self.expires_at = expires_at
        self.tags = tags


class Rest(Awaitable[None]):
    """What remains to be done of a change that is made here already; awaiting it does it."""

    def __init__(self, *steps: Callable[[], Awaitable[None]]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, None, None]:
        for step in self._steps:
            yield from step().__await__()


DONE = Rest()


class Lookup(Protocol):
    """What `Store.at_hand` must be."""

    def __getitem__(self, key: Hashable, /) -> Entry:
        """Return the entry of a key, fresh or not; raise ``KeyError`` if there is none."""
        ...


class Store(ABC):
    """What the rest of `cached` needs of a place for entries.

    Attributes:
        at_hand: Finds the entries that can be had without waiting.
        touch: Notes the use of a key; may raise ``KeyError`` if it was dropped in the meantime.
        lock: Guards the entries. Reentrant, as comparing two keys may run anything.
    """

    is_shared = False

    at_hand: Lookup
    touch: Callable[[Hashable], object]

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._tags = TagIndex()

    def find(self, key: Hashable) -> Entry | None:
        """Return the entry of a key, fresh or not, if it is at hand."""
        try:
            return self.at_hand[key]
        except KeyError:
            return None

    async def read(self, key: Hashable) -> Entry | None:
        """Return the entry of a key, fresh or not, also one that is not at hand."""
        return self.find(key)

    @abstractmethod
    async def write(self, key: Hashable, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        """Store an entry, if it is still wanted then; return how many others that drove out."""

    @abstractmethod
    def drop(self, keys: Iterable[Hashable]) -> Rest:
        """Drop entries."""

    def drop_tag(self, tag: Hashable) -> Rest:
        """Drop the entries with a tag, as far as it is known which ones have it."""
        with self.lock:
            keys = self._tags.keys(tag)
        return self.drop(keys)

    @abstractmethod
    def clear(self) -> Rest:
        """Drop all entries."""

    @abstractmethod
    def size(self) -> int | None:
        """Return how many entries there are, if that is known."""


class TagIndex:
    """Which keys have which tags; it knows only keys that have some. Guarded by the lock of its owner."""

    def __init__(self) -> None:
        self._tags: OrderedDict[Hashable, tuple[Hashable, ...]] = OrderedDict()
        self._keys: dict[Hashable, set[Hashable]] = {}

    def add(self, key: Hashable, tags: tuple[Hashable, ...]) -> None:
        """Note the tags of a key, instead of those it had."""
        self.remove(key)
        if tags:
            self._tags[key] = tags
        for tag in tags:
            self._keys.setdefault(tag, set()).add(key)

    def remove(self, key: Hashable) -> None:
        """Forget a key, if it is known."""
        for tag in self._tags.pop(key, ()):
            keys = self._keys[tag]
            keys.discard(key)
            if not keys:
                del self._keys[tag]

    def keys(self, tag: Hashable) -> tuple[Hashable, ...]:
        """Return the keys that have a tag."""
        return tuple(self._keys.get(tag, ()))

    def __contains__(self, tag: Hashable) -> bool:
        return tag in self._keys

    def shrink(self, size: int) -> None:
        """Forget the oldest keys until no more than ``size`` are left."""
        while len(self._tags) > size:
            self.remove(next(iter(self._tags)))
