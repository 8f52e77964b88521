"""A transport's handler that plays a script, for clients of either package."""

import asyncio

import httpx

from resilience_httpx._packages import response_class
from tests.support.virtual_time import now

Outcome = int | httpx.Response | Exception | float
"""A status, a response, an error to raise, or (a float) seconds to take before a 200."""


class Api:
    """Plays outcomes one after the other, the last one for ever; notes when it was called and by what."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(now())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        response: type[httpx.Response] = response_class(request)
        if isinstance(outcome, response):
            return outcome
        if isinstance(outcome, float):
            await asyncio.sleep(outcome)
            return response(200)
        return response(outcome, text=f"no {len(self.requests)}")
