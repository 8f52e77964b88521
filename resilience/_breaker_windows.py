"""When a closed circuit must open: trip rules, pure, each with one question.

A rule counts the outcomes of one era of a closed circuit and says after each whether the circuit must
open: after a number of failures in a row (`InARow`), or when too large a part of the last calls
(`RateOverCalls`) or of the last seconds (`RateOverSeconds`) failed or was slow. The rate rules judge
only when they have seen a minimum of calls, and they forget one by one what leaves their window.

Everything here is called under the lock of the circuit's policy, except `TripRule.take`. That one is
for successes, the straight path, and needs no lock where the interpreter has one: it makes no call
between its comparison and its store, and CPython switches threads at calls and backward jumps only.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol, TypeAlias

SLICES = 20
"""Into how many slices `RateOverSeconds` cuts its window."""

Kind: TypeAlias = Literal["failures", "slow_calls"]
Facts: TypeAlias = dict[str, float]


class TripRule(Protocol):
    """One reason for a circuit to open.

    Attributes:
        reason: The argument that set the rule.
        counts: What it calls bad.
    """

    @property
    def reason(self) -> str: ...

    @property
    def counts(self) -> Kind: ...

    def add(self, bad: bool, now: float) -> bool:  # noqa: FBT001 - the outcome is the operand
        """Count an outcome and return whether the circuit must open."""
        ...

    def take(self, now: float) -> bool:
        """Count a success if that is all there is to do.

        Returns:
            Whether it was counted; if not, `add` must be called.
        """
        ...

    def is_clean(self, now: float) -> bool:
        """Whether it remembers nothing bad."""
        ...

    def facts(self, now: float) -> Facts:
        """Return what it has counted."""
        ...


class InARow:
    """Too many failures without a success between them."""

    __slots__ = ("_failures", "_threshold")

    reason = "failure_threshold"
    counts: Kind = "failures"

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._failures = 0

    def add(self, bad: bool, now: float) -> bool:  # noqa: ARG002, FBT001 - see `TripRule`
        self._failures = self._failures + 1 if bad else 0
        return self._failures >= self._threshold

    def take(self, now: float) -> bool:  # noqa: ARG002 - see `TripRule`
        if self._failures:
            self._failures = 0
        return True

    def is_clean(self, now: float) -> bool:  # noqa: ARG002 - see `TripRule`
        return self._failures == 0

    def facts(self, now: float) -> Facts:  # noqa: ARG002 - see `TripRule`
        return {"failures": self._failures}


class RateOverCalls:
    """Too large a part of the last calls.

    It keeps the sequence numbers of the bad calls and nothing of the others, so a success costs one
    addition.

    Args:
        reason: See `TripRule`.
        counts: See `TripRule`.
        rate: The part, 0 to 1, from which on it trips; 0 trips at the first bad call.
        window: How many calls it looks back.
        minimum_calls: How many calls it must have seen to judge, at most ``window``.
    """

    __slots__ = ("_bad_at", "_calls", "_minimum", "_rate", "_window", "counts", "reason")

    def __init__(self, reason: str, counts: Kind, rate: float, window: int, minimum_calls: int) -> None:
        self.reason = reason
        self.counts: Kind = counts
        self._rate = rate
        self._window = window
        self._minimum = minimum_calls
        self._calls = 0  # in all, not only in the window
        self._bad_at: deque[int] = deque()

    def add(self, bad: bool, now: float) -> bool:  # noqa: ARG002, FBT001 - see `TripRule`
        self._calls = number = self._calls + 1
        if bad:
            self._bad_at.append(number)
        self._forget()
        calls = min(number, self._window)
        return calls >= self._minimum and _too_many(len(self._bad_at), calls, self._rate)

    def take(self, now: float) -> bool:  # noqa: ARG002 - see `TripRule`
        number = self._calls + 1
        # Of all successes only the one that completes the minimum can trip: the others lower the rate.
        if number == self._minimum:
            return False
        self._calls = number
        return True

    def is_clean(self, now: float) -> bool:  # noqa: ARG002 - see `TripRule`
        self._forget()
        return not self._bad_at

    def facts(self, now: float) -> Facts:  # noqa: ARG002 - see `TripRule`
        self._forget()
        return _facts(self.counts, len(self._bad_at), min(self._calls, self._window))

    def _forget(self) -> None:
        first = self._calls - self._window
        while self._bad_at and self._bad_at[0] <= first:
            self._bad_at.popleft()


class RateOverSeconds:
    """Too large a part of the calls of the last seconds.

    The window moves in steps of a twentieth, so a call is forgotten up to one step early.

    Args:
        reason: See `TripRule`.
        counts: See `TripRule`.
        rate: The part, 0 to 1, from which on it trips; 0 trips at the first bad call.
        window: How many seconds it looks back.
        minimum_calls: How many calls the window must hold to be judged.
    """

    __slots__ = (
        "_bad",
        "_before",
        "_calls",
        "_minimum",
        "_number",
        "_rate",
        "_slice_ends",
        "_slices",
        "_width",
        "counts",
        "reason",
    )

    def __init__(self, reason: str, counts: Kind, rate: float, window: float, minimum_calls: int) -> None:
        self.reason = reason
        self.counts: Kind = counts
        self._rate = rate
        self._minimum = minimum_calls
        self._width = window / SLICES
        self._calls = 0  # in the window, with those of the slice that is being filled
        self._bad = 0
        self._before = (0, 0)  # the same two without that slice
        self._slices: deque[tuple[int, int, int]] = deque()  # number, calls, bad calls; without it
        self._number = -1
        self._slice_ends = 0.0

    def add(self, bad: bool, now: float) -> bool:  # noqa: FBT001 - see `TripRule`
        self._move(now)
        self._calls += 1
        self._bad += bad
        return self._calls >= self._minimum and _too_many(self._bad, self._calls, self._rate)

    def take(self, now: float) -> bool:
        calls = self._calls + 1
        # Only a new slice or the call that completes the minimum can make a success trip.
        if now >= self._slice_ends or calls == self._minimum:
            return False
        self._calls = calls
        return True

    def is_clean(self, now: float) -> bool:
        self._move(now)
        return self._bad == 0

    def facts(self, now: float) -> Facts:
        self._move(now)
        return _facts(self.counts, self._bad, self._calls)

    def _move(self, now: float) -> None:
        number = int(now / self._width)
        if number <= self._number:
            return
        calls, bad = self._calls, self._bad
        if calls > self._before[0]:
            self._slices.append((self._number, calls - self._before[0], bad - self._before[1]))
        while self._slices and self._slices[0][0] <= number - SLICES:
            _, old_calls, old_bad = self._slices.popleft()
            # One statement each: a success may be taken on the straight path between any two of them.
            self._calls -= old_calls
            self._bad -= old_bad
            calls -= old_calls
            bad -= old_bad
        self._before = (calls, bad)
        self._number = number
        self._slice_ends = (number + 1) * self._width


def _too_many(bad: int, calls: int, rate: float) -> bool:
    # A division, which makes 7 of 100 equal to 0.07; the product 0.07 x 100 is more than 7.
    return bad > 0 and bad / calls >= rate


def _facts(counts: Kind, bad: int, calls: int) -> Facts:
    return {counts: bad, "calls": calls, "rate": bad / calls if calls else 0.0}
