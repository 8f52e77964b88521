"""`cached` and its rivals: the value is there, or not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from resilience import cached
from tests.benchmarks.case import Call, Case, Decorate, Group, Outcome, bare, forwarding

TTL = 600
SIZE = 1024


def dictionary(call: Call) -> Call:
    """Make the least that a cache for any signature can be."""
    values = {(1,): 1}

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return values[args]

    return wrapper


def ours(call: Call) -> Call:
    return cached(TTL, maxsize=SIZE)(call)


def ours_with_key(call: Call) -> Call:
    return cached(TTL, maxsize=SIZE, key=lambda argument: argument)(call)


def async_lru(call: Call) -> Call:
    from async_lru import alru_cache

    return alru_cache(maxsize=SIZE, ttl=TTL)(call)


def async_lru_without_ttl(call: Call) -> Call:
    from async_lru import alru_cache

    return alru_cache(maxsize=SIZE)(call)


def cachetools_async(call: Call) -> Call:
    import cachetools
    from cachetools_async import cached

    return cached(cachetools.TTLCache(SIZE, TTL))(call)


def cachetools_async_without_ttl(call: Call) -> Call:
    import cachetools
    from cachetools_async import cached

    return cached(cachetools.LRUCache(SIZE))(call)


def aiocache(call: Call) -> Call:
    from aiocache import cached

    return cached(ttl=TTL)(call)


def aiocache_without_timeout(call: Call) -> Call:
    from aiocache import cached

    return cached(ttl=TTL, timeout=0)(call)


def aiocache_stampede(call: Call) -> Call:
    from aiocache.decorators import cached_stampede

    return cached_stampede(ttl=TTL)(call)


def cashews(*, protected: bool) -> Decorate:
    def decorate(call: Call) -> Call:
        from cashews import Cache

        cache = Cache()
        cache.setup("mem://")
        return cache(ttl=TTL, protected=protected)(call)

    return decorate


def pyresilience(call: Call) -> Call:
    from pyresilience import CacheConfig, resilient

    return resilient(cache=CacheConfig(max_size=SIZE, ttl=TTL))(call)


def with_new_keys(decorate: Decorate) -> Decorate:
    """Make a decorator whose every call is for another key."""

    def decorate_for_new_keys(call: Call) -> Call:
        numbers = itertools.count()
        remembering = decorate(call)

        async def wrapper(argument: int) -> int:
            await remembering(next(numbers))
            return argument

        return wrapper

    return decorate_for_new_keys


HIT = Group(
    "cache: hit",
    outcome=Outcome.IS_REMEMBERED,
    before=1,
    limit=dictionary,
    note="limit: a wrapper that looks into a dict",
)

MISS = Group(
    "cache: miss, one goes for one that comes",
    before=SIZE,
    bare=with_new_keys(bare),
    limit=with_new_keys(forwarding),
)

OURS: dict[str, Decorate] = {"cached": ours, "cached, key=": ours_with_key}
RIVALS: dict[str, Decorate] = {
    "async-lru": async_lru,
    "async-lru, no ttl": async_lru_without_ttl,
    "cachetools-async": cachetools_async,
    "cachetools-async, no ttl": cachetools_async_without_ttl,
    "aiocache": aiocache,
    "aiocache, timeout=0": aiocache_without_timeout,
    "cashews": cashews(protected=True),
    "cashews, protected=False": cashews(protected=False),
    "pyresilience": pyresilience,
}


def cases() -> Iterable[Case]:
    """Return the cases of `cached`."""
    yield from HIT.cases(OURS, RIVALS)
    yield from MISS.cases(
        {name: with_new_keys(decorate) for name, decorate in OURS.items()},
        {name: with_new_keys(decorate) for name, decorate in RIVALS.items()},
    )
