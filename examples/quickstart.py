"""600 look-ups against a server that fails, three times over: what policies make of the same calls.

The server (`flaky_server.py`, a real one in another process) allows 50 requests a second, fails one in
five, and is gone for two seconds in the middle of every run. One function looks up 120 users, 20 at a
time: with plain httpx, under the six decorators, and with the ready-made client in place of httpx's.
Run ``python examples/quickstart.py``: the exit status is 0 if the resilient runs lost no call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

try:
    import httpx
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from tenacity import wait_random_exponential

    from resilience import (
        CircuitBreakerOpenError,
        Event,
        ResilienceError,
        RetryBudget,
        cached,
        circuit_breaker,
        map_errors,
        rate_limited,
        retry,
        subscribe,
        track_metrics,
    )
    from resilience_httpx import (
        NetworkError,
        RateLimitError,
        RequestTimeoutError,
        ResilientClient,
        ServerError,
    )
except ModuleNotFoundError as missing:
    sys.exit(f'{missing}. The demo needs its extra: pip install "async-resilience[demo]"')

User: TypeAlias = dict[str, Any]


# --- The calls, and the policies around them --------------------------------------------------------


async def fetch_user(client: httpx.AsyncClient, number: int) -> User:
    """Look up a user, as one does without this library."""
    response = await client.get(f"/users/{number}")
    response.raise_for_status()
    user: User = response.json()
    return user


class DirectoryError(Exception):
    """The directory could not answer: all that a caller of `get_user` has to know."""


OUTAGE = (NetworkError, RequestTimeoutError, ServerError)
WAIT = wait_random_exponential(multiplier=0.1, max=2)  # seconds; any strategy of tenacity's will do
BUDGET = RetryBudget(min_per_second=50)  # generous, as here no call may be lost


@map_errors({ResilienceError: DirectoryError})
@track_metrics("directory.get_user")
@cached(ttl=60)
@retry(
    attempts=None,  # as many as fit into the deadline
    deadline=30,
    on=(*OUTAGE, RateLimitError, CircuitBreakerOpenError),  # named, an open circuit is waited out
    wait=WAIT,
    budget=BUDGET,
)
@circuit_breaker(failure_rate=0.5, window=20, minimum_calls=10, recovery_timeout=0.5, on=OUTAGE)
@rate_limited(45)
async def get_user(client: httpx.AsyncClient, number: int) -> User:
    """Look up a user, whatever the server does."""
    return await fetch_user(client, number)


def plain_client(base_url: str) -> httpx.AsyncClient:
    """Make httpx's client."""
    return httpx.AsyncClient(base_url=base_url)


def client_for_decorators(base_url: str) -> ResilientClient:
    """Make a client that only tells errors apart, as the decorators do the rest."""
    return ResilientClient(base_url, retry=None, circuit_breaker=None, raise_for_status=True)


def ready_made_client(base_url: str) -> ResilientClient:
    """Make a client that does it all; it takes the place of httpx's client in code that exists."""
    return ResilientClient(
        base_url,
        retry=retry(attempts=None, deadline=30, wait=WAIT, budget=BUDGET),
        rate_limit=rate_limited(45),
        circuit_breaker=None,  # the client's circuit ends calls early in an outage; here none may be lost
    )


class Way(NamedTuple):
    """One way to make the calls."""

    title: str
    make_client: Callable[[str], httpx.AsyncClient]
    look_up: Callable[[httpx.AsyncClient, int], Awaitable[User]]
    half_time: float  # seconds until about half of 600 calls are made: then the outage begins


WAYS = [
    Way("plain httpx", plain_client, fetch_user, half_time=1.0),
    Way("six decorators", client_for_decorators, get_user, half_time=1.5),
    Way("ready-made client", ready_made_client, fetch_user, half_time=8.0),
]
LOOK_UPS = 600
USERS = 120
CONCURRENCY = 20


# --- Making them, and counting ----------------------------------------------------------------------


class Report:
    """What came of the calls that were made in one way."""

    def __init__(self) -> None:
        self.durations: list[float] = []  # seconds, of the calls that succeeded
        self.errors: Counter[str] = Counter()  # of the calls that were lost
        self.events: Counter[str] = Counter()  # what the policies did
        self.requests: dict[str, int] = {}  # what the server received
        self.seconds = 0.0

    @property
    def lost(self) -> int:
        """How many calls failed."""
        return self.errors.total()

    def figures(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "calls": len(self.durations) + self.lost,
            "succeeded": len(self.durations),
            "lost": self.lost,
            "errors": dict(self.errors),
            "p50": percentile(50, self.durations),
            "p95": percentile(95, self.durations),
            "seconds": self.seconds,
            "requests": self.requests,
            "retries": self.events["retry.scheduled"],
            "waits": self.events["rate_limit.waited"],
            "circuit_openings": self.events["circuit_breaker.opened"],
            "cache_hits": self.events["cache.hit"] + self.events["cache.coalesced"],
        }


