"""The wrappers of `rate_limited`: past the limit while nobody waits, into the line otherwise.

Two of them have a straight path, which admits a call without the lock: between the comparison and the
last store there is no call, after which CPython with the GIL might switch to another thread. The clock is
read before. While somebody waits or decides, the straight path is off; builds without the GIL do not
have it. The other wrappers always take the lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from resilience import _clock
from resilience._keys import KeyTable
from resilience._limiters import KeyedLimiter
from resilience._line import arrive
from resilience._policy import switch
from resilience._sliding_window import SlidingWindow
from resilience._token_bucket import TokenBucket

if TYPE_CHECKING:
    from resilience._rate_limit import RateLimit

P = ParamSpec("P")
R = TypeVar("R")


def guard_window(
    policy: RateLimit, function: Callable[P, Awaitable[R]], name: str, window: SlidingWindow
) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls cost one token of a window."""
    rule, log, max_wait = window.rule, window.log.append, policy.config.max_wait
    rule.has_straight_path = True

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (policy.enabled and switch.active):
            return await function(*args, **kwargs)
        now = _clock.monotonic()
        if rule.free and now >= rule.since:
            rule.free -= 1
            log(now)
            return await function(*args, **kwargs)
        if place := policy.arrive(1, max_wait):
            await policy.take_turn(place, now, name)
        return await function(*args, **kwargs)

    return wrapper


def guard_bucket(
    policy: RateLimit, function: Callable[P, Awaitable[R]], name: str, bucket: TokenBucket
) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls cost one token of a bucket."""
    rule, max_wait = bucket.rule, policy.config.max_wait
    per_second, capacity = rule.per_second, float(rule.capacity)
    rule.has_straight_path = True

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (policy.enabled and switch.active):
            return await function(*args, **kwargs)
        now = _clock.monotonic()
        tokens = bucket.tokens + (now - bucket.at) * per_second
        if tokens > capacity:
            tokens = capacity
        if tokens >= rule.least:
            bucket.tokens = tokens - 1.0
            bucket.at = now
            return await function(*args, **kwargs)
        if place := policy.arrive(1, max_wait):
            await policy.take_turn(place, now, name)
        return await function(*args, **kwargs)

    return wrapper


def guard(policy: RateLimit, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls may cost anything."""
    max_wait = policy.config.max_wait

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if policy.enabled and switch.active and (cost := policy.cost_of(*args, **kwargs)):
            started = _clock.monotonic()
            if place := policy.arrive(cost, max_wait):
                await policy.take_turn(place, started, name)
        return await function(*args, **kwargs)

    return wrapper


def guard_keyed(
    policy: RateLimit,
    function: Callable[P, Awaitable[R]],
    name: str,
    table: KeyTable[KeyedLimiter],
) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls have a limit for each key."""
    config, lock, at = policy.config, policy.rule.lock, table.at
    key, max_wait = cast("Callable[..., Hashable]", config.key), config.max_wait
    cost_of = policy.cost_of if callable(config.cost) else None
    cost = policy.cost_of() if cost_of is None else 0

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (policy.enabled and switch.active):
            return await function(*args, **kwargs)
        tokens = cost if cost_of is None else cost_of(*args, **kwargs)
        if not tokens:
            return await function(*args, **kwargs)
        which = key(*args, **kwargs)
        lock.acquire()  # not `with`, which takes three times as long
        try:
            now = _clock.monotonic()
            limiter = at(which, now)
            if limiter.line is None and limiter.take(now, tokens):
                place = None
            else:
                place = arrive(limiter, tokens, now, max_wait)
        finally:
            lock.release()
        if place:
            await policy.take_turn(place, now, name)
        return await function(*args, **kwargs)

    return wrapper
