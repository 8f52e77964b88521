"""Where the calls of one bulkhead get their slots, wait for them, and give them back.

Nobody in the queue polls: whoever gives a slot back wakes the next, in the next one's own loop, so one
bulkhead serves several loops in several threads at once. A caller has its slot from the moment in which
it is granted, not when its task resumes; if it is cancelled in between, it passes the slot on. One whose
loop has been closed is passed over.

A slot can come back at any time and in any thread: the garbage collector may end a forgotten call in the
middle of a decision. So giving back never waits for the lock: what cannot be done at once is left to
the holder of the lock, who looks for it again after having let go.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

from resilience import _clock, _deadline, _events
from resilience._bulkhead_slots import Limit, Permit, QueuedPermit, Slots
from resilience._errors import BulkheadFullError
from resilience._keys import KeyTable
from resilience._line import RANG_EARLY
from resilience._loops import run_in, running_loop
from resilience._priority_queue import Priority

T = TypeVar("T")

EVERY: Final = object()
"""Stands for all keys at once."""


class Waiter(QueuedPermit):
    """A caller in the queue."""

    __slots__ = ("future", "loop", "reason", "since", "timer")

    def __init__(self, slots: Slots[Any], priority: Priority, since: float) -> None:
        super().__init__(slots, priority)
        self.since = since
        self.loop = asyncio.get_running_loop()
        self.future = self.loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.reason = ""

    @property
    def is_gone(self) -> bool:
        """Whether nobody is there any more to take the slot."""
        return self.future.cancelled() or self.loop.is_closed()

    def wake(self) -> None:
        """Let its task go on; call it in its loop."""
        if not self.future.done():
            self.future.set_result(None)


class Entrance:
    """The slots of one policy. Safe for concurrent tasks, threads and event loops.

    Args:
        new_limit: Makes the limit for the slots of all calls, or of a new key.
        is_straight: Whether calls may pass without the lock.
        max_queue: How many callers may wait, ``None`` for any number.
        max_wait: How many seconds they may wait, ``None`` for any time.
        max_keys: How many keys have slots of their own, ``None`` if all calls share theirs.

    Attributes:
        one: The slots for all calls; with keys nobody's, it counts the rejections of all.
        straight: The permit of all calls that take their slot without the lock.
    """

    def __init__(
        self,
        new_limit: Callable[[], Limit],
        *,
        is_straight: bool,
        max_queue: int | None,
        max_wait: float | None,
        max_keys: int | None,
    ) -> None:
        self._new_limit = new_limit
        self._max_queue = math.inf if max_queue is None else max_queue
        self._max_wait = math.inf if max_wait is None else max_wait
        self._never_waits = 0 in (max_queue, max_wait)
        self.one: Slots[Waiter] = Slots(new_limit(), straight=is_straight)
        self.straight = Permit(self.one)
        self.straight.granted = True
        self._keyed: KeyTable[Slots[Waiter]] | None = None
        if max_keys is not None:
            self._keyed = KeyTable(self._new_slots, max_keys)
        self._lock = threading.Lock()  # not re-entrant: a call that ends in the middle shall not get in
        self._ended: deque[tuple[Permit, bool | None]] = deque()

    # --- Calls ---

    def arrive(self, key: Hashable, priority: Priority, name: str) -> Permit | None:
        """Ask for a slot.

        Returns:
            A permit; a `Waiter` if the caller has to wait, see `wait`; ``None`` if it is refused.
        """
        one = self.one
        # Without the lock, as in the wrapper: a slot is free and nobody waits, or nobody may wait.
        if one.in_flight < one.admits:
            one.in_flight += 1
            return self.straight
        if one.admits and self._never_waits:
            one.rejected += 1
            _tell_rejected(name, priority, "full")
            return None
        permit = self._alone(lambda now: self._admit(key, priority, now))
        if permit is None:
            _tell_rejected(name, priority, "full")
        return permit

    async def wait(self, waiter: Waiter, name: str) -> None:
        """Wait for the slot of a caller that `arrive` put in the queue.

        Raises:
            BulkheadFullError: If its time is over before, or one of a higher priority takes its place.
        """
        try:
            if _events.listeners:
                _events.emit("bulkhead.queued", name, priority=_shown(waiter.priority))
            await waiter.future
        except BaseException:
            self.leave(waiter)
            raise
        finally:
            if waiter.timer is not None:
                waiter.timer.cancel()
        if waiter.granted:
            return
        _tell_rejected(name, waiter.priority, waiter.reason)
        raise BulkheadFullError(policy=name)

    def leave(self, permit: Permit, *, overloaded: bool | None = None) -> None:
        """Give back what a call has; see `Slots.give_back`. Never waits for the lock."""
        if permit.granted and self.one.admits:
            self.one.in_flight -= 1
            return
        self._ended.append((permit, overloaded))
        self._take_back()

    # --- Control; each method takes a key, or `EVERY` ---

    def reset(self, key: Hashable) -> None:
        """Forget what was counted and learned; nobody loses a slot or a place in the queue."""
        self._alone(lambda now: self._reset(key, now))

    def snapshot(self, key: Hashable) -> dict[str, Any]:
        """Return figures as plain data."""
        return self._alone(lambda _: self._figures(key))

    # --- The lock ---

    def _alone(self, decide: Callable[[float], T]) -> T:
        """Decide something with the lock held and the straight path off; ``decide`` gets the time."""
        try:
            # Not a context manager of our own: an interrupt, such as a second Ctrl-C, that comes between
            # taking the lock and entering the block would leave it locked for good.
            with self._lock:
                try:
                    self.one.admits = 0
                    return decide(_clock.monotonic())
                finally:
                    self.one.open()
        finally:
            self._take_back()

    def _take_back(self) -> None:
        """Do what calls left to be done that ended while somebody held the lock."""
        while self._ended and self._lock.acquire(blocking=False):
            try:
                self.one.admits = 0
                now = _clock.monotonic()
                while self._ended:
                    permit, overloaded = self._ended.popleft()
                    permit.slots.give_back(permit, now, overloaded=overloaded)
                    self._serve(permit.slots, now)
                self.one.open()  # if this is not reached, the next decision opens it
            finally:
                self._lock.release()

    # --- What is done with the lock held ---

    def _admit(self, key: Hashable, priority: Priority, now: float) -> Permit | None:
        slots = self.one if self._keyed is None else self._keyed.at(key, now)
        permit = Permit(slots)
        if slots.take(permit, now):
            return permit
        patience = self._patience(now, now)
        if patience > 0 and self._has_room(slots, priority):
            waiter = Waiter(slots, priority, now)
            self._set_timer(waiter, patience)
            slots.queue.add(waiter)
            return waiter
        self._count_rejection(slots)
        return None

    def _reset(self, key: Hashable, now: float) -> None:
        every = [self.one, *(self._keyed or ())] if key is EVERY else [self._own(key)]
        for each in every:
            each.reset(self._new_limit())
            self._serve(each, now)

    def _figures(self, key: Hashable) -> dict[str, Any]:
        if self._keyed is None or key is not EVERY:
            return self._own(key).snapshot()
        return {
            **self.one.snapshot(),
            "in_flight": sum(each.in_flight for each in self._keyed),
            "queued": sum(len(each.queue) for each in self._keyed),
            "keys": len(self._keyed),
        }

    def _new_slots(self) -> Slots[Waiter]:
        return Slots(self._new_limit(), straight=False)

    def _own(self, key: Hashable) -> Slots[Waiter]:
        """Return the slots of a key; those that it would get if it has none of its own."""
        if self._keyed is None:
            return self.one
        return self._keyed.peek(key) or self._new_slots()

    def _serve(self, slots: Slots[Waiter], now: float) -> None:
        """Give the free slots to those whose turn it is."""
        if not slots.queue.lines:
            return
        here = running_loop()
        while (waiter := slots.next()) is not None:
            if waiter.is_gone:
                continue
            slots.grant(waiter, now)
            if not run_in(waiter.loop, here, waiter.wake):
                slots.give_back(waiter, now, overloaded=None)

    def _has_room(self, slots: Slots[Waiter], priority: Priority) -> bool:
        """Return whether somebody can join the queue; if it is full, a lower priority may have to go."""
        queue = slots.queue
        while len(queue) >= self._max_queue and queue.lines and queue.oldest.is_gone:
            queue.remove(queue.oldest)
        if len(queue) < self._max_queue:
            return True
        displaced = queue.displace(priority)
        if displaced is not None:
            self._refuse(displaced, "displaced")
        return displaced is not None

    def _refuse(self, waiter: Waiter, reason: str) -> None:
        """Tell somebody who was taken out of the queue to wait no longer."""
        waiter.reason = reason
        self._count_rejection(waiter.slots)
        run_in(waiter.loop, running_loop(), waiter.wake)

    def _count_rejection(self, slots: Slots[Any]) -> None:
        slots.rejected += 1
        if slots is not self.one:
            self.one.rejected += 1

    def _patience(self, since: float, now: float) -> float:
        """Return how many seconds somebody may still wait: until the deadline, if that comes first."""
        left = self._max_wait - (now - since)
        until_deadline = _deadline.remaining(now)
        return left if until_deadline is None else min(left, until_deadline)

    def _set_timer(self, waiter: Waiter, seconds: float) -> None:
        """Look in some seconds whether somebody has waited long enough. Call it in its loop."""
        if seconds < math.inf:
            # In the caller's context: there it will show whether the deadline still counts then.
            waiter.timer = waiter.loop.call_later(seconds, self._ring, waiter)

    def _ring(self, waiter: Waiter) -> None:
        self._alone(lambda now: self._look_after(waiter, now))

    def _look_after(self, waiter: Waiter, now: float) -> None:
        """Refuse somebody who has waited long enough."""
        waiter.since = min(waiter.since, now)  # the clock may have been set back
        left = self._patience(waiter.since, now)
        if left >= _clock.SHORTEST_WAIT:
            self._set_timer(waiter, max(left, RANG_EARLY))
        elif waiter.slots.queue.remove(waiter):
            is_due = waiter.since + self._max_wait <= now + _clock.SHORTEST_WAIT
            self._refuse(waiter, "max_wait" if is_due else "deadline")


def _tell_rejected(name: str, priority: Priority, reason: str) -> None:
    if _events.listeners:
        _events.emit("bulkhead.rejected", name, reason=reason, priority=_shown(priority))


def _shown(priority: Priority) -> str:
    return priority.name.lower()
