"""Which orders of policies defeat the purpose of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilience._policy import Policy

# (outer, inner): why that is wrong. The mend is always to swap the two.
_DEFEATED = {
    ("cached", "fallback"): "the answer in place of a failure is kept like a real one",
    ("retry", "fallback"): "the fallback answers every failure, so there is nothing to retry",
    ("retry", "cached"): "the cache is asked again at each attempt",
    ("hedge", "fallback"): "the fallback answers every failure, so the first attempt to fail wins",
    ("hedge", "cached"): "each attempt asks the cache, and joins the load that it should overtake",
    ("circuit_breaker", "fallback"): "the fallback hides every failure from the breaker",
    ("circuit_breaker", "cached"): "cache hits count as successes, and an open circuit hides the cache",
    ("adaptive_throttle", "fallback"): "the fallback hides every failure from the throttle",
    ("adaptive_throttle", "cached"): "cache hits count as accepted, and a rejection hides the cache",
    ("bulkhead", "retry"): "a slot is held through every backoff",
    ("bulkhead", "hedge"): "one slot holds several attempts",
    ("bulkhead", "cached"): "cache hits take a slot",
    ("rate_limited", "cached"): "cache hits cost quota",
    ("rate_limited", "retry"): "the retries are not paced",
    ("rate_limited", "hedge"): "the hedges are not paced",
}

_INNERMOST = {"inject_latency", "inject_errors", "inject_result"}


def order_problems(added: Sequence[Policy], worn: Sequence[Policy]) -> Iterator[str]:
    """Yield what is wrong with adding policies around those that a function already wears.

    Args:
        added: The new policies, outermost first.
        worn: The policies further in, outermost first; what is wrong among them was told before.
    """
    for index, outer in enumerate(added):
        for inner in (*added[index + 1 :], *worn):
            yield from _problems(outer, inner)


def _problems(outer: Policy, inner: Policy) -> Iterator[str]:
    reason = _DEFEATED.get((outer.kind, inner.kind))
    if reason is not None:
        yield f"{outer.kind} is outside {inner.kind}: {reason}. Put {outer.kind} inside {inner.kind}"
    if outer.kind == inner.kind == "retry" and outer is not inner:
        yield "retry is outside another retry: their attempts multiply. Remove one"
    if outer.kind in _INNERMOST and inner.kind not in _INNERMOST:
        yield (
            f"{outer.kind} is outside {inner.kind}, which never sees what it injects. "
            f"Put {outer.kind} innermost"
        )
    if outer is inner and outer.has_state:
        yield f"the same {outer.kind} object stands twice: every call counts double. Remove one"
    if (
        outer is not inner
        and outer.time_limit is not None
        and inner.time_limit is not None
        and inner.time_limit >= outer.time_limit
    ):
        yield (
            f"the inner time limit ({inner.kind}, {inner.time_limit:g} s) is not shorter than the outer "
            f"({outer.kind}, {outer.time_limit:g} s): it never acts. Make it shorter, or remove it"
        )
