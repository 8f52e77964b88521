"""The types in the keys of `cached`: they tell arguments apart that are equal, as ``1`` and ``True``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, cast

CONTAINERS: Final = frozenset({tuple, frozenset})
"""What is looked into: types whose items count when two of them are compared."""


def types_of(values: tuple[object, ...]) -> tuple[Hashable, ...]:
    """Return the types of positional arguments."""
    return tuple(map(type_of, values))


def items_of(values: Mapping[str, object]) -> tuple[object, ...]:
    """Return keyword arguments and their types, in an order of their own."""
    return tuple((name, values[name], type_of(values[name])) for name in sorted(values))


def type_of(value: object) -> Hashable:
    """Return the type of a value, and of all that is inside of it if it is a tuple or a frozenset."""
    kind = cast("Hashable", type(value))
    if kind is tuple:
        return kind, *map(type_of, cast("tuple[object, ...]", value))
    if kind is frozenset:
        return kind, frozenset((each, type_of(each)) for each in cast("frozenset[object]", value))
    return kind
