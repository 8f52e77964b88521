"""`EventRecorder`: the events of the policies, and assertions that show them when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NoReturn, Self

from resilience import _arguments
from resilience._events import Event, subscribe
from resilience.testing._kinds import checked_kind


class EventRecorder:
    """Records the events of all policies for the time of a block: the fixture ``resilience_events``.

    Where a method takes kinds, the first half of one stands for all of it: ``"retry"`` for every event of
    `retry`, ``"retry.scheduled"`` for one kind; a kind that a policy of the library does not have is a
    ``ValueError``. A failed assertion shows all events, one in a line. Events are recorded from every
    thread; the methods are for one.

    Example:
        >>> from resilience import retry
        >>> from resilience.testing import run_virtually
        >>> answers = iter([OSError("down"), None])
        >>> @retry(on=OSError, wait=1)
        ... async def fetch() -> None:
        ...     if error := next(answers):
        ...         raise error
        >>> with EventRecorder() as events:
        ...     run_virtually(fetch())
        >>> events.kinds
        ['retry.scheduled', 'retry.succeeded']
        >>> events.assert_sequence("retry.scheduled", "retry.succeeded")
        >>> events.assert_none("circuit_breaker")
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        if self._unsubscribe is not None:
            raise RuntimeError("this recorder records already; make another one")
        self._unsubscribe = subscribe(self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    @property
    def events(self) -> tuple[Event, ...]:
        """The events until now, in order."""
        return tuple(self._events)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events until now, in order."""
        return [event.kind for event in self._events]

    def of(self, *kinds: str, name: str | None = None) -> list[Event]:
        """Return the events of some kinds, in order.

        Args:
            kinds: Such as ``"retry.scheduled"``, or ``"retry"`` for all of them.
            name: Only those of the policy with this name.
        """
        wanted = _checked(kinds)
        named = [event for event in self._events if name is None or event.name == name]
        return [event for event in named if _is_one_of(event, wanted)]

    def clear(self) -> None:
        """Forget the events until now."""
        self._events.clear()

    def assert_sequence(self, *kinds: str) -> None:
        """Assert that there are events of these kinds, in this order; others may come in between.

        Raises:
            AssertionError: If not; it tells which one is missing.
        """
        __tracebackhide__ = True
        position = 0
        for index, kind in enumerate(_checked(kinds)):
            found = [
                at for at in range(position, len(self._events)) if _is_one_of(self._events[at], (kind,))
            ]
            if not found:
                after = f" after {kinds[index - 1]} (event {position})" if index else ""
                self._fail(f"there is no {kind}{after}; expected in this order: {', '.join(kinds)}")
            position = found[0] + 1

    def assert_exactly(self, *kinds: str) -> None:
        """Assert that these are the kinds of all events, in this order; no kinds: that there is no event.

        Raises:
            AssertionError: If not.
        """
        __tracebackhide__ = True
        wanted = _checked(kinds) if kinds else ()
        if len(wanted) != len(self._events) or not all(
            _is_one_of(event, (kind,)) for event, kind in zip(self._events, wanted, strict=True)
        ):
            self._fail(f"expected exactly these events, in this order: {', '.join(kinds) or 'none'}")

    def assert_none(self, *kinds: str) -> None:
        """Assert that there is no event of any of these kinds.

        Raises:
            AssertionError: If there is one.
        """
        __tracebackhide__ = True
        found = self.of(*kinds)
        if found:
            self._fail(f"there is {found[0].kind} (event {self._events.index(found[0]) + 1})")

    async def wait_for(
        self, kind: str, *, count: int = 1, timeout: _arguments.Seconds | None = None
    ) -> Event:
        """Wait until there are so many events of a kind, those included that came before.

        Args:
            kind: Such as ``"retry.scheduled"``, or ``"retry"`` for all of them.
            count: How many.
            timeout: Seconds or ``timedelta`` to wait at most, by the time of the loop; default: no limit.
                In virtual time none is needed: if the event can never come, that is a `StuckError`.

        Returns:
            The last one of them.

        Raises:
            AssertionError: If there are fewer after ``timeout``.
        """
        _checked((kind,))
        number = _arguments.whole("count", count)
        limit = None if timeout is None else _arguments.seconds("timeout", timeout)
        came = asyncio.Event()
        self._waiting[came] = asyncio.get_running_loop()
        found = self.of(kind)
        try:
            async with asyncio.timeout(limit):
                while len(found) < number:
                    await came.wait()
                    came.clear()
                    found = self.of(kind)
        except TimeoutError:
            self._fail(f"there are {len(found)} of {number} {kind} after {limit:g} s")
        finally:
            del self._waiting[came]
        return found[number - 1]

    def _record(self, event: Event) -> None:
        self._events.append(event)
        for came, loop in tuple(self._waiting.items()):
            loop.call_soon_threadsafe(came.set)

    def _fail(self, reason: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"{reason}\n{self._table()}")

    def _table(self) -> str:
        if not self._events:
            return "There was no event."
        # From the first event on: the test may have begun by another clock than it ran by.
        began = self._events[0].at
        rows = [("#", "seconds", "kind", "name", "attributes")]
        for number, event in enumerate(self._events, 1):
            facts = " ".join(f"{key}={value!r}" for key, value in event.attributes.items())
            rows.append((str(number), f"{event.at - began:.3f}", event.kind, event.name, facts))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(_row(row, widths) for row in rows)


def _row(row: Iterable[str], widths: list[int]) -> str:
    number, seconds, *texts = row
    cells = [number.rjust(widths[0]), seconds.rjust(widths[1])]
    cells += map(str.ljust, texts, widths[2:])
    return "  ".join(cells).rstrip()


def _checked(kinds: tuple[str, ...]) -> tuple[str, ...]:
    if not kinds:
        raise TypeError("at least one kind of event is needed, such as 'retry.scheduled'")
    return tuple(checked_kind(kind) for kind in kinds)


def _is_one_of(event: Event, kinds: Iterable[str]) -> bool:
    return any(kind in {event.kind, event.policy} for kind in kinds)
