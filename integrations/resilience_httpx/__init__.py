"""A ready-made HTTP client on httpx: `ResilientClient`, its credentials and its errors."""

try:
    import httpx as httpx
except ModuleNotFoundError as missing:
    if missing.name != "httpx":
        raise
    raise ImportError('resilience_httpx needs httpx: pip install "async-resilience[httpx]"') from missing

from resilience_httpx._auth import APIKeyAuth, BasicAuth, BearerAuth
from resilience_httpx._client import ResilientClient
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

__all__ = [
    "APIKeyAuth",
    "AuthenticationError",
    "BasicAuth",
    "BearerAuth",
    "ConflictError",
    "HTTPClientError",
    "NetworkError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ResilientClient",
    "ServerError",
    "StatusError",
    "ValidationError",
]
