"""Virtual time for tests: the handle behind the fixture ``virtual_time``, and `run_virtually`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from resilience import _arguments
from resilience.testing._clocks import clock_of
from resilience.testing._virtual_loop import VirtualTimeLoop
from resilience.testing._waiting import describe

T = TypeVar("T")


class VirtualTime:
    """Virtual time as a test sees it: the fixture ``virtual_time``.

    In an async test it stands for the virtual loop that runs the test. In a plain test, ``run`` makes such
    a loop: one for all calls, so that time goes on from one to the next. Policies go by its time until the
    end of the test. For one thread.

    Example:
        >>> from resilience import retry
        >>> @retry(attempts=3, on=OSError, wait=60)
        ... async def fetch() -> str:
        ...     raise OSError("down")
        >>> with VirtualTime() as time:
        ...     try:
        ...         time.run(fetch())
        ...     except OSError as error:
        ...         print(error, time.now)
        down 120.0
    """

    def __init__(self) -> None:
        self._exit = ExitStack()
        self._own: asyncio.AbstractEventLoop | None = None
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)

    @property
    def now(self) -> float:
        """The virtual time in seconds; it starts at 0.0."""
        return self._loop().now

    def advance(self, seconds: _arguments.Seconds) -> None:
        """Let time pass without running anything in between.

        Timers that are due then run afterwards, when the test waits for something; to let everything
        happen at its time, ``await asyncio.sleep(seconds)`` instead.

        Args:
            seconds: Seconds or ``timedelta``, 0 or more.

        Raises:
            TypeError: If ``seconds`` is not a duration.
            ValueError: If ``seconds`` is negative or not finite.
        """
        self._loop().advance(seconds)

    async def settle(self) -> None:
        """Wait until no other task can go on without time passing."""
        await self._loop().settle()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine from a plain test.

        Returns:
            What it returns.

        Raises:
            AssertionError: If it leaves tasks running; the text shows where they wait.
            StuckError: If every task waits, and nothing is left that could wake one.
        """
        self._loop()
        return self._runner.run(_alone(main))

    def _loop(self) -> VirtualTimeLoop:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = self._own or self._open()
        if isinstance(loop, VirtualTimeLoop):
            return loop
        raise RuntimeError(WRONG_LOOP)

    def _open(self) -> asyncio.AbstractEventLoop:
        self._exit.enter_context(self._runner)
        self._own = self._runner.get_loop()
        self._exit.enter_context(clock_of(self._own))
        return self._own

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()


WRONG_LOOP = """\
virtual_time needs the test to run in a virtual loop, and this one runs in another. This makes every
async test virtual; the page about testing tells how to choose some. In conftest.py,
  for pytest-asyncio 1.4 or newer:
    from resilience.testing import VirtualTimeLoop

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualTimeLoop}
  for anyio:
    import pytest
    from resilience.testing import VirtualTimeLoop

    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": VirtualTimeLoop}"""


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, as ``asyncio.run`` does in real time.

    Returns:
        What the coroutine returns.

    Raises:
        AssertionError: If it leaves tasks running; the text shows where they wait.
        StuckError: If every task waits, and nothing is left that could wake one.

    Example:
        >>> async def main() -> float:
        ...     await asyncio.sleep(3600)
        ...     return asyncio.get_running_loop().time()
        >>> run_virtually(main())
        3600.0
    """
    with VirtualTime() as time:
        return time.run(main)


async def _alone(main: Coroutine[Any, Any, T]) -> T:
    result = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise AssertionError(f"tasks left running:\n{describe(left)}")
    return result
