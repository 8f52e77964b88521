"""`rate_limited` and its rivals: free, with keys, and full."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from resilience import rate_limited
from tests.benchmarks.case import (
    HOUR,
    MANY,
    Call,
    Case,
    Decorate,
    Entry,
    Group,
    Outcome,
    RefusedError,
    refusing,
    returns,
    suspends,
    within,
)

PER = 0.1
RATE = 10**6
"""More than can be called within `PER`; an exact window remembers each call that long."""


def the_key(argument: int) -> str:
    return "key"


def exact(call: Call) -> Call:
    return rate_limited(RATE, per=PER)(call)


def bucket(call: Call) -> Call:
    return rate_limited(MANY, burst=MANY)(call)


def exact_keyed(call: Call) -> Call:
    return rate_limited(RATE, per=PER, key=the_key)(call)


def bucket_keyed(call: Call) -> Call:
    return rate_limited(MANY, burst=MANY, key=the_key)(call)


def aiolimiter(call: Call) -> Call:
    from aiolimiter import AsyncLimiter

    return within(AsyncLimiter(MANY, 1))(call)


def asynciolimiter(call: Call) -> Call:
    from asynciolimiter import LeakyBucketLimiter

    limiter = LeakyBucketLimiter(MANY, capacity=MANY)

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        await limiter.wait()
        return await call(*args, **kwargs)

    return wrapper


def hyx(call: Call) -> Call:
    from hyx.ratelimit import tokenbucket

    return tokenbucket(max_executions=MANY, per_time_secs=1)(call)


def pyrate_limiter(make_bucket: str) -> Decorate:
    def decorate(call: Call) -> Call:
        import pyrate_limiter

        rate = pyrate_limiter.Rate(MANY, pyrate_limiter.Duration.SECOND)
        bucket = getattr(pyrate_limiter, make_bucket)([rate])
        return pyrate_limiter.Limiter(bucket).as_decorator(name="key")(call)

    return decorate


def limits(strategy: str, *, full: bool = False) -> Decorate:
    def decorate(call: Call) -> Call:
        from limits import RateLimitItemPerHour, RateLimitItemPerSecond
        from limits.aio import storage, strategies

        limiter = getattr(strategies, strategy)(storage.MemoryStorage())
        item = RateLimitItemPerHour(1) if full else RateLimitItemPerSecond(MANY)

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not await limiter.hit(item, "key"):
                raise RefusedError
            return await call(*args, **kwargs)

        return wrapper

    return decorate


def throttled(algorithm: str, *, full: bool = False) -> Decorate:
    def decorate(call: Call) -> Call:
        from throttled.asyncio import MemoryStore, Throttled, rate_limiter

        quota = rate_limiter.per_hour(1, burst=1) if full else rate_limiter.per_sec(MANY, burst=MANY)
        return Throttled(key="key", using=algorithm, quota=quota, store=MemoryStore())(call)

    return decorate


def cashews(limit: int) -> Decorate:
    def decorate(call: Call) -> Call:
        from cashews import Cache

        cache = Cache()
        cache.setup("mem://")
        return cache.rate_limit(limit=limit, period=int(HOUR), key="key")(call)

    return decorate


def pyresilience(limit: int) -> Decorate:
    def decorate(call: Call) -> Call:
        from pyresilience import RateLimiterConfig, resilient

        return resilient(rate_limiter=RateLimiterConfig(max_calls=limit, period=HOUR))(call)

    return decorate


def exact_full(call: Call) -> Call:
    return rate_limited(1, per=HOUR, max_wait=0)(call)


def bucket_full(call: Call) -> Call:
    return rate_limited(1, per=HOUR, burst=1, max_wait=0)(call)


def bucket_keyed_full(call: Call) -> Call:
    return rate_limited(1, per=HOUR, burst=1, max_wait=0, key=the_key)(call)


def hyx_full(call: Call) -> Call:
    from hyx.ratelimit import tokenbucket

    return tokenbucket(max_executions=1, per_time_secs=HOUR)(call)


def pyrate_limiter_full(call: Call) -> Call:
    from pyrate_limiter import Duration, Limiter, Rate, StateBucket

    limiter = Limiter(StateBucket([Rate(1, Duration.HOUR)]))

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not await limiter.try_acquire_async("key", blocking=False):
            raise RefusedError
        return await call(*args, **kwargs)

    return wrapper


FREE = Group("rate limit: free", returns)
FREE_SUSPENDING = Group("rate limit: free, the call suspends once", suspends)
KEYED = Group("rate limit: free, with a key", returns)
FULL = Group(
    "rate limit: full, refuses",
    returns,
    Outcome.IS_REFUSED,
    before=3,
    bare=refusing,
    limit=refusing,
    note="bare and limit: a wrapper that only raises",
)

EXACT = "rate_limited, exact window"
BUCKET = "rate_limited, token bucket"
LIMITS = "limits, fixed window"

OURS: dict[str, Decorate] = {EXACT: exact, BUCKET: bucket}
RIVALS: dict[str, Decorate | Entry] = {
    "aiolimiter": aiolimiter,
    "asynciolimiter": Entry(
        asynciolimiter, note="no clock: timers of the loop drain it; waits, never refuses"
    ),
    "hyx": Entry(hyx, note="reads no clock while it has tokens: lets up to twice the rate pass"),
    "pyresilience": pyresilience(MANY),
}
RIVALS_KEYED: dict[str, Decorate | Entry] = {
    LIMITS: limits("FixedWindowRateLimiter"),
    "limits, sliding window counter": limits("SlidingWindowCounterRateLimiter"),
    "limits, moving window": Entry(
        limits("MovingWindowRateLimiter"), at_most=500, note="with up to 500 calls in the window"
    ),
    "pyrate-limiter, in memory": pyrate_limiter("InMemoryBucket"),
    "pyrate-limiter, GCRA": pyrate_limiter("StateBucket"),
    "throttled-py, GCRA": throttled("gcra"),
    "throttled-py, token bucket": throttled("token_bucket"),
    "throttled-py, fixed window": throttled("fixed_window"),
    "cashews": cashews(MANY),
}


def cases() -> Iterable[Case]:
    """Return the cases of `rate_limited`."""
    for group in FREE, FREE_SUSPENDING:
        yield from group.cases(OURS, RIVALS)
    yield from KEYED.cases(
        {
            EXACT: exact_keyed,
            BUCKET: bucket_keyed,
        },
        RIVALS_KEYED,
    )
    yield from FULL.cases(
        {
            EXACT: exact_full,
            BUCKET: bucket_full,
            f"{BUCKET}, keyed": bucket_keyed_full,
        },
        {
            "hyx": hyx_full,
            LIMITS: limits("FixedWindowRateLimiter", full=True),
            "pyrate-limiter, GCRA": pyrate_limiter_full,
            "throttled-py, GCRA": throttled("gcra", full=True),
            "throttled-py, token bucket": throttled("token_bucket", full=True),
            "cashews": cashews(1),
            "pyresilience": pyresilience(1),
        },
    )
