"""What a policy costs beside its rivals: CPU time of a call, all of them in one process and one run.

    python -m tests.benchmarks.measure [--quick] [--loop asyncio|uvloop] [--group TEXT] [--out FILE.json]

Round after round, each case is called for a few milliseconds: A B C ... and in the next round ... C B A, so
that whatever slows the machine down meets all of them. Ratios are taken within a round; then the median
over the rounds counts. The clock is the CPU time of the thread, which other processes do not add to. Each
case has a loop of its own, which the interpreter specialises to what it calls. A turn of the event loop is
part of each batch, so that work put off, like timers that were cancelled, is paid for.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import time
import types
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from tests.benchmarks.case import Call, Case, Kind
from tests.benchmarks.cases import all_cases
from tests.benchmarks.results import arguments, run, write

NANOSECONDS_OF_A_BATCH = 3_000_000
ROUNDS = 61
QUICK_ROUNDS = 7
FEWEST_CALLS = 20
WARM_UP = 100


async def call_and_return(call: Call, calls: int) -> int:
    """Return the nanoseconds that so many calls take."""
    began = time.thread_time_ns()
    for _ in range(calls):
        await call(1)
    await asyncio.sleep(0)
    return time.thread_time_ns() - began


async def call_and_fail(call: Call, calls: int) -> int:
    """Return the nanoseconds that so many calls take, each of which raises."""
    began = time.thread_time_ns()
    for _ in range(calls):
        try:
            await call(1)
        except Exception:
            continue
        raise AssertionError("a call returned that was to fail")
    await asyncio.sleep(0)
    return time.thread_time_ns() - began


def own_copy(function: Any) -> Any:
    """Copy a function with its code, in which the interpreter keeps what it learned about the calls."""
    return types.FunctionType(function.__code__.replace(), function.__globals__)


class Runner:
    """A case at work."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.samples: list[float] = []
        """Nanoseconds of a call, one for each round."""
        self.calls = WARM_UP
        self._loop = own_copy(call_and_fail if case.group.outcome.raises else call_and_return)

    async def start(self) -> None:
        """Make sure that the calls do what the case says, and find out how many fill a batch."""
        await verify(self.case)
        self._call = await ready(self.case)
        self.calls = self._fit(WARM_UP)
        nanoseconds = min([await self._batch() for _ in range(3)])
        self.calls = self._fit(max(FEWEST_CALLS, int(NANOSECONDS_OF_A_BATCH / max(1, nanoseconds))))
        await self._batch()

    async def measure(self) -> None:
        """Take a sample."""
        self.samples.append(await self._batch())

    def _fit(self, calls: int) -> int:
        return min(calls, self.case.entry.at_most or calls)

    async def _batch(self) -> float:
        if self.case.entry.at_most:
            self._call = await ready(self.case)
        return await self._loop(self._call, self.calls) / self.calls


async def ready(case: Case, function: Call | None = None) -> Call:
    """Return the decorated function in the state that is measured."""
    call = case.entry.decorate(function or case.group.function())
    await asyncio.sleep(0)  # what it began now has begun
    for _ in range(case.group.before):
        try:
            await call(1)
        except Exception:
            continue
    return call


async def verify(case: Case) -> None:
    """Make sure that a call does what the case says.

    Raises:
        AssertionError: If it does not.
    """
    reached = 0
    function = case.group.function()

    async def counted(argument: int) -> Any:
        nonlocal reached
        reached += 1
        return await function(argument)

    call = await ready(case, counted)
    reached = 0
    try:
        result = await call(1)
    except Exception as error:
        if not case.group.outcome.raises:
            raise AssertionError("a call failed that was to return") from error
    else:
        assert not case.group.outcome.raises, "a call returned that was to fail"
        assert result == 1, f"a call returned {result!r} instead of 1"
    if case.group.outcome.is_done_without_the_function and case.kind is not Kind.REFERENCE:
        assert not reached, "a call reached the function that was not to"


async def measure(cases: Iterable[Case], rounds: int) -> dict[str, Any]:
    """Measure the cases against each other; return the rows of each group, and what is not among them."""
    runners, absent = await start(cases)
    gc.collect()
    gc.freeze()
    for number in range(rounds):
        gc.collect()
        for runner in runners if number % 2 else reversed(runners):
            await runner.measure()
    groups: dict[str, list[Runner]] = {}
    for runner in runners:
        groups.setdefault(runner.case.group.name, []).append(runner)
    return {
        "rounds": rounds,
        "groups": {name: rows(group) for name, group in groups.items()},
        "notes": {name: group[0].case.group.note for name, group in groups.items()},
        "absent": absent,
    }


async def start(cases: Iterable[Case]) -> tuple[list[Runner], dict[str, str]]:
    """Start the cases; return those that run, and the reasons of those that do not."""
    runners: list[Runner] = []
    absent: dict[str, str] = {}
    for case in cases:
        runner = Runner(case)
        try:
            await runner.start()
        except Exception as error:
            if case.kind is not Kind.RIVAL:
                raise
            absent[f"{case.group.name}: {case.name}"] = f"{type(error).__name__}: {error}"
        else:
            runners.append(runner)
    return runners, absent


def rows(group: Sequence[Runner]) -> list[dict[str, Any]]:
    """Return what was measured of a group, with ratios that were taken within each round."""
    samples = {runner.case.name: runner.samples for runner in group}
    return [row(runner.case, runner.calls, samples, group) for runner in group]


def row(case: Case, calls: int, samples: dict[str, list[float]], group: Sequence[Runner]) -> dict[str, Any]:
    """Return what was measured of one case."""
    own, bare, limit = samples[case.name], samples["bare"], samples["limit"]

    def over(name: str) -> list[float]:
        return [each - least for each, least in zip(samples[name], bare, strict=True)]

    of_rivals = {
        other.case.name: spread(quotients(over(case.name), over(other.case.name)))
        for other in group
        if case.kind is Kind.OURS and other.case.kind is Kind.RIVAL
    }
    return {
        "name": case.name,
        "kind": case.kind,
        "note": case.entry.note,
        "calls": calls,
        "nanoseconds": spread(own),
        "over_bare": spread(over(case.name)),
        "times_bare": spread(quotients(own, bare)),
        "times_limit": spread(quotients(own, limit)),
        "of_rivals": of_rivals,
    }


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [one / other if other else float("inf") for one, other in zip(above, below, strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, and the quartiles below and above it."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "low": low, "high": high}


def main() -> None:
    """Measure, write the results, and print each case beside its rivals."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--group", default="", help="only groups whose name contains this")
    options = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    chosen = [case for case in all_cases() if options.group in case.group.name]
    results = run(measure(chosen, QUICK_ROUNDS if options.quick else ROUNDS), options.loop)
    write(results, options.out)
    show(results)


def show(results: dict[str, Any]) -> None:
    """Print the results for whoever waits for them."""
    for name, group in results["groups"].items():
        print(f"\n{name}")
        for each in group:
            print(
                f"  {each['name']:<40} {each['nanoseconds']['median']:>10.0f} ns"
                f" +{each['over_bare']['median']:>9.0f}   x limit {each['times_limit']['median']:>7.2f}"
            )
    for name, reason in results["absent"].items():
        print(f"\nnot measured: {name}: {reason}")


if __name__ == "__main__":
    main()
