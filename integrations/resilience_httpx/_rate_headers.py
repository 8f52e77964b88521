"""What a server tells of its rate limits: the many headers, and what they have in common.

A pure function: headers and the time in, quotas out. It reads the three generations of the IETF's draft
(draft-ietf-httpapi-ratelimit-headers: three fields up to -06, one dictionary in -07, lists of structured
fields from -08 on), and the dialects of GitHub, OpenAI, Anthropic and Discord with their many relatives
(``X-RateLimit-Remaining`` and ``-Reset``, also ``X-Rate-Limit-``, also with the name of a quota behind).

What makes no sense counts as absent, and so does all that a cached response tells (``Age``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

from resilience_httpx._packages import httpx
from resilience_httpx._retry_after import server_time, timestamp
from resilience_httpx._structured_fields import Parameters, parse_list

ResetUnit: TypeAlias = Literal["seconds", "milliseconds", "epoch_seconds", "epoch_milliseconds"]

LONGEST_RESET = 86_400.0
"""Seconds; a reset further away is taken for this far: it may be a mistake about its unit."""

_OF_THREE_FIELDS = re.compile(r"(?:x-rate-?limit|ratelimit)-(remaining|reset-after|reset)(?:-(.+))?")
_OF_ANTHROPIC = re.compile(r"anthropic-ratelimit-(.+)-(remaining|reset)")
_NAMES = ("x-ratelimit-resource", "x-ratelimit-bucket")

# ASCII digits: no sign, no exponent, no digits of other scripts.
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII)
_DURATION = re.compile(r"(?:[0-9]{1,20}(?:\.[0-9]{1,20})?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MEMBER = re.compile(r"[ \t]*(limit|remaining|reset)=([0-9]{1,15})[ \t]*", re.ASCII)


class Quota(NamedTuple):
    """How much a server still allows.

    Attributes:
        name: What the server calls the quota, a policy, a resource or a bucket; empty if it has no name.
        remaining: What is left, 0 or more; of what, only the server knows: mostly requests.
        reset: Seconds until there is more, 0 to 24 hours.
    """

    name: str
    remaining: float
    reset: float


def has_quotas(headers: httpx.Headers) -> bool:
    """Whether headers may tell of a quota; cheap, as it is asked of every response."""
    return b"limit" in b" ".join([name for name, _ in headers.raw]).lower()


def quotas(headers: httpx.Headers, now: float, unit: ResetUnit | None = None) -> list[Quota]:
    """Return the quotas that a response tells of, as far as it tells both what is left and when it resets.

    Args:
        headers: The headers of the response.
        now: The time, in seconds since 1970; used if the response has no date of its own.
        unit: What the numbers in ``X-RateLimit-Reset`` and its relatives are; if not declared, those above
            1e12 are milliseconds since 1970, those above 1e9 seconds since 1970, the others seconds.

    Example:
        >>> quotas(httpx.Headers({"RateLimit": '"default";r=50;t=30'}), now=0)
        [Quota(name='default', remaining=50.0, reset=30.0)]
        >>> quotas(httpx.Headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}), now=0)
        [Quota(name='', remaining=0.0, reset=60.0)]
    """
    if _age(headers) > 0:
        return []
    told = [*_of_lists(headers), *_of_fields(headers, now, unit)]
    return [Quota(each.name, each.remaining, min(each.reset, LONGEST_RESET)) for each in told]


def exhausted_for(told: list[Quota]) -> float | None:
    """Return the seconds until none of some quotas is used up any more; ``None`` if none is."""
    return max((each.reset for each in told if each.remaining < 1), default=None)


# --- The IETF's single field ------------------------------------------------------------------------


def _of_lists(headers: httpx.Headers) -> Iterator[Quota]:
    text = ", ".join(headers.get_list("ratelimit"))
    if not text:
        return
    members = parse_list(text)
    if members:
        yield from _of_members(members)
    else:
        yield from _of_dictionary(text)


def _of_members(members: list[tuple[str, Parameters]]) -> Iterator[Quota]:
    for name, parameters in members:
        remaining, reset = parameters.get("r"), parameters.get("t")
        if isinstance(remaining, float) and isinstance(reset, float) and remaining >= 0 and reset >= 0:
            yield Quota(name, remaining, reset)


def _of_dictionary(text: str) -> Iterator[Quota]:
    matches = [_MEMBER.fullmatch(member) for member in text.split(",")]
    found = {match[1]: float(match[2]) for match in matches if match is not None}
    if None not in matches and {"remaining", "reset"} <= found.keys():
        yield Quota("", found["remaining"], found["reset"])


# --- A field for each number ------------------------------------------------------------------------


def _of_fields(headers: httpx.Headers, now: float, unit: ResetUnit | None) -> Iterator[Quota]:
    remaining: dict[str, float] = {}
    resets: dict[str, float] = {}
    exact: dict[str, float] = {}
    for field, value in headers.items():
        name, what = _field(field)
        if what == "remaining":
            if _NUMBER.fullmatch(value.strip()):
                remaining[name] = float(value)
        elif what:
            reset = _reset(value.strip(), headers, now, "seconds" if what == "reset-after" else unit)
            if reset is not None:
                (exact if what == "reset-after" else resets)[name] = reset
    resets.update(exact)
    for name in remaining.keys() & resets.keys():
        yield Quota(name or _name(headers), remaining[name], resets[name])


def _field(name: str) -> tuple[str, str]:
    """Return the name of the quota that a header is about, and what it tells of it, if it does."""
    if match := _OF_THREE_FIELDS.fullmatch(name):
        return match[2] or "", match[1]
    if match := _OF_ANTHROPIC.fullmatch(name):
        return match[1], match[2]
    return "", ""


def _name(headers: httpx.Headers) -> str:
    if headers.get("x-ratelimit-global", "").lower() == "true":
        return ""  # Discord: the bucket is not the reason
    return next((headers[name] for name in _NAMES if name in headers), "")


def _reset(value: str, headers: httpx.Headers, now: float, unit: ResetUnit | None) -> float | None:
    if _NUMBER.fullmatch(value):
        return _delay(float(value), headers, now, unit)
    if _DURATION.fullmatch(value):  # OpenAI
        return math.fsum(float(number) * _SECONDS[each] for number, each in _PART.findall(value))
    when = timestamp(value)
    if when is None:
        when = _iso_timestamp(value)  # Anthropic
    return None if when is None else max(when - server_time(headers, now), 0.0)


def _delay(number: float, headers: httpx.Headers, now: float, unit: ResetUnit | None) -> float:
    if unit is None:
        unit = "epoch_milliseconds" if number > 1e12 else "epoch_seconds" if number > 1e9 else "seconds"
    seconds = number / 1000 if unit in ("milliseconds", "epoch_milliseconds") else number
    if unit in ("seconds", "milliseconds"):
        return seconds
    return max(seconds - server_time(headers, now), 0.0)


def _iso_timestamp(value: str) -> float | None:
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    if "T" not in value.upper():  # a date alone, or digits that happen to look like one
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _age(headers: httpx.Headers) -> float:
    value = headers.get("age", "").strip()
    return float(value) if _NUMBER.fullmatch(value) else 0.0
