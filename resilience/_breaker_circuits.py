"""The circuits of one breaker behind one lock, and the handles to control them.

Whatever the pure state machine must not do happens here: reading the clock, asking the user's functions,
locking, telling listeners. The lock covers a few lines each time and never a function of the user, nor the
call.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from resilience import _clock, _events
from resilience._breaker_config import CircuitBreakerConfig
from resilience._breaker_phases import BYSTANDER, ROUNDING, CircuitState, Permit, Trip
from resilience._breaker_state import Circuit
from resilience._errors import CircuitBreakerOpenError, rejection
from resilience._keys import KeyTable
from resilience._policy import Policy, switch

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

    def returned(self, circuit: Circuit, permit: Permit, value: object, started: float, name: str) -> None:
        """Record a call that returned a value."""
        failed = self._ask(self._config.is_bad_result, value, circuit, permit)
        self.ended(circuit, permit, started, name, failed=failed)

    def raised(self, circuit: Circuit, permit: Permit, error: Exception, started: float, name: str) -> None:
        """Record a call that raised; an exception that is no failure counts as nothing."""
        if self._ask(self._config.is_failure, error, circuit, permit):
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
        slow = self._config.slow_call is not None and now - started >= self._config.slow_call
        with self._lock:
            verdict = circuit.record(permit, now, failed=failed, slow=slow)
        if isinstance(verdict, Trip):
            self._open(circuit, permit, now, verdict, name)
        elif verdict == "late" and _events.listeners:
            _events.emit("circuit_breaker.late", name, failed=failed, **_mark(circuit))
        elif verdict == "closed" and _events.listeners:
            _events.emit("circuit_breaker.closed", name, reason="recovered", **_mark(circuit))

    def _open(self, circuit: Circuit, permit: Permit, now: float, trip: Trip, name: str) -> None:
        pause = self._ask(self._config.pause, circuit.openings + 1, circuit, permit)
        with self._lock:
            opened = circuit.open(permit, now, pause)
        if opened and _events.listeners:
            facts = {**trip.facts, **_mark(circuit)}
            _events.emit("circuit_breaker.opened", name, reason=trip.reason, retry_after=pause, **facts)

    def _ask(self, question: Callable[[T], R], about: T, circuit: Circuit, permit: Permit) -> R:
        """Ask what may be a function of the user's, without the lock; if it raises, nothing is counted."""
        try:
            return question(about)
        except BaseException:
            self.abandoned(circuit, permit)
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
            if self._keyed is not None and key is not EVERY and self._keyed.peek(key) is None:
                raise RuntimeError(
                    f"no circuit is left for this key: all {len(self._keyed)} (max_keys) are busy"
                )
            changed = any(each.verdict(now) is not target for each in selected)
            for each in selected:
                command(each)
            if self._keyed is not None and key is EVERY and command is Circuit.reset:
                self._keyed.clear()
            return changed

    def snapshot(self, key: Hashable) -> dict[str, Any]:
        """Return figures as plain data."""
        now = _clock.monotonic()
        with self._lock:
            if self._keyed is None or key is not EVERY:
                return self._at(key, now).snapshot(now)
            every = self._select(EVERY, now)
            return {
                "state": _worst(each.state(now) for each in every).value,
                "would_be": _worst(each.verdict(now) for each in every).value,
                "keys": len(self._keyed),
                "states": dict(Counter(each.state(now).value for each in self._keyed)),
                "opened_count": self.one.opened_count,
                "rejected": self.one.rejected,
                "late": self.one.late,
            }

    def _select(self, key: Hashable, now: float) -> list[Circuit]:
        if key is EVERY:
            return [self.one, *(self._keyed or ())]
        return [self._at(key, now)]

    def _at(self, key: Hashable, now: float) -> Circuit:
        return self.one if self._keyed is None else self._keyed.at(key, now)


def _worst(states: Iterable[CircuitState]) -> CircuitState:
    return max(states, key=_SEVERITY.index)


def _mark(circuit: Circuit) -> dict[str, bool]:
    """Tell listeners that nothing was really rejected, if so."""
    return {"shadow": True} if circuit.mode is CircuitState.SHADOW else {}


class Handle(ABC):
    """What one can do with the circuit of a breaker, or with that of one of its keys.

    ``async with`` guards a block exactly as the decorator guards a call, except that a block has no
    value for ``on_result``.
    """

    _circuits: Circuits
    _key: Hashable

    @abstractmethod
    def _policy(self) -> Policy:
        """Return the breaker."""

    @property
    def state(self) -> CircuitState:
        """The state now; of a breaker with keys the worst of all.

        When its pause is over a circuit is half-open, though nothing happens before the next call.
        """
        return self._circuits.state(self._key)

    def force_open(self) -> None:
        """Reject every call until `reset`; of a breaker with keys also those of new keys."""
        changed = self._circuits.command(self._key, Circuit.force_open, CircuitState.FORCED_OPEN)
        if changed and _events.listeners:
            name = self._policy().name
            _events.emit("circuit_breaker.opened", name, reason="forced", retry_after=None)

    def shadow(self) -> None:
        """Reject no call until `reset`, but go on judging and reporting.

        ``snapshot()["would_be"]`` is the verdict; events carry ``shadow=True``.
        """
        self._circuits.command(self._key, Circuit.shadow, CircuitState.SHADOW)

    def reset(self) -> None:
        """Leave every mode and forget everything; calls in flight no longer count."""
        changed = self._circuits.command(self._key, Circuit.reset, CircuitState.CLOSED)
        if changed and _events.listeners:
            _events.emit("circuit_breaker.closed", self._policy().name, reason="reset")

    def snapshot(self) -> dict[str, Any]:
        """Return state and counters as plain data, ready for JSON."""
        return {"name": self._policy().name, **self._circuits.snapshot(self._key)}

    async def __aenter__(self) -> Self:
        policy = self._policy()
        if not (policy.enabled and switch.active):
            _enter(_Block(self, self._circuits.one, None, 0.0))
            return self
        started = _clock.monotonic()
        circuit, permit, retry_after = self._circuits.admit(self._key, started, policy.name)
        if permit is None:
            raise rejection(CircuitBreakerOpenError, retry_after, policy.name)
        _enter(_Block(self, circuit, permit, started))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _, circuit, permit, started = _leave(self)
        if permit is None:
            return
        if error is None:
            self._circuits.ended(circuit, permit, started, self._policy().name, failed=False)
        elif isinstance(error, Exception):
            self._circuits.raised(circuit, permit, error, started, self._policy().name)
        else:
            self._circuits.abandoned(circuit, permit)


class _Block(NamedTuple):
    """An open ``async with``: what it took, for the exit to find."""

    owner: Handle
    circuit: Circuit
    permit: Permit | None
    started: float


# The open blocks around the running code, innermost last. A breaker is shared, so what belongs to one use
# of it is kept by the task: a task inherits a copy of the tuple, and never sees what others add.
_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("resilience_breaker_blocks", default=())


def _enter(block: _Block) -> None:
    _blocks.set((*_blocks.get(), block))


def _leave(owner: Handle) -> _Block:
    """Forget the innermost open block of an owner, and return it."""
    blocks = _blocks.get()
    for index in reversed(range(len(blocks))):
        if blocks[index].owner is owner:
            _blocks.set(blocks[:index] + blocks[index + 1 :])
            return blocks[index]
    raise RuntimeError(
        "an `async with` block of a circuit breaker must be left by the task that entered it"
    )
