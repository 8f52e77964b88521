"""A thousand callers at once: on one cold key of a cache, at a limiter, at a bulkhead.

    python -m tests.benchmarks.crowds [--quick] [--loop asyncio|uvloop] [--out FILE.json]

All take turns, round after round, each decorated anew; medians. Besides the CPU time of each caller it is
counted how often the function was called, how many callers got a value, and how long the whole crowd took.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import results
from tests.benchmarks.case import Call, Decorate, Kind
from tests.benchmarks.cases.crowds import CALLERS, CROWDS, PATIENCE, Crowd

ROUNDS, QUICK_ROUNDS = 7, 2

LEGEND = f"""\
{CALLERS:,} callers at once. CPU µs of each, and in brackets the ms until the last has gone; how often
the function was called and how many callers got a value, at the worst."""

Results = dict[str, Any]


@dataclass(frozen=True)
class Round:
    """What became of a crowd."""

    milliseconds: float
    cpu: float
    """Microseconds of each caller."""
    reached: int
    served: int


async def let_loose(function: Call, decorate: Decorate) -> Round:
    """Let all callers call at once, and wait until they have gone."""
    reached = 0

    async def counted(argument: int) -> Any:
        nonlocal reached
        reached += 1
        return await function(argument)

    gc.collect()
    call = decorate(counted)
    loop = asyncio.get_running_loop()
    began, cpu = time.perf_counter(), time.thread_time()

    async def caller() -> Any:
        return await call(1)

    callers = [loop.create_task(caller()) for _ in range(CALLERS)]
    done, late = await asyncio.wait(callers, timeout=PATIENCE)
    cpu, took = time.thread_time() - cpu, time.perf_counter() - began
    for each in late:
        each.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    served = sum(not each.cancelled() and each.exception() is None for each in done)
    return Round(took * 1e3, cpu / CALLERS * 1e6, reached, served)


async def measure(crowds: Sequence[Crowd], rounds: int) -> Results:
    """Let the crowds loose in turns; return what became of them."""
    groups, absent = {}, {}
    for crowd in crowds:
        found, missing = await measure_one(crowd, rounds)
        groups[crowd.name] = found
        absent.update({f"{crowd.name}: {name}": reason for name, reason in missing.items()})
    return {"groups": groups, "absent": absent}


async def measure_one(crowd: Crowd, rounds: int) -> tuple[list[Results], dict[str, str]]:
    """Measure everything that one crowd is let loose on; return also the reasons of what is missing."""
    there, absent = {}, {}
    for name, (kind, decorate) in crowd.decorators.items():
        try:
            decorate(crowd.function)
        except ImportError as error:
            absent[name] = str(error)
        else:
            there[name] = (kind, decorate)
    taken: dict[str, list[Round]] = {name: [] for name in there}
    for number in range(rounds):
        for name in there if number % 2 else reversed(there):
            taken[name].append(await let_loose(crowd.function, there[name][1]))
    return [row(name, kind, taken[name]) for name, (kind, _) in there.items()], absent


def row(name: str, kind: Kind, taken: Sequence[Round]) -> Results:
    """Return what became of the crowd in all rounds."""

    def median(figure: Callable[[Round], float]) -> float:
        return statistics.median(map(figure, taken))

    return {
        "name": name,
        "kind": kind,
        "milliseconds": median(lambda each: each.milliseconds),
        "cpu": median(lambda each: each.cpu),
        "reached": median(lambda each: each.reached),
        "served": median(lambda each: each.served),
    }


def rows(runs: Sequence[Results]) -> str:
    """Return the results of several runs as a section of Markdown."""
    places = [results.place(run) for run in runs]
    lines = [LEGEND]
    for crowd in CROWDS:
        lines += ["", f"### {crowd.name.capitalize()}", "", crowd.note, ""]
        lines += [f"| | {' | '.join(places)} | calls | served |", "|---|" + "---:|" * (len(places) + 2)]
        lines += [line(name, kind, crowd.name, runs) for name, (kind, _) in crowd.decorators.items()]
    return "\n".join(lines)


def line(name: str, kind: Kind, crowd: str, runs: Sequence[Results]) -> str:
    """Return what became of one crowd in several runs as a row of the table."""
    found = [next((row for row in run["groups"][crowd] if row["name"] == name), None) for run in runs]
    cells = [f"{row['cpu']:.1f} ({row['milliseconds']:.0f})" if row else "not there" for row in found]
    there = [row for row in found if row]
    reached = max((row["reached"] for row in there), default=0)
    served = min((row["served"] for row in there), default=0)
    shown = f"**{name}**" if kind == Kind.OURS else name
    return f"| {shown} | {' | '.join(cells)} | {reached:,.0f} | {served:,.0f} |"


def main() -> None:
    """Measure, write the results, and print them."""
    options = results.arguments(__doc__ or "").parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    found = results.run(measure(CROWDS, rounds), options.loop)
    results.write(found, options.out)
    print(rows([found]))


if __name__ == "__main__":
    main()
