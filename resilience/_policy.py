"""What all policies have in common.

A *policy* is a rule and its state, and it is the decorator: ``users = cached(60)``, then ``@users``,
later ``users.invalidate("bob")``. One object on two functions shares its state, two objects share none.
This module holds the base class and `policies()`.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType, FunctionType, MappingProxyType
from typing import Any, ClassVar, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from resilience import _arguments, _live
from resilience._callables import as_async, is_descriptor, look_like, qualified_name
from resilience._errors import StackOrderWarning
from resilience._order import order_problems
from resilience._signatures import check_functions_of_the_call

P = ParamSpec("P")
R = TypeVar("R")


class _PolicyType(ABCMeta):
    """Notes each policy when it is complete."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        policy = super().__call__(*args, **kwargs)
        _live.add(policy)
        return policy


class Policy(metaclass=_PolicyType):
    """A rule for calls and the state that the rule needs; calling it decorates a function.

    Every policy is safe for concurrent tasks, for several threads, and for several event loops, at
    once or one after another; its module says what that means for its state.

    Attributes:
        kind: The name of the decorator that makes it, such as ``"retry"``.
        enabled: Set it to ``False`` at any time to make later calls run as if undecorated; a call that
            began finishes as it began.
        config: The arguments that it was made with; frozen.
    """

    kind: ClassVar[str]
    has_state: ClassVar[bool] = False
    config: Any  # a NamedTuple: a dataclass takes 0.4 ms more to import, and there are a dozen
    _not_shown: ClassVar[tuple[str, ...]] = ()  # arguments that would show what they hold

    def __init__(self, name: str | None) -> None:
        self._name = None if name is None else _arguments.text("name", name)
        self._first_use: str | None = None
        self.enabled = True

    @property
    def name(self) -> str:
        """The name given, else that of the first function it decorated, else its kind."""
        return self._name or self._first_use or self.kind

    @property
    def given_name(self) -> str | None:
        """The name given, if there is one."""
        return self._name

    @property
    def time_limit(self) -> float | None:
        """Seconds after which it cuts a call off, if it does."""
        return None

    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Callable[P, CoroutineType[Any, Any, R]]:
        """Decorate a function: it keeps its signature, its docstring and its type.

        Args:
            function: An async function or method, a ``functools.partial`` of one, an object with an async
                ``__call__``, or a ``def`` that is annotated to return an awaitable.

        Raises:
            TypeError: If ``function`` is none of these.
        """
        return decorate(function, (self,), self.wrap, self.note_use(qualified_name(function)))

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function under this policy without decorating it.

        Returns:
            What the function returns.

        Raises:
            TypeError: If ``function`` is not an async callable.
        """
        wrapped = self.wrap(as_async(function), qualified_name(function))
        return await wrapped(*args, **kwargs)

    def wrap(self, function: Callable[P, Awaitable[R]], use: str) -> Callable[P, Awaitable[R]]:
        """Return a bare async function that calls ``function`` under this policy.

        Args:
            function: An async callable, already checked.
            use: The qualified name of the function: the policy's name here if it has none of its own.
        """
        return self._wrap(function, self._name or use)

    def snapshot(self) -> dict[str, Any]:
        """Return state and counters as plain data, ready for JSON; empty if there are none."""
        return {}

    @abstractmethod
    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        """Build the wrapper; ``name`` is what its events and errors call the policy."""

    def check_functions(self, function: Callable[..., object]) -> None:
        """Refuse functions of the arguments of the call that no call of ``function`` suits.

        Raises:
            TypeError: If there is one.
        """
        check_functions_of_the_call(getattr(self, "config", None), function)

    def note_use(self, use: str) -> str:
        """Take a use as the name if there is none yet; return the use."""
        if self._first_use is None:
            self._first_use = use
        return use

    def on_page(self) -> dict[str, Any]:
        """Return the entry of this policy on the page of `resilience.snapshot`."""
        return {
            **self.snapshot(),
            "name": self.name,
            "kind": self.kind,
            "policy": repr(self),
            "enabled": self.enabled,
        }

    def __repr__(self) -> str:
        """Show the decorator with those arguments that differ from its defaults."""
        defaults = self.config._field_defaults
        shown: list[str] = []
        for name, value in self.config._asdict().items():
            if name not in defaults:
                shown.append(show(value))
            elif value != defaults[name] and name not in self._not_shown:
                shown.append(f"{name}={show(value)}")
        return f"{self.kind}({', '.join(shown)})"


def show(value: object) -> str:
    """Show a function or class by its name: an address tells a reader nothing."""
    if isinstance(value, MappingProxyType):
        pairs = cast("MappingProxyType[object, object]", value).items()
        return f"{{{', '.join(f'{show(key)}: {show(each)}' for key, each in pairs)}}}"
    if type(value) is tuple:
        return f"({', '.join(map(show, cast('tuple[object, ...]', value)))})"
    return getattr(value, "__qualname__", None) or repr(value)


# --- Decorating -------------------------------------------------------------------------------------

# Which policies each wrapper applies. Not an attribute of the wrapper: `functools.wraps` in other
# libraries copies attributes outwards, and then a foreign wrapper would claim to be ours.
_applied: WeakKeyDictionary[Callable[..., object], tuple[Policy, ...]] = WeakKeyDictionary()


def policies(function: Callable[..., object], /) -> tuple[Policy, ...]:
    """Return the policies that a function wears, outermost first.

    It sees through other decorators as far as they set ``__wrapped__``, through stacks, bound methods
    and ``functools.partial`` objects.

    Example:
        >>> from resilience import retry
        >>> @retry
        ... async def fetch() -> None: ...
        >>> policies(fetch)
        (retry(),)
    """
    found: list[Policy] = []
    seen: set[int] = set()
    layer: Any = function
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        layer = getattr(layer, "__func__", layer)
        if isinstance(layer, FunctionType):
            found.extend(_applied.get(layer, ()))
        layer = layer.func if isinstance(layer, functools.partial) else getattr(layer, "__wrapped__", None)
    return tuple(found)


def decorate(
    function: Callable[P, Awaitable[R]],
    added: Sequence[Policy],
    wrap: Callable[[Callable[P, Awaitable[R]], str], Callable[P, Awaitable[R]]],
    use: str,
    *,
    check: bool = True,
) -> Callable[P, CoroutineType[Any, Any, R]]:
    """Build the wrapper of a function, make it look like the function, and remember its policies."""
    if is_descriptor(function):  # a decorator above @classmethod or @staticmethod
        decorated: Callable[P, CoroutineType[Any, Any, R]]
        decorated = _decorate_inside(function, added, wrap, use, check=check)
        return decorated
    target = as_async(function)
    if check:
        _check_order(added, function)
    for policy in added:
        policy.check_functions(undecorated(function))
    wrapper = wrap(target, use)
    look_like(wrapper, function)
    _applied[wrapper] = tuple(added)
    # An `async def` makes native coroutines; `Coroutine`, its declared type, would make pyright reject
    # a decorated method that overrides an `async def`.
    return cast("Callable[P, CoroutineType[Any, Any, R]]", wrapper)


def _decorate_inside(
    descriptor: Any, added: Sequence[Policy], wrap: Callable[[Any, str], Any], use: str, *, check: bool
) -> Any:
    inner: Any = decorate(descriptor.__func__, added, wrap, use, check=check)
    return type(descriptor)(inner)


def undecorated(function: Callable[..., object]) -> Callable[..., object]:
    """Return a function without the policies that it wears outermost."""
    while isinstance(function, FunctionType) and function in _applied:
        function = cast("Any", function).__wrapped__
    return function


def guarded_function(function: Callable[..., object]) -> Callable[..., object]:
    """Return what the layers of a stack, while they are put around a function, are put around.

    A layer is new at each use, so it cannot stand for the function; a decorated function can.
    """
    layer: Callable[..., object] | None = function
    while (
        isinstance(layer, FunctionType)
        and layer not in _applied
        and _is_ours(layer.__globals__.get("__name__", ""))
    ):
        function, layer = layer, getattr(layer, "__wrapped__", None)
    return function if layer is None else layer


def _check_order(added: Sequence[Policy], function: Callable[..., object]) -> None:
    for problem in order_problems(added, policies(function)):
        message = f"{problem} ({qualified_name(function)})."
        warnings.warn(StackOrderWarning(message), stacklevel=_frames_of_ours())


def _frames_of_ours() -> int:
    """Count the frames from the caller's up to the first that is not this library's."""
    count = 0
    frame = inspect.currentframe()
    while frame and frame.f_back and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        count += 1
    return count


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in {"resilience", "resilience_httpx"}
