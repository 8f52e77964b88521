"""How long a server asks to be left alone: ``Retry-After`` and its relatives.

A pure function: response headers and the time in, seconds out. What it makes nothing of counts as absent,
so that a malformed header means the client's own backoff, never an error and never an endless wait.
RFC 9110, section 10.2.3 (``Retry-After``) and 5.6.7 (dates).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_tz

from resilience_httpx._packages import httpx

LONGEST = 1e10
"""Seconds that stand for any longer time: far above every cap, and still a number that JSON knows."""

_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after")
_YEAR_2000 = 946_684_800  # a server whose clock shows less has never set it
# ASCII digits: no sign, no exponent, no "inf", no digits of other scripts.
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


def retry_after(headers: httpx.Headers, now: float) -> float | None:
    """Return the seconds for which a response asks the client to wait.

    The variants in milliseconds come before ``Retry-After``, being more exact. A date is compared with the
    response's own ``Date``, so that the clocks of client and server need not agree. Of several values the
    longest counts.

    Args:
        headers: The headers of the response.
        now: The time, in seconds since 1970; used if the response has no date of its own.

    Returns:
        Seconds, 0 or more, or ``None`` if the response does not say.

    Example:
        >>> retry_after(httpx.Headers({"Retry-After": "120"}), now=0)
        120.0
        >>> retry_after(httpx.Headers({"Retry-After": "Sat, 01 Nov 2025 00:00:30 GMT"}), now=1761955200)
        30.0
    """
    for name in _MILLISECONDS:
        milliseconds = max(_numbers(headers.get_list(name)), default=None)
        if milliseconds is not None:
            return milliseconds / 1000
    values = headers.get_list("retry-after")
    return max([*_numbers(values), *_delays(values, headers, now)], default=None)


def _numbers(values: Iterable[str]) -> Iterator[float]:
    for value in values:
        if _NUMBER.fullmatch(value.strip()):
            yield min(float(value), LONGEST)


def _delays(values: Iterable[str], headers: httpx.Headers, now: float) -> Iterator[float]:
    for value in values:
        when = timestamp(value)
        if when is not None:
            yield min(max(when - server_time(headers, now), 0.0), LONGEST)


def server_time(headers: httpx.Headers, now: float) -> float:
    """Return the time at which a server made a response, by its own clock if it tells, else ``now``."""
    told = timestamp(headers.get("date", ""))
    return now if told is None or told < _YEAR_2000 else told


def timestamp(value: str) -> float | None:
    """Read a date in any of the three forms; one without a zone is in GMT, as all of them have to be."""
    try:
        parsed = parsedate_tz(value)
        if parsed is None:
            return None
        return datetime(*parsed[:6], tzinfo=UTC).timestamp() - (parsed[9] or 0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None  # such as the 31st of February, or the year 99999
