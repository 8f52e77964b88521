"""Calls that wait for a server: in line, each in its own loop; the one that goes has the next one look."""

from __future__ import annotations

import asyncio
import random
from contextvars import Context

from resilience import _clock
from resilience._loops import run_in, running_loop
from resilience_httpx._quota_windows import LEASE, Window

# When a block ends is up to chance by a tenth of its length, a second at most.
_JITTER, _LONGEST_JITTER = 0.1, 1.0


class Waiter:
    """A call that waits for a window: in line, as long as it has not gone through.

    Its place is guarded by the lock of the limits; its future is that of its own task.
    """

    __slots__ = ("_future", "_loop", "has_waited", "window")

    def __init__(self) -> None:
        self.window: Window | None = None
        self.has_waited = False

    def line_up(self, window: Window) -> None:
        """Wait for a window; who has a place in its line keeps it."""
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        if self.window is window:
            return
        self.quit()
        self.window = window
        window.waiters[self] = None

    def quit(self) -> None:
        """Leave the line, and let the next one look."""
        window, self.window = self.window, None
        if window is not None:
            window.waiters.pop(self, None)
            wake_first(window)

    def is_next(self, window: Window) -> bool:
        """Whether nobody is before it, those aside whose loops have been closed over their heads."""
        while window.waiters:
            first = next(iter(window.waiters))
            if first is self:
                return True
            if not first.is_gone:
                return False
            del window.waiters[first]
        return True

    @property
    def is_gone(self) -> bool:
        """Whether it cannot take its turn any more."""
        return self._loop.is_closed()

    async def turn(self, wait: float, left: float) -> None:
        """Wait until there is a reason to look again: only the first in line looks by itself.

        Args:
            wait: Seconds until the block ends; 0 if it waits for others.
            left: Seconds until its deadline.
        """
        assert self.window is not None
        self.has_waited = True
        timer: asyncio.TimerHandle | None = None
        if self.is_next(self.window):
            longest = min(_JITTER * wait, _LONGEST_JITTER, (left - wait) / 2)
            delay = max(wait + random.random() * longest, _clock.SHORTEST_WAIT) if wait else LEASE
            timer = _clock.call_later(self._loop, delay, self.wake, Context())
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Let it look again; call it in its loop."""
        if not self._future.done():
            self._future.set_result(None)

    def wake_from(self, here: asyncio.AbstractEventLoop | None) -> bool:
        """Let it look again; return whether its loop is still open."""
        return run_in(self._loop, here, self.wake)


def wake_first(window: Window) -> None:
    """Let the first in a line look whether it can go; call it with the lock."""
    here = running_loop()
    while window.waiters:
        first = next(iter(window.waiters))
        if first.wake_from(here):
            return
        del window.waiters[first]


def wake_all(window: Window) -> None:
    """Let all in a line look whether they can go, or can wait any longer; call it with the lock."""
    here = running_loop()
    for each in [*window.waiters]:
        if not each.wake_from(here):
            del window.waiters[each]
