"""The request for a token: how it is sent, what its answers mean, and that nobody sees a secret."""

import asyncio
import base64
import gc
import logging
import pickle
import traceback
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from resilience import circuit_breaker, retry, set_active
from resilience_httpx import HTTPClientError, OAuth2ClientCredentials, ResilientClient, TokenRequestError
from resilience_httpx._token_endpoint import TOTAL_TIMEOUT
from tests.support.http_server import (
    garbage,
    hang_up,
    http_server,
    never,
    reply,
    reset,
    truncated,
)
from tests.support.token_world import World, token
from tests.support.virtual_time import advance, now

TOKEN_URL = "https://auth/token"
SECRET = "s3cr3t"


@pytest.fixture
def world() -> World:
    return World(httpx)


def credentials(**options: Any) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(TOKEN_URL, "me", SECRET, **options)


def client(world: World, auth: Any = None, **options: Any) -> Any:
    auth = credentials() if auth is None else auth
    return ResilientClient("https://api", auth=auth, transport=httpx.MockTransport(world), **options)


async def gathered(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


# --- 5.4 When there is no token -----------------------------------------------------------------------


async def test_h5_4_all_who_wait_see_the_failure_and_those_of_the_next_seconds_too(world: World) -> None:
    world.delay, world.answers = 1, [world.refusal(), world.refusal(401)]
    async with client(world) as calls:
        errors = await gathered(*(calls.get("/") for _ in range(5)))
        await asyncio.sleep(2.9)
        errors += await gathered(calls.get("/"))
        assert len(world.fetches) == 1
        assert [each.error for each in errors] == ["invalid_client"] * 6
        assert len({id(each) for each in errors}) == 6
        await asyncio.sleep(0.2)
        errors = await gathered(calls.get("/"))
        assert [each.status_code for each in errors] == [401]
        await asyncio.sleep(3)
        assert (await calls.get("/")).status_code == 200
    assert len(world.fetches) == 3
    assert world.sent == ["t1"]


@pytest.mark.parametrize(("asked", "pause"), [("0", 3), ("20", 20), ("86400", 60)])
async def test_h5_4_a_server_that_asks_for_a_pause_gets_it(world: World, asked: str, pause: float) -> None:
    answer = httpx.Response(429, headers={"Retry-After": asked})
    world.answers = [answer] * (1 if float(asked) else 3)
    async with client(world) as calls:
        with pytest.raises(TokenRequestError) as caught:
            await calls.get("/")
        assert caught.value.retry_after == float(asked)
        fetches = len(world.fetches)
        advance(pause - 0.01)
        with pytest.raises(TokenRequestError):
            await calls.get("/")
        assert len(world.fetches) == fetches
        advance(0.02)
        assert (await calls.get("/")).status_code == 200


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
async def test_h5_4_the_token_request_is_sent_again_after(world: World, status: int) -> None:
    world.answers = [httpx.Response(status), httpx.Response(status)]
    async with client(world) as calls:
        assert (await calls.post("/")).status_code == 200
    assert len(world.fetches) == 3
    assert len({each.content for each in world.fetches}) == 1


@pytest.mark.parametrize(
    "name", ["ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "PoolTimeout"]
)
async def test_h5_4_the_token_request_is_sent_again_after_a_fault_of_the_network(
    world: World, name: str
) -> None:
    world.answers = [getattr(httpx, name)] * 2
    async with client(world) as calls:
        assert (await calls.post("/")).status_code == 200
    assert len(world.fetches) == 3


@pytest.mark.parametrize("status", [200, 204, 301, 307, 400, 401, 403, 404, 408])
async def test_h5_4_the_token_request_is_not_sent_again_after(world: World, status: int) -> None:
    world.answers = [httpx.Response(status, json={}, headers={"Location": "https://auth/other"})]
    async with client(world) as calls:
        with pytest.raises(TokenRequestError) as caught:
            await calls.get("/")
    assert len(world.fetches) == 1
    assert caught.value.status_code == status
    assert not caught.value.is_passing
    assert world.calls == []


@pytest.mark.parametrize("name", ["UnsupportedProtocol", "LocalProtocolError", "DecodingError"])
async def test_h5_4_nor_after_a_fault_of_its_own(world: World, name: str) -> None:
    world.answers = [getattr(httpx, name)]
    async with client(world) as calls:
        with pytest.raises(TokenRequestError, match=name):
            await calls.get("/")
    assert len(world.fetches) == 1


async def test_h5_4_a_failure_of_the_network_that_lasts(world: World) -> None:
    world.answers = [httpx.ConnectError] * 3
    async with client(world) as calls:
        with pytest.raises(TokenRequestError) as caught:
            await calls.get("/")
    assert len(world.fetches) == 3  # and the client's own retry adds nothing
    assert str(caught.value) == "no access token from https://auth/token: ConnectError"
    assert caught.value.is_passing
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert str(caught.value.__cause__) == "network error on POST https://auth/token"


async def test_h5_4_faults_that_httpx_does_not_map_count_as_well(world: World) -> None:
    world.answers = [ConnectionResetError("s3cr3t")] * 3
    async with client(world) as calls:
        with pytest.raises(TokenRequestError, match="ConnectionResetError"):
            await calls.get("/")
    assert len(world.fetches) == 3


async def test_h5_4_mistakes_in_the_program_stay_what_they_are(world: World) -> None:
    world.answers = [ZeroDivisionError()]
    async with client(world) as calls:
        with pytest.raises(ZeroDivisionError):
            await calls.get("/")
        assert (await calls.get("/")).status_code == 200


async def test_h5_4_an_early_fetch_that_fails_leaves_the_token_that_is_still_good(world: World) -> None:
    world.lifetime = 100
    async with client(world) as calls:
        await calls.get("/")
        await asyncio.sleep(91)
        world.answers = [world.refusal(503)] * 3
        await gathered(calls.get("/"), calls.get("/"))
        assert len(world.fetches) == 4
        await calls.get("/")  # nobody asks again so soon
        assert len(world.fetches) == 4
        await asyncio.sleep(3.1)
        world.answers = [world.refusal()]
        await calls.get("/")
        assert len(world.fetches) == 5
        await asyncio.sleep(6)
        world.answers = [world.refusal()]
        with pytest.raises(TokenRequestError):  # now it has ended
            await calls.get("/")
    assert world.sent == ["t1"] * 5


async def test_h5_4_a_failure_does_not_open_the_circuit_of_the_api(world: World) -> None:
    world.answers = [httpx.ConnectError] * 3
    breaker = circuit_breaker(failure_threshold=1)
    async with client(world, circuit_breaker=breaker) as calls:
        for _ in range(3):
            with pytest.raises(TokenRequestError):
                await calls.get("/")
        await asyncio.sleep(3.1)
        assert (await calls.get("/")).status_code == 200


async def test_h5_4_an_endpoint_that_never_answers_is_given_up(world: World) -> None:
    world.delay = 10**6
    began = now()
    async with client(world, attempt_timeout=None, total_timeout=None) as calls:
        with pytest.raises(TokenRequestError, match="no answer in time") as caught:
            await calls.get("/")
        assert now() - began == pytest.approx(TOTAL_TIMEOUT)
        assert caught.value.is_passing
        assert not others()


async def test_h5_4_the_process_switch_leaves_the_credentials_alone(world: World) -> None:
    set_active(False)
    async with client(world) as calls:
        assert (await calls.get("/")).status_code == 200
    assert world.sent == ["t1"]


MALFORMED = [
    b"",
    b"<html>",
    b"[]",
    b'"token"',
    b"null",
    b"\xff\xfe",
    b"{}",
    b'{"access_token": null}',
    b'{"access_token": ""}',
    b'{"access_token": 7}',
    b'{"access_token": ["s3cr3t"]}',
    b'{"access_token": "s3cr3t\\r\\nX: y"}',
    b'{"access_token": "s3cr3t\\n"}',
    b'{"access_token": "s3cr\xc3\xa9t"}',
    b'{"access_token": "s3cr3t", "token_type": "mac"}',
    b'{"access_token": "s3cr3t", "token_type": null}',
    b'{"access_token": "s3cr3t", "error": "invalid_client"}',
    b'{"error": "invalid_client", "error_description": "s3cr3t"}',
    b"[" * 50_000,
    b'{"access_token": "s3cr3t", "expires_in": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: repr(content[:40]))
async def test_h5_4_an_answer_that_is_no_token_is_an_error(world: World, content: bytes) -> None:
    world.answers = [httpx.Response(200, content=content)]
    async with client(world) as calls:
        with pytest.raises(TokenRequestError) as caught:
            await calls.get("/")
    assert len(world.fetches) == 1
    assert caught.value.status_code == 200
    assert world.calls == []
    assert_no_secrets(caught.value)


# --- 5.5 How name and secret are sent -----------------------------------------------------------------


@pytest.mark.real_time
async def test_h5_5_name_and_secret_are_form_encoded_before_they_are_basic() -> None:
    async with http_server() as server:
        server.script("/token", token("t1"))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "a:b ü", "c/d+e%&=:~")
        async with ResilientClient(server.url, auth=auth) as calls:
            await calls.get("/")
        sent = server.received[0]
    scheme, _, pair = sent.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(pair) == b"a%3Ab+%C3%BC:c%2Fd%2Be%25%26%3D%3A~"
    assert (sent.method, sent.path) == ("POST", "/token")
    assert sent.headers["content-type"] == "application/x-www-form-urlencoded"
    assert sent.headers["accept"] == "application/json"
    assert sent.body == b"grant_type=client_credentials"


@pytest.mark.real_time
async def test_h5_5_or_they_go_into_the_body() -> None:
    async with http_server() as server:
        server.script("/token", token("t1"))
        auth = OAuth2ClientCredentials(
            f"{server.url}/token?tenant=x",
            "a:b",
            "c/d+e ü",
            scope="read write",
            audience="https://api/",
            auth_method="client_secret_post",
        )
        async with ResilientClient(server.url, auth=auth) as calls:
            await calls.get("/")
        sent = server.received[0]
    assert "authorization" not in sent.headers
    assert sent.path == "/token?tenant=x"
    assert parse_qs(sent.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["read write"],
        "audience": ["https://api/"],
        "client_id": ["a:b"],
        "client_secret": ["c/d+e ü"],
    }


# --- 5.8 Secrets --------------------------------------------------------------------------------------


def shown(error: BaseException) -> str:
    """Return all that a log, a debugger or a pickle shows of an error, with its causes and our frames."""
    texts: list[str] = []
    todo: list[BaseException | None] = [error]
    known: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in known:
            continue
        known.add(id(each))
        todo += [each.__cause__, each.__context__]
        texts += [repr(each), repr(vars(each)), *traceback.format_exception(each)]
        if isinstance(each, HTTPClientError):
            texts += [repr(each.details), repr(each.request.headers.raw), repr(pickle.dumps(each))]
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                texts.append(repr(frame.f_locals))
    return "\n".join(texts)


def assert_no_secrets(error: BaseException) -> None:
    text = shown(error)
    basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert not [secret for secret in (SECRET, basic, "s3cr", "Basic ") if secret in text]


@pytest.mark.parametrize("auth_method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("scenario", ["network", "refused", "malformed", "local", "late", "mac"])
async def test_h5_8_no_error_shows_a_secret(world: World, scenario: str, auth_method: Any) -> None:
    answers = {
        "network": [httpx.ConnectError] * 3,
        "refused": [world.refusal(401, f"invalid {SECRET}")],
        "malformed": [httpx.Response(200, json={"access_token": f"{SECRET}\n"})],
        "local": [httpx.LocalProtocolError],
        "mac": [httpx.Response(200, json={"access_token": SECRET, "token_type": f"mac {SECRET}"})],
        "late": [],
    }
    world.answers = answers[scenario]
    world.delay = 10**6 if scenario == "late" else 1
    async with client(world, credentials(auth_method=auth_method), raise_for_status=True) as calls:
        errors = await gathered(calls.get("/"), calls.get("/"))
        errors += await gathered(calls.get("/"))
    for error in errors:
        assert isinstance(error, TokenRequestError)
        assert isinstance(error, httpx.RequestError)
        assert not isinstance(error, httpx.TransportError)
        assert_no_secrets(error)
        twin = pickle.loads(pickle.dumps(error))
        assert (str(twin), twin.error, twin.details) == (str(error), error.error, error.details)
        assert str(error.request.url) == TOKEN_URL
        assert error.details["url"] == TOKEN_URL
    gc.collect()


async def test_h5_8_only_the_words_of_the_standard_are_repeated(world: World) -> None:
    world.answers = [world.refusal(400, "invalid_scope"), world.refusal(400, SECRET), world.refusal(400, 7)]
    async with client(world) as calls:
        said = []
        for _ in range(3):
            with pytest.raises(TokenRequestError) as caught:
                await calls.get("/")
            said.append((caught.value.error, str(caught.value).partition("token: ")[2]))
            advance(4)
    assert said == [
        ("invalid_scope", "invalid_scope (400)"),
        (None, "refused (400)"),
        (None, "refused (400)"),
    ]


def test_h5_8_the_credentials_show_nothing_and_cannot_be_pickled() -> None:
    auth = OAuth2ClientCredentials("https://auth/token?key=s3cr3t", "me", SECRET)
    assert repr(auth) == "OAuth2ClientCredentials('https://auth/token', client_id='me', ...)"
    assert SECRET not in str(vars(auth))
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(auth)


async def test_h5_8_a_token_shows_nothing(world: World) -> None:
    auth = credentials()
    async with client(world, auth) as calls:
        await calls.get("/")
    assert "t1" not in repr(vars(auth))


async def test_h5_8_the_log_of_httpx_shows_no_secret(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = OAuth2ClientCredentials("https://auth/token?api_key=s3cr3t", "me", SECRET)
    async with client(world, auth) as calls:
        await calls.get("/")
    assert "REDACTED" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None])
async def test_h5_8_the_type_of_a_token_is_compared_without_case(world: World, kind: str | None) -> None:
    fields = {"access_token": "t", **({} if kind is None else {"token_type": kind})}
    world.answers = [httpx.Response(200, json=fields)]
    async with client(world) as calls:
        await calls.get("/")
    assert world.calls[0].headers["Authorization"] == "Bearer t"


# --- Over the wire ------------------------------------------------------------------------------------


@pytest.mark.real_time
@pytest.mark.parametrize("fault", [reset(), reset(after_headers=True), truncated(), garbage])
async def test_a_token_request_that_breaks_is_sent_again(fault: Any) -> None:
    async with http_server() as server:
        server.script("/token", fault, token("t1"))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth) as calls:
            assert (await calls.get("/")).status_code == 200
        assert server.lines == ["POST /token", "POST /token", "GET /"]
        first, second, last = server.received
    assert first == second
    assert last.headers["authorization"] == "Bearer t1"


@pytest.mark.real_time
async def test_it_works_on_the_other_backend() -> None:
    async with http_server() as server:
        server.script("/token", hang_up, token("t1"), token("t2"))
        server.script("/", reply(401))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth, backend="aiohttp") as calls:
            assert (await calls.post("/", content=b"x")).status_code == 200
        assert server.lines == ["POST /token", "POST /token", "POST /", "POST /token", "POST /"]
        assert [each.headers["authorization"] for each in server.received if each.path == "/"] == [
            "Bearer t1",
            "Bearer t2",
        ]


