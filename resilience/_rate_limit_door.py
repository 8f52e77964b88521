"""What `RateLimit` and the handle for one of its keys have in common: taking tokens without a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from resilience import _clock
from resilience._line import Waiter
from resilience._policy import switch

if TYPE_CHECKING:
    from resilience._rate_limit import RateLimit


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
