"""Plain URLs, at a tenth of the price.

To put a path below ``base_url`` httpx parses the path, and then the whole URL once more, which takes longer
than all policies together. In a plain path nothing is quoted or normalised: it only takes the place of the
other in what has been parsed already. The rest is left to httpx.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, cast

from resilience_httpx._packages import httpx

_LONGEST = 2_000
_PATH = r"[a-z0-9_~-][a-z0-9_~.-]*(?:/[a-z0-9_~-][a-z0-9_~.-]*)*/?"  # no dot begins a segment: it may go up
_RELATIVE = re.compile(rf"/?({_PATH})", re.ASCII | re.IGNORECASE)
_ABSOLUTE = re.compile(rf"(https?://[a-z0-9][a-z0-9.-]*(?::[0-9]+)?)/({_PATH})", re.ASCII | re.IGNORECASE)


def plain_url(base: httpx.URL, text: object) -> httpx.URL | None:
    """Return the URL that httpx makes of a base and a URL; ``None`` if only httpx can tell.

    Args:
        base: The ``base_url`` of a client.
        text: The URL: a path below it, or one that is absolute.

    Example:
        >>> plain_url(httpx.URL("https://api.example.com/v1/"), "/users/ada")
        URL('https://api.example.com/v1/users/ada')
        >>> plain_url(httpx.URL("https://api.example.com/v1/"), "/users/../ada")
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    found = _RELATIVE.fullmatch(text)
    if found is not None:
        return _below(base, found[1])
    found = _ABSOLUTE.fullmatch(text)
    if found is None:
        return None
    kind: Any = type(base)
    return _below(_root(kind, found[1]), found[2])


def _below(base: httpx.URL, path: str) -> httpx.URL | None:
    parsed: Any = getattr(base, "_uri_reference", None)
    if parsed is None or parsed.query is not None or not parsed.host:
        return None
    url: Any = base.__class__.__new__(base.__class__)
    whole = (parsed.path or "/") + path  # the path of a base ends in a slash, if there is one
    url._uri_reference = parsed._replace(path=whole)  # noqa: SLF001 - else it is parsed again
    return cast("httpx.URL", url)


@functools.lru_cache(maxsize=64)
def _root(kind: Callable[[str], httpx.URL], origin: str) -> httpx.URL:
    return kind(f"{origin}/")
