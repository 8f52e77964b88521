"""Credentials that go to one place only.

They are sent to the origin of the client's ``base_url``, or of its first request if it has none, or to
the ``origins`` that are named; other origins get the request without them. A redirect to another origin
loses every header that was added here, in the clients and the transport of this package: a plain client of
httpx drops ``Authorization`` alone. Nothing shows them: no ``repr``, no error, no log, no pickle.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import NoReturn
from urllib.parse import urlencode

from resilience import _arguments
from resilience_httpx._added import add_header, note_url
from resilience_httpx._call import current
from resilience_httpx._origins import origin_of, parse_origin
from resilience_httpx._packages import Auth, httpx
from resilience_httpx._redaction import hide_parameter


class OriginAuth(Auth):
    """Credentials bound to origins; the base of the client's own auth classes.

    Attributes:
        speaks_for_one: Whether whatever it sends stands for one identity; a response cache must know.
    """

    speaks_for_one = False

    def __init__(self, origins: str | Sequence[str] | None) -> None:
        self._origins = None if origins is None else _parse_origins(origins)
        self._first: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the credentials, unless the request goes somewhere else."""
        if self._covers(request):
            self._add_to(request)
        yield request

    def _add_to(self, request: httpx.Request) -> None:
        raise NotImplementedError

    def _covers(self, request: httpx.Request) -> bool:
        origin = origin_of(request.url)
        if self._origins is not None:
            return origin in self._origins
        call = current.get(None)
        if call is not None and call.sent is request:
            return origin == call.home
        # A plain httpx client, maybe in a hook of one of ours.
        self._first = self._first or origin
        return origin == self._first

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled: it holds secrets")


class BearerAuth(OriginAuth):
    """Sends ``Authorization: Bearer <token>`` (RFC 6750).

    Safe for concurrent tasks, threads and loops, if the function is.

    Args:
        token: The token, or a function, async or not, that returns it; it is called for each attempt, so it
            should keep the token for as long as that is good.
        origins: The origins that may see it, such as ``"https://api.example.com"``; default: that of
            ``base_url``, or of the first request.

    Raises:
        TypeError: If the token is no string, or the function does not return one.
        ValueError: If it is empty or has characters that a header cannot hold, or an origin is no URL.

    Example:
        >>> BearerAuth("secret")
        BearerAuth(...)
        >>> async def read_token() -> str:
        ...     return "secret"
        >>> BearerAuth(read_token)
        BearerAuth(...)
    """

    def __init__(
        self,
        token: str | Callable[[], str | Awaitable[str]],
        *,
        origins: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(origins)
        self.speaks_for_one = not callable(token)  # a function may return the token of whoever asks
        self._provider = token if callable(token) else None
        self._token = "" if callable(token) else _header_value("token", token)

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the token, unless the request goes somewhere else."""
        if self._covers(request):
            add_header(request, "Authorization", f"Bearer {await self._ask()}")
        yield request

    async def _ask(self) -> str:
        if self._provider is None:
            return self._token
        token = self._provider()
        return _header_value("token", await token if inspect.isawaitable(token) else token)

    def _add_to(self, request: httpx.Request) -> None:
        if self._provider is not None:
            raise RuntimeError("BearerAuth with a function needs an asynchronous client")
        add_header(request, "Authorization", f"Bearer {self._token}")


class APIKeyAuth(OriginAuth):
    """Sends an API key in a header or in the query.

    Args:
        key: The key.
        header: The header it goes into.
        query: The name of a query parameter: then it goes there and not into a header.
        origins: The origins that may see it; default: that of ``base_url``, or of the first request.

    Raises:
        TypeError: If an argument is no string.
        ValueError: If one is empty or has characters that a header cannot hold, or an origin is no URL.

    Example:
        >>> APIKeyAuth("secret", query="api_key")
        APIKeyAuth(..., query='api_key')
    """

    speaks_for_one = True

    def __init__(
        self,
        key: str,
        *,
        header: str = "X-API-Key",
        query: str | None = None,
        origins: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(origins)
        self._key = _header_value("key", key)
        self._header = _header_name(header)
        self._query = None if query is None else _arguments.text("query", query)
        if query is not None:
            hide_parameter(query)

    def _add_to(self, request: httpx.Request) -> None:
        if self._query is None:
            add_header(request, self._header, self._key)
        else:
            url = request.url
            request.url = _with_parameter(url, self._query, self._key)
            note_url(request, url)

    def __repr__(self) -> str:
        shown = f"header={self._header!r}" if self._query is None else f"query={self._query!r}"
        return f"APIKeyAuth(..., {shown})"


class BasicAuth(OriginAuth):
    """Sends a user name and a password (RFC 7617), in UTF-8.

    Args:
        username: The user name, without a colon.
        password: The password; may be empty.
        origins: The origins that may see them; default: that of ``base_url``, or of the first request.

    Raises:
        TypeError: If an argument is no string.
        ValueError: If the user name has a colon, or an origin is no URL.

    Example:
        >>> BasicAuth("ada", "secret")
        BasicAuth(...)
    """

    speaks_for_one = True

    def __init__(self, username: str, password: str, *, origins: str | Sequence[str] | None = None) -> None:
        super().__init__(origins)
        checked_string("username", username)
        if ":" in username:
            raise ValueError("username must be a string without a colon")
        checked_string("password", password)
        pair = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
        self._value = f"Basic {pair}"

    def _add_to(self, request: httpx.Request) -> None:
        add_header(request, "Authorization", self._value)


def _with_parameter(url: httpx.URL, name: str, value: str) -> httpx.URL:
    if name in url.params:
        return url.copy_set_param(name, value)
    # Only added to: the rest of the query stays as the caller wrote it.
    pair = urlencode({name: value}).encode("ascii")
    return url.copy_with(query=url.query + b"&" + pair if url.query else pair)


def checked_string(name: str, value: object) -> str:
    """Return a secret that is a string; the error does not show it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got a {type(value).__name__}")
    return value


def _header_value(name: str, value: object) -> str:
    """Return a secret that a header can hold. The error must not show it, and later ones would."""
    value = checked_string(name, value)
    if not fits_header(value):
        raise ValueError(
            f"{name} must be printable ASCII characters without spaces or line breaks around them; "
            "one read from a file often ends in a line break: use .strip()"
        )
    return value


def fits_header(value: str) -> bool:
    """Whether a header can hold a value, and it is not empty."""
    return bool(value) and value == value.strip() and value.isascii() and value.isprintable()


def _header_name(value: object) -> str:
    name = _arguments.text("header", value)
    if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
        raise ValueError(f"header must be letters, digits, hyphens and underscores, got {name!r}")
    return name


def _parse_origins(origins: str | Sequence[str]) -> frozenset[str]:
    each = (origins,) if isinstance(origins, str) else origins
    return frozenset(parse_origin("origins", origin) for origin in each)
