"""Reading bodies of responses, so that no connection is lost or held by a response that nobody wants.

A connection can be used again only when the body of its response has been read. A response that may be
thrown away for another attempt is therefore *held*: its body is read up to a limit, as it comes over the
wire (a few kilobytes may unpack to gigabytes), and stays readable as if it had not been.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Any

from resilience_httpx._packages import AsyncByteStream, classes, httpx

_REQUEST_ERRORS = classes(httpx.RequestError)

HOLD_AT_MOST = 64 * 1024
"""Bytes on the wire; a connection that would bring more is not worth keeping."""

LONGEST_BODY = 64 * 1024
"""Bytes of the unpacked body of an error that are looked at; a longer one says nothing."""


class HeldBody(AsyncByteStream):
    """A body of which the beginning has been read.

    Args:
        beginning: The chunks read so far.
        rest: What has not been read, or ``None`` if that was all.
        source: The stream that the connection belongs to.
    """

    def __init__(
        self, beginning: list[bytes], rest: AsyncIterator[bytes] | None, source: httpx.AsyncByteStream
    ) -> None:
        self._beginning = beginning
        self._rest = rest
        self._source = source

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been read, so that it needs no connection any more."""
        return self._rest is None

    @property
    def held(self) -> bytes | None:
        """All of it as it came over the wire, or ``None`` if there is more."""
        return b"".join(self._beginning) if self.is_complete else None

    @property
    def elapsed(self) -> Any:
        """How long the response took, which httpx2 asks its body for."""
        return getattr(self._source, "elapsed", None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._beginning:
            yield chunk
        if self._rest is not None:
            async for chunk in self._rest:
                yield chunk

    async def aclose(self) -> None:
        """Give the connection back, if it is still held."""
        rest, self._rest = self._rest, None
        if rest is not None:
            await _close(rest, self._source)


async def hold(response: httpx.Response) -> None:
    """Read a body up to the limit, give the connection back if that was all, and keep it readable."""
    if response.is_closed or response.is_stream_consumed:
        return
    source: Any = response.stream
    chunks = aiter(source)
    beginning: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            beginning.append(chunk)
            size += len(chunk)
            if size > HOLD_AT_MOST:
                response.stream = HeldBody(beginning, chunks, source)
                return
        await source.aclose()
    except BaseException as error:
        if isinstance(error, _REQUEST_ERRORS):
            error.request = response.request
        await _close(chunks, source)
        raise
    response.stream = HeldBody(beginning, None, source)


def is_half_read(response: httpx.Response) -> bool:
    """Whether a response was held and keeps its connection for the rest of its body."""
    return isinstance(response.stream, HeldBody) and not response.stream.is_complete


async def read(response: httpx.Response) -> None:
    """Read a body to its end; give the connection back whatever happens."""
    try:
        await response.aread()
    except BaseException:
        await response.aclose()
        raise


async def read_if_short(response: httpx.Response) -> None:
    """Read a body that goes with an error, and close its response: a long one is not read.

    One that unpacks to more is a long one, and so is one of which only unpacking would tell.
    """
    await hold(response)
    held = response.stream.held if isinstance(response.stream, HeldBody) else None
    body = None if held is None else unpacked(held, response.headers)
    if body is None or len(body) > LONGEST_BODY:
        await response.aclose()
    else:
        await read(response)


def unpacked(body: bytes, headers: httpx.Headers) -> bytes | None:
    """Unpack a body as its headers say, no more of it than is looked at; ``None`` if that cannot be."""
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        return None
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, LONGEST_BODY + 1)
    except zlib.error:
        return None


async def _close(chunks: Any, source: httpx.AsyncByteStream) -> None:
    try:
        if hasattr(chunks, "aclose"):  # a generator that is left half way closes its connection late
            await chunks.aclose()
    finally:
        await source.aclose()
