"""Many requests at once, a few at a time: all results, whatever fails, and no task that outlives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeAlias, cast

from resilience import _arguments
from resilience_httpx._packages import classes, httpx
from resilience_httpx._request_options import AsyncClient, build_request

_REQUESTS: Any = classes(httpx.Request)
_URLS: Any = (str, *classes(httpx.URL))

BatchRequest: TypeAlias = (
    httpx.Request
    | str
    | httpx.URL
    | tuple[str, str | httpx.URL]
    | tuple[str, str | httpx.URL, Mapping[str, Any]]
)
"""One request of a batch: a request, a URL for GET, a method and a URL, or these with the arguments that
``client.request`` takes, such as ``("POST", "/users", {"json": {...}})``."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one request: a response or an error.

    Attributes:
        index: Its place among the requests, from 0.
        request: The request as it was given.
        response: The response, whatever its status, or ``None`` if there is an error.
        error: The error, or ``None`` if there is a response.
    """

    index: int
    request: BatchRequest = field(repr=False)  # it may hold secrets
    response: httpx.Response | None = None
    error: Exception | None = None

    def get(self) -> httpx.Response:
        """Return the response, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("httpx.Response", self.response)


class BatchResults(tuple[BatchResult, ...]):
    """The results of a batch, in the order of its requests."""

    __slots__ = ()

    @property
    def responses(self) -> list[httpx.Response]:
        """The responses, without the requests that failed."""
        return [result.response for result in self if result.response is not None]

    @property
    def errors(self) -> dict[int, Exception]:
        """The errors, by the places of their requests."""
        return {result.index: result.error for result in self if result.error is not None}

    def raise_errors(self) -> None:
        """Raise all errors as an ``ExceptionGroup``, if there are any."""
        errors = [*self.errors.values()]
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(self)} requests failed", errors)


