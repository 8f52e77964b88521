"""Middleware: functions around each call, or around each attempt.

::

    async def middleware(request, call_next):
        response = await call_next(request)
        return response

The first of the list is the outermost. A middleware may answer without calling next, call next more than
once, raise, or pass another request on.

Around a call (``middleware=``) it stands outside of all policies: each ``call_next`` is a call of its own
with its own retries and time limits, and the caller gets what the middleware returns. Around an attempt
(``attempt_middleware=``) it stands inside of them, next to the wire: it runs again for each attempt, with
the request that this attempt sends, and the attempt ends with what it returns or raises. A response that
came from ``call_next`` and is not returned is closed.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeAlias

from resilience import MetricsRegistry, _arguments, _clock, metrics
from resilience_httpx._added import add_header
from resilience_httpx._call import Send
from resilience_httpx._failures import request_of
from resilience_httpx._origins import origin_of, without_secrets
from resilience_httpx._packages import classes, httpx
from resilience_httpx._requests import CLIENT, fresh_copy

CallNext: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response]]
Middleware: TypeAlias = Callable[[httpx.Request, CallNext], Awaitable[httpx.Response]]

_RESPONSES = classes(httpx.Response)

_REQUEST_ID = "resilience.request_id"

# Any other method would make a label that a caller, or its caller, can choose.
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY", "POST", "PATCH"})


def check_middleware(name: str, given: Sequence[Middleware] | None) -> tuple[Middleware, ...]:
    """Return the middleware that an argument gives, outermost first.

    Raises:
        TypeError: If it is no list of async functions.
    """
    if given is None:
        return ()
    allowed = "a list of async functions (request, call_next) -> response"
    for each in _arguments.instance(name, given, (list, tuple), allowed):
        if not (callable(each) and _arguments.is_async(each)):
            raise TypeError(f"{name} must be {allowed}, got {each!r} in it")
    return tuple(given)


async def through(middleware: Sequence[Middleware], send: Send, request: httpx.Request) -> httpx.Response:
    """Send a request through middleware, and close what it received and did not return."""
    received: list[httpx.Response] = []

    async def last(request: httpx.Request) -> httpx.Response:
        response = await send(request)
        received.append(response)
        return response

    call_next: CallNext = last
    for each in reversed(middleware):
        call_next = functools.partial(_step, each, call_next)
    try:
        returned = await call_next(request)
        await _close([response for response in received if response is not returned])
    except BaseException:
        await _close(received)
        raise
    if not any(response is returned for response in received):
        complete(returned, request)
    return returned


async def _step(middleware: Middleware, call_next: CallNext, request: httpx.Request) -> httpx.Response:
    name = getattr(middleware, "__qualname__", type(middleware).__qualname__)
    return check_response(f"middleware {name}", await middleware(request, call_next))


def check_response(what: str, value: object) -> httpx.Response:
    """Return what must be a response.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(value, _RESPONSES):
        raise TypeError(f"{what} must return a response, got a {type(value).__name__}")
    return value


async def _close(responses: Sequence[httpx.Response]) -> None:
    """Close responses, each whatever becomes of the others."""
    if not responses:
        return
    async with AsyncExitStack() as stack:
        for response in responses:
            stack.push_async_callback(response.aclose)


def complete(response: httpx.Response, request: httpx.Request) -> None:
    """Give a response that a middleware made what one from the wire has."""
    response.request = request
    try:
        _ = response.elapsed
    except RuntimeError:  # never sent
        response.elapsed = timedelta(0)


# --- Ready made -------------------------------------------------------------------------------------


