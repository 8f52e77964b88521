"""One call of every policy, as the guards of speed make it again and again.

The guards count instead of measuring time, so what is counted must be the same each time: the clock of the
policies is a counter that moves by a millisecond at each reading, or stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from resilience import (
    MetricsRegistry,
    _clock,
    bulkhead,
    cached,
    circuit_breaker,
    fallback,
    hedge,
    map_errors,
    rate_limited,
    retry,
    timeout,
    track_metrics,
)
from resilience_httpx import BearerAuth, ResilientClient

Call = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True)
class Path:
    """A way through a policy.

    Attributes:
        make: Makes the function to call; outside of an event loop.
        over: The path that does the same work without a policy.
        rejects: Whether the calls are refused, from the second one on.
    """

    make: Callable[[], Call]
    over: str = "bare"
    rejects: bool = False


@contextlib.contextmanager
def clock_of(read: Callable[[], float]) -> Iterator[None]:
    """Let the policies read their time from a function."""
    real = _clock.monotonic
    _clock.monotonic = read
    try:
        yield
    finally:
        _clock.monotonic = real


async def answer(number: int) -> int:
    """Answer at once."""
    return number


async def answer_later(number: int) -> int:
    """Answer in the next turn of the loop."""
    await asyncio.sleep(0)
    return number


async def fail(number: int) -> int:
    """Fail at once."""
    raise ConnectionError


def failing_twice() -> Call:
    """Make a function that fails at the first two of three calls."""
    outcomes = itertools.cycle([True, True, False])

    async def function(number: int) -> int:
        if next(outcomes):
            raise ConnectionError
        return number

    return function


def forwarding(function: Call) -> Call:
    """Do what every decorator has to do, and nothing else."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


def itself(number: int) -> int:
    """Say which key a call has."""
    return number


KEYS = 10_000


def among_others(call: Call) -> Call:
    """Call with many keys: the one that is called with later must not become dearer for it."""

    async def fill() -> None:
        for number in range(KEYS):
            await call(number)

    asyncio.run(fill())
    return call


def bucket_among_others() -> Call:
    """Make a function with a token bucket for each of many keys."""
    return among_others(rate_limited(10_000, burst=10_000, key=itself, max_keys=KEYS)(answer))


def cached_among_others() -> Call:
    """Make a function of which many results are kept."""
    return among_others(cached(3600, maxsize=KEYS)(answer))


def four_policies() -> Call:
    """Make a function with four policies around it."""
    policies = (
        rate_limited(10_000, burst=10_000),
        circuit_breaker(failure_rate=0.5),
        retry(attempts=3),
        timeout(3600),
    )
    function: Call = answer
    for policy in policies:
        function = policy(function)
    return function


class Memory(httpx.AsyncBaseTransport):
    """Answers every request without a network."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer at once."""
        return httpx.Response(200, content=b'{"login": "ada"}', request=request)


def requests_of(client: httpx.AsyncClient) -> Call:
    """Make a function that sends a request."""

    async def get(number: int) -> httpx.Response:
        return await client.get("https://api.example.com/users/ada")

    return get


def plain_client() -> Call:
    """Make a function that sends a request through httpx alone."""
    return requests_of(httpx.AsyncClient(transport=Memory()))


def resilient_client() -> Call:
    """Make a function that sends a request through every policy of the client."""
    client = ResilientClient(
        transport=Memory(),
        retry=retry(attempts=4),
        rate_limit=rate_limited(10_000, burst=10_000),
        circuit_breaker=circuit_breaker(failure_threshold=5),
        bulkhead=bulkhead(100),
        auth=BearerAuth("token"),
    )
    return requests_of(client)


WRAPPER = "forwarding wrapper"
"""What all others are compared with."""

PLAIN_CLIENT = "plain client"
"""Not ours: if it changes, another httpx is the reason."""

PATHS = {
    "bare": Path(lambda: answer),
    "bare, suspended": Path(lambda: answer_later),
    WRAPPER: Path(lambda: forwarding(answer)),
    "retry": Path(lambda: retry(attempts=3)(answer)),
    "retry, two failures": Path(lambda: retry(attempts=3, wait=0, budget=None)(failing_twice())),
    "breaker": Path(lambda: circuit_breaker(5)(answer)),
    "breaker, 100 calls": Path(lambda: circuit_breaker(failure_rate=0.5, window=100)(answer)),
    "breaker, 10 s": Path(lambda: circuit_breaker(failure_rate=0.5, window=timedelta(seconds=10))(answer)),
    "breaker, open": Path(lambda: circuit_breaker(1, recovery_timeout=3600)(fail), rejects=True),
    "limit, window": Path(lambda: rate_limited(10_000)(answer)),
    "limit, bucket": Path(lambda: rate_limited(10_000, burst=10_000)(answer)),
    "limit, keyed window": Path(lambda: rate_limited(10_000, key=itself)(answer)),
    "limit, keyed bucket": Path(lambda: rate_limited(10_000, burst=10_000, key=itself)(answer)),
    "limit, keyed bucket of 10,000": Path(bucket_among_others),
    "limit, reached": Path(lambda: rate_limited(1, per=3600, max_wait=0)(answer), rejects=True),
    "cache, hit": Path(lambda: cached(3600)(answer)),
    "cache, hit of 10,000": Path(cached_among_others),
    "timeout": Path(lambda: timeout(3600)(answer)),
    "timeout, suspended": Path(lambda: timeout(3600)(answer_later), over="bare, suspended"),
    "bulkhead": Path(lambda: bulkhead(100)(answer)),
    "track_metrics": Path(lambda: track_metrics(registry=MetricsRegistry())(answer)),
    "map_errors": Path(lambda: map_errors({OSError: ValueError})(answer)),
    "fallback": Path(lambda: fallback(None)(answer)),
    "hedge": Path(lambda: hedge(3600)(answer), over="bare, suspended"),
    "stack of four": Path(four_policies),
    PLAIN_CLIENT: Path(plain_client),
    "client": Path(resilient_client),
}
