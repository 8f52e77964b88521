"""What a stored response is found by, and whose it is.

A key is a hash: URLs and credentials hold secrets, and a key may end up in a store, or in a log of one.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

from resilience import _arguments
from resilience._by_identity import ByIdentity
from resilience_httpx._added import headers_added_to, with_additions
from resilience_httpx._auth import OriginAuth
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import classes, httpx, package_of
from resilience_httpx._redaction import sounds_secret

Credentials: TypeAlias = bool | Callable[[httpx.Request], str]

# One object of these stands for one identity; of others, those derived from it included, that is not known.
_BASIC = classes(httpx.BasicAuth)

# What a client says of itself, of the connection, of caching and of the trace. By anything else a server
# may tell users apart: no list of names such as X-Remote-User would be complete.
_TELLS_NOTHING_OF_USERS = re.compile(
    r"accept(-.*)?|user-agent|connection|content-length|cache-control|pragma|if-none-match|if-modified-since"
    r"|x-(request|correlation)-id|trace(parent|state)|baggage|sentry-trace|b3|x-(b3|datadog)-.*"
    r"|x-amzn-trace-id|x-cloud-trace-context|uber-trace-id"
)

_ESCAPED = re.compile(rb"%([0-9a-fA-F]{2})")
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")


@dataclass(frozen=True, slots=True)
class Variation:
    """Stands in a store for the responses of a URL that ``Vary``; they have keys of their own.

    Attributes:
        names: The request headers that they depend on.
    """

    names: tuple[str, ...]


class Owner(NamedTuple):
    """Whose a response is.

    Attributes:
        mark: Tells him from others.
        is_private: Whether he is one credential, rather than all who have none.
        is_told: Whether the user said so, rather than the request.
    """

    mark: str
    is_private: bool
    is_told: bool = False


def owner(credentials: Credentials, request: httpx.Request, auth: object) -> Owner | None:
    """Return whose the response to a request will be, or ``None`` if it must not be kept.

    Args:
        credentials: The argument of the cache.
        request: The request as the caller made it.
        auth: What adds credentials to it later on.
    """
    if callable(credentials):
        user = _arguments.text("the result of credentials=", credentials(request))
        return Owner(_digest("user", user), is_private=True, is_told=True)
    telling = _telling(request)
    shown = [f"{name}:{value}" for name, value in telling]
    userinfo = request.url.userinfo.decode("ascii")
    if auth is None and not userinfo and not any(_is_credential(name) for name, _ in telling):
        return Owner(_digest("nobody", *shown), is_private=False)
    identity = _identity(auth) if credentials else None
    return None if identity is None else Owner(_digest(identity, userinfo, *shown), is_private=True)


def is_as_shown(request: httpx.Request, sent: httpx.Request, auth: object) -> bool:
    """Whether a request went out with nothing but that by which `owner` was told, and what we added.

    Hooks and middleware may have put in what stands for another user each time.
    """
    if sent.url != with_additions(request.url, sent):
        return False
    known = {*_telling(request), *_basic(request, auth), *headers_added_to(sent).items()}
    return known.issuperset(_telling(sent))


def is_variant(names: Iterable[str], request: httpx.Request, sent: httpx.Request) -> bool:
    """Whether a request went out with some headers, of those that its response varies by, as it was made.

    Credentials are left aside: by them, its owner is told.
    """
    others = [name for name in names if not (_is_credential(name) or name in headers_added_to(sent))]
    return all(header_of(request, name) == header_of(sent, name) for name in others)


def key_of(request: httpx.Request, owner: Owner) -> str:
    """Return the key of a request, headers that the response may vary by left aside."""
    # The URL alone does not tell which of several hosts at one address is meant.
    return _digest(
        owner.mark, request.method, request.headers.get("host", "").lower(), _normalised(request.url)
    )


def variant_of(key: str, names: Iterable[str], request: httpx.Request) -> str:
    """Return the key of a request whose response varies by some headers."""
    return _digest(key, *(f"{name}:{header_of(request, name)!r}" for name in names))


def header_of(request: httpx.Request, name: str) -> list[str] | None:
    """Return the values of a header, white space around them left aside; ``None`` if it is not there."""
    if name not in request.headers:
        return None
    return [value.strip() for value in request.headers[name].split(",")]


def tag_of(url: httpx.URL) -> str:
    """Return what all responses of a URL are dropped by."""
    return _digest(_normalised(url))


def _telling(request: httpx.Request) -> list[tuple[str, str]]:
    """Return the headers by which a server may tell users apart."""
    return [(name, value) for name, value in request.headers.multi_items() if _tells_of_users(name)]


@lru_cache(maxsize=512)
def _tells_of_users(header: str) -> bool:
    return _TELLS_NOTHING_OF_USERS.fullmatch(header) is None


def _is_credential(header: str) -> bool:
    return header == "cookie" or sounds_secret(header)


def _identity(auth: Any) -> str | None:
    if auth is None:
        return ""
    if isinstance(auth, tuple):
        return repr(cast("tuple[object, ...]", auth))
    is_one = auth.speaks_for_one if isinstance(auth, OriginAuth) else type(auth) in _BASIC
    return _identities.of(auth) if is_one else None


def _basic(request: httpx.Request, auth: Any) -> list[tuple[str, str]]:
    """Return the header that httpx itself adds to a request, for a name and a password."""
    package, basic = package_of(request), auth
    if auth is None and request.url.userinfo:
        basic = package.BasicAuth(request.url.username, request.url.password)
    elif isinstance(auth, tuple):
        basic = package.BasicAuth(*cast("tuple[str, str]", auth))
    if type(basic) not in _BASIC:
        return []
    signed = next(basic.auth_flow(package.Request("GET", request.url)))
    return [("authorization", signed.headers["Authorization"])]


_identities: ByIdentity[str] = ByIdentity(lambda _: uuid.uuid4().hex)


def _normalised(url: httpx.URL) -> str:
    """Spell equal URLs alike (RFC 3986, section 6.2.2); host and port are so already."""
    path = _ESCAPED.sub(_respelled, url.raw_path)
    return origin_of(url) + path.decode("ascii")


def _respelled(escape: re.Match[bytes]) -> bytes:
    character = bytes([int(escape[1], 16)])
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()


def _digest(*parts: str) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(raw) + raw)  # with its length, so that no two lists of parts are alike
    return hashed.hexdigest()
