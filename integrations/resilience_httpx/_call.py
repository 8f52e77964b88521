"""What belongs to one call of the client, for all the layers of policies that it passes.

Policies, and the functions that users give them, see the ``httpx.Request`` and nothing else; the rest of
a call travels in a context variable, which every task and thread has of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

from resilience import _clock
from resilience_httpx._bodies import is_half_read
from resilience_httpx._errors import StatusError
from resilience_httpx._packages import USE_CLIENT_DEFAULT, httpx, is_default
from resilience_httpx._requests import Original
from resilience_httpx._sending import has_transient_status, is_idempotent, is_replayable

Send: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response]]
Encoding: TypeAlias = str | Callable[[bytes], str]


class Call:
    """One call of `send`, with all its attempts.

    Args:
        given: The request that the caller gave. The first attempt sends this very object, as httpx does,
            and so it may change: by credentials, by hooks, by the time limits that httpx puts into it.
        home: The client's own origin, which credentials go to unless they name others.
        stream: Whether the caller reads the body.
        options: The other arguments that were given to `send`.
        retries: Whether anything is sent again at all.
        transport_for: Returns what the client sends a request to a URL with, if that is known.
        client_auth: Returns what adds the client's credentials to requests.
        base_url: What the client adds relative URLs to.
        default_encoding: Returns how the client reads text whose encoding is not told.

    Attributes:
        sent: The request that the current attempt began with.
        answer: The last response with an error status, as an error; it may still hold a connection.
        failure: What ended the last attempt that failed.
        attempts: How many attempts were begun.
        is_answered: Whether the wire has answered in the current attempt, so that something was sent.
        started: When the call began, in monotonic seconds.
        asked_pause: Seconds for which the last response asks to be left alone, if it does.
        new_cookies: The cookies that failed attempts brought: their hosts and names.
    """

    __slots__ = (
        "_dropped",
        "_dropping",
        "_original",
        "_request",
        "answer",
        "asked_pause",
        "attempts",
        "base_url",
        "client_auth",
        "default_encoding",
        "failure",
        "given",
        "home",
        "is_answered",
        "new_cookies",
        "options",
        "retries",
        "sent",
        "started",
        "stream",
        "transport_for",
    )

    def __init__(
        self,
        given: httpx.Request,
        *,
        home: str,
        stream: bool,
        options: Mapping[str, Any],
        retries: bool,
        transport_for: Callable[[httpx.URL], httpx.AsyncBaseTransport] | None = None,
        client_auth: Callable[[], object] = lambda: None,
        base_url: httpx.URL | None = None,
        default_encoding: Callable[[], Encoding] = lambda: "utf-8",
    ) -> None:
        self.given = given
        self.home = home
        self._original = Original(given)
        self._request: httpx.Request | None = None
        self.stream = stream
        self.options = options
        self.retries = retries
        self.transport_for = transport_for
        self.client_auth = client_auth
        self.sent: httpx.Request | None = None
        self.answer: StatusError | None = None
        self.failure: Exception | None = None
        self.new_cookies: set[tuple[str, str]] = set()
        self.attempts = 0
        self.is_answered = False
        self.started = _clock.monotonic()
        self.asked_pause: float | None = None
        self.base_url = base_url
        self.default_encoding = default_encoding
        self._dropping: asyncio.Handle | None = None
        self._dropped: asyncio.Future[None] | None = None

    @property
    def request(self) -> httpx.Request:
        """The request as the caller made it; never sent, never changed.

        It is made when somebody asks for it, as a copy would cost every call a third of what this client
        adds to httpx.
        """
        if self._request is None:
            self._request = self._original.copy()
        return self._request

    @property
    def auth(self) -> object:
        """What adds credentials to the request, if anything does."""
        given = self.options.get("auth", USE_CLIENT_DEFAULT)
        return self.client_auth() if is_default(given) else given

    @property
    def base_path(self) -> str:
        """The path that those of the client's requests are below."""
        return "" if self.base_url is None else self.base_url.path

    def another(self, given: httpx.Request) -> Call:
        """Make a call of another request that goes the same way, and reads the body."""
        return Call(
            given,
            home=self.home,
            stream=False,
            options=self.options,
            retries=self.retries,
            transport_for=self.transport_for,
            client_auth=self.client_auth,
            base_url=self.base_url,
            default_encoding=self.default_encoding,
        )

    def may_drop(self, response: httpx.Response) -> bool:
        """Whether another attempt may follow, so that this response may be thrown away."""
        return (
            has_transient_status(response)
            and self.retries
            and is_idempotent(self.request)
            and is_replayable(self.request)
        )

    def drop_answer_soon(self) -> None:
        """Give back the connection that the last answer may hold, unless the call ends before it waits."""
        if self.answer is not None and is_half_read(self.answer.response):
            self._dropping = asyncio.get_running_loop().call_soon(self._start_dropping)

    def keep_answer(self) -> bool:
        """Keep the last answer after all; return whether that comes too late."""
        dropping, self._dropping = self._dropping, None
        if dropping is not None:
            dropping.cancel()
        return self._dropped is not None

    async def drop_answer(self) -> None:
        """Give back the connection that the last answer may hold."""
        self.keep_answer()
        dropped, self._dropped = self._dropped, None
        answer, self.answer = self.answer, None
        if dropped is not None:
            await dropped
        elif answer is not None:
            await answer.response.aclose()

    def _start_dropping(self) -> None:
        assert self.answer is not None  # else this would have been cancelled
        self._dropped = asyncio.ensure_future(self.answer.response.aclose())

    async def end(self) -> None:
        """Let go of everything: an error that is kept here would keep this call, and so on."""
        self.failure = None
        await self.drop_answer()


current: ContextVar[Call] = ContextVar("resilience_httpx_call")
"""The call that the running code belongs to."""
