"""The fault matrix: each fault over each carrier, and the table of it in the documents."""

import pytest

from tests.support.faults import CARRIERS, DOCUMENT, FAULTS, METHODS, Fault, outcome


def in_the_table(fault: Fault, carrier: str, method: str) -> str:
    """Return what the document says of a fault."""
    rows = [row.split(" | ") for row in DOCUMENT.read_text().replace("|\n", " |\n").splitlines() if row]
    (row,) = (row for row in rows if row[:2] == [f"| {fault.name}", method])
    return row[2 + [*CARRIERS].index(carrier)].removesuffix(" |").strip()


@pytest.mark.real_time
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_the_table_of_faults_tells_what_happens(fault: Fault, carrier: str, method: str) -> None:
    assert await outcome(fault, carrier, method) == in_the_table(fault, carrier, method)
