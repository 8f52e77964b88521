"""The circuits of one breaker behind one lock: between the pure state machine and the calls.

Whatever the machine must not do happens here: reading the clock, asking the user's functions, locking,
telling listeners. The lock covers a few lines each time and never a function of the user, nor the call.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias

from resilience import _clock, _events
from resilience._breaker_phases import (
    BYSTANDER,
    ROUNDING,
    CircuitState,
    Closed,
    HalfOpen,
    Late,
    Permit,
    Trip,
)
from resilience._breaker_state import Circuit, KeyedCircuit, Plan
from resilience._keys import KeyTable

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

Admission: TypeAlias = tuple[Circuit, Permit | None, float | None]


class Circuits:
    """The circuits of one policy. Safe for concurrent tasks, threads and event loops.

    Args:
        plan: What they have in common.
        slow_call: Seconds from which on a call is slow, or ``None``.
        is_failure: Whether an exception counts as a failure.
        on_result: Whether a value counts as a failure, or ``None`` if none does.
        pause: Seconds to stay open, from the number of openings in a row.
        max_keys: How many keys have circuits of their own, or ``None`` if there is one circuit for all.

    Attributes:
        one: The circuit for all calls; with keys, the model of theirs, which gets no calls.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        slow_call: float | None,
        is_failure: Callable[[Exception], bool],
        on_result: Callable[[Any], object] | None,
        pause: Callable[[int], float],
        max_keys: int | None,
    ) -> None:
        self.one = Circuit(plan)
        self._keyed: KeyTable[KeyedCircuit] | None = None
        if max_keys is not None:
            self._keyed = KeyTable(lambda: KeyedCircuit(plan, self.one), max_keys)
        self._slow_call = slow_call
        self._is_failure = is_failure
        self._on_result = on_result
        self._pause = pause
        # Re-entrant: in the middle of these lines the garbage collector may close a forgotten call,
        # which gives its permit back.
        self._lock = threading.RLock()

    # --- Calls ---

    def admit(self, key: Hashable, now: float, name: str) -> Admission:
        """Ask for a permit.

        Returns:
            The circuit that decided, the permit or ``None``, and the seconds until a rejected call may
            be tried again if anybody knows.
        """
        one = self.one
        left = one.rejects_until - now
        if ROUNDING < left <= one.rejects_at_most:
            one.rejected += 1  # the straight path: no call comes between the comparison and this
            if _events.listeners:
                _events.emit("circuit_breaker.rejected", name, retry_after=left)
            return one, None, left
        with self._lock:
            circuit = self._at(key, now)
            before = circuit.phase
            permit = circuit.admit(now)
            rejected = permit is None or permit is BYSTANDER
            retry_after = circuit.retry_after(now) if rejected else None
            after = circuit.phase
        if _events.listeners:
            if after is not before:
                _events.emit("circuit_breaker.half_opened", name, **_mark(circuit))
            if rejected:
                _events.emit("circuit_breaker.rejected", name, retry_after=retry_after, **_mark(circuit))
        return circuit, permit, retry_after

    def returned(self, circuit: Circuit, permit: Permit, value: Any, started: float, name: str) -> None:
        """Record a call that returned a value."""
        try:
            failed = self._on_result is not None and bool(self._on_result(value))
        except BaseException:
            self.abandoned(circuit, permit)
            raise
        self.ended(circuit, permit, started, name, failed=failed)

    def raised(self, circuit: Circuit, permit: Permit, error: Exception, started: float, name: str) -> None:
        """Record a call that raised; an exception that is no failure counts as nothing."""
        try:
            failed = self._is_failure(error)
        except BaseException:
            self.abandoned(circuit, permit)
            raise
        if failed:
            self.ended(circuit, permit, started, name, failed=True)
        else:
            self.abandoned(circuit, permit)

    def abandoned(self, circuit: Circuit, permit: Permit) -> None:
        """Give the permit of a call back that has no outcome."""
        with self._lock:
            circuit.give_back(permit)

    def ended(self, circuit: Circuit, permit: Permit, started: float, name: str, *, failed: bool) -> None:
        """Record a success or a failure."""
        now = _clock.monotonic()
        slow = self._slow_call is not None and now - started >= self._slow_call
        with self._lock:
            before = circuit.phase
            verdict = circuit.record(permit, now, failed=failed, slow=slow)
            after = circuit.phase
        if isinstance(verdict, Trip):
            self._open(circuit, permit, now, verdict, name)
        elif not _events.listeners:
            return
        elif isinstance(verdict, Late):
            _events.emit("circuit_breaker.late", name, failed=failed, **_mark(circuit))
        elif after is not before:
            _events.emit("circuit_breaker.closed", name, reason="recovered", **_mark(circuit))

    def _open(self, circuit: Circuit, permit: Permit, now: float, trip: Trip, name: str) -> None:
        try:
            pause = self._pause(circuit.openings + 1)  # not under the lock: it may be the user's function
        except BaseException:
            self.abandoned(circuit, permit)
            raise
        with self._lock:
            opened = circuit.open(permit, now, pause)
        if opened and _events.listeners:
            facts = {**trip.facts, **_mark(circuit)}
            _events.emit("circuit_breaker.opened", name, reason=trip.reason, retry_after=pause, **facts)

    def _at(self, key: Hashable, now: float) -> Circuit:
        return self.one if self._keyed is None else self._keyed.at(key, now)

    # --- Control; each method takes a key, or `EVERY` ---

    def state(self, key: Hashable) -> CircuitState:
        """Return the state, or the worst of all."""
        now = _clock.monotonic()
        with self._lock:
            return max((each.state(now) for each in self._select(key, now)), key=_SEVERITY.index)

    def force_open(self, key: Hashable, name: str) -> None:
        """Reject every call until `reset`."""
        changed = self._command(key, Circuit.force_open, CircuitState.FORCED_OPEN)
        if changed and _events.listeners:
            _events.emit("circuit_breaker.opened", name, reason="forced", retry_after=None)

    def shadow(self, key: Hashable) -> None:
        """Reject no call until `reset`, but go on judging."""
        self._command(key, Circuit.shadow)

    def reset(self, key: Hashable, name: str) -> None:
        """Make circuits as new."""
        changed = self._command(key, Circuit.reset, CircuitState.CLOSED)
        if changed and _events.listeners:
            _events.emit("circuit_breaker.closed", name, reason="reset")

    def snapshot(self, key: Hashable) -> dict[str, Any]:
        """Return figures as plain data."""
        now = _clock.monotonic()
        with self._lock:
            if key is not EVERY or self._keyed is None:
                (circuit,) = self._select(key, now)
                return _figures(circuit, now)
            every = self._select(key, now)
            states = Counter(each.state(now).value for each in self._keyed)
            return {
                "state": max((each.state(now) for each in every), key=_SEVERITY.index).value,
                "would_be": max((each.verdict(now) for each in every), key=_SEVERITY.index).value,
                "keys": len(self._keyed),
                "states": dict(states),
                "opened_count": self.one.opened_count,
                "rejected": self.one.rejected,
                "late": self.one.late,
            }

    def _select(self, key: Hashable, now: float) -> list[Circuit]:
        if key is EVERY:
            return [self.one, *(self._keyed or ())]
        return [self._at(key, now)]

    def _command(
        self, key: Hashable, command: Callable[[Circuit], None], target: CircuitState | None = None
    ) -> bool:
        """Do something to circuits; return whether one of them was not yet what it becomes by that."""
        now = _clock.monotonic()
        with self._lock:
            selected = self._select(key, now)
            if self._keyed is not None and key is not EVERY and self._keyed.peek(key) is None:
                raise RuntimeError(
                    f"no circuit is left for this key: all {len(self._keyed)} (max_keys) are busy"
                )
            changed = any(each.phase.state is not target for each in selected)
            for each in selected:
                command(each)
            if self._keyed is not None and key is EVERY and command is Circuit.reset:
                self._keyed.clear()
            return changed


