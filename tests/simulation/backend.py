"""A server in virtual time: workers, a queue, and the ways in which it can get into trouble."""

import asyncio
import random
from collections import deque


class DownError(Exception):
    """The server fails every request, at once."""


class FullError(Exception):
    """The queue of the server is full."""


class Backend:
    """Serves requests in the order in which they came, ``capacity`` of them at the same time.

    Like most servers it does not notice that a client has gone away: it serves the request all the same.

    Args:
        capacity: How many requests it works on at once; may be set at any time.
        service_time: Seconds that one takes on average.
        network: Seconds that an answer needs to come back.
        spread: The part by which a service time is shorter or longer at most.
        queue: How many requests wait for a worker at most; ``None``: all of them.
        seed: Of the random service times.

    Attributes:
        is_down: Set it to make every request fail.
        received: How many requests came in.
        answered: How many were answered while the client was still there.
        refused: How many found the queue full.
    """

    def __init__(
        self,
        capacity: int = 20,
        service_time: float = 0.1,
        *,
        network: float = 0.0,
        spread: float = 0.2,
        queue: int | None = None,
        seed: int = 1,
    ) -> None:
        self.capacity = capacity
        self.service_time = service_time
        self.is_down = False
        self.received = self.answered = self.refused = 0
        self._network = network
        self._spread = spread
        self._room = queue
        self._random = random.Random(seed)
        self._busy = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many requests wait for a worker, those of clients that are gone included."""
        return len(self._queue)

    async def serve(self) -> None:
        """Send a request and wait for the answer."""
        self.received += 1
        if self.is_down:
            await asyncio.sleep(self.service_time / 10)
            raise DownError
        if self._room is not None and self.waiting >= self._room and self._busy >= self.capacity:
            self.refused += 1
            raise FullError
        request = asyncio.get_running_loop().create_future()
        self._queue.append(request)
        self._start()
        await request
        await asyncio.sleep(self._network)
        self.answered += 1

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue and self._busy < self.capacity:
            self._busy += 1
            seconds = self.service_time * self._random.uniform(1 - self._spread, 1 + self._spread)
            loop.call_later(seconds, self._end, self._queue.popleft())

    def _end(self, request: "asyncio.Future[None]") -> None:
        self._busy -= 1
        if not request.done():  # else the client has gone
            request.set_result(None)
        self._start()
