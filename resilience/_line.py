"""The line before a limiter: first come, first served, across tasks, threads and event loops.

Nobody in line polls. Each event loop that has callers in the line keeps one timer, for the next turn,
whoever's that is; the loop that comes first admits everyone whose turn has come, in order, also those of
the other loops. So a loop that is busy, stands still or has been closed holds up nobody but its own
callers. Nobody overtakes: while somebody waits, a new caller goes to the end of the line, whatever it
asks for.

A caller gets its tokens in the moment in which its turn comes, not when its task resumes. If it is
cancelled in between, it gives them back; if it is cancelled before, its place goes to the next.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from contextlib import suppress
from contextvars import Context

from resilience import _clock, _deadline
from resilience._limiters import Limiter, Queue, Rule
from resilience._loops import run_in, running_loop

RANG_EARLY = 0.001
"""Seconds to the next alarm at least after one that rang too early: because the policies' clock stands
still, as a frozen one does while the loop's runs on, or because the loop counts whole milliseconds."""


class Exclusive:
    """The right to decide about the limiters of a rule alone: its lock is held, its straight paths are off.

    Entering it returns the time.
    """

    __slots__ = ("_rule",)

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def __enter__(self) -> float:
        rule, mine = self._rule, False
        rule.lock.acquire()
        try:
            while (
                rule.busy
            ):  # with a few lines in another thread, which go on as soon as this one lets them
                time.sleep(_clock.SHORTEST_WAIT)
            mine = rule.busy = True
            return _clock.monotonic()
        except BaseException:
            rule.busy = rule.busy and not mine
            rule.lock.release()
            raise

    def __exit__(self, *error: object) -> None:
        self._rule.busy = False
        self._rule.lock.release()


class Waiter:
    """A caller in line."""

    __slots__ = ("cost", "future", "limiter", "loop", "taken_at")

    def __init__(self, limiter: Limiter, cost: float, loop: asyncio.AbstractEventLoop) -> None:
        self.limiter = limiter
        self.cost = cost
        self.loop = loop
        self.future = loop.create_future()
        self.taken_at: float | None = None

    @property
    def is_gone(self) -> bool:
        """Whether nobody is there any more to take its turn."""
        return self.future.cancelled() or self.loop.is_closed()

    def wake(self) -> None:
        """Let its task go on; call it in its loop."""
        if not self.future.done():
            self.future.set_result(None)


def arrive(limiter: Limiter, cost: float, now: float, max_wait: float | None) -> Waiter | float:
    """Admit a caller, refuse it, or put it in line. Call it in `Exclusive`.

    Args:
        limiter: The limiter.
        cost: The tokens that the caller asks for.
        now: The time.
        max_wait: The longest time that the caller may wait, in seconds; its deadline may come sooner.

    Returns:
        0.0 if it is admitted, its place in line, or the seconds after which its turn would come.
    """
    if limiter.line is not None:
        limiter.line.serve(now)
    if limiter.line is None and limiter.take(now, cost):
        return 0.0
    line = limiter.line or Line(limiter)
    patience = _patience(max_wait, now)
    if patience < math.inf:
        wait = limiter.wait(now, cost, line.queue)
        # Sums of times are rounded: a wait that is just as long as allowed shall not fail for that.
        if wait > patience * (1 + 1e-9):
            return wait
    return line.join(cost, now)


def _patience(max_wait: float | None, now: float) -> float:
    """Return the seconds that a caller may wait: until its deadline, if that comes first."""
    longest = math.inf if max_wait is None else max_wait
    left = _deadline.remaining(now)
    return longest if left is None else min(longest, max(left, 0.0))


async def turn(waiter: Waiter) -> None:
    """Wait for the turn of a caller that `arrive` put in line."""
    try:
        await waiter.future
    except GeneratorExit:
        # Can come from the garbage collector in the midst of anything, so it must not wait for a lock.
        with suppress(RuntimeError):
            waiter.loop.call_soon_threadsafe(_leave, waiter)
        raise
    except BaseException:
        _leave(waiter)
        raise


def _leave(waiter: Waiter) -> None:
    """Pass on what a caller has, its tokens or its place."""
    limiter = waiter.limiter
    with Exclusive(limiter.rule) as now:
        if waiter.taken_at is not None:
            limiter.give_back(waiter.cost, waiter.taken_at)
        elif limiter.line is not None:
            limiter.line.discard(waiter)
        if limiter.line is not None:
            limiter.line.serve(now)


