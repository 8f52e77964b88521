"""The HTTP client beside what people would use instead: requests a second, and CPU time of each request.

    python -m tests.benchmarks.http_clients [--out FILE.json] [--loop asyncio|uvloop] [--quick]

One process, one run: a server in a process of its own; the clients take turns, round after round, each with
1 connection and with 32; the figures are medians over the rounds, the ratios medians of ratios within a
round. No path is asked for twice, so that nobody gains by remembering one. Only the ratios mean anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import httpx2
import httpx_aiohttp

import resilience_httpx.httpx2
from resilience import circuit_breaker, rate_limited, retry
from resilience_httpx import BearerAuth, ResilientClient
from tests.benchmarks import results

BODY = b'{"login": "ada", "name": "Ada Lovelace", "bio": "' + b"x" * 160 + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)

CONNECTIONS = (1, 32)
ROUNDS, QUICK_ROUNDS = 9, 2
SECONDS, QUICK_SECONDS = 1.0, 0.1

BELOW = {"ours on httpx": "httpx", "ours on httpx2": "httpx2", "ours on aiohttp": "httpx-aiohttp"}
"""What carries the requests of ours."""

SERVE = "import asyncio; from tests.benchmarks.http_clients import serve; asyncio.run(serve())"

Get = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Round:
    """What one client did in one round."""

    rate: float  # requests a second
    cpu: float  # seconds of each


class Server(asyncio.Protocol):
    """Answers everything the same; as little work as a server can do."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve() -> None:
    """Serve on a free port, tell it, and go on until the other side hangs up."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Run the server in a process of its own; yield its URL."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        server.communicate("")


def policies() -> dict[str, Any]:
    """Return every policy of the client, none of which ever says no."""
    return {
        "retry": retry(attempts=4),
        "rate_limit": rate_limited(10**9, burst=10**9),
        "circuit_breaker": circuit_breaker(failure_threshold=5),
        "auth": BearerAuth("token"),
    }


def paths() -> Iterator[str]:
    """Return paths, each of them once."""
    return (f"/users/{number}" for number in itertools.count())


@contextlib.asynccontextmanager
async def httpx_like(client: Any) -> AsyncIterator[Get]:
    path = paths()
    async with client:

        async def get() -> Any:
            return (await client.get(next(path))).json()

        yield get


@contextlib.asynccontextmanager
async def aiohttp_with_retry(connections: int, url: str) -> AsyncIterator[Get]:
    import aiohttp_retry

    path = paths()
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = aiohttp_retry.RetryClient(
            session, retry_options=aiohttp_retry.ExponentialRetry(attempts=4)
        )

        async def get() -> Any:
            async with client.get(url + next(path)) as response:
                return await response.json()

        yield get


def clients(connections: int, url: str) -> dict[str, Any]:
    """Return what is compared; each is a context that gives a function to call."""
    limits = httpx.Limits(max_connections=connections)
    limits2 = httpx2.Limits(max_connections=connections)
    twin = resilience_httpx.httpx2.ResilientClient
    made = {
        "httpx": httpx.AsyncClient(base_url=url, limits=limits),
        "ours on httpx": ResilientClient(url, limits=limits, **policies()),
        "httpx2": httpx2.AsyncClient(base_url=url, limits=limits2),
        "ours on httpx2": twin(url, limits=limits2, **policies()),
        "httpx-aiohttp": httpx_aiohttp.HttpxAiohttpClient(base_url=url, limits=limits),
        "ours on aiohttp": ResilientClient(url, limits=limits, backend="aiohttp", **policies()),
    }
    contexts: dict[str, Any] = {name: httpx_like(client) for name, client in made.items()}
    return {**contexts, "aiohttp, aiohttp-retry": aiohttp_with_retry(connections, url)}


async def measure(get: Get, connections: int, seconds: float) -> Round:
    """Let as many callers as there are connections ask as often as they can."""
    done = 0
    end = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await get()
            done += 1

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(connections)))
    return Round(done / (time.perf_counter() - began), (time.process_time() - cpu) / done)


async def compare(url: str, connections: int, *, quick: bool) -> dict[str, list[Round]]:
    """Let the clients take turns; return the rounds of each."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    async with contextlib.AsyncExitStack() as stack:
        gets = {
            name: await stack.enter_async_context(context)
            for name, context in clients(connections, url).items()
        }
        taken: dict[str, list[Round]] = {name: [] for name in gets}
        for number in range(rounds + 1):
            for name in gets if number % 2 else reversed([*gets]):
                result = await measure(gets[name], connections, seconds)
                if number:  # the first one opens connections and warms up
                    taken[name].append(result)
    return taken


def summary(taken: dict[str, list[Round]]) -> list[dict[str, Any]]:
    """Return what is told of each client."""
    return [
        {
            "client": name,
            "requests a second": statistics.median(each.rate for each in mine),
            "CPU": statistics.median(each.cpu for each in mine),
            "to httpx": _ratio(mine, taken["httpx"]),
            "to the transport below": _ratio(mine, taken[BELOW[name]]) if name in BELOW else None,
        }
        for name, mine in taken.items()
    ]


def _ratio(mine: list[Round], others: list[Round]) -> float:
    return statistics.median(mine.rate / other.rate for mine, other in zip(mine, others, strict=True))


def rows(runs: Sequence[dict[str, Any]]) -> str:
    """Return the tables of some runs as Markdown."""
    tables = [
        _table(f"CPython {run['python']}, {run['loop']}", connections, told)
        for run in runs
        for connections, told in run["connections"].items()
    ]
    return "\n\n".join(tables)


def _table(where: str, connections: str, told: list[dict[str, Any]]) -> str:
    lines = [
        f"| {where}; connections: {connections} | requests/s | CPU of each, µs | x httpx | x below |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in told:
        below = each["to the transport below"]
        lines.append(
            f"| {each['client']} | {each['requests a second']:,.0f} | {each['CPU'] * 1e6:.0f} "
            f"| {each['to httpx']:.2f} | {'' if below is None else f'{below:.2f}'} |"
        )
    return "\n".join(lines)


async def _compare_all(*, quick: bool) -> dict[str, Any]:
    with running_server() as url:
        taken = {str(each): await compare(url, each, quick=quick) for each in CONNECTIONS}
    return {"connections": {each: summary(rounds) for each, rounds in taken.items()}}


def main() -> None:
    """Measure, write what was asked for, and print the tables."""
    options = results.arguments("The HTTP client beside what people would use instead.").parse_args()
    told = results.run(_compare_all(quick=options.quick), options.loop)
    results.write(told, options.out)
    print(rows([told]))


if __name__ == "__main__":
    main()
