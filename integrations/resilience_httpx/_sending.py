"""What may be sent again.

A failure that leaves open whether the server did the work allows it for methods that are idempotent, or
with an idempotency key; if nothing was sent or the server did not look at it (425), any method may be sent
again. Local faults never are, and neither is a body that might not come out the same a second time: an
exhausted iterator would silently send nothing. RFC 9110, section 9.2.2; RFC 10008 (``QUERY``); RFC 8470.
"""

from __future__ import annotations

from typing import Any

from resilience_httpx._failures import is_wire_fault, never_sent, request_of
from resilience_httpx._idempotency import KEY
from resilience_httpx._packages import classes, httpx, package_of
from resilience_httpx._requests import ATTEMPT, IN_MEMORY

_SENT = "_resilience_sent"  # of a stream
_STATUS_ERRORS = classes(httpx.HTTPStatusError)

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})

# From 520 on they are those of proxies, such as Cloudflare's, whose server is down, slow or overloaded.
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})

_CONFLICT = 409
_TOO_EARLY = 425

NOT_REPLAYABLE = (
    "sent only once: its body is a stream, which may not come out the same a second time; "
    "give it as bytes or a seekable file to have it sent again"
)


def may_be_sent_again(
    error: Exception, request: httpx.Request, sent: httpx.Request | None, *, is_answered: bool = False
) -> bool:
    """Whether a failed attempt allows another one, the body left aside.

    Args:
        error: What ended the attempt; a status is an ``httpx.HTTPStatusError``.
        request: The request as the caller made it.
        sent: The request as the attempt began.
        is_answered: Whether the attempt had a response, so that something was sent whatever the error says.
    """
    no_connection = never_sent(error, sent)
    if (no_connection and not is_answered) or _was_too_early(error, sent):
        return True
    return is_idempotent(request) and (no_connection or _is_transient(error))


def has_transient_status(response: httpx.Response) -> bool:
    """Whether the same request may get another response later.

    Stripe saves the response to an idempotency key, an error too, and says so when it sends it once more.
    """
    if response.status_code not in TRANSIENT_STATUSES and not _is_still_running(response):
        return False
    return bool(response.headers.get("idempotent-replayed", "").lower() != "true")


def is_idempotent(request: httpx.Request) -> bool:
    """Whether doing the request twice is the same as doing it once."""
    if request.method in IDEMPOTENT_METHODS or request.headers.get("idempotency-key"):
        return True
    return bool(request.extensions.get(KEY))


def is_replayable(request: httpx.Request) -> bool:
    """Whether the body certainly comes out the same a second time."""
    stream: Any = request.stream
    if isinstance(stream, IN_MEMORY):
        return True
    # A multipart body; httpx rewinds its files each time, those that can be.
    fields: list[Any] | None = getattr(stream, "fields", None)
    return fields is not None and all(_is_replayable_field(field) for field in fields)


def check_body(request: httpx.Request) -> None:
    """Refuse a body that was sent before, by the request that a redirect or an auth flow repeats.

    Raises:
        httpx.StreamConsumed: If it might come out cut off now.
    """
    if getattr(request.stream, _SENT, False):
        error = package_of(request).StreamConsumed()
        error.add_note(NOT_REPLAYABLE)
        raise error


def note_body(request: httpx.Request) -> None:
    """Note that a body was sent, unless it can be sent again."""
    if not is_replayable(request):
        object.__setattr__(request.stream, _SENT, True)  # a wrapper would be seen by who looks at requests


def _is_transient(error: Exception) -> bool:
    if isinstance(error, _STATUS_ERRORS):
        return has_transient_status(error.response)
    return is_wire_fault(error)


def _was_too_early(error: Exception, sent: httpx.Request | None) -> bool:
    """Whether a server refused to look at a request before the handshake of TLS was over (RFC 8470).

    Only the first attempt can have come so early: one that answers 425 to another means something else.
    """
    if not isinstance(error, _STATUS_ERRORS) or error.response.status_code != _TOO_EARLY:
        return False
    return sent is not None and request_of(error) is sent and ATTEMPT not in sent.extensions


def _is_still_running(response: httpx.Response) -> bool:
    """Whether a server says that it is still at work on an earlier attempt with this idempotency key."""
    if response.status_code != _CONFLICT:
        return False
    return {KEY, ATTEMPT} <= response.request.extensions.keys()


def _is_replayable_field(field: Any) -> bool:
    if not hasattr(field, "file"):
        return True
    if isinstance(field.file, (str, bytes)):
        return True
    seekable: Any = getattr(field.file, "seekable", None)
    return seekable is not None and bool(seekable())
