"""The types in the keys of `cached`: they tell arguments apart that are equal, as ``1`` and ``True``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final


def types_of(values: tuple[object, ...]) -> tuple[object, ...]:
    """Return the types of positional arguments, or of the items of a tuple."""
    return tuple(map(type_of, values))


def items_of(values: Mapping[str, object]) -> tuple[object, ...]:
    """Return keyword arguments and their types, in an order of their own."""
    return tuple((name, values[name], type_of(values[name])) for name in sorted(values))


def type_of(value: object) -> object:
    """Return the type of a value, and of all that is inside of it if it is a tuple or a frozenset."""
    kind = type(value)
    types_inside = _TYPES_INSIDE.get(kind)
    return kind if types_inside is None else (kind, types_inside(value))


def _members_of(values: frozenset[object]) -> frozenset[object]:
    return frozenset((each, type_of(each)) for each in values)


_TYPES_INSIDE: Final[dict[type, Callable[[Any], object]]] = {tuple: types_of, frozenset: _members_of}

CONTAINERS: Final = frozenset(_TYPES_INSIDE)
"""What is looked into: types whose items count when two of them are compared."""
