"""A short soak: random faults and cancellations leave nothing behind."""

import tracemalloc

import pytest

from tests.measure_soak import CALLS, soak


@pytest.mark.real_time
async def test_random_faults_and_cancellations_leave_nothing_behind() -> None:
    tracemalloc.start()
    try:
        ends = await soak(0, rounds=2, callers=15)
    finally:
        tracemalloc.stop()
    assert ends.total() == 2 * 15 * CALLS
    assert ends["cancelled"] > 0
    assert ends["200"] > ends.total() / 2
