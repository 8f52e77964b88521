"""Idempotency keys: by them a server recognises a request that it has had, so any method may be repeated.

There is one key per call: made before the first attempt, the same in all attempts. A server that knows the
key does the work once, and then answers as it did the first time. The draft of the IETF
(draft-ietf-httpapi-idempotency-key-header) puts the key into quotes; Stripe and most others do not.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from resilience import _arguments
from resilience_httpx._packages import httpx
from resilience_httpx._requests import fresh_copy

KEY = "idempotency_key"
"""Name of the extension of a request that holds its key; hooks find it there."""

_LONGEST = 255  # what Stripe takes at most


class IdempotencyKey:
    """How requests get their idempotency key; the ``idempotency_key=`` of a client.

    Args:
        header: The header that the key goes into.
        make: Makes the key of a call from its request; default: a random UUID.
        quoted: Whether the key is written as a string in quotes, as the draft of the IETF has it.
        methods: The methods that get a key.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is empty.

    Example:
        >>> IdempotencyKey(quoted=True)
        IdempotencyKey(header='Idempotency-Key', quoted=True)
    """

    def __init__(
        self,
        header: str = "Idempotency-Key",
        *,
        make: Callable[[httpx.Request], str] | None = None,
        quoted: bool = False,
        methods: Iterable[str] = ("POST", "PATCH"),
    ) -> None:
        self.header = _arguments.text("header", header)
        self._make = _random_key if make is None else _arguments.plain_function("make", make)
        self._quoted = _arguments.flag("quoted", quoted)
        if isinstance(methods, str):
            raise TypeError(f"methods must be a list of methods, got {methods!r}")
        self._methods = frozenset(_arguments.text("methods", each).upper() for each in methods)

    def give(self, request: httpx.Request) -> httpx.Request:
        """Return the request with its key: one that the caller supplied, in either place, or a new one.

        A request that needs no key is returned itself, and so is one that has its header.

        Raises:
            TypeError: If the key is no string.
            ValueError: If it cannot go into a header, or is longer than 255 characters.
        """
        if request.headers.get(self.header):
            request.extensions = {**request.extensions, KEY: request.headers[self.header]}
            return request
        supplied = request.extensions.get(KEY)
        if supplied is None and (request.method not in self._methods or KEY in request.extensions):
            return request
        key = _checked(self._make(request) if supplied is None else supplied)
        # A copy: sent once more, the caller's own request is another call, which needs another key.
        keyed = fresh_copy(request)
        keyed.headers[self.header] = _in_quotes(key) if self._quoted else key
        keyed.extensions[KEY] = key
        return keyed

    def __repr__(self) -> str:
        return f"IdempotencyKey(header={self.header!r}, quoted={self._quoted})"


KeyOption: TypeAlias = IdempotencyKey | Callable[[httpx.Request], str] | str | bool | None


def idempotency_of(option: KeyOption) -> IdempotencyKey | None:
    """Return what the ``idempotency_key=`` of a client stands for.

    Raises:
        TypeError: If it is none of the things that it may be.
    """
    if option is None or option is False:
        return None
    if isinstance(option, IdempotencyKey):
        return option
    if option is True:
        return IdempotencyKey()
    if isinstance(option, str):
        return IdempotencyKey(option)
    if callable(option):
        return IdempotencyKey(make=option)
    raise TypeError(
        "idempotency_key must be True, the name of a header, a function of the request, "
        f"or an IdempotencyKey, got {option!r}"
    )


def with_key(request: httpx.Request, option: IdempotencyKey | None) -> httpx.Request:
    """Return the request with an idempotency key, if it is to have one."""
    if option is None:
        if not request.extensions.get(KEY):
            return request
        option = _DEFAULT
    return option.give(request)


def _random_key(request: httpx.Request) -> str:  # noqa: ARG001 - takes what a function of the user's takes
    return str(uuid.uuid4())


def _checked(key: Any) -> str:
    """Return a key that a header can hold. The error does not show it: it may be made of a secret."""
    if not isinstance(key, str):
        raise TypeError(f"an idempotency key must be a string, got a {type(key).__name__}")
    if not (key and key.isascii() and key.isprintable() and key == key.strip() and len(key) <= _LONGEST):
        raise ValueError(
            f"an idempotency key must be 1 to {_LONGEST} printable ASCII characters "
            "without spaces around them"
        )
    return key


def _in_quotes(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_DEFAULT = IdempotencyKey()
