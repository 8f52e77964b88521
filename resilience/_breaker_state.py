"""The circuit of a breaker: a pure state machine, ``now`` in, decisions out.

A circuit is in one phase at a time, and each phase is an object of its own::

    Closed ── a rule trips ──> Open ── its pause is over, a call comes ──> HalfOpen
       ^                        ^ <────── a probe failed or was slow ─────────┘ │
       └────────────────────────┴───── enough probes succeeded ────────────────┘

A call is admitted with a *permit*: the `Closed` phase itself, or a `Probe` of a half-open phase. When
the call ends, its outcome counts only if that permit still stands, which is a comparison of identities:
results of an older phase, or of a probe that lost its place, change nothing and are counted as late.
What a closed phase has counted dies with it, so nothing can leak from one era into the next.

The policy holds its lock around every call here. `Circuit.straight` and `Circuit.rejects_until` are for
calls without the lock: as long as the first is not ``None`` the circuit is closed and needs to know
nothing of a call but its success, and up to the second it rejects them all. Transitions turn the straight
path off first and on last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resilience._breaker_phases import (
    BYSTANDER,
    LATE,
    Bystander,
    CircuitState,
    Closed,
    ForcedOpen,
    HalfOpen,
    Late,
    Open,
    Permit,
    Phase,
    Probe,
    Trip,
)
from resilience._breaker_windows import TripRule
from resilience._clock import SET_BACK
from resilience._interpreter import HAS_GIL


@dataclass(frozen=True, slots=True)
class Plan:
    """What the circuits of one policy have in common.

    Args:
        make_rules: Makes the rules of a closed phase.
        half_open_calls: How many probes run at once, and must succeed.
        least_lease: Seconds that a probe keeps its place, if the pause was shorter.
        straight: Whether calls may go without the lock while the circuit is closed.
    """

    make_rules: Callable[[], Sequence[TripRule]]
    half_open_calls: int = 1
    least_lease: float = 0.0
    straight: bool = True


class Circuit:
    """One circuit. Guarded by the lock of the policy that owns it.

    Attributes:
        straight: The closed phase if calls may pass without the lock, else ``None``.
        rejects_until: Up to when calls may be rejected without the lock.
        rejects_at_most: Seconds before that from which on they may.
        phase: What it does with calls, or would do if it is a shadow.
        is_shadow: Whether it judges without ever rejecting.
        openings: How often it opened in a row, without closing in between.
        opened_count: How often it opened in all.
        rejected: How many calls it refused.
        late: How many outcomes came too late to count.
    """

    __slots__ = (
        "is_shadow",
        "late",
        "opened_count",
        "openings",
        "phase",
        "plan",
        "rejected",
        "rejects_at_most",
        "rejects_until",
        "straight",
    )

    straight: Closed | None
    rejects_at_most: float
    rejects_until: float
    phase: Phase
    is_shadow: bool
    openings: int
    opened_count: int
    rejected: int
    late: int

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reset()

    # --- Calls ---

    def admit(self, now: float) -> Permit | None:
        """Return a permit for a call, or ``None`` if the call is rejected."""
        phase = self.phase
        if isinstance(phase, Closed):
            return phase
        if isinstance(phase, Open) and phase.is_over(now):
            lease = max(phase.pause, self.plan.least_lease)
            phase = HalfOpen(lease, self.plan.half_open_calls)
            self._enter(phase)
        probe = phase.start(now) if isinstance(phase, HalfOpen) else None
        if probe is not None:
            return probe
        if self.is_shadow:
            return BYSTANDER
        self.rejected += 1
        return None

    def record(self, permit: Permit, now: float, *, failed: bool, slow: bool) -> Trip | Late | None:
        """Give a permit back with the outcome of its call.

        Returns:
            `LATE` if the outcome did not count, else ``None``; or why the circuit must be opened: then the
            permit is not given back yet, which is up to `open`, or to `give_back`.
        """
        phase = self.phase
        if isinstance(phase, Closed) and permit is phase:
            return phase.add(now, failed=failed, slow=slow)
        if isinstance(phase, HalfOpen) and isinstance(permit, Probe) and phase.counts(permit, now):
            if failed or slow:
                return Trip("probe_failed" if failed else "probe_slow", {})
            phase.end(permit)
            phase.missing -= 1
            if phase.missing == 0:
                self._close()
            return None
        if isinstance(permit, Bystander):
            return None
        if isinstance(phase, HalfOpen) and isinstance(permit, Probe):
            phase.end(permit)
        self.late += 1
        return LATE

    def give_back(self, permit: Permit) -> None:
        """Give a permit back without an outcome: nothing is counted."""
        if isinstance(self.phase, HalfOpen) and isinstance(permit, Probe):
            self.phase.end(permit)

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until the next probe may run; ``None`` if one may now, or nobody knows."""
        phase = self.phase
        if isinstance(phase, Open) and not phase.is_over(now):
            return phase.until - now
        if isinstance(phase, HalfOpen) and len(phase.probes) >= phase.missing:
            oldest = phase.oldest()
            return None if oldest is None or oldest.has_expired(now) else oldest.until - now
        return None

    # --- Transitions ---

    def open(self, permit: Permit, now: float, pause: float) -> bool:
        """Give a permit back and open the circuit for a pause.

        Returns:
            ``False`` if the permit no longer stands, so that the decision to open came too late.
        """
        phase = self.phase
        if permit is not phase and not (isinstance(phase, HalfOpen) and permit in phase.probes):
            return False
        self._enter(Open(now + pause, pause))
        self.openings += 1
        self.opened_count += 1
        return True

    def force_open(self) -> None:
        """Reject every call from now on."""
        self.is_shadow = False
        self.openings = 0
        self._enter(ForcedOpen())

    def shadow(self) -> None:
        """Reject no call from now on, but go on judging."""
        self.is_shadow = True
        if isinstance(self.phase, ForcedOpen):
            self._close()
        else:
            self._enter(self.phase)

    def reset(self) -> None:
        """Leave every mode and forget everything."""
        self.is_shadow = False
        self.opened_count = 0
        self.rejected = 0
        self.late = 0
        self._close()

    def _close(self) -> None:
        self.openings = 0
        self._enter(Closed(self.plan.make_rules()))

    def _enter(self, phase: Phase) -> None:
        self.straight = None
        self.rejects_until = -math.inf
        self.rejects_at_most = 0.0
        self.phase = phase
        if not HAS_GIL:
            return
        if isinstance(phase, Closed) and self.plan.straight:
            self.straight = phase
        elif isinstance(phase, Open) and not self.is_shadow:
            self.rejects_at_most = phase.pause + SET_BACK
            self.rejects_until = phase.until

    # --- Looking at it ---

    def verdict(self, now: float) -> CircuitState:
        """Return what it does with calls, or would do if it were no shadow."""
        if isinstance(self.phase, Open) and self.phase.is_over(now):
            return CircuitState.HALF_OPEN
        return self.phase.state

    def state(self, now: float) -> CircuitState:
        """Return what it does with calls."""
        return CircuitState.SHADOW if self.is_shadow else self.verdict(now)


