"""The phases that a circuit goes through, and the permits of its calls: pure, ``now`` is a parameter.

A phase is an object of its own and lives once. What was admitted under it is recognised by identity, so
nothing can leak from one phase into a later one of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeAlias

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


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a circuit must open."""

    reason: str
    facts: Facts


class Closed:
    """Calls pass and are judged. One era: when it opens, this object is gone for good."""

    __slots__ = ("rules", "take")

    state: ClassVar = CircuitState.CLOSED

    def __init__(self, rules: Sequence[TripRule]) -> None:
        self.rules = rules
        # Counts a success without the lock, if that is all there is to do; see `TripRule.take`.
        self.take = rules[0].take if len(rules) == 1 else _all_take(rules)

    def add(self, now: float, *, failed: bool, slow: bool) -> Trip | None:
        """Count an outcome; return why the circuit must open, if it must."""
        for rule in self.rules:
            if rule.add(failed if rule.counts == "failures" else slow, now):
                return Trip(rule.reason, rule.facts(now))
        return None


class Open:
    """Calls are rejected until the pause is over."""

    __slots__ = ("pause", "until")

    state: ClassVar = CircuitState.OPEN

    def __init__(self, until: float, pause: float) -> None:
        self.until = until
        self.pause = pause

    def is_over(self, now: float) -> bool:
        """Whether the next call may be a probe."""
        return not ROUNDING < self.until - now <= self.pause + SET_BACK


class ForcedOpen:
    """Calls are rejected until somebody resets the circuit."""

    __slots__ = ()

    state: ClassVar = CircuitState.FORCED_OPEN


class HalfOpen:
    """A few probes pass and decide, the other calls are rejected.

    A probe that succeeded keeps its place, so no more probes are made than the verdict needs. One that
    does not return loses its place when its lease ends.
    """

    __slots__ = ("lease", "missing", "probes")

    state: ClassVar = CircuitState.HALF_OPEN

    def __init__(self, lease: float, half_open_calls: int) -> None:
        self.lease = lease
        self.missing = half_open_calls  # how many more successes close the circuit
        self.probes: dict[Probe, None] = {}  # those that run, oldest first; a set would lose the order

    def start(self, now: float) -> Probe | None:
        """Admit a probe if there is a place."""
        while (oldest := self.oldest()) is not None and oldest.has_expired(now):
            self.end(oldest)
        if len(self.probes) >= self.missing:
            return None
        probe = Probe(now + self.lease, self.lease)
        self.probes[probe] = None
        return probe

    def oldest(self) -> Probe | None:
        """Return the probe whose place is free first."""
        return next(iter(self.probes), None)

    def end(self, probe: Probe) -> None:
        """Free the place of a probe, if it still has one."""
        self.probes.pop(probe, None)

    def counts(self, probe: Probe, now: float) -> bool:
        """Whether the outcome of a probe counts: it has not lost its place."""
        return probe in self.probes and not probe.has_expired(now)


class Probe:
    """The permit of one call in a half-open phase."""

    __slots__ = ("lease", "until")

    def __init__(self, until: float, lease: float) -> None:
        self.until = until
        self.lease = lease

    def has_expired(self, now: float) -> bool:
        """Whether it has lost its place."""
        return not ROUNDING < self.until - now <= self.lease + SET_BACK


class Bystander:
    """The permit of a call that passes only because the circuit is a shadow; its outcome says nothing."""

    __slots__ = ()


class Late:
    """The outcome came too late to count."""

    __slots__ = ()


BYSTANDER = Bystander()
LATE = Late()


def _all_take(rules: Sequence[TripRule]) -> Callable[[float], bool]:
    # There are two at the most, as a rule about slow calls leaves no straight path. Only the second may
    # refuse, since by then the first has counted the success: `InARow` is the first and never refuses.
    first, last = rules[0], rules[-1]
    return lambda now: first.take(now) and last.take(now)


Phase: TypeAlias = Closed | Open | HalfOpen | ForcedOpen
Permit: TypeAlias = Closed | Probe | Bystander
