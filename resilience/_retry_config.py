"""The arguments of `retry`: what they may be, and the checks that are its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast

from resilience import _arguments
from resilience._backoff import DecorrelatedJitter, FullJitter
from resilience._retry_budget import RetryBudget
from resilience._retry_rules import tenacity_argument_of
from resilience._signatures import check_takes

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

On: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool | Awaitable[bool]]
)
"""What is retried: exception types, a predicate on the exception, or a tenacity retry object."""

OnResult: TypeAlias = Callable[[Any], bool | Awaitable[bool]]
Strategy: TypeAlias = "Callable[[RetryCallState], float | Awaitable[float]]"
Jitter: TypeAlias = FullJitter | DecorrelatedJitter
Wait: TypeAlias = "_arguments.Seconds | Sequence[_arguments.Seconds] | Jitter | Strategy"
Stop: TypeAlias = "Callable[[RetryCallState], bool | Awaitable[bool]]"


class Default(Enum):
    """Stands for an argument that was not given, where ``None`` means something."""

    ATTEMPTS = "3, or no limit with stop="
    BUDGET = "a budget of its own"


class RetryConfig(NamedTuple):
    """The arguments of a retry; ``attempts`` is ``None`` where nothing limits their number."""

    attempts: int | None = 3
    on: On = Exception
    on_result: OnResult | None = None
    wait: Wait | None = None
    deadline: float | None = None
    budget: Default | RetryBudget | None = Default.BUDGET
    stop: Stop | None = None
    wrap: bool = False


def checked_attempts(attempts: object, *, ends_otherwise: bool) -> int | None:
    """Return the number of attempts, or ``None`` if something else ends the retries."""
    if attempts is not None:
        return _arguments.whole("attempts", attempts)
    if not ends_otherwise:
        raise ValueError("attempts must be a number unless deadline or stop is given, got None")
    return None


def checked_on(on: On) -> On:
    """Return exception types, a predicate or a tenacity retry object."""
    given: Any = on
    if isinstance(given, (type, tuple)):
        _arguments.exception_types("on", cast("object", given))
    elif not callable(on):
        raise TypeError(f"on must be exception types, a predicate or a tenacity retry object, got {on!r}")
    else:
        check_takes("on", on, "the error")
    return on


def checked_predicate(name: str, value: T) -> T:
    """Return a function of the value, which no object of tenacity's is."""
    refuse_tenacity(name, "a function of the value", value)
    function = _arguments.function(name, value)
    check_takes(name, cast("Callable[..., object]", function), "the value")
    return function


def checked_strategy(name: str, value: T) -> T:
    """Return a strategy, which the class of one is not."""
    if isinstance(value, type):
        raise TypeError(f"{name} must be a strategy, got the class {value.__name__}: call it")
    return value


def checked_budget(budget: Default | RetryBudget | None) -> Default | RetryBudget | None:
    """Return a budget, or what stands for one."""
    kinds = (RetryBudget, Default, type(None))
    return _arguments.instance("budget", budget, kinds, "a RetryBudget or None")


def refuse_tenacity(name: str, allowed: str, value: object) -> None:
    """Refuse an object of tenacity's where it cannot be meant, and tell where it belongs."""
    belongs = tenacity_argument_of(value)
    if belongs is not None:
        raise TypeError(f"{name} must be {allowed}, got {value!r}: give it as {belongs}=")
