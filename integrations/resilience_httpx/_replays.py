"""What was seen before: refuses a message that comes a second time."""

from __future__ import annotations

import threading
from collections import OrderedDict

from resilience import _clock


class SeenMessages:
    """Remembers messages for some time, a bounded number of them. Safe for concurrent threads.

    Args:
        seconds: How long each one is remembered.
        max_entries: How many are remembered at most; then the oldest ones are forgotten before their time.
    """

    def __init__(self, seconds: float, max_entries: int) -> None:
        self._seconds = seconds
        self._max_entries = max_entries
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, message: bytes) -> bool:
        """Remember a message, unless it is remembered; return whether it is new."""
        now = _clock.monotonic()
        with self._lock:
            self._forget_old(now)
            if message in self._until:
                return False
            self._until[message] = now + self._seconds
            if len(self._until) > self._max_entries:
                self._until.popitem(last=False)
            return True

    def forget(self, message: bytes) -> None:
        """Let a message pass once more."""
        with self._lock:
            self._until.pop(message, None)

    def _forget_old(self, now: float) -> None:
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now:
                return
            del self._until[oldest]
