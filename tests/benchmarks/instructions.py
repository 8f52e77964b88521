"""Count the instructions that a call of each policy costs, and say which costs more than it did.

    python -m tests.benchmarks.instructions [--accept] [--out FILE.json]

Counts do not depend on what else the machine does, and hardly on which machine it is. They are taken by
valgrind. What was last accepted, for each version of CPython, is in `instructions.json`; ``--accept``
writes there what is counted now.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.paths import PATHS, WRAPPER, Call, clock_of

ACCEPTED = Path(__file__).with_suffix(".json")
ROOT = Path(__file__).parents[2]

GROWTH = 0.03
"""By which share a path may cost more than what was accepted."""

WARM_UP = 1_500
"""Calls before counting: then the interpreter has specialised its code, and windows are full."""

FEW, MANY = 200, 2_200
"""The difference is what a call costs; what surrounds the calls falls out."""

NO_VALGRIND = """\
The instructions are counted by valgrind, and there is none on this machine. It is a package of that name
in every Linux distribution; it does not run on Windows and on Macs with Apple's processors."""


# --- What valgrind runs -----------------------------------------------------------------------------


def mark() -> None:
    """Do the one thing at which valgrind writes down what it has counted, and begins anew."""
    os.getppid()


async def repeat(call: Call, times: int) -> None:
    """Call a function again and again, whatever becomes of it."""
    for _ in range(times):
        with contextlib.suppress(Exception):
            await call(1)


async def mark_calls(call: Call) -> None:
    """Make few calls and many calls, each between marks."""
    await repeat(call, WARM_UP)
    gc.collect()
    gc.disable()  # when it runs depends on all that the process holds
    mark()
    await repeat(call, FEW)
    mark()
    await repeat(call, MANY)
    mark()


def follow_all() -> None:
    """Follow each path in a process of its own, a fork, so that all find the same; print which is which."""
    for name, path in PATHS.items():
        child = os.fork()
        if not child:
            # A thousand readings of the clock a second.
            with clock_of(itertools.count(1_000.0, 0.001).__next__):
                asyncio.run(mark_calls(path.make()))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"{name} failed")
        print(json.dumps([name, child]), flush=True)


# --- Counting ---------------------------------------------------------------------------------------


def count() -> dict[str, float]:
    """Return how many instructions a call costs on each path, with the loop that makes the calls."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("valgrind", "--tool=callgrind", "--dump-before=getppid"),
            f"--callgrind-out-file={folder}/%p",
            *(sys.executable, "-m", __spec__.name, "--follow"),
        ]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {name: instructions_of(Path(folder, str(process))) for name, process in lines}


def instructions_of(written: Path) -> float:
    """Return what a call cost in a process: between the marks are parts 2 and 3 of what it wrote."""
    few, many = (total(written.with_suffix(f".{part}")) for part in (2, 3))
    return (many - few) / (MANY - FEW)


def total(written: Path) -> int:
    """Return the number of instructions in what valgrind wrote."""
    for line in written.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise ValueError(f"{written} has no total")


def over(counts: dict[str, float]) -> dict[str, int]:
    """Return how many instructions the policies add to what they guard."""
    bare = {path.over for path in PATHS.values()}
    return {
        name: round(counts[name] - counts[path.over]) for name, path in PATHS.items() if name not in bare
    }


# --- Comparing --------------------------------------------------------------------------------------


def version() -> str:
    """Return the version of Python for which counts are comparable."""
    return ".".join(platform.python_version_tuple()[:2])


def build() -> str:
    """Return what else the counts depend on a little."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"


def grown(now: dict[str, int], accepted: dict[str, int]) -> list[str]:
    """Say what costs more than was accepted, or was never accepted."""
    problems: list[str] = []
    for name, instructions in now.items():
        before = accepted.get(name)
        if before is None:
            problems.append(f"{name}: {instructions} instructions, and none were accepted yet")
        elif instructions > before * (1 + GROWTH):
            growth = instructions / before - 1
            problems.append(f"{name}: {instructions} instructions, {growth:.1%} more than {before}")
    return problems


def table(now: dict[str, int], accepted: dict[str, int]) -> str:
    """Return the counts as rows of Markdown."""
    rows = [
        f"| instructions over the bare call, {build()} | now | accepted | x {WRAPPER} |",
        "|---|---:|---:|---:|",
    ]
    for name, instructions in now.items():
        ratio = instructions / now[WRAPPER]
        rows.append(f"| {name} | {instructions:,} | {accepted.get(name, 0):,} | {ratio:.2f} |")
    return "\n".join(rows)


def accept(now: dict[str, int], written: dict[str, Any]) -> None:
    """Write down what is counted now as accepted."""
    accepted = written | {version(): {"build": build(), "instructions": now}}
    ACCEPTED.write_text(json.dumps(dict(sorted(accepted.items())), indent=4) + "\n")


def check(now: dict[str, int], accepted: dict[str, Any]) -> None:
    """End with an error if something costs more than was accepted."""
    before = accepted.get("instructions", {})
    cheaper = [name for name in now if name in before and now[name] < before[name] * (1 - GROWTH)]
    if cheaper:
        print(f"\nCheaper than accepted: {'; '.join(cheaper)}. --accept keeps it so.")
    problems = grown(now, before)
    if not problems:
        return
    print("\nMore than accepted:", *problems, sep="\n  ")
    if accepted and accepted["build"] != build():
        print(f"It was accepted with another build: {accepted['build']}; its counts may differ.")
    print(f"If that is worth it: python -m {__spec__.name} --accept")
    raise SystemExit(1)


def main() -> None:
    """Count, print, and compare or accept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--accept", action="store_true", help="accept what is counted now")
    parser.add_argument("--out", type=Path, help="a file for the counts, as JSON")
    parser.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        return follow_all()
    if shutil.which("valgrind") is None:
        raise SystemExit(NO_VALGRIND)
    written = json.loads(ACCEPTED.read_text()) if ACCEPTED.exists() else {}
    accepted = written.get(version(), {})
    now = over(count())
    print(table(now, accepted.get("instructions", {})))
    if options.out:
        options.out.write_text(json.dumps({"build": build(), "instructions": now}, indent=4) + "\n")
    if options.accept:
        return accept(now, written)
    return check(now, accepted)


if __name__ == "__main__":
    main()
