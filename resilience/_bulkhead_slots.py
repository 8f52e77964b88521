"""The slots of a bulkhead: a pure state machine, ``now`` in, decisions out.

A call has a *permit*: a slot, or a place in the queue until one is free. Nobody overtakes by coming late:
a slot goes to a newcomer only if nobody waits for one, and the permit with which a slot was taken is the
one with which it is given back.

The policy holds its lock around every call here. `Slots.admits` is for calls without the lock: as long as
it is above the number in flight, a call may take a slot, and as long as it is not 0, one may give its
slot back. Whoever decides sets it to 0 first, and it stays so while somebody waits.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar, cast

from resilience._priority_queue import Priority, PriorityQueue


class Limit(Protocol):
    """How many calls may run at once: fixed, or learned from how the calls end."""

    @property
    def limit(self) -> int: ...

    def record(self, started: float, now: float, in_flight: int, *, overloaded: bool) -> None:
        """Learn from a call that ended, and of which `in_flight` ran when it was admitted."""
        ...


class FixedLimit:
    """A limit that learns nothing."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def record(self, started: float, now: float, in_flight: int, *, overloaded: bool) -> None:
        """Stay as it is."""


class Permit:
    """What a call has: a slot if ``granted``, else a place in the queue or, once refused, nothing.

    Attributes:
        slots: Whose slot it is.
        granted: Whether it has a slot.
        started: When it got it.
        in_flight: How many calls had one then, itself included.
        limit: The limit that was in force then, which learns from how the call ends.
    """

    __slots__ = ("granted", "in_flight", "limit", "slots", "started")

    limit: Limit

    def __init__(self, slots: Slots[Any]) -> None:
        self.slots = slots
        self.granted = False
        self.started = 0.0
        self.in_flight = 0


class QueuedPermit(Permit):
    """The permit of somebody who has to wait."""

    __slots__ = ("priority",)

    def __init__(self, slots: Slots[Any], priority: Priority) -> None:
        super().__init__(slots)
        self.priority = priority


W = TypeVar("W", bound=QueuedPermit)


class Slots(Generic[W]):
    """The slots for all calls, or for those with one key. Guarded by the lock of its policy.

    Args:
        limit: How many calls may run at once.
        straight: Whether calls may pass without the lock.

    Attributes:
        admits: How many calls may run at once without a look at the queue: 0 while somebody waits.
        in_flight: How many have a slot.
        rejected: How many calls were refused.
        queue: Those who wait for a slot.
    """

    __slots__ = ("_normal", "_straight", "admits", "in_flight", "limit", "queue", "rejected")

    def __init__(self, limit: Limit, *, straight: bool) -> None:
        self.limit = limit
        self._normal = limit.limit
        self._straight = straight
        self.in_flight = 0
        self.rejected = 0
        self.queue: PriorityQueue[W] = PriorityQueue()
        self.admits = 0
        self.open()

    def open(self) -> None:
        """Let calls pass without the lock, if that may be."""
        if self._straight and not self.queue.lines:
            self.admits = self.limit.limit

    def take(self, permit: Permit, now: float) -> bool:
        """Give a slot to a newcomer, if one is free and nobody waits."""
        if self.queue.lines or self.in_flight >= self.limit.limit:
            return False
        self.grant(permit, now)
        return True

    def next(self) -> W | None:
        """Take out of the queue whose turn it is, if anybody's."""
        return self.queue.pop() if self.queue.lines and self.in_flight < self.limit.limit else None

    def grant(self, permit: Permit, now: float) -> None:
        """Give a slot."""
        self.in_flight += 1
        permit.granted = True
        permit.started = now
        permit.in_flight = self.in_flight
        permit.limit = self.limit

    def give_back(self, permit: Permit, now: float, *, overloaded: bool | None) -> None:
        """Take back what a call has: its slot, or its place in the queue.

        Args:
            permit: What it has.
            now: The time.
            overloaded: Whether it ended in overload; ``None`` if there is nothing to learn from it.
        """
        if not permit.granted:
            self.queue.remove(cast("W", permit))
            return
        self.in_flight -= 1
        if overloaded is not None:
            permit.limit.record(permit.started, now, permit.in_flight, overloaded=overloaded)

    def reset(self, limit: Limit) -> None:
        """Forget what was counted and learned; the calls in flight keep their slots, the others wait on."""
        self.limit = limit
        self.rejected = 0

    def is_idle(self, now: float) -> bool:  # noqa: ARG002 - others need the time
        """Whether a new object would decide the same: nothing in flight, and no limit that was cut."""
        return self.in_flight == 0 and self.limit.limit >= self._normal

    def snapshot(self) -> dict[str, Any]:
        """Return figures as plain data."""
        return {
            "max_concurrent": self.limit.limit,
            "in_flight": self.in_flight,
            "queued": len(self.queue),
            "rejected": self.rejected,
        }
