"""When a closed circuit must open: trip rules, pure, each with one question.

A rule counts the outcomes of one era of a closed circuit and says after each whether the circuit must
open: after a number of failures in a row (`InARow`), or when too large a part of the last calls
(`RateOverCalls`) or of the last seconds (`RateOverSeconds`) failed, was slow or was abandoned. The rate
rules judge only when they have seen a minimum of calls, and they forget one by one what leaves their
window.

Everything here is called under the lock of the circuit's policy, except `TripRule.take`. That one is
for successes, the straight path, and needs no lock where the interpreter has one: it makes no call
between its comparison and its store, and CPython switches threads at calls and backward jumps only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Literal, TypeAlias

from resilience._clock import SET_BACK

SLICES = 20
"""Into how many slices `RateOverSeconds` cuts its window."""

Kind: TypeAlias = Literal["failures", "slow_calls", "abandoned_calls"]
Facts: TypeAlias = dict[str, float]


class TripRule(ABC):
    """One reason for a circuit to open.

    Args:
        reason: The argument that set the rule.
        counts: What it calls bad.
    """

    __slots__ = ("counts", "reason")

    def __init__(self, reason: str, counts: Kind) -> None:
        self.reason = reason
        self.counts: Kind = counts

    @abstractmethod
    def add(self, bad: bool, now: float, /) -> bool:  # noqa: FBT001 - the outcome is the operand
        """Count an outcome and return whether the circuit must open."""

    @abstractmethod
    def take(self, now: float, /) -> bool:
        """Count a success if that is all there is to do.

        Returns:
            Whether it was counted; if not, `add` must be called.
        """

    @abstractmethod
    def facts(self, now: float, /) -> Facts:
        """Return what it has counted."""

    def is_clean(self, now: float) -> bool:
        """Whether it remembers nothing bad."""
        return self.facts(now)[self.counts] == 0


class InARow(TripRule):
    """Too many failures without a success between them.

    It does not count the successes: that would make the straight path slower by a tenth.
    """

    __slots__ = ("_failures", "_threshold")

    def __init__(self, threshold: int) -> None:
        super().__init__("failure_threshold", "failures")
        self._threshold = threshold
        self._failures = 0

    def add(self, bad: bool, _now: float, /) -> bool:  # noqa: FBT001 - see `TripRule`
        self._failures = self._failures + 1 if bad else 0
        return self._failures >= self._threshold

    def take(self, _now: float, /) -> bool:
        if self._failures:
            self._failures = 0
        return True

    def facts(self, _now: float, /) -> Facts:
        return {"failures": self._failures}


class Rate(TripRule):
    """Too large a part of the calls in a window.

    Args:
        reason: See `TripRule`.
        counts: See `TripRule`.
        rate: The part, 0 to 1, from which on it trips; 0 trips at the first bad call.
        minimum_calls: How many calls the window must hold to be judged.

    Attributes:
        calls: How many calls it was told of, not only those in the window.
    """

    __slots__ = ("_minimum", "_rate", "calls")

    def __init__(self, reason: str, counts: Kind, rate: float, minimum_calls: int) -> None:
        super().__init__(reason, counts)
        self._rate = rate
        self._minimum = minimum_calls
        self.calls = 0

    @abstractmethod
    def _window(self, now: float, /) -> tuple[int, int]:
        """Return how many bad calls and how many calls the window holds."""

    def _must_open(self, now: float) -> bool:
        bad, calls = self._window(now)
        # A division, which makes 7 of 100 equal to 0.07; the product 0.07 x 100 is more than 7.
        return calls >= self._minimum and bad > 0 and bad / calls >= self._rate

    def facts(self, now: float, /) -> Facts:
        bad, calls = self._window(now)
        return {self.counts: bad, "calls": calls, "rate": bad / calls if calls else 0.0}


class RateOverCalls(Rate):
    """Too large a part of the last ``window`` calls, of which ``minimum_calls`` are not more.

    It keeps the numbers of the bad calls and nothing of the others, so a success costs one addition.
    """

    __slots__ = ("_bad_at", "_length")

    def __init__(self, reason: str, counts: Kind, rate: float, window: int, minimum_calls: int) -> None:
        super().__init__(reason, counts, rate, minimum_calls)
        self._length = window
        self._bad_at: deque[int] = deque()

    def add(self, bad: bool, now: float, /) -> bool:  # noqa: FBT001 - see `TripRule`
        self.calls = number = self.calls + 1
        if bad:
            self._bad_at.append(number)
        return self._must_open(now)

    def take(self, _now: float, /) -> bool:
        number = self.calls + 1
        # Of all successes only the one that completes the minimum can trip: the others lower the rate.
        if number == self._minimum:
            return False
        self.calls = number
        return True

    def _window(self, _now: float, /) -> tuple[int, int]:
        while self._bad_at and self._bad_at[0] <= self.calls - self._length:
            self._bad_at.popleft()
        return len(self._bad_at), min(self.calls, self._length)


class RateOverSeconds(Rate):
    """Too large a part of the calls of the last ``window`` seconds.

    The window moves in steps of a twentieth, so a call is forgotten up to one step early. Nothing is kept
    of a slice but what had been counted when it began. When the clock is set back it begins anew, at the
    first failure after that: `take` need not ask.
    """

    __slots__ = ("_bad", "_complete_at", "_slice_ends", "_slices", "_width")

    def __init__(self, reason: str, counts: Kind, rate: float, window: float, minimum_calls: int) -> None:
        super().__init__(reason, counts, rate, minimum_calls)
        self._width = window / SLICES
        self._bad = 0  # in all, like `calls`
        self._complete_at = minimum_calls  # how many calls in all complete the minimum
        self._slices: deque[tuple[int, int, int]] = deque([(-1, 0, 0)])  # number; bad, calls until then
        self._slice_ends = 0.0

    def add(self, bad: bool, now: float, /) -> bool:  # noqa: FBT001 - see `TripRule`
        self._move(now)
        self.calls += 1
        self._bad += bad
        return self._must_open(now)

    def take(self, now: float, /) -> bool:
        calls = self.calls + 1
        # Only a new slice or the call that completes the minimum can make a success trip.
        if now >= self._slice_ends or calls == self._complete_at:
            return False
        self.calls = calls
        return True

    def _window(self, now: float, /) -> tuple[int, int]:
        self._move(now)
        _, bad_gone, calls_gone = self._slices[0]
        return self._bad - bad_gone, self.calls - calls_gone

    def _move(self, now: float) -> None:
        number = int(now / self._width)
        newest = self._slices[-1][0]
        if now < newest * self._width - SET_BACK:  # what it holds was written under another clock
            self._slices.clear()
        elif number <= newest:
            return
        self._slices.append((number, self._bad, self.calls))
        while self._slices[0][0] <= number - SLICES:
            self._slices.popleft()
        self._complete_at = self._slices[0][2] + self._minimum
        self._slice_ends = (number + 1) * self._width
