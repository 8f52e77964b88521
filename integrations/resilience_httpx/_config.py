"""`ClientConfig`: a client from keyword arguments, environment variables and a TOML or YAML file.

What counts, the first one that has a key: arguments of `client`, then those of `load`, then environment
variables, then the file, then the client's own defaults. Tables are put together key by key, but for the
arguments of `client`, which replace the whole. Needs the extra ``settings``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

try:
    from pydantic import SkipValidation, ValidationError, ValidationInfo, field_validator, model_validator
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
except ModuleNotFoundError as missing:
    raise ImportError(
        'ClientConfig needs pydantic-settings: pip install "async-resilience[settings]"'
    ) from missing

from resilience import _arguments
from resilience_httpx._backends import check_backend
from resilience_httpx._client import ResilientClient
from resilience_httpx._config_connections import LimitsSection, TimeoutSection, tls_settings
from resilience_httpx._config_sections import (
    APIKeySection,
    BasicSection,
    BearerSection,
    BulkheadSection,
    CacheSection,
    CircuitBreakerSection,
    EndpointSection,
    IdempotencySection,
    OAuth2Section,
    RateLimitSection,
    RetrySection,
    Section,
    ServerLimitsSection,
    as_value_error,
    none_if_false,
    refuse_unknown_keys,
)
from resilience_httpx._config_sources import (
    ConfigurationError,
    Source,
    from_environment,
    from_file,
    merged_values,
    problem_of,
)
from resilience_httpx._endpoints import Endpoints
from resilience_httpx._origins import parse_origin
from resilience_httpx._packages import httpx

_AUTH = ("bearer", "api_key", "basic", "oauth2")
_POLICIES = ("retry", "rate_limit", "circuit_breaker", "bulkhead", "server_limits", "cache")
_TABLES = (*_POLICIES, "timeout", "idempotency_key", "limits")
_FLAGS = ("raise_for_status", "follow_redirects", "http2")
_AS_THEY_ARE = ("name", "base_url", "headers", "attempt_timeout", "total_timeout", "backend", *_FLAGS)
_MAY_BE_OFF = (*_POLICIES, "attempt_timeout", "total_timeout", "timeout", "idempotency_key")


class ClientConfig(BaseSettings):
    """What a `ResilientClient` is made of, as plain values.

    Tables of policies have the arguments of the core's decorators, in seconds. ``false`` (or ``None``) in
    place of a table or of a time limit turns it off; in a table of ``endpoints``, it turns the client's
    policy off there. Tokens, keys and passwords are ``SecretStr``: no text of this class and no error shows
    them.

    Args:
        base_url: As for `ResilientClient`, but without a user name or password.
        retry: The arguments of `retry`, such as ``{"attempts": 4}``.
        rate_limit: Those of `rate_limited`, such as ``{"rate": 10, "burst": 20}``.
        circuit_breaker: Those of `circuit_breaker`.
        bulkhead: Those of `bulkhead`.
        server_limits: Those of `ServerLimits`.
        cache: Those of `ResponseCache`.
        attempt_timeout: Seconds.
        total_timeout: Seconds.
        timeout: Seconds, or a table with ``connect``, ``read``, ``write`` and ``pool``.
        endpoints: For each pattern, such as ``"GET /search*"``, a table with ``retry``, ``rate_limit``,
            ``circuit_breaker``, ``bulkhead`` (tables) and ``timeout`` (seconds).
        bearer: The arguments of `BearerAuth`. One of these four at most.
        api_key: Those of `APIKeyAuth`.
        basic: Those of `BasicAuth`.
        oauth2: Those of `OAuth2ClientCredentials`.
        headers: Headers for each request; none that are secret, as they are shown.
        idempotency_key: ``True``, the name of a header, or the arguments of `IdempotencyKey`.
        raise_for_status: As for `ResilientClient`.
        follow_redirects: As for ``httpx.AsyncClient``, as is ``http2``.
        verify: Whether certificates are checked, or the path of a file or directory of those to trust.
        limits: A table with ``max_connections``, ``max_keepalive_connections`` and ``keepalive_expiry``.
        backend: As for `ResilientClient`, as is ``name``.

    Raises:
        ConfigurationError: If a key is not known, or a value is not allowed.

    Example:
        >>> import os, pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "api.toml")
        >>> _ = file.write_text('''
        ... base_url = "https://api.example.com"
        ... retry.attempts = 4
        ... [endpoints."GET /search*"]
        ... rate_limit = {rate = 30, per = 60}
        ... ''')
        >>> os.environ["EXAMPLE_BEARER__TOKEN"] = "secret"
        >>> config = ClientConfig.load(file, prefix="EXAMPLE_", total_timeout=20)
        >>> config.bearer.token
        SecretStr('**********')
        >>> config.client().retry.config.attempts
        4
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False
    )

    base_url: SkipValidation[str] = ""
    retry: RetrySection | None = RetrySection()
    rate_limit: RateLimitSection | None = None
    circuit_breaker: CircuitBreakerSection | None = CircuitBreakerSection()
    bulkhead: BulkheadSection | None = None
    server_limits: ServerLimitsSection | None = ServerLimitsSection()
    cache: CacheSection | None = None
    attempt_timeout: SkipValidation[float | None] = 30.0
    total_timeout: SkipValidation[float | None] = 120.0
    timeout: TimeoutSection | None = TimeoutSection()
    endpoints: dict[str, EndpointSection] = {}
    bearer: BearerSection | None = None
    api_key: APIKeySection | None = None
    basic: BasicSection | None = None
    oauth2: OAuth2Section | None = None
    headers: dict[str, str] = {}
    idempotency_key: IdempotencySection | None = None
    raise_for_status: SkipValidation[bool] = False
    follow_redirects: SkipValidation[bool] = False
    http2: SkipValidation[bool] = False
    verify: SkipValidation[bool | str] = True
    limits: LimitsSection = LimitsSection()
    backend: SkipValidation[str] = "httpx"
    name: SkipValidation[str | None] = None

    def __init__(self, *, _sources: Sequence[Source] = (), **values: Any) -> None:
        sources = _sources or [Source("the arguments", values)]
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [problem_of(each, sources) for each in error.errors(include_url=False)]
        else:
            return
        raise ConfigurationError(*problems)  # out of reach of pydantic's error, which may show values

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, given: Any) -> Any:
        refuse_unknown_keys(cls, given)
        return given

    @field_validator("timeout", mode="before")
    @classmethod
    def _same_for_all(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, (Mapping, TimeoutSection)):
            seconds = as_value_error(_arguments.seconds, "timeout", value)
            return dict.fromkeys(TimeoutSection.model_fields, seconds)
        return cast("object", value)

    @field_validator("idempotency_key", mode="before")
    @classmethod
    def _short_for_a_table(cls, value: Any) -> Any:
        if value is True:
            return {}
        if isinstance(value, str):
            return {"header": value}
        if value is None or isinstance(value, (Mapping, IdempotencySection)):
            return cast("object", value)
        raise ValueError(f"idempotency_key must be true, the name of a header or a table, got {value!r}")

    @field_validator(*_MAY_BE_OFF, mode="before")
    @classmethod
    def _turn_off(cls, value: Any) -> Any:
        # Defined last of those that run before: pydantic begins with the last.
        return none_if_false(value)

    @field_validator("attempt_timeout", "total_timeout")
    @classmethod
    def _check_seconds(cls, value: Any, info: ValidationInfo) -> Any:
        return as_value_error(_arguments.optional, _arguments.seconds, str(info.field_name), value)

    @field_validator(*_FLAGS)
    @classmethod
    def _check_flag(cls, value: Any, info: ValidationInfo) -> Any:
        return as_value_error(_arguments.flag, str(info.field_name), value)

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, value: Any) -> Any:
        return as_value_error(check_backend, value, {})

    @field_validator("verify")
    @classmethod
    def _check_certificates(cls, value: Any) -> Any:
        tls_settings(value)
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: Any) -> Any:
        return as_value_error(_arguments.optional, _arguments.text, "name", value)

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, value: Any) -> Any:
        if value != "":
            as_value_error(parse_origin, "base_url", value)
            if httpx.URL(value).userinfo:
                raise ValueError(
                    "base_url must have no user name or password, which would be shown: see basic"
                )
        return value

    @field_validator("endpoints")
    @classmethod
    def _check_patterns(cls, value: dict[str, EndpointSection]) -> dict[str, EndpointSection]:
        Endpoints({pattern: each.make() for pattern, each in value.items()})
        return value

    @model_validator(mode="after")
    def _check_http2(self) -> Self:
        check_backend(self.backend, {"http2": self.http2})
        return self

    @model_validator(mode="after")
    def _check_auth(self) -> Self:
        given = [name for name in _AUTH if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{given[0]} and {given[1]} are both given; allowed is one of {', '.join(_AUTH)}"
            )
        return self

    @classmethod
    def load(
        cls, file: str | os.PathLike[str] | None = None, *, prefix: str | None = None, **values: Any
    ) -> ClientConfig:
        """Read a configuration.

        Args:
            file: A file whose name ends in ``.toml``, ``.yaml`` or ``.yml``.
            prefix: What the names of environment variables begin with: with ``"MYAPI_"``,
                ``MYAPI_RETRY__ATTEMPTS=4`` is ``retry.attempts``. Values are read as JSON where they are
                JSON; ``true``, ``yes``, ``on``, ``false``, ``no``, ``off`` and ``none`` may be in any case,
                and for flags there are ``1`` and ``0``. A variable that turns a table off counts more than
                those of its keys: ``MYAPI_RETRY=off`` than ``MYAPI_RETRY__ATTEMPTS=4``. Default: no
                variable is read.
            **values: The arguments of the class.

        Raises:
            ConfigurationError: If the file cannot be read, a key is not known or a value is not allowed.
        """
        sources = [Source("the arguments", values)]
        if prefix is not None:
            sources.append(from_environment(_arguments.text("prefix", prefix)))
        if file is not None:
            sources.append(from_file(Path(file)))
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            merged = merged_values(merged, source.values)
        return cls(_sources=sources, **merged)

    def client(self, **overrides: Any) -> ResilientClient:
        """Make a client, with policies of its own.

        Args:
            **overrides: Arguments of `ResilientClient`; each replaces the whole of what is configured.
        """
        return ResilientClient(**{**self.arguments(), **overrides})

    def arguments(self) -> dict[str, Any]:
        """Return what to call `ResilientClient`, or its twin for httpx2, with; new policies each time."""
        given = self.model_fields_set
        arguments: dict[str, Any] = {
            name: value.make() if isinstance(value := getattr(self, name), Section) else value
            for name in (*_TABLES, *_AS_THEY_ARE)
            if name in given
        }
        if "verify" in given:
            arguments["verify"] = tls_settings(self.verify)
        if self.endpoints:
            arguments["endpoints"] = {pattern: each.make() for pattern, each in self.endpoints.items()}
        auth = next((getattr(self, name) for name in _AUTH if getattr(self, name) is not None), None)
        if auth is not None:
            arguments["auth"] = auth.make()
        return arguments

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment be read by `load` alone: without a prefix, any variable could be meant."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)
