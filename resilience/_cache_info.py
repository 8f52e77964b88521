"""What `cached` counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheInfo:
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


@dataclass(slots=True)
class Counts:
    """How often each thing happened that is told as ``cache.hit`` and so on.

    Attributes, as they are quicker than the items of a dict, by a tenth of a hit.
    """

    hit: int = 0
    miss: int = 0
    stale: int = 0
    coalesced: int = 0
    evicted: int = 0
    refresh_failed: int = 0
    store_failed: int = 0
