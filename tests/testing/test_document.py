"""The test files that the page about testing shows are run by pytest, with the modules they import."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing.md"
FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = dict(FILE.findall(PAGE.read_text()))
TESTS = [name for name in FILES if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
def test_a_file_of_the_page_passes(name: str, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\npythonpath = .\nasyncio_default_fixture_loop_scope = function\n")
    needed = ["users.py", name, *re.findall(r"^from (test_\w+) import", FILES[name], re.MULTILINE)]
    if "pytest_asyncio" in name:
        needed.append("conftest.py")
    for each in needed:
        path = pytester.path / f"{each.removesuffix('.py')}.py"
        path.write_text(FILES[path.name])
    done = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider", name)
    done.assert_outcomes(passed=FILES[name].count("def test_") or 15)


def test_every_fixture_and_every_tool_is_on_the_page() -> None:
    import resilience.testing

    text = PAGE.read_text()
    handles = {"Chaos", "InjectErrors", "InjectLatency", "InjectResult", "SkippedWaits", "VirtualTime"}
    missing = [name for name in {*resilience.testing.__all__} - handles if name not in text]
    assert not missing
