"""The arguments of a circuit breaker: what they stand for, and the checks that are its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

from resilience import _arguments
from resilience._arguments import ErrorTypes, Seconds
from resilience._breaker_windows import InARow, Kind, RateOverCalls, RateOverSeconds, TripRule
from resilience._errors import RejectedError

T = TypeVar("T")

Wait: TypeAlias = Callable[[Any], float | timedelta]
"""A wait of tenacity: it is given a call state whose ``attempt_number`` counts openings."""

Errors: TypeAlias = ErrorTypes | Callable[[Exception], object]

# Seconds that a probe keeps its place where no fixed pause says how long: after 0 everybody would get in.
_SHORTEST_LEASE = 1.0
_MINIMUM_CALLS = 20


@dataclass(frozen=True, slots=True)
class CircuitBreakerConfig:
    """The arguments of a circuit breaker; ``None`` for a rule that is off."""

    failure_threshold: int | None = 5
    recovery_timeout: float | Wait = 30.0
    failure_rate: float | None = None
    window: int | timedelta = 100
    minimum_calls: int = 20
    slow_call: float | None = None
    slow_call_rate: float = 1.0
    half_open_calls: int = 1
    on: Errors = Exception
    ignore: Errors = ()
    on_result: Callable[[Any], object] | None = None
    key: Callable[..., Hashable] | None = None
    max_keys: int = 10_000

    @property
    def is_straight(self) -> bool:
        """Whether a closed circuit needs to know nothing of a success but that it was one."""
        return self.key is None and self.slow_call is None and self.on_result is None

    def rules(self) -> list[TripRule]:
        """Make the rules of a closed circuit; `InARow` first, see `Closed.take`."""
        rules: list[TripRule] = []
        if self.failure_threshold is not None:
            rules.append(InARow(self.failure_threshold))
        if self.failure_rate is not None:
            rules.append(self._rate("failure_rate", "failures", self.failure_rate))
        if self.slow_call is not None:
            rules.append(self._rate("slow_call_rate", "slow_calls", self.slow_call_rate))
        return rules

    def _rate(self, reason: str, counts: Kind, rate: float) -> TripRule:
        if isinstance(self.window, timedelta):
            return RateOverSeconds(reason, counts, rate, self.window.total_seconds(), self.minimum_calls)
        return RateOverCalls(reason, counts, rate, self.window, self.minimum_calls)

    def is_failure(self, error: Exception) -> bool:
        """Whether an exception is a failure."""
        if isinstance(error, RejectedError) or _matches(self.ignore, error):
            return False
        return _matches(self.on, error)

    def is_bad_result(self, value: object) -> bool:
        """Whether a value is a failure."""
        return self.on_result is not None and bool(self.on_result(value))

    def pause(self, openings: int) -> float:
        """Return how many seconds the circuit stays open, from the number of openings in a row."""
        wait = self.recovery_timeout
        if not callable(wait):
            return wait
        from tenacity import RetryCallState  # only now, as the core is imported without it

        nobody: Any = None
        state = RetryCallState(nobody, None, (), {})
        state.attempt_number = openings
        return _arguments.seconds("recovery_timeout", wait(state))

    def lease(self, pause: float) -> float:
        """Return how many seconds a probe keeps its place after a pause."""
        is_fixed = not callable(self.recovery_timeout) and self.recovery_timeout > 0
        return pause if is_fixed else max(pause, _SHORTEST_LEASE)


def _matches(errors: Errors, error: Exception) -> bool:
    if isinstance(errors, (type, tuple)):
        return isinstance(error, errors)
    return bool(errors(error))


# --- Checks -----------------------------------------------------------------------------------------


def optional(check: Callable[[str, Any], T], name: str, value: Any) -> T | None:
    """Check an argument unless it is ``None``."""
    return None if value is None else check(name, value)


def pause_or_wait(name: str, value: Seconds | Wait) -> float | Wait:
    """Return seconds, or a function that is not async."""
    if not callable(value) or inspect.isclass(value):
        return _arguments.seconds(name, value)
    return _arguments.plain_function(name, value)


def calls_or_seconds(name: str, value: object) -> int | timedelta:
    """Return a number of calls of 1 or more, or a ``timedelta`` above 0."""
    if isinstance(value, timedelta):
        _arguments.seconds(name, value, above_zero=True)
        return value
    if isinstance(value, float):
        raise TypeError(f"{name} must be a whole number of calls, or seconds as a timedelta, got {value!r}")
    return _arguments.whole(name, value)


def minimum_of(window: int | timedelta, value: object) -> int:
    """Return the minimum of calls that a window must hold to be judged."""
    most = window if isinstance(window, int) else None
    if value is None:
        return _MINIMUM_CALLS if most is None else min(_MINIMUM_CALLS, most)
    minimum = _arguments.whole("minimum_calls", value)
    if most is not None and minimum > most:
        raise ValueError(f"minimum_calls must be at most window ({most} calls), got {minimum}")
    return minimum


def errors_or_predicate(name: str, value: Errors) -> Errors:
    """Return exception types, or a function that is not async."""
    if callable(value) and not inspect.isclass(value):
        return _arguments.plain_function(name, value)
    _arguments.exception_types(name, value)
    return value
