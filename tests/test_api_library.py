"""The worked example: a whole client library in under 200 lines, against its own unreliable server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "examples" / "api_library"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-m", "examples.api_library", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done


def levels(done: "subprocess.CompletedProcess[str]") -> set[str]:
    return set(re.findall(r"\| (\w+) +\|", done.stderr))


def test_every_part_of_it_works_over_a_server_that_fails() -> None:
    told = run().stdout
    assert "one:   User(name='ada', email='ada@example.com')" in told
    assert "all:   ['ada', 'alan', 'barbara', 'donald', 'edsger', 'grace', 'tony']" in told
    assert "new:   User(name='linus', email='linus@example.com')" in told
    assert "taken: 409 Conflict" in told
    assert "many:  {'ada': 'User', 'nobody': 'UserNotFoundError', 'grace': 'User'}" in told
    assert "gone:  404 Not Found" in told
    assert "event: {'deleted': 'linus'}" in told
    assert "every third one answered 503" in told


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("DEBUG", {"DEBUG", "INFO", "WARNING", "ERROR"}),
        ("INFO", {"INFO", "WARNING", "ERROR"}),
        ("WARNING", {"WARNING", "ERROR"}),
        ("ERROR", {"ERROR"}),
    ],
)
def test_it_logs_at_four_levels(level: str, shown: set[str]) -> None:
    assert levels(run(level)) == shown


def test_it_is_short() -> None:
    lines = [(LIBRARY / name).read_text().splitlines() for name in ("users.py", "server.py")]
    assert sum(map(len, lines)) < 200
