"""State per key, bounded: where ``key=`` keeps the circuits and limits of its keys.

A table holds at most ``max_keys`` entries. When it is full and a new key comes, it looks at the eight
least recently used entries and drops the first idle one; busy ones among them get a second chance.
An entry is idle when losing it forgives nothing: a full bucket, a closed circuit without failures.
If none of the eight is idle, new keys share one overflow entry instead of growing the table or wiping
out a penalty.

A table does no locking: its policy holds one lock around the look-up and the decision that follows, so
that no entry is dropped between the two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

LOOK_AT = 8


class KeyedState(Protocol):
    """What a table needs to know of the states that it holds."""

    def is_idle(self, now: float) -> bool:
        """Whether dropping this state would forgive no penalty and lose no call in flight."""
        ...


S = TypeVar("S", bound=KeyedState)


class KeyTable(Generic[S]):
    """States by key, least recently used first. Guarded by the lock of the policy that owns it.

    Args:
        make: Makes the state of a new key.
        max_keys: How many keys have a state of their own at most.
    """

    def __init__(self, make: Callable[[], S], max_keys: int) -> None:
        self.max_keys = max_keys
        self._make = make
        self._states: OrderedDict[Hashable, S] = OrderedDict()
        self._overflow: S | None = None
        # The parts of `at`, for those who cannot afford a call: the state of a key if it has one of its
        # own, and what counts that as a use.
        self.peek: Callable[[Hashable], S | None] = self._states.get
        self.touch: Callable[[Hashable], None] = self._states.move_to_end

    def at(self, key: Hashable, now: float) -> S:
        """Return the state of a key, made now if it is new."""
        states = self._states
        try:
            state = states.get(key)
        except TypeError as error:
            raise TypeError(f"key= must return a hashable value, got a {type(key).__name__}") from error
        if state is not None:
            states.move_to_end(key)
            return state
        if len(states) >= self.max_keys and not self._drop_idle(now):
            if self._overflow is None:
                self._overflow = self._make()
            return self._overflow
        state = states[key] = self._make()
        return state

    def find(self, key: Hashable) -> S | None:
        """Return the state that holds for a key, that of all others included; make none."""
        return self._states.get(key, self._overflow)

    def clear(self) -> None:
        """Forget all keys."""
        self._states.clear()
        self._overflow = None

    def __iter__(self) -> Iterator[S]:
        yield from self._states.values()
        if self._overflow is not None:
            yield self._overflow

    def __len__(self) -> int:
        return len(self._states)

    def items(self) -> Iterator[tuple[Hashable, S]]:
        """Yield each key that has a state of its own, with that state."""
        yield from self._states.items()

    def _drop_idle(self, now: float) -> bool:
        states = self._states
        for _ in range(min(LOOK_AT, len(states))):
            # Only this finds a key whose hash has changed since it came.
            key, state = states.popitem(last=False)
            if state.is_idle(now):
                return True
            states[key] = state
        return False
