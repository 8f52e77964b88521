"""`SlidingWindow`: never more than ``rate`` tokens in any ``per`` seconds, exactly.

The window keeps the time of every admission (8 bytes each) until it has left the window. A token that
was taken at ``t`` may be taken again at ``t + per``. As every token is taken at most once in any
half-open interval of ``per`` seconds, no such interval sees more than ``rate`` of them, wherever it
begins; a window that is divided into slices, or a counter that decays, cannot promise that.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

from resilience import _arguments
from resilience._limiters import (
    NOBODY,
    SET_BACK,
    KeyedLimiter,
    Limiter,
    Queue,
    Rule,
    seconds_until,
    whole_if_equal,
)

AT_ONCE = 128
"""How many admissions are handed to the straight path at a time at most, and forgotten at least."""


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

    __slots__ = ("_start", "log")

    def __init__(self, rate: float, per: _arguments.Seconds = 1.0) -> None:
        tokens = _arguments.whole("rate", whole_if_equal(rate))
        seconds = _arguments.seconds("per", per, above_zero=True)
        self.begin(Rule(tokens, seconds, tokens, whole=True))

    def begin(self, rule: Rule) -> None:
        """Start with nothing taken."""
        Limiter.__init__(self, rule)
        self.log = array("d")  # times of admission, oldest first; those before `_start` have left
        self._start = 0

    def fresh(self) -> SlidingWindow:
        """Return an empty window of the same rule."""
        window = SlidingWindow.__new__(SlidingWindow)
        window.begin(self.rule)
        return window

    def take(self, now: float, cost: float) -> bool:
        """Take tokens if there are enough; otherwise nothing changes."""
        log = self.log
        used = len(log) - self._start
        # As many are forgotten as are logged, but only now and then.
        if used + cost > self.rule.capacity or len(log) % AT_ONCE < cost:
            self._forget(now, int(cost))
            if len(log) - self._start + cost > self.rule.capacity:
                if log[self._start] - now <= SET_BACK:
                    return False
                self.reset()
        if cost == 1:
            log.append(now)
        else:
            log.extend(array("d", (now,)) * int(cost))
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
            first = last = log.index(taken_at, self._start)
        except ValueError:  # they have left the window by themselves
            return
        end = min(len(log), first + int(cost))
        while last < end and log[last] == taken_at:
            last += 1
        del log[first:last]

    def reset(self) -> None:
        """Give all tokens back."""
        del self.log[:]  # not a new one: the straight path knows this one
        self._start = 0

    def available(self, now: float) -> float:
        """Return the number of tokens that may be taken now."""
        self._forget(now, len(self.log))
        return self._room()

    def is_idle(self, now: float) -> bool:
        """Whether a new limiter would decide the same, and nobody waits."""
        return self.line is None and (not self.log or self.log[-1] + self.rule.per <= now)

    def close(self) -> None:
        """Turn the straight path off."""
        self.rule.free = 0

    def open(self, now: float) -> None:
        """Let callers take the straight path, as long as the log need not be looked at."""
        self._forget(now, AT_ONCE)
        self.rule.free = min(self._room(), AT_ONCE)
        self.rule.since = now

    def _room(self) -> int:
        return int(self.rule.capacity) - len(self.log) + self._start

    def _forget(self, now: float, count: int) -> None:
        """Forget admissions that have left the window, ``count`` or `AT_ONCE` of them at the most."""
        log, per = self.log, self.rule.per
        for at in log[self._start : self._start + max(count, AT_ONCE)]:
            if at + per > now:
                break
            self._start += 1
        if self._start * 4 > len(log):
            del log[: self._start]
            self._start = 0

    def _leaves(self, count: int) -> float:
        """Return when ``count`` tokens are free, if nobody takes one before."""
        used = count - self._room()
        return self.log[self._start + used - 1] + self.rule.per if used > 0 else -math.inf

    def _turn_after(self, ahead: Queue[Any], cost: float) -> float:
        """Return when a caller gets its turn, by playing through the turns of those ahead."""
        capacity = self.rule.capacity
        turns: list[tuple[int, float]] = []  # for each one ahead: the tokens taken up to it, and when
        due, taken, earlier = -math.inf, 0, 0
        for each in (*(caller.cost for caller in ahead), cost):
            taken += int(each)
            if taken <= capacity:
                due = self._leaves(taken)
            else:
                while turns[earlier][0] < taken - capacity:
                    earlier += 1
                due = turns[earlier][1] + self.rule.per
            turns.append((taken, due))
        return due

    def __repr__(self) -> str:
        return f"SlidingWindow({self.rule.rate}, per={self.rule.per})"
