"""What every limiter has in common, whatever rule it follows.

A *limiter* is a pure state machine: it says whether a call that comes now fits (`Limiter.take`), and if
not, how long it will take until it does (`Limiter.wait`). It reads no clock and waits for nobody; the
callers that wait stand in its `Line`. Policies that are given one limiter object share its state, and so
they share its line.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from resilience import _arguments, _clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from contextvars import Context

    from resilience._line import Line

C = TypeVar("C", bound="Costly")
L = TypeVar("L", bound="Limiter")


class Costly(Protocol):
    """A caller in line."""

    cost: float


class Queue(Generic[C]):
    """Callers in the order of their turns, who may leave from the middle; counts what they ask for."""

    __slots__ = ("_callers", "_kinds", "total")

    def __init__(self) -> None:
        self.total: float = 0
        self._callers: OrderedDict[C, None] = OrderedDict()
        self._kinds: dict[float, int] = {}  # how many ask for the same

    def add(self, caller: C) -> None:
        """Put a caller last."""
        self._callers[caller] = None
        self._kinds[caller.cost] = self._kinds.get(caller.cost, 0) + 1
        self.total += caller.cost

    def remove(self, caller: C) -> None:
        """Take a caller out."""
        del self._callers[caller]
        self._kinds[caller.cost] -= 1
        if not self._kinds[caller.cost]:
            del self._kinds[caller.cost]
        # Sums of fractions would keep a residue.
        self.total = self.total - caller.cost if self._callers else 0

    def all_ask_for(self, cost: float) -> bool:
        """Whether every caller asks for this many tokens."""
        return not self._kinds or (len(self._kinds) == 1 and cost in self._kinds)

    def __contains__(self, caller: C) -> bool:
        return caller in self._callers

    def __iter__(self) -> Iterator[C]:
        return iter(self._callers)

    def __len__(self) -> int:
        return len(self._callers)


NOBODY: Queue[Any] = Queue()


class Rule:
    """What a limiter allows; the limiters of all keys of a policy have one rule, and so one lock.

    Args:
        rate: Tokens per period.
        per: The period in seconds.
        capacity: The most that one call may cost.
        whole: Whether tokens are whole numbers.

    Attributes:
        lock: Held while a decision is made, except on the straight path: a few lines of a wrapper that
            admit a call without the lock.
        busy: Whether somebody decides, with the lock or on a straight path that calls something. Other
            straight paths are off as long as it is set.
        since: When a token was taken last. A straight path with an older reading of the clock is off.
    """

    __slots__ = ("busy", "capacity", "lock", "per", "per_second", "rate", "since", "whole")

    def __init__(self, rate: float, per: float, capacity: float, *, whole: bool) -> None:
        self.rate = rate
        self.per = per
        self.capacity = capacity
        self.whole = whole
        self.per_second = _quotient(rate, per)
        self.lock = Lock()
        self.busy = False
        self.since = -math.inf

    def check_cost(self, name: str, cost: object) -> float:
        """Return a cost that the rule can ever allow."""
        if not self.whole:
            return _arguments.number(name, cost, at_most=self.capacity)
        number = _arguments.whole(name, whole_if_equal(cost), at_least=0)
        if number > self.capacity:
            raise ValueError(f"{name} must be a whole number of at most {self.capacity}, got {number!r}")
        return number


class Limiter(ABC):
    """A rule and the state it needs. Its methods are called with the lock of the rule held.

    The time of each call is at or after that of the one before: it is read with the lock held.

    Attributes:
        rule: What it allows.
        line: Those who wait for their turn; ``None`` while nobody does.
    """

    __slots__ = ("line", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.line: Line | None = None

    @abstractmethod
    def take(self, now: float, cost: float) -> bool:
        """Take tokens if there are enough; otherwise nothing changes."""

    @abstractmethod
    def wait(self, now: float, cost: float, ahead: Queue[Any] = NOBODY) -> float:
        """Return the seconds until a caller behind those ``ahead`` gets its turn."""

    @abstractmethod
    def give_back(self, cost: float, taken_at: float) -> None:
        """Undo a `take`: the call never began."""

    @abstractmethod
    def reset(self) -> None:
        """Give all tokens back."""

    @abstractmethod
    def available(self, now: float) -> float:
        """Return the number of tokens that may be taken now."""

    def call_later(
        self, loop: AbstractEventLoop, wait: float, callback: Callable[[], object], context: Context
    ) -> TimerHandle:
        """Set a timer for the end of a `wait`."""
        return _clock.call_later(loop, wait, callback, context)


class KeyedLimiter(Limiter):
    """A limiter that can be multiplied: one for each key."""

    __slots__ = ()

    @abstractmethod
    def is_idle(self, now: float) -> bool:
        """Whether a new limiter would decide the same, and nobody waits."""

    @abstractmethod
    def fresh(self: L) -> L:
        """Return a new limiter of the same rule, with a state of its own."""


def _quotient(rate: float, per: float) -> float:
    try:
        per_second = rate / per
    except OverflowError:
        per_second = math.inf
    if not 0 < per_second < math.inf:
        raise ValueError(f"rate / per must be a number that a float can hold, got {rate!r} / {per!r}")
    return per_second


def whole_if_equal(value: object) -> object:
    """Return the whole number that a float stands for: 600 / 60 is a float in Python."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def seconds_until(due: float, now: float) -> float:
    """Return the seconds after which a clock that shows ``now`` shows ``due``, and not a rounding less."""
    wait = due - now
    return wait if now + wait >= due else math.nextafter(wait, math.inf)
