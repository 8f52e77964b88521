"""The switch for all policies of the process: `set_active` and `inactive`."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from resilience import _arguments


class _Switch:
    """Whether policies act at all. One for the process: a context variable would not reach threads."""

    def __init__(self) -> None:
        self.active = True
        self._lock = threading.Lock()
        self._wanted = True
        self._inactive_blocks = 0

    def want(self, *, active: bool) -> None:
        with self._lock:
            self._wanted = active
            self._update()

    def add_block(self, count: int) -> None:
        with self._lock:
            self._inactive_blocks += count
            self._update()

    def _update(self) -> None:
        self.active = self._wanted and self._inactive_blocks == 0


switch = _Switch()


def set_active(active: bool) -> None:  # noqa: FBT001 - reads as a sentence: set_active(False)
    """Switch all policies of the process on or off; off, decorated functions run as if undecorated.

    A call that began finishes as it began. Safe from any thread.

    Args:
        active: ``False`` to switch off, ``True`` to switch on again.

    Raises:
        TypeError: If ``active`` is not a bool.
    """
    switch.want(active=_arguments.flag("active", active))


@contextmanager
def inactive() -> Generator[None]:
    """Switch all policies of the process off for the time of a block; blocks may nest and overlap.

    Example:
        >>> with inactive():
        ...     pass  # decorated functions run as if undecorated, in every thread
    """
    switch.add_block(1)
    try:
        yield
    finally:
        switch.add_block(-1)
