"""Where `cached` keeps its entries: what all places have in common.

There are four: memory, a cachetools container of the user, a `CacheStore`, and memory over a `CacheStore`.
``at_hand`` and ``touch`` are the two steps of a hit and never wait; a store that has to be asked is asked
by ``read``.
"""

from __future__ import annotations

import math
import random
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable
from typing import Any, Protocol

EARLIEST = 10.0
"""How many times the mean an early refresh can be ahead of the expiry, so that until then a hit has nothing
to draw. The chance of an earlier one would be ``exp(-10)`` for each call."""


class Entry:
    """A value and the time it has. Never changed once it can be found.

    Args:
        key: What it is found by.
        value: The result of a call, or its error.
        tags: What it can be dropped by, besides.
        stored_at: When it came here. A clock that shows less is another one, such as one that a test froze,
            or was set back: under it, the entry is of no use.
        expires_at: Until when it is fresh.
        took: How many seconds the call took.
        early_refresh: How eagerly to replace it ahead of its expiry; see `is_due`.

    Attributes:
        good_until: Until when it answers a call at once and nothing else has to be thought of. The only
            time that a hit looks at, besides ``stored_at``.
    """

    __slots__ = ("expires_at", "good_until", "key", "stored_at", "tags", "took", "value")

    def __init__(
        self,
        key: Hashable,
        value: Any,
        tags: tuple[Hashable, ...],
        stored_at: float,
        expires_at: float,
        *,
        took: float = 0.0,
        early_refresh: float = 0.0,
    ) -> None:
        self.key = key
        self.value = value
        self.tags = tags
        self.stored_at = stored_at
        self.expires_at = expires_at
        self.took = took
        ahead = EARLIEST * early_refresh * took
        self.good_until = expires_at - ahead if ahead else expires_at

    def is_of_use(self, now: float, window: float = 0) -> bool:
        """Whether it is fresh at a moment, or expired no more than some seconds ago."""
        return self.stored_at <= now < self.expires_at + window

    def is_due(self, now: float, early_refresh: float) -> bool:
        """Draw whether a call at this moment is to have it replaced although it may still be fresh.

        This is XFetch (Vattani, Chierichetti and Lowenstein: "Optimal Probabilistic Cache Stampede
        Prevention", VLDB 2015). The chance is ``exp(-left / (early_refresh * took))`` with ``left``
        seconds left, for each call: the more calls there are, the earlier one of them draws it.
        """
        # The logarithm is negative; `random` may return 0, but not 1.
        ahead = -early_refresh * self.took * math.log(1 - random.random())
        return now + ahead >= self.expires_at

    def replaces(self, other: Entry) -> bool:
        """Whether it is newer than another one of its key, or that one, looked at again in a shared store.

        Two looks at one entry differ by how long their answers were under way. A newer entry expires later
        by what its call took at least, as that began when the other one was there.
        """
        return self.expires_at > other.expires_at + self.took / 2


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
        touch: Notes the use of an entry; may raise ``KeyError`` if it was dropped in the meantime.
        lock: Guards the entries. Reentrant, as comparing two keys may run anything.
    """

    is_shared = False

    at_hand: Lookup
    touch: Callable[[Entry], object]

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._tags = TagIndex()

    def find(self, key: Hashable) -> Entry | None:
        """Return the entry of a key, fresh or not, if it is at hand, and note its use."""
        try:
            entry = self.at_hand[key]
            self.touch(entry)
        except KeyError:
            return None
        return entry

    async def read(self, key: Hashable) -> Entry | None:
        """Return the entry of a key, fresh or not, also one that is not at hand."""
        return self.find(key)

    @abstractmethod
    async def write(self, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        """Store an entry, if it is still wanted then; return how many others that drove out."""

    @abstractmethod
    def drop(self, keys: Iterable[Hashable]) -> Rest:
        """Drop entries."""

    def drop_tag(self, tag: Hashable) -> Rest:
        """Drop the entries with a tag, as far as it is known which ones have it."""
        return self.drop(self.tagged(tag))

    def tagged(self, tag: Hashable) -> Iterable[Hashable]:
        """Return the keys that have a tag, as far as that is known."""
        with self.lock:
            return self._tags.keys(tag)

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
