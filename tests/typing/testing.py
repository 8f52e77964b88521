"""What type checkers make of the tools for tests."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from types import CoroutineType
from typing import Any, assert_type

from resilience import Event
from resilience.testing import (
    CacheStoreTests,
    EventRecorder,
    InjectErrors,
    InjectLatency,
    InjectResult,
    VirtualTime,
    VirtualTimeLoop,
    inject_errors,
    inject_latency,
    inject_result,
    no_waits,
    run_virtually,
)


async def fetch(login: str, *, full: bool = False) -> int:
    return len(login) + full


assert_type(inject_latency((0.1, 2)), InjectLatency)
assert_type(inject_errors(OSError), InjectErrors)
assert_type(inject_errors([OSError, ValueError]), InjectErrors)
assert_type(inject_errors(lambda: OSError("down")), InjectErrors)
assert_type(inject_result(None), InjectResult)
inject_errors(KeyboardInterrupt)  # type: ignore[arg-type]

injected = inject_latency(1)(fetch)
call = injected("ada")
checked = assert_type(call, CoroutineType[Any, Any, int])
wrong = injected(1)  # type: ignore[arg-type]

assert_type(run_virtually(fetch("ada")), int)
loop_factory: Callable[[], VirtualTimeLoop] = VirtualTimeLoop


async def use(time: VirtualTime, recorder: EventRecorder) -> None:
    assert_type(time.now, float)
    assert_type(await recorder.wait_for("retry", count=2), Event)
    assert_type(recorder.of("retry"), list[Event])
    with no_waits() as skipped:
        assert_type(skipped.waits, list[float])


class TestStore(CacheStoreTests):
    values = (None, 1)

    def store(self) -> object:
        return asynccontextmanager
