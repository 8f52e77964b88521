"""Random faults, random cancellations, for a minute: nothing is left behind.

    python tests/measure_soak.py [SECONDS]

A server on loopback answers at random well, badly, late, half or not at all, while 50 tasks call it through
clients over both packages and both backends, and are cancelled at random. At the end of each round no task,
no connection and no more memory than after the rounds before may be left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx

import resilience_httpx.httpx2
from resilience import bulkhead, circuit_breaker, rate_limited, retry
from resilience_httpx import ResilientClient
from tests.support.http_server import Server, Step, hang_up, http_server, reply, reset, truncated

CALLERS = 50
CALLS = 20
"""Calls of each caller in a round."""

SPARE = 200_000
"""Bytes by which rounds may differ: buffers, caches of the interpreter."""


def random_step(chance: random.Random) -> Step:
    """Return a step that does something else each time."""
    good = reply(body=b"x" * 5_000)
    steps: list[Step] = [
        *[good] * 12,
        reply(503),
        reply(429, {"Retry-After": "0"}),
        reply(500, body=b"x" * 200_000),
        reply(200, {"Connection": "close"}),
        hang_up,
        reset(),
        truncated(),
    ]

    async def step(writer: asyncio.StreamWriter) -> bool:
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        return await chance.choice(steps)(writer)

    return step


def clients(url: str) -> list[Any]:
    """Return a client of every kind, with every policy."""
    policies: dict[str, Any] = {
        "retry": retry(attempts=3, wait=0.001),
        "rate_limit": rate_limited(100_000, burst=1_000),
        "circuit_breaker": circuit_breaker(20, recovery_timeout=0.01),
        "endpoints": {"GET /few*": [bulkhead(5, max_queue=None)]},
        "attempt_timeout": 5,
    }
    options = {**policies, "limits": httpx.Limits(max_connections=8)}
    return [
        ResilientClient(url, **options),
        ResilientClient(url, backend="aiohttp", **options),
        resilience_httpx.httpx2.ResilientClient(url, **options),
    ]


async def one_round(server: Server, chance: random.Random, callers: int) -> Counter[str]:
    """Let all callers do their calls; return how these ended."""
    ends: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as opened:
        all_clients = [await opened.enter_async_context(each) for each in clients(server.url)]

        async def caller() -> None:
            for _ in range(CALLS):
                client = chance.choice(all_clients)
                task = asyncio.create_task(client.get(chance.choice(("/", "/few/1"))))
                if chance.random() < 0.3:
                    for _ in range(chance.randrange(50)):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
                ends[how_it_ended(task)] += 1

        await asyncio.gather(*(caller() for _ in range(callers)))
        for client in all_clients:
            assert_whole(client)
    return ends


def how_it_ended(task: asyncio.Task[Any]) -> str:
    """Return a status, the name of an error, or that it was cancelled."""
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return str(task.result().status_code) if error is None else type(error).__name__


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what comes true within some turns of the loop, or never."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def no_task_is_new(before: set[asyncio.Task[Any]]) -> bool:
    """Whether all tasks that run now ran then."""
    return asyncio.all_tasks() <= before


def assert_whole(client: Any) -> None:
    """See to it that nothing of the calls is left in a client."""
    pool = getattr(client._transport, "_pool", None)
    if pool is not None:
        assert not pool._requests, pool
        assert all(connection.is_idle() for connection in pool._connections), pool
    assert client.retry is not None


async def soak(seconds: float, *, rounds: int | None = None, callers: int = CALLERS) -> Counter[str]:
    """Play rounds until the time is over, or so many."""
    chance = random.Random(1)
    ends: Counter[str] = Counter()
    sizes: list[int] = []
    end = time.monotonic() + seconds
    async with http_server() as server:
        server.otherwise = random_step(chance)
        while time.monotonic() < end if rounds is None else len(sizes) < rounds:
            before = asyncio.all_tasks()
            ends += await one_round(server, chance, callers)
            server.received.clear()
            await until(lambda: not server.open_connections)
            await until(functools.partial(no_task_is_new, before))
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    assert sizes[-1] - sizes[len(sizes) // 2] < SPARE, sizes
    return ends


def main() -> None:
    """Soak for a minute and tell how the calls ended."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    tracemalloc.start()
    ends = asyncio.run(soak(seconds))
    print(f"{ends.total():,} calls in {seconds:g} s: {dict(ends.most_common())}; nothing was left behind")


if __name__ == "__main__":
    main()
