"""Redirects to another origin: what must not go there, and what is not followed at all."""

from typing import Any

import httpx
import pytest

from resilience import circuit_breaker, retry
from resilience_httpx import APIKeyAuth, BearerAuth, ResilientClient, add_request_id

HOME = "https://api.example.com"


class Web:
    """Redirects as it is told, and keeps the requests."""

    def __init__(self, **redirects: str) -> None:
        self.redirects = {f"/{path}": location for path, location in redirects.items()}
        self.requests: list[Any] = []
        self.status = 307

    def __call__(self, request: Any) -> Any:
        self.requests.append(request)
        location = self.redirects.get(request.url.path)
        return (
            httpx.Response(200)
            if location is None
            else httpx.Response(self.status, headers={"Location": location})
        )

    @property
    def urls(self) -> list[str]:
        return [str(each.url) for each in self.requests]

    def sent(self, name: str) -> list[str | None]:
        return [each.headers.get(name) for each in self.requests]


def client(web: Web, **options: Any) -> Any:
    defaults = {"follow_redirects": True, "retry": None}
    return ResilientClient(HOME, transport=httpx.MockTransport(web), **{**defaults, **options})


# --- What stays behind --------------------------------------------------------------------------------


async def test_h6_1_what_the_client_adds_does_not_go_to_another_origin() -> None:
    web = Web(near="/far", far="https://other.example/end", end="https://third.example/last")
    options = {
        "auth": APIKeyAuth("k", header="X-Mine"),
        "attempt_header": "X-Attempt",
        "middleware": [add_request_id()],
        "attempt_middleware": [add_request_id("X-Attempt-ID")],
    }
    async with client(web, **options) as calls:
        await calls.get("/near")
    assert web.sent("X-Mine") == ["k", "k", None, None]
    for name in ("X-Attempt", "X-Request-ID", "X-Attempt-ID"):
        assert [value is None for value in web.sent(name)] == [False, False, True, True]


@pytest.mark.parametrize(
    "name",
    ["X-API-Key", "Private-Token", "Proxy-Authorization", "Authorization", "X-JWT-Assertion", "X-Session"],
)
async def test_h6_1_headers_that_sound_like_a_secret_do_not_go_to_another_origin(name: str) -> None:
    web = Web(near="/far", far="https://other.example/end")
    async with client(web, headers={name: "s3cret", "X-Plain": "plain"}) as calls:
        await calls.get("/near")
    assert web.sent(name) == ["s3cret", "s3cret", None]
    assert web.sent("X-Plain") == ["plain"] * 3


async def test_h6_1_the_callers_secrets_follow_to_https_on_the_same_host_as_in_httpx() -> None:
    secrets = {"Authorization": "Bearer callers", "X-API-Key": "callers"}
    web = Web(start=f"{HOME}/end")
    async with client(web, headers=secrets) as calls:
        await calls.get("http://api.example.com/start")
    assert web.sent("Authorization") == ["Bearer callers"] * 2
    assert web.sent("X-API-Key") == ["callers"] * 2
    web = Web(start=f"{HOME}:8443/end")
    async with client(web, headers=secrets) as calls:
        await calls.get("http://api.example.com/start")
    assert web.sent("Authorization") == ["Bearer callers", None]
    assert web.sent("X-API-Key") == ["callers", None]


async def test_h4_6_the_idempotency_key_stays_with_the_operation() -> None:
    """Without it, a call that is sent again would be done twice at the other origin."""
    web = Web(start="https://other.example/end")
    async with client(web, idempotency_key=True, auth=BearerAuth("t")) as calls:
        await calls.post("/start", json={})
    here, there = web.sent("Idempotency-Key")
    assert here == there
    assert here is not None
    assert web.sent("Authorization") == ["Bearer t", None]


async def test_h6_1_cookies_of_no_domain_do_not_go_to_another_origin() -> None:
    web = Web(
        near="/far", far="https://other.example/end", end="https://other.example/last", last=f"{HOME}/back"
    )
    async with client(web, cookies={"session": "s3cret"}) as calls:
        calls.cookies.set("theirs", "1", domain="other.example")
        await calls.get("/near")
        assert web.sent("Cookie") == ["session=s3cret"] * 2 + ["theirs=1"] * 2 + ["session=s3cret"]
        assert dict(calls.cookies) == {"session": "s3cret", "theirs": "1"}


async def test_h6_1_what_is_left_to_the_caller_is_stripped_as_well() -> None:
    web = Web(start="https://other.example/end")
    async with client(
        web, follow_redirects=False, headers={"X-API-Key": "s3cret"}, cookies={"a": "b"}
    ) as calls:
        response = await calls.get("/start")
    assert response.next_request is not None
    assert {"x-api-key", "cookie"}.isdisjoint(response.next_request.headers)


# --- What is not followed -----------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["http://api.example.com/end", "http://other.example/end"])
@pytest.mark.parametrize("given", [False, True])
async def test_h6_1_https_never_leads_to_http(location: str, given: bool) -> None:
    web = Web(near="/far", far=location)
    options = {"retry": retry(attempts=3, wait=0), "circuit_breaker": circuit_breaker(failure_threshold=1)}
    async with client(web, **options, follow_redirects=not given) as calls:
        for _ in range(2):
            with pytest.raises(httpx.UnsupportedProtocol, match="from https to http") as caught:
                await calls.post(
                    "/near?token=s3cret", json={}, **({"follow_redirects": True} if given else {})
                )
            assert "s3cret" not in str(caught.value)
            assert caught.value.request.url.path == "/far"
    assert web.urls == [f"{HOME}/near?token=s3cret", f"{HOME}/far"] * 2


async def test_h6_1_a_redirect_to_http_that_is_not_followed_is_a_response() -> None:
    web = Web(start="http://api.example.com/end")
    async with client(web, headers={"X-API-Key": "s3cret"}) as calls:
        response = await calls.get("/start", follow_redirects=False)
    assert response.status_code == 307
    assert "x-api-key" not in response.next_request.headers
    assert web.urls == [f"{HOME}/start"]


async def test_from_http_a_redirect_to_http_is_followed() -> None:
    web = Web(start="http://other.example/end")
    async with client(web) as calls:
        assert (await calls.get("http://api.example.com/start")).status_code == 200
