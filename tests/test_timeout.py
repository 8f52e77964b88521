"""`timeout`: what counts as its expiry, and what does not."""

import asyncio

import pytest

from resilience import CallTimeoutError, timeout
from tests.support.virtual_time import now


async def test_cuts_a_call_off_at_its_limit() -> None:
    ended_at = None

    @timeout(2)
    async def slow() -> None:
        nonlocal ended_at
        try:
            await asyncio.sleep(10)
        finally:
            ended_at = now()

    with pytest.raises(CallTimeoutError):
        await slow()
    assert ended_at == 2.0
    assert asyncio.current_task().cancelling() == 0
