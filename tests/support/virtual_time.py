"""An event loop whose time jumps to the next timer instead of passing."""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from resilience import _clock

T = TypeVar("T")


class StuckError(AssertionError):
    """Every task waits, and nothing is left that could wake one."""


class _JumpingSelector(selectors.DefaultSelector):
    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise StuckError("every task waits, and nothing is left that could wake one")
        if not events and timeout:
            self.loop.jump()
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0.0 seconds, so that a time of zero which is taken for "unset" shows."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def jump(self) -> None:
        """Go to the next timer, exactly."""
        self.now = max(self.now, self._scheduled[0].when())

    def advance(self, seconds: float) -> None:
        """Let time pass without running anything in between."""
        self.now += seconds


@contextmanager
def clock_of(loop: VirtualTimeLoop) -> Iterator[None]:
    """Let all policies read the time of a virtual loop."""
    real = _clock.monotonic
    _clock.monotonic = loop.time
    try:
        yield
    finally:
        _clock.monotonic = real


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time; whatever it leaves running is an error."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        loop = runner.get_loop()
        with clock_of(loop):
            return runner.run(_alone(main))


async def _alone(main: Coroutine[Any, Any, T]) -> T:
    result = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left running: {left}"
    return result


def now() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()


def advance(seconds: float) -> None:
    """Let virtual time pass without running anything in between."""
    asyncio.get_running_loop().advance(seconds)


async def settle(turns: int = 20) -> None:
    """Let every task run as far as it can without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
