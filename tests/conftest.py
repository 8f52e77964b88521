"""Async tests run in virtual time; those marked ``real_time`` use sockets or threads."""

import asyncio
import functools
import gc
import inspect
import ssl
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from resilience import Event, _clock, set_active, subscribe
from tests.support.virtual_time import run_virtually

pytest_plugins = ["pytester"]

# Quick: the same few examples each time. Long, by `pytest --hypothesis-profile=long`: other ones each time;
# a failure prints what reproduces it. Neither depends on the speed of the machine or on what ran before.
SETTINGS = settings(
    database=None, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", SETTINGS, max_examples=50, derandomize=True, stateful_step_count=30)
settings.register_profile("long", SETTINGS, max_examples=10_000, derandomize=False, stateful_step_count=30)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_time: runs on a real event loop")
    config.addinivalue_line("markers", "slow: takes a minute, and once for all environments is enough")


def pytest_collection_finish() -> None:
    # Hundreds of tests look for garbage: let them not look through all of the tests each time.
    gc.collect()
    gc.freeze()


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


@pytest.fixture
def punctual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have retries that were asked to come later come just then."""
    monkeypatch.setattr("resilience._backoff.later", lambda asked, at_most: 0.0)


@pytest.fixture(autouse=True, scope="session")
def _certificates_are_read_once() -> Iterator[None]:
    """Let all clients share what takes each 20 ms to read; no test looks at certificates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


@pytest.fixture(autouse=True)
def _policies_are_active() -> Iterator[None]:
    yield
    set_active(True)
    # A patch made in virtual time is undone after it, which puts virtual time back.
    _clock.monotonic = time.monotonic


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """All events of the test, in order."""
    seen: list[Event] = []
    unsubscribe = subscribe(seen.append)
    yield seen
    unsubscribe()
