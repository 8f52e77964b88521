"""What the open ``async with`` blocks of a policy took, for their exits to find.

A policy is shared, so what belongs to one use of it is kept by the task: a task inherits a copy of what is
open, and never sees what others add. A block can also end outside the task that entered it: in an exit
stack that another task closes, in a fixture, or when the garbage collector ends a forgotten task. Such
an exit gives back what the last block took that is open; the block that took it then finds another.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Blocks(Generic[T]):
    """The open blocks of one policy, or of the handle for one of its keys.

    Safe for concurrent tasks, threads and event loops: what is taken out of a dict is taken out once.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[_Block, T] = {}

    def enter(self, taken: T) -> None:
        """Note what a block took."""
        block = _Block(self._taken)
        self._taken[block] = taken
        _around.set((*_still_open(_around.get()), block))

    def leave(self) -> T:
        """Forget the innermost open block, and return what it took.

        Raises:
            RuntimeError: If no block is open.
        """
        around = _around.get()
        for block in reversed(around):
            if block.among is self._taken:
                taken: T = self._taken.pop(block, _NOTHING)
                if taken is not _NOTHING:
                    _around.set(_still_open(around))
                    return taken
        try:
            return self._taken.popitem()[1]
        except KeyError:
            raise RuntimeError("an `async with` block ended that was not open") from None


class _Block:
    """One use of a policy, and those that are open at the same time."""

    __slots__ = ("among",)

    def __init__(self, among: dict[_Block, Any]) -> None:
        self.among = among


def _still_open(blocks: tuple[_Block, ...]) -> tuple[_Block, ...]:
    """Leave out those that ended elsewhere: they would pile up."""
    return tuple([each for each in blocks if each in each.among]) if blocks else blocks


_NOTHING: Any = object()

# The open blocks around the running code, innermost last.
_around: ContextVar[tuple[_Block, ...]] = ContextVar("resilience_blocks", default=())
