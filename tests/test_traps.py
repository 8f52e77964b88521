"""Every defect that the libraries of this field shipped has a test here, or a reason why it cannot exist.

T numbers are the defects of Python libraries, B numbers those of other languages. A test carries the number
of its defect in its name, or those of several: ``test_t11_half_open_admits_only_its_probes``.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NUMBERS = [*(f"t{number}" for number in range(1, 75)), *(f"b{number}" for number in range(1, 25))]

CANNOT_EXIST = {
    "t56": "a time to live rounded to 0 in Redis: no limiter keeps its state in Redis",
    "t57": "members of a Redis sorted set that collide: no limiter keeps its state in Redis",
    "b23": "a circuit shared by processes that loses its state: each process has its own",
}


def names_of_tests() -> set[str]:
    """Return the names of all test functions and methods."""
    text = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    return set(re.findall(r"def (test_\w+)\(", text))


TESTED = {
    number
    for name in names_of_tests()
    for numbers in re.findall(r"^test_((?:[tb]\d+_)+)", name)
    for number in numbers.rstrip("_").split("_")
}


@pytest.mark.parametrize("number", NUMBERS)
def test_each_trap_has_its_test_or_a_reason_why_it_cannot_exist(number: str) -> None:
    assert (number in TESTED) != (number in CANNOT_EXIST)


def test_no_test_has_a_number_that_does_not_exist() -> None:
    assert set(NUMBERS) >= TESTED
    assert set(NUMBERS) >= set(CANNOT_EXIST)
