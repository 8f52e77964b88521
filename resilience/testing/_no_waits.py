"""`no_waits`: waits of the policies take no time, in any event loop.

Skipped are the waits that only let time pass: the backoff of `retry`, the line of a `rate_limited` policy,
and what `inject_latency` adds. Such a wait is over in the next turn of the loop, and the clock that the
policies go by is set forward to its end: a limit keeps its rate, a circuit its pause, a deadline counts
what was skipped. What is not a wait takes its time: the calls themselves, and whatever races against
them, such as a `timeout`, the delay of a hedge or a slot of a bulkhead.

Waits that overlap end in the order in which they began, not in that of their lengths; where that matters,
virtual time is the right tool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from threading import Lock
from typing import Any

from resilience import _clock
from resilience.testing import _clocks
from resilience.testing._virtual_loop import VirtualTimeLoop


class SkippedWaits:
    """What `no_waits` skipped.

    Attributes:
        waits: The lengths of the waits in seconds, in the order in which they ended: each backoff of a
            retry, each time until the next turn in a limiter's line, each latency that was injected.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._ahead = 0.0
        self._lock = Lock()
        self._replacement = _clocks.Replacement(self.monotonic)

    @property
    def total(self) -> float:
        """The seconds of all waits; those that overlapped count each."""
        return sum(self.waits)

    def monotonic(self) -> float:
        """Return the time that the policies go by."""
        return self._replacement.before() + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Stand in for the sleep of the policies."""
        due = self.monotonic() + seconds
        await asyncio.sleep(seconds if _is_virtual(asyncio.get_running_loop()) else 0)
        self._skip(due, seconds)

    def call_later(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        callback: Callable[[], object],
        context: Context,
    ) -> asyncio.TimerHandle:
        """Stand in for the timer of a line."""
        due = self.monotonic() + seconds

        def ring() -> None:
            self._skip(due, seconds)
            callback()

        return loop.call_later(seconds if _is_virtual(loop) else 0, ring, context=context)

    def end(self) -> None:
        """Let the policies go by the clock again that they went by."""
        self._replacement.end()

    def _skip(self, due: float, seconds: float) -> None:
        with self._lock:
            self.waits.append(float(seconds))
            self._ahead += max(due - self.monotonic(), 0.0)


@contextmanager
def no_waits() -> Generator[SkippedWaits]:
    """Skip the waits of the policies, for the time of a block; see the module for what that means.

    In a virtual loop nothing waits really anyway: there the waits are recorded, and take virtual time. An
    ``aiolimiter.AsyncLimiter`` goes by the clock of its loop, so that a wait for one is not skipped. The
    block holds for the process, for all its threads and loops; blocks may nest.

    Returns:
        Whose ``waits`` tell what was skipped.

    Example:
        >>> from resilience import retry
        >>> @retry(attempts=3, on=OSError, wait=[30, 60])
        ... async def fetch() -> str:
        ...     raise OSError("down")
        >>> with no_waits() as skipped:
        ...     try:
        ...         asyncio.run(fetch())
        ...     except OSError as error:
        ...         print(error, skipped.waits)
        down [30.0, 60.0]
    """
    door: Any = _clock  # mypy takes its functions for constants
    before = door.sleep, door.call_later
    skipped = SkippedWaits()
    door.sleep, door.call_later = skipped.sleep, skipped.call_later
    try:
        yield skipped
    finally:
        door.sleep, door.call_later = before
        skipped.end()


def _is_virtual(loop: asyncio.AbstractEventLoop) -> bool:
    return isinstance(loop, VirtualTimeLoop)
