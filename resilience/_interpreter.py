"""What this interpreter promises about threads."""

from __future__ import annotations

import sys

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether straight-line code, without a call or a loop, runs without interruption by other threads.

CPython with its global lock switches threads at calls and backward jumps only. Builds without that lock
give no such promise; there the policies take their locks on every path.
"""
