"""The whole benchmark, in new environments; needs nothing but Python.

    python -m tests.benchmarks [--quick]

For each of the versions of Python that is found it makes an environment in `.bench`, runs all parts on each
event loop, and in the end writes `docs/benchmarks`. A quick trial writes into `.bench/trial`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.results import LOOPS, REQUIREMENTS, pinned

VERSIONS = ("3.11", "3.13")
FOLDER = Path(".bench")
DOCS = Path("docs/benchmarks")

PARTS = {
    "measure": LOOPS,
    "crowds": LOOPS,
    "growth": LOOPS,
    "http_clients": LOOPS,
    "memory": LOOPS[:1],
    "imports": LOOPS[:1],
}
"""What is measured, and on which event loops; the last two have nothing to do with them."""


def candidates(version: str) -> Iterator[str]:
    """Return where a version of Python may be."""
    if command := shutil.which(f"python{version}"):
        yield command
    # Under pyenv, a version that is installed but not selected has no working command on the PATH.
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))


def works(python: str, code: str = "") -> bool:
    """Return whether a command runs Python code."""
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def find(version: str) -> str | None:
    """Return the command of a version of Python, if there is one."""
    return next(filter(works, candidates(version)), None)


def make_environment(python: str, folder: Path) -> str:
    """Install the project and what it is compared with; return the command of the new environment."""
    run(python, "-m", "venv", "--clear", str(folder))
    made = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    install(made)
    return made


def install(python: str) -> None:
    """Install the project, and of the rivals those that can be; the page names the others."""
    pip = (python, "-m", "pip", "install", "--quiet")
    everything = (*pip, "--editable", ".[all]", "--requirement", str(REQUIREMENTS))
    if subprocess.run(everything, check=False).returncode == 0:
        return
    run(*pip, "--editable", ".[all]")
    for name, version in pinned().items():
        subprocess.run([*pip, f"{name}=={version}"], check=False)


def run(*command: str) -> None:
    """Run a command, and stop if it fails."""
    print("$", *command, flush=True)
    subprocess.run(command, check=True)


def measure(python: str, version: str, folder: Path, options: Sequence[str]) -> None:
    """Run all parts in an environment."""
    for part, loops in PARTS.items():
        for loop in loops:
            if works(python, f"import {loop}"):
                out = folder / f"{part}-{version}-{loop}.json"
                run(python, "-m", f"tests.benchmarks.{part}", "--loop", loop, "--out", str(out), *options)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short trial, whose figures mean little")
    quick = parser.parse_args().quick
    folder, docs = (FOLDER / "trial", FOLDER / "trial") if quick else (FOLDER / "results", DOCS)
    shutil.rmtree(folder, ignore_errors=True)
    made = []
    for version in VERSIONS:
        python = find(version)
        if python is None:
            print(f"Python {version} is not here")
            continue
        made.append(make_environment(python, FOLDER / version))
        measure(made[-1], version, folder, ["--quick"] * quick)
    if not made:
        sys.exit(f"none of the versions {', '.join(VERSIONS)} of Python is here")
    run(made[-1], "-m", "tests.benchmarks.report", str(folder), str(docs))


if __name__ == "__main__":
    main()