@pytest.mark.real_time
async def test_an_answer_that_is_too_long_is_not_read() -> None:
    async with http_server() as server:
        server.script("/token", token("t1", padding="x" * 1_000_000))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth) as calls:
            with pytest.raises(TokenRequestError, match="access_token"):
                await calls.get("/")


@pytest.mark.real_time
async def test_a_caller_in_a_hurry_leaves_and_the_connection_is_not_lost() -> None:
    async with http_server() as server:
        server.script("/token", never, token("t1"))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        limits = httpx.Limits(max_connections=1)
        async with ResilientClient(server.url, auth=auth, limits=limits, retry=None) as calls:
            task = asyncio.create_task(calls.get("/"))
            await server.arrived.wait()
            task.cancel()
            await gathered(task)
            assert (await calls.get("/")).status_code == 200


@pytest.mark.real_time
async def test_each_attempt_has_the_token_of_its_time() -> None:
    async with http_server() as server:
        server.script("/token", token("t1", expires_in=0), token("t2", expires_in=0))
        server.script("/", reply(503))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth, retry=retry(attempts=2, wait=0)) as calls:
            assert (await calls.get("/")).status_code == 200
        sent = [each.headers["authorization"] for each in server.received if each.path == "/"]
    assert sent == ["Bearer t1", "Bearer t2"]