def _mark(circuit: Circuit) -> dict[str, bool]:
    """Tell listeners that nothing was really rejected, if so."""
    return {"shadow": True} if circuit.is_shadow else {}


def _figures(circuit: Circuit, now: float) -> dict[str, Any]:
    phase = circuit.phase
    figures: dict[str, Any] = {
        "state": circuit.state(now).value,
        "would_be": circuit.verdict(now).value,
        "failures": 0,
        "calls": None,
        "failure_rate": None,
        "slow_call_rate": None,
        "retry_after": circuit.retry_after(now),
        "probes": len(phase.probes) if isinstance(phase, HalfOpen) else 0,
        "openings": circuit.openings,
        "opened_count": circuit.opened_count,
        "rejected": circuit.rejected,
        "late": circuit.late,
    }
    if isinstance(phase, Closed):
        for rule in phase.rules:
            facts = rule.facts(now)
            rate = facts.pop("rate", None)
            figures |= facts if rate is None else {**facts, rule.reason: rate}
    return figures


# --- Blocks -----------------------------------------------------------------------------------------


class _Block(NamedTuple):
    """An open ``async with``: what it took, for the exit to find."""

    owner: object
    circuit: Circuit
    permit: Permit | None
    started: float


# The open blocks around the running code, innermost last. A breaker is shared, so what belongs to one use
# of it is kept by the task: a task inherits a copy of the tuple, and never sees what others add.
_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("resilience_breaker_blocks", default=())


def enter(owner: object, circuit: Circuit, permit: Permit | None, started: float) -> None:
    """Remember an admission until `leave`, for the innermost block of an owner."""
    _blocks.set((*_blocks.get(), _Block(owner, circuit, permit, started)))


def leave(owner: object) -> tuple[Circuit, Permit | None, float]:
    """Return the admission of the innermost open block of an owner, and forget it.

    Raises:
        RuntimeError: If the running code has not entered one.
    """
    blocks = _blocks.get()
    for index in reversed(range(len(blocks))):
        if blocks[index].owner is owner:
            _blocks.set(blocks[:index] + blocks[index + 1 :])
            return blocks[index][1:]
    raise RuntimeError(
        "an `async with` block of a circuit breaker must be left by the task that entered it"
    )
