"""Connections that a cancellation cannot lose.

A request that is cancelled between getting a connection and using it, or while its response is closed,
leaves httpcore 1.0 with a connection that nobody uses and that counts for ever: after as many of those as
the pool may hold, every request ends in ``PoolTimeout`` (httpcore#1093). httpcore2 has mended the first
half of it. Here the pool is looked through whenever a request fails or a response is not closed properly,
and at no other time: a request that succeeds costs nothing.
"""

# ruff: noqa: SLF001 - the pools have no public view of their requests and connections

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

from resilience_httpx._packages import AsyncByteStream, classes, httpx
from resilience_httpx._streams import Stepwise

_TRANSPORTS = classes(httpx.AsyncHTTPTransport)

_NOT_BEGUN = "CONNECTING"
"""What a connection says of itself until it has a socket."""


def keep(transport: Any) -> Any:
    """Make a transport of httpx or httpx2 lose no connection; any other is returned as it is."""
    if type(transport) in _TRANSPORTS:
        transport.__class__ = keeping(transport.__class__, http2=transport._pool._http2)
    return transport


@functools.cache
def keeping(transport: Any, *, http2: bool) -> type[Any]:
    """Return a class of transports that is like ``AsyncHTTPTransport`` and loses no connection."""
    bases = (Stepwise, _Keeping, transport) if http2 else (_Keeping, transport)
    return type(transport.__name__, bases, {"__module__": __name__})


class _Keeping:
    """Mixed into the ``AsyncHTTPTransport`` of httpx or httpx2, whose pool has no public view."""

    _pool: Any

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        handle: Any = super()
        # By this object the pool's request is found; the caller may be sending the same one twice at once.
        mark = request.extensions = {**request.extensions}
        try:
            response: httpx.Response = await handle.handle_async_request(request)
        except BaseException:
            _mend(self._pool, mark)
            raise
        response.stream = _Body(response.stream, self._pool, mark)
        return response


class _Body(AsyncByteStream):
    """The body of a response; gives the connection back even if it is interrupted while it does so."""

    def __init__(self, source: Any, pool: Any, mark: object) -> None:
        self._source = source
        self._pool = pool
        self._mark = mark
        self._interrupted = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                yield chunk
        except BaseException:
            self._interrupted = True
            raise

    async def aclose(self) -> None:
        try:
            await self._source.aclose()
        except BaseException:
            self._interrupted = True
            raise
        finally:
            if self._interrupted:
                _mend(self._pool, self._mark)


def _mend(pool: Any, mark: object) -> None:
    """Take a request that has ended out of its pool, and connections that nobody uses."""
    for each in [*pool._requests]:
        if each.request.extensions is mark:
            pool._requests.remove(each)
    used = {id(each.connection) for each in pool._requests}
    lost = [each for each in pool._connections if id(each) not in used and _is_lost(each)]
    for connection in lost:
        pool._connections.remove(connection)
    _close([*lost, *pool._assign_requests_to_connections()])


def _is_lost(connection: Any) -> bool:
    """Whether a connection that no request has waits for one that has gone."""
    if connection.info() == _NOT_BEGUN:
        return True
    return not (connection.is_idle() or connection.is_available() or connection.is_closed())


_closing: set[asyncio.Task[None]] = set()


def _close(connections: list[Any]) -> None:
    """Close connections in a task: the one that was cancelled may be cancelled again."""
    for connection in connections:
        task = asyncio.create_task(connection.aclose())
        _closing.add(task)
        task.add_done_callback(_closing.discard)
