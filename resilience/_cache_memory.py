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

    Not on cachetools' ``LRUCache``, where a hit needs a lock, which with all its steps in Python doubles
    the price of a hit. The order is one of the entries: they are hashed by their address, in a fifth of
    the time that it takes to hash a key and compare it with the one that is known.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self._maxsize = maxsize
        self._entries: dict[Hashable, Entry] = {}
        self._order: OrderedDict[Entry, None] = OrderedDict()
        self._dead_tags: deque[Hashable] = deque()
        self.at_hand = self._entries if HAS_GIL else self
        self.touch = self._order.move_to_end if HAS_GIL else _nothing

    async def write(self, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        return self.put(entry, is_wanted)

    def put(self, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        """Store an entry, if it is still wanted; return how many others that drove out."""
        self._drop_dead()
        with self.lock:
            if not is_wanted():
                return 0
            replaced = self._entries.get(entry.key)
            evicted = self._insert(entry)
            if self._entries.get(entry.key) is entry:
                self._tags.add(entry.key, entry.tags)
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

    def _insert(self, entry: Entry) -> list[Entry]:
        self._set(entry)
        evicted: list[Entry] = []
        while len(self._order) > self._maxsize:
            oldest, _ = self._order.popitem(last=False)
            evicted.append(oldest)
            self._tags.remove(oldest.key)
            if self._entries.get(oldest.key) is oldest:
                del self._entries[oldest.key]
            else:
                self._hash_again()
        return evicted

    def _set(self, entry: Entry) -> None:
        # In this order, so that whoever looks meanwhile, without the lock, finds the old or the new one.
        replaced = self._entries.get(entry.key)
        if replaced is not None:
            entry.key = replaced.key  # that is the one which the dict keeps
        self._order[entry] = None
        self._entries[entry.key] = entry
        if replaced is not None:
            del self._order[replaced]

    def _hash_again(self) -> None:
        """Let the entries whose keys have another hash than when they came be found again."""
        self._entries.clear()
        self._entries.update((entry.key, entry) for entry in self._order)

    def _remove(self, key: Hashable) -> list[Entry]:
        self._tags.remove(key)
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        del self._order[entry]
        return [entry]

    def _drop_dead(self) -> None:
        keys: list[Hashable] = []
        with self.lock:
            while self._dead_tags:
                keys += self._tags.keys(self._dead_tags.popleft())
        self.drop(keys)

    def __getitem__(self, key: Hashable, /) -> Entry:
        """Find an entry and note its use, with the lock."""
        with self.lock:
            entry = self._entries[key]
            self._order.move_to_end(entry)
            return entry


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

    def _insert(self, entry: Entry) -> list[Entry]:
        container, key = self._container, entry.key
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
            self._set(entry)
        else:
            super()._remove(key)
        self._forget_lost()
        return evicted

    def _remove(self, key: Hashable) -> list[Entry]:
        self._container.pop(key, None)
        return super()._remove(key)

    def _forget_lost(self) -> None:
        """Follow what the container dropped by itself, a few of the oldest entries at a time."""
        for entry in list(islice(self._order, LOOK_AT)):
            if len(self._entries) <= len(self._container):
                return
            if entry.key in self._container:
                self._order.move_to_end(entry)
            else:
                super()._remove(entry.key)

    def __getitem__(self, key: Hashable, /) -> Entry:
        """Find an entry that the container has, and let it note the use."""
        with self.lock:
            self._container[key]
            return self._entries[key]


_locks: ByIdentity[threading.RLock] = ByIdentity(lambda _: threading.RLock())
"""One for each container, for all caches that use it: cachetools has none."""


def _nothing(_: Entry) -> None:
    """Do nothing: the look-up noted the use."""
