"""Keeps secrets out of httpx's own log, which prints the whole URL of each request at level INFO.

A filter on httpx's logger masks the userinfo and those query parameters that hold a secret by their name.
It lets every record through, changes nothing else, and keeps the URL an ``httpx.URL``, so that handlers,
levels and formatters of the application work as before.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_plus

from resilience import _arguments
from resilience_httpx._packages import PACKAGES, classes, httpx

_URLS = classes(httpx.URL)

_HIDDEN = "REDACTED"

_SENSITIVE = re.compile(
    r"(?<!idempotency[-_])key(?!word)|token|secret|passw|pwd|auth(?!or(?!i))|credential|signature|session|assertion|jwt"
    r"|^(sig|sid|code|appid|app_id|hmac|otp|pin|saml|samlresponse)$",
    re.IGNORECASE,
)
_named: set[str] = set()


def hide_parameter(name: str) -> None:
    """Mask a query parameter in httpx's own log, besides those whose names sound like a secret.

    It holds for the whole process from now on. Safe for concurrent tasks, threads and loops.

    Args:
        name: The name of the parameter, as it is in a URL, without escapes.

    Raises:
        TypeError: If it is no string.

    Example:
        >>> hide_parameter("tax_number")
    """
    _named.add(_arguments.instance("name", name, str, "a string"))
    watch_log()


def watch_log() -> None:
    """Install the filter; doing it again changes nothing."""
    for package in PACKAGES:
        logging.getLogger(package.__name__).addFilter(_redact)


def _redact(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(redacted(each) if isinstance(each, _URLS) else each for each in record.args)
    return True


def sounds_secret(name: str) -> bool:
    """Whether what has this name, a parameter or a header, is likely to be a secret."""
    return _SENSITIVE.search(name) is not None


def redacted(url: httpx.URL) -> httpx.URL:
    """Return a URL with its secrets masked; the URL itself if it has none."""
    if url.userinfo:
        url = url.copy_with(username=_HIDDEN, password=None)
    if not url.query:
        return url
    pairs = url.query.decode("ascii").split("&")
    masked = [_masked(pair) for pair in pairs]
    return url if masked == pairs else url.copy_with(query="&".join(masked).encode("ascii"))


def _masked(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    plain = unquote_plus(name)
    hidden = equals and (plain in _named or sounds_secret(plain))
    return f"{name}={_HIDDEN}" if hidden else pair
