"""What a thousand callers at once are let loose on: a cold key of a cache, a limiter, a bulkhead."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resilience import bulkhead, rate_limited
from tests.benchmarks.case import Call, Decorate, Kind, RefusedError, bare, within
from tests.benchmarks.cases import cache as caches

CALLERS = 1_000
WORK = 0.01
"""Seconds that the value of a cold key takes."""

RATE, BURST = 10_000, 10
IDEAL = (CALLERS - BURST) / RATE
"""Seconds in which a limiter lets all of them pass."""

PATIENCE = 3.0
"""Seconds after which the crowd goes home."""


async def slow(argument: int) -> int:
    await asyncio.sleep(WORK)
    return argument


async def quick(argument: int) -> int:
    return argument


async def one_turn(argument: int) -> int:
    await asyncio.sleep(0)
    return argument


# --- A queue at a limiter ---------------------------------------------------------------------------


def bucket(call: Call) -> Call:
    return rate_limited(RATE, burst=BURST)(call)


def exact_window(call: Call) -> Call:
    return rate_limited(BURST, per=BURST / RATE)(call)


def aiolimiter(call: Call) -> Call:
    from aiolimiter import AsyncLimiter

    return within(AsyncLimiter(BURST, BURST / RATE))(call)


def asynciolimiter(call: Call) -> Call:
    from asynciolimiter import LeakyBucketLimiter

    limiter = LeakyBucketLimiter(RATE, capacity=BURST)

    async def wrapper(argument: int) -> Any:
        await limiter.wait()
        return await call(argument)

    return wrapper


def pyrate_limiter(call: Call) -> Call:
    from pyrate_limiter import Duration, Limiter, Rate, StateBucket

    limiter = Limiter(StateBucket([Rate(RATE, Duration.SECOND, burst=BURST)]), buffer_ms=0)

    async def wrapper(argument: int) -> Any:
        await limiter.try_acquire_async("key")
        return await call(argument)

    return wrapper


def throttled(call: Call) -> Call:
    from throttled.asyncio import MemoryStore, Throttled, rate_limiter

    quota = rate_limiter.per_sec(RATE, burst=BURST)
    throttle = Throttled(key="key", using="gcra", quota=quota, store=MemoryStore(), timeout=PATIENCE)

    async def wrapper(argument: int) -> Any:
        if (await throttle.limit()).limited:
            raise RefusedError
        return await call(argument)

    return wrapper


def pyresilience_limit(call: Call) -> Call:
    from pyresilience import RateLimiterConfig, resilient

    config = RateLimiterConfig(max_calls=BURST, period=BURST / RATE, max_wait=PATIENCE)
    return resilient(rate_limiter=config)(call)


# --- A queue at a bulkhead --------------------------------------------------------------------------

PLACES = 10


def ours_bulkhead(call: Call) -> Call:
    return bulkhead(PLACES, max_queue=None)(call)


def semaphore(call: Call) -> Call:
    return within(asyncio.Semaphore(PLACES))(call)


def hyx_bulkhead(call: Call) -> Call:
    from hyx.bulkhead import bulkhead

    return bulkhead(PLACES, CALLERS)(call)


def anyio_limiter(call: Call) -> Call:
    from anyio import CapacityLimiter

    return within(CapacityLimiter(PLACES))(call)


def pyresilience_bulkhead(call: Call) -> Call:
    from pyresilience import BulkheadConfig, resilient

    return resilient(bulkhead=BulkheadConfig(PLACES, max_wait=PATIENCE))(call)


@dataclass(frozen=True)
class Crowd:
    """What a crowd is let loose on.

    Attributes:
        name: What they come for.
        function: What is decorated.
        ours: Decorators of this library.
        rivals: Those of others.
        note: What a reader has to know.
    """

    name: str
    function: Call
    ours: Mapping[str, Decorate]
    rivals: Mapping[str, Decorate]
    note: str

    @property
    def decorators(self) -> dict[str, tuple[Kind, Decorate]]:
        """Whose decorators there are, and the function without any."""
        return {
            "bare": (Kind.REFERENCE, bare),
            **{name: (Kind.OURS, decorate) for name, decorate in self.ours.items()},
            **{name: (Kind.RIVAL, decorate) for name, decorate in self.rivals.items()},
        }


CROWDS = (
    Crowd(
        "one cold key of a cache",
        slow,
        {"cached": caches.ours},
        {
            "async-lru": caches.async_lru,
            "cachetools-async": caches.cachetools_async,
            "aiocache": caches.aiocache,
            "aiocache, cached_stampede": caches.aiocache_stampede,
            "cashews": caches.cashews(protected=True),
            "cashews, protected=False": caches.cashews(protected=False),
            "pyresilience": caches.pyresilience,
        },
        f"The value takes {WORK * 1e3:g} ms; one call would do.",
    ),
    Crowd(
        "a queue at a limiter",
        quick,
        {"rate_limited, token bucket": bucket, "rate_limited, exact window": exact_window},
        {
            "aiolimiter": aiolimiter,
            "asynciolimiter": asynciolimiter,
            "pyrate-limiter, GCRA": pyrate_limiter,
            "throttled-py, GCRA": throttled,
            "pyresilience": pyresilience_limit,
        },
        f"{RATE:,} a second, {BURST} at once: {IDEAL * 1e3:.0f} ms if nobody is let in late. "
        f"After {PATIENCE:g} s the rest goes home.",
    ),
    Crowd(
        "a queue at a bulkhead",
        one_turn,
        {"bulkhead": ours_bulkhead},
        {
            "asyncio.Semaphore": semaphore,
            "anyio.CapacityLimiter": anyio_limiter,
            "hyx": hyx_bulkhead,
            "pyresilience": pyresilience_bulkhead,
        },
        f"{PLACES} places, each held for a turn of the event loop.",
    ),
)
