"""The HTTP client beside what people would use instead: requests a second, and CPU time of each request.

    python tests/benchmarks/http_clients.py [SECONDS]

One process, one run: a server in a process of its own; the clients take turns, round after round, each with
1 connection and with 32; the figures are medians over the rounds. Only the ratios mean anything.
"""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import httpx
import httpx2
import httpx_aiohttp

import resilience_httpx.httpx2
from resilience import circuit_breaker, rate_limited, retry
from resilience_httpx import BearerAuth, ResilientClient

BODY = b'{"login": "ada", "name": "Ada Lovelace", "bio": "' + b"x" * 160 + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)

CONNECTIONS = (1, 32)
ROUNDS = 7

Get = Callable[[], Awaitable[Any]]


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


def policies() -> dict[str, Any]:
    """Return every policy of the client, none of which ever says no."""
    return {
        "retry": retry(attempts=4),
        "rate_limit": rate_limited(10**9, burst=10**9),
        "circuit_breaker": circuit_breaker(failure_threshold=5),
        "auth": BearerAuth("token"),
    }


@contextlib.asynccontextmanager
async def httpx_like(client: Any, url: str) -> AsyncIterator[Get]:
    async with client:

        async def get() -> Any:
            return (await client.get(url)).json()

        yield get


@contextlib.asynccontextmanager
async def aiohttp_with_retry(connections: int, url: str) -> AsyncIterator[Get]:
    import aiohttp_retry

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = aiohttp_retry.RetryClient(
            session, retry_options=aiohttp_retry.ExponentialRetry(attempts=4)
        )

        async def get() -> Any:
            async with client.get(url) as response:
                return await response.json()

        yield get


def clients(connections: int, url: str) -> dict[str, Any]:
    """Return what is compared; each is a context that gives a function to call."""
    limits = httpx.Limits(max_connections=connections)
    limits2 = httpx2.Limits(max_connections=connections)
    twin = resilience_httpx.httpx2.ResilientClient
    made = {
        "httpx": httpx.AsyncClient(limits=limits),
        "ours on httpx": ResilientClient(limits=limits, **policies()),
        "httpx2": httpx2.AsyncClient(limits=limits2),
        "ours on httpx2": twin(limits=limits2, **policies()),
        "httpx-aiohttp": httpx_aiohttp.HttpxAiohttpClient(limits=limits),
        "ours on aiohttp": ResilientClient(limits=limits, backend="aiohttp", **policies()),
    }
    contexts: dict[str, Any] = {name: httpx_like(client, url) for name, client in made.items()}
    return {**contexts, "aiohttp, aiohttp-retry": aiohttp_with_retry(connections, url)}


async def measure(get: Get, connections: int, seconds: float) -> tuple[float, float]:
    """Return requests a second and CPU seconds of a request."""
    done = 0
    end = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await get()
            done += 1

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(connections)))
    return done / (time.perf_counter() - began), (time.process_time() - cpu) / done


async def compare(url: str, connections: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Let the clients take turns; return the medians of each."""
    async with contextlib.AsyncExitStack() as stack:
        gets = {
            name: await stack.enter_async_context(context)
            for name, context in clients(connections, url).items()
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in gets}
        for round_number in range(ROUNDS + 1):
            for name in gets if round_number % 2 else reversed([*gets]):
                result = await measure(gets[name], connections, seconds)
                if round_number:  # the first one opens connections and warms up
                    taken[name].append(result)
    return {
        name: (statistics.median(rate for rate, _ in results), statistics.median(cpu for _, cpu in results))
        for name, results in taken.items()
    }


def table(connections: int, results: dict[str, tuple[float, float]]) -> str:
    """Return the results as rows of Markdown."""
    base, _ = results["httpx"]
    below = {"ours on httpx": "httpx", "ours on httpx2": "httpx2", "ours on aiohttp": "httpx-aiohttp"}
    rows = [
        f"| connections: {connections} | requests/s | CPU, µs | x httpx | x below |",
        "|---|---|---|---|---|",
    ]
    for name, (rate, cpu) in results.items():
        share = f"{rate / results[below[name]][0]:.2f}" if name in below else ""
        rows.append(f"| {name} | {rate:,.0f} | {cpu * 1e6:.0f} | {rate / base:.2f} | {share} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, and print the tables."""
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        for connections in CONNECTIONS:
            print(
                table(connections, asyncio.run(compare(url, connections, seconds))), end="\n\n", flush=True
            )
        server.communicate("")


if __name__ == "__main__":
    main()
