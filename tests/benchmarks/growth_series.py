"""What may cost more with more keys, more callers who wait, more calls in a window; ours and others'."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from resilience import bulkhead, circuit_breaker, rate_limited
from tests.benchmarks import keyed
from tests.benchmarks.keyed import Make
from tests.benchmarks.paths import clock_of

DICTIONARY = "a dict"

MANY = 10**9
"""A limit that nobody reaches."""

Batch = Callable[[int], Awaitable[float]]
"""Makes so many calls, and returns the CPU seconds that they took."""


@dataclass(frozen=True)
class Series:
    """What is measured with growing sizes.

    Attributes:
        make: Makes, for a size, what is measured.
        ours: Whether it is of this library.
    """

    make: Callable[[int], Awaitable[Batch]]
    ours: bool = True


@dataclass(frozen=True)
class Group:
    """Series with sizes of the same kind.

    Attributes:
        of: What the sizes count.
        sizes: From the smallest to the largest.
        series: By their names.
        least: The series that grows only because the caches of the processor do not hold it.
    """

    of: str
    sizes: tuple[int, ...]
    series: dict[str, Series]
    least: str = ""


# --- Keys -------------------------------------------------------------------------------------------


def with_keys(make_call: Make, *, ours: bool = True) -> Series:
    """Return a series that calls with random ones of the keys that are remembered."""

    async def make(size: int) -> Batch:
        call = make_call(size)
        keys = [f"user {number:07}" for number in range(size)]
        for key in keys:
            await call(key)
        chance = random.Random(0)

        async def batch(calls: int) -> float:
            chosen = chance.choices(keys, k=calls)
            began = time.thread_time()
            for number, key in enumerate(chosen):
                await call(key)
                if number % 20 == 0:  # as in a server; some put work off until the loop turns
                    await asyncio.sleep(0)
            return time.thread_time() - began

        return batch

    return Series(make, ours)


def dictionary(keys: int) -> keyed.Call:
    """Return the least that remembers keys, to show what the processor's caches alone make of it."""
    values: dict[str, str] = {}

    async def call(key: str) -> str:
        return values.setdefault(key, key)

    return call


# --- Callers who wait -------------------------------------------------------------------------------


async def turn() -> None:
    """Hold a place for a turn of the loop."""
    await asyncio.sleep(0)


async def nothing() -> None:
    """Return at once."""


def queued(make_call: Callable[[], Callable[[], Awaitable[Any]]], *, ours: bool) -> Series:
    """Return a series in which always so many callers wait: for each that is served another one comes."""

    async def make(size: int) -> Batch:
        call = make_call()

        async def caller() -> None:
            await call()

        async def batch(calls: int) -> float:
            waiting = deque(asyncio.create_task(caller()) for _ in range(1 + size))
            await asyncio.sleep(0)
            began = time.thread_time()
            for _ in range(calls):
                waiting.append(asyncio.create_task(caller()))
                await waiting.popleft()
            spent = time.thread_time() - began
            await asyncio.gather(*waiting)
            return spent

        return batch

    return Series(make, ours)


PER_SECOND = 5_000
"""So slow that the next caller has always come before it is served."""


def semaphore() -> Callable[[], Awaitable[Any]]:
    """Return a function that the standard library lets run once at a time."""
    one = asyncio.Semaphore(1)

    async def call() -> None:
        async with one:
            await turn()

    return call


def aiolimiter() -> Callable[[], Awaitable[Any]]:
    """Return a function paced by aiolimiter."""
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(1, 1 / PER_SECOND)
    return lambda: limiter.acquire()


# --- Calls in a window ------------------------------------------------------------------------------


def one_of_ten_fails() -> Callable[[], Awaitable[bool]]:
    """Make a function of whose calls one in ten fails."""
    failing = itertools.cycle([True, *[False] * 9])

    async def function() -> bool:
        if next(failing):
            raise ConnectionError
        return True

    return function


