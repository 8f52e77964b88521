"""Going through a list in pages. Each page is one call of the client, so that retries repeat a page."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from copy import copy
from typing import Any, Generic, TypeVar, Unpack, cast, overload

from resilience import _arguments
from resilience_httpx._errors import status_error
from resilience_httpx._next_page import (
    ByCursor,
    ByLink,
    ByNumber,
    Page,
    PaginationError,
    Position,
    Way,
    Where,
)
from resilience_httpx._origins import parse_origin
from resilience_httpx._packages import httpx
from resilience_httpx._request_options import AsyncClient, RequestOptions, build_request

T = TypeVar("T")

_WAYS = ("cursor", "page", "offset", "link")


class Pagination(AsyncIterator[T], Generic[T]):
    """The pages of a list, or their items; made by ``client.paginate``.

    One task at a time may iterate over it. If a page fails, or the task is cancelled, nothing is lost:
    going on with the same object asks for that page again. A new one goes on with ``start=pages.next``.
    """

    def __init__(
        self,
        fetch: Callable[[Position | None], Any],
        way: Way,
        *,
        start: Position | None,
        items: Where | None,
        max_pages: int,
        max_items: int | None,
    ) -> None:
        self._fetch = fetch
        self._way = way
        self._where = items
        self._pages_left = max_pages
        self._items_left = max_items
        self._current: Position | None = None
        self._following = start
        self._seen = {start}
        self._held: deque[T] = deque()
        self._wrong: PaginationError | None = None
        self._finished = False
        self._fetching = False

    @property
    def next(self) -> Position | None:
        """Where to go on: the URL, the cursor or the number of the first page not wholly handed out.

        It is a string or a whole number, to be kept anywhere and given as ``start=``. If only a part of the
        items of a page was taken, it is that page, whose items then come again: none is lost. ``None`` if
        all is finished, and, with a cursor, before the first page.
        """
        return self._current if self._held or self._wrong is not None else self._following

    @property
    def finished(self) -> bool:
        """Whether everything was handed out, down to the last page; False if a maximum ended it before."""
        return self._finished and not self._held

    def __aiter__(self) -> Pagination[T]:
        return self

    async def __anext__(self) -> T:
        if self._items_left == 0:
            raise StopAsyncIteration
        while not self._held:
            if self._wrong is not None:
                raise copy(self._wrong)  # raised twice, an error would grow its traceback
            if self._finished or not self._pages_left:
                raise StopAsyncIteration
            await self._turn()
        if self._items_left is not None:
            self._items_left -= 1
        return self._held.popleft()

    async def _turn(self) -> None:
        """Get the next page. Unless all of it succeeds, everything stays as it was."""
        if self._fetching:
            raise RuntimeError("another task is waiting for the next page; let one task iterate")
        self._fetching = True
        try:
            position = self._following
            response = await self._fetch(position)
        finally:
            self._fetching = False
        if not response.is_success:
            raise status_error(response)
        page = Page(response, position, self._where)
        following = self._look_ahead(page)
        self._current, self._following = position, following
        self._pages_left -= 1
        self._finished = following is None and self._wrong is None
        if page.items is not None:
            self._held.extend(page.items)
        elif not (
            self._finished and isinstance(self._way, ByNumber)
        ):  # else it is the empty one at the end
            self._held.append(response)

    def _look_ahead(self, page: Page) -> Position | None:
        """Return the position after a page. What is wrong with it is told after the page is handed out."""
        try:
            following = self._way.following(page)
            if following is not None and following in self._seen:
                raise page.error("they lead in a circle: the next one was there before")
        except PaginationError as error:
            self._wrong = error.with_traceback(None)
            return None
        self._seen.add(following)
        return following


class PageOptions(RequestOptions, total=False):
    """The arguments of ``client.paginate`` that do not decide what it hands out."""

    cursor: Where | None
    page: str | None
    offset: str | None
    link: Where | None
    cursor_parameter: str
    max_pages: int
    start: Position | None
    origins: str | Sequence[str]


class Paginating(AsyncClient):
    """Gives a client `paginate`."""

    @overload
    def paginate(
        self, path: httpx.URL | str, *, items: None = None, **options: Unpack[PageOptions]
    ) -> Pagination[httpx.Response]: ...

    @overload
    def paginate(
        self,
        path: httpx.URL | str,
        *,
        items: Callable[[httpx.Response], Iterable[T]],
        max_items: int | None = None,
        **options: Unpack[PageOptions],
    ) -> Pagination[T]: ...

    @overload
    def paginate(
        self,
        path: httpx.URL | str,
        *,
        items: str,
        max_items: int | None = None,
        **options: Unpack[PageOptions],
    ) -> Pagination[Any]: ...

    def paginate(
        self,
        path: httpx.URL | str,
        *,
        cursor: Where | None = None,
        page: str | None = None,
        offset: str | None = None,
        items: Where | None = None,
        max_pages: int = 1000,
        max_items: int | None = None,
        start: Position | None = None,
        link: Where | None = None,
        cursor_parameter: str = "cursor",
        origins: str | Sequence[str] = (),
        **options: Unpack[RequestOptions],
    ) -> Pagination[Any]:
        """Go through a list in pages: ``async for user in client.paginate("/users", items="data")``.

        Each page is one GET of this client, with its retries, limits and time. The ``Link`` header
        (RFC 8288) leads from page to page, unless ``link``, ``cursor``, ``page`` or ``offset`` is given.

        *Where* means a key or a dotted path in the JSON body, such as ``"meta.next_cursor"``, or a function
        of the response. Nothing, ``null``, ``false`` and the empty string mean that a page is the last one.

        Args:
            path: The URL of the first page.
            cursor: Where in a page the cursor of the next one is. It is sent as ``cursor_parameter``.
            page: The parameter for the number of the page, such as ``"page"``. It begins with the number
                that ``params`` has, else with 1. The first page without items ends the list.
            offset: The parameter for the number of items before the page. It begins with the number that
                ``params`` has, else with 0, and grows by the items that come. The first page without
                items ends the list.
            items: Where in a page its items are: then the items are handed out, one by one. By default the
                pages are, as responses; ``page`` and ``offset`` then need bodies that are lists.
            max_pages: Stop after so many pages, 1 or more.
            max_items: Stop after so many items, 0 or more. ``finished`` tells whether that was all.
            start: Where to begin: what ``next`` was of an earlier iteration.
            link: Where in the body the URL of the next page is.
            cursor_parameter: The parameter for ``cursor``.
            origins: Origins that links may lead to, besides that of ``path``. Headers go there as well, and
                credentials unless they are bound to an origin, as `BearerAuth` is.
            **options: Arguments of ``client.get``, for each page. Links have parameters of their own, so
                ``params`` is for the first page then.

        Returns:
            An asynchronous iterator. It raises `StatusError` for a page that is no success, and
            `PaginationError` if a page leads in a circle, to another origin, or lacks its items.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or two ways to the next page are given.

        Example:
            >>> import asyncio, httpx
            >>> from resilience_httpx import ResilientClient
            >>> pages = {None: {"data": [1, 2], "next": "b"}, "b": {"data": [3], "next": None}}
            >>> def answer(request: httpx.Request) -> httpx.Response:
            ...     return httpx.Response(200, json=pages[request.url.params.get("cursor")])
            >>> async def main() -> None:
            ...     transport = httpx.MockTransport(answer)
            ...     async with ResilientClient("https://api.example.com", transport=transport) as client:
            ...         numbers = client.paginate("/numbers", cursor="next", items="data")
            ...         print([number async for number in numbers])
            >>> asyncio.run(main())
            [1, 2, 3]
        """
        way = _way(cursor, page, offset, link, cursor_parameter, origins)
        if items is None and max_items is not None:
            raise ValueError(f"max_items needs items=, which says where the items are; got {max_items!r}")

        def build(url: str | None) -> httpx.Request:
            return build_request(self, "GET", path if url is None else url, options)[0]

        first, sending = build_request(self, "GET", path, options)

        async def fetch(position: Position | None) -> httpx.Response:
            return await self.send(way.request(build, position), **sending)

        return Pagination(
            fetch,
            way,
            start=way.first(first, start),
            items=_arguments.optional(_where, "items", items),
            max_pages=_arguments.whole("max_pages", max_pages),
            max_items=None if max_items is None else _arguments.whole("max_items", max_items, at_least=0),
        )


def _way(
    cursor: Where | None,
    page: str | None,
    offset: str | None,
    link: Where | None,
    cursor_parameter: str,
    origins: str | Sequence[str],
) -> Way:
    given = [
        name for name, value in zip(_WAYS, (cursor, page, offset, link), strict=True) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are different ways to the next page; give one of them")
    if cursor is not None:
        return ByCursor(_where("cursor", cursor), _arguments.text("cursor_parameter", cursor_parameter))
    if page is not None:
        return ByNumber(_arguments.text("page", page), by_items=False)
    if offset is not None:
        return ByNumber(_arguments.text("offset", offset), by_items=True)
    each = (origins,) if isinstance(origins, str) else origins
    return ByLink(
        _arguments.optional(_where, "link", link), [parse_origin("origins", origin) for origin in each]
    )


def _where(name: str, value: Any) -> Where:
    if callable(value):
        return cast("Where", _arguments.plain_function(name, value))
    if isinstance(value, str):
        return _arguments.text(name, value)
    raise TypeError(f"{name} must be a key, a dotted path or a function of the response, got {value!r}")
