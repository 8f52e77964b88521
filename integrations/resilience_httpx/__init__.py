"""A ready-made HTTP client on httpx: `ResilientClient`, its credentials and its errors."""

import importlib.util
import typing

from resilience_httpx._addresses import AddressRefusedError, public_addresses_only
from resilience_httpx._auth import APIKeyAuth, BasicAuth, BearerAuth
from resilience_httpx._auth_provider import AuthProvider
from resilience_httpx._batch import Batch, BatchResult, BatchResults
from resilience_httpx._client import ResilientClient
from resilience_httpx._config_sources import ConfigurationError
from resilience_httpx._errors import (
    AuthenticationError,
    ConflictError,
    HTTPClientError,
    NetworkError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StatusError,
    ValidationError,
)
from resilience_httpx._existing import resilient
from resilience_httpx._idempotency import IdempotencyKey
from resilience_httpx._middleware import (
    CallNext,
    Middleware,
    add_request_id,
    log_requests,
    measure_requests,
)
from resilience_httpx._next_page import PaginationError
from resilience_httpx._oauth2 import OAuth2ClientCredentials
from resilience_httpx._pagination import Pagination
from resilience_httpx._problem_details import Problem
from resilience_httpx._redaction import hide_parameter
from resilience_httpx._response_cache import ResponseCache
from resilience_httpx._server_limits import ServerLimits
from resilience_httpx._token_endpoint import TokenRequestError
from resilience_httpx._transport import ResilientTransport
from resilience_httpx._webhook_delivery import WebhookDelivery, WebhookDisabledError, send_webhook
from resilience_httpx._webhook_message import WebhookMessage, WebhookVerificationError
from resilience_httpx._webhooks import GitHubWebhook, StandardWebhook, StripeWebhook

__all__ = [
    "APIKeyAuth",
    "AddressRefusedError",
    "AuthProvider",
    "AuthenticationError",
    "BasicAuth",
    "Batch",
    "BatchResult",
    "BatchResults",
    "BearerAuth",
    "CallNext",
    "ConfigurationError",
    "ConflictError",
    "GitHubWebhook",
    "HTTPClientError",
    "IdempotencyKey",
    "Middleware",
    "NetworkError",
    "NotFoundError",
    "OAuth2ClientCredentials",
    "Pagination",
    "PaginationError",
    "PermissionDeniedError",
    "Problem",
    "RateLimitError",
    "RequestTimeoutError",
    "ResilientClient",
    "ResilientTransport",
    "ResponseCache",
    "ServerError",
    "ServerLimits",
    "StandardWebhook",
    "StatusError",
    "StripeWebhook",
    "TokenRequestError",
    "ValidationError",
    "WebhookDelivery",
    "WebhookDisabledError",
    "WebhookMessage",
    "WebhookVerificationError",
    "add_request_id",
    "hide_parameter",
    "log_requests",
    "measure_requests",
    "public_addresses_only",
    "resilient",
    "send_webhook",
]

# `ClientConfig` needs the extra ``settings``, and pydantic takes its time to import: it comes on demand.
if typing.TYPE_CHECKING:
    from resilience_httpx._config import ClientConfig as ClientConfig

    __all__ += ["ClientConfig"]
else:
    if importlib.util.find_spec("pydantic_settings") is not None:
        __all__ = sorted([*__all__, "ClientConfig"])

    def __getattr__(name):
        if name != "ClientConfig":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from resilience_httpx._config import ClientConfig

        return ClientConfig
