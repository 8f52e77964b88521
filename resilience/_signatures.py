"""Whether functions of the user's can be called as they will be: a mistake is told where it is made.

Only what is certain is refused. A function whose signature is not known, as that of some written in C, or
that takes whatever it is given, may be right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, Signature
from typing import Any

from resilience._callables import qualified_name

_OF_THE_CALL = ("key", "cost", "priority", "tags", "delay")
"""The arguments of policies that may be a function of the arguments of the call."""

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_ANYTHING = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def check_takes(name: str, function: Callable[..., object], what: str) -> None:
    """Refuse a function that cannot be called with one argument.

    Args:
        name: What it is called in the message.
        function: The function.
        what: What the argument is, such as ``"the error"``.

    Raises:
        TypeError: If it cannot.
    """
    signature = _signature(function)
    if signature is not None and not _binds(signature, 1, ()):
        raise TypeError(f"{name} must be callable with one argument, {what}, got {_shown(function)}")


def takes_nothing(function: Callable[..., object]) -> bool:
    """Whether a function certainly takes no positional argument."""
    signature = _signature(function)
    if signature is None:
        return False
    kinds = {each.kind for each in signature.parameters.values()}
    return kinds.isdisjoint((*_POSITIONAL, Parameter.VAR_POSITIONAL))


def check_functions_of_the_call(config: object, function: Callable[..., object]) -> None:
    """Refuse functions of the arguments of the call that none of the calls of ``function`` suits.

    Args:
        config: The arguments of a policy.
        function: What it is put around.

    Raises:
        TypeError: If there is one.
    """
    for name in _OF_THE_CALL:
        given = getattr(config, name, None)
        if callable(given):
            check_takes_call_of(function, name, given)


def check_takes_call_of(
    function: Callable[..., object], name: str, given: Callable[..., object], *, before: Sequence[str] = ()
) -> None:
    """Refuse a function that no call of another one suits.

    Args:
        function: The other one.
        name: What the function is called in the message.
        given: The function.
        before: What it is called with before the arguments of the call.

    Raises:
        TypeError: If none does.
    """
    called, signature = _signature(function), _signature(given)
    if called is None or signature is None:
        return
    parameters = called.parameters.values()
    if any(each.kind in _ANYTHING for each in parameters):
        return
    required = [each for each in parameters if each.default is Parameter.empty]
    if any(
        _binds(signature, len(before) + count, names)
        for some in (required, parameters)
        for count, names in _calls_with(some)
    ):
        return
    what = " and ".join((*before, "the arguments of"))
    raise TypeError(f"{name} must be callable with {what} {_shown(function)}, got {_shown(given)}")


def _calls_with(parameters: Iterable[Parameter]) -> Iterable[tuple[int, list[str]]]:
    """Yield how a function can be called with some parameters: how many by position, which by name."""
    by_position = [each for each in parameters if each.kind in _POSITIONAL]
    by_name = [each.name for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
    for count in range(len(by_position) + 1):
        rest = by_position[count:]
        if all(each.kind is Parameter.POSITIONAL_OR_KEYWORD for each in rest):
            yield count, [*(each.name for each in rest), *by_name]


def _binds(signature: Signature, count: int, names: Iterable[str]) -> bool:
    try:
        signature.bind(*[None] * count, **dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _signature(function: Callable[..., Any]) -> Signature | None:
    """Return how a function itself can be called: what it wraps may take other arguments."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _shown(function: Callable[..., object]) -> str:
    return f"{qualified_name(function)}{_signature(function)}"
