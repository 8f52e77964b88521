"""ClientConfig: where values come from, what they make, and how mistakes are told."""

import asyncio
import inspect
import json
import pickle
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest

import resilience_httpx
import resilience_httpx.httpx2
from resilience import bulkhead, circuit_breaker, rate_limited, retry
from resilience_httpx import (
    APIKeyAuth,
    BasicAuth,
    BearerAuth,
    ClientConfig,
    ConfigurationError,
    IdempotencyKey,
    OAuth2ClientCredentials,
    ResilientClient,
    ResponseCache,
    ServerLimits,
)
from resilience_httpx import _config_sections as sections
from resilience_httpx._config_connections import TimeoutSection

FILE = """
base_url = "https://api.example.com"
headers = {Accept = "application/json"}
retry.attempts = 4
rate_limit = {rate = 10, burst = 20}
circuit_breaker.failure_threshold = 7
cache = {stale_if_error = 60}
attempt_timeout = 3
total_timeout = 20
timeout = {connect = 1}
raise_for_status = true

[bearer]
token = "s3cret"

[endpoints."GET /search*"]
rate_limit = {rate = 30, per = 60}
retry = {attempts = 2, wait = [0.5, 1]}
bulkhead = {max_concurrent = 3}
circuit_breaker = {failure_rate = 0.5}
timeout = 2
"""

LIMITS = ["attempt_timeout", "total_timeout", "timeout"]