def log_requests(level: str = "INFO") -> Middleware:
    """Make a middleware that writes a line of log per request, through loguru.

    The line has the client's name and the request's id, if there are such, method, URL without userinfo and
    query, status and seconds; no headers, no bodies, no texts of errors. The id is `add_request_id`'s, or
    else what is in ``X-Request-ID``. Statuses below 400 are written at the level given, 4xx at WARNING, 5xx
    and other failures at ERROR, and the start of each request at DEBUG. `setup_logging` decides which are
    shown, and how.

    Args:
        level: The level for what went well: a level of loguru, by name.

    Raises:
        TypeError: If ``level`` is no string.
        ValueError: If it is empty.

    Example:
        >>> client_options = {"middleware": [log_requests()]}
    """
    _arguments.text("level", level)

    async def log(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        from loguru import logger

        facts, what = _shown(request)
        logger.bind(resilience={"event": "request.began", **facts}).debug("{} begins", what)
        started = _clock.monotonic()
        try:
            response = await call_next(request)
        except Exception as error:
            facts, what = _shown(request, request_of(error))
            facts |= {"seconds": _clock.monotonic() - started, "error": type(error).__qualname__}
            severity = _severity(getattr(error, "status_code", None) or 500, level)
            failed = logger.bind(resilience={"event": "request.failed", **facts})
            failed.log(severity, "{} failed with {} after {:.3f} s", what, facts["error"], facts["seconds"])
            raise
        status = response.status_code
        facts, what = _shown(request, getattr(response, "_request", None))
        facts |= {"seconds": _clock.monotonic() - started, "status": status}
        answered = logger.bind(resilience={"event": "request.answered", **facts})
        answered.log(
            _severity(status, level), "{} answered {} after {:.3f} s", what, status, facts["seconds"]
        )
        return response

    return log


def _shown(request: httpx.Request, sent: httpx.Request | None = None) -> tuple[dict[str, Any], str]:
    """Return the facts of a request, and its words for a line of log.

    Args:
        request: The request.
        sent: What became of it further in, where it may have got its id.
    """
    url = without_secrets(request.url)
    facts: dict[str, Any] = {"method": request.method, "url": url}
    what = f"{request.method} {url}"
    name = request.extensions.get(CLIENT)
    if name is not None:
        facts["client"] = name
        what = f"{name}: {what}"
    request_id = _id_of(request) or (_id_of(sent) if sent is not None else None)
    if request_id:
        facts["request_id"] = request_id
        # It may be somebody else's, and must not look like another line.
        what = f"{what} ({request_id if request_id.isprintable() else ascii(request_id)})"
    return facts, what


def _id_of(request: httpx.Request) -> str | None:
    found: str | None = request.extensions.get(_REQUEST_ID) or request.headers.get("x-request-id")
    return found


def _severity(status: int, level: str) -> str:
    return "ERROR" if status >= 500 else "WARNING" if status >= 400 else level


def measure_requests(registry: MetricsRegistry = metrics) -> Middleware:
    """Make a middleware that counts and times requests in a registry of the core.

    ``resilience.http.requests`` counts, ``resilience.http.duration`` has the seconds; both have the labels
    ``method``, ``origin`` and ``outcome``: the status, ``error``, or ``abandoned`` (cancelled); and
    ``client``, if that has a name.

    Args:
        registry: Where the metrics go.

    Raises:
        TypeError: If it is no registry.

    Example:
        >>> client_options = {"attempt_middleware": [measure_requests()]}
    """
    _arguments.instance("registry", registry, MetricsRegistry, "a MetricsRegistry")

    async def measure(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        started = _clock.monotonic()
        outcome = "abandoned"
        method = request.method if request.method in _METHODS else "OTHER"
        labels = {"method": method, "origin": origin_of(request.url)}
        if CLIENT in request.extensions:
            labels["client"] = request.extensions[CLIENT]
        try:
            response = await call_next(request)
            outcome = str(response.status_code)
        except Exception:
            outcome = "error"
            raise
        finally:
            labels["outcome"] = outcome
            registry.counter("resilience.http.requests", labels).add()
            registry.histogram("resilience.http.duration", labels).record(_clock.monotonic() - started)
        return response

    return measure


def add_request_id(header: str = "X-Request-ID", make: Callable[[], str] | None = None) -> Middleware:
    """Make a middleware that gives each request an id in a header, unless it has one.

    Around a call, all its attempts have the same id; around an attempt, each has its own.

    Args:
        header: The name of the header.
        make: Returns an id, such as that of the request that is being served; default: a random UUID.

    Raises:
        TypeError: If ``header`` is no string or ``make`` no plain function.
        ValueError: If ``header`` is empty.

    Example:
        >>> client_options = {"middleware": [add_request_id()]}
    """
    _arguments.text("header", header)
    new_id = _random_id if make is None else _arguments.plain_function("make", make)

    async def add_id(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        if header not in request.headers:
            request = fresh_copy(request)  # the caller may send its own once more
            add_header(request, header, new_id())
        request.extensions = {**request.extensions, _REQUEST_ID: request.headers[header]}
        return await call_next(request)

    return add_id


def _random_id() -> str:
    return uuid.uuid4().hex
