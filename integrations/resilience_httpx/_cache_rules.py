"""What a response cache may keep and reuse: RFC 9111 and RFC 5861, as functions of headers and ages.

No input or output, no clock of its own. Responses without credentials are judged as by a shared cache,
those kept for one credential as by a private one. What the RFC leaves to the cache is answered the careful
way: nothing is fresh by guessing, no error is kept, and a directive that cannot be read is the strictest.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import parsedate_tz
from typing import Final, TypeAlias

from resilience_httpx._packages import httpx, response_class

Pairs: TypeAlias = tuple[tuple[bytes, bytes], ...]
Directives: TypeAlias = Mapping[str, str]

CACHED_METHODS: Final = frozenset({"GET", "HEAD"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
SERVER_ERRORS: Final = frozenset({500, 502, 503, 504})
"""The statuses that ``stale-if-error`` is about."""

ORIGIN: Final = "resilience.cache"
"""Key of ``response.extensions``: ``"hit"``, ``"stale"``, ``"revalidated"``, or ``"shared"`` if the
response came with the answer to another call. Not there if it is the server's own.
"""

# Not redirects: whether to follow them is up to each call.
_KEPT_STATUSES = frozenset({200, 203, 204})

# Conditions and ranges that the caller set are between him and the server.
_CALLERS_OWN = (
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
)

# Of one connection only; besides, a stored body is decoded, and no cookie is set twice.
_NOT_KEPT = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authentication-info te trailer"
    b" transfer-encoding upgrade content-encoding age set-cookie".split()
)
_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"content-range"})

_DIRECTIVE = re.compile(r'([\w!#$%&\'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*)))?')
_LONGEST = 2**31


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it is kept: plain data, which any store can hold.

    Attributes:
        status: The status.
        headers: Without those of one connection.
        body: Decoded.
        lifetime: Seconds for which it is fresh, counted from when the server made it.
        is_private: Whether it is kept for one credential only.
        http_version: As in httpx's extension of that name.
    """

    status: int
    headers: Pairs
    body: bytes
    lifetime: float
    is_private: bool
    http_version: bytes = b"HTTP/1.1"

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)

    def header(self, name: str) -> str:
        """Return the values of a header, joined."""
        value: str = httpx.Headers(self.headers).get(name, "")
        return value

    @property
    def has_validator(self) -> bool:
        """Whether the server can be asked if it is still right."""
        return bool(self.header("etag") or self.header("last-modified"))

    def response(self, request: httpx.Request, age: float, origin: str) -> httpx.Response:
        """Make a response of it for a caller."""
        headers = [*self.headers, (b"Age", b"%d" % max(age, 0))]
        extensions = {"http_version": self.http_version, ORIGIN: origin}
        response = response_class(request)(
            self.status, headers=headers, content=self.body, request=request, extensions=extensions
        )
        response.elapsed = timedelta(0)
        return response


def directives(value: str) -> Directives:
    """Return the directives of a ``Cache-Control`` header; the first one of a name counts."""
    found: dict[str, str] = {}
    for name, quoted, plain in _DIRECTIVE.findall(value):
        found.setdefault(name.lower(), quoted or plain)
    return found


def is_left_alone(request: httpx.Request) -> bool:
    """Whether a request must neither be answered by a cache nor its response be kept."""
    headers = request.headers
    return (
        request.method not in CACHED_METHODS
        or any(name in headers for name in _CALLERS_OWN)
        or "no-store" in directives(headers.get("cache-control", ""))
        or "transfer-encoding" in headers
        or headers.get("content-length", "0") != "0"
    )


def storable(response: httpx.Response, *, wall_clock: float, is_private: bool) -> StoredResponse | None:
    """Return what to keep of a response that was read, or ``None`` if it must not be kept."""
    headers = response.headers
    told = directives(headers.get("cache-control", ""))
    if response.status_code not in _KEPT_STATUSES or response.history:
        return None
    if "no-store" in told or "*" in varying(headers.get("vary", "")) or "set-cookie" in headers:
        return None
    if "private" in told and not is_private:
        return None
    kept = _plain(
        response, _lifetime(headers, told, wall_clock, is_private=is_private), is_private=is_private
    )
    is_of_use = kept.has_validator or (kept.lifetime > 0 and "no-cache" not in told)
    return kept if is_of_use else None


def copied_error(response: httpx.Response) -> StoredResponse | None:
    """Return a server's error for those who asked the same at the same time; it is not kept.

    Else all of them would ask once more, just when the server is in trouble.
    """
    told = directives(response.headers.get("cache-control", ""))
    if response.status_code not in SERVER_ERRORS or not {"no-store", "private"}.isdisjoint(told):
        return None
    return _plain(response, 0, is_private=False)


def refreshed(stored: StoredResponse, answer: httpx.Response, wall_clock: float) -> StoredResponse:
    """Return a stored response with the headers of the 304 that confirmed it (RFC 9111, section 3.2)."""
    new = [
        (name, value)
        for name, value in _kept_headers(answer.headers.raw, None)
        if name.lower() not in _OF_THE_BODY
    ]
    replaced = {name.lower() for name, _ in new}
    kept = [pair for pair in stored.headers if pair[0].lower() not in replaced]
    headers = httpx.Headers([*kept, *new])
    lifetime = _lifetime(
        headers,
        directives(headers.get("cache-control", "")),
        wall_clock,
        is_private=stored.is_private,
    )
    return replace(stored, headers=tuple(headers.raw), lifetime=lifetime)


