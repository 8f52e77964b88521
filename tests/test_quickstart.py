"""The demo: what it reports, what its server received, its exit status, and that nothing is left behind."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
# The demo sees the packages that this suite sees: from the checkout, or as they are installed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *filter(None, sys.path)])}
STRICT = [sys.executable, "-W", "error"]

pytestmark = pytest.mark.real_time


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STRICT, *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


def run_changed(change: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo after a change of its module, here called ``demo``."""
    return run("-c", f"import sys, quickstart as demo\n{change}\nsys.exit(demo.main())", *options)


@pytest.fixture(scope="module")
def full_run() -> subprocess.CompletedProcess[str]:
    return run(str(EXAMPLES / "quickstart.py"), "--json", "--seed", "7")


@pytest.fixture
def runs(full_run: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = json.loads(full_run.stdout)["runs"]
    return figures


# --- The full run -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_exit_status_tells_that_no_call_was_lost(full_run: subprocess.CompletedProcess[str]) -> None:
    assert full_run.returncode == 0, full_run.stdout + full_run.stderr


@pytest.mark.slow
def test_json_names_the_seed_and_the_ways(full_run: subprocess.CompletedProcess[str]) -> None:
    report = json.loads(full_run.stdout)
    assert (report["seed"], report["lost"]) == (7, 0)
    assert list(report["runs"]) == ["plain httpx", "six decorators", "ready-made client"]


@pytest.mark.slow
def test_every_run_has_the_same_figures(runs: dict[str, dict[str, Any]]) -> None:
    for figures in runs.values():
        assert list(figures) == [
            *("calls", "succeeded", "lost", "errors", "p50", "p95", "seconds", "requests"),
            *("retries", "waits", "circuit_openings", "cache_hits"),
        ]
        assert figures["calls"] == 600
        assert figures["succeeded"] + figures["lost"] == 600
        assert sum(figures["errors"].values()) == figures["lost"]
        assert 0 <= figures["p50"] <= figures["p95"] <= figures["seconds"]


@pytest.mark.slow
def test_the_server_counts_each_request_once(runs: dict[str, dict[str, Any]]) -> None:
    for figures in runs.values():
        requests = dict(figures["requests"])
        assert requests.pop("received") == sum(requests.values())


@pytest.mark.slow
def test_plain_httpx_sends_each_call_once_and_loses_what_fails(runs: dict[str, dict[str, Any]]) -> None:
    plain = runs["plain httpx"]
    assert plain["requests"]["received"] == 600
    assert plain["succeeded"] == plain["requests"]["ok"] < 600
    assert min(plain["requests"].values()) > 0  # every kind of fault was met
    assert plain["retries"] == plain["waits"] == plain["circuit_openings"] == plain["cache_hits"] == 0


@pytest.mark.slow
def test_the_six_decorators_lose_nothing_and_ask_once_per_user(runs: dict[str, dict[str, Any]]) -> None:
    decorated = runs["six decorators"]
    assert decorated["lost"] == 0
    assert decorated["requests"]["ok"] == 120
    assert decorated["cache_hits"] == 600 - 120
    assert decorated["waits"] > 0
    # Each request beyond the first of a user is a retry; the retries of rejected calls sent nothing.
    assert 0 < decorated["requests"]["received"] - 120 <= decorated["retries"]


@pytest.mark.slow
def test_the_circuit_opens_in_the_outage_and_spares_the_server(runs: dict[str, dict[str, Any]]) -> None:
    decorated = runs["six decorators"]
    assert decorated["circuit_openings"] >= 1
    assert 0 < decorated["requests"]["outage"] < runs["plain httpx"]["requests"]["outage"]


@pytest.mark.slow
def test_the_ready_made_client_loses_nothing(runs: dict[str, dict[str, Any]]) -> None:
    client = runs["ready-made client"]
    assert client["lost"] == 0
    assert client["requests"]["ok"] == 600
    assert client["requests"]["received"] == 600 + client["retries"]
    assert client["waits"] > 0


# --- The command ------------------------------------------------------------------------------------

ONLY_PLAIN = "del demo.WAYS[1:]"
LOSE_CALLS = "demo.WAYS[1:] = [demo.WAYS[0]._replace(title='six decorators')]"


def test_without_a_terminal_it_prints_plain_bars_and_a_table() -> None:
    done = run_changed(ONLY_PLAIN, "--lookups", "40")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "40/40" in done.stdout
    assert "requests the server got" in done.stdout
    assert "lost no calls" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_has_stdout_for_itself() -> None:
    done = run_changed(ONLY_PLAIN, "--lookups", "1", "--json")
    assert json.loads(done.stdout)["runs"]["plain httpx"]["calls"] == 1


def test_the_exit_status_tells_that_a_resilient_run_lost_calls() -> None:
    done = run_changed(LOSE_CALLS, "--lookups", "60", "--json")
    assert json.loads(done.stdout)["runs"]["six decorators"]["lost"] > 0
    assert done.returncode == 1


@pytest.mark.parametrize("option", ["--lookups=0", "--lookups=-1", "--lookups=many", "--seed=x"])
def test_wrong_options_are_refused_by_name(option: str) -> None:
    done = run(str(EXAMPLES / "quickstart.py"), option)
    assert done.returncode == 2
    assert option.partition("=")[0] in done.stderr


@pytest.mark.parametrize("module", ["rich", "httpx"])
def test_a_missing_extra_is_named(module: str) -> None:
    done = run("-c", f"import sys; sys.modules['{module}'] = None; import quickstart")
    assert done.returncode == 1
    assert "async-resilience[demo]" in done.stderr
    assert "Traceback" not in done.stderr


TELL_ADDRESS = """
from contextlib import contextmanager
start = demo.flaky_server

@contextmanager
def flaky_server(seed):
    with start(seed) as base_url:
        print(base_url, flush=True)
        yield base_url

demo.flaky_server = flaky_server
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_or_killed_it_leaves_no_process_behind(number: signal.Signals, status: int) -> None:
    program = f"import sys, quickstart as demo\n{TELL_ADDRESS}\nsys.exit(demo.main())"
    with subprocess.Popen(
        [*STRICT, "-c", program, "--json"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo:
        assert demo.stdout is not None
        base_url = demo.stdout.readline().decode().strip()
        wait_until(lambda: received(base_url) >= 20)  # it is under way
        demo.send_signal(number)
        rest, errors = demo.communicate(timeout=30)
        assert demo.returncode == status
        assert rest == b""
        assert b"Traceback" not in errors
    wait_until(lambda: not is_served(base_url))


def wait_until(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.01)


def received(base_url: str) -> int:
    with urlopen(f"{base_url}/control/statistics", timeout=5) as response:
        return int(json.load(response)["received"])


def is_served(base_url: str) -> bool:
    url = urlsplit(base_url)
    try:
        socket.create_connection((url.hostname, url.port), timeout=5).close()
    except ConnectionError:
        return False
    return True


# --- The server's schedule --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "flaky_server.py"))


@pytest.mark.parametrize("seed", range(5))
def test_of_a_hundred_admitted_requests_nineteen_fail(server: dict[str, Any], seed: int) -> None:
    schedule = server["schedule"](seed)
    for _ in range(3):
        answers = list(islice(schedule, 100))
        outcomes = Counter(answer.outcome for answer in answers)
        assert outcomes == {"ok": 81, "unavailable": 15, "reset": 2, "broken_body": 2}
        assert sum(answer.delay >= 0.4 for answer in answers) == 5


def test_the_seed_decides_the_schedule(server: dict[str, Any]) -> None:
    first, again, other = (list(islice(server["schedule"](seed), 100)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_server_admits_fifty_requests_in_any_second(server: dict[str, Any]) -> None:
    run = server["Run"](1, outage_after=100)
    first = [run.next_answer(10 + request / 100).outcome for request in range(60)]
    assert [outcome == "rate_limited" for outcome in first] == [False] * 50 + [True] * 10
    assert run.next_answer(10.999).outcome == "rate_limited"
    assert run.next_answer(11.0).outcome != "rate_limited"
    assert run.statistics()["received"] == 62
    assert run.statistics()["rate_limited"] == 11


def test_the_outage_begins_at_its_time_after_the_first_request(server: dict[str, Any]) -> None:
    run = server["Run"](1, outage_after=1.5)
    times = [100.0, 101.4, 101.5, 103.4, 103.5]
    assert [run.next_answer(now).outcome == "outage" for now in times] == [False, False, True, True, False]
