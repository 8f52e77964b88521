"""The kinds of events that the library's own policies tell of, so that a misspelt one is told."""

from __future__ import annotations

import difflib

from resilience import _arguments

_KINDS_OF = {
    "adaptive_throttle": ("rejected",),
    "bulkhead": ("queued", "rejected"),
    "cache": ("hit", "miss", "stale", "coalesced", "evicted", "refresh_failed", "store_failed"),
    "call": ("succeeded", "failed", "abandoned"),
    "chaos": ("error", "latency", "result"),
    "circuit_breaker": ("opened", "half_opened", "closed", "rejected", "late"),
    "fallback": ("used",),
    "hedge": ("started", "won"),
    "metrics": ("overflowed",),
    "rate_limit": ("waited", "rejected"),
    "retry": ("scheduled", "succeeded", "gave_up"),
    "timeout": ("expired",),
}

# The decorators whose events are not called by their name.
CALLED_OTHERWISE = {
    "cached": "cache",
    "inject_errors": "chaos",
    "inject_latency": "chaos",
    "inject_result": "chaos",
    "map_errors": None,
    "rate_limited": "rate_limit",
    "stack": None,
    "track_metrics": "call",
}

KINDS = frozenset(f"{policy}.{what}" for policy, kinds in _KINDS_OF.items() for what in kinds)


def checked_kind(kind: str) -> str:
    """Return a kind of events, or the first half of one.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is empty, or if its first half is a policy of the library that has no such event.
    """
    policy, dot, what = _arguments.text("kind", kind).partition(".")
    if policy in CALLED_OTHERWISE:
        raise ValueError(f"kind must be one there is: {policy} has {_events_of(policy)}, got {kind!r}")
    if not dot or policy not in _KINDS_OF or what in _KINDS_OF[policy]:
        return kind
    (nearest,) = difflib.get_close_matches(what, _KINDS_OF[policy], n=1, cutoff=0)
    raise ValueError(f"kind must be one there is, did you mean '{policy}.{nearest}'? got {kind!r}")


def _events_of(decorator: str) -> str:
    prefix = CALLED_OTHERWISE[decorator]
    if prefix is None:
        return "no events"
    return f"the events {', '.join(f'{prefix}.{what}' for what in _KINDS_OF[prefix])}"
