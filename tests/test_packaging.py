"""What is shipped, what an import loads, and that the papers agree with the package."""

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import FunctionType

import pytest

import resilience

ROOT = Path(__file__).parent.parent
PACKAGES = ["resilience", "resilience_httpx"]


def loaded_by(statement: str) -> set[str]:
    code = (
        f"import asyncio, sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", code]
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=path)
    return set(done.stdout.split())


def test_importing_the_core_loads_nothing_that_it_may_not_need() -> None:
    loaded = loaded_by("import resilience")
    top_level = {name.partition(".")[0] for name in loaded}
    heavy = {"aiolimiter", "aiohttp", "httpx", "json", "loguru", "tenacity"}
    assert not top_level & heavy
    # Import time is what is loaded: asyncio itself loads 105 modules, the core adds a handful.
    own = {name for name in loaded if name.partition(".")[0] == "resilience"}
    assert len(loaded - own) <= 25, sorted(loaded - own)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_public_names_are_sorted_and_complete(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__all__ == sorted(package.__all__)
    public = {
        each
        for each, value in vars(package).items()
        if not each.startswith("_") and type(value).__name__ != "module"
    }
    on_demand = {"ClientConfig"} & {*package.__all__}
    assert public | on_demand == {*package.__all__}


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_public_is_documented_and_typed(name: str) -> None:
    package = importlib.import_module(name)
    assert (Path(package.__file__).parent / "py.typed").exists()
    undocumented = [
        each
        for each in package.__all__
        if isinstance(getattr(package, each), (type, FunctionType)) and not getattr(package, each).__doc__
    ]
    assert not undocumented


def test_an_installed_wheel_holds_the_two_packages_and_nothing_else() -> None:
    files = importlib.metadata.files("async-resilience") or []
    tops = {file.parts[0] for file in files if not file.parts[0].endswith(".dist-info")}
    if any(top.endswith(".pth") for top in tops):
        pytest.skip("an editable install: the wheel is checked where the wheel is installed")
    assert tops == set(PACKAGES)


def test_an_installed_package_registers_its_pytest_plugin() -> None:
    registered = importlib.metadata.distribution("async-resilience").entry_points.select(group="pytest11")
    assert [(each.name, each.value) for each in registered] == [("resilience", "resilience.testing.plugin")]


def test_no_module_is_imported_under_a_second_name() -> None:
    assert not [name for name in sys.modules if name.partition(".")[0] == "integrations"]


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] in {"Unreleased", version}
    assert version in versions
    assert importlib.metadata.version("async-resilience") == version


def test_the_errors_are_also_a_module() -> None:
    assert resilience.errors.ResilienceError is resilience.ResilienceError
