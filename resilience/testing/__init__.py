"""Tools for tests of code that uses the policies: virtual time, no waits, recorded events, injected faults.

Nothing here needs pytest, and ``import resilience`` does not load it. With pytest, the fixtures
``virtual_time``, ``no_waits`` and ``resilience_events`` are there as soon as the package is installed.
"""

from resilience.testing._chaos import Chaos
from resilience.testing._clocks import clock_of
from resilience.testing._inject_errors import InjectErrors, inject_errors
from resilience.testing._inject_latency import InjectLatency, inject_latency
from resilience.testing._inject_result import InjectResult, inject_result
from resilience.testing._no_waits import SkippedWaits, no_waits
from resilience.testing._recorder import EventRecorder
from resilience.testing._store_tests import CacheStoreTests
from resilience.testing._virtual_loop import StuckError, VirtualTimeLoop
from resilience.testing._virtual_time import VirtualTime, run_virtually

__all__ = [
    "CacheStoreTests",
    "Chaos",
    "EventRecorder",
    "InjectErrors",
    "InjectLatency",
    "InjectResult",
    "SkippedWaits",
    "StuckError",
    "VirtualTime",
    "VirtualTimeLoop",
    "clock_of",
    "inject_errors",
    "inject_latency",
    "inject_result",
    "no_waits",
    "run_virtually",
]
