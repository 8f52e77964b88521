"""The request for an access token with client credentials (RFC 6749, section 4.4), and what it answers.

It has a plain client of its own, without the policies, credentials, hooks and cookies of the one that needs
the token, but sends with that one's transport, and so with its TLS and proxy settings. It is sent again if
the network fails and after 429 and 5xx, never after the server's "no".

The request holds the secret and the answer holds the token, so neither is in an error, nor in its cause or
its traceback: errors are made from what is safe to tell, away from where the others were caught.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import quote_plus, urlencode

from resilience import CallTimeoutError, _clock, retry
from resilience_httpx._auth import fits_header
from resilience_httpx._bodies import read_if_short
from resilience_httpx._call import current
from resilience_httpx._errors import HTTPClientError, client_error
from resilience_httpx._failures import is_unmapped
from resilience_httpx._origins import without_secrets
from resilience_httpx._packages import AsyncBaseTransport, RequestError, classes, httpx, package_of
from resilience_httpx._retry_after import retry_after

AuthMethod: TypeAlias = Literal["client_secret_basic", "client_secret_post"]

OPERATION_TIMEOUT = 5.0
TOTAL_TIMEOUT = 10.0
"""Seconds for all attempts together: a request of the application waits for them."""

LONGEST_LEEWAY = 60.0

_HTTP_ERRORS = classes(httpx.HTTPError)
_PASSING_ERRORS = classes(
    httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError
)

# Only these words are shown: anything else in an answer may echo the secret.
_ERRORS = frozenset(
    {
        "access_denied",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)


class TokenRequestError(HTTPClientError, RequestError):
    """No access token could be had; the request that needed it was not sent, or was refused before.

    It is also an ``httpx.RequestError``, but not sent again by `retry`: the token request has been.

    Args:
        message: What happened, for people.
        request: The token request, without its headers and its body.
        error: See below.
        status_code: See below.
        retry_after: See below.
        is_passing: See below.

    Attributes:
        error: The server's word for it (RFC 6749, section 5.2), such as ``"invalid_client"``, or ``None``.
        status_code: The status of its answer, or ``None`` if there is none.
        retry_after: Seconds for which it asks to be left alone, or ``None``.
        is_passing: Whether it may work later: the network failed, or the server did.
    """

    default_code = "token_request_error"

    def __init__(
        self,
        message: str = "",
        *,
        request: httpx.Request | None = None,
        error: str | None = None,
        status_code: int | None = None,
        retry_after: float | None = None,
        is_passing: bool = False,
    ) -> None:
        super().__init__(message, request=request)
        self.error = error
        self.retry_after = retry_after
        self.is_passing = is_passing
        self._status_code = status_code

    @property
    def status_code(self) -> int | None:
        """The status of the answer, or ``None`` if there is none."""
        return self._status_code

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "error": self.error, "retry_after": self.retry_after}


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; times are those of ``_clock.monotonic()``, infinite if the server does not tell.

    Attributes:
        value: The token.
        refresh_at: From when on it should not be relied on.
        expires_at: When it ends.
    """

    value: str = field(repr=False)
    refresh_at: float
    expires_at: float


