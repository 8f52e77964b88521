"""What is measured: a case is a decorator on a small function, beside others in a group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Call = Callable[[int], Coroutine[Any, Any, Any]]
Decorate = Callable[[Call], Call]
MakeFunction = Callable[[], Call]

MANY = 10**9
"""A limit that no benchmark reaches."""

HOUR = 3600.0


class RefusedError(Exception):
    """What a function of the benchmark raises when it fails, or a wrapper of ours when it refuses."""


class Kind(StrEnum):
    """Who made what is measured."""

    REFERENCE = "reference"
    OURS = "ours"
    RIVAL = "rival"


class Outcome(StrEnum):
    """How each call of a case ends."""

    RETURNS = "returns"
    FAILS = "fails"
    IS_REFUSED = "is refused"
    IS_REMEMBERED = "is remembered"

    @property
    def raises(self) -> bool:
        """Whether the caller gets an error."""
        return self in (Outcome.FAILS, Outcome.IS_REFUSED)

    @property
    def is_done_without_the_function(self) -> bool:
        """Whether the decorated function is not called."""
        return self in (Outcome.IS_REFUSED, Outcome.IS_REMEMBERED)


@dataclass(frozen=True)
class Entry:
    """A decorator about which more is to be said than its name.

    Attributes:
        decorate: Applied within the event loop; imports what it needs itself, which may not be installed.
        at_most: How many calls are made with one state; then the function is decorated anew.
        note: What a reader has to know about it.
    """

    decorate: Decorate
    at_most: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Case:
    """A decorator on the function of a group.

    Attributes:
        group: What it is compared with.
        name: Whose it is, and what of theirs.
        kind: Who made it.
        entry: The decorator.
    """

    group: Group
    name: str
    kind: Kind
    entry: Entry


def returns() -> Call:
    """Make a function that returns at once."""

    async def function(argument: int) -> int:
        return argument

    return function


def suspends() -> Call:
    """Make a function that gives the event loop one turn."""
    turn = asyncio.sleep

    async def function(argument: int) -> int:
        await turn(0)
        return argument

    return function


def fails() -> Call:
    """Make a function that always fails."""

    async def function(argument: int) -> int:
        raise RefusedError

    return function


def fails_twice() -> Call:
    """Make a function of which two calls fail and the third returns, and so on."""
    calls = 0

    async def function(argument: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise RefusedError
        return argument

    return function


def bare(call: Call) -> Call:
    """Leave the function as it is."""
    return call


def forwarding(call: Call) -> Call:
    """Make the wrapper that does nothing: what a decorator for any signature costs at least."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return wrapper


def refusing(call: Call) -> Call:
    """Make the wrapper that only refuses."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        raise RefusedError

    return wrapper


def within(context: Any) -> Decorate:
    """Make a decorator of a context manager that is used again for each call."""

    def decorate(call: Call) -> Call:
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            async with context:
                return await call(*args, **kwargs)

        return wrapper

    return decorate


@dataclass(frozen=True)
class Group:
    """What is compared with each other.

    Attributes:
        name: What is measured.
        function: Makes the function that all decorate.
        outcome: How each call ends.
        before: How many calls bring each case into the state that is measured.
        bare: The function as one would write it without any library.
        limit: The cheapest wrapper of any signature that could do the same.
        note: What the two are, if they are not the function and the forwarding wrapper.
    """

    name: str
    function: MakeFunction = returns
    outcome: Outcome = Outcome.RETURNS
    before: int = 0
    bare: Decorate = bare
    limit: Decorate = forwarding
    note: str = ""

    def cases(
        self,
        ours: Mapping[str, Decorate | Entry],
        rivals: Mapping[str, Decorate | Entry],
        references: Mapping[str, Decorate] | None = None,
    ) -> Iterable[Case]:
        """Make the cases of the group, with the two that all are measured against first."""
        limits = {"bare": self.bare, "limit": self.limit, **(references or {})}
        for kind, entries in (Kind.REFERENCE, limits), (Kind.OURS, ours), (Kind.RIVAL, rivals):
            for name, entry in entries.items():
                yield Case(self, name, kind, entry if isinstance(entry, Entry) else Entry(entry))
