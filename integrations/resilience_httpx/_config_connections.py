"""The tables and values of a configuration that are about connections, not about policies."""

from __future__ import annotations

import contextlib
import functools
import ssl
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SkipValidation

from resilience import _arguments
from resilience_httpx._config_sections import Section, TimeLimit, as_value_error, none_if_false
from resilience_httpx._packages import httpx


class TimeoutSection(Section):
    """The time limits of httpx on single operations, in seconds."""

    connect: TimeLimit = 5.0
    read: TimeLimit = 5.0
    write: TimeLimit = 5.0
    pool: TimeLimit = 5.0

    def make(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Return what httpx takes."""
        for name in type(self).model_fields:
            as_value_error(_arguments.optional, _arguments.seconds, name, getattr(self, name))
        return self.connect, self.read, self.write, self.pool


class LimitsSection(Section):
    """How many connections there are; ``None`` or ``False`` for no limit."""

    max_connections: Annotated[SkipValidation[int | None], BeforeValidator(none_if_false)] = 100
    max_keepalive_connections: Annotated[SkipValidation[int | None], BeforeValidator(none_if_false)] = 20
    keepalive_expiry: TimeLimit = 5.0

    def make(self) -> httpx.Limits:
        """Return what httpx takes, and httpx2 likewise."""
        optional = functools.partial(as_value_error, _arguments.optional)
        optional(_arguments.whole, "max_connections", self.max_connections)
        optional(_at_least_zero, "max_keepalive_connections", self.max_keepalive_connections)
        optional(_arguments.seconds, "keepalive_expiry", self.keepalive_expiry)
        return httpx.Limits(**{name: getattr(self, name) for name in type(self).model_fields})


def _at_least_zero(name: str, value: object) -> int:
    return _arguments.whole(name, value, at_least=0)


def tls_settings(verify: Any) -> bool | ssl.SSLContext:
    """Return what httpx takes for the ``verify`` of a configuration.

    Raises:
        ValueError: If it is neither a flag nor the path of certificates.
    """
    if isinstance(verify, bool):
        return verify
    with contextlib.suppress(OSError):  # also what is no certificate
        if isinstance(verify, str) and Path(verify).is_dir():
            return ssl.create_default_context(capath=verify)
        if isinstance(verify, str):
            return ssl.create_default_context(cafile=verify)
    raise ValueError(f"verify must be true, false or the path of certificates (PEM), got {verify!r}")
