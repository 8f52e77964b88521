"""The arguments of a circuit breaker: their checks, and what they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

from resilience import _arguments
from resilience._arguments import ErrorTypes, Seconds
from resilience._breaker_state import Plan
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


# --- Checks: from the decorator's arguments to the configuration -------------------------------------


def checked(
    *,
    failure_threshold: object,
    recovery_timeout: Seconds | Wait,
    failure_rate: object,
    window: object,
    minimum_calls: object,
    slow_call: object,
    slow_call_rate: object,
    half_open_calls: object,
    on: Errors,
    ignore: Errors,
    on_result: Callable[[Any], object] | None,
    key: Callable[..., Hashable] | None,
    max_keys: object,
) -> CircuitBreakerConfig:
    """Return the configuration that the arguments of `circuit_breaker` stand for.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range.
    """
    if failure_threshold is None and failure_rate is None and slow_call is None:
        failure_threshold = 5
    calls_or_seconds = _window(window)
    return CircuitBreakerConfig(
        failure_threshold=_optional(_arguments.whole, "failure_threshold", failure_threshold),
        recovery_timeout=_recovery_timeout(recovery_timeout),
        failure_rate=_optional(_arguments.fraction, "failure_rate", failure_rate),
        window=calls_or_seconds,
        minimum_calls=_minimum_calls(minimum_calls, calls_or_seconds),
        slow_call=_optional(_arguments.seconds, "slow_call", slow_call),
        slow_call_rate=_arguments.fraction("slow_call_rate", slow_call_rate),
        half_open_calls=_arguments.whole("half_open_calls", half_open_calls),
        on=_error_matcher("on", on),
        ignore=_error_matcher("ignore", ignore),
        on_result=_optional(_arguments.plain_function, "on_result", on_result),
        key=_optional(_arguments.plain_function, "key", key),
        max_keys=_arguments.whole("max_keys", max_keys),
    )


def _optional(check: Callable[[str, Any], T], name: str, value: Any) -> T | None:
    return None if value is None else check(name, value)


def _recovery_timeout(value: Seconds | Wait) -> float | Wait:
    if not callable(value) or inspect.isclass(value):
        return _arguments.seconds("recovery_timeout", value)
    return _arguments.plain_function("recovery_timeout", value)


def _window(value: object) -> int | timedelta:
    if isinstance(value, timedelta):
        _arguments.seconds("window", value, above_zero=True)
        return value
    if isinstance(value, float):
        raise TypeError(f"window must be a whole number of calls, or seconds as a timedelta, got {value!r}")
    return _arguments.whole("window", value)


def _minimum_calls(value: object, window: int | timedelta) -> int:
    if value is None:
        return _MINIMUM_CALLS if isinstance(window, timedelta) else min(_MINIMUM_CALLS, window)
    minimum = _arguments.whole("minimum_calls", value)
    if not isinstance(window, timedelta) and minimum > window:
        raise ValueError(f"minimum_calls must be at most window ({window} calls), got {minimum}")
    return minimum


def _error_matcher(name: str, value: Errors) -> Errors:
    if callable(value) and not inspect.isclass(value):
        return _arguments.plain_function(name, value)
    _arguments.exception_types(name, value)
    return value


# --- Meaning: from the configuration to what decides -------------------------------------------------


def plan_of(config: CircuitBreakerConfig) -> Plan:
    """Return what the circuits of a breaker have in common."""
    has_fixed_pause = not callable(config.recovery_timeout) and config.recovery_timeout > 0
    return Plan(
        make_rules=lambda: _rules(config),
        half_open_calls=config.half_open_calls,
        least_lease=0.0 if has_fixed_pause else _SHORTEST_LEASE,
        straight=config.key is None and config.slow_call is None and config.on_result is None,
    )


def is_failure_of(config: CircuitBreakerConfig) -> Callable[[Exception], bool]:
    """Return the function that says whether an exception is a failure."""
    on, ignore = _matcher(config.on), _matcher(config.ignore)
    return lambda error: not isinstance(error, RejectedError) and not ignore(error) and bool(on(error))


def pause_of(config: CircuitBreakerConfig) -> Callable[[int], float]:
    """Return the function from openings in a row to the seconds that the circuit stays open."""
    wait = config.recovery_timeout
    if not callable(wait):
        return lambda openings: wait  # noqa: ARG005 - always the same

    def pause(openings: int) -> float:
        from tenacity import RetryCallState  # only now, as the core is imported without it

        nobody: Any = None
        state = RetryCallState(nobody, None, (), {})
        state.attempt_number = openings
        return _arguments.seconds("recovery_timeout", wait(state))

    return pause


def _matcher(errors: Errors) -> Callable[[Exception], object]:
    if isinstance(errors, (type, tuple)):
        return lambda error: isinstance(error, errors)
    return errors


def _rules(config: CircuitBreakerConfig) -> list[TripRule]:
    # `InARow` first, see `Closed.take`.
    rules: list[TripRule] = []
    if config.failure_threshold is not None:
        rules.append(InARow(config.failure_threshold))
    if config.failure_rate is not None:
        rules.append(_rate(config, "failure_rate", "failures", config.failure_rate))
    if config.slow_call is not None:
        rules.append(_rate(config, "slow_call_rate", "slow_calls", config.slow_call_rate))
    return rules


def _rate(config: CircuitBreakerConfig, reason: str, counts: Kind, rate: float) -> TripRule:
    if isinstance(config.window, timedelta):
        return RateOverSeconds(reason, counts, rate, config.window.total_seconds(), config.minimum_calls)
    return RateOverCalls(reason, counts, rate, config.window, config.minimum_calls)
