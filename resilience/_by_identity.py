"""What belongs to an object that may be unhashable, or equal to others, without keeping it alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ByIdentity(Generic[T]):
    """What belongs to each object, found by identity: objects may be unhashable, or equal.

    It keeps no object alive. Safe for several threads: each step is one operation on a dict.

    Args:
        make: Makes what belongs to an object.
        on_death: Called with what belonged to an object that is gone.
    """

    def __init__(self, make: Callable[[Any], T], on_death: Callable[[T], object] = lambda _: None) -> None:
        self._found: dict[int, tuple[weakref.ref[object], T]] = {}
        self._make = make
        self._on_death = on_death

    def of(self, owner: object) -> T:
        """Return what belongs to an object.

        Raises:
            TypeError: If the object cannot be weakly referenced.
        """
        found = self._found.get(id(owner))
        return found[1] if found is not None and found[0]() is owner else self._add(owner)

    def _add(self, owner: object) -> T:
        address = id(owner)

        def forget(_: weakref.ref[object]) -> None:
            # Runs before anything else can get the same address.
            _, its_own = self._found.pop(address)
            self._on_death(its_own)

        reference = weakref.ref(owner, forget)
        return self._found.setdefault(address, (reference, self._make(owner)))[1]

    def __len__(self) -> int:
        return len(self._found)
