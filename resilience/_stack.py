"""`stack`: several policies as one, to be used on several functions.

Outermost first, like decorators read from top to bottom. The policies keep their own state, so a
stack on two functions shares its circuits and limits between them; switching the stack off leaves the
policies as they are for their other uses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, NamedTuple, ParamSpec, TypeVar

from resilience import _arguments
from resilience._callables import look_like, qualified_name
from resilience._policy import Policy, decorate
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")


class StackConfig(NamedTuple):
    """The arguments of a stack."""

    policies: tuple[Policy, ...]
    check: bool


class Stack(Policy):
    """Policies that are applied together; made by `stack`."""

    kind = "stack"
    config: StackConfig

    def __init__(self, policies: tuple[Policy, ...], *, name: str | None, check: bool) -> None:
        super().__init__(name)
        for each in policies:
            _arguments.instance("policies", each, Policy, "policies, outermost first")
        self.config = StackConfig(policies, _arguments.flag("check", check))

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies of the stack, outermost first; those of a stack within it in its place."""
        flat: list[Policy] = []
        for each in self.config.policies:
            flat.extend(each.policies if isinstance(each, Stack) else (each,))
        return tuple(flat)

    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Callable[P, CoroutineType[Any, Any, R]]:
        """Decorate a function with all policies of the stack; see `Policy.__call__`."""
        use = self.note_use(qualified_name(function))
        return decorate(function, self.policies, self.wrap, use, check=self.config.check)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        guarded = function
        for each in reversed(self.config.policies):
            layer = each.wrap(guarded, name)
            look_like(layer, guarded)  # each policy asks what it wraps for its name and its signature
            guarded = layer

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            return await guarded(*args, **kwargs)

        return wrapper

    def __repr__(self) -> str:
        return f"stack({', '.join(map(repr, self.config.policies))})"


def stack(*policies: Policy, name: str | None = None, check: bool = True) -> Stack:
    """Make one policy of several.

    Args:
        policies: Outermost first, like decorators read from top to bottom.
        name: What the policies without a name of their own are called in events and errors; default:
            the qualified name of the decorated function.
        check: Whether to warn (`StackOrderWarning`) about an order that defeats its purpose.

    Returns:
        The stack: a policy that can be used on several functions, and in other stacks.

    Raises:
        TypeError: If something else than a policy is given.

    Example:
        >>> from resilience import circuit_breaker, retry
        >>> stack(retry(attempts=4), circuit_breaker())
        stack(retry(attempts=4), circuit_breaker())
    """
    return Stack(policies, name=name, check=check)
