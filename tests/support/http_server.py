"""A loopback HTTP server that plays a script and remembers everything that it received."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

Step = Callable[[asyncio.StreamWriter], Awaitable[bool]]
"""Answers one request; returns whether the connection stays open."""


@dataclass(frozen=True)
class Received:
    """One request as the server saw it; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Server:
    """What the tests see: ``script`` what it answers, then look at what it ``received``."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.otherwise = reply()
        self.early: dict[str, Step] = {}
        """What answers a request to a path before its body has been read, and closes the connection."""

        self._scripts: dict[str, list[Step]] = {}
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def lines(self) -> list[str]:
        """The requests in short: method and path."""
        return [f"{each.method} {each.path}" for each in self.received]

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def script(self, path: str, *steps: Step) -> None:
        """Answer requests to a path one after the other; after the last comes ``otherwise``."""
        self._scripts[path] = list(steps)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while head := await _read_head(reader):
                if early := self.early.pop(head.path, None):
                    self.received.append(head)
                    await early(writer)
                    await reader.read()  # until the client hangs up
                    return
                request = replace(head, body=await _read_body(reader, head.headers))
                self.received.append(request)
                self.arrived.set()
                steps = self._scripts.get(request.path.partition("?")[0], [])
                step = steps.pop(0) if steps else self.otherwise
                if not await step(writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def abort(self) -> None:
        for writer in self._open.copy():
            writer.transport.abort()


@asynccontextmanager
async def http_server() -> AsyncIterator[Server]:
    """Serve on a free loopback port."""
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        server.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- What it can answer -----------------------------------------------------------------------------


def reply(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"ok",
    *,
    announced: int | None = None,
    then_close: bool = False,
) -> Step:
    """Answer; ``announced`` is the length to claim, ``then_close`` hangs up without having said so."""

    async def step(writer: asyncio.StreamWriter) -> bool:
        length = len(body) if announced is None else announced
        fields = {"Content-Length": str(length), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + body)
        await writer.drain()
        return not then_close

    return step


def truncated(status: int = 200) -> Step:
    """Break the body off."""
    return reply(status, body=b"half", announced=8, then_close=True)


def redirect(location: str, status: int = 307) -> Step:
    return reply(status, {"Location": location}, b"")


def reset(*, after_headers: bool = False) -> Step:
    """Reset the connection, before or after the headers."""

    async def step(writer: asyncio.StreamWriter) -> bool:
        if after_headers:
            await reply(announced=8, body=b"")(writer)
            await asyncio.sleep(0.01)  # else the reset overtakes the headers
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False

    return step


async def hang_up(writer: asyncio.StreamWriter) -> bool:
    """Close the connection without an answer, as for a stale kept-alive one."""
    return False


async def never(writer: asyncio.StreamWriter) -> bool:
    """Never answer."""
    await asyncio.Event().wait()
    return False


def drip(step_over: asyncio.Event, status: int = 200) -> Step:
    """Send the headers and a byte; the rest only when ``step_over`` is set."""

    async def step(writer: asyncio.StreamWriter) -> bool:
        await reply(status, body=b"h", announced=4)(writer)
        await step_over.wait()
        writer.write(b"alf")
        await writer.drain()
        return True

    return step


async def garbage(writer: asyncio.StreamWriter) -> bool:
    """Answer something that is not HTTP."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await writer.drain()
    return False


# --- What it reads ----------------------------------------------------------------------------------


async def _read_head(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, path, _ = first.split(" ", 2)
    return Received(method, path, headers, b"")


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body
