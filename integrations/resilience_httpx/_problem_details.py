"""What the body of an error says: problem details (RFC 9457), and error codes as other APIs have them.

A body is read only as far as it is there, up to 64 KiB, and is never trusted: what is no JSON, is nested
too deeply or has the wrong type counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from resilience_httpx._bodies import LONGEST_BODY, HeldBody, unpacked
from resilience_httpx._packages import classes, httpx

_NOT_READ = classes(httpx.StreamError)

_MEMBERS = ("title", "detail", "instance")
_CODES = ("code", "error_code", "errorCode", "type", "error")


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem details, as RFC 9457 has them. They are the server's words and may hold what is confidential.

    Attributes:
        type: Identifies the kind of problem, by a URI; ``"about:blank"`` if it has none.
        status: The status of the response, whatever the body says.
        title: What kind of problem it is, for people.
        detail: What happened, for people.
        instance: Identifies this occurrence, by a URI.
        extensions: All other members; read-only.
    """

    type: str
    status: int
    title: str | None = None
    detail: str | None = None
    instance: str | None = None
    extensions: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def problem_of(response: httpx.Response) -> Problem | None:
    """Return the problem details of a response, or ``None`` if it has none that can be read.

    Example:
        >>> headers = {"Content-Type": "application/problem+json"}
        >>> problem_of(httpx.Response(403, headers=headers, content=b'{"title": "No credit"}')).title
        'No credit'
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/problem+json":
        return None
    document = document_of(response)
    if not isinstance(document, dict):
        return None
    members = cast("dict[str, Any]", document)
    known = {name: members[name] for name in _MEMBERS if isinstance(members.get(name), str)}
    kind = members.get("type")
    others = {name: value for name, value in members.items() if name not in {"type", "status", *_MEMBERS}}
    return Problem(
        type=kind if isinstance(kind, str) else "about:blank",
        status=response.status_code,
        **known,
        extensions=MappingProxyType(others),
    )


def error_codes(document: Any) -> Iterator[str]:
    """Yield what may be the error codes of a JSON document, the most telling first.

    They are where APIs put them: ``{"code": ...}``, ``{"error": ...}``, ``{"error": {"code": ...}}``,
    ``{"errors": [{"code": ...}]}``, also as ``type``. Numbers become strings.
    """
    outer = _members(document)
    several = outer.get("errors")
    inner = [outer.get("error"), *_list(several)]
    for members in (*map(_members, inner), outer):
        for name in _CODES:
            value = members.get(name)
            if isinstance(value, str) or type(value) is int:
                yield str(value)


def _list(value: Any) -> Sequence[object]:
    return cast("list[object]", value) if isinstance(value, list) else ()


def _members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def document_of(response: httpx.Response) -> Any:
    """Return the JSON document in the body of a response, or ``None``."""
    body = _body(response)
    if body is None or len(body) > LONGEST_BODY:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _body(response: httpx.Response) -> bytes | None:
    try:
        return response.content
    except _NOT_READ:
        held = response.stream.held if isinstance(response.stream, HeldBody) else None
    return None if held is None else unpacked(held, response.headers)
