"""A function whose attempts each do what a plan says, and which remembers what happened to them."""

import asyncio
from typing import Any

from tests.support.virtual_time import now


class Attempts:
    """Called, it sleeps for the seconds of the next plan, then raises or returns its outcome.

    Args:
        plans: For each attempt seconds and outcome, in order; the last holds for all later ones.
        slow_to_die: Loop turns that an attempt needs to end once it is cancelled.
        deaf: How many cancellations each attempt suppresses.
    """

    def __init__(self, *plans: tuple[float, Any], slow_to_die: int = 0, deaf: int = 0) -> None:
        self.plans = plans
        self.slow_to_die = slow_to_die
        self.deaf = deaf
        self.started: list[float] = []
        self.cancelled: list[int] = []
        self.running: set[int] = set()

    async def __call__(self, *args: object, **kwargs: object) -> Any:
        seconds, outcome = self.plans[min(len(self.started), len(self.plans) - 1)]
        self.started.append(now())
        number = len(self.started)
        self.running.add(number)
        try:
            await self._sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            for _ in range(self.slow_to_die):
                await asyncio.sleep(0)
            raise
        finally:
            self.running.remove(number)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def _sleep(self, seconds: float) -> None:
        deaf = self.deaf
        end = now() + seconds
        while True:
            try:
                await asyncio.sleep(end - now())
            except asyncio.CancelledError:
                if not deaf:
                    raise
                deaf -= 1
            else:
                return
