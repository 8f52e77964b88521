"""The benchmark as a page of Markdown: the budgets, then a table for each group.

    python -m tests.benchmarks.report RESULTS DOCS

writes `README.md` into the folder DOCS out of the JSON files in RESULTS, and the plots beside it.
"""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import budgets, results
from tests.benchmarks.case import Kind

Run = dict[str, Any]
Row = dict[str, Any]

HEAD = """\
# Benchmarks

What the policies cost, beside what people would use instead. Made by `make bench`; nothing on this page is
written by hand.

## Budgets

What ours adds to the bare call, as a part of what the rival adds to it; with our whole semantics on. A
budget holds on each version of Python and on each event loop, or it is not met.
"""

METHOD = """\
## How it was measured

- One process and one run for each version of Python and each event loop. Round after round each case is
  called for 3 ms: A B C ..., in the next round ... C B A, so that whatever slows the machine down meets all
  of them. Ratios are taken within a round, then the median over {rounds} rounds.
- The clock is the CPU time of the thread: no case waits for anything, and other processes do not count.
- Each case has a loop of its own, which the interpreter specialises to what it calls; a turn of the event
  loop belongs to each batch, so that work that was put off, like timers that were cancelled, is paid for.
- Before it is measured, each case must do what it says: return, fail, refuse without calling the function.
- **bare** is the function itself, **limit** the wrapper that only passes the arguments on, `async def
  wrapper(*args, **kwargs): return await function(*args, **kwargs)`, unless a group says otherwise.
- Nanoseconds are those of one machine, under whatever else it did; only ratios carry over.

`make bench` makes new environments for the versions of Python that it finds, and writes this page;
`make bench ARGS=--quick` is a short trial, which writes into `.bench/trial` instead.
`python -m tests.benchmarks.measure --group cache` measures some groups only, in an environment with
`tests/benchmarks/requirements.txt`.
"""

GROUPS = """\
## Each policy

CPU nanoseconds over the bare call; for **bare** itself, those of the call. *Spread*: half the distance of
the quartiles, in percent of the whole call, where it is widest. *x bare*, *x limit*: the whole call in
relation to the two, from the best to the worst of the columns; *of the best rival*: what ours adds in
relation to what the cheapest of the others adds.
"""

SECTIONS = (
    ("crowds", "A thousand callers at once"),
    ("growth", "Growth"),
    ("memory", "Memory"),
    ("imports", "Import time"),
    ("http_clients", "The HTTP client"),
)
"""Parts with a function `rows` that makes their section."""


def page(folder: Path, plots: Sequence[str]) -> str:
    """Return the whole page."""
    measured = results.read(folder, "measure")
    sections = [HEAD, budgets.rows(budgets.read(folder)), *pictures(plots, "ratios")]
    sections += [METHOD.format(rounds=measured[0]["rounds"]), GROUPS, *groups(measured)]
    for part, title in SECTIONS:
        if runs := results.read(folder, part):
            rows = importlib.import_module(f"tests.benchmarks.{part}").rows(runs)
            sections += [f"## {title}", *pictures(plots, part), rows]
    sections += ["## Versions", versions(measured), absent([*measured, *results.read(folder, "crowds")])]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def pictures(plots: Sequence[str], begin: str) -> Iterable[str]:
    """Return the plots whose names begin so."""
    return (f"![{Path(plot).stem.replace('-', ', ')}]({plot})" for plot in plots if plot.startswith(begin))


def groups(measured: Sequence[Run]) -> Iterable[str]:
    """Return a table for each group."""
    for name in measured[0]["groups"]:
        yield f"### {name.capitalize()}\n\n{table(name, measured)}"


def table(group: str, measured: Sequence[Run]) -> str:
    """Return a group as a table, and the notes below it."""
    found = [{row["name"]: row for row in run["groups"][group]} for run in measured]
    names = list(dict.fromkeys(name for rows in found for name in rows))
    places = [results.place(run) for run in measured]
    lines = [
        f"| | {' | '.join(places)} | spread | x bare | x limit | of the best rival |",
        "|---|" + "---:|" * (len(places) + 4),
    ]
    lines += [line(name, [rows.get(name) for rows in found]) for name in names]
    notes = {name: rows[name]["note"] for rows in found for name in rows if rows[name]["note"]}
    if note := next((run["notes"][group] for run in measured if run["notes"][group]), ""):
        lines += ["", f"{note[0].upper()}{note[1:]}."]
    lines += [f"\n{name}: {note}." for name, note in notes.items()]
    return "\n".join(lines)


def line(name: str, rows: Sequence[Row | None]) -> str:
    """Return a case as a row of the table of its group."""
    there = [row for row in rows if row]
    column = "nanoseconds" if name == "bare" else "over_bare"
    cells = [f"{row[column]['median']:,.0f}" if row else "not there" for row in rows]
    shown = {Kind.OURS: f"**{name}**", Kind.REFERENCE: f"*{name}*"}.get(there[0]["kind"], name)
    cells += [f"±{max(map(half_width, there)):.0f} %"]
    cells += [between(row[ratio]["median"] for row in there) for ratio in ("times_bare", "times_limit")]
    return f"| {shown} | {' | '.join(cells)} | {between(map(of_the_best, there))} |"


def half_width(row: Row) -> float:
    """Return half the distance of the quartiles in percent of the median."""
    taken = row["nanoseconds"]
    return float(50 * (taken["high"] - taken["low"]) / taken["median"])


def of_the_best(row: Row) -> float | None:
    """Return what a case of ours adds in relation to the cheapest rival; ``None`` for other cases."""
    return max((ratio["median"] for ratio in row["of_rivals"].values()), default=None)


def between(ratios: Iterable[float | None]) -> str:
    """Return the smallest and the largest of some ratios."""
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return ""
    low, high = short(min(known)), short(max(known))
    return low if low == high else f"{low} to {high}"


def short(ratio: float) -> str:
    """Return a ratio with as many digits as mean something."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}" if ratio < 1 else f"{ratio:.1f}"


def versions(measured: Sequence[Run]) -> str:
    """Return the versions that were compared."""
    pythons = ", ".join(dict.fromkeys(f"CPython {run['python']}" for run in measured))
    packages = ", ".join(f"{name} {version}" for name, version in measured[0]["versions"].items())
    return textwrap.fill(f"{pythons}; {packages}.", 108, break_on_hyphens=False)


def absent(measured: Sequence[Run]) -> str:
    """Return what could not be measured, and why."""
    lines = [
        f"- {results.place(run)}: {name}: {reason}"
        for run in measured
        for name, reason in run["absent"].items()
    ]
    return "\n".join(["Not measured:", "", *lines]) if lines else "Nobody was missing."


def main() -> None:
    """Write the page and the plots."""
    folder, docs = map(Path, sys.argv[1:])
    from tests.benchmarks import plots

    written = plots.write(folder, docs)
    (docs / "README.md").write_text(page(folder, [path.name for path in written]), encoding="utf-8")
    print(docs / "README.md")


if __name__ == "__main__":
    main()
