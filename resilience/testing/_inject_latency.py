"""`inject_latency`: makes calls wait before they begin; see `Chaos`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

from resilience import _arguments, _clock, _events
from resilience._switch import switch
from resilience.testing._chaos import Chaos

P = ParamSpec("P")
R = TypeVar("R")

Delay: TypeAlias = _arguments.Seconds | tuple[_arguments.Seconds, _arguments.Seconds]


class InjectLatencyConfig(NamedTuple):
    """The arguments of an injected latency."""

    seconds: float | tuple[float, float]
    rate: float = 1.0
    seed: int = 0


class InjectLatency(Chaos):
    """Makes calls slow; made by `inject_latency`."""

    kind = "inject_latency"
    config: InjectLatencyConfig

    def __init__(self, seconds: Delay, rate: float, seed: int, *, enabled: bool, name: str | None) -> None:
        super().__init__(rate, seed, enabled=enabled, name=name)
        self.config = InjectLatencyConfig(_checked_delay(seconds), self._rate, self._seed)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.enabled and switch.active and self._strikes():
                seconds = self._draw()
                if _events.listeners:
                    _events.emit("chaos.latency", name, seconds=seconds)
                await _clock.sleep(seconds)
            return await function(*args, **kwargs)

        return wrapper

    def _draw(self) -> float:
        seconds = self.config.seconds
        return self._random.uniform(*seconds) if isinstance(seconds, tuple) else seconds


def inject_latency(
    seconds: Delay, *, rate: float = 1.0, seed: int = 0, enabled: bool = False, name: str | None = None
) -> InjectLatency:
    """Make calls wait before they begin.

    Args:
        seconds: How long, seconds or ``timedelta``, 0 or more; or a pair, the least and the most, between
            which each wait is drawn.
        rate: How many of the calls, 0 to 1; default: all.
        seed: Where its random numbers begin, a whole number of 0 or more.
        enabled: Whether it is on; default: not until ``enabled`` is set, or in a block of ``active()``.
        name: What events call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with, innermost. Safe for concurrent tasks, threads and loops;
        the faults repeat as far as the order of the calls does.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        >>> from resilience import CallTimeoutError, timeout
        >>> from resilience.testing import run_virtually
        >>> slow = inject_latency(30)
        >>> @timeout(5)
        ... @slow
        ... async def fetch() -> str:
        ...     return "in time"
        >>> run_virtually(fetch())
        'in time'
        >>> with slow.active():
        ...     try:
        ...         run_virtually(fetch())
        ...     except CallTimeoutError as error:
        ...         print(error)
        fetch: cut off after 5 s
    """
    return InjectLatency(seconds, rate, seed, enabled=enabled, name=name)


def _checked_delay(value: object) -> float | tuple[float, float]:
    if not isinstance(value, tuple):
        return _arguments.seconds("seconds", value)
    pair = cast("tuple[object, ...]", value)
    if len(pair) != 2:
        raise TypeError(f"seconds must be a duration, or a pair of the least and the most, got {pair!r}")
    least, most = (_arguments.seconds("seconds", each) for each in pair)
    if least > most:
        raise ValueError(f"seconds must be a pair of the least and the most, got {pair!r}")
    return least, most
