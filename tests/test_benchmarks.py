"""The benchmark: our cases do what they say, and its page is what it makes. Needs none of the rivals."""

import asyncio
import dataclasses
import gc
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as benchmark
from tests.benchmarks import budgets, report
from tests.benchmarks.case import Call, Case, Entry, Group, Kind, Outcome, RefusedError, refusing, returns
from tests.benchmarks.cases import MODULES, all_cases
from tests.benchmarks.cases.crowds import CALLERS, CROWDS
from tests.benchmarks.crowds import let_loose
from tests.benchmarks.measure import measure, verify

OURS = [case for case in all_cases() if case.kind is not Kind.RIVAL]
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "README.md"
PLACE = {"python": "3.11.7", "loop": "asyncio", "versions": {}}


@pytest.fixture(autouse=True)
def _nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the garbage of other tests collectable."""
    monkeypatch.setattr(gc, "freeze", lambda: None)


def passing_on(call: Call) -> Call:
    return call


def missing(call: Call) -> Call:
    raise ImportError("No module named 'rival'")


def rival(call: Call) -> Call:
    async def wrapper(argument: int) -> Any:
        return await call(argument)

    return wrapper


@pytest.mark.parametrize("case", OURS, ids=lambda case: f"{case.group.name}: {case.name}")
async def test_a_case_of_ours_does_what_it_says(case: Case) -> None:
    await verify(case)
    staying = asyncio.all_tasks() - {asyncio.current_task()}
    for each in staying:  # a call that takes the only place
        each.cancel()
    await asyncio.gather(*staying, return_exceptions=True)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_each_policy_is_measured_beside_bare_limit_and_a_rival(module: Any) -> None:
    groups: dict[str, list[Case]] = {}
    for case in module.cases():
        groups.setdefault(case.group.name, []).append(case)
    for cases in groups.values():
        assert [case.name for case in cases[:2]] == ["bare", "limit"]
        assert Kind.OURS in {case.kind for case in cases}
    assert Kind.RIVAL in {case.kind for cases in groups.values() for case in cases}


@pytest.mark.parametrize(
    ("outcome", "decorate", "complaint"),
    [
        (Outcome.RETURNS, refusing, "failed that was to return"),
        (Outcome.IS_REFUSED, passing_on, "returned that was to fail"),
        (Outcome.FAILS, passing_on, "returned that was to fail"),
        (Outcome.IS_REMEMBERED, passing_on, "reached the function"),
    ],
)
async def test_a_case_that_does_something_else_is_not_measured(
    outcome: Outcome, decorate: Any, complaint: str
) -> None:
    case = Case(Group("group", returns, outcome), "ours", Kind.OURS, Entry(decorate))
    with pytest.raises(AssertionError, match=complaint):
        await verify(case)


async def test_a_refusal_that_reaches_the_function_is_none() -> None:
    def late(call: Call) -> Call:
        async def wrapper(argument: int) -> Any:
            await call(argument)
            raise RefusedError

        return wrapper

    case = Case(Group("group", returns, Outcome.IS_REFUSED), "ours", Kind.OURS, Entry(late))
    with pytest.raises(AssertionError, match="reached the function"):
        await verify(case)


async def test_a_rival_that_is_not_there_is_named_with_the_reason() -> None:
    group = Group("group", returns)
    found = await measure(group.cases({"ours": passing_on}, {"rival": missing}), rounds=2)
    assert found["absent"] == {"group: rival": "ImportError: No module named 'rival'"}
    assert [row["name"] for row in found["groups"]["group"]] == ["bare", "limit", "ours"]
    assert found["rounds"] == 2


async def test_a_case_of_ours_that_does_not_work_stops_the_benchmark() -> None:
    with pytest.raises(ImportError, match="rival"):
        await measure(Group("group", returns).cases({"ours": missing}, {}), rounds=2)


async def test_a_row_has_ratios_to_the_bare_call_the_limit_and_the_rivals() -> None:
    found = await measure(Group("group", returns).cases({"ours": passing_on}, {"rival": rival}), rounds=3)
    rows = {row["name"]: row for row in found["groups"]["group"]}
    assert rows["bare"]["times_bare"]["median"] == rows["limit"]["times_limit"]["median"] == 1
    assert [*rows["ours"]["of_rivals"]] == ["rival"]
    assert rows["rival"]["of_rivals"] == {}
    page = report.table("group", [PLACE | found])
    assert [line.split("|")[1].strip() for line in page.splitlines()[2:]] == [
        "*bare*",
        "*limit*",
        "**ours**",
        "rival",
    ]


@pytest.mark.parametrize("crowd", CROWDS, ids=lambda crowd: crowd.name)
async def test_a_crowd_is_served_by_ours(crowd: Any) -> None:
    for decorate in crowd.ours.values():
        became = await let_loose(crowd.function, decorate)
        assert became.served == CALLERS
        assert became.reached == (1 if "cold key" in crowd.name else CALLERS)


# --- Budgets ----------------------------------------------------------------------------------------


def run_of_all_cases(ratio: float) -> dict[str, Any]:
    """Make the results of a run in which everything of ours adds the same part of what each rival adds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in all_cases():
        groups.setdefault(case.group.name, []).append(
            {"name": case.name, "kind": case.kind, "over_bare": {"median": 100.0}, "of_rivals": {}}
        )
    for rows in groups.values():
        rivals = [row["name"] for row in rows if row["kind"] is Kind.RIVAL]
        for row in rows:
            if row["kind"] is Kind.OURS:
                row["of_rivals"] = {name: {"median": ratio} for name in rivals}
    return {**PLACE, "groups": groups}


