"""`RetryBudget`: how many retries there may be per call, so that retries cannot multiply an outage.

In any ``window`` seconds there are at most ``ratio`` retries per call and ``min_per_second`` retries per
second. Only retries are charged, never first attempts, so a budget that is used up makes calls fail
sooner but never fewer; nor is a retry charged after a rejection by a policy of ours, as that attempt did
not reach the other side. It counts calls, not calls in flight, which pile up just when everything fails.
The idea is Finagle's (Twitter, "RetryBudget"); the window has ten slices.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import deque

from resilience import _arguments, _clock
from resilience._interpreter import HAS_GIL

_SLICES = 10
_ROUNDING = 1e-9  # 0.29 x 100 is a little less than 29


class Slice:
    """Calls and retries of a tenth of the window.

    Attributes:
        start: When it began.
        end: Up to when calls may be counted straight into it, without the lock.
    """

    __slots__ = ("calls", "end", "last_retry", "retries", "start")

    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = end if HAS_GIL else -math.inf
        self.calls = 0
        self.retries = 0
        self.last_retry = start


class RetryBudget:
    """A limit on retries, shared by all policies that are given the same object.

    Safe for concurrent tasks, threads and event loops. It never delays anything: a retry that it does not
    allow is not made, and the caller gets the error of the attempt before.

    Args:
        ratio: Retries allowed per call, 0 or more; 0.2 adds at most a fifth to the traffic.
        min_per_second: Retries per second that are allowed in any case, 0 or more, so that rare calls
            are retried as well. It is per object: where many processes call the same server, divide what
            that may bear by their number.
        window: Seconds, or ``timedelta``, above 0: for how long calls and retries count.

    Attributes:
        current: The slice that calls are counted into.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.

    Example:
        >>> from resilience import retry
        >>> budget = RetryBudget(ratio=0.1)
        >>> retry(budget=budget), retry(attempts=5, budget=budget)  # limited together
        (retry(budget=RetryBudget(ratio=0.1)), retry(attempts=5, budget=RetryBudget(ratio=0.1)))
    """

    def __init__(
        self,
        ratio: float = 0.2,
        min_per_second: float = 10.0,
        window: _arguments.Seconds = 10.0,
    ) -> None:
        self.ratio = _arguments.number("ratio", ratio)
        self.min_per_second = _arguments.number("min_per_second", min_per_second)
        self.window = _arguments.seconds("window", window, above_zero=True)
        self._always = self.min_per_second * self.window + _ROUNDING
        self._lock = threading.Lock()
        self.current: Slice
        self._retries: int
        self._start_again()

    def count(self, now: float) -> None:
        """Count a call."""
        # Straight-line: without a call between reading the slice and counting, no other thread comes in
        # between. Builds without the GIL never take this way.
        current = self.current
        if now < current.end:
            current.calls += 1
            return
        with self._lock:
            self._move_to(now).calls += 1

    def reserve(self, now: float) -> Slice | None:
        """Take a retry out of the budget, if it has one left.

        Returns:
            ``None`` if the retry may not be made; else what to `refund` if it is not made after all.
        """
        with self._lock:
            current = self.current
            if not current.start <= now < self._settled_until:
                current = self._move_to(now)
            retries = self._retries + 1
            if retries > self._always and retries > self._allowed():
                return None
            self._retries = retries
            current.retries += 1
            if now > current.last_retry:  # another thread may have read the clock later, and been quicker
                current.last_retry = now
            return current

    def refund(self, reserved: Slice) -> None:
        """Give back a retry that was reserved but not made; once at most."""
        with self._lock:
            if reserved is self.current or reserved in self._past:  # else nobody counts it any more
                reserved.retries -= 1
                self._retries -= 1

    def reset(self) -> None:
        """Forget all calls and retries."""
        with self._lock:
            self._start_again()

    def snapshot(self, now: float | None = None) -> dict[str, float]:
        """Return what counts now as plain data: calls, retries, and how many retries are left.

        Args:
            now: The time on the policies' clock, ``time.monotonic()`` if it was not replaced; default: now.
        """
        if now is None:
            now = _clock.monotonic()
        with self._lock:
            self._move_to(now)
            return {
                "calls": self._past_calls + self.current.calls,
                "retries": self._retries,
                "retries_left": max(0, math.floor(min(self._allowed(), sys.maxsize)) - self._retries),
            }

    def _allowed(self) -> float:
        return self.ratio * (self._past_calls + self.current.calls) + self._always

    def _move_to(self, now: float) -> Slice:
        """Begin a new slice if the last one is over, and forget what has left the window."""
        last = self.current
        if now < last.start - self.window:  # the clock was set back: a frozen one, or that of another loop
            self._start_again()
            last = self.current
        length = self.window / _SLICES
        if now >= last.start + length:
            # From here on nobody counts into the last slice any more, see `count`.
            self.current = Slice(now, now + length)
            self._past.append(last)
            self._past_calls += last.calls
        self._settled_until = self.current.start + length
        self._forget(now - self.window)
        return self.current

    def _forget(self, horizon: float) -> None:
        # Calls leave with the start of their slice and retries with their last one, so that at no time
        # more retries are allowed than by counting each on its own.
        past = self._past
        while past and past[0].last_retry <= horizon:
            gone = past.popleft()
            self._past_calls -= gone.calls
            self._retries -= gone.retries
        if not past:
            return
        oldest = past[0]
        if oldest.start <= horizon:
            self._past_calls -= oldest.calls
            oldest.calls = 0
        next_to_leave = oldest.start if oldest.start > horizon else oldest.last_retry
        self._settled_until = min(self._settled_until, next_to_leave + self.window)

    def _start_again(self) -> None:
        self._past: deque[Slice] = deque()
        self._past_calls = 0
        self._retries = 0
        self._settled_until = -math.inf  # when the counts change next just because time passes
        self.current = Slice(-math.inf, -math.inf)

    def __repr__(self) -> str:
        given = {"ratio": 0.2, "min_per_second": 10.0, "window": 10.0}
        shown = [f"{name}={getattr(self, name)!r}" for name in given if getattr(self, name) != given[name]]
        return f"RetryBudget({', '.join(shown)})"
