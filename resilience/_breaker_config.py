"""The arguments of a circuit breaker: what they stand for, and the checks that are its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeAlias, TypedDict, cast

from resilience import _arguments
from resilience._arguments import Errors, Seconds
from resilience._backoff import DecorrelatedJitter, FullJitter
from resilience._breaker_windows import InARow, Kind, RateOverCalls, RateOverSeconds, TripRule
from resilience._errors import RejectedError

Wait: TypeAlias = Callable[[Any], float | timedelta]
"""A wait of tenacity: it is given a call state whose ``attempt_number`` counts openings."""

Jitter: TypeAlias = FullJitter | DecorrelatedJitter

Pauses: TypeAlias = Sequence[Seconds] | Jitter | Wait
"""A pause that depends on the number of openings in a row."""

# Seconds that a probe keeps its place where no fixed pause says how long: after 0 everybody would get in.
_SHORTEST_LEASE = 1.0
_MINIMUM_CALLS = 20

DEFAULT_PAUSE: Final = 30.0


class CircuitBreakerConfig(NamedTuple):
    """The arguments of a circuit breaker; ``None`` for a rule that is off."""

    failure_threshold: int | None = 5
    recovery_timeout: float | tuple[float, ...] | Jitter | Wait = DEFAULT_PAUSE
    failure_rate: float | None = None
    window: int | timedelta = 100
    minimum_calls: int = 20
    slow_call: float | None = None
    slow_call_rate: float = 1.0
    abandoned_rate: float | None = None
    half_open_calls: int = 1
    half_open_rates: tuple[float, ...] = ()
    half_open_stage: float | None = None
    on: Errors = Exception
    ignore: Errors = ()
    on_result: Callable[[Any], object] | None = None
    key: Callable[..., Hashable] | None = None
    max_keys: int = 10_000

    @property
    def is_straight(self) -> bool:
        """Whether a closed circuit needs to know nothing of a success but that it was one."""
        return (
            self.key is None
            and self.slow_call is None
            and self.on_result is None
            and self.abandoned_rate is None
        )

    @property
    def counts_successes(self) -> bool:
        """Whether all successes are counted; see `InARow`."""
        return not self.is_straight or self.failure_rate is not None

    def rules(self) -> list[TripRule]:
        """Make the rules of a closed circuit; `InARow` first, see `Closed.take`."""
        rules: list[TripRule] = []
        if self.failure_threshold is not None:
            rules.append(InARow(self.failure_threshold))
        if self.abandoned_rate is not None:
            rules.append(self._rate("abandoned_rate", "abandoned_calls", self.abandoned_rate))
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
        if isinstance(error, RejectedError) or _arguments.matches(self.ignore, error):
            return False
        return _arguments.matches(self.on, error)

    def is_bad_result(self, value: object) -> bool:
        """Whether a value is a failure."""
        return self.on_result is not None and bool(self.on_result(value))

    def pause(self, openings: int, before: float) -> float:
        """Return how many seconds the circuit stays open.

        Args:
            openings: How often it opened in a row, this time included.
            before: The pause before this one, 0 if there was none.
        """
        wait = self.recovery_timeout
        if isinstance(wait, (int, float)):
            return wait
        if isinstance(wait, Jitter):
            return wait.delay(openings, before)
        if not callable(wait):
            return wait[min(openings, len(wait)) - 1]
        from tenacity import RetryCallState  # only now, as the core is imported without it

        nobody: Any = None
        state = RetryCallState(nobody, None, (), {})
        state.attempt_number = openings
        return _arguments.seconds("recovery_timeout", wait(state))

    def lease(self, pause: float) -> float:
        """Return how many seconds a probe keeps its place after a pause."""
        is_chosen = pause > 0 and isinstance(self.recovery_timeout, (int, float, tuple))
        return pause if is_chosen else max(pause, _SHORTEST_LEASE)


class Options(TypedDict, total=False):
    """The arguments of `circuit_breaker` besides ``failure_threshold``, for type checkers."""

    recovery_timeout: Seconds | Pauses
    failure_rate: float | None
    window: int | timedelta
    minimum_calls: int | None
    slow_call: Seconds | None
    slow_call_rate: float
    abandoned_rate: float | None
    half_open_calls: int
    half_open_rates: Sequence[float]
    half_open_stage: Seconds | None
    on: Errors
    ignore: Errors
    on_result: Callable[[Any], object] | None
    key: Callable[..., Hashable] | None
    max_keys: int
    name: str | None


# --- Checks -----------------------------------------------------------------------------------------


def pause_or_pauses(name: str, value: Seconds | Pauses) -> float | tuple[float, ...] | Jitter | Wait:
    """Return seconds, a tuple of them, a jitter, or a function that is not async."""
    if isinstance(value, Jitter):
        return value
    if _is_sequence(value):
        pauses = tuple(_arguments.seconds(name, each) for each in cast("Sequence[object]", value))
        if not pauses:
            raise ValueError(f"{name} must be a sequence of at least one pause, got {value!r}")
        return pauses
    if not callable(value) or inspect.isclass(value):
        return _arguments.seconds(name, value)
    return _arguments.plain_function(name, value)


def rising_rates(name: str, value: object) -> tuple[float, ...]:
    """Return fractions above 0, none below the one before it."""
    allowed = "numbers above 0 and at most 1 that rise"
    if not _is_sequence(value):
        raise TypeError(f"{name} must be a sequence of {allowed}, got {value!r}")
    rates = tuple(
        _arguments.fraction(name, each, above_zero=True) for each in cast("Sequence[object]", value)
    )
    if list(rates) != sorted(set(rates)):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return rates


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def time_of_stage(name: str, value: object) -> float:
    """Return seconds above 0."""
    return _arguments.seconds(name, value, above_zero=True)


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