def percentile(percent: int, values: list[float]) -> float | None:
    """Return the value that so many percent of the values do not exceed, if there are enough of them."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else None


async def try_way(way: Way, base_url: str, numbers: list[int], progress: Progress) -> Report:
    """Look up all users, 20 at a time, in one way."""
    report = Report()
    bar = progress.add_task(way.title, total=len(numbers), report=report, circuit="")
    remaining = iter(numbers)

    async def work(client: httpx.AsyncClient) -> None:
        for number in remaining:  # the workers share it
            started = time.perf_counter()
            try:
                user = await way.look_up(client, number)
                assert user["id"] == number
            except Exception as error:
                report.errors[type(error).__name__] += 1
            else:
                report.durations.append(time.perf_counter() - started)
            progress.advance(bar)

    def listen(event: Event) -> None:
        report.events[event.kind] += 1
        if event.kind in CIRCUIT:
            progress.update(bar, circuit=CIRCUIT[event.kind])

    outage_after = way.half_time * len(numbers) / LOOK_UPS
    async with way.make_client(base_url) as client, httpx.AsyncClient(base_url=base_url) as control:
        await control.post("/control/run", params={"outage_after": outage_after})
        unsubscribe = subscribe(listen)
        started = time.perf_counter()
        async with asyncio.TaskGroup() as workers:
            for _ in range(CONCURRENCY):
                workers.create_task(work(client))
        report.seconds = time.perf_counter() - started
        unsubscribe()
        report.requests = (await control.get("/control/statistics")).json()
    return report


async def try_all(base_url: str, seed: int, look_ups: int, console: Console) -> dict[str, Report]:
    """Try one way after the other, with the same calls in the same order."""
    numbers = [each % USERS for each in range(look_ups)]
    random.Random(seed).shuffle(numbers)
    with progress_bars(console) as progress:
        return {way.title: await try_way(way, base_url, numbers, progress) for way in WAYS}


@contextmanager
def flaky_server(seed: int) -> Generator[str]:
    """Run the server in another process; yields its address."""
    program = Path(__file__).with_name("flaky_server.py")
    # In a session of its own, Ctrl-C in the terminal does not reach it: it ends when we do.
    with subprocess.Popen(
        [sys.executable, str(program), "--seed", str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        try:
            base_url = server.stdout.readline().strip()
            if not base_url:
                raise RuntimeError("the server did not start")
            yield base_url
        finally:
            server.kill()


# --- Showing it -------------------------------------------------------------------------------------

CIRCUIT = {
    "circuit_breaker.opened": "[red]circuit open",
    "circuit_breaker.half_opened": "[yellow]circuit half-open",
    "circuit_breaker.closed": "[green]circuit closed",
}
ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "calls that succeeded": lambda run: f"{run['succeeded']} of {run['calls']}",
    "p50 of these": lambda run: milliseconds(run["p50"]),
    "p95 of these": lambda run: milliseconds(run["p95"]),
    "requests the server got": lambda run: str(run["requests"]["received"]),
    "retries": lambda run: str(run["retries"]),
    "waits for the rate limit": lambda run: str(run["waits"]),
    "circuit openings": lambda run: str(run["circuit_openings"]),
    "cache hits": lambda run: str(run["cache_hits"]),
    "seconds in all": lambda run: f"{run['seconds']:.1f}",
}


def progress_bars(console: Console) -> Progress:
    """Make the display of the runs; without a terminal, it is printed once at the end."""
    return Progress(
        TextColumn("{task.description:<17}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[report].lost} lost"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[circuit]}"),
        console=console,
    )


def side_by_side(runs: dict[str, dict[str, Any]]) -> Table:
    """Make a table with one column for each run."""
    table = Table("")
    for title in runs:
        table.add_column(title, justify="right")
    for label, cell in ROWS.items():
        table.add_row(label, *map(cell, runs.values()))
    return table


def milliseconds(seconds: float | None) -> str:
    """Show a duration, if there is one."""
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


# --- The command ------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """Read an argument that must be a whole number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def main() -> int:
    """Run the demo; returns the exit status: 0 if the resilient runs lost no call."""
    parser = argparse.ArgumentParser(
        description="Look-ups against a flaky server, with and without policies."
    )
    parser.add_argument("--seed", type=int, default=1, help="of the faults (default: %(default)s)")
    parser.add_argument("--lookups", type=positive, default=LOOK_UPS, help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    options = parser.parse_args()
    try:
        with flaky_server(options.seed) as base_url:
            console = Console(stderr=options.json)
            reports = asyncio.run(try_all(base_url, options.seed, options.lookups, console))
    except KeyboardInterrupt:
        return 130
    lost = sum(report.lost for title, report in reports.items() if title != WAYS[0].title)
    runs = {title: report.figures() for title, report in reports.items()}
    if options.json:
        print(json.dumps({"seed": options.seed, "lost": lost, "runs": runs}, indent=2))
    else:
        console.print(side_by_side(runs), f"The resilient runs lost {lost or 'no'} calls.", sep="\n")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
