"""Policies per endpoint: ``{"GET /search*": [rate_limited(30, per=60)]}``.

A pattern is a method and a path; ``*`` stands for any characters, also for none and for slashes. The
method may be left out or be ``*``: any method. The path is the one below the client's ``base_url``, without
the query. If several patterns match, the most specific one counts: the one with the most characters
besides ``*``, then one that names a method, then the one that was given first. Only its policies apply;
`_pipeline` says where they stand. Each replaces the client's policy of its kind; so one whose ``enabled``
is ``False`` turns the client's off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from resilience import Policy, Stack, _arguments
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx

_PATTERN = re.compile(r"(?:([A-Za-z]+|\*)\s+)?([/*]\S*)")

# What other libraries call a part of a path: {id}, <int:id>, :id.
_PLACEHOLDER = re.compile(r"\{[^/{}]*\}|<[^/<>]*>|(?<=/):\w+")

_REFUSED = {
    "cached": "a response is not one value for all callers; decorate the function that uses the client",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pattern and its policies.

    Attributes:
        pattern: As it was given.
        policies: Outermost first; those of stacks one by one.
        given: The policies as they were given.
    """

    pattern: str
    method: str
    path: re.Pattern[str]
    policies: tuple[Policy, ...]
    given: tuple[Policy, ...]

    @property
    def enabled_policies(self) -> tuple[Policy, ...]:
        """The policies without those of stacks that are switched off now."""
        return tuple(_enabled(self.given))

    @property
    def specificity(self) -> tuple[int, bool]:
        """Sorts patterns: the greater, the more specific."""
        path = self.pattern.split()[-1]
        return len(path.replace("*", "")), self.method != "*"


class Endpoints:
    """All endpoints of a client, the most specific first.

    Raises:
        TypeError: If a pattern is no string, or the policies are no sequence of policies.
        ValueError: If a pattern cannot match, or a policy makes no sense on an endpoint.
    """

    def __init__(self, policies: Mapping[str, Sequence[Policy]]) -> None:
        _arguments.instance("endpoints", policies, Mapping, 'a mapping {"METHOD /path*": [policies]}')
        made = [_endpoint(pattern, given) for pattern, given in policies.items()]
        self.all = sorted(made, key=lambda endpoint: endpoint.specificity, reverse=True)

    def match(self, request: httpx.Request, base_url: httpx.URL) -> Endpoint | None:
        """Return the endpoint that a request belongs to, if any."""
        path = _path_below(base_url, request.url)
        if path is None:
            return None
        for endpoint in self.all:
            if endpoint.method in ("*", request.method) and endpoint.path.fullmatch(path):
                return endpoint
        return None


def _path_below(base_url: httpx.URL, url: httpx.URL) -> str | None:
    if not base_url.host:
        return url.path
    base = base_url.path  # httpx makes it end in a slash
    if origin_of(base_url) != origin_of(url) or not url.path.startswith(base):
        return None
    return url.path[len(base) - 1 :]


def _endpoint(pattern: str, policies: Sequence[Policy]) -> Endpoint:
    text = _arguments.text("endpoints", pattern).strip()
    if "?" in text:
        raise ValueError(f"endpoints are matched without the query, got {pattern!r}")
    if _PLACEHOLDER.search(text):
        better = _PLACEHOLDER.sub("*", text)
        raise ValueError(
            f"endpoints have no names for parts of a path, write * for it: {better!r}, got {pattern!r}"
        )
    parts = _PATTERN.fullmatch(text)
    if parts is None:
        raise ValueError(f'endpoints must have patterns such as "GET /users/*", got {pattern!r}')
    method, path = parts.groups()
    expression = ".*".join(re.escape(piece) for piece in path.split("*"))
    return Endpoint(
        text,
        (method or "*").upper(),
        re.compile(expression, re.DOTALL),
        _policies_of(pattern, policies),
        tuple(policies),
    )


def _policies_of(pattern: str, policies: Sequence[Policy]) -> tuple[Policy, ...]:
    _arguments.instance(f"endpoints[{pattern!r}]", policies, (list, tuple), "a list of policies")
    flat = tuple(_flat(pattern, policies))
    kinds = [policy.kind for policy in flat]
    for kind in kinds:
        if kind in _REFUSED:
            raise ValueError(f"endpoints[{pattern!r}] cannot have {kind}: {_REFUSED[kind]}")
        if kinds.count(kind) > 1:
            raise ValueError(
                f"endpoints[{pattern!r}] must have one {kind} at most, got {kinds.count(kind)}"
            )
    return flat


def _flat(pattern: str, policies: Iterable[Policy]) -> Iterable[Policy]:
    for policy in policies:
        _arguments.instance(f"endpoints[{pattern!r}]", policy, Policy, "a list of policies")
        yield from policy.policies if isinstance(policy, Stack) else (policy,)


def _enabled(policies: Iterable[Policy]) -> Iterable[Policy]:
    for policy in policies:
        if not isinstance(policy, Stack):
            yield policy
        elif policy.enabled:
            yield from _enabled(policy.config.policies)
