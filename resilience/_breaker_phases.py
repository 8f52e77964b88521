"""The phases that a circuit goes through, and the permits of its calls: pure, ``now`` is a parameter.

A phase is an object of its own and lives once. What was admitted under it is recognised by identity, so
nothing can leak from one phase into a later one of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple, TypeAlias

from resilience._breaker_windows import Facts, Kind, Rate, TripRule
from resilience._clock import SET_BACK

# Seconds. Who waits for `retry_after` must not come too early: event loops wake sleepers up to a tick of
# the clock before their time, and a wait made of several steps adds up their roundings.
ROUNDING = 1e-6


class CircuitState(StrEnum):
    """What a circuit does with calls; each member is also its name as a string.

    Attributes:
        CLOSED: Calls pass and are judged.
        OPEN: Calls are rejected until the pause is over.
        HALF_OPEN: A few calls pass and decide, the others are rejected.
        FORCED_OPEN: Calls are rejected until somebody resets it.
        SHADOW: Calls pass and are judged, whatever the verdict.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    SHADOW = "shadow"


class Outcome(NamedTuple):
    """How a call ended.

    Attributes:
        name: The class in which it is counted.
        bad_for: What it is a bad one for.
        is_verdict: Whether it says how the service is: only then rules and probes have an answer.
    """

    name: str
    bad_for: tuple[Kind, ...] = ()
    is_verdict: bool = True


SUCCESS: Final = Outcome("success")
SLOW: Final = Outcome("slow", ("slow_calls",))
FAILURE: Final = Outcome("failure", ("failures",))
SLOW_FAILURE: Final = Outcome("failure", ("failures", "slow_calls"))
ABANDONED: Final = Outcome("abandoned", ("abandoned_calls",), is_verdict=False)
IGNORED: Final = Outcome("ignored", is_verdict=False)
CLASSES: Final = (SUCCESS.name, FAILURE.name, SLOW.name, IGNORED.name, ABANDONED.name)


class Trip(NamedTuple):
    """Why a circuit must open."""

    reason: str
    facts: Facts


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


class Judged:
    """A phase whose calls are judged by rules, and the permit of those calls.

    The rules are the era: while phases share them, what was admitted in one counts in the next.
    """

    __slots__ = ("_added", "rules")

    def __init__(self, rules: Sequence[TripRule]) -> None:
        self.rules = rules
        self._added = 0  # verdicts

    def add(self, _permit: Permit, now: float, outcome: Outcome, /) -> Trip | None:
        """Count an outcome; return why the circuit must open, if it must."""
        self._added += outcome.is_verdict
        trip: Trip | None = None
        for rule in self.rules:
            is_bad = rule.counts in outcome.bad_for
            # What is no verdict exists only for the rule that asks for it.
            if (is_bad or outcome.is_verdict) and rule.add(is_bad, now) and trip is None:
                trip = Trip(rule.reason, rule.facts(now))
        return trip


class Closed(Judged):
    """The phase in which all calls pass."""

    __slots__ = ("take",)

    def __init__(self, rules: Sequence[TripRule]) -> None:
        super().__init__(rules)
        # Counts a success without the lock, if that is all there is to do; see `TripRule.take`.
        self.take = rules[0].take if len(rules) == 1 else _both_take(rules)

    def taken(self) -> int:
        """Return how many successes it took without the lock, as far as its rules counted them."""
        last = self.rules[-1]
        return last.calls - self._added if isinstance(last, Rate) else 0


def _both_take(rules: Sequence[TripRule]) -> Callable[[float], bool]:
    # There are two at the most, as other rules leave no straight path. Only the second may refuse, since
    # by then the first has counted the success: `InARow` is the first and never refuses.
    first, last = rules[0], rules[-1]
    return lambda now: first.take(now) and last.take(now)


class Open(_Timed):
    """The phase in which calls are rejected, a pause."""

    __slots__ = ()

    rules: ClassVar[Sequence[TripRule]] = ()


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

    rules: ClassVar[Sequence[TripRule]] = ()

    def __init__(self, lease: float, half_open_calls: int) -> None:
        self.lease = lease
        self.missing = half_open_calls  # how many more successes end it
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

    def add(self, _permit: Permit, _now: float, outcome: Outcome, /) -> Trip | None:
        """Count the outcome of a probe; return why the circuit must open, if it must."""
        if not outcome.is_verdict:
            return None
        if outcome.bad_for:
            return Trip("probe_failed" if "failures" in outcome.bad_for else "probe_slow", {})
        self.missing -= 1
        return None

    def oldest(self) -> Probe | None:
        """Return the probe whose place is free first."""
        return next(iter(self.probes), None)


class Stage(Judged):
    """A stage of a progressive recovery: a part of the calls passes, the others are rejected.

    Which calls pass is no matter of chance: the first, then each without which too small a part would have
    passed, and, as the turn of one may never come where calls are rare, one where none has passed for as
    long as a stage lasts. The stage is over when its time is, if one of its own calls has succeeded.

    Args:
        rules: Those of the era, which the stages of one recovery share.
        rates: The part that passes, 0 to 1, and those of the stages to come.
        now: When it begins.
        seconds: How long it lasts at least.
    """

    __slots__ = ("_asked", "_last", "_passed", "_rates", "_succeeded", "_time")

    def __init__(
        self, rules: Sequence[TripRule], rates: Sequence[float], now: float, seconds: float
    ) -> None:
        super().__init__(rules)
        self._rates = rates
        self._time = self._last = _Timed(now, seconds)
        self._asked = 0
        self._passed = 0
        self._succeeded = False

    @property
    def rate(self) -> float:
        """The part of the calls that passes."""
        return self._rates[0]

    @property
    def is_last(self) -> bool:
        """Whether no other stage follows."""
        return len(self._rates) == 1

    def start(self, now: float) -> Stage | None:
        """Admit a call if it is the turn of one."""
        self._asked += 1
        # A division, which makes 7 of 100 equal to 0.07; the product 0.07 x 100 is more than 7.
        if self._passed / self._asked >= self.rate and self._last.left(now):
            return None
        self._passed += 1
        self._last = _Timed(now, self._time.seconds)
        return self

    def add(self, permit: Permit, now: float, outcome: Outcome, /) -> Trip | None:
        """Count an outcome; return why the circuit must open, if it must."""
        self._succeeded |= permit is self and outcome is SUCCESS
        return super().add(permit, now, outcome)

    def is_over(self, now: float) -> bool:
        """Whether the next stage may begin."""
        return self._succeeded and not self._time.left(now)

    def following(self, now: float) -> Stage:
        """Return the next stage, beginning now."""
        return Stage(self.rules, self._rates[1:], now, self._time.seconds)


Phase: TypeAlias = Closed | Open | HalfOpen | Stage
Permit: TypeAlias = Closed | Stage | Probe
