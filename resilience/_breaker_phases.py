"""The phases that a circuit goes through, and the permits of its calls: pure, ``now`` is a parameter.

A phase is an object of its own and lives once. What was admitted under it is recognised by identity, so
nothing can leak from one phase into a later one of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from resilience._breaker_windows import Facts, TripRule
from resilience._clock import SET_BACK

# Seconds. Who waits for `retry_after` must not come too early: event loops wake sleepers up to a tick of
# the clock before their time, and a wait made of several steps adds up their roundings.
ROUNDING = 1e-6


class CircuitState(StrEnum):
    """What a circuit does with calls; each member is also its name as a string.

    Attributes:
        CLOSED: Calls pass and are judged.
        OPEN: Calls are rejected until the pause is over.
        HALF_OPEN: A few probes pass and decide, the other calls are rejected.
        FORCED_OPEN: Calls are rejected until somebody resets it.
        SHADOW: Calls pass and are judged, whatever the verdict.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    SHADOW = "shadow"


class Trip(NamedTuple):
    """Why a circuit must open."""

    reason: str
    facts: Facts


class Closed:
    """The phase in which calls pass and are judged, and the permit of them all."""

    __slots__ = ("rules", "take")

    def __init__(self, rules: Sequence[TripRule]) -> None:
        self.rules = rules
        # Counts a success without the lock, if that is all there is to do; see `TripRule.take`.
        self.take = rules[0].take if len(rules) == 1 else _both_take(rules)

    def add(self, now: float, *, failed: bool, slow: bool) -> Trip | None:
        """Count an outcome; return why the circuit must open, if it must."""
        for rule in self.rules:
            if rule.add(failed if rule.counts == "failures" else slow, now):
                return Trip(rule.reason, rule.facts(now))
        return None


def _both_take(rules: Sequence[TripRule]) -> Callable[[float], bool]:
    # There are two at the most, as a rule about slow calls leaves no straight path. Only the second may
    # refuse, since by then the first has counted the success: `InARow` is the first and never refuses.
    first, last = rules[0], rules[-1]
    return lambda now: first.take(now) and last.take(now)


class _Timed:
    """What ends by itself after some seconds."""

    __slots__ = ("at_most", "seconds", "until")

    def __init__(self, now: float, seconds: float) -> None:
        self.seconds = seconds
        self.until = now + seconds
        self.at_most = seconds + SET_BACK

    def left(self, now: float) -> float:
        """Return the seconds until it ends; 0 if it is over, or was written under another clock."""
        left = self.until - now
        return left if ROUNDING < left <= self.at_most else 0.0


class Open(_Timed):
    """The phase in which calls are rejected, a pause."""

    __slots__ = ()


class Probe(_Timed):
    """The permit of one call in a half-open phase: a place, for the time of its lease."""

    __slots__ = ()


BYSTANDER: Final = Probe(0.0, 0.0)
"""The permit of calls that pass only because the circuit is a shadow; their outcomes say nothing."""


class HalfOpen:
    """The phase in which a few probes pass and decide, and the other calls are rejected.

    A probe that succeeded keeps its place, so no more probes are made than the verdict needs. One that
    does not return loses its place when its lease ends.
    """

    __slots__ = ("lease", "missing", "probes")

    def __init__(self, lease: float, half_open_calls: int) -> None:
        self.lease = lease
        self.missing = half_open_calls  # how many more successes close the circuit
        self.probes: dict[Probe, None] = {}  # those that run, oldest first; a set would lose the order

    def start(self, now: float) -> Probe | None:
        """Admit a probe if there is a place."""
        while (oldest := self.oldest()) is not None and not oldest.left(now):
            self.probes.pop(oldest, None)  # gone, if in `left` the garbage collector closed its call
        if len(self.probes) >= self.missing:
            return None
        probe = Probe(now, self.lease)
        self.probes[probe] = None
        return probe

    def add(self, _now: float, *, failed: bool, slow: bool) -> Trip | None:
        """Count the outcome of a probe; return why the circuit must open, if it must."""
        if failed or slow:
            return Trip("probe_failed" if failed else "probe_slow", {})
        self.missing -= 1
        return None

    def oldest(self) -> Probe | None:
        """Return the probe whose place is free first."""
        return next(iter(self.probes), None)


Phase: TypeAlias = Closed | Open | HalfOpen
Permit: TypeAlias = Closed | Probe
