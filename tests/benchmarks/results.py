"""What the parts of the benchmark have in common: their arguments, the environment, the file they write."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
from collections.abc import Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any

LOOPS = ("asyncio", "uvloop")
REQUIREMENTS = Path(__file__).parent / "requirements.txt"


def arguments(description: str) -> argparse.ArgumentParser:
    """Make a parser for the arguments that all parts take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a short trial, whose figures mean little")
    parser.add_argument(
        "--loop", choices=LOOPS, default=LOOPS[0], help="the event loop; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    return parser


def run(coroutine: Coroutine[Any, Any, dict[str, Any]], loop: str) -> dict[str, Any]:
    """Run a part on an event loop; return its results together with the environment."""
    make_loop = None
    if loop == "uvloop":
        import uvloop

        make_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        results = runner.run(coroutine)
    return {**environment(), "loop": loop, **results}


def environment() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that names the machine."""
    return {"python": platform.python_version(), "versions": versions()}


def versions() -> dict[str, str]:
    """Return the installed versions of what the benchmark requires."""
    found = {}
    for name in pinned():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def pinned() -> dict[str, str]:
    """Return the versions that the benchmark requires."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return {name: version for name, exact, version in (line.partition("==") for line in lines) if exact}


def write(results: dict[str, Any], path: Path | None) -> None:
    """Write the results to a file, if one is wanted."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def read(folder: Path, part: str) -> list[dict[str, Any]]:
    """Return what a part found on each version of Python and each event loop, as far as it was measured."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{part}-*.json"))]


def place(run: dict[str, Any]) -> str:
    """Return where a part ran, for the head of a table."""
    return f"{'.'.join(run['python'].split('.')[:2])} {run['loop']}"
