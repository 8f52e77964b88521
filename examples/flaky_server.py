"""A directory of users that is hard to live with: the server of `quickstart.py`, a process of its own.

It answers ``GET /users/<number>`` and misbehaves on a schedule that depends on nothing but the seed:

- more than 50 requests in one second: 429 with ``Retry-After``;
- of every 100 requests that it admits, 15 get a 503, 2 a connection reset, 2 a body that breaks off, and
  5 a slow answer;
- for 2 seconds of every run it is gone: all connections are reset after a while.

``POST /control/run?outage_after=1.5`` starts a run, with new statistics and the schedule from its
beginning; ``GET /control/statistics`` tells what arrived in it. Both always work. The server prints its
address, and ends with the process that started it. By hand: ``python examples/flaky_server.py --seed 7``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

REQUESTS_PER_SECOND = 50
FAULTS = {"unavailable": 15, "reset": 2, "broken_body": 2}  # of 100 admitted requests
SLOW_ANSWERS = 5  # of 100 as well
OUTAGE_SECONDS = 2.0
SECONDS_TO_NOTICE = 0.25  # how long a request to the vanished server hangs


class Answer(NamedTuple):
    """What the schedule has in store for a request."""

    outcome: str
    delay: float


class Run:
    """The schedule and the statistics of one run; its clock starts with its first request."""

    def __init__(self, seed: int, outage_after: float) -> None:
        self.received: Counter[str] = Counter()
        self._schedule = schedule(seed)
        self._admitted: deque[float] = deque()
        self._outage_after = outage_after
        self._started: float | None = None

    def next_answer(self, now: float) -> Answer:
        """Decide what becomes of a request that arrives now."""
        if self._started is None:
            self._started = now
        answer = self._decide(now, now - self._started)
        self.received[answer.outcome] += 1
        return answer

    def _decide(self, now: float, elapsed: float) -> Answer:
        if self._outage_after <= elapsed < self._outage_after + OUTAGE_SECONDS:
            return Answer("outage", SECONDS_TO_NOTICE)
        if not self._admit(now):
            return Answer("rate_limited", 0.05)
        return next(self._schedule)

    def _admit(self, now: float) -> bool:
        while self._admitted and self._admitted[0] <= now - 1:
            self._admitted.popleft()
        if len(self._admitted) >= REQUESTS_PER_SECOND:
            return False
        self._admitted.append(now)
        return True

    def statistics(self) -> dict[str, int]:
        """Return how many requests were received, in total and by what became of them."""
        outcomes = ("ok", "rate_limited", *FAULTS, "outage")
        return {"received": self.received.total()} | {each: self.received[each] for each in outcomes}


def schedule(seed: int) -> Iterator[Answer]:
    """Yield the answers of a run for ever: a deck of 100, shuffled anew each time it is used up."""
    source = random.Random(seed)
    faults = [outcome for outcome, count in FAULTS.items() for _ in range(count)]
    outcomes = faults + ["ok"] * (100 - len(faults))
    slow = [True] * SLOW_ANSWERS + [False] * (100 - SLOW_ANSWERS)
    while True:
        source.shuffle(outcomes)
        source.shuffle(slow)
        for outcome, is_slow in zip(outcomes, slow, strict=True):
            yield Answer(outcome, source.uniform(0.4, 0.8) if is_slow else source.uniform(0.04, 0.12))


class FlakyServer:
    """Speaks as much HTTP/1.1 as its one caller needs."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._run = Run(seed, outage_after=1.0)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until one of the two sides ends it."""
        try:
            while not writer.is_closing():
                method, target, _ = (await reader.readuntil(b"\r\n")).decode("ascii").split()
                while await reader.readuntil(b"\r\n") != b"\r\n":  # no request of ours has a body
                    pass
                await self._answer(method, target, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller is gone
        finally:
            writer.close()

    async def _answer(self, method: str, target: str, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        match method, url.path.strip("/").split("/"):
            case "POST", ["control", "run"]:
                self._run = Run(self._seed, float(parse_qs(url.query)["outage_after"][0]))
                await respond(writer, HTTPStatus.CREATED, {})
            case "GET", ["control", "statistics"]:
                await respond(writer, HTTPStatus.OK, self._run.statistics())
            case "GET", ["users", number] if number.isdecimal():
                await self._look_up(int(number), writer)
            case _:
                await respond(writer, HTTPStatus.NOT_FOUND, {"error": f"no {method} {url.path}"})

    async def _look_up(self, number: int, writer: asyncio.StreamWriter) -> None:
        outcome, delay = self._run.next_answer(time.monotonic())
        await asyncio.sleep(delay)
        user = {"id": number, "name": f"User {number}"}
        match outcome:
            case "ok":
                await respond(writer, HTTPStatus.OK, user)
            case "broken_body":
                await respond(writer, HTTPStatus.OK, user, break_off=True)
            case "unavailable":
                await respond(writer, HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again"})
            case "rate_limited":
                await respond(writer, HTTPStatus.TOO_MANY_REQUESTS, {"error": "too fast"}, retry_after=1)
            case _:
                reset(writer)


async def respond(
    writer: asyncio.StreamWriter,
    status: HTTPStatus,
    content: object,
    *,
    retry_after: int | None = None,
    break_off: bool = False,
) -> None:
    """Send a response; ``break_off`` announces the whole body and sends half of it."""
    body = json.dumps(content).encode()
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if retry_after is not None:
        head.append(f"Retry-After: {retry_after}")
    sent = body[: len(body) // 2] if break_off else body
    writer.write("\r\n".join([*head, "", ""]).encode("ascii") + sent)
    await writer.drain()
    if break_off:
        writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection the hard way: without lingering, the caller's side sees a reset."""
    no_linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    writer.transport.abort()


def end_with_parent() -> None:
    """End the process when its standard input does, so that it never outlives who started it."""
    while os.read(0, 1024):
        pass
    os._exit(0)


async def serve(seed: int) -> None:
    """Serve on a free port of the loopback interface, for ever."""
    server = await asyncio.start_server(FlakyServer(seed).handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A server that misbehaves on a schedule.")
    parser.add_argument("--seed", type=int, default=1, help="decides the schedule (default: %(default)s)")
    try:
        asyncio.run(serve(parser.parse_args().seed))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
