"""Credentials that are obtained and renewed: when a request needs them, and when the server refuses them.

All requests of an event loop that wait for new credentials share one renewal. It runs in a task of its own,
so that no request that is cancelled takes the others along; when none waits any more, it is cancelled.

After a 401 the credentials are renewed, unless it says that something else is wrong or they have been
renewed since, and the request is sent once more. If it cannot be sent again, the next one begins with the
renewal. RFC 6750, section 3.1.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from resilience._single_flight import Flights
from resilience_httpx._added import keep_at_home, note_url
from resilience_httpx._auth import OriginAuth
from resilience_httpx._bodies import HeldBody, hold
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import classes, httpx
from resilience_httpx._redaction import hide_parameter
from resilience_httpx._sending import is_idempotent, is_replayable

_REQUEST_ERRORS = classes(httpx.RequestError)
_RENEWAL = "renewal"

# Quoted strings are taken whole, as their text may look like a parameter. Nothing is read twice.
_PARAMETER = re.compile(r'(?<![\w-])([\w-]++)\s*+=\s*+("(?:[^"\\]|\\.)*+"|[^\s,"]++)', re.ASCII)


class AuthProvider(OriginAuth):
    """The base of authentication schemes of your own.

    Override `authenticate`; `refresh` too, if the credentials can be renewed, and `is_authenticated`, if
    they have to be obtained first or expire. They go to the origin of ``base_url``, or of the first
    request, or to ``origins``. A redirect to another origin loses the headers that `authenticate` adds (in
    a plain client of httpx, ``Authorization`` alone), and the log of httpx masks the query parameters.

    One object serves concurrent tasks, threads and loops; each loop has one `refresh` at a time. Requests
    that `refresh` sends through a client with these credentials go without them. It needs asyncio. Set
    ``speaks_for_one`` in a class whose credentials stand for one identity: only then responses are cached.

    Args:
        origins: The origins that may see the credentials; default: that of ``base_url``, or of the first
            request.

    Raises:
        TypeError: If the origins are no strings.
        ValueError: If an origin is no URL.

    Example:
        >>> import asyncio
        >>> class SessionAuth(AuthProvider):
        ...     session: str | None = None
        ...     @property
        ...     def is_authenticated(self) -> bool:
        ...         return self.session is not None
        ...     async def authenticate(self, request: httpx.Request) -> str | None:
        ...         request.headers["X-Session"] = self.session or ""
        ...         return self.session
        ...     async def refresh(self, request: httpx.Request, rejected: str | None) -> None:
        ...         self.session = "one" if rejected is None else "two"
        >>> def answer(request: httpx.Request) -> httpx.Response:
        ...     print("got", request.headers["X-Session"])
        ...     return httpx.Response(200 if request.headers["X-Session"] == "two" else 401)
        >>> async def main() -> None:
        ...     transport = httpx.MockTransport(answer)
        ...     async with httpx.AsyncClient(auth=SessionAuth(), transport=transport) as client:
        ...         print(await client.get("https://api.example.com"))
        >>> asyncio.run(main())
        got one
        got two
        <Response [200 OK]>
    """

    def __init__(self, *, origins: str | Sequence[str] | None = None) -> None:
        super().__init__(origins)
        self._flights = Flights(0)
        self._generation = object()
        self._refused: _Sent | None = None

    @property
    def is_authenticated(self) -> bool:
        """Whether there are credentials to send; if not, `refresh` comes before `authenticate`."""
        return True

    async def authenticate(self, request: httpx.Request) -> str | None:
        """Put the credentials into a request.

        Args:
            request: The request; one that is sent again after `refresh` comes a second time.

        Returns:
            What `refresh` gets as ``rejected`` if the server refuses the credentials.
        """
        raise NotImplementedError(f"{type(self).__name__} must override authenticate")

    async def refresh(self, request: httpx.Request, rejected: str | None) -> None:
        """Obtain new credentials; an error ends all the requests that wait for them.

        Args:
            request: One of the requests that wait; not to be sent or changed.
            rejected: What `authenticate` returned for the request that the server refused, or ``None`` if
                `is_authenticated` was false.
        """
        raise NotImplementedError(f"{type(self).__name__} must override refresh")

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the credentials, unless the request goes somewhere else, and again if they are refused."""
        if not self._covers(request) or self._is_refreshing():
            yield request
            return
        sent = await self._add_credentials(request)
        response = yield request
        if not (self._can_refresh() and _refuses(response, request)):
            return
        if sent.generation is self._generation:
            self._refused = sent
        if not _may_be_sent_again(request, response):
            return
        await _discard(response)
        await self._add_credentials(request)
        yield request

    def sync_auth_flow(
        self,
        request: httpx.Request,  # noqa: ARG002 - httpx gives it
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse to work: a renewal waits for others, which takes an event loop."""
        raise RuntimeError(f"{type(self).__name__} needs an asynchronous client")

    async def _add_credentials(self, request: httpx.Request) -> _Sent:
        if not self.is_authenticated:
            await self._renew(request)
        while self._is_refused():  # a renewal that began before the refusal ends it as well
            await self._renew(request)
        headers, url = request.headers.copy(), request.url
        token = await self.authenticate(request)
        changed = [name for name in request.headers if _differs(name, headers, request.headers)]
        keep_at_home(request, {name: request.headers[name] for name in changed})
        if request.url != url:
            note_url(request, url)
            for name in request.url.params.keys() - url.params.keys():
                hide_parameter(name)
        return _Sent(self._generation, token)

    async def _renew(self, request: httpx.Request) -> None:
        """Renew the credentials, or wait for the renewal that is under way."""
        flight = self._flights.find(_RENEWAL)
        if flight is not None:
            await flight.follow()
            return
        flight = self._flights.begin(_RENEWAL, ())
        await flight.lead(partial(self._refresh_for, request))

    async def _refresh_for(self, request: httpx.Request) -> None:
        refused = self._refused if self._is_refused() else None
        await self.refresh(request, None if refused is None else refused.token)
        self._generation = object()

    def _can_refresh(self) -> bool:
        return type(self).refresh is not AuthProvider.refresh

    def _is_refused(self) -> bool:
        """Whether the server has refused the credentials that there are now."""
        refused = self._refused
        return refused is not None and refused.generation is self._generation

    def _is_refreshing(self) -> bool:
        """Whether the running code is part of a renewal, which must not wait for itself."""
        flight = self._flights.find(_RENEWAL)
        return flight is not None and flight.is_around()


@dataclass(frozen=True, slots=True, repr=False)
class _Sent:
    """The credentials of one request: of which renewal they are, and which they are."""

    generation: object
    token: str | None


def _refuses(response: httpx.Response, request: httpx.Request) -> bool:
    """Whether a response says that the credentials of a request are not valid, or not any more."""
    if response.status_code != 401:
        return False
    home = origin_of(request.url)
    if any(origin_of(hop.url) != home for hop in (*response.history, response)):
        return False  # the credentials were left behind on the way
    errors = _errors(response.headers.get_list("www-authenticate"))
    return not errors or "invalid_token" in errors


def _errors(challenges: Sequence[str]) -> set[str]:
    """Return the values of the parameter ``error`` in some challenges (RFC 9110, section 11.6.1)."""
    found = [pair for challenge in challenges for pair in _PARAMETER.findall(challenge)]
    return {value.strip('"') for name, value in found if name.lower() == "error"}


def _may_be_sent_again(request: httpx.Request, response: httpx.Response) -> bool:
    """Whether a refused request can be repeated: a redirect may tell that it was done."""
    was_redirected = response.request is not request
    return is_replayable(request) and (not was_redirected or is_idempotent(request))


async def _discard(response: httpx.Response) -> None:
    """Give the connection back before new credentials need one, without unpacking what nobody reads."""
    with contextlib.suppress(*_REQUEST_ERRORS):
        await hold(response)
        if isinstance(response.stream, HeldBody):
            await response.stream.aclose()
    source: Any = response.stream
    response.headers.pop("Content-Encoding", None)
    response.stream = HeldBody([], None, source)


def _differs(name: str, before: httpx.Headers, now: httpx.Headers) -> bool:
    return before.get_list(name) != now.get_list(name)
