"""`bulkhead`: lets only so many calls run at once; the others wait in a bounded queue or are refused.

Who comes when all slots are taken joins the queue, if ``max_queue`` and ``max_wait`` allow that; without a
queue it is refused at once. A free slot goes to the highest `Priority`, within one to the first to come;
one in ten goes to whoever has waited longest, so that no priority starves. Nobody overtakes by coming
late: while somebody waits, no newcomer gets a slot. If the queue is full, a newcomer takes the place of the
last to come of a lower priority if there is one, which is refused in its stead; the oldest waiter keeps its
place. Who waits longer than ``max_wait``, or until its deadline, is refused. A call that ends, whatever
way, gives its slot to the next; one that is cancelled in the queue passes on what it has. With ``key=``
every key has slots and a queue of its own. The name and the idea are those of Michael Nygard, "Release
It!" (2007): a flooded compartment shall not sink the ship.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from resilience import _arguments
from resilience._adaptive_limit import AdaptiveLimit
from resilience._arguments import Seconds
from resilience._blocks import Blocks
from resilience._bulkhead_config import BulkheadConfig, Key, limit_of, priority_or_function
from resilience._bulkhead_entrance import EVERY, Entrance, Waiter
from resilience._bulkhead_slots import Permit
from resilience._callables import as_async, qualified_name
from resilience._errors import BulkheadFullError, rejection
from resilience._policy import Policy
from resilience._priority_queue import Priority
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")


class Door(ABC):
    """What one can do with the slots of a bulkhead, or with those of one of its keys.

    ``async with`` guards a block as the decorator guards a call; a block has no arguments, so that a
    function given as ``priority=`` is not asked, and it has the priority NORMAL.
    """

    _key: Hashable
    _blocks: Blocks[Permit | None]

    @property
    @abstractmethod
    def _policy(self) -> Bulkhead: ...

    def reset(self) -> None:
        """Set the count of rejections to 0, and an adaptive limit to where it began.

        The calls that run keep their slots, and those that wait their places.
        """
        self._policy.entrance.reset(self._key)

    def snapshot(self) -> dict[str, Any]:
        """Return limit and counters as plain data, ready for JSON.

        With ``key=`` these are the sums over all keys, beside the limit of a new key; after an eviction
        only ``rejected`` still counts the key that is gone.
        """
        return {"name": self._policy.name, **self._policy.entrance.snapshot(self._key)}

    async def __aenter__(self) -> Self:
        policy, permit = self._policy, None
        config = policy.config
        if config.key is not None and self._key is EVERY:
            raise TypeError(
                "this bulkhead has slots for each key: write `async with bulkhead.at(key):` instead"
            )
        if policy.enabled and switch.active:
            priority = config.priority if isinstance(config.priority, Priority) else Priority.NORMAL
            permit = policy.entrance.arrive(self._key, priority, policy.name)
            if permit is None:
                raise rejection(BulkheadFullError, None, policy.name)
            if isinstance(permit, Waiter):
                await policy.entrance.wait(permit, policy.name)
        self._blocks.enter(permit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        permit = self._blocks.leave()
        if permit is not None:
            self._policy.leave(permit, error)


class Bulkhead(Door, Policy):
    """A limit on how many calls run at once; made by `bulkhead`.

    Safe for concurrent tasks, threads and event loops, also several at once: the limit holds for all of
    them together.

    Example:
        >>> import asyncio
        >>> printer = bulkhead(1, max_queue=10)
        >>> async def main() -> None:
        ...     async with printer:
        ...         print(printer.snapshot()["in_flight"])
        >>> asyncio.run(main())
        1
    """

    kind = "bulkhead"
    has_state = True
    config: BulkheadConfig

    def __init__(self, config: BulkheadConfig, *, name: str | None) -> None:
        super().__init__(name)
        self.config = config
        self.entrance = Entrance(
            config.new_limit,
            is_straight=config.is_straight,
            max_queue=config.max_queue,
            max_wait=config.max_wait,
            max_keys=None if config.key is None else config.max_keys,
        )
        self._key = EVERY
        self._blocks = Blocks()

    def at(self, key: Hashable) -> BulkheadOfKey:
        """Return the handle for the slots of one key.

        Raises:
            TypeError: If the policy was made without ``key=``, or ``key`` is not hashable.
        """
        if self.config.key is None:
            raise TypeError("at() is for a bulkhead with key=; this one has the same slots for all calls")
        hash(key)
        return BulkheadOfKey(self, key)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        return self.guard(function, name, self.config.key)

    def guard(
        self, function: Callable[P, Awaitable[R]], name: str, key: Key | None
    ) -> Callable[P, Awaitable[R]]:
        """Return a bare async function that calls ``function`` in a slot of a key."""
        name = self._name or name
        priority_of = self.config.priority_of
        entrance = self.entrance
        one, straight = entrance.one, entrance.straight

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            permit = straight
            # The straight path: on builds with the GIL no other thread comes between a comparison and the
            # store, here and below. While somebody waits or decides it is off; on other builds always.
            if one.in_flight < one.admits:
                one.in_flight += 1
            else:
                asked = None if key is None else key(*args, **kwargs)
                admitted = entrance.arrive(asked, priority_of(*args, **kwargs), name)
                if admitted is None:
                    raise rejection(BulkheadFullError, None, name)
                if isinstance(admitted, Waiter):
                    await entrance.wait(admitted, name)
                permit = admitted
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                self.leave(permit, error)
                raise
            if one.admits:
                one.in_flight -= 1
            else:
                self.leave(permit)
            return result

        return wrapper

    def leave(self, permit: Permit, error: BaseException | None = None) -> None:
        """Give a slot back; the error with which the call ended may tell of overload."""
        overloaded = None
        try:
            overloaded = self.config.is_overload(error)
        finally:
            self.entrance.leave(permit, overloaded=overloaded)

    @property
    def _policy(self) -> Bulkhead:
        return self


class BulkheadOfKey(Door):
    """The slots of one key of a bulkhead; made by `Bulkhead.at`.

    It may be kept: it does not hold the key's place in the table. Safe for concurrent tasks, threads and
    event loops.
    """

    def __init__(self, policy: Bulkhead, key: Hashable) -> None:
        self._keyed = policy
        self._key = key
        self._blocks = Blocks()

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in a slot of this key.

        Returns:
            What the function returns.

        Raises:
            BulkheadFullError: If the call is refused.
            TypeError: If ``function`` is not an async callable.
        """
        guarded = self._keyed.guard(
            as_async(function), qualified_name(function), lambda *_, **__: self._key
        )
        return await guarded(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{self._keyed!r}.at({self._key!r})"

    @property
    def _policy(self) -> Bulkhead:
        return self._keyed


def bulkhead(
    max_concurrent: int | AdaptiveLimit,
    *,
    max_queue: int | None = 0,
    max_wait: Seconds | None = None,
    priority: Priority | Callable[..., Priority] | None = None,
    key: Key | None = None,
    max_keys: int = 10_000,
    name: str | None = None,
) -> Bulkhead:
    """Let only so many calls run at once; the others wait in a queue or are refused.

    Args:
        max_concurrent: How many calls may run at once, 1 or more; or an `AdaptiveLimit`, which finds out.
        max_queue: How many calls may wait for a slot, 0 or more; ``None`` for any number.
        max_wait: The longest wait, seconds or ``timedelta``; 0 never waits, ``None`` waits for any time. A
            wait ends with the nearest deadline, too.
        priority: Who of those who wait comes first: a `Priority`, or a function of the call's arguments
            that returns one; default: ``Priority.NORMAL``.
        key: A function of the call's arguments that returns a hashable: each key has slots of its own.
        max_keys: How many keys have them at most, 1 or more; further ones share some while all of those
            are in use.
        name: What events and errors call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with. A decorated function raises `BulkheadFullError` when it is
        refused. Safe for concurrent tasks, threads and loops.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range.

    Example:
        >>> import asyncio
        >>> @bulkhead(1, max_queue=1)
        ... async def convert(name: str) -> str:
        ...     await asyncio.sleep(0)
        ...     return name.upper()
        >>> async def main() -> None:
        ...     calls = [convert(name) for name in ("a", "b", "c")]
        ...     print(await asyncio.gather(*calls, return_exceptions=True))
        >>> asyncio.run(main())
        ['A', 'B', BulkheadFullError('convert: all slots are taken')]
    """
    if callable(max_concurrent):
        raise TypeError(f"bulkhead needs its limit, as in @bulkhead(10); got {max_concurrent!r}")
    config = BulkheadConfig(
        max_concurrent=limit_of(max_concurrent),
        max_queue=None if max_queue is None else _arguments.whole("max_queue", max_queue, at_least=0),
        max_wait=None if max_wait is None else _arguments.seconds("max_wait", max_wait),
        priority=Priority.NORMAL if priority is None else priority_or_function(priority),
        key=None if key is None else _arguments.plain_function("key", key),
        max_keys=_arguments.whole("max_keys", max_keys),
    )
    return Bulkhead(config, name=name)
