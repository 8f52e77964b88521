"""Where the next page is: the ways in which an API tells, one class for each.

A position is what tells pages apart and can be kept to go on later: a URL, a cursor, a number. A way knows
the first position, puts one into a request, and reads the following one off a page.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

from resilience import _arguments
from resilience_httpx._errors import HTTPClientError
from resilience_httpx._links import linked_url
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import classes, httpx

_INVALID_URLS: Any = classes(httpx.InvalidURL)

Position: TypeAlias = str | int
Where: TypeAlias = str | Callable[[httpx.Response], Any]
"""Where something stands: a key or a dotted path in the JSON body, or a function of the response."""
Build: TypeAlias = Callable[[str | None], httpx.Request]
"""Makes the request that the caller described, for a URL or, with ``None``, for the path that was given."""

_MISSING: Any = object()


class PaginationError(HTTPClientError):
    """The server's pages do not make sense: they lead in a circle or elsewhere, or lack their items."""

    default_code = "pagination_error"


class Page:
    """A page that the server sent.

    Args:
        response: The response.
        position: Where it is, or ``None`` for the first page of those that have cursors.
        items: Where its items are, or ``None`` if nobody said.
    """

    def __init__(self, response: httpx.Response, position: Position | None, items: Where | None) -> None:
        self.response = response
        self.position = position
        self.items: list[Any] | None = None if items is None else self._listed(items)

    @property
    def count(self) -> int:
        """How many items it has."""
        if self.items is not None:
            return len(self.items)
        body = self._body()
        if isinstance(body, list):
            return len(cast("Sequence[Any]", body))
        raise self.error("the body is no list; say with items= where in it the items are")

    def look_up(self, where: Where) -> Any:
        """Return what stands there, or ``None``."""
        found = self._found(where)
        return None if found is _MISSING else found

    def error(self, what: str) -> PaginationError:
        """Make the error for something that is wrong with it."""
        return PaginationError(
            f"cannot go through the pages: {what}", request=self.response.request, response=self.response
        )

    def _listed(self, where: Where) -> list[Any]:
        found = self._found(where)
        if found is None:  # what some servers write for an empty list
            return []
        is_listed = isinstance(found, list) if isinstance(where, str) else _is_iterable(found)
        if not is_listed:
            place = f"at {where!r}" if isinstance(where, str) else "where items= looks for it"
            raise self.error(f"there is no list of items {place}")
        return list(found)

    def _found(self, where: Where) -> Any:
        return _at(self._body(), where) if isinstance(where, str) else where(self.response)

    def _body(self) -> Any:
        try:
            return self.response.json()
        except (ValueError, RecursionError):
            raise self.error("the body is not JSON") from None  # its text may hold secrets


class Way(Protocol):
    """How to get from a page to the next one."""

    def first(self, request: httpx.Request, start: object) -> Position | None:
        """Return the position to begin with.

        Args:
            request: The request that the caller described.
            start: Where the caller wants to begin, or ``None``.
        """
        ...

    def request(self, build: Build, position: Position | None) -> httpx.Request:
        """Return the request for the page at a position."""
        ...

    def following(self, page: Page) -> Position | None:
        """Return the position after a page, or ``None`` if it is the last one.

        Raises:
            PaginationError: If the page says something that makes no sense.
        """
        ...