class TokenEndpoint:
    """Asks for tokens, always in the same way. Safe for concurrent tasks, threads and loops.

    Args:
        url: The URL of the endpoint.
        client_id: The client's name.
        client_secret: Its secret.
        auth_method: Where the two go.
        parameters: Further parameters of each request.
    """

    def __init__(
        self,
        url: httpx.URL,
        client_id: str,
        client_secret: str,
        auth_method: AuthMethod,
        parameters: Mapping[str, str],
    ) -> None:
        self._url = str(url)
        self._shown_url = without_secrets(url)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = {"grant_type": "client_credentials", **parameters}
        if auth_method == "client_secret_basic":
            self._headers["Authorization"] = _basic(client_id, client_secret)
        else:
            body |= {"client_id": client_id, "client_secret": client_secret}
        self._body = urlencode(body).encode("ascii")
        self._retry = retry(attempts=3, on=_is_passing, deadline=TOTAL_TIMEOUT, name="token request")

    async def fetch(self, request: httpx.Request) -> Token:
        """Ask for a token.

        Args:
            request: A request that needs it; the token request goes the same way.

        Raises:
            TokenRequestError: If there is none to be had.
        """
        package = package_of(request)
        transport = self._transport_of(request)
        with contextlib.suppress(CallTimeoutError):
            return await self._retry.call(self._ask, package, transport)
        raise self._error(package, "no answer in time", is_passing=True)

    def _transport_of(self, request: httpx.Request) -> Any:
        call = current.get(None)
        if call is None or call.sent is not request or call.transport_for is None:
            return None  # a client that nothing is known of
        return _Borrowed(call.transport_for(type(request.url)(self._url)))

    async def _ask(self, package: ModuleType, transport: Any) -> Token:
        """Ask once."""
        sent_at = _clock.monotonic()
        try:
            response = await self._send(package, transport)
        except Exception as error:
            if not (isinstance(error, _HTTP_ERRORS) or is_unmapped(error)):
                raise  # no fault of the network
            outcome: Token | TokenRequestError = self._network_error(package, error)
        else:
            outcome = self._read(package, response, sent_at)
        if isinstance(outcome, Token):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # it refers to this frame, by the traceback

    async def _send(self, package: ModuleType, transport: Any) -> httpx.Response:
        client: httpx.AsyncClient = package.AsyncClient(
            transport=transport, timeout=OPERATION_TIMEOUT, follow_redirects=False
        )
        async with client:
            request = client.build_request("POST", self._url, headers=self._headers, content=self._body)
            response = await client.send(request, stream=True)
            await read_if_short(response)
            return response

    # --- What came of it ---

    def _read(
        self, package: ModuleType, response: httpx.Response, sent_at: float
    ) -> Token | TokenRequestError:
        status = response.status_code
        answer = _json_object(response)
        if response.is_success and "error" not in answer:
            token = _token(answer, sent_at)
            return self._error(package, token, status_code=status) if isinstance(token, str) else token
        is_passing = status == 429 or status >= 500
        word = answer.get("error")
        error = word if isinstance(word, str) and word in _ERRORS else None
        return self._error(
            package,
            f"{error or 'refused'} ({status})",
            error=error,
            status_code=status,
            retry_after=retry_after(response.headers, time.time()) if is_passing else None,
            is_passing=is_passing,
        )

    def _network_error(self, package: ModuleType, error: Exception) -> TokenRequestError:
        is_passing = isinstance(error, _PASSING_ERRORS) or is_unmapped(error)
        failure = self._error(package, type(error).__name__, is_passing=is_passing)
        if is_passing:
            if isinstance(error, _HTTP_ERRORS):
                cast("Any", error).request = failure.request
            # Of the same classes, with a text of its own, and without the traceback.
            failure.__cause__ = client_error(error, failure.request, typed=True)
        return failure

    def _error(self, package: ModuleType, reason: str, **facts: Any) -> TokenRequestError:
        shown: httpx.Request = package.Request("POST", self._shown_url)
        message = f"no access token from {self._shown_url}: {reason}"
        return TokenRequestError(message, request=shown, **facts)


class _Borrowed(AsyncBaseTransport):
    """Another client's transport: it is that client's to open and to close."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await self._transport.handle_async_request(request)
        return response


def _basic(client_id: str, client_secret: str) -> str:
    """Return the header for a pair, form-encoded first as RFC 6749, section 2.3.1, wants it."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"


def _is_passing(error: Exception) -> bool:
    return isinstance(error, TokenRequestError) and error.is_passing


def _json_object(response: httpx.Response) -> dict[str, Any]:
    """Return the answer, or nothing if it is too long or malformed in any way."""
    try:
        answer = json.loads(response.content)
    except (ValueError, RuntimeError):  # such as: not read, nested too deeply
        return {}
    return cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}


def _token(answer: Mapping[str, Any], sent_at: float) -> Token | str:
    """Return the token of an answer, or what is wrong with it."""
    value, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
    if not isinstance(value, str) or not fits_header(value):
        return "its answer has no access_token that a header can hold"
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return "its answer has a token_type other than Bearer"
    lifetime = _lifetime(answer.get("expires_in"))
    leeway = min(LONGEST_LEEWAY, lifetime / 10)
    return Token(value, sent_at + lifetime - leeway, sent_at + lifetime)


def _lifetime(value: object) -> float:
    """Return seconds; infinity for what tells nothing: then the 401 tells."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.inf
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return math.inf
    return math.inf if math.isnan(seconds) else seconds