class Batch:
    """A batch of requests that has not begun; made by ``client.batch``.

    ``await batch`` gives all results, in the order of the requests. ``async for result in batch`` gives
    each as soon as it is there; one who may leave that loop early writes ``async with batch:`` around it,
    so that the rest has ended where the block ends. It can be used once.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        requests: Iterable[BatchRequest],
        *,
        max_concurrent: int,
        fail_fast: bool,
        on_progress: Callable[[int, int | None], object] | None,
    ) -> None:
        total = len(requests) if isinstance(requests, Sized) else None
        self._results = _results(
            client,
            requests,
            max_concurrent,
            fail_fast,
            _ignore if on_progress is None else lambda done: on_progress(done, total),
        )
        self._used = False

    def __await__(self) -> Generator[Any, None, BatchResults]:
        return self._all().__await__()

    def __aiter__(self) -> AsyncGenerator[BatchResult, None]:
        if self._used:
            raise RuntimeError("a batch can be used once; make a new one")
        self._used = True
        return self._results

    async def __aenter__(self) -> Batch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._results.aclose()

    async def _all(self) -> BatchResults:
        async with self:
            results = [result async for result in self]
        return BatchResults(sorted(results, key=lambda result: result.index))


class Batching(AsyncClient):
    """Gives a client `batch`."""

    def batch(
        self,
        requests: Iterable[BatchRequest],
        *,
        max_concurrent: int = 5,
        fail_fast: bool = False,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> Batch:
        """Send many requests, a few at a time; each is a call of this client, with its retries and limits.

        Args:
            requests: The requests: each one an ``httpx.Request``, a URL for GET, ``(method, url)``, or
                ``(method, url, arguments)`` with those of ``client.request``. An iterator is asked for the
                next one when there is room for it.
            max_concurrent: How many may run at the same time, 1 or more.
            fail_fast: Whether the first error is raised, and ends all other requests. By default errors
                are kept with their results. A response is no error here, whatever its status, unless
                the client has ``raise_for_status``.
            on_progress: Called after each result with the number of results and of requests; the latter is
                ``None`` if ``requests`` has no length. What it raises ends the batch.

        Returns:
            The batch: ``await`` it for all results in the order of the requests, or iterate over it with
            ``async for`` to get each one when it is there. Nothing is sent before that. When the caller is
            cancelled, or leaves, every request that is still running is cancelled and awaited.

        Raises:
            TypeError: If an argument has the wrong type; a request of an iterator is checked when it
                comes, and ends the batch.
            ValueError: If ``max_concurrent`` is less than 1.

        Example:
            >>> import asyncio, httpx
            >>> from resilience_httpx import ResilientClient
            >>> def answer(request: httpx.Request) -> httpx.Response:
            ...     return httpx.Response(200, text=request.url.path)
            >>> async def main() -> None:
            ...     transport = httpx.MockTransport(answer)
            ...     async with ResilientClient("https://api.example.com", transport=transport) as client:
            ...         results = await client.batch(["/a", ("DELETE", "/b")], max_concurrent=2)
            ...         print([response.text for response in results.responses], results.errors)
            >>> asyncio.run(main())
            ['/a', '/b'] {}
        """
        return Batch(
            self,
            _several(requests),
            max_concurrent=_arguments.whole("max_concurrent", max_concurrent),
            fail_fast=_arguments.flag("fail_fast", fail_fast),
            on_progress=_arguments.optional(_arguments.plain_function, "on_progress", on_progress),
        )


def _several(requests: Any) -> Iterable[BatchRequest]:
    """Check the requests, each one if they are there already."""
    if isinstance(requests, (*_REQUESTS, *_URLS, bytes, Mapping)) or not isinstance(requests, Iterable):
        raise TypeError(
            f"requests must be several requests, got a {type(cast('object', requests)).__name__}"
        )
    several = cast("Iterable[BatchRequest]", requests)
    if isinstance(several, Sequence):
        for index, given in enumerate(several):
            _parts(index, given)
    return several


def _parts(index: int, given: Any) -> tuple[str, Any, Mapping[str, Any]]:
    """Return method, URL and arguments of a request."""
    match given:
        case (str() as method, url) if isinstance(url, _URLS):
            return method, url, {}
        case (str() as method, url, options) if isinstance(url, _URLS) and isinstance(options, Mapping):
            return method, url, cast("Mapping[str, Any]", options)
        case _ if isinstance(given, (*_REQUESTS, *_URLS)):
            return "GET", given, {}
        case _:
            raise TypeError(
                f"requests[{index}] must be a Request, a URL, (method, url) or (method, url, arguments), "
                f"got a {type(given).__name__}"
            )


async def _results(
    client: httpx.AsyncClient,
    requests: Iterable[BatchRequest],
    max_concurrent: int,
    fail_fast: bool,  # noqa: FBT001 - only called above
    on_progress: Callable[[int], object],
) -> AsyncGenerator[BatchResult, None]:
    """Give each result when it is there.

    No task refers to the generator, so one that is left half way is closed at once, and its tasks end.
    """
    ended: asyncio.Queue[asyncio.Task[BatchResult]] = asyncio.Queue()
    running: set[asyncio.Task[BatchResult]] = set()
    waiting = enumerate(requests)

    def start_more() -> None:
        while len(running) < max_concurrent:
            following = next(waiting, None)
            if following is None:
                return
            task = asyncio.create_task(_send(client, *following))
            running.add(task)
            task.add_done_callback(ended.put_nowait)

    done = 0
    try:
        start_more()
        while running:
            task = await ended.get()
            running.remove(task)
            result = task.result()
            if fail_fast:
                result.get()
            start_more()
            done += 1
            on_progress(done)
            yield result
    finally:
        await _end(running)


async def _send(client: httpx.AsyncClient, index: int, given: BatchRequest) -> BatchResult:
    method, url, options = _parts(index, given)
    request: Any = given
    sending: dict[str, Any] = {}
    try:
        if not isinstance(given, _REQUESTS):
            request, sending = build_request(client, method, url, options)
        response = await client.send(request, **sending)
    except Exception as error:
        return BatchResult(index, given, error=error)
    return BatchResult(index, given, response)


async def _end(tasks: set[asyncio.Task[BatchResult]]) -> None:
    """Cancel tasks and wait for their end, however often the one who waits is cancelled itself."""
    cancelled: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _ignore(done: int) -> None:
    pass
