"""`SlidingWindow`: never more than ``rate`` tokens in any ``per`` seconds, exactly.

The window keeps the time of every admission (8 bytes each) until it has left the window. A token that
was taken at ``t`` may be taken again at ``t + per``. As every token is taken at most once in any
half-open interval of ``per`` seconds, no such interval sees more than ``rate`` of them, wherever it
begins; a window that is divided into slices, or a counter that decays, cannot promise that.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Any

from resilience import _arguments
from resilience._clock import SET_BACK
from resilience._limiters import (
    NOBODY,
    KeyedLimiter,
    Limiter,
    Queue,
    Rule,
    seconds_until,
    whole_if_equal,
)

AT_ONCE = 64
"""How many tokens are taken at the least, if there are so many, before those that have left are counted."""


class SlidingWindow(KeyedLimiter):
    """An exact limit: never more than ``rate`` tokens in any ``per`` seconds.

    It holds the state, so policies that are given one object share one limit. Safe for concurrent
    tasks, threads and loops.

    Args:
        rate: Tokens per period, a whole number of 1 or more.
        per: The period, seconds or ``timedelta``, above 0.

    Raises:
        TypeError: If ``rate`` is not a whole number, or ``per`` not a duration.
        ValueError: If one of them is out of range.

    Example:
        >>> from resilience import rate_limited
        >>> quota = SlidingWindow(100, per=60)
        >>> read, write = rate_limited(quota), rate_limited(quota, cost=5)
    """

    __slots__ = ("free", "log", "start")

    def __init__(self, rate: float, per: _arguments.Seconds = 1.0) -> None:
        tokens = _arguments.whole("rate", whole_if_equal(rate))
        seconds = _arguments.seconds("per", per, above_zero=True)
        self.begin(Rule(tokens, seconds, tokens, whole=True))

    def begin(self, rule: Rule) -> None:
        """Start with nothing taken."""
        Limiter.__init__(self, rule)
        self.log = array("d")  # times of admission, oldest first; those before `start` have left
        self.start = 0
        self.free = 0  # tokens that may be taken before the log is looked at; none while somebody waits

    def fresh(self) -> SlidingWindow:
        """Return an empty window of the same rule."""
        window = SlidingWindow.__new__(SlidingWindow)
        window.begin(self.rule)
        return window

    def take(self, now: float, cost: float) -> bool:
        """Take tokens if there are enough; otherwise nothing changes."""
        count = int(cost)
        if self.free < count and not self._set_free(now, count):
            return False
        self.free -= count
        self.log.extend(array("d", (now,)) * count)
        self.rule.since = now
        return True

    def wait(self, now: float, cost: float, ahead: Queue[Any] = NOBODY) -> float:
        """Return the seconds until a caller behind those ``ahead`` gets its turn."""
        if not ahead.all_ask_for(cost):
            return seconds_until(self._turn_after(ahead, cost), now)
        # All alike: each gets its turn one period after the one who is `at_once` places before it.
        at_once = self.rule.capacity // cost
        periods, place = divmod(len(ahead), at_once)
        return seconds_until(self._leaves(int((place + 1) * cost)) + periods * self.rule.per, now)

    def give_back(self, cost: float, taken_at: float) -> None:
        """Undo a `take`: the call never began."""
        log = self.log
        try:
            first = last = log.index(taken_at, self.start)
        except ValueError:  # they have left the window by themselves
            return
        end = min(len(log), first + int(cost))
        while last < end and log[last] == taken_at:
            last += 1
        del log[first:last]

    def reset(self) -> None:
        """Give all tokens back."""
        del self.log[:]  # not a new one: the straight path knows this one
        self.start = 0

    def available(self, now: float) -> float:
        """Return the number of tokens that may be taken now."""
        self._forget(now)
        return self._room()

    def is_idle(self, now: float) -> bool:
        """Whether a new limiter would decide the same, and nobody waits."""
        return self.line is None and (not self.log or self.log[-1] + self.rule.per <= now)

    def _room(self) -> int:
        return int(self.rule.capacity) - len(self.log) + self.start

    def _set_free(self, now: float, count: int) -> bool:
        """See how many tokens may be taken before the next look; return whether these are enough."""
        self._forget(now)
        room, used = self._room(), len(self.log) - self.start
        if room < count:
            self.free = 0
            return False
        # Not more than are in the log: so it stays in proportion to what is in the window.
        self.free = min(room, max(used, count, AT_ONCE))
        return True

    def _forget(self, now: float) -> None:
        """Forget the admissions that have left the window, or were made under another clock."""
        log, per, first = self.log, self.rule.per, self.start
        if first < len(log) and now < log[first] + per <= now + per + SET_BACK:
            return
        while first < len(log) and log[first] - now > SET_BACK:
            first += 1
        self.start = bisect_right(log, now, first, key=lambda at: at + per)
        if self.start * 4 > len(log):
            del log[: self.start]
            self.start = 0

    def _leaves(self, count: int) -> float:
        """Return when ``count`` tokens are free, if nobody takes one before."""
        used = count - self._room()
        return self.log[self.start + used - 1] + self.rule.per if used > 0 else -math.inf

    def _turn_after(self, ahead: Queue[Any], cost: float) -> float:
        """Return when a caller gets its turn, whatever those ahead ask for."""
        taken = list(accumulate(caller.cost for caller in ahead))
        needed, periods = taken[-1] + cost, 0
        # Each gets its turn one period after the one who takes the token that it needs last.
        while needed > self.rule.capacity:
            needed = taken[bisect_left(taken, needed - self.rule.capacity)]
            periods += 1
        return self._leaves(int(needed)) + periods * self.rule.per

    def __repr__(self) -> str:
        return f"SlidingWindow({self.rule.rate}, per={self.rule.per})"
