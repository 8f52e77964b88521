"""What a stored response is found by, and whose it is.

A key is a hash: URLs and credentials hold secrets, and a key may end up in a store, or in a log of one.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from resilience import _arguments
from resilience._by_identity import ByIdentity
from resilience_httpx._auth import CREDENTIAL_HEADERS, OriginAuth
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import classes, httpx
from resilience_httpx._redaction import sounds_secret

Credentials: TypeAlias = bool | Callable[[httpx.Request], str]

NOBODY = ""
"""The owner of responses to requests without credentials."""

# One object of these stands for one identity; of others that is not known.
_ONE_IDENTITY = classes(httpx.BasicAuth, httpx.DigestAuth)

_ESCAPED = re.compile(rb"%([0-9a-fA-F]{2})")
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")


@dataclass(frozen=True, slots=True)
class Variation:
    """Stands in a store for the responses of a URL that ``Vary``; they have keys of their own.

    Attributes:
        names: The request headers that they depend on.
    """

    names: tuple[str, ...]


def owner(credentials: Credentials, request: httpx.Request, auth: object) -> str | None:
    """Return whose the response to a request will be, or ``None`` if it must not be kept.

    Args:
        credentials: The argument of the cache.
        request: The request as the caller made it.
        auth: What adds credentials to it later on.
    """
    if callable(credentials):
        return _digest("user", _arguments.text("the result of credentials=", credentials(request)))
    shown = [f"{name}:{value}" for name, value in _credentials_of(request)]
    if request.url.userinfo:
        shown.append(request.url.userinfo.decode("ascii"))
    if auth is None and not shown:
        return NOBODY
    identity = _identity(auth) if credentials else None
    return None if identity is None else _digest(identity, *shown)


def is_as_shown(request: httpx.Request, sent: httpx.Request, auth: object) -> bool:
    """Whether a request went out with the credentials by which `owner` was told, and no others.

    Hooks and middleware may have added some that are of another user each time.
    """
    expected: set[str] = set()
    if auth is not None or request.url.userinfo:
        expected = {"authorization", *map(str.lower, sent.extensions.get(CREDENTIAL_HEADERS, ()))}
    elif sent.url != request.url:
        return False
    shown = _credentials_of(request)
    return all(each in shown or each[0] in expected for each in _credentials_of(sent))


def key_of(request: httpx.Request, owner: str) -> str:
    """Return the key of a request, headers that the response may vary by left aside."""
    # The URL alone does not tell which of several hosts at one address is meant.
    return _digest(owner, request.method, request.headers.get("host", "").lower(), _normalised(request.url))


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


def _credentials_of(request: httpx.Request) -> list[tuple[str, str]]:
    headers = request.headers.multi_items()
    return [(name, value) for name, value in headers if name == "cookie" or sounds_secret(name)]


def _identity(auth: Any) -> str | None:
    if auth is None:
        return ""
    if isinstance(auth, tuple):
        return repr(cast("tuple[object, ...]", auth))
    is_one = auth.speaks_for_one if isinstance(auth, OriginAuth) else isinstance(auth, _ONE_IDENTITY)
    return _identities.of(auth) if is_one else None


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
