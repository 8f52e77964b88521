"""What `cached` counts."""

from __future__ import annotations

from typing import NamedTuple


class CacheInfo(NamedTuple):
    """What a cache has done since it was made, or was reset.

    Attributes:
        hits: Calls answered by a fresh value, or by a remembered error.
        misses: Calls that called the function.
        stale: Calls answered by an expired value.
        coalesced: Calls that waited for the miss of another.
        evictions: Values dropped because there was no room.
        size: How many values and errors are kept now; ``None`` with an async store.
    """

    hits: int
    misses: int
    stale: int
    coalesced: int
    evictions: int
    size: int | None


class Counts:
    """How often each thing happened that is told as ``cache.hit`` and so on.

    Attributes, as they are quicker than the items of a dict, by a tenth of a hit.
    """

    __slots__ = ("coalesced", "evicted", "hit", "miss", "refresh_failed", "stale", "store_failed")

    def __init__(self) -> None:
        self.hit = 0
        self.miss = 0
        self.stale = 0
        self.coalesced = 0
        self.evicted = 0
        self.refresh_failed = 0
        self.store_failed = 0
