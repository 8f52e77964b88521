"""Memory: how many bytes a key costs, beyond the key itself, when there are 100,000 of them.

    python -m tests.benchmarks.memory --out FILE.json [--quick]

Each is filled in a process of its own. Only what Python allocates is counted; the keys are made before.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import results
from tests.benchmarks.keyed import KEYED, Keyed

KEYS = 100_000
QUICK = 1_000

Results = dict[str, Any]


async def fill(keyed: Keyed, keys: int) -> float:
    """Return how many bytes each key costs."""
    names = [f"user {number:07}" for number in range(keys)]
    call = keyed.make(2 * keys)
    await call("warm up")
    tracemalloc.start()
    before = traced()
    for _ in range(keyed.calls):
        await call_each(call, names)
    for _ in range(10):
        await asyncio.sleep(0)  # what was put off until the loop turns
    held = traced() - before
    tracemalloc.stop()
    return held / keys


async def call_each(call: Any, names: Sequence[str]) -> None:
    """Call with every key; now and then the loop turns, as in a server."""
    for number, name in enumerate(names):
        await call(name)
        if number % 5_000 == 0:
            await asyncio.sleep(0)


def traced() -> int:
    """Return how many bytes Python has allocated and still holds."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def measure(name: str, keys: int) -> Results:
    """Fill one in a process of its own; return the bytes of a key, or the reason why there are none."""
    command = [sys.executable, "-m", __spec__.name, "--one", name, "--keys", str(keys)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and KEYED[name].ours:
        raise RuntimeError(done.stderr)
    if done.returncode:
        return {"missing": done.stderr.strip().splitlines()[-1]}
    return {"bytes": json.loads(done.stdout)}


def rows(several: Sequence[Results]) -> str:
    """Return the results of several versions of Python as a section of Markdown."""
    lines = [f"Bytes of a key beyond the key itself, with {several[0]['keys']:,} keys."]
    for group in dict.fromkeys(keyed.group for keyed in KEYED.values()):
        lines += ["", f"| {group} | {' | '.join(each['python'] for each in several)} | at most |"]
        lines += ["|---|" + "---:|" * (len(several) + 1)]
        lines += [row(name, several) for name, keyed in KEYED.items() if keyed.group == group]
    return "\n".join(lines)


def row(name: str, several: Sequence[Results]) -> str:
    """Return what one costs as a row."""
    keyed = KEYED[name]
    cells = [cell(each["memory"][name], keyed.budget) for each in several]
    shown = f"**{name}**" if keyed.ours else name
    note = f" ({keyed.note})" if keyed.note else ""
    return f"| {shown}{note} | {' | '.join(cells)} | {keyed.budget or ''} |"


def cell(measured: Results, budget: int | None) -> str:
    """Return one figure; a budget that is not met shows."""
    if "missing" in measured:
        return f"not there: {measured['missing']}"
    figure = f"{measured['bytes']:,.0f}"
    return figure if budget is None or measured["bytes"] <= budget else f"{figure} **not met**"


def main() -> None:
    """Measure all, or one for the process that asks for it."""
    parser = results.arguments(__doc__.partition("\n")[0])
    parser.add_argument("--one", choices=KEYED, help="only this one; prints the bytes of a key")
    parser.add_argument("--keys", type=int, help=f"how many keys; default: {KEYS:,}")
    options = parser.parse_args()
    keys = options.keys or (QUICK if options.quick else KEYS)
    if options.one:
        print(asyncio.run(fill(KEYED[options.one], keys)))
        return
    measured = {name: measure(name, keys) for name in KEYED}
    found = {**results.environment(), "loop": options.loop, "keys": keys, "memory": measured}
    print(rows([found]))
    results.write(found, options.out)


if __name__ == "__main__":
    main()
