"""Plots of what the benchmark found, as small SVG files that are legible in light and in dark themes.

    python -m tests.benchmarks.plots RESULTS DOCS

The same results give the same files, byte by byte.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tests.benchmarks import results
from tests.benchmarks.budgets import POLICIES, Budget
from tests.benchmarks.growth_series import GROUPS, Group

INK = "#777c84"
"""A grey of the same contrast with white as with black; the background is left to the page."""

OURS = ("#2f81f7", "#d4730c", "#2da44e", "#bf4bb5", "#c9990c")
DASHES = (":", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
MISSED = "#e5484d"

STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "font.size": 10,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "resilience",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

Results = dict[str, Any]


def write(results_folder: Path, docs_folder: Path) -> list[Path]:
    """Draw what is there; return the files written."""
    docs_folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(STYLE):
        if growth := results.read(results_folder, "growth"):
            for name, group in GROUPS.items():
                drawn = draw_growth(group, growth[-1]["growth"][name], results.place(growth[-1]))
                written.append(save(drawn, docs_folder / f"growth-{name}.svg"))
        if measured := results.read(results_folder, "measure"):
            written.append(save(draw_ratios(measured), docs_folder / "ratios.svg"))
    return written


def save(figure: Figure, path: Path) -> Path:
    """Write a figure without what differs from run to run."""
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return path


# --- Growth -----------------------------------------------------------------------------------------


def draw_growth(group: Group, measured: Results, place: str) -> Figure:
    """Draw what a call costs as the size grows; both axes are logarithmic."""
    figure = Figure(figsize=(5.2, 3.2))
    axes = figure.subplots()
    colors, dashes = itertools.cycle(OURS), itertools.cycle(DASHES)
    for name, series in group.series.items():
        found = measured["series"][name]
        if "missing" in found:
            continue
        look = (
            {"color": next(colors), "marker": "o", "markersize": 4}
            if series.ours
            else {"color": INK, "linestyle": next(dashes)}
        )
        axes.plot(group.sizes, [ns / 1_000 for ns in found["ns"]], label=name, **look)
    axes.set(xscale="log", yscale="log", xlabel=group.of, title=f"CPU µs of a call ({place})")
    plain_numbers(axes)
    legend_by_height(axes)
    return figure


def plain_numbers(axes: Axes) -> None:
    """Write 1,000 and not ten to the power of three; begin and end with whole powers of ten."""
    drawn = [value for line in axes.get_lines() for value in line.get_ydata()]
    axes.set_ylim(10 ** math.floor(math.log10(min(drawn))), 10 ** math.ceil(math.log10(max(drawn))))
    for axis in axes.xaxis, axes.yaxis:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.minorticks_off()
    axes.grid(visible=True, color=INK, alpha=0.2)


def legend_by_height(axes: Axes) -> None:
    """Name the lines beside the plot, in the order in which they end there."""
    lines = sorted(axes.get_lines(), key=lambda line: line.get_ydata()[-1], reverse=True)
    axes.legend(handles=lines, loc="center left", bbox_to_anchor=(1, 0.5))


# --- Ratios -----------------------------------------------------------------------------------------


def draw_ratios(measured: Sequence[Results]) -> Figure:
    """Draw what ours add to a call as a part of what the rivals add, at the worst of all places."""
    found = [(budget, worst(budget, measured)) for budget in POLICIES]
    shown = [(budget, figure) for budget, figure in found if figure is not None]
    figure = Figure(figsize=(6.4, 0.3 * len(shown) + 0.8))
    axes = figure.subplots()
    for place, (budget, ratio) in enumerate(reversed(shown)):
        color = OURS[0] if budget.met(ratio) else MISSED
        axes.barh(place, ratio, height=0.6, color=color)
        axes.plot([budget.bound] * 2, [place - 0.42, place + 0.42], color=INK, linewidth=2)
        axes.annotate(
            f"{ratio:.2f}",
            (max(ratio, budget.bound), place),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.axvline(1, color=INK, linestyle=":")
    names = [f"{budget.what}  /  {budget.beside}" for budget, _ in reversed(shown)]
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set(title="overhead of ours / of the rival (tick: the most it may be)", xlim=(0, None))
    return figure


def worst(budget: Budget, measured: Sequence[Results]) -> float | None:
    """Return the worst figure of all versions of Python and event loops."""
    return max((ratio for run in measured if (ratio := budget.figure(run)) is not None), default=None)


def main() -> None:
    """Draw, and say what was written."""
    for path in write(*map(Path, sys.argv[1:])):
        print(path)


if __name__ == "__main__":
    main()
