"""`fallback`: answers in place of a call that failed.

The answer is a value, or what a function makes of the error and the arguments of the call. It steps in for
the errors in ``on``, rejections by policies further in included, never for a cancellation or whatever else
is no ``Exception``. Fallbacks chain: the function of one may be decorated with the next, and one policy may
be put around another. A function that fails itself raises its own error, with the original as its context.
"""

# The one policy that does not keep the type of a function: its own answer joins the result.
# mypy: disable-error-code=override

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from resilience import _arguments, _events
from resilience._callables import is_decoratable, is_descriptor
from resilience._policy import Policy, show
from resilience._signatures import check_takes_call_of, takes_nothing
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)


_BARE = "fallback needs a value or a function, as in @fallback(None), before the function to decorate"


class FallbackConfig(NamedTuple):
    """The arguments of a fallback."""

    value_or_function: object
    on: _arguments.Errors = Exception


class Fallback(Policy, Generic[F_co]):
    """An answer for calls that fail, of type ``F_co``; made by `fallback`."""

    kind = "fallback"
    config: FallbackConfig

    def __init__(self, value_or_function: object, *, on: _arguments.Errors, name: str | None) -> None:
        super().__init__(name)
        _refuse_awaitable(value_or_function)
        _refuse_bare_use(value_or_function)
        self.config = FallbackConfig(value_or_function, _arguments.errors_or_predicate("on", on))

    def __call__(
        self, function: Callable[P, Awaitable[R]], /
    ) -> Callable[P, CoroutineType[Any, Any, R | F_co]]:
        """Decorate a function; see `Policy.__call__`. Its result may be the fallback's, too."""
        if not is_decoratable(function):
            raise TypeError(_BARE)  # what ``@fallback`` alone has made of a function is called like it
        return super().__call__(function)

    def check_functions(self, function: Callable[..., object]) -> None:
        """Refuse a function that cannot answer for any call; see `Policy.check_functions`."""
        given = self.config.value_or_function
        if callable(given):
            check_takes_call_of(function, "value_or_function", given, before=["the error"])

    async def call(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R | F_co:
        """Call a function under this policy without decorating it; see `Policy.call`."""
        return await super().call(function, *args, **kwargs)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        given: Any = self.config.value_or_function
        is_function = callable(given)
        is_meant = _predicate(self.config.on)

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                if not is_meant(error):
                    raise
                if _events.listeners:
                    _events.emit("fallback.used", name, error=type(error).__qualname__)
                if not is_function:
                    return cast("R", given)
                # Inside the handler: what it raises gets the error as its context, and a logger that it
                # asks for the current exception finds it.
                answer = given(error, *args, **kwargs)
                return cast("R", await answer if inspect.isawaitable(answer) else answer)

        return wrapper

    def __repr__(self) -> str:
        """Show the type of a value only: it may be long, and a health page is no place for a secret."""
        given, on = self.config.value_or_function, self.config.on
        is_plain = callable(given) or given is None or isinstance(given, (int, float))
        shown = show(given) if is_plain else f"<{type(given).__qualname__}>"
        return f"fallback({shown})" if on is Exception else f"fallback({shown}, on={show(on)})"


@overload
def fallback(
    function: Callable[..., Awaitable[F]], /, *, on: _arguments.Errors = ..., name: str | None = ...
) -> Fallback[F]: ...
@overload
def fallback(
    function: Callable[..., F], /, *, on: _arguments.Errors = ..., name: str | None = ...
) -> Fallback[F]: ...
@overload
def fallback(value: F, /, *, on: _arguments.Errors = ..., name: str | None = ...) -> Fallback[F]: ...
def fallback(
    value_or_function: Any, /, *, on: _arguments.Errors = Exception, name: str | None = None
) -> Fallback[Any]:
    """Answer in place of a call that failed.

    Args:
        value_or_function: A value, the same object for every call; or a function, sync or async, that is
            called with the error and then the arguments of the call, ``self`` included. Whatever can be
            called is taken for a function.
        on: The errors to answer for: exception types, or a sync predicate ``(exception) -> bool``.
        name: What events call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with; it has no state, and is safe for concurrent tasks, threads
        and loops. The result of a decorated function is its own or the fallback's; type checkers see both,
        except through a `stack`, which keeps the type of the function.

    Raises:
        TypeError: If the value is an awaitable, which could answer once only, or ``on`` is neither
            exception types nor a sync function.

    Example:
        >>> import asyncio
        >>> async def from_archive(error: Exception, day: str) -> str:
        ...     return f"the archived page of {day}"
        >>> @fallback(from_archive, on=ConnectionError)
        ... async def page(day: str) -> str:
        ...     raise ConnectionError("reset by peer")
        >>> asyncio.run(page("Monday"))
        'the archived page of Monday'
    """
    return Fallback(value_or_function, on=on, name=name)


def _predicate(on: _arguments.Errors) -> Callable[[Exception], object]:
    if isinstance(on, (type, tuple)):
        return lambda error: isinstance(error, on)
    return on


def _refuse_bare_use(value: object) -> None:
    # A function that could answer takes the error.
    is_bare = callable(value) and _arguments.is_async(value) and takes_nothing(value)
    if is_bare or is_descriptor(value):
        raise TypeError(_BARE)


def _refuse_awaitable(value: object) -> None:
    if not callable(value) and inspect.isawaitable(value):
        kind = type(value).__name__
        raise TypeError(f"value_or_function must be a value or a function that makes one, got a {kind}")
