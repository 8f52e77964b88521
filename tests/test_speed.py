"""The happy path stays short: how many calls, of Python functions and of C functions, a policy adds to one.

Calls are counted, no time is measured. `make instructions` counts more exactly.
"""

import asyncio
import contextlib
import json
import statistics
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from resilience import RejectedError
from tests.benchmarks import instructions
from tests.benchmarks.paths import PATHS, PLAIN_CLIENT, Call, clock_of

# The most of CPython 3.11, 3.12 and 3.13. Whoever raises one says what for.
AT_MOST = {
    "forwarding wrapper": 1,
    "retry": 2,
    "retry, two failures": 42,
    "breaker": 2,
    "breaker, 100 calls": 2,
    "breaker, 10 s": 3,
    "breaker, open": 4,
    "limit, window": 3,
    "limit, bucket": 2,
    "limit, keyed window": 6,
    "limit, keyed bucket": 5,
    "limit, keyed bucket of 10,000": 5,
    "limit, reached": 39,
    "cache, hit": 3,
    "cache, hit of 10,000": 3,
    "timeout": 13,
    "timeout, suspended": 14,
    "bulkhead": 1,
    "track_metrics": 5,
    "map_errors": 1,
    "fallback": 1,
    "hedge": 95,
    "stack of four": 19,
    "client": -100,  # some to spare: other versions of httpx make a few calls more or less
}

WARM_UP = 50
COUNTED = 21


def standing_still() -> float:
    return 1_000.0


def calls_made_by(path: str) -> int:
    """Return how many calls nearly every call makes; now and then one tidies up."""
    with clock_of(standing_still):
        return asyncio.run(_calls_made_by(PATHS[path].make()))


async def _calls_made_by(call: Call) -> int:
    for _ in range(WARM_UP):
        with contextlib.suppress(Exception):
            await call(1)
    return statistics.mode([await _count(call) for _ in range(COUNTED)])


async def _count(call: Call) -> int:
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        with contextlib.suppress(Exception):
            await call(1)
    finally:
        sys.setprofile(before)
    return count


def guards(path: str) -> str:
    """Return the path without the policy; for the client that is httpx, which alone makes more calls."""
    return PLAIN_CLIENT if path == "client" else PATHS[path].over


@pytest.mark.parametrize("path", AT_MOST)
def test_a_policy_adds_few_calls(path: str) -> None:
    assert calls_made_by(path) - calls_made_by(guards(path)) <= AT_MOST[path]


def test_every_path_has_its_bound() -> None:
    assert AT_MOST.keys() == PATHS.keys() - set(map(guards, PATHS))


@pytest.mark.parametrize("name", PATHS)
def test_a_path_goes_where_it_is_said_to_go(name: str) -> None:
    call = PATHS[name].make()

    async def second_call() -> Any:
        with contextlib.suppress(ConnectionError):
            await call(1)
        return await call(1)

    with pytest.raises(RejectedError) if PATHS[name].rejects else contextlib.nullcontext():
        assert asyncio.run(second_call())


def test_the_guard_names_what_costs_more_than_accepted_and_what_is_new() -> None:
    accepted = {"retry": 1000, "cache, hit": 1000, "hedge": 1000}
    problems = instructions.grown({"retry": 1031, "cache, hit": 1029, "hedge": 10, "new": 5}, accepted)
    assert [problem.partition(":")[0] for problem in problems] == ["retry", "new"]
    assert "3.1%" in problems[0]


def test_the_guard_fails_and_says_how_to_accept(capsys: pytest.CaptureFixture[str]) -> None:
    accepted = {"build": instructions.build(), "instructions": {"retry": 1000}}
    instructions.check({"retry": 1000}, accepted)
    with pytest.raises(SystemExit):
        instructions.check({"retry": 2000}, accepted)
    assert "--accept" in capsys.readouterr().out


def test_the_guard_tells_of_a_gain(capsys: pytest.CaptureFixture[str]) -> None:
    accepted = {"build": instructions.build(), "instructions": {"retry": 1000, "cache, hit": 1000}}
    instructions.check({"retry": 960, "cache, hit": 980}, accepted)
    assert "Cheaper than accepted: retry." in capsys.readouterr().out


def test_what_is_accepted_replaces_what_was_and_leaves_other_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "ACCEPTED", tmp_path / "instructions.json")
    instructions.accept({"retry": 2}, {"3.0": {"build": "old"}, instructions.version(): {"build": "old"}})
    accepted = json.loads(instructions.ACCEPTED.read_text())
    assert accepted["3.0"] == {"build": "old"}
    assert accepted[instructions.version()] == {"build": instructions.build(), "instructions": {"retry": 2}}


def test_without_valgrind_the_guard_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["instructions"])
    with pytest.raises(SystemExit, match="valgrind"):
        instructions.main()
