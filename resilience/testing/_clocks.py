"""Which clock the policies go by while a test replaces theirs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from typing import TypeAlias

from resilience import _clock

Clock: TypeAlias = Callable[[], float]


def real() -> float:
    """Return the real time, or what freezegun makes of it: its function is looked up at each call."""
    return time.monotonic()


class Replacement:
    """Lets the policies go by another clock until its end.

    Attributes:
        before: The clock that they went by.
    """

    def __init__(self, clock: Clock) -> None:
        before = _clock.monotonic
        self.before = real if before is time.monotonic else before
        # freezegun goes by what it remembers of a module until that has other names. It would put frozen
        # time in the place of our clock if it has replaced the real one there before.
        self._mark = f"_replacement_{next(_serial)}"
        setattr(_clock, self._mark, self)
        _clock.monotonic = clock

    def end(self) -> None:
        """Let the policies go by the clock again that they went by."""
        delattr(_clock, self._mark)
        _clock.monotonic = time.monotonic if self.before is real else self.before


_serial = count()


class _Shown:
    """The loops whose time the policies go by, in the order in which they began to."""

    def __init__(self) -> None:
        self.loops: tuple[asyncio.AbstractEventLoop, ...] = ()
        self.entries = 0
        self._lock = threading.Lock()
        self._replacement: Replacement | None = None

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if not self.loops:
                if _clock.monotonic == self.time:  # left behind by a test that undid its own patch too late
                    _clock.monotonic = time.monotonic
                self._replacement = Replacement(self.time)
            self.loops = (*self.loops, loop)
            self.entries += 1

    def remove(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            last = len(self.loops) - 1 - self.loops[::-1].index(loop)
            self.loops = (*self.loops[:last], *self.loops[last + 1 :])
            if not self.loops and self._replacement is not None:
                self._replacement.end()
                self._replacement = None

    def time(self) -> float:
        """Return the time of the loop of this thread, if it is one of them; with no loop, of the latest."""
        loops = self.loops
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return loops[-1].time() if loops else self._outer()
        return running.time() if running in loops else self._outer()

    def _outer(self) -> float:
        replacement = self._replacement
        return real() if replacement is None else replacement.before()


_shown = _Shown()


@contextmanager
def clock_of(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Let all policies go by the time of a loop, also while it does not run.

    Threads that run another loop are not affected. Blocks may nest, and overlap.

    Example:
        >>> from resilience.testing import VirtualTimeLoop
        >>> with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, clock_of(runner.get_loop()):
        ...     _clock.monotonic()
        0.0
    """
    _shown.add(loop)
    try:
        yield
    finally:
        _shown.remove(loop)


def entries() -> int:
    """Return how often `clock_of` was entered until now."""
    return _shown.entries
