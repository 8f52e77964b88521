"""The queue before a bulkhead: the highest priority first, within one the first to come.

Priorities alone would starve the lowest: as long as calls of a higher one keep coming, it would never be
its turn. Therefore who has waited longest is overtaken at most nine times in a row: of any ten slots that
are handed out one after the other, at least one goes to the oldest waiter, whatever its priority. So
somebody with *k* older waiters is served within *10 (k + 1)* slots, and a higher priority still gets nine
tenths of the slots however long the queue is. A rule by time, or one that raises the priority of those
who wait, would need to know how long calls take, and would level all priorities in the overload that they
are for. The same count protects writes from reads in the Linux deadline I/O scheduler
(``writes_starved``, Documentation/block/deadline-iosched.rst).
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Generic, Protocol, TypeVar

OVERTAKEN_AT_MOST = 9


class Priority(Enum):
    """Who gets the next free slot of a `bulkhead`, highest first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    BULK = 4

    def __repr__(self) -> str:
        return str(self)


class Prioritized(Protocol):
    """Somebody who waits."""

    @property
    def priority(self) -> Priority: ...


W = TypeVar("W", bound=Prioritized)


class PriorityQueue(Generic[W]):
    """Those who wait, and the rule who is next. They may leave from the middle.

    Attributes:
        lines: Those of each priority of which there are any, in the order in which they came; with each the
            number of its arrival.
    """

    __slots__ = ("_arrived", "_overtaken", "lines")

    def __init__(self) -> None:
        self.lines: dict[int, OrderedDict[W, int]] = {}
        self._arrived = 0
        self._overtaken = 0  # how often in a row the oldest waiter was

    def add(self, waiter: W) -> None:
        """Put somebody behind those of the same priority."""
        line = self.lines.setdefault(waiter.priority.value, OrderedDict())
        line[waiter] = self._arrived
        self._arrived += 1

    def remove(self, waiter: W) -> bool:
        """Take somebody out; return whether it was still in."""
        level = waiter.priority.value
        line = self.lines.get(level)
        if line is None or line.pop(waiter, None) is None:
            return False
        if not line:
            del self.lines[level]
        return True

    @property
    def oldest(self) -> W:
        """Who has waited longest."""
        first = (next(iter(line.items())) for line in self.lines.values())
        return min(first, key=_number)[0]

    def pop(self) -> W:
        """Take out who is next."""
        chosen = next(iter(self.lines[min(self.lines)]))
        oldest = self.oldest
        if chosen is oldest or self._overtaken == OVERTAKEN_AT_MOST:
            chosen = oldest
            self._overtaken = 0
        else:
            self._overtaken += 1
        self.remove(chosen)
        return chosen

    def displace(self, priority: Priority) -> W | None:
        """Take out the last to come of the lowest priority, if there is one below ``priority``.

        The oldest waiter stays, whatever its priority.
        """
        for level in sorted(self.lines, reverse=True):
            if level <= priority.value:
                break
            last = next(reversed(self.lines[level]))
            if last is not self.oldest:
                self.remove(last)
                return last
        return None

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))


def _number(place: tuple[object, int]) -> int:
    return place[1]
