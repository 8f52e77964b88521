"""Calls that are cancelled at random moments."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any


async def turns(count: int) -> None:
    """Let the loop turn some times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancel_at_random(
    call: Callable[[], Coroutine[Any, Any, Any]], chance: random.Random, count: int
) -> dict[str, int]:
    """Make calls, 40 at a time, most of which are cancelled some turns later; return how they ended."""
    ends = {"ok": 0, "cancelled": 0}
    gate = asyncio.Semaphore(40)

    async def one() -> None:
        task = asyncio.create_task(call())
        if chance.random() < 0.8:
            await turns(chance.randrange(60))
            for _ in range(chance.choice((1, 1, 2))):
                task.cancel()
                await asyncio.sleep(0)
        await asyncio.wait([task])
        gate.release()
        ends["cancelled" if task.cancelled() else "ok"] += 1
        assert task.cancelled() or task.exception() is None

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            await gate.acquire()
            group.create_task(one())
    return ends
