"""What may be decorated: everything whose call can be awaited, and nothing else."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def as_async(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Return ``function`` if its calls can be awaited; a lambda is checked at each call instead.

    Raises:
        TypeError: If it is not callable, a plain ``def`` or an async generator.
    """
    if not callable(function):
        raise TypeError(f"only async callables can be decorated, got {function!r}")
    target = _innermost(function)
    if not isinstance(target, FunctionType) and not inspect.ismethod(target):
        # An object with `__call__`, or a C function. A class is one too, but its call makes an instance.
        if inspect.iscoroutinefunction(target):
            return function
        target = type(target).__call__
    if inspect.iscoroutinefunction(target):
        return function
    name = qualified_name(function)
    if inspect.isasyncgenfunction(target):
        raise TypeError(f"{name} is an async generator: it yields many values, a policy guards one result")
    if _returns_awaitable(target):
        return function
    if getattr(target, "__name__", "") == "<lambda>" or _is_async_singledispatch(target):
        return _checked(function, name)
    raise TypeError(
        f"{name} is not async. Make it an `async def`, or annotate its return type as Awaitable[...] "
        "if it returns an awaitable"
    )


def _returns_awaitable(function: Any) -> bool:
    returned: Any = getattr(function, "__annotations__", {}).get("return")
    if isinstance(returned, str):
        name = returned.partition("[")[0].rpartition(".")[2]
        try:
            returned = typing.get_type_hints(function).get("return")
        except Exception:  # a name that is imported for type checkers only, or any other text
            return name in {"Awaitable", "Coroutine", "CoroutineType", "Future", "Task"}
    kind: Any = typing.get_origin(returned) or returned
    return isinstance(kind, type) and issubclass(kind, Awaitable)


def _is_async_singledispatch(function: Any) -> bool:
    return hasattr(function, "registry") and inspect.iscoroutinefunction(inspect.unwrap(function))


def _checked(function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
    async def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        awaitable: Any = function(*args, **kwargs)
        if not isinstance(awaitable, Awaitable):
            got = type(awaitable).__name__
            raise TypeError(f"{name} is not async: it returned {got}, not an awaitable")
        return await cast("Awaitable[R]", awaitable)

    look_like(checked, function)
    return checked


def is_decoratable(value: object) -> bool:
    """Whether a lone positional argument of a decorator is the function to decorate."""
    return callable(value) or is_descriptor(value)


def is_descriptor(value: object) -> bool:
    """Whether this is what ``@classmethod`` or ``@staticmethod`` made."""
    return isinstance(value, (classmethod, staticmethod))


def qualified_name(function: object) -> str:
    """Return the qualified name of a function, or of what a partial or a callable object stands for."""
    function = _innermost(function)
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def full_name(function: object) -> str:
    """Return module and qualified name: functions of one name in two modules differ in it."""
    function = _innermost(function)
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{qualified_name(function)}"


def look_like(wrapper: Callable[..., object], function: Callable[..., object]) -> None:
    """Give a wrapper the name, module, docstring and signature of the function that it wraps."""
    if isinstance(function, FunctionType):
        functools.update_wrapper(wrapper, function)
        return
    # The attributes of an object with `__call__` are its state, not ours to copy.
    functools.update_wrapper(wrapper, _innermost(function), updated=())
    wrapper.__qualname__ = qualified_name(function)
    wrapper.__name__ = wrapper.__qualname__.rpartition(".")[2]
    cast("Any", wrapper).__wrapped__ = function


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function
