"""Import time: what `import resilience` takes when asyncio is there already, beside the packages of others.

    python -m tests.benchmarks.imports --out FILE.json [--quick]

Each import in a fresh interpreter, which takes its CPU time; all take turns, round after round;
medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import results

BUDGET = 25.0
"""Milliseconds that `resilience` may take over asyncio."""

ROUNDS = 15
QUICK_ROUNDS = 3

OURS = ("resilience", "resilience_httpx")
MODULES = (
    *OURS,
    "httpx",
    "tenacity",
    "stamina",
    "backoff",
    "backon",
    "hyx.retry, hyx.circuitbreaker, hyx.ratelimit, hyx.timeout, hyx.fallback",
    "pyresilience",
    "redress",
    "interlock",
    "aiobreaker",
    "purgatory",
    "circuitbreaker",
    "aiolimiter",
    "asynciolimiter",
    "pyrate_limiter",
    "throttled.asyncio",
    "limits.aio",
    "async_lru",
    "cachetools_async",
    "cashews",
    "aiocache",
    "prometheus_client",
)

CODE = """\
import asyncio, time
began = time.process_time()
import {}
print((time.process_time() - began) * 1000)
"""

Results = dict[str, Any]


def milliseconds(module: str) -> float:
    """Return how long an import takes in a fresh interpreter.

    Raises:
        ImportError: If it cannot be imported.
    """
    command = [sys.executable, "-W", "ignore", "-c", CODE.format(module)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # what is installed is compiled
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise ImportError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout)


def measure(rounds: int) -> Results:
    """Return the times of each module, or why there are none."""
    found, there = {}, []
    for module in MODULES:
        try:
            milliseconds(module)  # also compiles it, and brings its files into memory
        except ImportError as error:
            found[module] = {"missing": str(error)}
        else:
            there.append(module)
    taken: dict[str, list[float]] = {module: [] for module in there}
    for number in range(rounds):
        for module in there if number % 2 else reversed(there):
            taken[module].append(milliseconds(module))
    return found | {module: of_times(times) for module, times in taken.items()}


def of_times(times: Sequence[float]) -> Results:
    """Return the median and the quartiles."""
    low, median, high = statistics.quantiles(times, n=4)
    return {"ms": round(median, 1), "low": round(low, 1), "high": round(high, 1)}


def rows(several: Sequence[Results]) -> str:
    """Return the results of several versions of Python as a section of Markdown."""
    modules = sorted(MODULES, key=lambda module: several[0]["imports"][module].get("ms", float("inf")))
    return "\n".join(
        [
            f"CPU milliseconds over `import asyncio`, quartiles beside. `resilience` may take {BUDGET:g}.",
            "",
            f"| import | {' | '.join(each['python'] for each in several)} |",
            "|---|" + "---:|" * len(several),
            *(row(module, [each["imports"][module] for each in several]) for module in modules),
        ]
    )


def row(module: str, measured: Sequence[Results]) -> str:
    """Return the times of one module as a row."""
    shown = f"**{module}**" if module in OURS else module
    return f"| {shown} | {' | '.join(cell(module, each) for each in measured)} |"


def cell(module: str, measured: Results) -> str:
    """Return one time; a budget that is not met shows."""
    if "missing" in measured:
        return f"not there: {measured['missing']}"
    verdict = " **not met**" if module == OURS[0] and measured["ms"] > BUDGET else ""
    return f"{measured['ms']:.1f} ({measured['low']:.1f} to {measured['high']:.1f}){verdict}"


def main() -> None:
    """Measure, print, and write."""
    options = results.arguments(__doc__.partition("\n")[0]).parse_args()
    times = measure(QUICK_ROUNDS if options.quick else ROUNDS)
    found = {**results.environment(), "loop": options.loop, "imports": times}
    print(rows([found]))
    results.write(found, options.out)


if __name__ == "__main__":
    main()
