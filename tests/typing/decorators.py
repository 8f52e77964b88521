"""Exact types under mypy and pyright; never run. A line that bears an ignore must be rejected."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import CoroutineType
from typing import Any, Protocol, assert_type

from tenacity import stop_after_attempt, wait_fixed, wait_none

from resilience import (
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    BulkheadOfKey,
    Cached,
    CircuitBreaker,
    DecorrelatedJitter,
    FullJitter,
    MapErrors,
    Policy,
    Priority,
    RateLimit,
    Retry,
    RetryBudget,
    Stack,
    ThrottleOfKey,
    Timeout,
    TrackMetrics,
    adaptive_throttle,
    bulkhead,
    cached,
    circuit_breaker,
    map_errors,
    policies,
    rate_limited,
    retry,
    stack,
    timeout,
    track_metrics,
)


async def function(number: int, *, text: str = "") -> list[str]:
    return [text] * number


Decorated = Callable[[int], CoroutineType[Any, Any, list[str]]]

# --- Each decorator, bare and called, keeps the exact type ------------------------------------------


@retry
async def bare_retry(number: int) -> str:
    return str(number)


@circuit_breaker
async def bare_breaker(number: int) -> str:
    return str(number)


@adaptive_throttle
async def bare_throttle(number: int) -> str:
    return str(number)


@cached
async def bare_cached(number: int) -> str:
    return str(number)


@track_metrics
async def bare_metrics(number: int) -> str:
    return str(number)


@map_errors
async def bare_mapped(number: int) -> str:
    return str(number)


@retry(attempts=4, on=(OSError, KeyError))
async def called_retry(number: int) -> str:
    return str(number)


@rate_limited(10, per=1.0)
async def called_limit(number: int) -> str:
    return str(number)


@circuit_breaker(failure_threshold=3)
async def called_breaker(number: int) -> str:
    return str(number)


@cached(ttl=60)
async def called_cached(number: int) -> str:
    return str(number)


@track_metrics("operation")
async def called_metrics(number: int) -> str:
    return str(number)


@map_errors({OSError: ValueError})
async def called_mapped(number: int) -> str:
    return str(number)


def urgency(number: int) -> Priority:
    return Priority.BULK if number else Priority.HIGH


@bulkhead(5, priority=urgency)
async def called_bulkhead(number: int) -> str:
    return str(number)


@timeout(5)
async def called_timeout(number: int) -> str:
    return str(number)


@map_errors({OSError: ValueError})
@track_metrics("operation")
@cached(ttl=60)
@retry(attempts=4)
@circuit_breaker()
@rate_limited(10)
async def all_six(number: int, *, text: str = "") -> dict[str, int]:
    return {text: number}


async def results() -> None:
    for each in (bare_retry, bare_breaker, bare_throttle, bare_cached, bare_metrics, bare_mapped):
        assert_type(await each(1), str)
    assert_type(await bare_retry(1), str)
    assert_type(await bare_breaker(1), str)
    assert_type(await bare_cached(1), str)
    assert_type(await bare_metrics(1), str)
    assert_type(await bare_mapped(1), str)
    assert_type(await called_retry(1), str)
    assert_type(await called_limit(1), str)
    assert_type(await called_breaker(1), str)
    assert_type(await called_cached(1), str)
    assert_type(await called_metrics(1), str)
    assert_type(await called_mapped(1), str)
    assert_type(await called_timeout(1), str)
    assert_type(await called_bulkhead(1), str)
    assert_type(await all_six(1, text="a"), dict[str, int])
    assert_type(asyncio.create_task(all_six(1)), asyncio.Task[dict[str, int]])

    bare_retry("1")  # type: ignore[arg-type]
    bare_cached()  # type: ignore[call-arg]
    called_limit(1, 2)  # type: ignore[call-arg]
    called_bulkhead("1")  # type: ignore[arg-type]
    called_breaker(wrong=1)  # type: ignore[call-arg]
    all_six(1, text=2)  # type: ignore[arg-type]
    all_six(text="a")  # type: ignore[call-arg]


# --- Methods ----------------------------------------------------------------------------------------


class Base:
    async def overridden(self, number: int) -> str:
        return str(number)


class Service(Base):
    @retry(attempts=2)
    @circuit_breaker
    async def method(self, number: int) -> str:
        return str(number)

    @classmethod
    @cached(ttl=60)
    async def of_class(cls, number: int) -> "type[Service]":
        return cls

    @staticmethod
    @rate_limited(1)
    async def static(number: int) -> bytes:
        return bytes(number)

    @retry
    async def overridden(self, number: int) -> str:
        return str(number)


class Fetches(Protocol):
    async def method(self, number: int) -> str: ...


async def methods(service: Service) -> None:
    assert_type(await service.method(1), str)
    assert_type(await Service.of_class(1), type[Service])
    assert_type(await service.of_class(1), type[Service])
    assert_type(await Service.static(1), bytes)
    fetches: Fetches = service
    await fetches.method(1)

    service.method("1")  # type: ignore[arg-type]
    service.method()  # type: ignore[call-arg]
    Service.static("1")  # type: ignore[arg-type]
    Service.of_class()  # type: ignore[call-arg]


# --- One policy on two signatures, blocks, call -----------------------------------------------------

shared = retry(attempts=3)
assert_type(shared, Retry)
assert_type(retry(None, on=lambda error: True, wait=[1, timedelta(seconds=2)], deadline=60.0), Retry)
assert_type(retry(wait=DecorrelatedJitter(timedelta(seconds=1), max=10), budget=RetryBudget(0.1)), Retry)
assert_type(retry(wait=FullJitter(max=10), budget=None, wrap=True, name="fetch"), Retry)
assert_type(retry(wait=wait_fixed(1) + wait_none(), stop=stop_after_attempt(3)), Retry)
assert_type(rate_limited(1), RateLimit)
assert_type(circuit_breaker(), CircuitBreaker)
assert_type(circuit_breaker(5, recovery_timeout=[1, timedelta(seconds=2)], name="api"), CircuitBreaker)
assert_type(circuit_breaker(recovery_timeout=FullJitter(1), abandoned_rate=1.0), CircuitBreaker)
assert_type(circuit_breaker(recovery_timeout=wait_fixed(1), half_open_rates=(0.1, 0.5)), CircuitBreaker)
assert_type(adaptive_throttle(1.5, window=timedelta(minutes=1), on=OSError), AdaptiveThrottle)
assert_type(adaptive_throttle(key=len).at("a"), ThrottleOfKey)
assert_type(AdaptiveLimit(10, algorithm="gradient", slow_call=timedelta(seconds=1)), AdaptiveLimit)
assert_type(cached(), Cached)
assert_type(track_metrics(), TrackMetrics)
assert_type(map_errors(), MapErrors)
assert_type(timeout(1), Timeout)
assert_type(bulkhead(1, max_queue=None, max_wait=timedelta(seconds=1), priority=Priority.LOW), Bulkhead)
assert_type(bulkhead(AdaptiveLimit(), priority=urgency, key=len), Bulkhead)
assert_type(bulkhead(1, key=len).at("a"), BulkheadOfKey)
bulkhead()  # type: ignore[call-arg]
bulkhead(1, priority="low")  # type: ignore[arg-type]


@shared
async def first(number: int) -> str:
    return str(number)


@shared
async def second(text: str, *rest: bytes) -> int:
    return len(text) + len(rest)


policy = stack(map_errors({OSError: ValueError}), cached(), shared, circuit_breaker(), rate_limited(5))
assert_type(policy, Stack)


@policy
async def third(text: str) -> set[str]:
    return {text}


async def reuse(breaker: CircuitBreaker, limit: RateLimit) -> None:
    assert_type(await first(1), str)
    assert_type(await second("a", b"b"), int)
    assert_type(await third("a"), set[str])
    assert_type(await shared.call(function, 1, text="a"), list[str])
    assert_type(await policy.call(function, 1), list[str])
    assert_type(policies(third), tuple[Policy, ...])
    assert_type(await limit.acquire(), float)
    assert_type(limit.try_acquire(), bool)
    async with breaker, limit:
        pass

    first("1")  # type: ignore[arg-type]
    second(1)  # type: ignore[arg-type]
    third(1)  # type: ignore[arg-type]
    await shared.call(function, "1")  # type: ignore[arg-type]


# --- Everything that is awaitable when called may be decorated, and nothing else --------------------


class CallableObject:
    async def __call__(self, number: int) -> str:
        return str(number)


def returns_future(number: int) -> "asyncio.Future[str]":
    raise NotImplementedError


def returns_awaitable(number: int) -> Awaitable[str]:
    raise NotImplementedError


def not_async(number: int) -> str:
    return str(number)


async def others() -> None:
    assert_type(await retry(CallableObject())(1), str)
    assert_type(await retry(returns_future)(1), str)
    assert_type(await cached(ttl=1)(returns_awaitable)(1), str)
    assert_type(await shared(functools.partial(function, 1))(), list[str])

    retry(not_async)  # type: ignore[arg-type]
    shared(not_async)  # type: ignore[arg-type]
    policy(not_async)  # type: ignore[arg-type]
    cached(ttl=1)(not_async)  # type: ignore[arg-type]


# --- Wrong configuration ----------------------------------------------------------------------------

retry(attempts="3")  # type: ignore[call-overload]
retry(tries=3)  # type: ignore[call-overload]
retry(wait="1")  # type: ignore[arg-type]
retry(budget=0.2)  # type: ignore[call-overload]
retry(3, ConnectionError)  # type: ignore[call-overload]
rate_limited()  # type: ignore[call-overload]
rate_limited("10")  # type: ignore[call-overload]
circuit_breaker(on=3)  # type: ignore[call-overload]
circuit_breaker(half_open_rates=0.5)  # type: ignore[call-overload]
circuit_breaker(unknown=1)  # type: ignore[call-overload]
adaptive_throttle("2")  # type: ignore[call-overload]
AdaptiveLimit(algorithm="vegas")  # type: ignore[arg-type]
cached(ttl="60")  # type: ignore[call-overload]
timeout()  # type: ignore[call-arg]
timeout("5")  # type: ignore[arg-type]
stack(function)  # type: ignore[arg-type]
