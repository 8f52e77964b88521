"""How long to wait before the next attempt: pure strategies, a number of attempts in, seconds out.

The default is full jitter: the upper bound doubles from attempt to attempt up to a cap, and the wait is
a random part of it. Decorrelated jitter draws each wait between a first bound and three times the wait
before. Both cap the bound first and draw below it then, so that callers still spread out when the cap
is reached, which is when the outage is worst, and no wait is ever longer than the cap. Marc Brooker,
"Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

A strategy is frozen and knows nothing of a call, so one object may serve any number of policies. What
it needs of the call, how many attempts were made and how long the last wait was, it is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, cast

from resilience import _arguments

DEFAULT_CAP = 30.0
"""Seconds that a wait reaches at most, where its strategy has no bound of its own."""

FOREVER = 3e9
"""Seconds, about a century: such a wait is none, and a longer one no timer takes."""

_SPREAD = 3  # Brooker's: how much longer a decorrelated wait may be than the one before

_LATER = 0.1  # of a wait that was asked for
_LATEST = 1.0  # seconds


class Backoff(Protocol):
    """A wait that depends only on how many attempts were made, and on the wait before."""

    def delay(self, attempts: int, before: float) -> float:
        """Return the seconds to wait after ``attempts`` attempts, the last of them after ``before``."""
        ...


@dataclass(frozen=True, slots=True, init=False)
class FullJitter:
    """Wait a random part of a bound that grows from attempt to attempt; for `retry(wait=...)`.

    This is the default, ``FullJitter(0.1, 30)``. Frozen, so safe for concurrent use.

    Args:
        initial: The upper bound of the first wait, seconds or ``timedelta``, 0 or more.
        max: The upper bound of every wait, seconds or ``timedelta``, 0 or more. A ``retry_after`` above
            it ends the call.
        factor: By how much the bound grows with each attempt, 1 or more.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.

    Example:
        >>> from resilience import retry
        >>> retry(attempts=5, wait=FullJitter(0.5, max=10))
        retry(attempts=5, wait=FullJitter(initial=0.5, max=10, factor=2.0))
    """

    initial: float
    max: float
    factor: float

    def __init__(
        self,
        initial: _arguments.Seconds = 0.1,
        max: _arguments.Seconds = DEFAULT_CAP,  # noqa: A002 - tenacity's name
        factor: float = 2.0,
    ) -> None:
        if _arguments.number("factor", factor) < 1:
            raise ValueError(f"factor must be a number of 1 or more, got {factor!r}")
        object.__setattr__(self, "initial", _arguments.seconds("initial", initial))
        object.__setattr__(self, "max", _arguments.seconds("max", max))
        # An int would be raised to its power exactly, to a number of a million digits.
        object.__setattr__(self, "factor", float(factor))

    def delay(self, attempts: int, before: float) -> float:  # noqa: ARG002 - part of the protocol
        """Return the seconds to wait after ``attempts`` attempts."""
        try:
            bound = min(self.initial * self.factor ** (attempts - 1), self.max)
        except OverflowError:
            bound = self.max if self.initial else 0.0
        return random.random() * bound


@dataclass(frozen=True, slots=True, init=False)
class DecorrelatedJitter:
    """Wait at random between ``initial`` and three times the wait before; for `retry(wait=...)`.

    Waits grow about as quickly as with `FullJitter`, but each by its own history, and none is shorter than
    ``initial``. Frozen, so safe for concurrent use: the wait before is that of the same call.

    Args:
        initial: The lower bound of every wait, seconds or ``timedelta``, 0 or more; 0: it never waits.
        max: The upper bound of every wait, seconds or ``timedelta``, ``initial`` or more. A
            ``retry_after`` above it ends the call.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.

    Example:
        >>> from resilience import retry
        >>> retry(wait=DecorrelatedJitter(max=10))
        retry(wait=DecorrelatedJitter(initial=0.1, max=10))
    """

    initial: float
    max: float

    def __init__(
        self,
        initial: _arguments.Seconds = 0.1,
        max: _arguments.Seconds = DEFAULT_CAP,  # noqa: A002 - tenacity's name
    ) -> None:
        object.__setattr__(self, "initial", _arguments.seconds("initial", initial))
        object.__setattr__(self, "max", _arguments.seconds("max", max))
        if self.max < self.initial:
            raise ValueError(f"max must be at least initial ({self.initial:g} s), got {max!r}")

    def delay(self, attempts: int, before: float) -> float:  # noqa: ARG002 - part of the protocol
        """Return the seconds to wait after a wait of ``before`` seconds, 0 if there was none."""
        least = self.initial
        bound = min(max(before, least) * _SPREAD, self.max)
        return min(least + random.random() * (bound - least), bound)  # the sum may round upwards


class Constant(NamedTuple):
    """The same wait every time."""

    seconds: float

    def delay(self, attempts: int, before: float) -> float:  # noqa: ARG002 - part of the protocol
        """Return the seconds to wait."""
        return self.seconds


class Steps(NamedTuple):
    """The waits of a sequence, one after the other; the last one repeats."""

    seconds: tuple[float, ...]

    def delay(self, attempts: int, before: float) -> float:  # noqa: ARG002 - part of the protocol
        """Return the seconds to wait after ``attempts`` attempts."""
        return self.seconds[min(attempts, len(self.seconds)) - 1]


def backoff(wait: object) -> Backoff:
    """Return the strategy that a ``wait`` argument stands for; the default where it is a function.

    Raises:
        TypeError: If it is neither seconds, nor a sequence of seconds, nor a strategy.
        ValueError: If seconds are negative or not finite, or the sequence is empty.
    """
    if wait is None or callable(wait):
        return FullJitter()
    if isinstance(wait, (FullJitter, DecorrelatedJitter)):
        return wait
    if isinstance(wait, (int, float, timedelta)):
        return Constant(_arguments.seconds("wait", wait))
    if isinstance(wait, Sequence) and not isinstance(wait, (str, bytes, bytearray)):
        steps = cast("Sequence[object]", wait)
        if not steps:
            raise ValueError(f"wait must be a sequence of at least one wait, got {wait!r}")
        return Steps(tuple(_arguments.seconds("wait", each) for each in steps))
    raise TypeError(
        f"wait must be seconds, a sequence of seconds, a jitter or a tenacity wait, got {wait!r}"
    )


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


def later(asked: float, at_most: float) -> float:
    """Return by how many seconds to come later than asked, as many others were asked to come just then."""
    return random.random() * min(asked * _LATER, _LATEST, at_most)


def checked_delay(delay: Any) -> float:
    """Return in seconds what a wait of the user's returned.

    Raises:
        TypeError: If it is not a duration.
        ValueError: If it is negative, or no number.
    """
    if isinstance(delay, timedelta):
        delay = delay.total_seconds()
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise TypeError(f"wait must return seconds (a number or a timedelta), got {delay!r}")
    if not delay >= 0:
        raise ValueError(f"wait must return seconds of 0 or more, got {delay!r}")
    return delay


def retry_after(error: Exception | None) -> float:
    """Return the seconds that an error asks to wait, 0 if it does not say, or says nonsense."""
    try:
        asked: Any = getattr(error, "retry_after", None)
    except Exception:  # a property that fails says nothing
        return 0.0
    if asked is None:
        return 0.0
    if isinstance(asked, timedelta):
        asked = asked.total_seconds()
    if isinstance(asked, bool) or not isinstance(asked, (int, float)):
        return 0.0
    return asked if 0 < asked < math.inf else 0.0
