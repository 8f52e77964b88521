"""`inject_errors`: fails calls before they begin; see `Chaos`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

from resilience import _arguments, _events
from resilience._switch import switch
from resilience.testing._chaos import Chaos

P = ParamSpec("P")
R = TypeVar("R")

Kinds: TypeAlias = tuple[type[Exception], ...]
Fault: TypeAlias = type[Exception] | Sequence[type[Exception]] | Callable[[], Exception]


class InjectErrorsConfig(NamedTuple):
    """The arguments of injected errors."""

    error: Kinds | Callable[[], Exception]
    rate: float = 1.0
    seed: int = 0


class InjectErrors(Chaos):
    """Fails calls; made by `inject_errors`."""

    kind = "inject_errors"
    config: InjectErrorsConfig

    def __init__(self, error: Fault, rate: float, seed: int, *, enabled: bool, name: str | None) -> None:
        super().__init__(rate, seed, enabled=enabled, name=name)
        self.config = InjectErrorsConfig(_checked_fault(error), self._rate, self._seed)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.enabled and switch.active and self._strikes():
                error = self._make(name)
                if _events.listeners:
                    _events.emit("chaos.error", name, error=type(error).__qualname__)
                raise error
            return await function(*args, **kwargs)

        return wrapper

    def _make(self, name: str) -> Exception:
        error = self.config.error
        if callable(error):
            return _arguments.instance("error", error(), Exception, "a function that returns an exception")
        return error[(self._injected - 1) % len(error)](f"injected into {name}")


def inject_errors(
    error: Fault, *, rate: float = 1.0, seed: int = 0, enabled: bool = False, name: str | None = None
) -> InjectErrors:
    """Fail calls before they begin.

    Args:
        error: What is raised: an exception type that takes a message, several of them that are raised in
            turn, or a function without arguments that makes an exception.
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
        >>> flaky = inject_errors(ConnectionError, rate=0.5, seed=1)
        >>> @flaky
        ... async def fetch() -> str:
        ...     return "fine"
        >>> async def main() -> list[str]:
        ...     return [str(each) for each in await asyncio.gather(*(fetch() for _ in range(4)),
        ...                                                        return_exceptions=True)]
        >>> with flaky.active():
        ...     asyncio.run(main())
        ['injected into fetch', 'fine', 'fine', 'injected into fetch']
    """
    return InjectErrors(error, rate, seed, enabled=enabled, name=name)


def _checked_fault(error: object) -> Kinds | Callable[[], Exception]:
    if callable(error) and not inspect.isclass(error):
        return cast("Callable[[], Exception]", _arguments.plain_function("error", error))
    kinds: tuple[Any, ...] = tuple(cast("Any", error)) if isinstance(error, (tuple, list)) else (error,)
    if not kinds or not all(map(_takes_a_message, kinds)):
        raise TypeError(
            "error must be an exception type that takes a message, several of them, or a function that "
            f"makes an exception, got {error!r}"
        )
    return kinds


def _takes_a_message(kind: object) -> bool:
    if not (inspect.isclass(kind) and issubclass(kind, Exception)):
        return False
    try:
        kind("injected")
    except TypeError:
        return False
    return True
