"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it.

When no task can run, the loop sets its clock to the next timer, exactly, and goes on: an hour of backoff
takes a millisecond, and every time is exact. When there is no timer either, nothing can ever happen any
more, and the loop says so: `StuckError` shows every task and the line it waits at. While a virtual loop
runs, the policies go by its clock: for them ``loop.time()`` and the time of this library are one.

What other threads and other processes do takes real time, but no virtual time. As long as a job of
``asyncio.to_thread`` or ``run_in_executor`` is under way, the clock stands still. While sockets or pipes
are open, the clock jumps only when they were silent for a moment. Both have a limit in real seconds.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from resilience import _arguments
from resilience.testing._clocks import clock_of
from resilience.testing._timeline import Timeline, runs_at
from resilience.testing._waiting import describe

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StuckError(AssertionError):
    """Every task waits, and nothing is left that could wake one; the text shows where each one waits."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that takes no real time; its clock starts at 0.0 and jumps to the next timer.

    Each loop has a clock of its own, which all policies go by in the thread that runs it, and in threads
    that run no loop at all. Several loops may run in several threads at once.

    Args:
        patience: Real seconds to wait for a job in another thread before time goes on without it; and,
            when nothing else is left to happen, for sockets and other threads before it is a `StuckError`.
        quiet: Real seconds for which open sockets and pipes must be silent before time jumps.

    Raises:
        TypeError: If an argument is not a duration.
        ValueError: If an argument is negative or not finite.

    Example:
        >>> async def main() -> float:
        ...     await asyncio.sleep(3600)
        ...     return asyncio.get_running_loop().time()
        >>> with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        ...     runner.run(main())
        3600.0
    """

    def __init__(self, *, patience: _arguments.Seconds = 5.0, quiet: _arguments.Seconds = 0.1) -> None:
        self._timeline = Timeline()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._settling: list[asyncio.Future[None]] = []
        self._files = _Selector(self._real_wait, self._go_on)
        super().__init__(self._files)
        self._own_files = len(self._files.get_map())
        try:
            self._patience = _arguments.seconds("patience", patience)
            self._quiet = _arguments.seconds("quiet", quiet)
        except BaseException:
            self.close()  # a loop complains if it is forgotten open, or not made in full
            raise

    @property
    def now(self) -> float:
        """The virtual time in seconds."""
        return self._timeline.now

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._timeline.now

    def advance(self, seconds: _arguments.Seconds) -> None:
        """Let time pass without running anything in between; timers that are due then run next."""
        passed = _arguments.seconds("seconds", seconds)
        self._timeline.move_to(self._timeline.now + passed)

    async def settle(self) -> None:
        """Wait until no other task can go on without time passing."""
        settled = self.create_future()
        self._settling.append(settled)
        await settled

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call a function at a time; see ``asyncio.loop.call_at``."""
        timer = super().call_at(runs_at(when), callback, *args, context=context)
        self._timeline.add(when, timer)
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in another thread; see ``asyncio.loop.run_in_executor``."""
        return self._stand_still_until(super().run_in_executor(executor, func, *args))

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads of the default executor; see ``asyncio.loop.shutdown_default_executor``."""
        end = self._stand_still_until(self.create_future())
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            end.cancel()

    def run_forever(self) -> None:
        """Run the loop until it is stopped; all policies go by its time meanwhile."""
        with clock_of(self):
            super().run_forever()

    def _stand_still_until(self, job: asyncio.Future[T]) -> asyncio.Future[T]:
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def _real_wait(self) -> float:
        """Return the real seconds to wait for what is outside of this thread."""
        if any(not job.done() for job in self._jobs):
            return self._patience
        has_files = len(self._files.get_map()) > self._own_files
        if self._settling or self._timeline.next() is not None:
            return self._quiet if has_files else 0
        return self._patience if has_files or threading.active_count() > 1 else 0

    def _go_on(self) -> None:
        """Let time jump: nothing can happen before the next timer."""
        __tracebackhide__ = True
        self._jobs.clear()  # those that are still not done have used up our patience
        settling, self._settling = self._settling, []
        for each in settling:
            if not each.done():
                each.set_result(None)
        if settling:
            return
        due = self._timeline.next()
        if due is None:
            raise StuckError(
                f"every task waits, and nothing is left that could wake one (at {self.time():g} s):\n"
                f"{describe(asyncio.all_tasks(self))}"
            )
        self._timeline.move_to(due)


class _Selector(selectors.DefaultSelector):
    """Asks what to do when nothing is ready, where others wait."""

    def __init__(self, real_wait: Callable[[], float], go_on: Callable[[], None]) -> None:
        super().__init__()
        self._real_wait = real_wait
        self._go_on = go_on

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        __tracebackhide__ = True
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        wait = self._real_wait()
        if wait:
            ready = super().select(wait)
        if not ready:
            self._go_on()
        return ready
