"""`hedge`: starts another attempt when one takes long or fails, and takes the first that succeeds.

After ``delay`` without a result, or at once when an attempt fails, another one begins beside those under
way, at most ``max_hedges`` of them. The first success decides; when all fail, the caller gets the error of
the first attempt, with a note on the others. Those that lose are cancelled, and the call returns when they
have ended, however long that takes: no attempt outlives its call, and none is left when the caller is
cancelled. Whatever is no ``Exception`` ends the call at once, from whichever attempt it comes.

A rejection by a policy further in starts no other attempt: an open circuit would only be asked again.
Nor is an attempt started for which the deadline leaves no time or the budget nothing; what is under way
goes on. An attempt that a policy further in refused is given back to the budget.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

from resilience import _arguments, _clock
from resilience._callables import is_descriptor
from resilience._hedge_call import HedgedCall
from resilience._latency import LatencyWindow, Percentile
from resilience._policy import Policy
from resilience._retry_budget import RetryBudget
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")

Delay: TypeAlias = _arguments.Seconds | Percentile | Callable[..., _arguments.Seconds]


class HedgeConfig(NamedTuple):
    """The arguments of a hedge."""

    delay: float | Percentile | Callable[..., _arguments.Seconds]
    max_hedges: int = 1
    budget: RetryBudget | None = None


class Hedge(Policy):
    """A rule for attempts side by side; made by `hedge`."""

    kind = "hedge"
    has_state = True
    config: HedgeConfig

    def __init__(self, config: HedgeConfig, *, name: str | None) -> None:
        super().__init__(name)
        self.config = config
        self._latencies = LatencyWindow(config.delay) if isinstance(config.delay, Percentile) else None

    def reset(self) -> None:
        """Forget the latencies and what was charged to the budget, also for policies that share it."""
        if self._latencies is not None:
            self._latencies.reset()
        if self.config.budget is not None:
            self.config.budget.reset()

    def snapshot(self) -> dict[str, object]:
        """Return the state as plain data.

        Returns:
            ``delay``: seconds, ``None`` where a function of the arguments says it; ``samples``: how many
            latencies it is taken from; ``budget``: what counts in the budget now.
        """
        latencies, budget = self._latencies, self.config.budget
        delay = self.config.delay if latencies is None else latencies.delay
        return {
            "delay": None if callable(delay) else delay,
            "samples": 0 if latencies is None else len(latencies),
            "budget": None if budget is None else budget.snapshot(_clock.monotonic()),
        }

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        config, latencies = self.config, self._latencies
        budget = config.budget

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            delay = self._delay(args, kwargs)
            started = _clock.monotonic()
            if budget is not None:
                budget.count(started)
            attempt = functools.partial(function, *args, **kwargs)
            return await HedgedCall(name, config, latencies, attempt, delay, started).run()

        return wrapper

    def _delay(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        if self._latencies is not None:
            return self._latencies.delay
        delay: Any = self.config.delay
        return _arguments.seconds("delay", delay(*args, **kwargs)) if callable(delay) else delay


def hedge(
    delay: Delay, *, max_hedges: int = 1, budget: RetryBudget | None = None, name: str | None = None
) -> Hedge:
    """Start another attempt when one takes long or fails, and take the first that succeeds.

    Only for what may be done twice, such as a read: a loser may have done its work before it is cancelled.

    Args:
        delay: How long to wait for a result before another attempt begins: seconds or ``timedelta``, 0 or
            more (0 starts all at once, more lasts a millisecond at least); a sync function that is called
            with the arguments of the call and returns such; or `Percentile` of the recent latency of this
            policy's calls.
        max_hedges: How many attempts there may be besides the first, 1 or more.
        budget: The `RetryBudget` that these are charged to; best one that all policies for the same
            backend share. Without one, a backend that becomes slow gets up to ``1 + max_hedges`` times
            the load, just then. Each policy counts the calls that it sees: where a retry and a hedge of
            one function share a budget, a call counts twice.
        name: What events call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with. Safe for concurrent tasks, threads and event loops. Each
        attempt runs in a task of its own, with a copy of the caller's context variables: what it sets in
        them, the caller does not see.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        >>> import asyncio
        >>> replicas = iter(["slow", "fast"])
        >>> @hedge(0.01)
        ... async def fetch() -> str:
        ...     replica = next(replicas)
        ...     await asyncio.sleep(60 if replica == "slow" else 0)
        ...     return f"answer of the {replica} replica"
        >>> asyncio.run(fetch())
        'answer of the fast replica'
    """
    config = HedgeConfig(
        delay=_checked_delay(delay),
        max_hedges=_arguments.whole("max_hedges", max_hedges),
        budget=_arguments.instance("budget", budget, (RetryBudget, type(None)), "a RetryBudget or None"),
    )
    return Hedge(config, name=name)


def _checked_delay(delay: Delay) -> float | Percentile | Callable[..., _arguments.Seconds]:
    if isinstance(delay, Percentile):
        return delay
    if is_descriptor(delay) or (callable(delay) and _arguments.is_async(delay)):
        raise TypeError(f"hedge needs a delay, as in @hedge(0.5); got {delay!r}")
    if callable(delay) and not isinstance(delay, type):
        return _arguments.plain_function("delay", delay)
    return _arguments.seconds("delay", delay)
