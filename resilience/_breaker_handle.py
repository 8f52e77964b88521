"""The handles to control the circuits of a breaker, and its ``async with``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from types import TracebackType
from typing import Any, Self, TypeAlias

from resilience import _clock, _events
from resilience._blocks import Blocks
from resilience._breaker_circuits import Circuits
from resilience._breaker_phases import SUCCESS, CircuitState, Permit
from resilience._breaker_state import Circuit
from resilience._errors import CircuitBreakerOpenError, rejection
from resilience._policy import Policy
from resilience._switch import switch

_Taken: TypeAlias = tuple[Circuit, Permit, float] | None
"""What a block took: a permit of a circuit, and when; ``None`` if the breaker was off."""


class Handle(ABC):
    """What one can do with the circuit of a breaker, or with that of one of its keys.

    ``async with`` guards a block exactly as the decorator guards a call, except that a block has no
    value for ``on_result``.
    """

    def __init__(self, circuits: Circuits, key: Hashable) -> None:
        self._circuits = circuits
        self._key = key
        self._blocks: Blocks[_Taken] = Blocks()

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
        """Reject every call until `reset`; of a breaker with keys also those of new keys.

        Raises:
            RuntimeError: If no circuit is left for this key alone.
        """
        changed = self._circuits.command(self._key, Circuit.force_open, CircuitState.FORCED_OPEN)
        if changed and _events.listeners:
            name = self._policy().name
            _events.emit("circuit_breaker.opened", name, reason="forced", retry_after=None)

    def shadow(self) -> None:
        """Reject no call until `reset`, but go on judging and reporting.

        ``snapshot()["would_be"]`` is the verdict; events carry ``shadow=True``.

        Raises:
            RuntimeError: If no circuit is left for this key alone.
        """
        self._circuits.command(self._key, Circuit.shadow, CircuitState.SHADOW)

    def reset(self) -> None:
        """Leave every mode and forget everything; calls in flight no longer count.

        The handle of a key for which no circuit of its own is left resets the one that such keys share.
        """
        changed = self._circuits.command(self._key, Circuit.reset, CircuitState.CLOSED)
        if changed and _events.listeners:
            _events.emit("circuit_breaker.closed", self._policy().name, reason="reset")

    def snapshot(self) -> dict[str, Any]:
        """Return state and counters as plain data, ready for JSON.

        ``state`` and ``would_be``, the verdict; what the rules have counted in this era (``failures``,
        ``slow_calls``, ``abandoned_calls``, ``calls``) and the rates they judge; ``retry_after``,
        ``probes`` that run, ``half_open_rate`` of the stage, ``openings`` in a row. Since the last
        `reset`: ``opened_count``, ``rejected``, and how calls ended, each counted once: as ``late``, or
        among the ``outcomes`` success, failure, slow (a success that took too long), ignored and
        abandoned (cancelled). The number of successes is ``None`` where nothing but failures in a row is
        to be judged. Of a breaker with keys: the worst state, how many ``keys`` have a circuit, how many
        circuits are in which of the ``states``, and the totals; never the keys.
        """
        return {"name": self._policy().name, **self._circuits.snapshot(self._key)}

    async def __aenter__(self) -> Self:
        policy = self._policy()
        if not (policy.enabled and switch.active):
            self._blocks.enter(None)
            return self
        started = _clock.monotonic()
        circuit, permit, retry_after = self._circuits.admit(self._key, started, policy.name)
        if permit is None:
            raise rejection(CircuitBreakerOpenError, retry_after, policy.name)
        self._blocks.enter((circuit, permit, started))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        taken = self._blocks.leave()
        if taken is None:
            return
        circuit, permit, started = taken
        if error is None:
            self._circuits.ended(circuit, permit, SUCCESS, started, self._policy().name)
        else:
            self._circuits.raised(circuit, permit, error, started, self._policy().name)
