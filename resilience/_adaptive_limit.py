"""`AdaptiveLimit`: how many calls a `bulkhead` lets run, found out from what becomes of them.

A fixed limit is right for one capacity of the other side. When that loses half of it, calls that come in
under the old limit queue there, are given up by their callers, and are worked on all the same. An adaptive
limit shrinks then, and grows again later. ``"aimd"`` goes by calls that fail because of overload, or take
too long: it takes a part off for each round trip with such a call, and adds one for each without.
``"gradient"`` goes by latency as well, and shrinks before anything fails. AIMD suits clients, whose
latency varies for many reasons; the gradient suits what answers at an even pace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from resilience import _arguments
from resilience._adaptive_limit_state import Aimd, Gradient, LimitState
from resilience._arguments import ErrorTypes, Seconds, errors_or_predicate, matches, optional
from resilience._errors import RejectedError

Algorithm: TypeAlias = Literal["aimd", "gradient"]


def is_sign_of_overload(error: Exception) -> bool:
    """Whether an error says that the other side has too much to do: the default of ``on=``.

    It does if it is a ``TimeoutError``, as `CallTimeoutError` is, or tells when to come back in its
    ``retry_after``. Any other error may come from the arguments of one call.
    """
    try:
        return isinstance(error, TimeoutError) or getattr(error, "retry_after", None) is not None
    except Exception:  # a property that fails says nothing
        return False


@dataclass(frozen=True, slots=True, init=False, repr=False)
class AdaptiveLimit:
    """A concurrency limit that follows the capacity of the other side: for ``bulkhead(AdaptiveLimit())``.

    It holds no state, so one object may be given to several policies: each has a limit of its own, and with
    ``key=`` one for each key. Safe for concurrent tasks, threads and event loops.

    Args:
        initial: The limit to begin with, between ``minimum`` and ``maximum``.
        minimum: The lowest limit, 1 or more: so many calls may always run and find out.
        maximum: The highest limit, ``minimum`` or more.
        algorithm: ``"aimd"`` or ``"gradient"``.
        decrease: The part of the limit that is left after an overload, above 0 and below 1.
        slow_call: Seconds or ``timedelta``, above 0, from which on a call means overload even if it
            succeeds: the longest latency that can be healthy. Default: none.
        tolerance: How many times the baseline the latency may be before a gradient limit shrinks, 1
            or more.
        remeasure: Seconds or ``timedelta``, above 0, after which a gradient limit measures its baseline
            again, for one round trip with half of the limit if more is in use. Should be longer than a
            call takes.
        on: Exceptions that mean overload: a type, a tuple of types, or a function of the exception.
            Default: a ``TimeoutError``, or an exception with a ``retry_after``. Rejections from further in
            never do, as no call was made.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        >>> AdaptiveLimit(50, maximum=500, slow_call=2.0)
        AdaptiveLimit(50, maximum=500, slow_call=2.0)
    """

    initial: int = 20
    minimum: int = 1
    maximum: int = 200
    algorithm: Algorithm = "aimd"
    decrease: float = 0.9
    slow_call: float | None = None
    tolerance: float = 1.25
    remeasure: float = 60.0
    on: ErrorTypes | Callable[[Exception], object] = is_sign_of_overload

    def __init__(
        self,
        initial: int = 20,
        *,
        minimum: int = 1,
        maximum: int = 200,
        algorithm: Algorithm = "aimd",
        decrease: float = 0.9,
        slow_call: Seconds | None = None,
        tolerance: float = 1.25,
        remeasure: Seconds = 60.0,
        on: ErrorTypes | Callable[[Exception], object] = is_sign_of_overload,
    ) -> None:
        _arguments.whole("minimum", minimum)
        checked = {
            "initial": _arguments.whole("initial", initial, at_least=minimum),
            "minimum": minimum,
            "maximum": _arguments.whole("maximum", maximum, at_least=minimum),
            "algorithm": _algorithm(algorithm),
            "decrease": _decrease(decrease),
            "slow_call": optional(_above_zero, "slow_call", slow_call),
            "tolerance": _tolerance(tolerance),
            "remeasure": _above_zero("remeasure", remeasure),
            "on": errors_or_predicate("on", on),
        }
        if initial > maximum:
            raise ValueError(f"initial must be at most maximum ({maximum}), got {initial}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def new_state(self) -> LimitState:
        """Return a state that begins with the initial limit."""
        return _ALGORITHMS[self.algorithm](self)

    def is_overload(self, error: Exception) -> bool:
        """Whether an exception means that the other side is overloaded."""
        return not isinstance(error, RejectedError) and matches(self.on, error)

    def __repr__(self) -> str:
        first, *rest = fields(self)
        shown = [] if self.initial == first.default else [repr(self.initial)]
        for each in rest:
            value = getattr(self, each.name)
            if value != each.default:
                shown.append(f"{each.name}={getattr(value, '__qualname__', None) or repr(value)}")
        return f"AdaptiveLimit({', '.join(shown)})"


_ALGORITHMS: dict[str, Callable[[AdaptiveLimit], LimitState]] = {"aimd": Aimd, "gradient": Gradient}


def _algorithm(value: str) -> str:
    if value not in list(_ALGORITHMS):  # not in the dict: that asks for the hash
        raise ValueError(f"algorithm must be 'aimd' or 'gradient', got {value!r}")
    return value


def _above_zero(name: str, value: object) -> float:
    return _arguments.seconds(name, value, above_zero=True)


def _decrease(value: object) -> float:
    allowed = "a number above 0 and below 1"
    decrease = _arguments.number("decrease", value, above_zero=True, allowed=allowed)
    if decrease >= 1:
        raise ValueError(f"decrease must be {allowed}, got {value!r}")
    return decrease


def _tolerance(value: object) -> float:
    allowed = "a number of 1 or more"
    if (tolerance := _arguments.finite("tolerance", value, allowed=allowed)) < 1:
        raise ValueError(f"tolerance must be {allowed}, got {value!r}")
    return tolerance
