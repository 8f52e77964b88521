"""Links in headers: ``Link: <https://api.example.com/users?page=2>; rel="next"`` (RFC 8288).

A relation is compared without case, a link may have several, and of several ``rel`` parameters the first
counts. A link with an ``anchor`` is about another resource than the response, so it is left out. What is
malformed ends the reading of its header field, as appendix B.2 of the RFC has it; it is no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from resilience_httpx._packages import httpx

_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_PARAMETER = re.compile(
    r"""\s*;\s*(?P<name>[^\s=;,"]*)                        # the name may be missing, as in "; ;"
    (?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)(?:"|\\?$)     # a quote that nobody closes goes to the end
    |(?P<plain>[^\s;,]*)))?""",
    re.VERBOSE | re.DOTALL,
)
_REST = re.compile(r"[^,]*")


class Link(NamedTuple):
    """One link of a ``Link`` header.

    Attributes:
        target: Where it leads, as it was written: maybe relative.
        relations: What it is to the response, in lower case.
    """

    target: str
    relations: frozenset[str]


def parse_links(value: str) -> Iterator[Link]:
    """Read one ``Link`` header field.

    Args:
        value: The field, which may hold several links.

    Returns:
        The links that are about the response itself, in their order.

    Example:
        >>> [link.target for link in parse_links('</?page=2>; rel="next last", </>; rel=first')]
        ['/?page=2', '/']
    """
    position = 0
    while target := _TARGET.match(value, position):
        parameters, position = _parse_parameters(value, target.end())
        if "anchor" not in parameters:
            relations = frozenset(parameters.get("rel", "").lower().split())
            yield Link(target.group(1).strip(), relations)


def linked_url(response: httpx.Response, relation: str) -> httpx.URL | None:
    """Return where the first link of a relation leads, or ``None``.

    Args:
        response: The response; a relative target is resolved against its URL.
        relation: The relation, in lower case.

    Raises:
        httpx.InvalidURL: If the target is no URL.
    """
    for value in response.headers.get_list("link"):
        for link in parse_links(value):
            if relation in link.relations:
                return response.url.join(link.target)
    return None


def _parse_parameters(value: str, position: int) -> tuple[dict[str, str], int]:
    """Return the parameters of a link by name, the first of each, and where they end."""
    parameters: dict[str, str] = {}
    while match := _PARAMETER.match(value, position):
        quoted = match["quoted"]
        text = match["plain"] or "" if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        parameters.setdefault(match["name"].lower(), text)
        position = match.end()
    rest = _REST.match(value, position)
    return parameters, position if rest is None else rest.end()