def may_be_kept(stored: StoredResponse) -> bool:
    """Whether a response that was confirmed may stay: its new headers may forbid it."""
    told = directives(stored.header("cache-control"))
    if "no-store" in told or "*" in varying(stored.header("vary")):
        return False
    return stored.is_private or "private" not in told


def confirms(answer: httpx.Response, stored: StoredResponse) -> bool:
    """Whether a 304 is about this response and no other (section 4.3.4)."""
    tag, known = answer.headers.get("etag", ""), stored.header("etag")
    return not tag or not known or tag.removeprefix("W/") == known.removeprefix("W/")


def conditions(stored: StoredResponse) -> dict[str, str]:
    """Return the headers that ask whether a response is still right (section 4.3.1)."""
    found = {"If-None-Match": stored.header("etag"), "If-Modified-Since": stored.header("last-modified")}
    return {name: value for name, value in found.items() if value}


def initial_age(response: httpx.Response, took: float, wall_clock: float) -> float:
    """Return how many seconds old a response is on its arrival (section 4.2.3).

    Args:
        response: The response.
        took: Seconds that it was under way.
        wall_clock: Seconds since 1970.
    """
    date = _seconds_since_1970(response.headers.get("date", ""))
    apparent = 0.0 if date is None else max(wall_clock - date, 0.0)
    age = response.headers.get("age", "").partition(",")[0].strip()
    return max(apparent, (_whole_seconds(age) or 0) + took)


def is_fresh(stored: StoredResponse, age: float, request: httpx.Request) -> bool:
    """Whether a response may be used without asking the server."""
    asked = _request_directives(request)
    if "no-cache" in asked or "no-cache" in directives(stored.header("cache-control")):
        return False
    limit = _LONGEST if "max-age" not in asked else _whole_seconds(asked["max-age"]) or 0
    margin = 0 if "min-fresh" not in asked else _or_longest(asked["min-fresh"])
    return age + margin < stored.lifetime and age <= limit


def stale_window(stored: StoredResponse, directive: str, request: httpx.Request, default: float) -> float:
    """Return for how many seconds after its lifetime a response may be used nevertheless.

    Args:
        stored: The response.
        directive: ``stale-while-revalidate`` or ``stale-if-error`` (RFC 5861).
        request: The request; one that asks for something fresh gets nothing stale.
        default: What counts if the response does not have the directive.
    """
    told = directives(stored.header("cache-control"))
    forbidding = {"must-revalidate", "no-cache"}
    if not stored.is_private:
        forbidding |= {"proxy-revalidate", "s-maxage"}
    asked = _request_directives(request)
    if not forbidding.isdisjoint(told) or not {"no-cache", "max-age", "min-fresh"}.isdisjoint(asked):
        return 0
    if directive in told:
        return _whole_seconds(told[directive]) or 0
    return default


def varying(value: str) -> tuple[str, ...]:
    """Return the names in a ``Vary`` header."""
    return tuple(sorted({name.strip().lower() for name in value.split(",") if name.strip()}))


def _plain(response: httpx.Response, lifetime: float, *, is_private: bool) -> StoredResponse:
    body = response.content
    # That of the answer to HEAD is about a body that is elsewhere.
    length = None if response.request.method == "HEAD" else len(body)
    headers = _kept_headers(response.headers.raw, length)
    version: bytes = response.extensions.get("http_version", b"HTTP/1.1")
    return StoredResponse(response.status_code, headers, body, lifetime, is_private, version)


def _lifetime(headers: httpx.Headers, told: Directives, wall_clock: float, *, is_private: bool) -> float:
    """Return the seconds for which a response is fresh, without guessing (section 4.2.1)."""
    for name in ("max-age",) if is_private else ("s-maxage", "max-age"):
        if name in told:
            return _whole_seconds(told[name]) or 0
    if "expires" not in headers:
        return 0
    expires = _seconds_since_1970(headers["expires"])
    date = _seconds_since_1970(headers.get("date", ""))
    return 0 if expires is None else max(expires - (wall_clock if date is None else date), 0)


def _kept_headers(raw: list[tuple[bytes, bytes]], length: int | None) -> Pairs:
    listed = b",".join(value for name, value in raw if name.lower() == b"connection")
    dropped = _NOT_KEPT | {name.strip().lower() for name in listed.split(b",")}
    kept = [(name, value) for name, value in raw if name.lower() not in dropped]
    if length is None:
        return tuple(kept)
    return (
        *(pair for pair in kept if pair[0].lower() != b"content-length"),
        (b"Content-Length", b"%d" % length),
    )


def _request_directives(request: httpx.Request) -> Directives:
    headers = request.headers
    if "cache-control" not in headers and "no-cache" in headers.get("pragma", "").lower():
        return {"no-cache": ""}
    return directives(headers.get("cache-control", ""))


def _whole_seconds(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return min(int(text), _LONGEST) if len(text) < 11 else _LONGEST


def _or_longest(text: str) -> int:
    seconds = _whole_seconds(text)
    return _LONGEST if seconds is None else seconds


def _seconds_since_1970(date: str) -> float | None:
    try:
        parsed = parsedate_tz(date)
        # Without a zone it is in GMT, as all have to be.
        return None if parsed is None else timegm(parsed[:6]) - (parsed[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None  # such as the year 99999
