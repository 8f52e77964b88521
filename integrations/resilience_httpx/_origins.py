"""Origins: what circuits, credentials and redirects are told apart by."""

from __future__ import annotations

import contextlib
import re

from resilience_httpx._packages import classes, httpx

_INVALID = classes(httpx.InvalidURL)


def origin_of(url: httpx.URL) -> str:
    """Return scheme, host and port of a URL, such as ``"https://api.example.com"``.

    A port that is the scheme's default is left out, userinfo always is.
    """
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def parse_origin(name: str, value: object) -> str:
    """Return the origin that an argument names.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is not an absolute URL.
    """
    if not isinstance(value, str):
        raise TypeError(
            f'{name} must be URLs such as "https://api.example.com", got {type(value).__name__}'
        )
    url = httpx.URL()
    with contextlib.suppress(*_INVALID):
        url = httpx.URL(value)
    if not (url.is_absolute_url and url.host):
        raise ValueError(f'{name} must be URLs such as "https://api.example.com", got {_shown(value)!r}')
    return origin_of(url)


def _shown(text: str) -> str:
    """Return what may be shown of what is no URL: nothing that may be a password or a token in a query."""
    return re.sub(r"(?s)^.*@|\?.*$", "...", text)


def without_secrets(url: httpx.URL) -> str:
    """Return a URL for people to read: without userinfo, query and fragment, where secrets stand."""
    return f"{origin_of(url)}{url.path}"
