"""`inject_result`: answers in place of calls; see `Chaos`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, ParamSpec, TypeVar, cast

from resilience import _arguments, _events
from resilience._switch import switch
from resilience.testing._chaos import Chaos

P = ParamSpec("P")
R = TypeVar("R")


class InjectResultConfig(NamedTuple):
    """The arguments of an injected result."""

    value: object
    rate: float = 1.0
    seed: int = 0


class InjectResult(Chaos):
    """Answers in place of calls; made by `inject_result`."""

    kind = "inject_result"
    config: InjectResultConfig

    def __init__(self, value: object, rate: float, seed: int, *, enabled: bool, name: str | None) -> None:
        super().__init__(rate, seed, enabled=enabled, name=name)
        if callable(value):
            _arguments.plain_function("value", value)
        self.config = InjectResultConfig(value, self._rate, self._seed)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        value = self.config.value

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active and self._strikes()):
                return await function(*args, **kwargs)
            if _events.listeners:
                _events.emit("chaos.result", name)
            return cast("R", value(*args, **kwargs) if callable(value) else value)

        return wrapper


def inject_result(
    value: object, *, rate: float = 1.0, seed: int = 0, enabled: bool = False, name: str | None = None
) -> InjectResult:
    """Answer in place of calls, which are not made.

    Args:
        value: The answer; or a plain function that makes it from the arguments of the call.
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
        >>> import asyncio
        >>> from resilience import retry
        >>> empty = inject_result(None, rate=0.5, seed=1)
        >>> @retry(on_result=lambda value: value is None, wait=0)
        ... @empty
        ... async def fetch() -> str | None:
        ...     return "found"
        >>> with empty.active():
        ...     asyncio.run(fetch())
        'found'
        >>> empty.snapshot()
        {'enabled': False, 'calls': 2, 'injected': 1}
    """
    return InjectResult(value, rate, seed, enabled=enabled, name=name)
