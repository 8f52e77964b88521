"""What the parts of the benchmark about growth, memory and imports say of what they found."""

import asyncio
from typing import Any

import pytest

from tests.benchmarks import growth, imports, memory
from tests.benchmarks.growth_series import GROUPS, Series
from tests.benchmarks.keyed import KEYED


def run(part: str, found: Any) -> dict[str, Any]:
    return {"python": "3.11.7", "loop": "asyncio", "keys": 1_000, part: found}


def test_a_token_bucket_keeps_within_its_bytes() -> None:
    bytes_of_a_key = asyncio.run(memory.fill(KEYED["token bucket"], keys=1_000))
    assert 50 < bytes_of_a_key <= 200


def test_more_bytes_than_promised_show_and_so_does_who_is_missing() -> None:
    found: dict[str, Any] = {name: {"bytes": 100.4} for name in KEYED}
    found |= {"token bucket": {"bytes": 200.6}, "aiocache": {"missing": "No module named 'aiocache'"}}
    rows = memory.rows([run("memory", found)])
    assert "| **token bucket** | 201 **not met** | 200 |" in rows
    assert "| **exact window** | 100 | 1000 |" in rows
    assert "not there: No module named 'aiocache'" in rows


@pytest.mark.parametrize(
    ("costs", "verdict"), [([100, 110, 120], "flat"), ([100, 200, 400], "grows"), ([4, 2, 1], "flat")]
)
@pytest.mark.parametrize(("group", "name"), [("waiting", "bulkhead"), ("keys", "cached")])
def test_a_slope_says_whether_a_cost_grows(group: str, name: str, costs: list[float], verdict: str) -> None:
    measured = {name: growth.of_medians((1, 10, 100), costs), "a dict": {"slope": 0.05}}
    row = growth.row(GROUPS[group], name, run("growth", {}), measured)
    assert row.startswith(f"| **{name}** | 3.11 asyncio | {costs[0]} | ")
    assert row.endswith(f", {verdict} |")


def test_what_a_dict_grows_by_is_allowed_with_keys_only() -> None:
    measured = {name: {"ns": [1], "slope": 0.14} for name in ("cached", "bulkhead")}
    measured["a dict"] = {"ns": [1], "slope": 0.05}
    assert ", flat |" in growth.row(GROUPS["keys"], "cached", run("growth", {}), measured)
    assert ", grows |" in growth.row(GROUPS["waiting"], "bulkhead", run("growth", {}), measured)


def test_the_slope_is_the_power_of_the_size() -> None:
    assert growth.of_medians((1, 10, 100), [7, 70, 700]) == {"ns": [7, 70, 700], "slope": 1}


def test_every_series_has_its_row() -> None:
    found = {
        name: {"sizes": group.sizes, "series": {each: {"missing": "reason"} for each in group.series}}
        for name, group in GROUPS.items()
    }
    rows = growth.rows([run("growth", found)])
    assert all(f"{series}" in rows for group in GROUPS.values() for series in group.series)
    assert "not there: reason" in rows


def test_a_slow_import_shows_and_those_missing_come_last() -> None:
    found: dict[str, Any] = {name: imports.of_times([10.0, 20.0, 30.0]) for name in imports.MODULES}
    found |= {"resilience": imports.of_times([25.1] * 3), "httpx": {"missing": "reason"}}
    rows = imports.rows([run("imports", found)]).splitlines()
    assert any(row.startswith("| **resilience** | 25.1") and "**not met**" in row for row in rows)
    assert rows[-1] == "| httpx | not there: reason |"


def test_what_cannot_be_imported_is_named_with_the_reason() -> None:
    with pytest.raises(ImportError, match="No module named 'no_such_module'"):
        imports.milliseconds("no_such_module")


async def test_a_rival_that_does_not_work_is_named_with_the_reason() -> None:
    async def make(size: int) -> Any:
        raise ImportError("no rival")

    found = await growth.measure(Series(make, ours=False), (1, 10), rounds=1, calls=1)
    assert found == {"missing": "ImportError: no rival"}
    with pytest.raises(ImportError):
        await growth.measure(Series(make), (1, 10), rounds=1, calls=1)
