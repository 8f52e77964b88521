"""The circuits of one breaker behind one lock.

Whatever the pure state machine must not do happens here: reading the clock, asking the user's functions,
locking, telling listeners. The lock covers a few lines each time and never a function of the user, nor the
call.
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, TypeVar

from resilience import _clock, _events
from resilience._breaker_config import DEFAULT_PAUSE, CircuitBreakerConfig
from resilience._breaker_phases import (
    ABANDONED,
    BYSTANDER,
    FAILURE,
    IGNORED,
    ROUNDING,
    SLOW,
    SLOW_FAILURE,
    SUCCESS,
    CircuitState,
    Closed,
    Outcome,
    Permit,
    Phase,
    Stage,
    Trip,
)
from resilience._breaker_snapshot import figures_of, totals_of
from resilience._breaker_state import Circuit
from resilience._keys import KeyTable

T = TypeVar("T")
R = TypeVar("R")

EVERY: Final = object()
"""Stands for all keys at once."""

# From the best to the worst.
_SEVERITY = (
    CircuitState.CLOSED,
    CircuitState.SHADOW,
    CircuitState.HALF_OPEN,
    CircuitState.OPEN,
    CircuitState.FORCED_OPEN,
)


_WHEN_SLOW = {SUCCESS: SLOW, FAILURE: SLOW_FAILURE, ABANDONED: ABANDONED}


class Circuits:
    """The circuits of one policy. Safe for concurrent tasks, threads and event loops.

    Attributes:
        one: The circuit for all calls; with keys, the model of theirs, which gets no calls.
    """

    def __init__(self, config: CircuitBreakerConfig) -> None:
        self._config = config
        self.one = one = Circuit(config)
        self._keyed: KeyTable[Circuit] | None = None
        if config.key is not None:
            self._keyed = KeyTable(lambda: Circuit(config, one), config.max_keys)
        # Re-entrant: in the middle of these lines the garbage collector may close a forgotten call,
        # which gives its permit back.
        self._lock = threading.RLock()

    # --- Calls ---

    def admit(self, key: Hashable, now: float, name: str) -> tuple[Circuit, Permit | None, float | None]:
        """Ask for a permit.

        Returns:
            The circuit that decided, the permit or ``None``, and the seconds until a rejected call may
            be tried again if anybody knows.
        """
        one = self.one
        pause = one.rejects
        # Without the lock: a pause never changes. `pause.left` in place, as its call is 7 % of a rejection.
        if pause is not None and ROUNDING < (left := pause.until - now) <= pause.at_most:
            one.rejected += 1
            if _events.listeners:
                _events.emit("circuit_breaker.rejected", name, retry_after=left)
            return one, None, left
        keyed = self._keyed
        with self._lock:
            circuit = one if keyed is None else keyed.at(key, now)
            before = circuit.phase
            permit = circuit.admit(now)
            rejected = permit is None or permit is BYSTANDER
            retry_after = circuit.retry_after(now) if rejected else None
            after = circuit.phase
        if _events.listeners:
            if after is not before:
                _tell(after, circuit, name)
            if rejected:
                _events.emit("circuit_breaker.rejected", name, retry_after=retry_after, **_mark(circuit))
        return circuit, permit, retry_after

    def returned(self, circuit: Circuit, permit: Permit, value: object, started: float, name: str) -> None:
        """Record a call that returned a value."""
        config = self._config
        failed = config.on_result is not None and self._ask(config.is_bad_result, value, circuit, permit)
        self.ended(circuit, permit, FAILURE if failed else SUCCESS, started, name)

    def raised(
        self, circuit: Circuit, permit: Permit, error: BaseException, started: float, name: str
    ) -> None:
        """Record a call that raised; what is no failure counts as nothing."""
        if isinstance(error, Exception) and self._ask(self._config.is_failure, error, circuit, permit):
            self.ended(circuit, permit, FAILURE, started, name)
        elif isinstance(error, CancelledError):
            self.ended(circuit, permit, ABANDONED, started, name)
        else:
            self._ignore(circuit, permit)

    def ended(self, circuit: Circuit, permit: Permit, outcome: Outcome, started: float, name: str) -> None:
        """Record an outcome, as that of a slow call if it was one."""
        now = _clock.monotonic()
        slow_call = self._config.slow_call
        if slow_call is not None and now - started >= slow_call:
            outcome = _WHEN_SLOW[outcome]
        with self._lock:
            before = circuit.phase
            verdict = circuit.record(permit, now, outcome)
            after = circuit.phase
        if isinstance(verdict, Trip):
            self._open(circuit, permit, now, verdict, outcome, name)
        elif verdict and _events.listeners:
            failed = "failures" in outcome.bad_for
            _events.emit("circuit_breaker.late", name, failed=failed, **_mark(circuit))
        elif after is not before and _events.listeners:
            _tell(after, circuit, name)

    def _ignore(self, circuit: Circuit, permit: Permit) -> None:
        # No clock and no event: the garbage collector may end a call at any moment.
        with self._lock:
            circuit.record(permit, 0.0, IGNORED)

    def _open(
        self, circuit: Circuit, permit: Permit, now: float, trip: Trip, outcome: Outcome, name: str
    ) -> None:
        pause = self._pause(circuit, permit, outcome)
        with self._lock:
            opened = circuit.open(permit, now, pause)
        if opened and _events.listeners:
            facts = {**trip.facts, **_mark(circuit)}
            _events.emit("circuit_breaker.opened", name, reason=trip.reason, retry_after=pause, **facts)

    def _pause(self, circuit: Circuit, permit: Permit, outcome: Outcome) -> float:
        """Ask how long to pause, without the lock, as that may be a function of the user's."""
        try:
            return self._config.pause(circuit.openings + 1, circuit.pause)
        except BaseException as error:
            if outcome is ABANDONED and isinstance(error, Exception):
                return DEFAULT_PAUSE  # as no error may take the place of a cancellation
            with self._lock:
                circuit.give_back(permit)
            raise

    def _ask(self, question: Callable[[T], R], about: T, circuit: Circuit, permit: Permit) -> R:
        """Ask what may be a function of the user's, without the lock; if it raises, nothing is counted."""
        try:
            return question(about)
        except BaseException:
            self._ignore(circuit, permit)
            raise

    # --- Control; each method takes a key, or `EVERY` ---

    def state(self, key: Hashable) -> CircuitState:
        """Return the state, or the worst of all."""
        now = _clock.monotonic()
        with self._lock:
            return _worst(each.state(now) for each in self._select(key, now))

    def command(self, key: Hashable, command: Callable[[Circuit], None], target: CircuitState) -> bool:
        """Do something to circuits; return whether one of them was not yet what it becomes by that."""
        now = _clock.monotonic()
        with self._lock:
            selected = self._select(key, now)
            if command is not Circuit.reset and self._is_shared(key):
                raise RuntimeError(
                    f"no circuit is left for this key: all {self._config.max_keys} (max_keys) are busy"
                )
            # A last stage that is over counts as closed, but nobody has been told so yet.
            changed = any(
                each.verdict(now) is not target or isinstance(each.phase, Stage) for each in selected
            )
            for each in selected:
                command(each)
            if self._keyed is not None and key is EVERY and command is Circuit.reset:
                self._keyed.clear()
            return changed

    def snapshot(self, key: Hashable) -> dict[str, Any]:
        """Return figures as plain data."""
        now = _clock.monotonic()
        with self._lock:
            if self._keyed is None:
                return figures_of(self.one, now)
            if key is not EVERY:
                figures = figures_of(self._at(key, now), now)
                return {**figures, "shared": self._is_shared(key)}
            every = self._select(EVERY, now)
            return {
                "state": _worst(each.state(now) for each in every).value,
                "would_be": _worst(each.verdict(now) for each in every).value,
                "keys": len(self._keyed),
                "states": dict(Counter(each.state(now).value for each in self._keyed)),
                **totals_of(self.one),
            }

    def _select(self, key: Hashable, now: float) -> list[Circuit]:
        if key is EVERY:
            return [self.one, *(self._keyed or ())]
        return [self._at(key, now)]

    def _at(self, key: Hashable, now: float) -> Circuit:
        return self.one if self._keyed is None else self._keyed.at(key, now)

    def _is_shared(self, key: Hashable) -> bool:
        """Whether a key, just looked up, has no circuit of its own but that of all such keys."""
        return self._keyed is not None and key is not EVERY and self._keyed.peek(key) is None


def _worst(states: Iterable[CircuitState]) -> CircuitState:
    return max(states, key=_SEVERITY.index)


def _tell(phase: Phase, circuit: Circuit, name: str) -> None:
    """Tell listeners that a phase has begun."""
    if isinstance(phase, Closed):
        _events.emit("circuit_breaker.closed", name, reason="recovered", **_mark(circuit))
        return
    facts = {"rate": phase.rate} if isinstance(phase, Stage) else {}
    _events.emit("circuit_breaker.half_opened", name, **facts, **_mark(circuit))


def _mark(circuit: Circuit) -> dict[str, bool]:
    """Tell listeners that nothing was really rejected, if so."""
    return {"shadow": True} if circuit.mode is CircuitState.SHADOW else {}
