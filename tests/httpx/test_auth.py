"""Credentials: where they go, where they must not go, and that nobody sees them."""

import base64
import logging
import pickle
import subprocess
import sys

import httpx
import pytest

from resilience import circuit_breaker, retry
from resilience_httpx import APIKeyAuth, BasicAuth, BearerAuth, ResilientClient, _redaction, hide_parameter
from resilience_httpx._redaction import redacted
from tests.support.http_server import http_server, redirect, reply


class Api:
    """Remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.statuses = [200]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])

    def header(self, name: str) -> list[str | None]:
        return [request.headers.get(name) for request in self.requests]


@pytest.fixture
def api() -> Api:
    return Api()


def client(api: Api, base_url: str = "https://h", **options: object) -> ResilientClient:
    return ResilientClient(base_url, transport=httpx.MockTransport(api), **options)


async def test_each_kind_sends_what_it_promises(api: Api) -> None:
    async with client(api) as calls:
        await calls.get("/", auth=BearerAuth("t0"))
        await calls.get("/", auth=APIKeyAuth("k1"))
        await calls.get("/", auth=APIKeyAuth("k2", header="Private-Token"))
        await calls.get("/?a=b%20c&flag", auth=APIKeyAuth("k 3/&", query="key"))
        await calls.get("/?key=other", auth=APIKeyAuth("k4", query="key"))
        await calls.get("/", auth=BasicAuth("käthe", "pa:ss"))
    sent = api.requests
    assert sent[0].headers["Authorization"] == "Bearer t0"
    assert sent[1].headers["X-API-Key"] == "k1"
    assert sent[2].headers["Private-Token"] == "k2"
    assert sent[3].url.query == b"a=b%20c&flag&key=k+3%2F%26"
    assert sent[4].url.query == b"key=k4"
    assert base64.b64decode(sent[5].headers["Authorization"].split()[1]).decode() == "käthe:pa:ss"


async def test_credentials_go_to_the_origin_of_the_base_url(api: Api) -> None:
    async with client(api, auth=APIKeyAuth("k")) as calls:
        for url in ("/a", "https://h:443/b", "https://other/c", "http://h/d", "https://h:8443/e"):
            await calls.get(url)
    assert api.header("X-API-Key") == ["k", "k", None, None, None]


async def test_without_a_base_url_the_first_request_decides(api: Api) -> None:
    auth = BearerAuth("t")
    async with client(api, "", auth=auth) as one, client(api, "", auth=auth) as two:
        await one.get("https://one/")
        await one.get("https://two/")
        await two.get("https://two/")
    assert api.header("Authorization") == ["Bearer t", None, "Bearer t"]


async def test_in_a_plain_client_too(api: Api) -> None:
    async with httpx.AsyncClient(auth=BearerAuth("t"), transport=httpx.MockTransport(api)) as calls:
        await calls.get("https://one/")
        await calls.get("https://two/")
        await calls.get("https://one/")
    assert api.header("Authorization") == ["Bearer t", None, "Bearer t"]


async def test_origins_can_be_named(api: Api) -> None:
    auth = BearerAuth("t", origins=["https://one:443/x", "https://two"])
    async with client(api, "https://h", auth=auth) as calls:
        for url in ("https://one/", "https://two/", "/"):
            await calls.get(url)
        await calls.get("/", auth=BearerAuth("u", origins="https://h"))
    assert api.header("Authorization") == ["Bearer t", "Bearer t", None, "Bearer u"]


async def test_only_the_request_that_is_sent_bears_the_credentials(api: Api) -> None:
    seen: list[httpx.Request] = []

    def by_url(request: httpx.Request) -> httpx.URL:
        seen.append(request)
        return request.url

    breaker = circuit_breaker(key=by_url)
    api.statuses = [503, 503, 200]
    async with client(
        api, auth=APIKeyAuth("k", query="key"), circuit_breaker=breaker, retry=retry(attempts=3, wait=0)
    ) as calls:
        await calls.get("/a")
    assert [str(each.url) for each in api.requests] == ["https://h/a?key=k"] * 3
    assert {str(each.url) for each in seen} == {"https://h/a"}


async def test_a_plain_client_in_a_hook_has_credentials_of_its_own(api: Api) -> None:
    auth = BearerAuth("t")
    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(api)) as plain:

        async def look_up(request: httpx.Request) -> None:
            await plain.get("https://keys/")

        async with client(api, auth=auth, event_hooks={"request": [look_up]}) as calls:
            await calls.get("/")
    assert [(each.url.host, each.headers.get("Authorization")) for each in api.requests] == [
        ("keys", "Bearer t"),
        ("h", "Bearer t"),
    ]


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (BearerAuth("t"), "authorization"),
        (BasicAuth("a", "b"), "authorization"),
        (APIKeyAuth("k"), "x-api-key"),
        (APIKeyAuth("k", header="Private-Token"), "private-token"),
    ],
    ids=lambda value: repr(value),
)
async def test_h6_1_a_redirect_to_another_origin_loses_the_credentials(
    auth: httpx.Auth, header: str
) -> None:
    async with http_server() as here, http_server() as there:
        here.script("/near", redirect("/final"))
        here.script("/far", redirect(f"{there.url}/final"))
        there.script("/final", redirect(f"{here.url}/back"))
        async with ResilientClient(here.url, auth=auth, follow_redirects=True) as calls:
            await calls.get("/near")
            await calls.get("/far")
        assert [(each.path, header in each.headers) for each in here.received] == [
            ("/near", True),
            ("/final", True),
            ("/far", True),
            ("/back", False),
        ]
        assert [(each.path, header in each.headers) for each in there.received] == [("/final", False)]


@pytest.mark.real_time
async def test_each_attempt_is_authenticated_afresh() -> None:
    tokens = iter("abc")

    class Rotating(httpx.Auth):
        def auth_flow(self, request: httpx.Request):
            assert "X-Token" not in request.headers
            request.headers["X-Token"] = next(tokens)
            yield request

    async with http_server() as server:
        server.script("/", reply(503), reply(503))
        async with ResilientClient(server.url, auth=Rotating(), retry=retry(attempts=3, wait=0)) as calls:
            await calls.get("/")
        assert [each.headers["x-token"] for each in server.received] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "make",
    [
        lambda value: BearerAuth(value),
        lambda value: APIKeyAuth(value),
        lambda value: APIKeyAuth(value, query="q"),
    ],
)
@pytest.mark.parametrize(
    "value", ["", "se-cret\n", " se-cret", "se-cret\r\nX: y", "se-cré-t", None, b"se-cret"]
)
def test_a_secret_that_no_header_can_hold_is_refused_without_showing_it(make, value: object) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make(value)
    assert "se-cr" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: APIKeyAuth("k", header="a b"), ValueError, "header"),
        (lambda: APIKeyAuth("k", header=""), ValueError, "header"),
        (lambda: APIKeyAuth("k", query=""), ValueError, "query"),
        (lambda: APIKeyAuth("k", query=3), TypeError, "query"),
        (lambda: BasicAuth("a:b", "c"), ValueError, "username"),
        (lambda: BasicAuth("a", None), TypeError, "password"),
        (lambda: BasicAuth(None, "b"), TypeError, "username"),
        (lambda: BearerAuth("t", origins="h"), ValueError, "origins"),
        (lambda: BearerAuth("t", origins=["https://h", "/x"]), ValueError, "origins"),
        (lambda: BearerAuth("t", origins=[3]), TypeError, "origins"),
    ],
)
def test_wrong_arguments(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_reprs_hide_the_secrets() -> None:
    assert repr(BearerAuth("s3cr3t")) == "BearerAuth(...)"
    assert repr(BasicAuth("ada", "s3cr3t")) == "BasicAuth(...)"
    assert repr(APIKeyAuth("s3cr3t")) == "APIKeyAuth(..., header='X-API-Key')"
    assert repr(APIKeyAuth("s3cr3t", query="q")) == "APIKeyAuth(..., query='q')"


async def test_h6_2_the_log_of_httpx_shows_no_secrets(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=httpx.__name__)
    async with client(api, auth=APIKeyAuth("s3cr3t", query="q")) as calls:
        await calls.get(
            "https://ada:s3cr3t@h/a?page=2&q2=x&access_token=s3cr3t&flag&X-Amz-Signature=s3cr3t"
        )
        await calls.get("/plain?page=3")
        await calls.get("/plain", auth=None)
    lines = [record.getMessage().split()[3] for record in caplog.records if record.name == httpx.__name__]
    assert lines == [
        "https://REDACTED@h/a?page=2&q2=x&access_token=REDACTED&flag&X-Amz-Signature=REDACTED&q=REDACTED",
        "https://h/plain?page=3&q=REDACTED",
        "https://h/plain",
    ]
    assert isinstance(caplog.records[-1].args[1], httpx.URL)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        *((name, False) for name in ("author", "author_id", "keyword", "keywords", "page", "postcode")),
        *((name, False) for name in ("shipping", "opinion", "residence", "inside", "idempotency_key")),
        *(
            (name, True)
            for name in ("authorization", "oauth", "auth", "apikey", "key", "KEY", "code", "sig")
        ),
        *((name, True) for name in ("refresh_token", "client_secret", "password", "passwd", "session_id")),
        *(
            (name, True)
            for name in ("client_assertion", "assertion", "otp", "pin", "sid", "id_jwt", "saml")
        ),
    ],
)
def test_h6_2_a_parameter_is_hidden_if_its_name_sounds_like_a_secret(name: str, hidden: bool) -> None:
    url = redacted(httpx.URL(f"https://h/?{name}=s3cr3t"))
    assert ("s3cr3t" not in str(url)) is hidden


async def test_h6_2_the_names_of_hidden_parameters_can_be_added_to(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redaction, "_named", set())
    caplog.set_level(logging.INFO, logger=httpx.__name__)
    async with client(api) as calls:
        await calls.get("/a?email=ada%40example.com")
        hide_parameter("email")
        await calls.get("/a?email=ada%40example.com&emails=3")
    lines = [record.getMessage().split()[3] for record in caplog.records if record.name == httpx.__name__]
    assert lines == ["https://h/a?email=ada%40example.com", "https://h/a?email=REDACTED&emails=3"]


def test_a_hidden_parameter_has_a_name() -> None:
    with pytest.raises(TypeError, match="name must be a string"):
        hide_parameter(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["ada:s3cret@h", "https://ada:s3cret@h:port", "h?key=s3cret", "//s3cret@h/"]
)
def test_h6_2_what_is_no_origin_is_refused_without_showing_a_secret(url: str) -> None:
    with pytest.raises(ValueError, match="origins must be URLs") as caught:
        BearerAuth("t", origins=url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_h6_2_other_records_of_the_logger_pass_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=httpx.__name__)
    ResilientClient()
    logging.getLogger(httpx.__name__).info("plain")
    logging.getLogger(httpx.__name__).info("%(a)s", {"a": 1})
    assert [record.getMessage() for record in caplog.records] == ["plain", "1"]


def test_a_missing_httpx_is_named_with_its_extra() -> None:
    code = (
        "import sys; sys.modules['httpx'] = sys.modules['httpx2'] = None\n"
        "try: import resilience_httpx\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=True,
    )
    needed = 'resilience_httpx needs httpx or httpx2: pip install "async-resilience[httpx]"'
    assert run.stdout.strip() == needed


# --- Tokens from a function ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_is_asked_for_the_token_of_each_attempt(api: Api, is_async: bool) -> None:
    tokens = iter("abc")

    def read() -> str:
        return next(tokens)

    async def fetch() -> str:
        return read()

    api.statuses = [503, 200]
    auth = BearerAuth(fetch if is_async else read)
    async with client(api, auth=auth, retry=retry(attempts=2, wait=0)) as calls:
        await calls.get("/")
        await calls.get("https://other/")
        await calls.get("/")
    assert api.header("Authorization") == ["Bearer a", "Bearer b", None, "Bearer c"]


@pytest.mark.parametrize("answer", ["", "se-cret\n", "se-cré-t", None, b"se-cret"])
async def test_a_function_that_returns_no_token_is_an_error(api: Api, answer: object) -> None:
    async with client(api) as calls:
        with pytest.raises((TypeError, ValueError), match="token") as caught:
            await calls.get("/", auth=BearerAuth(lambda: answer))
    assert "se-cr" not in str(caught.value)
    assert api.requests == []


async def test_an_error_of_the_function_is_the_callers(api: Api) -> None:
    async def fail() -> str:
        raise LookupError

    async with client(api, circuit_breaker=circuit_breaker(failure_threshold=1)) as calls:
        for _ in range(2):
            with pytest.raises(LookupError):
                await calls.get("/", auth=BearerAuth(fail))
        assert (await calls.get("/")).status_code == 200


def test_a_function_needs_an_asynchronous_client(api: Api) -> None:
    with httpx.Client(transport=httpx.MockTransport(api)) as calls:
        with pytest.raises(RuntimeError, match="asynchronous"):
            calls.get("https://h/", auth=BearerAuth(lambda: "t"))
        calls.get("https://h/", auth=BearerAuth("t"))
        calls.get("https://h/", auth=BearerAuth("t", origins="https://other"))
    assert api.header("Authorization") == ["Bearer t", None]


@pytest.mark.parametrize(
    "make", [lambda: BearerAuth("t"), lambda: APIKeyAuth("k"), lambda: BasicAuth("u", "p")]
)
def test_h5_8_credentials_cannot_be_pickled(make) -> None:
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(make())
