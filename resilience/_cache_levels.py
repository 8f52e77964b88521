"""Two levels of `cached`: the memory of this process over a `CacheStore` that several may share.

A hit in memory makes no round trip. An entry stays at hand for a short while only, never longer than it is
fresh; then the shared store is asked again, so what another process invalidated is gone here, too, after
that while at the latest. What is invalidated here is gone at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable

from resilience import _clock
from resilience._cache_memory import MemoryStore
from resilience._cache_shared import SharedStore
from resilience._cache_store import Entry, Rest, Store


class LayeredStore(Store):
    """Entries in a `SharedStore`, those that were used of late in memory as well.

    Args:
        memory: The level that is asked first.
        shared: The level that is always right.
        memory_ttl: For how many seconds an entry answers from memory without a look at the shared level.
    """

    is_shared = True

    def __init__(self, memory: MemoryStore, shared: SharedStore, memory_ttl: float) -> None:
        super().__init__()
        self._memory = memory
        self._shared = shared
        self._memory_ttl = memory_ttl
        self._changes = 0
        self.at_hand = memory.at_hand
        self.touch = memory.touch

    def find(self, key: Hashable) -> Entry | None:
        """Return the entry of a key if it is in memory and may still be taken from there."""
        entry, now = self._memory.find(key), _clock.monotonic()
        if entry is None or not entry.is_of_use(now) or now >= entry.stored_at + self._memory_ttl:
            return None
        return entry

    async def read(self, key: Hashable) -> Entry | None:
        """Return the entry of a key from the shared level, and keep it in memory."""
        changes = self._changes
        entry = await self._shared.read(key)
        if entry is None:
            self._memory.drop((key,))
        else:
            # What was dropped while the store was being asked may be older than that.
            self._put(entry, lambda: self._changes == changes)
        return entry

    async def write(self, entry: Entry, is_wanted: Callable[[], bool]) -> int:
        """Store an entry in both levels; what has to leave the memory is still in the shared one."""
        self._put(entry, is_wanted)
        return await self._shared.write(entry, is_wanted)

    def drop(self, keys: Iterable[Hashable]) -> Rest:
        keys = list(keys)
        return self._drop(lambda: self._memory.drop(keys), self._shared.drop(keys))

    def tagged(self, tag: Hashable) -> Iterable[Hashable]:
        return {*self._memory.tagged(tag), *self._shared.tagged(tag)}

    def clear(self) -> Rest:
        return self._drop(self._memory.clear, self._shared.clear())

    def size(self) -> None:
        return None

    def _put(self, entry: Entry, is_wanted: Callable[[], bool]) -> None:
        entry.good_until = min(entry.good_until, entry.stored_at + self._memory_ttl)
        self._memory.put(entry, is_wanted)

    def _drop(self, forget: Callable[[], object], rest: Awaitable[None]) -> Rest:
        """Drop from the memory, and once more when it is done in the shared level.

        In between, somebody may have read there what was still to go.
        """

        def drop_here() -> None:
            with self._memory.lock:
                self._changes += 1
            forget()

        async def drop_here_again() -> None:
            drop_here()

        drop_here()
        return Rest(lambda: rest, drop_here_again)
