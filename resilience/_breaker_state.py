"""The circuit of a breaker: a pure state machine, ``now`` in, decisions out.

A circuit is in one phase at a time, and each phase is an object of its own::

    Closed ── a rule trips ──> Open ── its pause is over, a call comes ──> HalfOpen
      ^                         ^ <─────── a probe failed or was slow ───────┘ │
      │                         ^ <─── a rule trips ─── Stage, Stage ... <─────┤
      └──────────────── all is well ──────────────────────┴────────────────────┘

The stages of a progressive recovery are an option; without them enough good probes close the circuit.

A call is admitted with a *permit*: the phase itself if its calls are judged by rules, or a `Probe`. When
the call ends, its outcome counts only if that permit still stands, which is a comparison of identities:
results of an older era, or of a probe that lost its place, change nothing and are counted as late. What
the rules of an era have counted dies with them, so nothing can leak from one era into the next.

The policy holds its lock around every call here. `Circuit.straight` and `Circuit.rejects` are for calls
without the lock: as long as the first is not ``None`` the circuit is closed and needs to know nothing of a
call but its success, and during the second it rejects them all. Transitions turn both off first, on last.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from resilience._breaker_config import CircuitBreakerConfig
from resilience._breaker_phases import (
    BYSTANDER,
    SUCCESS,
    CircuitState,
    Closed,
    HalfOpen,
    Judged,
    Open,
    Outcome,
    Permit,
    Phase,
    Probe,
    Stage,
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
        pause: How many seconds it was open the last of these times; 0 if it closed since.
        rejected: How many calls it refused.
        counts: How often it opened, how many calls came too late to count, and how many others ended how,
            but for the successes of the straight path. What never happened is missing.
    """

    __slots__ = (
        "_config",
        "_model",
        "_taken",
        "counts",
        "in_flight",
        "mode",
        "openings",
        "pause",
        "phase",
        "rejected",
        "rejects",
        "straight",
    )

    straight: Closed | None
    rejects: Open | None
    mode: Mode | None
    phase: Phase
    counts: dict[str, int]

    def __init__(self, config: CircuitBreakerConfig, model: Circuit | None = None) -> None:
        self._config = config
        self._model = model
        self.mode = None if model is None else model.mode
        self.in_flight = 0
        self.openings = 0
        self.pause = 0.0
        self._forget()
        self.phase = Closed(config.rules())
        self._enter(self.phase)

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
        if self.mode is CircuitState.FORCED_OPEN:
            return None
        phase = self.phase
        if not isinstance(phase, Closed):
            self._advance(now)
            phase = self.phase
        if isinstance(phase, Closed):
            return phase
        permit = None if isinstance(phase, Open) else phase.start(now)
        if permit is None and self.mode is CircuitState.SHADOW:
            return BYSTANDER
        return permit

    def record(self, permit: Permit, now: float, outcome: Outcome) -> Trip | Literal["late"] | None:
        """Give a permit back with the outcome of its call.

        Returns:
            What came of it; a `Trip` if the circuit must be opened: then the permit is not given back
            yet, which is up to `open`, or to `give_back`.
        """
        phase = self._phase_of(permit, now)
        if phase is None:
            self.give_back(permit)
            is_late = outcome.is_verdict and permit is not BYSTANDER
            self._count("late" if is_late else outcome.name)
            return "late" if is_late else None
        self._count(outcome.name)
        trip = phase.add(permit, now, outcome)
        if trip is not None:
            return trip
        self.give_back(permit)
        # Others may come from the garbage collector, in the middle of anything.
        if outcome.is_verdict and not isinstance(phase, Closed):
            self._advance(now)
        return None

    def give_back(self, permit: Permit) -> None:
        """Give a permit back without an outcome: nothing is counted."""
        self.in_flight -= 1
        if isinstance(self.phase, HalfOpen) and isinstance(permit, Probe):
            self.phase.probes.pop(permit, None)

    def _phase_of(self, permit: Permit, now: float) -> Judged | HalfOpen | None:
        """Return the phase if the permit stands in it."""
        phase = self.phase
        if isinstance(phase, Judged):
            return phase if isinstance(permit, Judged) and permit.rules is phase.rules else None
        if isinstance(phase, HalfOpen) and isinstance(permit, Probe):
            return phase if permit in phase.probes and permit.left(now) else None
        return None

    def _count(self, what: str) -> None:
        counts = self.counts
        counts[what] = counts.get(what, 0) + 1
        if self._model is not None:
            counts = self._model.counts
            counts[what] = counts.get(what, 0) + 1

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
        self.pause = pause
        self.openings += 1
        self._count("opened")
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
        self._close()
        self._forget()

    def _forget(self) -> None:
        self._taken = 0
        self.rejected = 0
        self.counts = {}

    def _advance(self, now: float) -> None:
        """Leave a phase that is over."""
        phase = self.phase
        if isinstance(phase, Open) and not phase.left(now):
            self._enter(HalfOpen(self._config.lease(phase.seconds), self._config.half_open_calls))
        elif isinstance(phase, HalfOpen) and not phase.missing:
            self._recover(phase, now)
        elif isinstance(phase, Stage) and phase.is_over(now):
            self._close() if phase.is_last else self._enter(phase.following(now))

    def _recover(self, phase: HalfOpen, now: float) -> None:
        rates = self._config.half_open_rates
        if not rates:
            self._close()
            return
        stage = self._config.half_open_stage
        self._enter(Stage(self._config.rules(), rates, now, phase.lease if stage is None else stage))

    def _close(self) -> None:
        self.openings = 0
        self.pause = 0.0
        self._enter(Closed(self._config.rules()))

    def _enter(self, phase: Phase) -> None:
        self.straight = None
        self.rejects = None
        if phase is not self.phase:
            self._taken += self._taken_now()
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
        if self.mode is CircuitState.FORCED_OPEN:
            return CircuitState.FORCED_OPEN
        if self._is_closed(now):
            return CircuitState.CLOSED
        if isinstance(self.phase, Open) and self.phase.left(now):
            return CircuitState.OPEN
        return CircuitState.HALF_OPEN

    def _is_closed(self, now: float) -> bool:
        phase = self.phase
        return isinstance(phase, Closed) or (
            isinstance(phase, Stage) and phase.is_last and phase.is_over(now)
        )

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
            and self._is_closed(now)
            and all(rule.is_clean(now) for rule in self.phase.rules)
        )

    def successes(self) -> int | None:
        """Return how many calls succeeded since the last reset; ``None`` if it does not count them."""
        if not self._config.counts_successes:
            return None
        return self.counts.get(SUCCESS.name, 0) + self._taken + self._taken_now()

    def _taken_now(self) -> int:
        phase = self.phase
        return phase.taken() if isinstance(phase, Closed) and self._config.is_straight else 0
