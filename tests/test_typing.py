"""The public types, judged by mypy and pyright: exact where right, an error where wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKERS = {"mypy": ["--no-error-summary"], "pyright": ["--pythonpath", sys.executable]}


@pytest.mark.parametrize("checker", CHECKERS)
def test_t74_exact_types_for_functions_methods_and_stacks(checker: str) -> None:
    pytest.importorskip(checker)
    # In these files each wrong call bears an ignore, and an ignore that is not needed is an error too.
    command = [sys.executable, "-m", checker, *CHECKERS[checker], "tests/typing"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
