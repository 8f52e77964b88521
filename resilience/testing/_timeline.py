"""The time of a virtual loop: what it is now, and what is to come. A pure state machine."""

from __future__ import annotations

import math
import time
from asyncio import TimerHandle
from heapq import heapify, heappop, heappush
from itertools import count

_RESOLUTION = time.get_clock_info("monotonic").resolution
"""An asyncio loop runs a timer as soon as that is less than so many seconds away."""

_FEW = 1000
"""Timers that may be kept although they are cancelled."""


class Timeline:
    """The current time, and the timers that lie ahead.

    Attributes:
        now: The time in seconds. It starts at 0.0, so that a time of zero which is taken for "unset" shows.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._ahead: list[tuple[float, int, TimerHandle]] = []
        self._serial = count()
        self._limit = _FEW

    def add(self, when: float, timer: TimerHandle) -> None:
        """Note a timer. One that is due needs no jump, and one at infinity never comes."""
        if not self.now < when < math.inf:
            return
        heappush(self._ahead, (when, next(self._serial), timer))
        if len(self._ahead) > self._limit:
            self._ahead = [each for each in self._ahead if not each[2].cancelled()]
            heapify(self._ahead)
            self._limit = max(2 * len(self._ahead), _FEW)

    def next(self) -> float | None:
        """Return the time of the next timer, or ``None`` if there is none."""
        while self._ahead and self._ahead[0][2].cancelled():
            heappop(self._ahead)
        return self._ahead[0][0] if self._ahead else None

    def move_to(self, when: float) -> None:
        """Go to a time, and let go of the timers that are due then: the loop has them."""
        self.now = when
        while self._ahead and self._ahead[0][0] <= when:
            heappop(self._ahead)


def runs_at(when: float) -> float:
    """Return what a loop must be told so that it runs a timer at a time.

    It compares the timer with the time plus its resolution, which half a year from zero is nothing any
    more: a timer exactly at the time would never run.
    """
    return when if when + _RESOLUTION > when else math.nextafter(when, -math.inf)