class _Alarm:
    """The next time at which a loop looks after the line."""

    __slots__ = ("due", "timer")

    def __init__(self, due: float, timer: asyncio.TimerHandle | None) -> None:
        self.due = due
        self.timer = timer

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Line:
    """Those who wait for a limiter. It exists while there are any; guarded by the limiter's lock."""

    __slots__ = ("_alarms", "_limiter", "_loops", "_shortest", "queue")

    def __init__(self, limiter: Limiter) -> None:
        self.queue: Queue[Waiter] = Queue()
        self._limiter = limiter
        self._loops: Counter[asyncio.AbstractEventLoop] = Counter()  # how many of its callers wait
        self._alarms: dict[asyncio.AbstractEventLoop, _Alarm] = {}
        self._shortest = _clock.SHORTEST_WAIT

    def join(self, cost: float, now: float) -> Waiter:
        """Put a caller of the running loop at the end."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(self._limiter, cost, loop)
        self.queue.add(waiter)
        self._loops[loop] += 1
        self._limiter.line = self
        if loop not in self._alarms:
            self._set_alarm(loop, now, self._limiter.wait(now, self._first.cost))
        return waiter

    def discard(self, waiter: Waiter) -> None:
        """Take a caller out, if it is still in."""
        if waiter in self.queue:
            self.queue.remove(waiter)
            self._loops[waiter.loop] -= 1
            if not self._loops[waiter.loop]:
                del self._loops[waiter.loop]

    def serve(self, now: float) -> None:
        """Admit everyone whose turn has come, and see to it that the next turn is not missed."""
        here = running_loop()
        while self.queue:
            first = self._first
            if not first.is_gone:
                if not self._limiter.take(now, first.cost):
                    break
                first.taken_at = now
                if not run_in(first.loop, here, first.wake):
                    self._limiter.give_back(first.cost, now)
            self.discard(first)
        if self.queue:
            self._await_turn(here, now)
        else:
            self._end(here)

    @property
    def _first(self) -> Waiter:
        return next(iter(self.queue))

    def _await_turn(self, here: asyncio.AbstractEventLoop | None, now: float) -> None:
        """Have the loop of the first in line look after it in time."""
        loop = self._first.loop
        wait = self._limiter.wait(now, self._first.cost)
        alarm = self._alarms.get(loop)
        if loop is here:
            if alarm is None or alarm.due > now + wait:
                self._set_alarm(loop, now, wait)
        elif alarm is None or alarm.due > now + wait + _clock.SHORTEST_WAIT:
            # Timers belong to the thread of their loop: have it set a new one.
            self._alarms[loop] = _Alarm(now, alarm.timer if alarm else None)
            if not run_in(loop, here, lambda: self._ring(loop)):
                self.serve(now)

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, now: float, wait: float) -> None:
        """Have the line looked after in some seconds. Call it in the loop."""
        alarm = self._alarms.get(loop)
        if alarm is not None:
            alarm.cancel()
        wait = max(wait, self._shortest)
        # In a context of its own: it is for all, and shall not keep the context of one caller.
        timer = self._limiter.call_later(loop, wait, lambda: self._ring(loop), Context())
        self._alarms = {each: alarm for each, alarm in self._alarms.items() if not each.is_closed()}
        self._alarms[loop] = _Alarm(now + wait, timer)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        with Exclusive(self._limiter.rule) as now:
            alarm = self._alarms.pop(loop, None)
            if alarm is not None:
                alarm.cancel()
                # Half, as a loop may be early by the resolution of its clock.
                if alarm.due - now > _clock.SHORTEST_WAIT / 2:
                    self._shortest = RANG_EARLY
            if self.queue:
                self.serve(now)
            if self._loops[loop] and loop not in self._alarms:
                self._set_alarm(loop, now, self._limiter.wait(now, self._first.cost))
            self._shortest = _clock.SHORTEST_WAIT

    def _end(self, here: asyncio.AbstractEventLoop | None) -> None:
        for loop, alarm in self._alarms.items():
            run_in(loop, here, alarm.cancel)
        self._alarms = {}
        self._limiter.line = None
