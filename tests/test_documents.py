"""Every snippet of the documents, every example of a docstring and every example file runs as it stands."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import resilience
import resilience_httpx
from resilience_httpx import ClientConfig

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
# The demo has a test file of its own.
EXAMPLES = sorted(
    path for path in ROOT.glob("examples/*.py") if path.stem not in {"quickstart", "flaky_server"}
)
MODULES = [
    module.name
    for package in (resilience, resilience_httpx)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_snippets_of_a_document_run_one_after_the_other(document: Path) -> None:
    run("tests/support/run_document.py", str(document))


def test_the_files_in_a_document_make_clients(tmp_path: Path) -> None:
    files = re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "docs/http_client.md").read_text(), re.DOTALL | re.MULTILINE
    )
    for text in files:
        file = tmp_path / "client.toml"
        file.write_text(text)
        client = ClientConfig.load(file).client()
        assert client.retry is not None
        assert client.cache is not None
    assert files


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_it_stands(path: Path) -> None:
    done = run(str(path))
    assert done.stdout
    assert done.stderr == ""
