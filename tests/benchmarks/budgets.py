"""What each policy may cost at most, and whether it does.

    python -m tests.benchmarks.budgets FOLDER

prints the budgets beside what the parts of the benchmark found, whose JSON files are in the folder, and
fails if one is not met.
A budget is a part of what the best rival adds to the bare call; it holds on each version of Python and each
event loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import imports, results
from tests.benchmarks.case import Group, Kind
from tests.benchmarks.cases import bulkhead, cache, errors, metrics, rate_limit, retry, stack, timeout
from tests.benchmarks.cases import circuit_breaker as breaker
from tests.benchmarks.keyed import KEYED

NOT_MET = "**not met**"

Run = dict[str, Any]
Runs = Mapping[str, Sequence[Run]]


@dataclass(frozen=True)
class Budget:
    """A figure of ours that must not be worse than a bound.

    Attributes:
        what: What is measured.
        beside: What it is measured against.
        bound: The worst that the figure may be.
        figure: Finds it in the results of a run of the part; ``None`` if it is not there.
        part: The part of the benchmark that measures it.
        at_least: Whether a larger figure is the better one.
    """

    what: str
    beside: str
    bound: float
    figure: Callable[[Run], float | None]
    part: str = "measure"
    at_least: bool = False

    @property
    def allowed(self) -> str:
        """The bound as it is shown."""
        bound = f"{self.bound:g} x" if self.is_ratio else f"{self.bound:g}"
        return f"at least {bound}" if self.at_least else bound

    @property
    def is_ratio(self) -> bool:
        """Whether it is a part of what another costs, and not a figure of its own."""
        return self.part not in ("memory", "imports")

    def met(self, figure: float) -> bool:
        """Return whether a figure keeps within the budget."""
        return figure >= self.bound if self.at_least else figure <= self.bound


def overhead(group: str, ours: str, *rivals: str) -> Callable[[Run], float | None]:
    """Find how much of what the cheapest of the rivals adds to the bare call ours adds; default: of all."""

    def find(run: Run) -> float | None:
        rows = {row["name"]: row for row in run["groups"].get(group, ())}
        there = [
            name
            for name, row in rows.items()
            if name in rivals or (not rivals and row["kind"] == Kind.RIVAL)
        ]
        if ours not in rows or not there:
            return None
        cheapest = min(there, key=lambda name: rows[name]["over_bare"]["median"])
        return float(rows[ours]["of_rivals"][cheapest]["median"])

    return find


def memory(name: str) -> Callable[[Run], float | None]:
    """Find how many bytes a key costs."""
    return lambda run: run["memory"].get(name, {}).get("bytes")


def requests(client: str, connections: int, beside: str) -> Callable[[Run], float | None]:
    """Find how many requests a second a client makes, in relation to another."""

    def find(run: Run) -> float | None:
        told = run["connections"].get(str(connections), ())
        return next((each[beside] for each in told if each["client"] == client), None)

    return find


def beside(what: str, bound: float, group: Group, ours: str, *rivals: str) -> Budget:
    """Make a budget out of what a rival adds to the bare call; by default the cheapest of all."""
    figure = overhead(group.name, ours, *rivals)
    return Budget(what, " or ".join(rivals) or "the best of them", bound, figure)


POLICIES = (
    beside("retry, first attempt succeeds", 0.25, retry.FIRST, "retry, defaults", "hyx"),
    beside("retry, first attempt succeeds", 0.01, retry.FIRST, "retry, defaults", "tenacity"),
    beside("retry, two failures, no wait", 0.85, retry.THIRD, "retry", "hyx"),
    beside("the same, tenacity's strategies", 1.2, retry.THIRD, "retry, tenacity's strategies", "hyx"),
    beside("breaker closed, last 100 calls", 0.45, breaker.CLOSED, breaker.LAST_CALLS, "circuitbreaker"),
    beside("breaker closed, last 10 s", 0.75, breaker.CLOSED, breaker.LAST_SECONDS, "circuitbreaker"),
    beside("breaker open, rejection", 0.8, breaker.OPEN, breaker.IN_A_ROW, "circuitbreaker"),
    beside("rate limit free, exact window", 1.0, rate_limit.FREE, rate_limit.EXACT, "asynciolimiter"),
    beside("rate limit free, token bucket", 1.0, rate_limit.FREE, rate_limit.BUCKET, "asynciolimiter"),
    beside("rate limit keyed, exact window", 0.15, rate_limit.KEYED, rate_limit.EXACT, rate_limit.LIMITS),
    beside("rate limit keyed, token bucket", 0.15, rate_limit.KEYED, rate_limit.BUCKET, rate_limit.LIMITS),
    beside("cache hit, TTL and LRU", 0.65, cache.HIT, "cached", "async-lru"),
    beside("timeout, the call suspends", 0.35, timeout.SUSPENDING, "timeout", "asyncio.timeout"),
    beside("bulkhead free", 0.4, bulkhead.FREE, "bulkhead", "asyncio.Semaphore"),
    beside("track_metrics", 0.45, metrics.COUNTED, "track_metrics", "prometheus_client"),
    beside("map_errors, not needed", 0.6, errors.NOT_NEEDED, "map_errors", "hyx"),
    beside("fallback, not needed", 0.6, errors.NOT_NEEDED, "fallback, function", "hyx"),
    beside("retry, breaker, limit, timeout", 0.25, stack.AT_ONCE, "four decorators"),
    beside("retry, breaker, limit, timeout", 0.15, stack.AT_ONCE, "four decorators", "hyx"),
)
MEMORY = tuple(
    Budget(f"bytes of a key, {name}", "", keyed.budget, memory(name), "memory")
    for name, keyed in KEYED.items()
    if keyed.budget is not None
)
REQUESTS = tuple(
    Budget(
        f"requests a second, {client}, connections: {connections}",
        "the transport below it" if below else "plain httpx",
        bound,
        requests(client, connections, "to the transport below" if below else "to httpx"),
        "http_clients",
        at_least=True,
    )
    for client, connections, below, bound in (
        ("ours on httpx", 1, True, 0.95),
        ("ours on httpx", 32, True, 0.95),
        ("ours on aiohttp", 1, True, 0.95),
        ("ours on aiohttp", 32, True, 0.95),
        ("ours on aiohttp", 1, False, 1.3),
        ("ours on aiohttp", 32, False, 4.0),
    )
)
IMPORT = Budget(
    "ms of `import resilience`",
    "over `import asyncio`",
    imports.BUDGET,
    lambda run: run["imports"]["resilience"].get("ms"),
    "imports",
)
BUDGETS = (*POLICIES, *MEMORY, IMPORT, *REQUESTS)


def read(folder: Path) -> Runs:
    """Return what each part that has a budget found."""
    return {part: results.read(folder, part) for part in {budget.part for budget in BUDGETS}}


def rows(runs: Runs) -> str:
    """Return the budgets beside what was found, as a table in Markdown."""
    places = sorted({results.place(run) for each in runs.values() for run in each})
    lines = [
        f"| what | at most | beside | {' | '.join(places)} | |",
        f"|---|---|---|{'---:|' * len(places)}---|",
    ]
    return "\n".join([*lines, *(row(budget, runs.get(budget.part, ()), places) for budget in BUDGETS)])


def row(budget: Budget, runs: Sequence[Run], places: Iterable[str]) -> str:
    """Return a budget beside what was found at each place, as a row of the table."""
    figures = {results.place(run): budget.figure(run) for run in runs}
    cells = [written(budget, figures.get(place)) for place in places]
    found = [figure for figure in figures.values() if figure is not None]
    cells += [verdict(budget, found)]
    return f"| {budget.what} | {budget.allowed} | {budget.beside} | {' | '.join(cells)} |"


def written(budget: Budget, figure: float | None) -> str:
    """Return a figure as it is shown: bold where the budget is not met."""
    if figure is None:
        return ""
    shown = f"{figure:.3g}" if figure < 100 else f"{figure:.0f}"
    return shown if budget.met(figure) else f"**{shown}**"


def verdict(budget: Budget, found: Sequence[float]) -> str:
    """Say whether a budget is met everywhere."""
    if not found:
        return "not measured"
    return "met" if all(map(budget.met, found)) else NOT_MET


def main() -> None:
    """Print the budgets beside what was found; fail if one is not met."""
    table = rows(read(Path(sys.argv[1])))
    print(table)
    sys.exit(NOT_MET in table)


if __name__ == "__main__":
    main()