def in_window(make_call: Callable[[int], Callable[[], Awaitable[Any]]], seconds: float) -> Series:
    """Return a series with so many calls in the last seconds, by a clock that each call moves on."""

    async def make(size: int) -> Batch:
        call = make_call(size)
        now = 1_000.0

        async def batch(calls: int) -> float:
            nonlocal now
            step = seconds / size
            with clock_of(lambda: now):
                began = time.thread_time()
                for _ in range(calls):
                    now += step
                    try:
                        await call()
                    except ConnectionError:
                        continue
                return time.thread_time() - began

        await batch(2 * size)
        return batch

    return Series(make)


def limit(size: int) -> Callable[[], Awaitable[Any]]:
    """Return a function behind an exact limit, half of which is used."""
    return rate_limited(2 * size)(nothing)


def breaker_of_calls(size: int) -> Callable[[], Awaitable[Any]]:
    """Return a function behind a breaker that judges so many calls."""
    return circuit_breaker(failure_rate=0.5, window=size, minimum_calls=10)(one_of_ten_fails())


def breaker_of_seconds(size: int) -> Callable[[], Awaitable[Any]]:
    """Return a function behind a breaker that judges the last ten seconds."""
    return circuit_breaker(failure_rate=0.5, window=timedelta(seconds=10))(one_of_ten_fails())


def in_window_of_others(make_call: Callable[[int], Callable[[], Awaitable[Any]]]) -> Series:
    """Return a series of what does not go by our clock: so many calls within the last hour."""

    async def make(size: int) -> Batch:
        call = make_call(size)

        async def batch(calls: int) -> float:
            began = time.thread_time()
            for number in range(calls):
                await call()
                if number % 20 == 0:
                    await asyncio.sleep(0)
            return time.thread_time() - began

        await batch(size)
        return batch

    return Series(make, ours=False)


def moving_window(size: int) -> Callable[[], Awaitable[Any]]:
    """Return the exact window of limits."""
    from limits import RateLimitItemPerHour
    from limits.aio import storage, strategies

    limiter = strategies.MovingWindowRateLimiter(storage.MemoryStorage())
    return lambda: limiter.hit(RateLimitItemPerHour(MANY), "key")


GROUPS = {
    "keys": Group(
        "keys that are remembered",
        (1, 10, 100, 1_000, 10_000, 100_000),
        {
            "rate_limited, token bucket": with_keys(keyed.bucket_of(MANY)),
            "rate_limited, exact window": with_keys(keyed.window_of(10**6, per=0.1)),
            "circuit_breaker": with_keys(keyed.breaker),
            "bulkhead": with_keys(keyed.slots),
            "cached": with_keys(keyed.cache),
            DICTIONARY: with_keys(dictionary, ours=False),
            "async-lru": with_keys(keyed.async_lru, ours=False),
            "limits, fixed window": with_keys(keyed.limits("FixedWindowRateLimiter", MANY), ours=False),
            "throttled-py, GCRA": with_keys(keyed.throttled("gcra", MANY), ours=False),
        },
        least=DICTIONARY,
    ),
    "waiting": Group(
        "callers who wait",
        (1, 10, 100, 1_000),
        {
            "rate_limited": queued(lambda: rate_limited(PER_SECOND, burst=1)(nothing), ours=True),
            "bulkhead": queued(lambda: bulkhead(1, max_queue=None)(turn), ours=True),
            "asyncio.Semaphore": queued(semaphore, ours=False),
            "aiolimiter": queued(aiolimiter, ours=False),
        },
    ),
    "window": Group(
        "calls in the window",
        (10, 100, 1_000, 10_000, 100_000),
        {
            "rate_limited, exact window": in_window(limit, 1),
            "circuit_breaker, so many calls": in_window(breaker_of_calls, 1),
            "circuit_breaker, 10 s": in_window(breaker_of_seconds, 10),
            "limits, moving window": in_window_of_others(moving_window),
        },
    ),
}
