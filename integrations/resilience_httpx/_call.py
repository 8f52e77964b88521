"""What belongs to one call of the client, for all the layers of policies that it passes.

Policies, and the functions that users give them, see the ``httpx.Request`` and nothing else; the rest of
a call travels in a context variable, which every task and thread has of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

from resilience_httpx._errors import StatusError
from resilience_httpx._packages import httpx
from resilience_httpx._requests import fresh_copy
from resilience_httpx._sending import TRANSIENT_STATUSES, is_idempotent, is_replayable

Send: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response]]


class Call:
    """One call of `send`, with all its attempts.

    Args:
        given: The request that the caller gave. The first attempt sends this very object, as httpx does,
            and so it may change: by credentials, by hooks, by the time limits that httpx puts into it.
        home: The client's own origin, which credentials go to unless they name others.
        stream: Whether the caller reads the body.
        options: The other arguments that were given to `send`.
        retries: Whether anything is sent again at all.

    Attributes:
        request: The request as the caller made it; never sent, never changed.
        sent: The request that the current attempt began with.
        answer: The last response with an error status, as an error; it may still hold a connection.
        failure: What ended the last attempt that failed.
        new_cookies: The names of the cookies that failed attempts brought.
    """

    __slots__ = (
        "answer",
        "failure",
        "given",
        "home",
        "new_cookies",
        "options",
        "request",
        "retries",
        "sent",
        "stream",
    )

    def __init__(
        self,
        given: httpx.Request,
        *,
        home: str,
        stream: bool,
        options: Mapping[str, Any],
        retries: bool,
    ) -> None:
        self.given = given
        self.home = home
        self.request = fresh_copy(given)
        self.stream = stream
        self.options = options
        self.retries = retries
        self.sent: httpx.Request | None = None
        self.answer: StatusError | None = None
        self.failure: Exception | None = None
        self.new_cookies: set[str] = set()

    def may_drop(self, response: httpx.Response) -> bool:
        """Whether another attempt may follow, so that this response may be thrown away."""
        return (
            response.status_code in TRANSIENT_STATUSES
            and self.retries
            and is_idempotent(self.request)
            and is_replayable(self.request)
        )

    async def drop_answer(self) -> None:
        """Give back the connection that the last answer may hold."""
        answer, self.answer = self.answer, None
        if answer is not None:
            await answer.response.aclose()

    async def end(self) -> None:
        """Let go of everything: an error that is kept here would keep this call, and so on."""
        self.failure = None
        await self.drop_answer()


current: ContextVar[Call] = ContextVar("resilience_httpx_call")
"""The call that the running code belongs to."""
