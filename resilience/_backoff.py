"""How long to wait before the next attempt: pure strategies, a number of attempts in, seconds out.

The default is full jitter: the upper bound doubles from attempt to attempt up to a cap, and the wait is
a random part of it. The cap comes first and the jitter after it, downwards, so that callers still
spread out when the cap is reached, which is when the outage is worst. Marc Brooker, "Exponential
Backoff And Jitter" (AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, cast

from resilience import _arguments

DEFAULT_CAP = 30.0
"""Seconds that a wait reaches at most, where its strategy has no bound of its own."""

FOREVER = 3e9
"""Seconds, about a century: such a wait is none, and a longer one no timer takes."""

# Doubling a positive float this often leaves every cap behind, and no float overflows by it.
_ENOUGH_DOUBLINGS = 64


class Backoff(Protocol):
    """A wait that depends only on how many attempts were made."""

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after ``attempts`` attempts, 1 or more."""
        ...


class FullJitter:
    """A random wait below a bound that doubles; safe for concurrent use.

    Args:
        first: Seconds, the upper bound of the first wait.
        max: Seconds, the upper bound of every wait.
    """

    def __init__(self, first: float = 0.1, max: float = DEFAULT_CAP) -> None:  # noqa: A002 - tenacity's name
        self.first = first
        self.max = max

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after ``attempts`` attempts."""
        bound = self.first * (1 << min(attempts - 1, _ENOUGH_DOUBLINGS))
        return random.random() * min(bound, self.max)


class Constant:
    """The same wait every time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def delay(self, attempts: int) -> float:  # noqa: ARG002 - part of the protocol
        """Return the seconds to wait after ``attempts`` attempts."""
        return self.seconds


class Steps:
    """The waits of a sequence, one after the other; the last one repeats."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = tuple(seconds)

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after ``attempts`` attempts."""
        return self.seconds[min(attempts, len(self.seconds)) - 1]


def backoff(wait: object) -> Backoff:
    """Return the strategy that a ``wait`` argument stands for; the default where it is a function.

    Raises:
        TypeError: If it is neither seconds, nor a sequence of seconds, nor a function.
        ValueError: If seconds are negative or not finite, or the sequence is empty.
    """
    if wait is None or callable(wait):
        return FullJitter()
    if isinstance(wait, (int, float, timedelta)):
        return Constant(_arguments.seconds("wait", wait))
    if isinstance(wait, Sequence) and not isinstance(wait, (str, bytes, bytearray)):
        steps = cast("Sequence[object]", wait)
        if not steps:
            raise ValueError(f"wait must be a sequence of at least one wait, got {wait!r}")
        return Steps([_arguments.seconds("wait", each) for each in steps])
    raise TypeError(f"wait must be seconds, a sequence of seconds or a tenacity wait, got {wait!r}")


def cap_of(wait: object) -> float:
    """Return the longest wait of a strategy: what its ``max`` says, else the default cap.

    tenacity's waits have an endless ``max`` unless they were given one: that does not count.
    """
    longest: Any = getattr(wait, "max", None)
    if isinstance(longest, timedelta):
        longest = longest.total_seconds()
    if isinstance(longest, bool) or not isinstance(longest, (int, float)):
        return DEFAULT_CAP
    return longest if 0 <= longest < FOREVER else DEFAULT_CAP
