"""`OAuth2ClientCredentials`: access tokens for a program that acts for itself (RFC 6749, section 4.4)."""

from __future__ import annotations

import contextlib
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass

from resilience import _arguments, _clock
from resilience._error_copy import copy_error
from resilience_httpx._auth import checked_string
from resilience_httpx._auth_provider import AuthProvider
from resilience_httpx._origins import without_secrets
from resilience_httpx._packages import classes, httpx
from resilience_httpx._redaction import watch_log
from resilience_httpx._token_endpoint import AuthMethod, Token, TokenEndpoint, TokenRequestError

_INVALID_URLS = classes(httpx.InvalidURL)
_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

REMEMBER_FAILURE = 3.0
"""Seconds for which nobody asks again after the token endpoint failed."""

_LONGEST_PAUSE = 60.0

_NO_TOKEN = Token("", -math.inf, -math.inf)


class OAuth2ClientCredentials(AuthProvider):
    """Sends access tokens that it gets with client credentials, and gets new ones in time.

    A token is fetched when the first request needs it, when it is about to expire (10 % of its life before,
    at most 60 s), and when the server refuses it with a 401. Requests that need it at the same time share
    one fetch. If a fetch fails, a token that has not expired is used on; without one the requests end in
    `TokenRequestError`, and those of the next seconds at once.

    The token request is sent with the transport of the `ResilientClient` that needs it, and so with the
    same TLS and proxy settings; in a plain client it has the defaults. It takes 10 s at most. Each object
    keeps its tokens to itself: make one for each set of credentials, and share it among clients.

    Safe for concurrent tasks, threads and loops. It needs asyncio.

    Args:
        token_url: The token endpoint: ``https``, or ``http`` on loopback.
        client_id: The client's name.
        client_secret: Its secret.
        scope: The scopes to ask for, separated by spaces.
        audience: What the token is for, if the server wants to know.
        auth_method: How to send name and secret: ``"client_secret_basic"`` (in a header, form-encoded as
            RFC 6749, section 2.3.1, has it) or ``"client_secret_post"`` (in the body).
        origins: The origins that may see the token; default: that of ``base_url``, or of the first request.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is empty, the URL is not as above or holds a secret, or there is no such method.

    Example:
        >>> import asyncio
        >>> from resilience_httpx import ResilientClient
        >>> def answer(request: httpx.Request) -> httpx.Response:
        ...     if request.url.path == "/token":
        ...         return httpx.Response(200, json={"access_token": "secret", "expires_in": 3600})
        ...     return httpx.Response(200, text=request.headers["Authorization"])
        >>> auth = OAuth2ClientCredentials("https://auth.example.com/token", "reports", "s3cr3t")
        >>> async def main() -> None:
        ...     there = "https://api.example.com"
        ...     transport = httpx.MockTransport(answer)
        ...     async with ResilientClient(there, auth=auth, transport=transport) as client:
        ...         print((await client.get("/users")).text)
        >>> asyncio.run(main())
        Bearer secret
        >>> auth
        OAuth2ClientCredentials('https://auth.example.com/token', client_id='reports', ...)
    """

    speaks_for_one = True

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        scope: str | None = None,
        audience: str | None = None,
        auth_method: AuthMethod = "client_secret_basic",
        origins: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(origins=origins)
        url = _checked_url(token_url)
        _arguments.text("client_id", client_id)
        if not checked_string("client_secret", client_secret):
            raise ValueError("client_secret must be a string that is not empty")
        if auth_method not in _AUTH_METHODS:
            allowed = " or ".join(_AUTH_METHODS)
            raise ValueError(f"auth_method must be {allowed}, got {auth_method!r}")
        optional = {"scope": scope, "audience": audience}
        parameters = {
            name: _arguments.text(name, value) for name, value in optional.items() if value is not None
        }
        self._shown = f"{without_secrets(url)!r}, client_id={client_id!r}"
        self._endpoint = TokenEndpoint(url, client_id, client_secret, auth_method, parameters)
        self._token = _NO_TOKEN
        self._failure: _Failure | None = None
        watch_log()

    @property
    def is_authenticated(self) -> bool:
        """Whether there is a token that does not expire soon."""
        return _clock.monotonic() < self._token.refresh_at

    async def authenticate(self, request: httpx.Request) -> str | None:
        """Put the token into a request."""
        token = self._token.value
        request.headers["Authorization"] = f"Bearer {token}"
        return token

    async def refresh(self, request: httpx.Request, rejected: str | None) -> None:
        """Get a new token, unless there is another one than the server rejected.

        Raises:
            TokenRequestError: If there is none to be had, or was none a moment ago, and the old one is
                of no use.
        """
        if rejected is not None and rejected != self._token.value:
            return
        failure = self._failure
        if failure is None or _clock.monotonic() >= failure.until:
            failure = await self._fetch(request)
        if failure is None or (_clock.monotonic() < self._token.expires_at and not self._is_refused()):
            return
        raise failure.again() from failure.cause

    async def _fetch(self, request: httpx.Request) -> _Failure | None:
        try:
            self._token = await self._endpoint.fetch(request)
        except TokenRequestError as error:
            failure = self._failure = _Failure.of(error)
            return failure
        return None

    def __repr__(self) -> str:
        return f"OAuth2ClientCredentials({self._shown}, ...)"


@dataclass(frozen=True, slots=True)
class _Failure:
    """That no token could be had, and until when nobody asks again."""

    error: TokenRequestError
    cause: BaseException | None
    until: float

    @classmethod
    def of(cls, error: TokenRequestError) -> _Failure:
        pause = max(REMEMBER_FAILURE, min(error.retry_after or 0.0, _LONGEST_PAUSE))
        return cls(_copy(error), error.__cause__, _clock.monotonic() + pause)

    def again(self) -> TokenRequestError:
        """Return a new error: one that is raised twice grows, and keeps alive who caught it."""
        return _copy(self.error)


def _copy(error: TokenRequestError) -> TokenRequestError:
    twin = copy_error(error)
    return twin if isinstance(twin, TokenRequestError) else error


def _checked_url(value: object) -> httpx.URL:
    """Return the URL of a token endpoint; the error shows no secret that is in it."""
    text = checked_string("token_url", value)
    url = httpx.URL()
    with contextlib.suppress(*_INVALID_URLS):
        url = httpx.URL(text)
    if url.userinfo or url.fragment:
        raise ValueError("token_url must have no user name, password or fragment")
    is_safe = url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))
    if not (is_safe and url.host):
        shown = str(url.copy_with(query=None))
        raise ValueError(f"token_url must be an https URL, or an http URL on loopback, got {shown!r}")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