@pytest.mark.parametrize("budget", budgets.POLICIES, ids=lambda budget: f"{budget.what}, {budget.beside}")
def test_a_budget_is_met_up_to_its_bound(budget: budgets.Budget) -> None:
    places = ["3.11 asyncio"]
    row = budgets.row(budget, [run_of_all_cases(budget.bound)], places)
    assert row.endswith("| met |")
    row = budgets.row(budget, [run_of_all_cases(budget.bound * 1.01)], places)
    assert row.endswith(f"| **{budget.bound * 1.01:.3g}** | **not met** |")
    assert budgets.row(budget, [], places).endswith("| not measured |")


def test_one_place_where_a_budget_is_not_met_is_enough() -> None:
    budget = budgets.POLICIES[0]
    good, bad = run_of_all_cases(budget.bound), run_of_all_cases(1) | {"loop": "uvloop"}
    assert budgets.row(budget, [good, bad], ["3.11 asyncio", "3.11 uvloop"]).endswith("| **not met** |")


def test_the_cheapest_of_several_rivals_counts() -> None:
    rows = [
        {"name": "dear", "kind": Kind.RIVAL, "over_bare": {"median": 900}},
        {"name": "cheap", "kind": Kind.RIVAL, "over_bare": {"median": 300}},
        {"name": "ours", "kind": Kind.OURS, "over_bare": {"median": 90}},
    ]
    rows[2]["of_rivals"] = {"dear": {"median": 0.1}, "cheap": {"median": 0.3}}
    run = {"groups": {"group": rows}}
    assert budgets.overhead("group", "ours")(run) == 0.3
    assert budgets.overhead("group", "ours", "dear")(run) == 0.1
    assert budgets.overhead("group", "ours", "nobody")(run) is None


def test_a_figure_of_which_more_is_better_has_a_lower_bound() -> None:
    budget = dataclasses.replace(budgets.REQUESTS[0], bound=0.95)
    assert budget.met(0.95)
    assert not budget.met(0.94)
    assert budget.allowed == "at least 0.95 x"


def test_the_page_shows_the_budgets_as_they_are() -> None:
    def without_figures(table: str) -> list[list[str]]:
        return [line.split(" | ")[:3] for line in table.splitlines() if line.startswith("| ")]

    _, _, behind = PAGE.read_text(encoding="utf-8").partition("## Budgets")
    table, _, _ = behind.partition("![")
    assert without_figures(table) == without_figures(budgets.rows({}))


# --- Environments -----------------------------------------------------------------------------------


def test_a_python_that_works_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python3.11"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(broken.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert benchmark.find("3.11") is None
    working = tmp_path / "pyenv" / "versions" / "3.11.9" / "bin" / "python"
    working.parent.mkdir(parents=True)
    working.symlink_to(sys.executable)
    assert benchmark.find("3.11") == str(working)
    assert benchmark.find("3.13") is None
