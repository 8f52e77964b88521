"""A loopback server of HTTP/2 without TLS, which answers each request after some turns of the loop."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings


class HTTP2Server:
    """What the tests see: how many requests and connections came.

    ``/never`` gets no answer, ``/half`` half of one, and at ``/hang-up`` the server hangs up.
    """

    def __init__(self, chance: random.Random, streams: int) -> None:
        self.url = ""
        self.connections = 0
        self.requests = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._chance = chance
        self._streams = streams

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = H2Connection(H2Configuration(client_side=False))
        # Of a setting that is changed later, both sides would think otherwise for a while.
        connection.local_settings = Settings(
            client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: self._streams}
        )
        connection.initiate_connection()
        answers: list[asyncio.Task[None]] = []
        try:
            while True:
                writer.write(connection.data_to_send())
                data = await reader.read(65_536)
                if not data:
                    return
                for event in connection.receive_data(data):
                    if isinstance(event, RequestReceived):
                        self.requests += 1
                        answer = self._answer(connection, event, writer)
                        answers.append(self._start(answer))
        except (ConnectionError, ProtocolError):
            pass
        finally:
            for task in answers:
                task.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
            self._open.discard(writer)
            writer.transport.abort()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._start(self.serve(reader, writer))

    async def aclose(self) -> None:
        running = [*self.tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for writer in self._open:  # of tasks that had not begun
            writer.transport.abort()
        await asyncio.sleep(0)  # in which the sockets are closed

    async def _answer(
        self, connection: H2Connection, request: RequestReceived, writer: asyncio.StreamWriter
    ) -> None:
        path = dict(request.headers)[b":path"]
        if path == b"/never":
            return
        if path == b"/hang-up":
            writer.close()
            return
        await self._turns(20)
        connection.send_headers(request.stream_id, [(":status", "200")])
        connection.send_data(request.stream_id, b"o")
        writer.write(connection.data_to_send())
        if path == b"/half":
            return
        await self._turns(10)
        connection.send_data(request.stream_id, b"k", end_stream=True)
        writer.write(connection.data_to_send())

    async def _turns(self, most: int) -> None:
        for _ in range(self._chance.randrange(most)):
            await asyncio.sleep(0)


@asynccontextmanager
async def http2_server(*, seed: int = 1, streams: int = 100) -> AsyncIterator[HTTP2Server]:
    """Serve on a free loopback port; a connection may have so many streams at once."""
    server = HTTP2Server(random.Random(seed), streams)
    listener = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.aclose()
