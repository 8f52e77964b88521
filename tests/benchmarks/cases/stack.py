"""Retry, breaker, limit and timeout on one function, outermost first: ours, and sets of rivals."""

from __future__ import annotations

from collections.abc import Iterable

from resilience import circuit_breaker, rate_limited, retry, stack, timeout
from tests.benchmarks.case import (
    HOUR,
    MANY,
    Call,
    Case,
    Decorate,
    Entry,
    Group,
    RefusedError,
    forwarding,
    returns,
    suspends,
)
from tests.benchmarks.cases import circuit_breaker as breakers
from tests.benchmarks.cases import rate_limit as limits
from tests.benchmarks.cases import retry as retries
from tests.benchmarks.cases import timeout as timeouts


def one_by_one(*decorators: Decorate) -> Decorate:
    """Make one decorator of several, outermost first."""

    def decorate(call: Call) -> Call:
        for each in reversed(decorators):
            call = each(call)
        return call

    return decorate


def ours_stacked(call: Call) -> Call:
    return stack(
        retry(on=RefusedError),
        circuit_breaker(recovery_timeout=HOUR),
        rate_limited(MANY, burst=MANY),
        timeout(timeouts.SECONDS),
    )(call)


def hyx_with_bulkhead(call: Call) -> Call:
    from hyx.bulkhead import bulkhead

    return one_by_one(retries.hyx, breakers.hyx, bulkhead(64, 128), limits.hyx, timeouts.hyx)(call)


def pyresilience(call: Call) -> Call:
    from pyresilience import CircuitBreakerConfig, RateLimiterConfig, RetryConfig, TimeoutConfig, resilient

    return resilient(
        retry=RetryConfig(delay=0, jitter=False, retry_on=(RefusedError,)),
        circuit_breaker=CircuitBreakerConfig(recovery_timeout=HOUR),
        rate_limiter=RateLimiterConfig(max_calls=MANY),
        timeout=TimeoutConfig(timeouts.SECONDS),
    )(call)


def of_rivals(retry: Decorate, breaker: Decorate) -> Decorate:
    """Make a set of rivals: theirs, with aiolimiter and asyncio.timeout."""
    return one_by_one(retry, breaker, limits.aiolimiter, timeouts.asyncio_timeout)


OURS: dict[str, Decorate] = {
    "four decorators": one_by_one(retries.ours, breakers.consecutive, limits.bucket, timeouts.ours),
    "four decorators, exact windows": one_by_one(
        retries.ours, breakers.last_calls, limits.exact, timeouts.ours
    ),
    "stack(...) of the four": ours_stacked,
}
LIMITS: dict[str, Decorate] = {"four limits": one_by_one(forwarding, forwarding, forwarding, forwarding)}
SETS: dict[str, Decorate | Entry] = {
    "tenacity, purgatory": of_rivals(retries.tenacity, breakers.purgatory),
    "stamina, aiobreaker": of_rivals(retries.stamina, breakers.aiobreaker),
    "backoff, circuitbreaker": of_rivals(retries.backoff, breakers.circuitbreaker),
    "hyx's retry, circuitbreaker": of_rivals(retries.hyx, breakers.circuitbreaker),
    "hyx": one_by_one(retries.hyx, breakers.hyx, limits.hyx, timeouts.hyx),
    "hyx, with its bulkhead": hyx_with_bulkhead,
    "pyresilience": Entry(pyresilience, note="one decorator for all four"),
}
NOTE = "the sets of two have aiolimiter and asyncio.timeout further in"

AT_ONCE = Group("stack of four: the call returns at once", returns, note=NOTE)
SUSPENDING = Group("stack of four: the call suspends once", suspends, note=NOTE)


def cases() -> Iterable[Case]:
    """Return the cases of four policies on one function."""
    for group in AT_ONCE, SUSPENDING:
        yield from group.cases(OURS, SETS, LIMITS)
