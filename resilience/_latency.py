"""A percentile of recent latency: how long most calls take.

Exact, over the last ``window`` samples, by the nearest-rank method: the smallest of them that at least the
given part of all do not exceed. A sample costs a search in a sorted list. To send a second request once the
first takes longer than the 95th percentile of its kind is the proposal of Dean and Barroso, "The Tail at
Scale" (Communications of the ACM, 2013): it adds about five percent of load.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from collections import deque

from resilience import _arguments, _clock

_ROUNDING = 1e-9  # 99.9 x 1000 / 100 is a little more than 999


class Percentile:
    """A delay for `hedge`: a percentile of the recent latency of the calls that it hedges.

    It only describes the delay; each policy measures for itself. A sample is the time that the first
    attempt of a call took to succeed or, if another attempt won, had taken until then: less than the
    truth but more than the delay, so hedges do not make the percentile sink. Calls that fail or are
    cancelled are no samples.

    Args:
        percentile: 1 to 100; with 95, about five calls of a hundred are hedged.
        initial: Seconds, or ``timedelta``, 0 or more: the delay until there are samples enough.
        minimum_calls: How many samples are enough, 1 or more and at most ``window``.
        window: How many of the last samples count, 1 or more; each takes some 40 bytes.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        >>> from resilience import hedge
        >>> hedge(Percentile(95, initial=0.5))
        hedge(Percentile(95, initial=0.5))
    """

    __slots__ = ("initial", "minimum_calls", "percentile", "window")

    def __init__(
        self,
        percentile: float,
        *,
        initial: _arguments.Seconds = 1.0,
        minimum_calls: int = 20,
        window: int = 1000,
    ) -> None:
        allowed = "a number from 1 to 100"
        if not 1 <= _arguments.finite("percentile", percentile, allowed=allowed) <= 100:
            raise ValueError(f"percentile must be {allowed}, got {percentile!r}")
        self.percentile = percentile
        self.initial = _arguments.seconds("initial", initial)
        self.window = _arguments.whole("window", window)
        self.minimum_calls = _arguments.whole("minimum_calls", minimum_calls)
        if self.minimum_calls > self.window:
            raise ValueError(f"minimum_calls must be at most window ({self.window}), got {minimum_calls!r}")

    def __repr__(self) -> str:
        given = {"initial": 1.0, "minimum_calls": 20, "window": 1000}
        options = [
            f"{name}={getattr(self, name)!r}" for name in given if getattr(self, name) != given[name]
        ]
        return f"Percentile({', '.join([repr(self.percentile), *options])})"


class LatencyWindow:
    """The last samples of one policy, and the percentile of them. Safe for several threads.

    Attributes:
        delay: The percentile now, in seconds; read without the lock, as it is replaced at once.
    """

    __slots__ = ("_by_age", "_by_length", "_lock", "_rule", "delay")

    def __init__(self, rule: Percentile) -> None:
        self._rule = rule
        self._lock = threading.Lock()
        self.delay: float
        self._by_age: deque[float]
        self._by_length: list[float]
        self.reset()

    def add(self, seconds: float) -> None:
        """Take a sample; the oldest leaves when there are too many."""
        # A clock that is coarse, frozen or set back measures nothing; a delay of 0 would hedge every call.
        seconds = max(seconds, _clock.SHORTEST_WAIT)
        rule = self._rule
        with self._lock:
            samples = self._by_length
            self._by_age.append(seconds)
            insort(samples, seconds)
            if len(samples) > rule.window:
                del samples[bisect_left(samples, self._by_age.popleft())]
            if len(samples) >= rule.minimum_calls:
                rank = math.ceil(rule.percentile * len(samples) / 100 - _ROUNDING)
                self.delay = samples[rank - 1]

    def reset(self) -> None:
        """Forget all samples."""
        with self._lock:
            self._by_age = deque()
            self._by_length = []
            self.delay = self._rule.initial

    def __len__(self) -> int:
        return len(self._by_length)