class ByLink:
    """The URL of the next page, in the ``Link`` header or in the body.

    Args:
        where: Where in the body, or ``None`` for the header.
        origins: Where links may lead besides the origin of the first page.
    """

    def __init__(self, where: Where | None, origins: Iterable[str]) -> None:
        self._where = where
        self._origins = set(origins)
        self._base: httpx.URL | None = None

    def first(self, request: httpx.Request, start: object) -> str:
        self._base = request.url
        self._origins.add(origin_of(request.url))
        if start is None:
            return str(_bare(request.url))
        url = _bare(request.url.join(_arguments.text("start", start)))
        if origin_of(url) not in self._origins:
            raise ValueError(
                f"start must be a URL of {', '.join(sorted(self._origins))}; got another origin"
            )
        return str(url)

    def request(self, build: Build, position: Position | None) -> httpx.Request:
        request = build(str(position))
        # Once more: parameters of the call or of the client have replaced the query of the link.
        url = type(request.url)(str(position))
        base = self._base
        if base is not None and origin_of(url) == origin_of(base):
            url = url.copy_with(username=base.username or None, password=base.password or None)
        request.url = url
        return request

    def following(self, page: Page) -> str | None:
        try:
            url = self._linked(page)
        except _INVALID_URLS:
            raise page.error("the link to the next one is no URL") from None
        if url is None:
            return None
        if origin_of(url) not in self._origins:
            raise page.error(
                f"the link to the next one leads to {origin_of(url)}, which is another origin; "
                "origins= allows it"
            )
        return str(_bare(url))

    def _linked(self, page: Page) -> httpx.URL | None:
        if self._where is None:
            return linked_url(page.response, "next")
        found = page.look_up(self._where)
        if found is None or found is False or found == "":
            return None
        if isinstance(found, str):
            return page.response.url.join(found)
        raise page.error(f"the link to the next one must be a string, not {type(found).__name__}")


class ByCursor:
    """A cursor that goes into a parameter of the query.

    Args:
        where: Where in a page the cursor of the next one is.
        parameter: The parameter.
    """

    def __init__(self, where: Where, parameter: str) -> None:
        self._where = where
        self._parameter = parameter

    def first(self, request: httpx.Request, start: object) -> Position | None:  # noqa: ARG002
        if start is None or _is_cursor(start):
            return cast("Position | None", start)
        raise TypeError(f"start must be a cursor, which is a string or a whole number, got {start!r}")

    def request(self, build: Build, position: Position | None) -> httpx.Request:
        request = build(None)
        if position is not None:
            request.url = request.url.copy_set_param(self._parameter, position)
        return request

    def following(self, page: Page) -> Position | None:
        found = page.look_up(self._where)
        if found is None or found is False or found == "":
            return None
        if _is_cursor(found):
            return cast("Position", found)
        raise page.error(f"the cursor must be a string or a whole number, not {type(found).__name__}")


class ByNumber:
    """A page number, or the number of items before the page, in a parameter of the query.

    Args:
        parameter: The parameter.
        by_items: Whether it counts items.
    """

    def __init__(self, parameter: str, *, by_items: bool) -> None:
        self._parameter = parameter
        self._by_items = by_items
        self._last: bytes | None = None

    def first(self, request: httpx.Request, start: object) -> int:
        if start is not None:
            return _arguments.whole("start", start, at_least=0)
        given = request.url.params.get(self._parameter)
        if given is None:
            return 0 if self._by_items else 1
        if not (given.isascii() and given.isdigit()):
            raise ValueError(f"parameter {self._parameter!r} must be a whole number, got {given!r}")
        return int(given)

    def request(self, build: Build, position: Position | None) -> httpx.Request:
        request = build(None)
        request.url = request.url.copy_set_param(self._parameter, position)
        return request

    def following(self, page: Page) -> int | None:
        if not page.count:
            return None
        last, self._last = self._last, page.response.content
        if last == self._last:
            raise page.error(
                f"the same page came twice, so the server seems to ignore the parameter {self._parameter!r}"
            )
        return cast("int", page.position) + (page.count if self._by_items else 1)


def _bare(url: httpx.URL) -> httpx.URL:
    """Leave out what is not sent, and credentials, which httpx would send."""
    return url.copy_with(username=None, password=None, fragment=None)


def _is_cursor(value: object) -> bool:
    return isinstance(value, (str, int)) and value != "" and not isinstance(value, bool)


def _is_iterable(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


def _at(body: Any, path: str) -> Any:
    """Return what stands at a key or a dotted path. A key may have dots: ``@odata.nextLink``."""
    whole = _entry(body, path)
    return functools.reduce(_entry, path.split("."), body) if whole is _MISSING else whole


def _entry(body: object, key: str) -> Any:
    return cast("Mapping[str, Any]", body).get(key, _MISSING) if isinstance(body, dict) else _MISSING
