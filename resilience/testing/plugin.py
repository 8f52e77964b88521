"""The pytest plugin: three fixtures, and the way to run an async test that asks for virtual time.

It is loaded by its entry point, and changes nothing for a test that does not ask for one of them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from resilience.testing import EventRecorder, SkippedWaits, VirtualTime, _clocks
from resilience.testing import no_waits as skip_waits
from resilience.testing._virtual_time import WRONG_LOOP


@pytest.fixture
def virtual_time() -> Iterator[VirtualTime]:
    """Virtual time: the test takes no real time, and every time in it is exact.

    An async test is run in a virtual loop, unless pytest-asyncio or anyio runs it: those have to be told.
    In a plain test, ``virtual_time.run(coroutine)`` does that.
    """
    with VirtualTime() as time:
        yield time


@pytest.fixture
def no_waits() -> Iterator[SkippedWaits]:
    """Skip the waits of all policies during the test; ``no_waits.waits`` tells which."""
    with skip_waits() as skipped:
        yield skipped


@pytest.fixture
def resilience_events() -> Iterator[EventRecorder]:
    """Record the events of all policies during the test."""
    with EventRecorder() as recorder:
        yield recorder


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run an async test that asks for virtual time, and see to it that it gets it."""
    time = pyfuncitem.funcargs.get("virtual_time")
    if not isinstance(time, VirtualTime) or not inspect.iscoroutinefunction(inspect.unwrap(pyfuncitem.obj)):
        return (yield)
    before = _clocks.entries()
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test) and "anyio_backend" not in pyfuncitem.funcargs:
        pyfuncitem.obj = _as_plain(test, time)
    try:
        result = yield
    finally:
        pyfuncitem.obj = test
    if _clocks.entries() == before:
        pytest.fail(WRONG_LOOP, pytrace=False)
    return result


def _as_plain(test: Any, time: VirtualTime) -> Any:
    @functools.wraps(test)
    def run(**arguments: object) -> None:
        time.run(test(**arguments))

    return run
