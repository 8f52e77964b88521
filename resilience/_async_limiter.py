"""The limiters of aiolimiter that an application already has.

An ``AsyncLimiter`` keeps its own rules: the leaky bucket, the clock of its event loop, one live loop at a
time. Only its waiting is replaced: its own prefers small requests and can starve large ones, while the
line here is first come, first served. Code that uses the same ``AsyncLimiter`` directly shares its
level, but not the line.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from resilience import _clock
from resilience._limiters import NOBODY, Limiter, Queue, Rule

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


class AdoptedLimiter(Limiter):
    """An ``AsyncLimiter`` behind a line."""

    __slots__ = ("__weakref__", "_async_limiter", "_loop")

    def __init__(self, limiter: AsyncLimiter) -> None:
        super().__init__(Rule(limiter.max_rate, limiter.time_period, limiter.max_rate, whole=False))
        # Untyped, as it has no public way to tell its level, or to take or give without waiting.
        self._async_limiter: Any = limiter
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self, now: float, cost: float) -> bool:  # noqa: ARG002 - it goes by the clock of its loop
        """Take tokens if there are enough; otherwise nothing changes."""
        self._enter_loop()
        if not self._async_limiter.has_capacity(cost):
            return False
        self._add(cost)
        return True

    def wait(self, now: float, cost: float, ahead: Queue[Any] = NOBODY) -> float:  # noqa: ARG002 - likewise
        """Return the seconds until a caller behind those ``ahead`` gets its turn."""
        self._leak()
        missing = self._level + ahead.total + cost - self.rule.capacity
        # Its level is rounded down and up as it leaks: a moment later it is low enough for certain.
        return max(missing / self.rule.per_second, 0) + _clock.SHORTEST_WAIT

    def give_back(self, cost: float, taken_at: float) -> None:  # noqa: ARG002 - when it was taken does not matter
        """Undo a `take`: the call never began."""
        self._add(-cost)

    def reset(self) -> None:
        """Give all tokens back."""
        self._add(-self._level)

    def available(self, now: float) -> float:  # noqa: ARG002 - likewise
        """Return the number of tokens that may be taken now, or outside of its loop, what was left last."""
        with suppress(RuntimeError):
            self._leak()
        return self.rule.capacity - self._level

    def call_later(
        self, loop: asyncio.AbstractEventLoop, wait: float, callback: Callable[[], object], context: Context
    ) -> asyncio.TimerHandle:
        """Set a timer in the loop, as its clock is the one that counts here."""
        return loop.call_later(wait, callback, context=context)

    def _leak(self) -> None:
        self._enter_loop()
        self._async_limiter.has_capacity(0)

    @property
    def _level(self) -> float:
        level: float = self._async_limiter._level  # noqa: SLF001
        return level

    def _add(self, amount: float) -> None:
        self._async_limiter._level = max(self._level + amount, 0)  # noqa: SLF001

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
            raise RuntimeError(
                f"{self!r} is in use in another event loop, and works in one at a time only. Make one "
                "for each loop, or use LeakyBucket with the same numbers, which works in all at once"
            )
        self._loop = loop

    def __repr__(self) -> str:
        return f"AsyncLimiter({self.rule.rate}, {self.rule.per})"


_adopted: WeakValueDictionary[int, AdoptedLimiter] = WeakValueDictionary()
"""Behind one ``AsyncLimiter`` there is one line, however many policies use it. Who is adopted is kept
alive by the one that adopted it, so no other object can have its id."""

_lock = Lock()


def is_async_limiter(value: object) -> bool:
    """Whether it is a limiter of aiolimiter, without importing that if nobody else has."""
    module = sys.modules.get("aiolimiter")
    return module is not None and isinstance(value, module.AsyncLimiter)


def adopt(limiter: AsyncLimiter) -> AdoptedLimiter:
    """Return the limiter that stands for an ``AsyncLimiter`` of the application."""
    with _lock:
        return _adopted.setdefault(id(limiter), AdoptedLimiter(limiter))
