"""What `snapshot` shows: everything alive that has a state, in the order in which it was made."""

from __future__ import annotations

import itertools
from typing import Any, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary


class OnPage(Protocol):
    """Something that has an entry on the page."""

    def on_page(self) -> dict[str, Any]:
        """Return the entry: plain data, with ``name``, ``kind``, ``policy`` and ``enabled``."""
        ...


T = TypeVar("T", bound=OnPage)

# By the number of its making. Weak: each lives as long as somebody uses it.
_live: WeakValueDictionary[int, OnPage] = WeakValueDictionary()
_numbers = itertools.count()
_hidden: WeakSet[OnPage] = WeakSet()


def add(thing: OnPage) -> None:
    """Show something from now on. It must be complete: another thread may look at it at once."""
    _live[next(_numbers)] = thing


def hidden(part: T) -> T:
    """Return a policy that stands for another one, which has the state, and so is not shown itself."""
    _hidden.add(part)
    return part


def live() -> list[OnPage]:
    """Return what somebody still holds, oldest first."""
    found = (reference() for reference in _live.valuerefs())
    return [each for each in found if each is not None and each not in _hidden]
