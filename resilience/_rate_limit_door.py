"""Taking tokens without a decorated function: what a `RateLimit` and the handle for one of its keys do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from resilience import _clock
from resilience._callables import as_async
from resilience._keys import KeyTable
from resilience._limiters import KeyedLimiter, Limiter
from resilience._line import Exclusive, Waiter
from resilience._switch import switch

if TYPE_CHECKING:
    from resilience._rate_limit import RateLimit

P = ParamSpec("P")
R = TypeVar("R")


class Door(ABC):
    """The ways to take tokens without calling a function."""

    @property
    @abstractmethod
    def _policy(self) -> RateLimit: ...

    @abstractmethod
    def arrive(self, cost: float, max_wait: float | None) -> Waiter | float:
        """Ask for tokens; see `arrive`."""

    async def acquire(self, tokens: float = 1) -> float:
        """Take tokens, and wait for the turn if need be.

        Args:
            tokens: How many, 0 or more and at most the capacity; a sliding window takes whole ones only.

        Returns:
            The seconds waited.

        Raises:
            RateLimitExceededError: If the turn would come later than ``max_wait`` or the deadline.
            ValueError: If the limit can never give that many.
        """
        policy = self._policy
        cost = policy.check_cost("tokens", tokens)
        if not (policy.enabled and switch.active and cost):
            return 0.0
        started = _clock.monotonic()
        place = self.arrive(cost, policy.config.max_wait)
        return await policy.take_turn(place, started, policy.name) if place else 0.0

    def try_acquire(self, tokens: float = 1) -> bool:
        """Take tokens if that is possible at once; it is not while somebody waits.

        Args:
            tokens: How many; see `acquire`.

        Returns:
            Whether they were taken.
        """
        policy = self._policy
        cost = policy.check_cost("tokens", tokens)
        if not (policy.enabled and switch.active and cost):
            return True
        return not self.arrive(cost, 0.0)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *error: object) -> None:  # noqa: B027 - tokens come back with time alone
        pass


class LimitOfKey(Door):
    """The limit of one key of a policy; made by `RateLimit.at`.

    It may be kept: it does not hold the key's place in the table. Safe for concurrent tasks, threads
    and event loops.
    """

    def __init__(self, policy: RateLimit, table: KeyTable[KeyedLimiter], key: Hashable) -> None:
        self._keyed = policy
        self._table = table
        self._key = key

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function when it is the turn of the key.

        Returns:
            What the function returns.

        Raises:
            RateLimitExceededError: If the turn would come later than ``max_wait`` or the deadline.
            TypeError: If ``function`` is not an async callable.
        """
        guarded = as_async(function)
        async with self:
            return await guarded(*args, **kwargs)

    def reset(self) -> None:
        """Give the key's tokens back, and let those who wait through as far as they fit."""
        limiter = self._known()
        if limiter is not None:
            give_all_back(limiter)

    def snapshot(self) -> dict[str, Any]:
        """Return the key's state as plain data: what is available, and how many callers wait."""
        rule = self._keyed.rule
        limiter = self._known()
        state = {"available": rule.capacity, "waiting": 0} if limiter is None else state_of(limiter)
        return {"rate": rule.rate, "per": rule.per, "capacity": rule.capacity, **state}

    def __repr__(self) -> str:
        return f"{self._keyed!r}.at({self._key!r})"

    @property
    def _policy(self) -> RateLimit:
        return self._keyed

    def arrive(self, cost: float, max_wait: float | None) -> Waiter | float:
        """Ask for tokens of the key; see `_line.arrive`."""
        return self._keyed.arrive_at(self._key, cost, max_wait)

    def _known(self) -> KeyedLimiter | None:
        with Exclusive(self._keyed.rule):
            return self._table.peek(self._key)


def give_all_back(limiter: Limiter) -> None:
    """Give all tokens of a limiter back, and let those who wait through as far as they fit."""
    with Exclusive(limiter.rule) as now:
        limiter.reset()
        if limiter.line is not None:
            limiter.line.serve(now)


def state_of(limiter: Limiter) -> dict[str, Any]:
    """Return what is available, and how many callers wait."""
    with Exclusive(limiter.rule) as now:
        waiting = 0 if limiter.line is None else len(limiter.line.queue)
        return {"available": limiter.available(now), "waiting": waiting}
