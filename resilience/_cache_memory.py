"""The entries of `cached` in this process's memory, in an order of its own or in a container of the user.

A lock guards them. With the GIL, a hit goes without it: each of its steps is one operation on a dict, and
an entry is replaced, never changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from resilience._by_identity import ByIdentity
from resilience._cache_store import DONE, Entry, Rest, Store
from resilience._interpreter import HAS_GIL

if TYPE_CHECKING:
    import cachetools

LOOK_AT = 8
"""How many entries each change of a container checks for whether the container still has them."""

Container: TypeAlias = "cachetools.Cache[Any, Any]"


class MemoryStore(Store):
    """At most ``maxsize`` entries in this process's memory; the least recently used goes first.

    On an `OrderedDict`, as a hit in cachetools' ``LRUCache`` needs a lock, which with all its steps
    in Python doubles the price of a hit.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self._maxsize = maxsize
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._dead_tags: deque[Hashable] = deque()
        self.at_hand = self._entries if HAS_GIL else self
        self.touch = self._entries.move_to_end if HAS_GIL else _nothing

    async def write(self, key: Hashable, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        self._drop_dead()
        with self.lock:
            if not is_wanted():
                return 0
            replaced = self._entries.get(key)
            evicted = self._insert(key, entry)
            if self._entries.get(key) is entry:
                self._tags.add(key, entry.tags)
        del replaced  # outside of the lock, like those evicted: a value may run code when it dies
        return len(evicted)

    def drop(self, keys: Iterable[Hashable]) -> Rest:
        with self.lock:
            dropped = [self._remove(key) for key in keys]
        del dropped
        return DONE

    def drop_tag_later(self, tag: Hashable) -> None:
        """Drop the entries with a tag before the next one is stored.

        For the garbage collection, which may come in the middle of a change.
        """
        if tag in self._tags:
            self._dead_tags.append(tag)

    def clear(self) -> Rest:
        with self.lock:
            keys = list(self._entries)
        return self.drop(keys)

    def size(self) -> int:
        self._drop_dead()
        return len(self._entries)

    def _insert(self, key: Hashable, entry: Entry) -> list[Entry]:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        evicted: list[Entry] = []
        while len(self._entries) > self._maxsize:
            # Only this finds a key whose hash has changed since it came.
            oldest, dropped = self._entries.popitem(last=False)
            self._tags.remove(oldest)
            evicted.append(dropped)
        return evicted

    def _remove(self, key: Hashable) -> list[Entry]:
        self._tags.remove(key)
        entry = self._entries.pop(key, None)
        return [] if entry is None else [entry]

    def _drop_dead(self) -> None:
        keys: list[Hashable] = []
        with self.lock:
            while self._dead_tags:
                keys += self._tags.keys(self._dead_tags.popleft())
        self.drop(keys)

    def __getitem__(self, key: Hashable, /) -> Entry:
        """Find an entry and note its use, with the lock."""
        with self.lock:
            self._entries.move_to_end(key)
            return self._entries[key]


class ContainerStore(MemoryStore):
    """Entries in a cachetools container of the user, which decides what it evicts and when.

    It holds the values themselves, so that its ``getsizeof`` and ``ttu`` get what they expect; when they
    expire and what their tags are is kept beside it. What the container dropped by itself is gone.
    """

    def __init__(self, container: Container) -> None:
        super().__init__(0)
        self.lock = _locks.of(container)
        self._container = container
        self.at_hand = self
        self.touch = _nothing

    def size(self) -> int:
        self._drop_dead()
        with self.lock:
            return sum(key in self._container for key in self._entries)

    def _insert(self, key: Hashable, entry: Entry) -> list[Entry]:
        container = self._container
        size = container.getsizeof(entry.value)
        replaced = self._entries.get(key)
        if replaced is not None and size > container.getsizeof(replaced.value):
            self._remove(key)  # it may need the room of others: then it is an entry like a new one
        if size > container.maxsize:
            return []
        evicted: list[Entry] = []
        if key not in container:
            # What the container would do itself, but here it shows which ones go.
            while container.currsize + size > container.maxsize:
                evicted += super()._remove(container.popitem()[0])
        container[key] = entry.value
        if key in container:  # a container with times of its own may take a value and drop it at once
            self._entries[key] = entry
            self._entries.move_to_end(key)
        else:
            super()._remove(key)
        self._forget_lost()
        return evicted

    def _remove(self, key: Hashable) -> list[Entry]:
        self._container.pop(key, None)
        return super()._remove(key)

    def _forget_lost(self) -> None:
        """Follow what the container dropped by itself, a few of the oldest entries at a time."""
        for key in list(islice(self._entries, LOOK_AT)):
            if len(self._entries) <= len(self._container):
                return
            if key in self._container:
                self._entries.move_to_end(key)
            else:
                super()._remove(key)

    def __getitem__(self, key: Hashable, /) -> Entry:
        """Find an entry that the container has, and let it note the use."""
        with self.lock:
            self._container[key]
            return self._entries[key]


_locks: ByIdentity[threading.RLock] = ByIdentity(lambda _: threading.RLock())
"""One for each container, for all caches that use it: cachetools has none."""


def _nothing(_: Hashable) -> None:
    """Do nothing: the look-up noted the use."""
