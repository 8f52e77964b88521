"""The circuit of a breaker: a pure state machine, ``now`` in, decisions out.

A circuit is in one phase at a time, and each phase is an object of its own::

    Closed ── a rule trips ──> Open ── its pause is over, a call comes ──> HalfOpen
       ^                        ^ <────── a probe failed or was slow ─────────┘ │
       └────────────────────────┴───── enough probes succeeded ────────────────┘

A call is admitted with a *permit*: the `Closed` phase itself, or a `Probe` of a half-open phase. When
the call ends, its outcome counts only if that permit still stands, which is a comparison of identities:
results of an older phase, or of a probe that lost its place, change nothing and are counted as late.
What a closed phase has counted dies with it, so nothing can leak from one era into the next.

The policy holds its lock around every call here. `Circuit.straight` and `Circuit.rejects` are for calls
without the lock: as long as the first is not ``None`` the circuit is closed and needs to know nothing of a
call but its success, and during the second it rejects them all. Transitions turn both off first, on last.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from resilience._breaker_config import CircuitBreakerConfig
from resilience._breaker_phases import (
    BYSTANDER,
    CircuitState,
    Closed,
    HalfOpen,
    Open,
    Permit,
    Phase,
    Probe,
    Trip,
)
from resilience._interpreter import HAS_GIL

Mode: TypeAlias = Literal[CircuitState.FORCED_OPEN, CircuitState.SHADOW]


class Circuit:
    """One circuit: for all calls, or for those with one key. Guarded by the lock of its policy.

    Args:
        config: What the circuits of a policy have in common.
        model: What a new circuit for a key is like; it counts for all keys together and gets no calls.

    Attributes:
        straight: The closed phase if calls may pass without the lock, else ``None``.
        rejects: The pause if calls may be rejected without the lock until its end, else ``None``.
        mode: What somebody made of it, if anything; a forced circuit is closed beneath.
        phase: What it does with calls, or would do if it had no mode.
        in_flight: How many calls have a permit; says nothing where calls may pass without the lock.
        openings: How often it opened in a row, without closing in between.
        opened_count: How often it opened in all.
        rejected: How many calls it refused.
        late: How many outcomes came too late to count.
    """

    __slots__ = (
        "_config",
        "_model",
        "in_flight",
        "late",
        "mode",
        "opened_count",
        "openings",
        "phase",
        "rejected",
        "rejects",
        "straight",
    )

    straight: Closed | None
    rejects: Open | None
    mode: Mode | None
    phase: Phase

    def __init__(self, config: CircuitBreakerConfig, model: Circuit | None = None) -> None:
        self._config = config
        self._model = model
        self.in_flight = 0
        self.reset()
        if model is not None:
            self.mode = model.mode

    # --- Calls ---

    def admit(self, now: float) -> Permit | None:
        """Return a permit for a call, or ``None`` if the call is rejected."""
        permit = self._permit(now)
        if permit is not None:
            self.in_flight += 1
            return permit
        self.rejected += 1
        if self._model is not None:
            self._model.rejected += 1
        return None

    def _permit(self, now: float) -> Permit | None:
        phase = self.phase
        if self.mode is CircuitState.FORCED_OPEN:
            return None
        if isinstance(phase, Closed):
            return phase
        if isinstance(phase, Open) and not phase.left(now):
            phase = HalfOpen(self._config.lease(phase.seconds), self._config.half_open_calls)
            self._enter(phase)
        probe = phase.start(now) if isinstance(phase, HalfOpen) else None
        if probe is None and self.mode is CircuitState.SHADOW:
            return BYSTANDER
        return probe

    def record(
        self, permit: Permit, now: float, *, failed: bool, slow: bool
    ) -> Trip | Literal["closed", "late"] | None:
        """Give a permit back with the outcome of its call.

        Returns:
            What came of it; a `Trip` if the circuit must be opened: then the permit is not given back
            yet, which is up to `open`, or to `give_back`.
        """
        phase = self._phase_of(permit, now)
        if phase is None:
            return self._drop(permit)
        trip = phase.add(now, failed=failed, slow=slow)
        if trip is not None:
            return trip
        self.give_back(permit)
        if isinstance(phase, Closed) or phase.missing:
            return None
        self._close()
        return "closed"

    def give_back(self, permit: Permit) -> None:
        """Give a permit back without an outcome: nothing is counted."""
        self.in_flight -= 1
        if isinstance(self.phase, HalfOpen) and isinstance(permit, Probe):
            self.phase.probes.pop(permit, None)

    def _phase_of(self, permit: Permit, now: float) -> Closed | HalfOpen | None:
        """Return the phase if the permit stands in it."""
        phase = self.phase
        if isinstance(phase, HalfOpen) and isinstance(permit, Probe):
            return phase if permit in phase.probes and permit.left(now) else None
        return phase if isinstance(phase, Closed) and permit is phase else None

    def _drop(self, permit: Permit) -> Literal["late"] | None:
        self.give_back(permit)
        if permit is BYSTANDER:
            return None
        self.late += 1
        if self._model is not None:
            self._model.late += 1
        return "late"

    # --- Transitions ---

    def open(self, permit: Permit, now: float, pause: float) -> bool:
        """Give a permit back and open the circuit for a pause.

        Returns:
            ``False`` if the permit no longer stands, so that the decision to open came too late.
        """
        phase = self._phase_of(permit, now)
        self.give_back(permit)
        if phase is None:
            return False
        self._enter(Open(now, pause))
        self.openings += 1
        self.opened_count += 1
        if self._model is not None:
            self._model.opened_count += 1
        return True

    def force_open(self) -> None:
        """Reject every call from now on."""
        self.mode = CircuitState.FORCED_OPEN
        self._close()

    def shadow(self) -> None:
        """Reject no call from now on, but go on judging."""
        self.mode = CircuitState.SHADOW
        self._enter(self.phase)

    def reset(self) -> None:
        """Leave every mode and forget everything."""
        self.mode = None
        self.opened_count = 0
        self.rejected = 0
        self.late = 0
        self._close()

    def _close(self) -> None:
        self.openings = 0
        self._enter(Closed(self._config.rules()))

    def _enter(self, phase: Phase) -> None:
        self.straight = None
        self.rejects = None
        self.phase = phase
        if not HAS_GIL or self.mode is CircuitState.FORCED_OPEN:
            return
        if isinstance(phase, Closed) and self._config.is_straight:
            self.straight = phase
        elif isinstance(phase, Open) and self.mode is None:
            self.rejects = phase

    # --- Looking at it ---

    def state(self, now: float) -> CircuitState:
        """Return what it does with calls."""
        return self.mode or self.verdict(now)

    def verdict(self, now: float) -> CircuitState:
        """Return what it does with calls, or would do if it were no shadow."""
        phase = self.phase
        if self.mode is CircuitState.FORCED_OPEN:
            return CircuitState.FORCED_OPEN
        if isinstance(phase, Closed):
            return CircuitState.CLOSED
        if isinstance(phase, Open) and phase.left(now):
            return CircuitState.OPEN
        return CircuitState.HALF_OPEN

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until the next probe may run; ``None`` if one may now, or nobody knows."""
        phase = self.phase
        if isinstance(phase, Open):
            return phase.left(now) or None
        if isinstance(phase, HalfOpen) and len(phase.probes) >= phase.missing:
            oldest = phase.oldest()
            return None if oldest is None else oldest.left(now) or None
        return None

    def is_idle(self, now: float) -> bool:
        """Whether a new circuit would do as well."""
        return (
            self.in_flight == 0
            and (self._model is None or self.mode is self._model.mode)
            and isinstance(self.phase, Closed)
            and all(rule.is_clean(now) for rule in self.phase.rules)
        )

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return figures as plain data."""
        phase = self.phase
        figures: dict[str, Any] = {
            "state": self.state(now).value,
            "would_be": self.verdict(now).value,
            "failures": 0,
            "calls": None,
            "failure_rate": None,
            "slow_call_rate": None,
            "retry_after": self.retry_after(now),
            "probes": len(phase.probes) if isinstance(phase, HalfOpen) else 0,
            "openings": self.openings,
            "opened_count": self.opened_count,
            "rejected": self.rejected,
            "late": self.late,
        }
        for rule in phase.rules if isinstance(phase, Closed) else ():
            facts = rule.facts(now)
            rate = facts.pop("rate", None)
            figures |= facts if rate is None else {**facts, rule.reason: rate}
        return figures