class KeyedCircuit(Circuit):
    """The circuit of one key: it knows its calls in flight, so that it is never dropped under them.

    Attributes:
        in_flight: How many calls were admitted and have not ended.
        model: What a new circuit of the policy is like; it also counts for all keys together.
    """

    __slots__ = ("in_flight", "model")

    def __init__(self, plan: Plan, model: Circuit) -> None:
        super().__init__(plan)
        self.in_flight = 0
        self.model = model
        if isinstance(model.phase, ForcedOpen):
            self.force_open()
        elif model.is_shadow:
            self.shadow()

    def is_idle(self, now: float) -> bool:
        """Whether a new circuit would do as well."""
        phase = self.phase
        return (
            self.in_flight == 0
            and self.is_shadow == self.model.is_shadow
            and phase.state == self.model.phase.state
            and (not isinstance(phase, Closed) or all(rule.is_clean(now) for rule in phase.rules))
        )

    def admit(self, now: float) -> Permit | None:
        """See `Circuit.admit`."""
        permit = super().admit(now)
        if permit is None:
            self.model.rejected += 1
        else:
            self.in_flight += 1
        return permit

    def record(self, permit: Permit, now: float, *, failed: bool, slow: bool) -> Trip | Late | None:
        """See `Circuit.record`."""
        verdict = super().record(permit, now, failed=failed, slow=slow)
        if not isinstance(verdict, Trip):
            self.in_flight -= 1
        if isinstance(verdict, Late):
            self.model.late += 1
        return verdict

    def give_back(self, permit: Permit) -> None:
        """See `Circuit.give_back`."""
        self.in_flight -= 1
        super().give_back(permit)

    def open(self, permit: Permit, now: float, pause: float) -> bool:
        """See `Circuit.open`."""
        self.in_flight -= 1
        opened = super().open(permit, now, pause)
        self.model.opened_count += opened
        return opened
