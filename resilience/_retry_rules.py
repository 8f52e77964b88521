"""What the arguments of `retry` mean for its calls; made once per policy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from resilience import _backoff
from resilience._errors import ResilienceError

if TYPE_CHECKING:
    from resilience._retry_budget import RetryBudget
    from resilience._retry_config import RetryConfig
    from resilience._tenacity import CallState

Target: TypeAlias = tuple[Callable[..., Any] | None, tuple[Any, ...], dict[str, Any]]
"""The function that is called, with its arguments: for tenacity's strategies."""

NO_TARGET: Final[Target] = (None, (), {})


class Rules:
    """What the arguments of a policy mean; made once, shared by its calls, never changed."""

    def __init__(self, config: RetryConfig, budget: RetryBudget | None) -> None:
        self.attempts = config.attempts
        self.deadline = config.deadline
        self.budget = budget
        self.wrap = config.wrap

        self.on: Any = config.on
        self.types = _types(config.on)
        self.on_result = config.on_result
        self.judges_results = config.on_result is not None
        named = self.types or ()
        self.on_is_tenacity = tenacity_argument_of(config.on) == "on"
        if self.on_is_tenacity:
            from resilience._tenacity import asks_about_results, exception_types_of

            named = exception_types_of(config.on)
            self.judges_results = self.judges_results or asks_about_results(config.on)
        # A rejection of ours is retried only when it was meant: `Exception` names everything, but nobody.
        self.rejections = tuple(each for each in named if issubclass(each, ResilienceError))

        self.backoff = _backoff.backoff(config.wait)
        self.strategy: Any = config.wait if callable(config.wait) else None
        self.longest_wait = _backoff.cap_of(self.backoff if self.strategy is None else self.strategy)
        self.stop: Any = config.stop
        self.has_strategies = self.stop is not None or self.strategy is not None
        self.needs_state = self.on_is_tenacity or self.has_strategies
        self._make_state: type[CallState] | None = None

    def new_state(self, target: Target, started: float) -> CallState:
        """Return the state of a call for tenacity's strategies, which are imported now at the latest."""
        make = self._make_state
        if make is None:
            from resilience._tenacity import CallState

            make = self._make_state = CallState
        return make(*target, started, self._tenacity_options)

    def _tenacity_options(self) -> dict[str, Any]:
        """Return what a tenacity object with these rules would be made of."""
        given = {
            "stop": self.stop,
            "wait": self.strategy,
            "retry": self.on if self.on_is_tenacity else None,
        }
        return {name: value for name, value in given.items() if value is not None}


def is_try_again(error: Exception) -> bool:
    """Whether an error is tenacity's ``TryAgain``, which asks for a retry whatever the rules say."""
    tenacity: Any = sys.modules.get("tenacity")
    return isinstance(error, getattr(tenacity, "TryAgain", ()))


def _types(on: Any) -> tuple[type[BaseException], ...] | None:
    if isinstance(on, tuple):
        return cast("tuple[type[BaseException], ...]", on)
    return (on,) if isinstance(on, type) else None


def tenacity_argument_of(value: object) -> str | None:
    """Return the argument that an object of tenacity's is for: ``on``, ``stop`` or ``wait``."""
    # Such an object can only exist if tenacity was imported, so this need not import it.
    for argument, module in (("on", "retry"), ("stop", "stop"), ("wait", "wait")):
        if isinstance(value, getattr(sys.modules.get(f"tenacity.{module}"), f"{module}_base", ())):
            return argument
    return None
