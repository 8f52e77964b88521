"""Exact types of the client under mypy and pyright; never run. A line with an ignore must be rejected."""

from datetime import timedelta
from typing import assert_type

import httpx

from resilience import (
    CallTimeoutError,
    CircuitBreaker,
    CircuitBreakerOpenError,
    RateLimit,
    ResilienceError,
    Retry,
    cached,
    circuit_breaker,
    rate_limited,
    retry,
    stack,
    timeout,
)
from resilience_httpx import (
    APIKeyAuth,
    AuthProvider,
    BasicAuth,
    BearerAuth,
    HTTPClientError,
    NetworkError,
    OAuth2ClientCredentials,
    RateLimitError,
    RequestTimeoutError,
    ResilientClient,
    StatusError,
    TokenRequestError,
)

# --- Making one -------------------------------------------------------------------------------------

assert_type(ResilientClient(), ResilientClient)
ResilientClient("https://h", retry=None, rate_limit=None, circuit_breaker=None)
ResilientClient(
    httpx.URL("https://h"),
    retry=retry(attempts=4),
    rate_limit=rate_limited(10, burst=20),
    circuit_breaker=circuit_breaker(failure_threshold=5),
    attempt_timeout=5,
    total_timeout=timedelta(minutes=1),
    endpoints={"GET /search*": [rate_limited(30, per=60)], "POST *": (timeout(60), stack(retry()))},
    auth=BearerAuth("t"),
    raise_for_status=True,
)
ResilientClient(attempt_timeout=None, total_timeout=None, endpoints=None, auth=None)
ResilientClient(auth=APIKeyAuth("k", header="Private-Token"))
ResilientClient(auth=APIKeyAuth("k", query="api_key", origins=["https://h", "https://i"]))
ResilientClient(auth=BasicAuth("u", "p", origins="https://h"))
ResilientClient(auth=httpx.DigestAuth("u", "p"))
ResilientClient(auth=BearerAuth(lambda: "t"))
ResilientClient(auth=OAuth2ClientCredentials("https://auth/token", "me", "secret"))
OAuth2ClientCredentials(
    "https://auth/token",
    "me",
    "secret",
    scope="read write",
    audience="https://api",
    auth_method="client_secret_post",
    origins=["https://api"],
)


async def fetch_token() -> str:
    return "t"


class Session(AuthProvider):
    async def authenticate(self, request: httpx.Request) -> str | None:
        request.headers["X-Session"] = await fetch_token()
        return None

    async def refresh(self, request: httpx.Request, rejected: str | None) -> None:
        print(request, rejected)


ResilientClient(auth=BearerAuth(fetch_token, origins="https://api"))
ResilientClient(auth=Session(origins="https://api"))
assert_type(Session().is_authenticated, bool)
ResilientClient(auth=("u", "p"))

ResilientClient(
    params={"p": 1},
    headers={"A": "b"},
    cookies={"c": "d"},
    verify=False,
    http2=True,
    proxy="http://proxy",
    mounts={"http://": None},
    timeout=httpx.Timeout(5, pool=1),
    follow_redirects=True,
    limits=httpx.Limits(max_connections=1),
    max_redirects=1,
    transport=httpx.AsyncHTTPTransport(),
    trust_env=False,
    default_encoding="utf-8",
)


async def look(message: httpx.Request | httpx.Response) -> None:
    print(message)


ResilientClient(event_hooks={"request": [look], "response": [look]})

