"""The wrappers of `rate_limited`: past the limit while nobody waits, into the line otherwise.

Where a call costs one token there is a straight path, which admits it without the lock. It relies on the
GIL, with which CPython switches threads only at calls and jumps. Without a key, there is no call between
the comparison and the last store. With a key there is, so the path says that it is busy first; between
the look whether somebody else is and that, there is no call. Whoever has the lock waits until nobody is
busy, and then is busy itself: see `Exclusive`. Builds without the GIL have no straight path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from resilience import _clock
from resilience._keys import KeyTable
from resilience._sliding_window import SlidingWindow
from resilience._switch import switch
from resilience._token_bucket import ONE, TokenBucket

if TYPE_CHECKING:
    from resilience._rate_limit import RateLimit

P = ParamSpec("P")
R = TypeVar("R")


def guard_window(
    policy: RateLimit, function: Callable[P, Awaitable[R]], name: str, window: SlidingWindow
) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls cost one token of a window."""
    rule, log, max_wait = window.rule, window.log.append, policy.config.max_wait
    plain: Callable[..., Awaitable[R]] = function  # called without **, it is 10 to 20 ns quicker

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (policy.enabled and switch.active):
            return await function(*args, **kwargs)
        now = _clock.monotonic()
        if window.free and now >= rule.since and not rule.busy:
            window.free -= 1
            rule.since = now
            log(now)
            return await (plain(*args, **kwargs) if kwargs else plain(*args))
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
    plain: Callable[..., Awaitable[R]] = function  # called without **, it is 10 to 20 ns quicker

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (policy.enabled and switch.active):
            return await function(*args, **kwargs)
        now = _clock.monotonic()
        tokens = bucket.tokens + (now - bucket.at) * per_second
        if tokens > capacity:
            tokens = capacity
        if tokens >= ONE and bucket.line is None and not rule.busy:
            bucket.tokens = tokens - 1.0
            bucket.at = now
            return await (plain(*args, **kwargs) if kwargs else plain(*args))
        if place := policy.arrive(1, max_wait):
            await policy.take_turn(place, now, name)
        return await function(*args, **kwargs)

    return wrapper


def guard_keyed_window(
    policy: RateLimit, function: Callable[P, Awaitable[R]], name: str, table: KeyTable[SlidingWindow]
) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls cost one token of the window of their key."""
    config, rule, peek, touch = policy.config, policy.rule, table.peek, table.touch
    key, max_wait = cast("Callable[..., Hashable]", config.key), config.max_wait

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (policy.enabled and switch.active):
            return await function(*args, **kwargs)
        which = key(*args, **kwargs)
        if not rule.busy:
            rule.busy = True
            fits = False
            try:
                window = peek(which)
                if window is not None and window.free:
                    window.free -= 1
                    window.log.append(_clock.monotonic())
                    fits = True
                    touch(which)
            except TypeError:  # a key that cannot be one; the table tells
                pass
            finally:
                rule.busy = False
            if fits:
                return await function(*args, **kwargs)
        now = _clock.monotonic()
        if place := policy.arrive_at(which, 1, max_wait):
            await policy.take_turn(place, now, name)
        return await function(*args, **kwargs)

    return wrapper


def guard_keyed_bucket(
    policy: RateLimit, function: Callable[P, Awaitable[R]], name: str, table: KeyTable[TokenBucket]
) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls cost one token of the bucket of their key."""
    config, rule, peek, touch = policy.config, policy.rule, table.peek, table.touch
    key, max_wait = cast("Callable[..., Hashable]", config.key), config.max_wait
    per_second, capacity = rule.per_second, float(rule.capacity)

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (policy.enabled and switch.active):
            return await function(*args, **kwargs)
        which = key(*args, **kwargs)
        now = _clock.monotonic()
        if not rule.busy:
            rule.busy = True
            fits = False
            try:
                bucket = peek(which)
                if bucket is not None and bucket.line is None:
                    tokens = bucket.tokens + (now - bucket.at) * per_second
                    if tokens > capacity:
                        tokens = capacity
                    if tokens >= ONE:
                        bucket.tokens = tokens - 1.0
                        bucket.at = now
                        fits = True
                        touch(which)
            except TypeError:  # a key that cannot be one; the table tells
                pass
            finally:
                rule.busy = False
            if fits:
                return await function(*args, **kwargs)
        if place := policy.arrive_at(which, 1, max_wait):
            await policy.take_turn(place, now, name)
        return await function(*args, **kwargs)

    return wrapper


def guard(policy: RateLimit, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
    """Guard a function whose calls may cost anything, and may have a key."""
    key, max_wait = policy.config.key, policy.config.max_wait

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if policy.enabled and switch.active and (cost := policy.cost_of(*args, **kwargs)):
            started = _clock.monotonic()
            if key is None:
                place = policy.arrive(cost, max_wait)
            else:
                place = policy.arrive_at(key(*args, **kwargs), cost, max_wait)
            if place:
                await policy.take_turn(place, started, name)
        return await function(*args, **kwargs)

    return wrapper
