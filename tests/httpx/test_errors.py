"""Typed errors: also httpx's own, complete, picklable, and without secrets."""

import pickle
from types import GenericAlias

import httpx
import pytest

import resilience_httpx
from resilience import CallTimeoutError, CircuitBreakerOpenError, RateLimitExceededError, ResilienceError
from resilience_httpx import (
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
from resilience_httpx._errors import client_error, status_error

REQUEST = httpx.Request(
    "POST",
    "https://ada:pass-word@h:8443/users?api_key=sec-ret#frag",
    headers={"Authorization": "Bearer to-ken"},
)
SECRETS = ("pass-word", "sec-ret", "to-ken", "ada", "frag", "cook-ie", "bo-dy")


def respond(status: int, **headers: str) -> httpx.Response:
    headers["Set-Cookie"] = "cook-ie"
    return httpx.Response(status, headers=headers, text="bo-dy", request=REQUEST)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, ValidationError, "validation_error"),
        (401, AuthenticationError, "authentication_error"),
        (403, PermissionDeniedError, "permission_denied"),
        (404, NotFoundError, "not_found"),
        (409, ConflictError, "conflict"),
        (418, StatusError, "http_status_error"),
        (422, ValidationError, "validation_error"),
        (429, RateLimitError, "rate_limit"),
        (500, ServerError, "server_error"),
        (503, ServerError, "server_error"),
        (599, ServerError, "server_error"),
    ],
)
def test_a_status_becomes_its_error(status: int, kind: type[StatusError], code: str) -> None:
    response = respond(status)
    error = status_error(response)
    assert type(error) is kind
    assert isinstance(error, httpx.HTTPStatusError)
    assert isinstance(error, HTTPClientError)
    assert isinstance(error, ResilienceError)
    assert (error.status_code, error.response, error.code) == (status, response, code)
    assert error.request is REQUEST
    assert error.details == {
        "status_code": status,
        "method": "POST",
        "url": "https://h:8443/users",
        "retry_after": None,
    }


def test_the_text_of_a_status() -> None:
    assert str(status_error(respond(404))) == "404 Not Found on POST https://h:8443/users"
    assert str(status_error(respond(599))) == "599 Error on POST https://h:8443/users"


@pytest.mark.parametrize(
    ("status", "seconds"), [(413, 7.0), (429, 7.0), (503, 7.0), (500, None), (404, None)]
)
def test_h4_3_retry_after_is_honoured_for_413_429_and_503(status: int, seconds: float | None) -> None:
    assert status_error(respond(status, **{"Retry-After": "7"})).retry_after == seconds


@pytest.mark.parametrize(
    ("original", "typed"),
    [
        (httpx.ConnectError, NetworkError),
        (httpx.ReadError, NetworkError),
        (httpx.WriteError, NetworkError),
        (httpx.CloseError, NetworkError),
        (httpx.NetworkError, NetworkError),
        (httpx.RemoteProtocolError, NetworkError),
        (httpx.ProxyError, NetworkError),
        (httpx.ConnectTimeout, RequestTimeoutError),
        (httpx.ReadTimeout, RequestTimeoutError),
        (httpx.WriteTimeout, RequestTimeoutError),
        (httpx.PoolTimeout, RequestTimeoutError),
        (httpx.TimeoutException, RequestTimeoutError),
    ],
)
def test_an_error_of_the_network_stays_what_it_was(
    original: type[httpx.TransportError], typed: type[HTTPClientError]
) -> None:
    before = original("to-ken", request=REQUEST)
    before.add_note("a note")
    error = client_error(before, REQUEST, typed=True)
    assert isinstance(error, typed)
    assert isinstance(error, original)
    assert isinstance(error, httpx.NetworkError if typed is NetworkError else httpx.TimeoutException)
    assert type(error).__name__ == typed.__name__
    assert (error.status_code, error.response) == (None, None)
    assert error.request is REQUEST
    assert error.__notes__ == ["a note"]
    assert client_error(before, REQUEST, typed=False) is before


@pytest.mark.parametrize(
    "error",
    [
        httpx.UnsupportedProtocol("x"),
        httpx.LocalProtocolError("x"),
        httpx.DecodingError("x"),
        httpx.TooManyRedirects("x"),
        httpx.InvalidURL("x"),
        httpx.StreamConsumed(),
        ValueError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_local_faults_stay_as_they_are(error: Exception) -> None:
    assert client_error(error, REQUEST, typed=True) is error


def test_h1_4_what_httpx_lets_through_is_typed_too() -> None:
    import ssl

    import anyio

    for error in (ssl.SSLError("x"), anyio.EndOfStream(), ConnectionResetError("x")):
        assert type(client_error(error, REQUEST, typed=True)) is NetworkError
        assert client_error(error, REQUEST, typed=False) is error
    assert isinstance(client_error(FileNotFoundError("x"), REQUEST, typed=True), FileNotFoundError)


@pytest.mark.parametrize("typed", [True, False])
def test_rejections_of_the_core_are_transport_errors_too(typed: bool) -> None:
    for original in (
        CircuitBreakerOpenError(retry_after=3.0, policy="p"),
        RateLimitExceededError(retry_after=3.0, policy="p"),
    ):
        error = client_error(original, REQUEST, typed=typed)
        assert isinstance(error, type(original))
        assert isinstance(error, httpx.TransportError)
        assert (error.retry_after, error.policy) == (3.0, "p")
        assert str(error) == f"{original} (POST https://h:8443/users)"
        assert error.details["url"] == "https://h:8443/users"
        assert error.request is REQUEST
        assert client_error(error, REQUEST, typed=typed) is error


@pytest.mark.parametrize("typed", [True, False])
def test_a_time_limit_of_the_core_is_a_timeout_of_httpx_too(typed: bool) -> None:
    original = CallTimeoutError("cut off", details={"timeout": 1.0})
    error = client_error(original, REQUEST, typed=typed)
    assert isinstance(error, CallTimeoutError)
    assert isinstance(error, RequestTimeoutError)
    assert isinstance(error, httpx.TimeoutException)
    assert isinstance(error, TimeoutError)
    assert (str(error), error.code) == ("cut off (POST https://h:8443/users)", "call_timeout")
    assert error.details["timeout"] == 1.0
    assert (error.status_code, error.response) == (None, None)


ALL = [
    status_error(respond(429, **{"Retry-After": "7"})),
    client_error(httpx.ConnectError("to-ken"), REQUEST, typed=True),
    client_error(httpx.ReadTimeout("to-ken"), REQUEST, typed=True),
    client_error(CircuitBreakerOpenError(retry_after=3.0), REQUEST, typed=True),
    client_error(CallTimeoutError("cut off"), REQUEST, typed=True),
    HTTPClientError("plain"),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_errors_can_be_pickled(error: ResilienceError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.code, copy.details) == (str(error), error.code, error.details)
    if isinstance(error, httpx.HTTPStatusError):
        assert copy.response.status_code == 429
        assert copy.retry_after == 7.0


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_h6_2_errors_show_no_secrets(error: ResilienceError) -> None:
    for text in (str(error), repr(error), repr(error.details), error.message):
        assert not any(secret in text for secret in SECRETS), text


def test_all_public_errors_say_what_they_are_for() -> None:
    for name in resilience_httpx.__all__:
        value = getattr(resilience_httpx, name)
        assert value.__doc__ or isinstance(value, GenericAlias)
