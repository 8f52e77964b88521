"""Growth: what a call costs with more keys, with more callers who wait, with more calls in a window.

    python -m tests.benchmarks.growth --out FILE.json [--loop uvloop] [--quick]

All sizes of a series take turns, round after round; CPU time of the thread, medians over the rounds. The
slope is the power of the size with which the cost grows: 0 is flat, 1 is in proportion.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import results
from tests.benchmarks.growth_series import GROUPS, Group, Series

FLAT = 0.1
"""The largest slope that passes for flat: ten times the size, a quarter more."""

ROUNDS, CALLS = 9, 1_000
QUICK_ROUNDS, QUICK_CALLS = 3, 100

Results = dict[str, Any]


async def measure_all(rounds: int, calls: int) -> Results:
    """Measure everything, one series after the other."""
    found: Results = {}
    for name, group in GROUPS.items():
        series = {
            each: await measure(each_series, group.sizes, rounds, calls)
            for each, each_series in group.series.items()
        }
        found[name] = {"sizes": group.sizes, "series": series}
    return {"growth": found}


async def measure(series: Series, sizes: Sequence[int], rounds: int, calls: int) -> Results:
    """Return the nanoseconds of a call for each size, and the slope; or why there are none."""
    try:
        batches = [await series.make(size) for size in sizes]
    except Exception as error:
        if series.ours:
            raise
        return {"missing": f"{type(error).__name__}: {error}"}
    gc.collect()
    gc.freeze()  # or each collection would look through all the keys
    taken: list[list[float]] = [[] for _ in batches]
    order = list(zip(batches, taken, strict=True))
    for number in range(rounds + 1):
        for batch, times in order if number % 2 else reversed(order):
            seconds = await batch(calls)
            if number:  # the first one warms up
                times.append(seconds / calls * 1e9)
    gc.unfreeze()
    return of_medians(sizes, [statistics.median(times) for times in taken])


def of_medians(sizes: Sequence[int], medians: Sequence[float]) -> Results:
    """Return the medians together with their slope."""
    slope, _ = statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, medians)])
    return {"ns": [round(ns) for ns in medians], "slope": round(slope, 3)}


def rows(several: Sequence[Results]) -> str:
    """Return the results of several versions of Python as a section of Markdown."""
    lines = [
        f"CPU nanoseconds of a call. A slope of at most {FLAT} is flat; with keys, of at most so much more",
        "than that of a dict, which the caches of the processor do not hold when it has 100,000 keys.",
    ]
    for name, group in GROUPS.items():
        lines += ["", f"| {group.of} | | {' | '.join(f'{size:,}' for size in group.sizes)} | slope |"]
        lines += ["|---|---|" + "---:|" * (len(group.sizes) + 1)]
        for each in group.series:
            lines += [row(group, each, result, result["growth"][name]["series"]) for result in several]
    return "\n".join(lines)


def row(group: Group, name: str, result: Results, measured: Results) -> str:
    """Return one series at one place as a row."""
    shown = f"**{name}**" if group.series[name].ours else name
    begin = f"| {shown} | {results.place(result)} | "
    if "missing" in measured[name]:
        return f"{begin}not there: {measured[name]['missing']} |"
    least = measured[group.least]["slope"] if group.least else 0
    verdict = "flat" if is_flat(measured[name], least) else "grows"
    costs = " | ".join(f"{ns:,}" for ns in measured[name]["ns"])
    return f"{begin}{costs} | {measured[name]['slope']:.2f}, {verdict} |"


def is_flat(measured: Results, least: float = 0) -> bool:
    """Whether a call costs the same whatever the size, except for what the least there is costs more."""
    return bool(measured["slope"] <= FLAT + max(least, 0))


def main() -> None:
    """Measure, print, and write."""
    options = results.arguments(__doc__.partition("\n")[0]).parse_args()
    rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if options.quick else (ROUNDS, CALLS)
    found = results.run(measure_all(rounds, calls), options.loop)
    print(rows([found]))
    results.write(found, options.out)


if __name__ == "__main__":
    main()
