"""What the tests of bulkheads share: work that ends when it is told, and every kind of bulkhead."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    Bulkhead,
    Priority,
    bulkhead,
)
from tests.support.virtual_time import settle


class Work:
    """A function that ends when it is told, and remembers who is inside."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.began: list[str] = []
        self.most = 0
        self.gates: dict[str, asyncio.Future[None]] = {}

    async def __call__(self, name: str) -> str:
        self.running.append(name)
        self.began.append(name)
        self.most = max(self.most, len(self.running))
        gate = self.gates[name] = asyncio.get_running_loop().create_future()
        try:
            await gate
        finally:
            self.running.remove(name)
        return name

    async def end(self, name: str) -> None:
        self.gates[name].set_result(None)
        await settle()


def free(policy: Bulkhead) -> None:
    """Nothing is left over, and calls may pass without the lock again."""
    figures = policy.snapshot()
    assert (figures["in_flight"], figures["queued"]) == (0, 0)
    assert not policy.entrance._ended
    if policy.config.is_straight:
        assert policy.entrance.one.admits == policy.config.max_concurrent


def pending_timers() -> int:
    return sum(not each.cancelled() for each in asyncio.get_running_loop()._scheduled)


def start(function: Callable[..., Awaitable[Any]], *args: Any) -> "asyncio.Task[Any]":
    async def run() -> Any:
        return await function(*args)

    return asyncio.create_task(run())


async def cancel(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


KINDS: dict[str, Callable[..., Bulkhead]] = {
    "straight": bulkhead,
    "locked": lambda *args, **rest: bulkhead(*args, **({"priority": lambda *_: Priority.NORMAL} | rest)),
    "key": lambda *args, **rest: bulkhead(*args, **rest, key=lambda *_: "one"),
    "adaptive": lambda limit, **rest: bulkhead(AdaptiveLimit(limit, minimum=limit, maximum=limit), **rest),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
