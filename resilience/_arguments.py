"""Checks of arguments, made when a policy is made: the error names argument, value and what is allowed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar, cast

from resilience._signatures import check_takes

Seconds: TypeAlias = float | timedelta
"""A duration: seconds, or a ``timedelta``. Zero is a value, never "unset"."""

T = TypeVar("T")
ErrorTypes: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]
Errors: TypeAlias = ErrorTypes | Callable[[Exception], object]
"""Which errors are meant: exception types, or a predicate that is not async."""


def seconds(name: str, value: object, *, above_zero: bool = False) -> float:
    """Return a duration in seconds."""
    allowed = "seconds (a number or a timedelta) " + ("above 0" if above_zero else "of 0 or more")
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return number(name, value, above_zero=above_zero, allowed=allowed)


def number(
    name: str,
    value: object,
    *,
    above_zero: bool = False,
    at_most: float = math.inf,
    allowed: str = "",
) -> float:
    """Return a finite number of 0 or more, or above 0, and at most ``at_most``."""
    if not allowed:
        allowed = "a number " + ("above 0" if above_zero else "of 0 or more")
        allowed += f" and at most {at_most:g}" if at_most < math.inf else ""
    given = finite(name, value, allowed=allowed)
    if given < 0 or given > at_most or (above_zero and given == 0):
        raise ValueError(_wrong(name, value, allowed))
    return given


def finite(name: str, value: object, *, allowed: str = "a finite number") -> float:
    """Return a finite number of any sign."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(_wrong(name, value, allowed))
    if not _is_finite(value):
        raise ValueError(_wrong(name, value, allowed))
    return value


def fraction(name: str, value: object, *, above_zero: bool = False) -> float:
    """Return a number between 0 and 1."""
    return number(name, value, above_zero=above_zero, at_most=1)


def whole(name: str, value: object, *, at_least: int = 1) -> int:
    """Return a whole number of ``at_least`` or more."""
    allowed = f"a whole number of {at_least} or more"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(_wrong(name, value, allowed))
    if value < at_least:
        raise ValueError(_wrong(name, value, allowed))
    return value


def flag(name: str, value: object) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise TypeError(_wrong(name, value, "True or False"))
    return value


def text(name: str, value: object) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str):
        raise TypeError(_wrong(name, value, "a string that is not empty"))
    if not value:
        raise ValueError(_wrong(name, value, "a string that is not empty"))
    return value


def function(name: str, value: T) -> T:
    """Return a callable."""
    if not callable(value):
        raise TypeError(_wrong(name, value, "a function"))
    return value


def plain_function(name: str, value: T, takes: str | None = None) -> T:
    """Return a callable that is not async, and that takes one argument if ``takes`` says what it is."""
    if not callable(value) or is_async(value):  # what it returns is used at once
        raise TypeError(_wrong(name, value, "a function that is not async"))
    if takes is not None:
        check_takes(name, value, takes)
    return value


def function_of_value(name: str, value: T) -> T:
    """Return a callable that is not async and takes the value that a call has returned."""
    return plain_function(name, value, "the value")


def is_async(function: Callable[..., object]) -> bool:
    """Whether a call of it makes a coroutine, which as a condition would always be true."""
    kind: Any = type(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(kind.__call__)


def exception_types(name: str, value: object) -> tuple[type[BaseException], ...]:
    """Return a tuple of exception types from one type or a tuple of them."""
    types = _as_tuple(value)
    if not all(_is_exception_type(each) for each in types):
        raise TypeError(_wrong(name, value, "an exception type or a tuple of them"))
    return cast("tuple[type[BaseException], ...]", types)


def errors_or_predicate(name: str, value: Errors) -> Errors:
    """Return exception types, or a function that is not async."""
    if callable(value) and not inspect.isclass(value):
        return plain_function(name, value, "the error")
    exception_types(name, value)
    return value


def matches(errors: Errors, error: Exception) -> bool:
    """Whether an error is one of those that are meant."""
    if isinstance(errors, (type, tuple)):
        return isinstance(error, errors)
    return bool(errors(error))


def instance(name: str, value: T, kind: type | tuple[type, ...], allowed: str) -> T:
    """Return a value of a type, or of one of several."""
    if not isinstance(value, kind):
        raise TypeError(_wrong(name, value, allowed))
    return value


def optional(check: Callable[[str, Any], T], name: str, value: Any) -> T | None:
    """Check an argument unless it is ``None``."""
    return None if value is None else check(name, value)


def _as_tuple(value: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)


def _is_exception_type(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that is larger than every float
        return False


def _wrong(name: str, value: object, allowed: str) -> str:
    return f"{name} must be {allowed}, got {value!r}"
