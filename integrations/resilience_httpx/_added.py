"""What was added to a request on its way: no redirect to another origin takes it along.

A response cache has to know it, too, to tell it from what hooks and middleware have put there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx

_ADDED = "resilience.added"
"""Key of ``request.extensions``."""


@dataclass(slots=True, repr=False)  # it holds secrets, and whoever prints the extensions would show them
class _Added:
    """What was added to a request.

    Attributes:
        home: A URL of the origin that it is for.
        headers: The headers as they were added, by their names in lower case.
        urls: What a URL became.
    """

    home: httpx.URL
    headers: Mapping[str, str]
    urls: Mapping[httpx.URL, httpx.URL]


_NONE: Mapping[Any, Any] = MappingProxyType({})
_NOTHING = _Added(httpx.URL(), _NONE, _NONE)


def add_header(request: httpx.Request, name: str, value: str) -> None:
    """Put a header into a request that is for its origin only."""
    request.headers[name] = value
    keep_at_home(request, {name.lower(): value})


def keep_at_home(request: httpx.Request, headers: Mapping[str, str]) -> None:
    """Let no redirect to another origin take along some headers that a request has.

    Args:
        request: The request.
        headers: The headers, by their names in lower case.
    """
    known = _of(request)
    both = {**known.headers, **headers} if known.headers else headers
    _note(request, _Added(request.url, both, known.urls))


def note_url(request: httpx.Request, before: httpx.URL) -> None:
    """Note that something was added to the URL of a request."""
    known = _of(request)
    urls = {**known.urls, before: request.url}
    _note(request, _Added(request.url, known.headers, urls))


def headers_added_to(request: httpx.Request) -> Mapping[str, str]:
    """Return the headers that were added to a request, by their names in lower case."""
    return _of(request).headers


def with_additions(url: httpx.URL, request: httpx.Request) -> httpx.URL:
    """Return what a URL has become by what was added to a request."""
    return _of(request).urls.get(url, url)


def drop_strange_headers(request: httpx.Request) -> None:
    """Take out of a request what was added for another origin; a redirect has put it there."""
    added = _of(request)
    if added.headers and origin_of(added.home) != origin_of(request.url):
        for name in added.headers:
            request.headers.pop(name, None)


def _of(request: httpx.Request) -> _Added:
    added: _Added = request.extensions.get(_ADDED, _NOTHING)
    return added


def _note(request: httpx.Request, added: _Added) -> None:
    request.extensions = {**request.extensions, _ADDED: added}
