"""`circuit_breaker` and its rivals: closed, and open."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from resilience import circuit_breaker
from tests.benchmarks.case import (
    HOUR,
    Call,
    Case,
    Decorate,
    Entry,
    Group,
    Outcome,
    fails,
    refusing,
    returns,
    suspends,
)

THRESHOLD = 5
BEFORE = 30
"""Calls that fail until a circuit is open for sure: more than the fewest that a window is judged by."""


def consecutive(call: Call) -> Call:
    return circuit_breaker(THRESHOLD, recovery_timeout=HOUR)(call)


def last_calls(call: Call) -> Call:
    return circuit_breaker(failure_rate=0.5, window=100, recovery_timeout=HOUR)(call)


def last_seconds(call: Call) -> Call:
    return circuit_breaker(failure_rate=0.5, window=timedelta(seconds=10), recovery_timeout=HOUR)(call)


def keyed(call: Call) -> Call:
    return circuit_breaker(THRESHOLD, recovery_timeout=HOUR, key=lambda argument: "key")(call)


def aiobreaker(call: Call) -> Call:
    from aiobreaker import CircuitBreaker

    return CircuitBreaker(fail_max=THRESHOLD, timeout_duration=timedelta(seconds=HOUR))(call)


def purgatory(call: Call) -> Call:
    from purgatory import AsyncCircuitBreakerFactory

    return AsyncCircuitBreakerFactory(default_threshold=THRESHOLD, default_ttl=HOUR)("circuit")(call)


def circuitbreaker(call: Call) -> Call:
    from circuitbreaker import CircuitBreaker

    return CircuitBreaker(failure_threshold=THRESHOLD, recovery_timeout=int(HOUR))(call)


def hyx(call: Call) -> Call:
    from hyx.circuitbreaker import consecutive_breaker

    return consecutive_breaker(failure_threshold=THRESHOLD, recovery_time_secs=HOUR)(call)


def cashews(call: Call) -> Call:
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://")
    return cache.circuit_breaker(errors_rate=10, period=60, ttl=int(HOUR), min_calls=2)(call)


def interlock(call: Call) -> Call:
    from interlock import CircuitBreaker, Config

    config = Config(minimum_number_of_calls=20, window_size=100, wait_duration_in_open=HOUR)
    return CircuitBreaker(name="circuit", config=config)(call)


def interlock_seconds(call: Call) -> Call:
    from interlock import CircuitBreaker, Config, WindowType

    config = Config(
        minimum_number_of_calls=20,
        window_type=WindowType.TIME_BASED,
        window_size=10,
        wait_duration_in_open=HOUR,
    )
    return CircuitBreaker(name="circuit", config=config)(call)


def pyresilience(call: Call) -> Call:
    from pyresilience import CircuitBreakerConfig, resilient

    config = CircuitBreakerConfig(failure_threshold=THRESHOLD, recovery_timeout=HOUR)
    return resilient(circuit_breaker=config)(call)


def redress(call: Call) -> Call:
    from redress import AsyncPolicy, CircuitBreaker, ErrorClass

    breaker = CircuitBreaker(failure_threshold=THRESHOLD, recovery_timeout_s=HOUR, trip_on={*ErrorClass})
    policy = AsyncPolicy(circuit_breaker=breaker)

    async def wrapper(argument: int) -> int:
        return await policy.call(lambda: call(argument))

    return wrapper


IN_A_ROW = "circuit_breaker, failures in a row"
LAST_CALLS = "circuit_breaker, last 100 calls"
LAST_SECONDS = "circuit_breaker, last 10 s"
OURS: dict[str, Decorate] = {
    IN_A_ROW: consecutive,
    LAST_CALLS: last_calls,
    LAST_SECONDS: last_seconds,
    "circuit_breaker, keyed": keyed,
}
RIVALS: dict[str, Decorate | Entry] = {
    "aiobreaker": aiobreaker,
    "circuitbreaker": circuitbreaker,
    "hyx": hyx,
    "interlock-cb, last 100 calls": interlock,
    "interlock-cb, last 10 s": interlock_seconds,
    "pyresilience": pyresilience,
    "redress": redress,
}

CLOSED = Group("circuit breaker: closed", returns)
CLOSED_SUSPENDING = Group("circuit breaker: closed, the call suspends once", suspends)
OPEN = Group("circuit breaker: open", fails, Outcome.IS_REFUSED, before=BEFORE, limit=refusing)


def cases() -> Iterable[Case]:
    """Return the cases of `circuit_breaker`."""
    forgets = Entry(
        cashews, at_most=100, note="scans all calls of its window, of which there are up to 100"
    )
    for group in CLOSED, CLOSED_SUSPENDING:
        yield from group.cases(OURS, {**RIVALS, "purgatory": purgatory, "cashews": forgets})
    grows = Entry(purgatory, at_most=500, note="raises one error object for ever, whose traceback grows")
    yield from OPEN.cases(OURS, {**RIVALS, "purgatory": grows, "cashews": cashews})
