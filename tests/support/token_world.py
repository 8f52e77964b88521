"""An API that wants tokens, and the endpoint that issues them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from resilience_httpx._packages import AsyncByteStream
from tests.support.http_server import Step, reply


class World:
    """An API that lets valid tokens in, and the endpoint that issues them.

    Args:
        package: httpx or httpx2, whose classes it answers with.

    Attributes:
        answers: What the endpoint answers next; after the last, tokens.
        fetches: The token requests.
        calls: The requests to the API; one that is sent again is the same object.
        sent: The tokens that they had.
        valid: The tokens that the API accepts; ``None``: all.
        lifetime: ``expires_in`` of the tokens.
        delay: Seconds that the endpoint takes.
        latency: Seconds that the API takes.
        challenge: What the API says in a 401.
    """

    def __init__(self, package: Any) -> None:
        self.package = package
        self.answers: list[Any] = []
        self.fetches: list[httpx.Request] = []
        self.calls: list[httpx.Request] = []
        self.sent: list[str] = []
        self.valid: set[str] | None = None
        self.lifetime: Any = 3600
        self.delay = 0.0
        self.latency = 0.0
        self.challenge: str | None = None
        self.numbers: Iterator[int] = itertools.count(1)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth":
            return await self.issue(request)
        await request.aread()
        token = self.note(request)
        await asyncio.sleep(self.latency)
        if self.valid is None or token in self.valid:
            return self.package.Response(200)
        headers = {} if self.challenge is None else {"WWW-Authenticate": self.challenge}
        return self.package.Response(401, headers=headers, stream=Body())

    async def issue(self, request: httpx.Request) -> httpx.Response:
        self.fetches.append(request)
        if self.delay:
            await asyncio.sleep(self.delay)
        answer = self.answers.pop(0) if self.answers else self.token()
        if isinstance(answer, type):
            answer = answer("s3cr3t", request=request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def token(self, **fields: Any) -> httpx.Response:
        """Answer a token: t1, t2 ..."""
        token = {"access_token": f"t{next(self.numbers)}", "token_type": "Bearer"}
        if self.lifetime is not None:
            token["expires_in"] = self.lifetime
        return self.package.Response(200, json={**token, **fields})

    def note(self, request: httpx.Request) -> str:
        self.calls.append(request)
        self.sent.append(request.headers.get("Authorization", "-").removeprefix("Bearer "))
        return self.sent[-1]

    def refusal(
        self, status: int = 400, error: object = "invalid_client", **headers: str
    ) -> httpx.Response:
        """Answer that there is no token."""
        return self.package.Response(status, json={"error": error}, headers=headers)


class Body(AsyncByteStream):
    """A body that is not in memory."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"no"


def token(value: str, **fields: Any) -> Step:
    """Answer a token, over the wire."""
    answer = {"access_token": value, "token_type": "Bearer", "expires_in": 3600, **fields}
    return reply(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())
