"""Async tests run in virtual time; those marked ``real_time`` use sockets or threads."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from resilience import Event, set_active, subscribe
from tests.support.virtual_time import run_virtually


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_time: runs on a real event loop")
    config.addinivalue_line("markers", "slow: takes a minute, and once for all environments is enough")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    coroutine = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    if pyfuncitem.get_closest_marker("real_time"):
        asyncio.run(coroutine)
    else:
        run_virtually(coroutine)
    return True


@pytest.fixture(autouse=True)
def _policies_are_active() -> Iterator[None]:
    yield
    set_active(True)


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """All events of the test, in order."""
    seen: list[Event] = []
    unsubscribe = subscribe(seen.append)
    yield seen
    unsubscribe()
