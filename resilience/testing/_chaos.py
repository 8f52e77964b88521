"""Chaos policies: they make calls slow, fail them, or answer in their place, to see what comes of it.

They are off until ``enabled`` is set or a block of ``active()`` is entered, and they belong innermost, next
to the call: `StackOrderWarning` tells of one that does not stand there. Each has its own random numbers,
from a seed: the same calls in the same order meet with the same faults.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from random import Random
from typing import Any

from resilience import _arguments
from resilience._policy import Policy


class Chaos(Policy):
    """What the chaos policies have in common."""

    has_state = True

    def __init__(self, rate: float, seed: int, *, enabled: bool, name: str | None) -> None:
        super().__init__(name)
        self.enabled = _arguments.flag("enabled", enabled)
        self._rate = _arguments.fraction("rate", rate)
        self._seed = _arguments.whole("seed", seed, at_least=0)
        self._lock = threading.Lock()
        self._blocks = 0
        self._enabled_before = False
        self._begin()

    @contextmanager
    def active(self) -> Generator[None]:
        """Switch it on for the time of a block, in which its random numbers begin anew.

        Blocks may nest and overlap: it is on, and its numbers go on, until the last one ends.
        """
        with self._lock:
            if not self._blocks:
                self._begin()
                self._enabled_before = self.enabled
            self._blocks += 1
            self.enabled = True
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self.enabled = self._enabled_before

    def reset(self) -> None:
        """Let the random numbers and the counters begin anew."""
        with self._lock:
            self._begin()

    def snapshot(self) -> dict[str, Any]:
        """Return its state as plain data: the calls while it was on, and how many it interfered with."""
        with self._lock:
            return {"enabled": self.enabled, "calls": self._calls, "injected": self._injected}

    def _begin(self) -> None:
        self._random = Random(self._seed)
        self._calls = self._injected = 0

    def _strikes(self) -> bool:
        # Under a lock in every build: which call meets with which number shall not depend on threads more
        # than it must.
        with self._lock:
            self._calls += 1
            strikes = self._random.random() < self._rate
            self._injected += strikes
        return strikes
