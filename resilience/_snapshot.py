"""`snapshot`: all policies of the process at a glance, for health pages and support."""

from __future__ import annotations

from typing import Any

from resilience._live import live


def snapshot() -> dict[str, list[dict[str, Any]]]:
    """Return every live policy by name, with its state and counters.

    Several policies may have one name: those of a function that wears several, or those that were given
    the same. A policy that nobody holds any more is gone from the page as well. With ``key=`` only totals
    are shown, never the keys. What else has a state, such as the cache of an HTTP client, is on the page,
    too. Safe from any thread, with and without a running loop.

    Returns:
        Plain data, ready for JSON: for each name a list, the oldest policy first. Each entry has ``kind``
        (the decorator's name), ``policy`` (the policy as one readable line), ``enabled``, ``name``, and
        what ``snapshot()`` of that policy returns.

    Example:
        >>> from resilience import circuit_breaker
        >>> breaker = circuit_breaker(failure_threshold=3, name="user_api")
        >>> [(entry["policy"], entry["state"]) for entry in snapshot()["user_api"]]
        [('circuit_breaker(failure_threshold=3)', 'closed')]
    """
    page: dict[str, list[dict[str, Any]]] = {}
    for each in live():
        entry = each.on_page()
        page.setdefault(entry["name"], []).append(entry)
    return page
