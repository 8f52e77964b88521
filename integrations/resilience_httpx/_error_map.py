"""`ErrorMap`: an API's own classes of errors, by status, by type of problem, or by error code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

from resilience import _arguments
from resilience_httpx._errors import StatusError, status_error
from resilience_httpx._packages import httpx
from resilience_httpx._problem_details import document_of, error_codes, problem_of

ErrorKey: TypeAlias = int | str | tuple[int, str]

_ALLOWED = "statuses (400 to 599), types of problems or error codes (strings), or pairs of both"


class ErrorMap:
    """Makes the error that a response with an error status is raised as.

    The most specific key wins: status and type of problem, status and code, the type, the code, the status.
    What no key names is one of the client's own errors.

    Args:
        classes: From keys to subclasses of `StatusError`.

    Raises:
        TypeError: If a key has the wrong type, or a class cannot be made from ``request`` and ``response``.
        ValueError: If a status is none of an error, or a string is empty.
    """

    def __init__(self, classes: Mapping[ErrorKey, type[StatusError]] | None = None) -> None:
        given: Mapping[Any, Any] = {} if classes is None else classes
        _arguments.instance("error_map", given, Mapping, "a mapping from statuses or codes to classes")
        self._classes = {_checked_key(key): _checked_class(kind) for key, kind in given.items()}
        self._looks_into_bodies = any(not isinstance(key, int) for key in self._classes)

    def error(self, response: httpx.Response) -> StatusError:
        """Return a new error; the body counts as far as it has been read."""
        if not self._classes:
            return status_error(response)
        for key in self._keys(response):
            if key in self._classes:
                return self._classes[key](request=response.request, response=response)
        return status_error(response)

    def refined(self, error: StatusError) -> StatusError:
        """Return an error that the body, which is read now, may have made a more specific one."""
        if not self._looks_into_bodies:
            return error
        better = self.error(error.response)
        if type(better) is type(error):
            return error
        better.retry_after = error.retry_after
        for note in getattr(error, "__notes__", ()):
            better.add_note(note)
        return better

    def _keys(self, response: httpx.Response) -> Iterator[ErrorKey]:
        status = response.status_code
        if self._looks_into_bodies:
            problem = problem_of(response)
            texts = [] if problem is None else [problem.type]
            texts += error_codes(document_of(response))
            yield from ((status, text) for text in texts)
            yield from texts
        yield status


def _checked_key(key: Any) -> ErrorKey:
    if type(key) is int:
        return _status(key)
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, tuple) and len(pair := cast("tuple[object, ...]", key)) == 2:
        status, text = pair
        if type(status) is int and isinstance(text, str):
            return _status(status), _arguments.text("error_map", text)
    raise TypeError(f"error_map must have keys that are {_ALLOWED}, got {key!r}")


def _status(status: int) -> int:
    if not 400 <= status <= 599:
        raise ValueError(f"error_map must have keys that are {_ALLOWED}, got {status!r}")
    return status


def _text(text: str) -> str:
    _arguments.text("error_map", text)
    if re.fullmatch("[45][0-9][0-9]", text):
        raise ValueError(f"error_map must have statuses as numbers: write the number {text}, got {text!r}")
    return text


def _checked_class(kind: Any) -> type[StatusError]:
    if not (inspect.isclass(kind) and issubclass(kind, StatusError)):
        raise TypeError(f"error_map must have subclasses of StatusError as values, got {kind!r}")
    try:
        inspect.signature(kind).bind(request=None, response=None)
    except TypeError as error:
        raise TypeError(
            f"error_map must have classes that can be made from request= and response= alone: "
            f"{kind.__qualname__}: {error}"
        ) from None
    return kind