YAML = """
base_url: https://api.example.com
retry: {attempts: 4}
endpoints:
  "GET /search*":
    rate_limit: {rate: 30, per: 60}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "api.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig.load(*args, **kwargs)
    error: BaseException | None = caught.value
    assert str(error) == "\n".join(caught.value.problems)
    while error is not None:  # what else a traceback would show
        assert "s3cret" not in str(error)
        error = error.__cause__ or error.__context__
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    return list(caught.value.problems)


# --- What it makes ----------------------------------------------------------------------------------


async def test_a_file_makes_a_client(write: Any) -> None:
    async with ClientConfig.load(write(FILE)).client() as client:
        assert client.base_url == "https://api.example.com"
        assert client.headers["accept"] == "application/json"
        assert client.retry.config.attempts == 4
        assert (client.rate_limit.config.rate, client.rate_limit.config.burst) == (10, 20)
        assert client.circuit_breaker.config.failure_threshold == 7
        assert isinstance(client.cache, ResponseCache)
        assert client.timeout.as_dict() == {"connect": 1, "read": 5, "write": 5, "pool": 5}
        assert isinstance(client.auth, BearerAuth)


def test_endpoints_have_policies_of_their_own(write: Any) -> None:
    config = ClientConfig.load(write(FILE))
    (pattern,), (policies,) = zip(*config.arguments()["endpoints"].items(), strict=True)
    assert pattern == "GET /search*"
    kinds = [each.kind for each in policies]
    assert kinds == ["retry", "rate_limited", "circuit_breaker", "bulkhead", "timeout"]
    assert policies[0].config.attempts == 2
    assert policies[4].time_limit == 2


CONNECTIONS = """
base_url = "https://api.example.com"
name = "crm"
http2 = false
limits = {max_connections = 7, keepalive_expiry = 1}
bulkhead = {max_concurrent = 3, max_queue = 5}
server_limits = {max_wait = 60, pause_after_429 = 10}
idempotency_key = {header = "X-Key", quoted = true, methods = ["POST"]}
"""


async def test_a_file_says_how_many_connections_there_are_and_what_goes_over_them(
    write: Any, package: Any, events: list
) -> None:
    kind = {"httpx": resilience_httpx, "httpx2": resilience_httpx.httpx2}[package.__name__].ResilientClient
    config = ClientConfig.load(write(CONNECTIONS))
    async with kind(**config.arguments()) as client:
        pool = client._transport._pool
        assert (pool._max_connections, pool._keepalive_expiry) == (7, 1)
        assert (client.bulkhead.config.max_concurrent, client.bulkhead.config.max_queue) == (3, 5)
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.headers.get("X-Key", "")[:1]))
        return httpx.Response(429)

    options = {"retry": None, "transport": package.MockTransport(answer)}
    async with kind(**config.arguments(), **options) as client:
        await client.patch("/")
        await client.post("/")
    assert asked == [("PATCH", ""), ("POST", '"')]
    assert [event.attributes["seconds"] >= 10 for event in events] == [True]


@pytest.mark.parametrize(
    ("given", "header"), [(True, "idempotency-key"), ("X-Key", "x-key"), ({"header": "X-Key"}, "x-key")]
)
async def test_an_idempotency_key_may_be_a_flag_a_header_or_a_table(given: Any, header: str) -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers[header])
        return httpx.Response(200)

    arguments = ClientConfig(base_url="https://h", idempotency_key=given).arguments()
    async with ResilientClient(**arguments, transport=httpx.MockTransport(answer)) as client:
        await client.post("/")
    assert len(keys) == 1


@pytest.mark.parametrize("given", [False, None, "false"])
def test_no_idempotency_key(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if given == "false":
        monkeypatch.setenv("MYAPI_IDEMPOTENCY_KEY", given)
        assert ClientConfig.load(prefix="MYAPI_").arguments() == {"idempotency_key": None}
    else:
        assert ClientConfig(idempotency_key=given).arguments() == {"idempotency_key": None}


def test_certificates_are_a_path_or_a_flag(tmp_path: Path) -> None:
    verified = ClientConfig(verify=certifi.where()).arguments()["verify"]
    assert isinstance(verified, ssl.SSLContext)
    assert verified.get_ca_certs()
    assert isinstance(ClientConfig(verify=str(tmp_path)).arguments()["verify"], ssl.SSLContext)
    assert ClientConfig(verify=False).arguments() == {"verify": False}
    assert ClientConfig(verify=True).arguments() == {"verify": True}


@pytest.mark.parametrize("backend", ["httpx", "aiohttp"])
async def test_a_client_takes_the_certificates(backend: str, package: Any) -> None:
    kind = {"httpx": resilience_httpx, "httpx2": resilience_httpx.httpx2}[package.__name__].ResilientClient
    async with kind(**ClientConfig(verify=certifi.where(), backend=backend).arguments()):
        pass


def test_connections_may_be_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYAPI_LIMITS__MAX_CONNECTIONS", "none")
    limits = ClientConfig.load(prefix="MYAPI_", limits={"keepalive_expiry": False}).arguments()["limits"]
    found = (limits.max_connections, limits.max_keepalive_connections, limits.keepalive_expiry)
    assert found == (None, 20, None)


async def test_yaml_says_the_same(write: Any) -> None:
    for name in ["api.yaml", "api.YML"]:
        config = ClientConfig.load(write(YAML, name))
        assert config.retry is not None
        assert config.retry.attempts == 4
        assert config.arguments()["endpoints"]["GET /search*"][0].config.per == 60


async def test_what_is_not_given_is_left_to_the_client() -> None:
    assert ClientConfig().arguments() == {}
    async with ClientConfig(base_url="https://h").client() as client:
        assert client.retry.config.attempts == 3
        assert client.circuit_breaker is not None


@pytest.mark.parametrize("off", [False, None])
async def test_a_policy_can_be_turned_off(off: Any) -> None:
    names = [
        "retry",
        "rate_limit",
        "circuit_breaker",
        "bulkhead",
        "server_limits",
        "cache",
        "attempt_timeout",
        "total_timeout",
        "timeout",
    ]
    config = ClientConfig(**dict.fromkeys(names, off))
    assert config.arguments() == dict.fromkeys(names)
    async with config.client() as client:
        assert (client.retry, client.circuit_breaker, client.cache) == (None, None, None)
        assert client.timeout.read is None


async def test_each_client_has_policies_of_its_own_and_overrides_count_more() -> None:
    config = ClientConfig(retry={"attempts": 5}, rate_limit={"rate": 1})
    mine = retry(attempts=2)
    async with config.client(retry=mine) as one, config.client() as two:
        assert one.retry is mine
        assert two.retry is not None
        assert two.retry.config.attempts == 5
        assert one.rate_limit is not two.rate_limit


async def test_the_twin_takes_the_arguments(package: Any) -> None:
    config = ClientConfig(timeout=3, retry={"attempts": 5}, follow_redirects=True)
    kind = {"httpx": resilience_httpx, "httpx2": resilience_httpx.httpx2}[package.__name__].ResilientClient
    async with kind(**config.arguments()) as client:
        assert client.timeout == package.Timeout(3)
        assert client.follow_redirects is True


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"bearer": {"token": "s3cret"}}, BearerAuth),
        ({"api_key": {"key": "s3cret", "query": "k"}}, APIKeyAuth),
        ({"basic": {"username": "a", "password": "s3cret"}}, BasicAuth),
        (
            {
                "oauth2": {
                    "token_url": "https://h/t",
                    "client_id": "a",
                    "client_secret": "s3cret",
                    "scope": "b",
                }
            },
            OAuth2ClientCredentials,
        ),
    ],
)
def test_credentials_are_secrets(values: Any, kind: type[Any]) -> None:
    config = ClientConfig(**values)
    auth = config.arguments()["auth"]
    assert isinstance(auth, kind)
    for shown in [
        repr(config),
        str(config),
        repr(config.model_dump()),
        config.model_dump_json(),
        repr(auth),
    ]:
        assert "s3cret" not in shown


@pytest.mark.parametrize("url", ["https://ada:s3cret@h", "ada:s3cret@h", "https://ada:s3cret@h:port"])
def test_h6_2_a_base_url_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the arguments: base_url must ") as caught:
        ClientConfig(base_url=url)
    assert "s3cret" not in str(caught.value)


def test_the_bearer_token_is_the_one_given() -> None:
    request = httpx.Request("GET", "https://h")
    auth = ClientConfig(bearer={"token": "s3cret"}).arguments()["auth"]
    next(auth.auth_flow(request))
    assert request.headers["authorization"] == "Bearer s3cret"


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ClientConfig().total_timeout = 3


# --- Where values come from -------------------------------------------------------------------------


def test_arguments_come_before_variables_before_the_file(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYAPI_RETRY__ATTEMPTS", "5")
    monkeypatch.setenv("MYAPI_RETRY__WAIT", "0.5")
    monkeypatch.setenv("MYAPI_TOTAL_TIMEOUT", "30")
    file = write("retry = {attempts = 4, deadline = 9}\ntotal_timeout = 20\nattempt_timeout = 2")
    config = ClientConfig.load(file, prefix="MYAPI_", retry={"attempts": 6})
    assert config.retry is not None
    assert config.retry.given() == {"attempts": 6, "wait": 0.5, "deadline": 9}
    assert (config.total_timeout, config.attempt_timeout) == (30, 2)


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "MYAPI_BASE_URL": "https://h",
        "MYAPI_BEARER__TOKEN": "12345",
        "MYAPI_RATE_LIMIT": '{"rate": 1}',
        "MYAPI_RATE_LIMIT__BURST": "3",
        "MYAPI_CIRCUIT_BREAKER": "false",
        "MYAPI_ATTEMPT_TIMEOUT": "null",
        "MYAPI_RAISE_FOR_STATUS": "true",
        "MYAPI_HEADERS__X": "7",
        "MYAPI_BACKEND": "aiohttp",
        "MYAPI_TOTAL_TIMEOUT": "",
        "myapi_retry__wait": "[1, 2]",
        "OTHER_TOTAL_TIMEOUT": "x",
    }
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    arguments = ClientConfig.load(prefix="MYAPI_").arguments()
    assert arguments["base_url"] == "https://h"
    assert arguments["rate_limit"].config.burst == 3
    assert arguments["circuit_breaker"] is None
    assert arguments["attempt_timeout"] is None
    assert arguments["raise_for_status"] is True
    assert arguments["headers"] == {"X": "7"} or arguments["headers"] == {"x": "7"}
    assert arguments["backend"] == "aiohttp"
    assert arguments["retry"] is not None
    assert isinstance(arguments["auth"], BearerAuth)


def test_without_a_prefix_no_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["RETRY", "TOTAL_TIMEOUT", "BASE_URL", "TIMEOUT"]:
        monkeypatch.setenv(name, "nonsense")
    assert ClientConfig.load().arguments() == {}
    assert ClientConfig().arguments() == {}


@pytest.mark.parametrize("prefix", ["", 3])
def test_a_prefix_is_a_text(prefix: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="prefix must be a string that is not empty"):
        ClientConfig.load(prefix=prefix)


FLAGS = [("true", True), ("FALSE", False), ("Yes", True), ("no", False), ("ON", True), ("Off", False)]


@pytest.mark.parametrize(("text", "flag"), [*FLAGS, ("1", True), ("0", False), (" true ", True)])
def test_flags_in_variables(text: str, flag: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["RAISE_FOR_STATUS", "FOLLOW_REDIRECTS", "VERIFY", "HTTP2", "RETRY__WRAP", "CACHE__CREDENTIALS"]
    for name in names:
        monkeypatch.setenv(f"MYAPI_{name}", text)
    config = ClientConfig.load(prefix="MYAPI_")
    assert config.raise_for_status is config.follow_redirects is config.verify is config.http2 is flag
    assert config.retry is not None
    assert config.cache is not None
    assert config.retry.wrap is config.cache.credentials is flag


@pytest.mark.parametrize("text", ["false", "FALSE", "Off", "no", "None", "null"])
def test_what_variables_turn_off(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["retry", "rate_limit", "circuit_breaker", "bulkhead", "server_limits", "cache", *LIMITS]
    for name in names:
        monkeypatch.setenv(f"MYAPI_{name.upper()}", text)
    assert ClientConfig.load(prefix="MYAPI_").arguments() == dict.fromkeys(names)


@pytest.mark.parametrize("text", ["false", "OFF", "None"])
def test_variables_turn_off_time_limits_of_tables(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYAPI_RATE_LIMIT__RATE", "1")
    monkeypatch.setenv("MYAPI_RATE_LIMIT__MAX_WAIT", text)
    monkeypatch.setenv("MYAPI_RETRY__DEADLINE", text)
    monkeypatch.setenv("MYAPI_CIRCUIT_BREAKER__SLOW_CALL", text)
    monkeypatch.setenv("MYAPI_TIMEOUT__READ", text)
    arguments = ClientConfig.load(prefix="MYAPI_").arguments()
    assert arguments["rate_limit"].config.max_wait is None
    assert arguments["retry"].config.deadline is None
    assert arguments["circuit_breaker"].config.slow_call is None
    assert arguments["timeout"] == (5, None, 5, 5)


def test_words_in_variables_are_texts_where_texts_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYAPI_RETRY__NAME", "On")
    monkeypatch.setenv("MYAPI_HEADERS__X", "off")
    monkeypatch.setenv("MYAPI_BASIC__USERNAME", "none")
    monkeypatch.setenv("MYAPI_BASIC__PASSWORD", "1")
    monkeypatch.setenv("MYAPI_RETRY__ATTEMPTS", "1")
    config = ClientConfig.load(prefix="MYAPI_")
    assert config.retry is not None
    assert (config.retry.name, config.retry.attempts) == ("On", 1)
    assert config.basic is not None
    assert config.basic.username == "none"
    assert set(config.headers.values()) == {"off"}


@pytest.mark.parametrize("text", ["false", "off", "none"])
def test_a_variable_that_turns_a_policy_off_counts_more_than_its_keys(
    text: str, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYAPI_RETRY", text)
    monkeypatch.setenv("MYAPI_RETRY__ATTEMPTS", "4")
    file = write("retry.wait = 1")
    assert ClientConfig.load(file, prefix="MYAPI_").arguments() == {"retry": None}
    monkeypatch.delenv("MYAPI_RETRY")
    config = ClientConfig.load(file, prefix="MYAPI_")
    assert config.retry is not None
    assert config.retry.given() == {"attempts": 4, "wait": 1}


# --- Equal and shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["retry", "circuit_breaker", "server_limits", *LIMITS])
def test_the_default_is_not_the_same_as_off(name: str) -> None:
    default, off = ClientConfig(), ClientConfig(**{name: None})
    assert default != off
    assert repr(default) != repr(off)
    assert f"{name}=None" in repr(off)
    assert f"{name}=None" not in repr(default)
    assert default.model_dump()[name] != off.model_dump()[name]


@pytest.mark.parametrize("name", ["retry", "rate_limit", "circuit_breaker", "bulkhead", "timeout"])
def test_an_endpoint_without_a_policy_is_not_one_that_turns_it_off(name: str) -> None:
    default = ClientConfig(endpoints={"/a": {}})
    off = ClientConfig(endpoints={"/a": {name: False}})
    assert default != off
    assert repr(default) != repr(off)
    assert off == ClientConfig(endpoints={"/a": {name: None}})
    assert default.endpoints["/a"] != {}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"retry": None, "timeout": None},
        {"retry": {"attempts": 5}, "timeout": 3, "base_url": "https://h", "headers": {"a": "b"}},
        {"circuit_breaker": {"failure_rate": 0.5}, "bearer": {"token": "s3cret"}},
        {"endpoints": {"/a": {"retry": False, "timeout": 2}, "/b": {}}},
    ],
)
async def test_what_it_holds_makes_an_equal_one(values: Any) -> None:
    config = ClientConfig(**values)
    again = ClientConfig(**config.model_dump())
    assert again == config
    assert repr(again) == repr(config)
    async with config.client() as one, again.client() as two:
        assert (one.retry is None) == (two.retry is None) == (values.get("retry", 1) is None)
        assert one.circuit_breaker is not None
        assert two.circuit_breaker is not None
        assert one.timeout == two.timeout
        assert one.base_url == two.base_url
    assert config.arguments().get("auth") is None or again.bearer.token.get_secret_value() == "s3cret"


async def test_an_endpoint_can_turn_the_policies_of_the_client_off(write: Any) -> None:
    file = write("""
        base_url = "https://h"
        retry = {attempts = 3, wait = 0}
        rate_limit = {rate = 1, per = 1000, max_wait = 0}
        circuit_breaker.failure_threshold = 1
        attempt_timeout = 1
        [endpoints."POST /orders"]
        retry = false
        rate_limit = false
        circuit_breaker = false
        bulkhead = false
        timeout = false
    """)
    sent: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        await asyncio.sleep(5)
        return httpx.Response(503)

    options = {"transport": httpx.MockTransport(answer), "bulkhead": bulkhead(1)}
    async with ResilientClient(**ClientConfig.load(file).arguments(), **options) as client:
        answers = await asyncio.gather(*(client.post("/orders") for _ in range(3)))
    assert [each.status_code for each in answers] == [503] * 3
    assert sent == ["/orders"] * 3


# --- Mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("retry.attempts = 0", "retry.attempts must be a whole number of 1 or more, got 0"),
        ("retry.attempts = true", "retry.attempts must be a whole number of 1 or more, got True"),
        ("retry.atempts = 1", "retry.atempts is not known; did you mean 'attempts'?"),
        ("retry = 3", "retry must be a table with some of the keys attempts, wait, deadline, wrap, name"),
        ("rety = {}", "rety is not known; did you mean 'retry'?"),
        ("zzz = 1", "zzz is not known; allowed are base_url, retry, rate_limit"),
        ("rate_limit = {}", "rate_limit.rate is missing"),
        ("rate_limit.rate = 0", "rate_limit.rate must be a whole number"),
        ("rate_limit = {rate = 1, per = 0}", "rate_limit.per must be seconds"),
        ("rate_limit = {rate = 1, cost = 2}", "rate_limit.cost"),
        ("circuit_breaker.failure_rate = 2", "circuit_breaker.failure_rate must be"),
        ("circuit_breaker.window = 'x'", "circuit_breaker.window must be"),
        ("cache.max_size = 0", "cache.max_size must be a whole number of 1 or more, got 0"),
        ("cache.credentials = 'x'", "cache.credentials must be True, False or a function, got 'x'"),
        (
            "total_timeout = -1",
            "total_timeout must be seconds (a number or a timedelta) of 0 or more, got -1",
        ),
        ("attempt_timeout = 'x'", "attempt_timeout must be seconds"),
        ("timeout = 'x'", "timeout must be seconds"),
        ("timeout.read = -1", "timeout.read must be seconds"),
        ("timeout.red = 1", "timeout.red is not known; did you mean 'read'?"),
        ("raise_for_status = 1", "raise_for_status must be True or False, got 1"),
        ("follow_redirects = 'yes'", "follow_redirects must be True or False"),
        ('backend = "requests"', 'backend must be "httpx" or "aiohttp", got'),
        ('base_url = "api.example.com"', "base_url must be URLs such as"),
        ("base_url = 1", "base_url must be URLs"),
        ("headers = {a = 1}", "headers.a must be a valid string"),
        ("headers = 's3cret'", "headers must be a valid dictionary"),
        ("bearer = {}", "bearer.token is missing"),
        ("bearer.token = 5", "bearer.token must be a valid string"),
        ('bearer.token = "s3cret\\n"', "bearer.token must be printable ASCII"),
        (
            'oauth2 = {token_url = "http://h/", client_id = "a", client_secret = "s3cret"}',
            "oauth2.token_url must be",
        ),
        (
            '[oauth2]\ntoken_url = "https://h"\nclient_id = "a"\nclient_secret = "b"\nauth_method = "x"',
            "oauth2.auth_method must be client_secret_basic or client_secret_post, got 'x'",
        ),
        (
            'bearer.token = "s3cret"\napi_key.key = "s3cret"',
            "bearer and api_key are both given; allowed is one of bearer, api_key, basic, oauth2",
        ),
        ("bulkhead = {}", "bulkhead.max_concurrent is missing"),
        ("server_limits.max_wait = -1", "server_limits.max_wait must be seconds"),
        ("server_limits.reset_unit = 'x'", "server_limits.reset_unit must be one of"),
        ("idempotency_key = 3", "idempotency_key must be true, the name of a header or a table"),
        (
            "idempotency_key.methods = 'POST'",
            "idempotency_key.methods must be a list of methods, got 'POST'",
        ),
        ("verify = 3", "verify must be true, false or the path of certificates (PEM), got 3"),
        (
            "verify = '/no/such.pem'",
            "verify must be true, false or the path of certificates (PEM), got '/no/",
        ),
        ("http2 = 3", "http2 must be True or False, got 3"),
        ('http2 = true\nbackend = "aiohttp"', 'http2 must be False with backend="aiohttp"'),
        ("limits.max_connections = 0", "limits.max_connections must be a whole number of 1 or more, got 0"),
        (
            "limits.max_keepalive_connections = -1",
            "limits.max_keepalive_connections must be a whole number of 0 or more, got -1",
        ),
        ("limits.keepalive_expiry = 'x'", "limits.keepalive_expiry must be seconds"),
        ("limits = 3", "limits must be a table with some of the keys max_connections"),
        ("name = ''", "name must be a string that is not empty, got ''"),
        ('endpoints."/a".retry.attempts = 0', 'endpoints."/a".retry.attempts must be a whole number'),
        ('endpoints."/a".rety.attempts = 0', "endpoints.\"/a\".rety is not known; did you mean 'retry'?"),
        ('endpoints."/a".timeout = -1', 'endpoints."/a".timeout must be seconds'),
        ('endpoints."GET a" = {}', "endpoints must have patterns such as \"GET /users/*\", got 'GET a'"),
    ],
)
def test_a_mistake_names_file_key_and_what_is_allowed(write: Any, text: str, problem: str) -> None:
    file = write(text)
    (told,) = problems(file)
    assert told.startswith(f"{file}: {problem}")


def test_all_mistakes_are_told_each_with_its_source(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYAPI_CACHE__MAX_SIZE", "0")
    monkeypatch.setenv("MYAPI_RETRY", "often")
    monkeypatch.setenv("MYAPI_RATE_LIMIT__RATT", "3")
    monkeypatch.setenv("MYAPI_TOTL_TIMEOUT", "3")
    file = write("total_timeout = -1")
    told = problems(file, prefix="MYAPI_", circuit_breaker={"failure_threshold": 0})
    assert told == ["MYAPI_TOTL_TIMEOUT: totl_timeout is not known; did you mean 'total_timeout'?"]
    monkeypatch.delenv("MYAPI_TOTL_TIMEOUT")
    told = problems(file, prefix="MYAPI_", circuit_breaker={"failure_threshold": 0})
    assert sorted(each.partition(" must")[0] for each in told) == [
        f"{file}: total_timeout",
        "MYAPI_CACHE__MAX_SIZE: cache.max_size",
        "MYAPI_RATE_LIMIT__RATT: rate_limit.ratt is not known; did you mean 'rate'?",
        "MYAPI_RETRY: retry",
        "the arguments: circuit_breaker.failure_threshold",
    ]


def test_the_source_that_counts_is_named(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYAPI_RETRY__ATTEMPTS", "0")
    (told,) = problems(write("retry.attempts = 4"), prefix="MYAPI_")
    assert told.startswith("MYAPI_RETRY__ATTEMPTS: retry.attempts")


async def test_arguments_of_the_client_come_before_everything(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYAPI_NAME", "from the environment")
    config = ClientConfig.load(write("name = 'from the file'"), prefix="MYAPI_", name="from the arguments")
    assert config.arguments() == {"name": "from the arguments"}
    async with config.client(name="from the client", base_url="https://h") as client:
        assert client._sender._use == "from the client"


def test_keyword_arguments_alone() -> None:
    with pytest.raises(ConfigurationError, match="the arguments: retry.attempts must be") as caught:
        ClientConfig(retry={"attempts": 0})
    assert isinstance(caught.value, ValueError)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("api.toml", "bearer.token = s3cret", "is not TOML"),
        ("api.yaml", "bearer: {token: *s3cret}", "is not YAML (at line 1)"),
        ("api.yaml", "a: b\nbearer: [s3cret", "is not YAML (at line 2)"),
        ("api.yaml", "bearer: !!python/object:s3cret {}", "is not YAML (at line 1)"),
        ("api.yaml", "\x00", "is not YAML"),
        ("api.yaml", "- a", "must have keys and values at the top"),
        ("api.yaml", "", "must have keys and values at the top"),
        ("api.ini", "", "must be a file whose name ends in .toml, .yaml, .yml"),
    ],
)
def test_a_file_that_cannot_be_read(write: Any, name: str, text: str, problem: str) -> None:
    file = write(text, name)
    (told,) = problems(file)
    assert told.startswith(f"{file}: {problem}")


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    file = tmp_path / "api.toml"
    assert problems(file) == [f"{file}: cannot be read: No such file or directory"]
    file.write_bytes(b"\xff")
    assert problems(file) == [f"{file}: must be UTF-8"]


def test_a_value_that_nests_too_deep_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYAPI_RETRY", "[" * 100_000)
    (told,) = problems(prefix="MYAPI_")
    assert told.startswith("MYAPI_RETRY: retry must be a table")


def test_yaml_without_its_package(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"async-resilience\[settings\]"):
        ClientConfig.load(write("", "api.yaml"))


# --- It follows the core ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "function"),
    [
        (sections.RetrySection, retry),
        (sections.RateLimitSection, rate_limited),
        (sections.CircuitBreakerSection, circuit_breaker),
        (sections.BulkheadSection, bulkhead),
        (sections.CacheSection, ResponseCache),
        (sections.ServerLimitsSection, ServerLimits),
        (sections.IdempotencySection, IdempotencyKey),
        (sections.BearerSection, BearerAuth),
        (sections.APIKeySection, APIKeyAuth),
        (sections.BasicSection, BasicAuth),
        (sections.OAuth2Section, OAuth2ClientCredentials),
    ],
)
def test_the_keys_are_the_arguments_with_their_defaults(section: Any, function: Any) -> None:
    parameters = inspect.signature(function).parameters
    for name, field in section.model_fields.items():
        assert name in parameters
        default = parameters[name].default
        if field.is_required():
            assert default is inspect.Parameter.empty or function is rate_limited
        elif not repr(default).startswith("<Default"):
            assert field.default == default, name


def test_importing_the_package_does_not_import_pydantic() -> None:
    code = (
        "import sys, resilience_httpx; print(any(n.startswith(('pydantic', 'yaml')) for n in sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_paths()
    )
    assert found.stdout == "False\n"


@pytest.mark.parametrize("missing", ["pydantic", "pydantic_settings"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "resilience_httpx._config")
    monkeypatch.delattr(resilience_httpx, "_config")
    with pytest.raises(ImportError, match=r'pip install "async-resilience\[settings\]"'):
        _ = resilience_httpx.ClientConfig


def test_it_is_among_the_public_names_if_it_can_be_used() -> None:
    code = (
        "import sys; sys.modules['pydantic_settings'] = {extra}; from resilience_httpx import *; "
        "print('ClientConfig' in dir(), 'ResilientClient' in dir())"
    )
    for extra, found in (("None", "False True"), ("__import__('pydantic_settings')", "True True")):
        command = [sys.executable, "-c", code.format(extra=extra)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=_paths())
        assert done.stdout.strip() == found


def test_unknown_names_of_the_package_are_told() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'ClientConfiguration'"):
        _ = resilience_httpx.ClientConfiguration


def test_sections_can_be_given_as_objects() -> None:
    config = ClientConfig(retry=sections.RetrySection(attempts=5), timeout=TimeoutSection(read=1))
    assert config.arguments()["retry"].config.attempts == 5
    assert config.arguments()["timeout"] == (5, 1, 5, 5)
    assert json.loads(config.model_dump_json())["retry"]["attempts"] == 5


def _paths() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
