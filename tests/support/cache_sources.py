"""What the tests of `cached` load from, and a store that several processes could share."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from resilience import Cached, CacheEntry, _clock, cached
from tests.support.virtual_time import now


class Source:
    """A cached function that returns 1, 2, 3 ... after some seconds, or raises what it is told to."""

    def __init__(self, *, seconds: float = 0, **options: Any) -> None:
        self.policy: Cached = cached(**options)
        self.seconds = seconds
        self.calls = 0
        self.error: BaseException | None = None
        self.running = 0
        self.most_running = 0
        self.load = self.policy(self._load)

    async def _load(self, key: object = None) -> int:
        self.calls += 1
        number = self.calls
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
            return number
        finally:
            self.running -= 1


class DictStore:
    """A shared store; may be slow, or fail."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[float, CacheEntry]] = {}
        self.log: list[str] = []
        self.failing: set[str] = set()
        self.delay = 0.0

    async def _begin(self, operation: str) -> None:
        self.log.append(operation)
        await asyncio.sleep(self.delay)
        if operation in self.failing:
            raise ConnectionError(operation)

    async def get(self, key: str) -> CacheEntry | None:
        await self._begin("get")
        found = self.entries.get(key)
        if found is None or now() >= found[0] + found[1].keep_for:
            return None
        return replace(found[1], expires_in=found[0] + found[1].expires_in - now())

    async def set(self, key: str, entry: CacheEntry) -> None:
        await self._begin("set")
        self.entries[key] = (now(), entry)

    async def delete(self, key: str) -> None:
        await self._begin("delete")
        self.entries.pop(key, None)

    async def clear(self) -> None:
        await self._begin("clear")
        self.entries.clear()


@contextmanager
def clock_ahead(seconds: float) -> Iterator[None]:
    """Let the clock of this process go ahead of the loop's, or be behind it."""

    def clock() -> float:
        return now() + seconds

    with mock.patch.object(_clock, "monotonic", clock):
        yield