ResilientClient("https://h", retry())  # type: ignore[call-arg]
ResilientClient(base_url=None)  # type: ignore[arg-type]
ResilientClient(retry=3)  # type: ignore[arg-type]
ResilientClient(retry=retry)  # type: ignore[arg-type]
ResilientClient(rate_limit=retry())  # type: ignore[arg-type]
ResilientClient(circuit_breaker=True)  # type: ignore[arg-type]
ResilientClient(attempt_timeout="5")  # type: ignore[arg-type]
ResilientClient(total_timeout=httpx.Timeout(5))  # type: ignore[arg-type]
ResilientClient(endpoints=[cached()])  # type: ignore[arg-type]
ResilientClient(endpoints={"GET /": rate_limited(1)})  # type: ignore[dict-item]
ResilientClient(auth="token")  # type: ignore[arg-type]
ResilientClient(raise_for_status=None)  # type: ignore[arg-type]
ResilientClient(follow_redirects="yes")  # type: ignore[arg-type]
ResilientClient(transport=httpx.HTTPTransport())  # type: ignore[arg-type]
ResilientClient(retries=3)  # type: ignore[call-arg]
BearerAuth(b"t")  # type: ignore[arg-type]
BearerAuth(lambda: 3)  # type: ignore[arg-type, return-value]
OAuth2ClientCredentials("https://auth/token", "me")  # type: ignore[call-arg]
OAuth2ClientCredentials("https://auth/token", "me", "secret", "read")  # type: ignore[call-arg]
OAuth2ClientCredentials("https://auth/token", "me", "secret", auth_method="jwt")  # type: ignore[arg-type]
Session("https://api")  # type: ignore[call-arg]
BearerAuth("t", "https://h")  # type: ignore[call-arg]
APIKeyAuth("k", "X-API-Key")  # type: ignore[call-arg]
APIKeyAuth("k", header=None)  # type: ignore[arg-type]
BasicAuth("u")  # type: ignore[call-arg]

# --- Using one, as every httpx client ---------------------------------------------------------------


def sdk(http_client: httpx.AsyncClient) -> None:
    print(http_client)


class Api(ResilientClient):
    async def user(self, login: str) -> httpx.Response:
        return await self.get(f"/users/{login}")


async def use(client: ResilientClient, api: Api) -> None:
    sdk(client)
    assert_type(await api.user("ada"), httpx.Response)
    assert_type(await client.get("/", params={"a": 1}, follow_redirects=True), httpx.Response)
    assert_type(await client.get("/", extensions={"retry": None, "total_timeout": 5}), httpx.Response)
    assert_type(await client.post("/", json=[1], auth=("u", "p")), httpx.Response)
    request = client.build_request("GET", "/")
    assert_type(request, httpx.Request)
    assert_type(await client.send(request), httpx.Response)
    assert_type(await client.send(request, stream=True, auth=BearerAuth("t")), httpx.Response)
    assert_type(await client.send(request, auth=None, follow_redirects=True), httpx.Response)
    async with client.stream("GET", "/") as response:
        assert_type(response, httpx.Response)
    async with client as same, Api("https://h") as other:
        assert_type(same, ResilientClient)
        assert_type(other, Api)
    assert_type(client.retry, Retry | None)
    assert_type(client.rate_limit, RateLimit | None)
    assert_type(client.circuit_breaker, CircuitBreaker | None)

    await client.get()  # type: ignore[call-arg]
    await client.send("https://h")  # type: ignore[arg-type]
    await client.send(request, True)  # type: ignore[call-arg]
    await client.send(request, stream="yes")  # type: ignore[arg-type]
    await client.send(request, auth="token")  # type: ignore[arg-type]
    await client.send(request, follow_redirects=None)  # type: ignore[arg-type]
    client.retry = None  # type: ignore[misc]


# --- Its errors -------------------------------------------------------------------------------------


async def fail(client: ResilientClient) -> None:
    try:
        await client.get("/")
    except TokenRequestError as error:
        as_httpx: httpx.RequestError = error
        assert_type(error.error, str | None)
        assert_type(error.status_code, int | None)
        assert_type(error.retry_after, float | None)
        assert_type(error.is_passing, bool)
        print(as_httpx)
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.status_code, int)
        assert_type(error.response, httpx.Response)
        assert_type(error.request, httpx.Request)
        assert_type(error.code, str)
    except HTTPClientError as error:
        assert_type(error.status_code, int | None)
        assert_type(error.message, str)


def catch(
    status: StatusError,
    network: NetworkError,
    late: RequestTimeoutError,
    cut_off: CallTimeoutError,
    rejected: CircuitBreakerOpenError,
) -> None:
    as_httpx: tuple[httpx.HTTPStatusError, httpx.NetworkError, httpx.TimeoutException] = (
        status,
        network,
        late,
    )
    ours: list[ResilienceError] = [status, network, late, cut_off, rejected]
    builtin: TimeoutError = cut_off
    print(as_httpx, ours, builtin)

    StatusError("text")  # type: ignore[call-arg]
    HTTPClientError(response=404)  # type: ignore[arg-type]
