"""Limiters, breakers, bulkheads and caches that remember many keys, ours and those of others.

Each is made for a number of keys, and gives a function that is called with a key. None ever refuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from resilience import bulkhead, cached, circuit_breaker, rate_limited

HOUR = 3600

Call = Callable[[str], Awaitable[Any]]
Make = Callable[[int], Call]


@dataclass(frozen=True)
class Keyed:
    """What remembers keys.

    Attributes:
        group: What it is compared with.
        make: Makes it for a number of keys.
        calls: How many calls each key makes.
        budget: Bytes of a key at most, if there is a promise.
        ours: Whether it is of this library.
        note: What a reader has to know about it.
    """

    group: str
    make: Make
    calls: int = 1
    budget: int | None = None
    ours: bool = False
    note: str = ""


async def answer(key: str) -> str:
    """Answer at once."""
    return key


async def fail(key: str) -> None:
    """Fail."""
    raise ConnectionError


def itself(key: str) -> str:
    """Say which key a call has."""
    return key


# --- Ours -------------------------------------------------------------------------------------------


def bucket_of(rate: int) -> Make:
    """Return what makes a token bucket for each key."""

    def make(keys: int) -> Call:
        return rate_limited(rate, per=HOUR, burst=rate, key=itself, max_keys=keys)(answer)

    return make


def window_of(rate: int, per: float = HOUR) -> Make:
    """Return what makes an exact window for each key."""

    def make(keys: int) -> Call:
        return rate_limited(rate, per=per, key=itself, max_keys=keys)(answer)

    return make


def breaker(keys: int) -> Call:
    """Return a circuit for each key."""
    return circuit_breaker(5, key=itself, max_keys=keys)(answer)


def breaker_with_failure(keys: int) -> Call:
    """Return a circuit for each key, which has counted one failure."""
    guarded = circuit_breaker(5, key=itself, max_keys=keys)(fail)

    async def call(key: str) -> None:
        try:
            await guarded(key)
        except ConnectionError:
            return

    return call


def slots(keys: int) -> Call:
    """Return a bulkhead for each key."""
    return bulkhead(10, key=itself, max_keys=keys)(answer)


def cache(keys: int) -> Call:
    """Return a cache with a time to live."""
    return cached(HOUR, maxsize=keys)(answer)


def cache_by_key(keys: int) -> Call:
    """Return a cache with a time to live and a key of its own."""
    return cached(HOUR, maxsize=keys, key=itself)(answer)


# --- Limiters of others -----------------------------------------------------------------------------


def limits(strategy: str, rate: int = 100) -> Make:
    """Return what makes a limiter of limits."""

    def make(keys: int) -> Call:
        from limits import RateLimitItemPerHour
        from limits.aio import storage, strategies

        limiter = getattr(strategies, strategy)(storage.MemoryStorage())
        item = RateLimitItemPerHour(rate)

        async def call(key: str) -> None:
            assert await limiter.hit(item, key)

        return call

    return make


def pyrate_limiter(kind: str, rate: int = 100) -> Make:
    """Return what makes a limiter of pyrate-limiter, with a bucket for each key."""

    def make(keys: int) -> Call:
        import pyrate_limiter as pyrate

        class Buckets(pyrate.BucketFactory):
            def __init__(self) -> None:
                self.of: dict[str, Any] = {}
                self.clock = pyrate.MonotonicClock()

            def wrap_item(self, name: str, weight: int = 1) -> Any:
                return pyrate.RateItem(name, self.clock.now(), weight=weight)

            def get(self, item: Any) -> Any:
                if item.name not in self.of:
                    self.of[item.name] = getattr(pyrate, kind)([pyrate.Rate(rate, pyrate.Duration.HOUR)])
                return self.of[item.name]

        limiter = pyrate.Limiter(Buckets())

        async def call(key: str) -> None:
            assert await limiter.try_acquire_async(key)

        return call

    return make


def throttled(algorithm: str, rate: int = 100) -> Make:
    """Return what makes a limiter of throttled-py."""

    def make(keys: int) -> Call:
        from throttled.asyncio import MemoryStore, Throttled, rate_limiter

        store = MemoryStore(options={"MAX_SIZE": keys})
        limiter = Throttled(using=algorithm, quota=rate_limiter.per_hour(rate, burst=rate), store=store)

        async def call(key: str) -> None:
            assert not (await limiter.limit(key)).limited

        return call

    return make


def cashews_limit(keys: int) -> Call:
    """Return a limiter of cashews, a fixed window."""
    from cashews import Cache

    store = Cache()
    store.setup("mem://", size=4 * keys, check_interval=0)
    return store.rate_limit(limit=100, period=HOUR, key="{key}")(answer)


# --- Caches of others -------------------------------------------------------------------------------


def async_lru(keys: int) -> Call:
    """Return a cache of async-lru."""
    from async_lru import alru_cache

    return alru_cache(maxsize=keys, ttl=HOUR)(answer)


def cachetools_async(keys: int) -> Call:
    """Return a cache of cachetools, made async by cachetools-async."""
    import cachetools
    from cachetools_async import cached as decorator

    return decorator(cachetools.TTLCache(keys, HOUR))(answer)


def cashews(keys: int) -> Call:
    """Return a cache of cashews."""
    from cashews import Cache

    store = Cache()
    store.setup("mem://", size=keys, check_interval=0)
    return store(ttl=HOUR, key="{key}", protected=False)(answer)


def aiocache(keys: int) -> Call:
    """Return a cache of aiocache."""
    from aiocache import cached as decorator

    return decorator(ttl=HOUR, timeout=0, key_builder=lambda function, key: key)(answer)


ONE, EXACT, OTHERS, CACHES = (
    "limiters, after one call of each key",
    "exact windows, full",
    "breaker and bulkhead",
    "caches, one entry of each key",
)
FULL = 10
"""Calls within the windows when they are full."""

KEYED = {
    "token bucket": Keyed(ONE, bucket_of(100), budget=200, ours=True),
    "exact window": Keyed(ONE, window_of(100), budget=200 + 8 * 100, ours=True),
    "limits, fixed window": Keyed(ONE, limits("FixedWindowRateLimiter")),
    "limits, sliding window counter": Keyed(ONE, limits("SlidingWindowCounterRateLimiter")),
    "limits, moving window": Keyed(ONE, limits("MovingWindowRateLimiter")),
    "pyrate-limiter, in memory": Keyed(ONE, pyrate_limiter("InMemoryBucket")),
    "pyrate-limiter, GCRA": Keyed(ONE, pyrate_limiter("StateBucket")),
    "throttled-py, GCRA": Keyed(ONE, throttled("gcra")),
    "throttled-py, token bucket": Keyed(ONE, throttled("token_bucket")),
    "cashews, fixed window": Keyed(ONE, cashews_limit),
    "exact window, 10 calls": Keyed(EXACT, window_of(FULL), FULL, 200 + 8 * FULL, ours=True),
    "exact window, 100 calls": Keyed(EXACT, window_of(100), 100, 200 + 8 * 100, ours=True),
    "limits, moving window, 10 calls": Keyed(EXACT, limits("MovingWindowRateLimiter", FULL), FULL),
    "pyrate-limiter, in memory, 10 calls": Keyed(EXACT, pyrate_limiter("InMemoryBucket", FULL), FULL),
    "circuit breaker, one failure": Keyed(OTHERS, breaker_with_failure, ours=True),
    "bulkhead, nobody in it": Keyed(OTHERS, slots, ours=True),
    "cached": Keyed(CACHES, cache, ours=True),
    "cached, key=": Keyed(CACHES, cache_by_key, ours=True),
    "async-lru": Keyed(CACHES, async_lru),
    "cachetools-async": Keyed(CACHES, cachetools_async),
    "cashews": Keyed(CACHES, cashews, note="protected=False"),
    "aiocache": Keyed(CACHES, aiocache, note="timeout=0; without a limit of its size"),
}
