"""The tables of a configuration: each has the arguments of one policy, by their own names.

Nothing is checked twice: what a value may be is up to the policy, which is made to see if it can be.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeAlias, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    SerializerFunctionWrapHandler,
    SkipValidation,
    field_validator,
    model_serializer,
    model_validator,
)

from resilience import Policy, _arguments, bulkhead, circuit_breaker, rate_limited, retry, timeout
from resilience_httpx._auth import APIKeyAuth, BasicAuth, BearerAuth
from resilience_httpx._config_sources import UnknownKeyError
from resilience_httpx._idempotency import IdempotencyKey
from resilience_httpx._oauth2 import OAuth2ClientCredentials
from resilience_httpx._response_cache import ResponseCache
from resilience_httpx._server_limits import ServerLimits

T = TypeVar("T")


def none_if_false(value: Any) -> Any:
    """Return a value, with ``False`` as ``None``: TOML has no other word for it."""
    return None if value is False else value


TimeLimit: TypeAlias = Annotated[SkipValidation[float | None], BeforeValidator(none_if_false)]
"""Seconds, to be checked by the policy; ``None`` or ``False`` for no limit."""


class Section(BaseModel):
    """A table of a configuration."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    makes: ClassVar[Callable[..., Any]]
    """What its keys are the arguments of."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_values(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise ValueError(f"must be a table with some of the keys {names(cls)}")  # noqa: TRY004
        refuse_unknown_keys(cls, cast("Mapping[str, Any]", given))
        return cast("Mapping[str, Any]", given)

    @model_validator(mode="after")
    def _make_once(self) -> Self:
        self.make()
        return self

    def given(self) -> dict[str, Any]:
        """Return the arguments that were given; secrets in plain text."""
        return {
            name: revealed(getattr(self, name))
            for name in type(self).model_fields
            if name in self.model_fields_set
        }

    @model_serializer(mode="wrap")
    def _dump_what_was_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Of some policies, no value for an argument is the same as none at all.
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, value) for name, value in super().__repr_args__() if name in self.model_fields_set]

    def make(self) -> Any:
        """Make the policy, a new one each time."""
        return as_value_error(type(self).makes, **self.given())


class RetrySection(Section):
    """The arguments of `retry`."""

    makes = retry

    attempts: SkipValidation[int | None] = 3
    wait: SkipValidation[float | Sequence[float] | None] = None
    deadline: TimeLimit = None
    wrap: SkipValidation[bool] = False
    name: SkipValidation[str | None] = None


class RateLimitSection(Section):
    """The arguments of `rate_limited`."""

    makes = rate_limited

    rate: SkipValidation[float]
    per: SkipValidation[float] = 1.0
    burst: SkipValidation[float | None] = None
    max_wait: TimeLimit = None
    cost: SkipValidation[float] = 1
    name: SkipValidation[str | None] = None


class CircuitBreakerSection(Section):
    """The arguments of `circuit_breaker`."""

    makes = circuit_breaker

    failure_threshold: SkipValidation[int | None] = None
    recovery_timeout: SkipValidation[float] = 30.0
    failure_rate: SkipValidation[float | None] = None
    window: SkipValidation[int] = 100
    minimum_calls: SkipValidation[int | None] = None
    slow_call: TimeLimit = None
    slow_call_rate: SkipValidation[float] = 1.0
    abandoned_rate: SkipValidation[float | None] = None
    half_open_calls: SkipValidation[int] = 1
    name: SkipValidation[str | None] = None


class BulkheadSection(Section):
    """The arguments of `bulkhead`."""

    makes = bulkhead

    max_concurrent: SkipValidation[int]
    max_queue: SkipValidation[int | None] = 0
    max_wait: TimeLimit = None
    name: SkipValidation[str | None] = None


class CacheSection(Section):
    """The arguments of `ResponseCache`."""

    makes = ResponseCache

    credentials: SkipValidation[bool] = False
    stale_if_error: SkipValidation[float] = 0
    max_size: SkipValidation[int] = 16 * 1024 * 1024
    max_entry_size: SkipValidation[int] = 1024 * 1024
    name: SkipValidation[str] = "response_cache"


class ServerLimitsSection(Section):
    """The arguments of `ServerLimits`."""

    makes = ServerLimits

    max_wait: TimeLimit = 30.0
    pause_after_429: TimeLimit = None
    reset_unit: SkipValidation[str | None] = None
    name: SkipValidation[str] = "server_limits"


class IdempotencySection(Section):
    """The arguments of `IdempotencyKey`."""

    makes = IdempotencyKey

    header: SkipValidation[str] = "Idempotency-Key"
    quoted: SkipValidation[bool] = False
    methods: SkipValidation[Sequence[str]] = ("POST", "PATCH")


class BearerSection(Section):
    """The arguments of `BearerAuth`."""

    makes = BearerAuth

    token: SecretStr
    origins: SkipValidation[str | Sequence[str] | None] = None


class APIKeySection(Section):
    """The arguments of `APIKeyAuth`."""

    makes = APIKeyAuth

    key: SecretStr
    header: SkipValidation[str] = "X-API-Key"
    query: SkipValidation[str | None] = None
    origins: SkipValidation[str | Sequence[str] | None] = None


class BasicSection(Section):
    """The arguments of `BasicAuth`."""

    makes = BasicAuth

    username: SkipValidation[str]
    password: SecretStr
    origins: SkipValidation[str | Sequence[str] | None] = None


class OAuth2Section(Section):
    """The arguments of `OAuth2ClientCredentials`."""

    makes = OAuth2ClientCredentials

    token_url: SkipValidation[str]
    client_id: SkipValidation[str]
    client_secret: SecretStr
    scope: SkipValidation[str | None] = None
    audience: SkipValidation[str | None] = None
    auth_method: SkipValidation[str] = "client_secret_basic"


class EndpointSection(Section):
    """The policies of an endpoint; one that is given as ``None`` turns the client's off there."""

    retry: RetrySection | None = None
    rate_limit: RateLimitSection | None = None
    circuit_breaker: CircuitBreakerSection | None = None
    bulkhead: BulkheadSection | None = None
    timeout: SkipValidation[float | None] = None

    @field_validator("*", mode="before")
    @classmethod
    def _turn_off(cls, value: Any) -> Any:
        return none_if_false(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EndpointSection):
            return NotImplemented
        return super().__eq__(other) and self.model_fields_set == other.model_fields_set

    def make(self) -> list[Policy]:
        """Make the policies, new ones each time."""
        return [self._policy(name) for name in type(self).model_fields if name in self.model_fields_set]

    def _policy(self, name: str) -> Policy:
        given = getattr(self, name)
        if given is None:
            policy = _STAND_INS[name]()
            policy.enabled = False
            return policy
        if isinstance(given, Section):
            return cast("Policy", given.make())
        return timeout(as_value_error(_arguments.seconds, name, given))


# Switched off, each takes the place of the client's policy of its kind.
_STAND_INS: dict[str, Callable[[], Policy]] = {
    "retry": lambda: retry(attempts=1),
    "rate_limit": lambda: rate_limited(1),
    "circuit_breaker": lambda: circuit_breaker(failure_threshold=1),
    "bulkhead": lambda: bulkhead(1),
    "timeout": lambda: timeout(1),
}


def as_value_error(check: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function whose ``TypeError`` is about a value, too: pydantic collects ``ValueError`` alone."""
    try:
        return check(*args, **kwargs)
    except TypeError as error:
        raise ValueError(str(error)) from None


def revealed(value: Any) -> Any:
    """Return a value, a secret in plain text."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def names(model: type[BaseModel]) -> str:
    """Return the keys of a table, for people."""
    return ", ".join(model.model_fields)


def refuse_unknown_keys(model: type[BaseModel], given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for the first key that a table does not have."""
    for key in given:
        if key not in model.model_fields:
            near = difflib.get_close_matches(str(key), model.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {names(model)}"
            raise UnknownKeyError(str(key), hint)
