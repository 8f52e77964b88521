"""Every exception of the client.

::

    HTTPClientError              .status_code .response .code .details; a `ResilienceError`
    ├── StatusError              the server answered 4xx or 5xx; also an httpx.HTTPStatusError; .retry_after
    │   ├── ValidationError      400 and 422
    │   ├── AuthenticationError  401
    │   ├── PermissionDeniedError 403
    │   ├── NotFoundError        404
    │   ├── ConflictError        409
    │   ├── RateLimitError       429
    │   └── ServerError          5xx
    ├── NetworkError             also an httpx.NetworkError
    └── RequestTimeoutError      also an httpx.TimeoutException

Each is the matching exception of httpx as well, down to its class: a `NetworkError` that was an
``httpx.ConnectError`` is still caught as one. The same holds for what the core raises through the client:
its rejections are also ``httpx.TransportError``, its `CallTimeoutError` is also a `RequestTimeoutError`.

Requests and responses hold secrets, so texts, ``details`` and ``repr`` show of a URL only origin and path,
of headers and bodies nothing, and never the text of an exception of httpx.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast

from resilience import CallTimeoutError, RejectedError, ResilienceError
from resilience_httpx import _packages
from resilience_httpx._failures import is_unmapped, request_of
from resilience_httpx._origins import without_secrets
from resilience_httpx._packages import HTTPStatusError, TimeoutException, TransportError, classes, httpx
from resilience_httpx._problem_details import Problem, problem_of
from resilience_httpx._rate_headers import exhausted_for, quotas
from resilience_httpx._retry_after import retry_after

E = TypeVar("E", bound=ResilienceError)

_STATUS_ERRORS = classes(httpx.HTTPStatusError)
_TIMEOUTS = classes(httpx.TimeoutException)
_NETWORK_ERRORS = classes(httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)

# The statuses whose `Retry-After` means "send this again later".
_ASK_FOR_A_PAUSE = frozenset({413, 429, 503})


class HTTPClientError(ResilienceError):
    """A request failed; the base of the client's own exceptions.

    Args:
        message: What happened, for people; leave it out to have it written from the request.
        request: The request that failed.
        response: The response, if there is one.
        code: See `ResilienceError`.
        details: See `ResilienceError`.

    Attributes:
        response: The ``httpx.Response``, or ``None`` if there is none.
    """

    default_code = "http_client_error"

    def __init__(
        self,
        message: str = "",
        *,
        request: httpx.Request | None = None,
        response: httpx.Response | None = None,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, details=details)
        self._request = request
        self.response: Any = response

    @property
    def status_code(self) -> int | None:
        """The status of the response, or ``None`` if there is none."""
        return None if self.response is None else self.response.status_code

    def _describe(self) -> str:
        return f"{self.code.replace('_', ' ')}{_on(self._request)}"

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"status_code": self.status_code}
        if self._request is not None:
            facts["method"] = self._request.method
            facts["url"] = without_secrets(self._request.url)
        return facts


class StatusError(HTTPClientError, HTTPStatusError):
    """The server answered with an error status, one that has no class of its own.

    Attributes:
        response: The ``httpx.Response``.
        retry_after: Seconds for which the server asks to be left alone (413, 429 and 503, and 403 if it
            tells of a limit), or ``None``.
    """

    default_code = "http_status_error"
    response: httpx.Response

    def __init__(
        self,
        message: str = "",
        *,
        request: httpx.Request,
        response: httpx.Response,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, request=request, response=response, code=code, details=details)
        self.retry_after = _asked_pause(response)

    @property
    def status_code(self) -> int:
        """The status of the response."""
        return self.response.status_code

    @property
    def problem(self) -> Problem | None:
        """The problem details in the body (RFC 9457), or ``None`` if it has none."""
        return problem_of(self.response)

    def _describe(self) -> str:
        status = self.response.status_code
        return f"{status} {_phrase(status)}{_on(self._request)}"

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "retry_after": self.retry_after}


class ValidationError(StatusError):
    """The server does not understand the request: 400 or 422."""

    default_code = "validation_error"


class AuthenticationError(StatusError):
    """The credentials are missing or wrong: 401."""

    default_code = "authentication_error"


class PermissionDeniedError(StatusError):
    """The credentials do not allow this: 403."""

    default_code = "permission_denied"


class NotFoundError(StatusError):
    """There is no such thing: 404."""

    default_code = "not_found"


class ConflictError(StatusError):
    """The request does not fit the state of the thing: 409."""

    default_code = "conflict"


class RateLimitError(StatusError):
    """Too many requests: 429. ``retry_after`` tells when to come back, if the server does."""

    default_code = "rate_limit"


class ServerError(StatusError):
    """The server failed: 5xx."""

    default_code = "server_error"


class NetworkError(HTTPClientError, _packages.NetworkError):
    """No whole response came: no connection, or one that broke."""

    default_code = "network_error"


class RequestTimeoutError(HTTPClientError, TimeoutException):
    """The response did not come in time."""

    default_code = "request_timeout"


_BY_STATUS: Mapping[int, type[StatusError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
}


def status_error(response: httpx.Response) -> StatusError:
    """Make the error that a response with an error status stands for."""
    status = response.status_code
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else StatusError)
    return kind(request=response.request, response=response)


def note_retry_after(error: Any, asked: float | None) -> None:
    """Let an ``httpx.HTTPStatusError`` say how long the server asks to be left alone, as ours do."""
    error.retry_after = _asked_pause(error.response) if asked is None else asked


def _asked_pause(response: httpx.Response) -> float | None:
    if response.status_code not in _ASK_FOR_A_PAUSE:
        return None
    now = time.time()
    asked = retry_after(response.headers, now)
    if asked is None and response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return exhausted_for(quotas(response.headers, now))
    return asked


def note_call(error: Exception, attempts: int, elapsed: float) -> None:
    """Put into the details of an error of ours what the call has cost."""
    if isinstance(error, ResilienceError):
        details: Mapping[str, Any] = error.__dict__.get("_details") or {}
        error.__dict__["_details"] = {**details, "attempts": attempts, "elapsed": elapsed}


def client_error(
    error: Exception,
    request: httpx.Request,
    *,
    typed: bool,
    make: Callable[[httpx.Response], StatusError] = status_error,
) -> Exception:
    """Return what the client raises for an error: the error itself, or its twin that httpx knows.

    Args:
        error: What ended the call.
        request: The request that the caller gave, for errors that know none.
        typed: Whether errors of the network become `NetworkError` and `RequestTimeoutError`.
        make: Makes the error of a response.
    """
    if isinstance(error, CallTimeoutError):
        return _adopted(error, _both(type(error), RequestTimeoutError), request)
    if isinstance(error, RejectedError):
        return _adopted(error, _both(type(error), TransportError), request)
    if not typed or isinstance(error, HTTPClientError):
        return error
    if isinstance(error, _STATUS_ERRORS):  # raised by an event hook
        return _with_notes(make(error.response), error)
    failed = request_of(error) or request
    if isinstance(error, _TIMEOUTS):
        return _with_notes(_both(RequestTimeoutError, type(error))(request=failed), error)
    if isinstance(error, _NETWORK_ERRORS):
        return _with_notes(_both(NetworkError, type(error))(request=failed), error)
    return _with_notes(NetworkError(request=failed), error) if is_unmapped(error) else error


def _adopted(
    error: ResilienceError, kind: type[ResilienceError], request: httpx.Request
) -> ResilienceError:
    """Make an error of the core one of httpx's as well; it keeps all that it carries, notes included."""
    if type(error) is kind:
        return error
    adopted = kind.__new__(kind, *error.args)
    method, url = request.method, without_secrets(request.url)
    details = {"method": method, "url": url, **error.details}
    told = {"_message": f"{error.message} ({method} {url})", "_details": details}
    adopted.__dict__.update({"response": None, **error.__dict__, **told, "_request": request})
    return adopted


def _with_notes(error: HTTPClientError, original: Exception) -> HTTPClientError:
    for note in getattr(original, "__notes__", ()):
        error.add_note(note)
    return error


_twins: dict[tuple[type, type], type] = {}  # as many as there are pairs of classes


def _both(kind: type[E], original: type[Exception]) -> type[E]:
    """Return a class that is two; it goes by the name of the first."""
    if issubclass(kind, original):
        return kind
    twin: type[E] | None = _twins.get((kind, original))
    if twin is None:
        twin = _twins[kind, original] = _make_twin(kind, original)
    return twin


def _make_twin(kind: type[E], original: type[Exception]) -> type[E]:
    def reduce(self: ResilienceError) -> tuple[Any, ...]:
        return _rebuild, (kind, original, self.args, self.__dict__.copy())

    namespace = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__reduce__": reduce,
    }
    twin: Any = type(kind.__name__, (kind, original), namespace)
    return cast("type[E]", twin)


def _rebuild(kind: type[E], original: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> E:
    both = _both(kind, original)
    error = both.__new__(both, *args)
    error.__dict__.update(state)
    return error


def _on(request: httpx.Request | None) -> str:
    return "" if request is None else f" on {request.method} {without_secrets(request.url)}"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
