"""Requests over HTTP/2 that a cancellation does not interrupt half way.

All requests to a server share one connection there, and its state: which headers were compressed how,
which streams are free. httpcore and httpcore2 change that state and then wait; a task that is cancelled
meanwhile leaves it wrong, and the requests of others fail or wait for ever. So each step on such a
connection is a task of its own. Who is cancelled does not wait for it; it goes on to its end, at the latest
by the time limits of httpx, and then the stream is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from resilience_httpx._packages import AsyncByteStream, httpx

_SHORT = 65_536


class Stepwise:
    """Mixed into an ``AsyncHTTPTransport`` of httpx or httpx2 that speaks HTTP/2."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        handle: Any = super()
        steps = self._steps()
        sending = steps.start(handle.handle_async_request(request))
        try:
            response: httpx.Response = await asyncio.shield(sending)
        except asyncio.CancelledError:
            steps.start(_give_back(sending))
            raise
        response.stream = _Body(response.stream, steps)
        return response

    async def aclose(self) -> None:
        handle: Any = super()
        await handle.aclose()
        await self._steps().end()

    async def __aexit__(self, *exception: Any) -> None:
        handle: Any = super()
        await handle.__aexit__(*exception)
        await self._steps().end()

    def _steps(self) -> Steps:
        steps: Steps = vars(self).setdefault("_resilience_steps", Steps())
        return steps


class Steps:
    """The steps of a transport that are under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, step: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a step that nobody has to wait for."""
        task = asyncio.create_task(step)
        self._running.add(task)
        task.add_done_callback(self._note_end)
        return task

    async def end(self) -> None:
        """Wait for the steps to end; their connections are closed."""
        if self._running:
            await asyncio.wait(self._running)

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # if nobody waits, it concerns nobody


class _Body(AsyncByteStream):
    """The body of a response, read step by step."""

    def __init__(self, source: Any, steps: Steps) -> None:
        self._source = source
        self._chunks: AsyncIterator[bytes] = aiter(source)
        self._steps = steps
        self._reading: asyncio.Task[bytes | None] | None = None
        self._is_at_end = False
        self._is_given_back = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._is_at_end:
            self._reading = self._steps.start(_next(self._chunks))
            chunk = await asyncio.shield(self._reading)
            if chunk is not None:
                yield chunk
            self._is_at_end = chunk is None

    async def aclose(self) -> None:
        if self._is_at_end:
            await asyncio.shield(self._steps.start(self._source.aclose()))
        elif not self._is_given_back:  # the rest is up to the server, and nobody has to wait for it
            self._is_given_back = True
            self._steps.start(self._give_back())

    async def _give_back(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading])
        await _drain(self._source, self._chunks)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _give_back(sending: asyncio.Task[httpx.Response]) -> None:
    source: Any = (await sending).stream
    await _drain(source, aiter(source))


async def _drain(source: Any, chunks: AsyncIterator[bytes]) -> None:
    """Read a short rest: the server counts a stream until its end, httpcore until it is closed."""
    size = 0
    try:
        while size < _SHORT and (chunk := await anext(chunks, None)) is not None:
            size += len(chunk)
    finally:
        await source.aclose()
