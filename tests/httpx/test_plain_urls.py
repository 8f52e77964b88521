"""A URL that is put together quickly is the one that httpx makes, part by part."""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resilience_httpx import ResilientClient, resilient
from resilience_httpx._plain_urls import plain_url

BASES = [
    "",
    "https://api.example.com",
    "https://api.example.com/v1",
    "https://api.example.com:8443/v1/",
    "http://user:p%40ss@127.0.0.1:8000/a%20b/#top",
    "http://[::1]:8000/v1",
    "https://api.example.com/?a=b",
    "https://bücher.example/Ä/",
    "/relative",
]

PARTS = """a Z 0 _ ~ - . .. / // : @ ? # % %41 ä \\ + = & ; ! (
http: https: //x https://h http://H:80 [::1]"""
TEXTS = st.lists(st.sampled_from([*PARTS.split(), "\n"]), max_size=8).map("".join)


def facts(url: Any) -> tuple[Any, ...]:
    shown = (str(url), repr(url), url.scheme, url.userinfo, url.host, url.raw_host, url.port, url.netloc)
    return (*shown, url.path, url.raw_path, url.query, url.fragment, url.is_absolute_url, hash(url))


def outcome(build: Any, text: str) -> Any:
    try:
        url = build("GET", text).url
    except Exception as error:
        return type(error), str(error)
    return type(url), facts(url)


# The fixture that is not reset between examples is the package that they are tried with.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("base", BASES)
@given(text=TEXTS)
@example(text="")
@example(text="/")
@example(text="users")
@example(text="/users/ada")
@example(text="//users")
@example(text="/users/")
@example(text="/users\n")
@example(text="/Users/A.b/~c_d-e")
@example(text="/a/../b")
@example(text="/a/./b")
@example(text="a:b")
@example(text="https://api.example.com/users/ada")
@example(text="HTTPS://API.example.com:443/users")
@example(text="http://example.com:80/users")
@example(text="http://example.com:99999/users")
@example(text="http://1.2.3.4.5/users")
@example(text="http://999.1.1.1/users")
@example(text="http://:80/users")
@example(text="http://a:b:c/users")
@example(text="https://api.example.com")
def test_is_what_httpx_makes(base: str, text: str) -> None:
    plain, ours = httpx.AsyncClient(base_url=base, verify=False), ResilientClient(base, verify=False)
    assert outcome(ours.build_request, text) == outcome(plain.build_request, text)


def test_a_long_one_is_left_to_httpx() -> None:
    base = httpx.URL("https://api.example.com/")
    assert plain_url(base, "/" + "a" * 2_000) is None
    with pytest.raises(httpx.InvalidURL):
        ResilientClient("https://api.example.com").build_request("GET", "/" + "a" * 70_000)


@pytest.mark.parametrize("text", ["/users/ada", "users", "https://api.example.com/users/ada"])
@pytest.mark.parametrize("base", ["https://api.example.com", "https://api.example.com/v1"])
def test_a_plain_one_is_made_here(base: str, text: str) -> None:
    assert plain_url(ResilientClient(base, verify=False).base_url, text) is not None


def test_a_client_that_merges_urls_by_itself_goes_on_to() -> None:
    class Tenant(httpx.AsyncClient):
        def _merge_url(self, url: Any) -> Any:
            return super()._merge_url(f"/tenant-7{url}")

    client = resilient(Tenant(base_url="https://api.example.com", verify=False))
    assert client.build_request("GET", "/users").url == "https://api.example.com/tenant-7/users"


@pytest.mark.parametrize("text", ["/users?x=1", "/a b", "/../a", "", "http://u:p@h/a", "/a%20b", "//a"])
def test_others_are_left_to_httpx(text: str) -> None:
    assert plain_url(httpx.URL("https://api.example.com/"), text) is None


def test_a_url_object_is_left_to_httpx() -> None:
    url = httpx.URL("/users")
    assert plain_url(httpx.URL("https://api.example.com/"), url) is None
    assert (
        ResilientClient("https://a.example/v1").build_request("GET", url).url
        == "https://a.example/v1/users"
    )


def test_a_base_url_that_changes_counts_from_then_on() -> None:
    client = ResilientClient("https://a.example/v1")
    assert client.build_request("GET", "/x").url == "https://a.example/v1/x"
    client.base_url = httpx.URL("https://b.example")
    assert client.build_request("GET", "/x").url == "https://b.example/x"


def test_parameters_are_added() -> None:
    client = ResilientClient("https://a.example/v1", params={"k": "1"})
    assert client.build_request("GET", "/x", params={"a": "b c"}).url == "https://a.example/v1/x?k=1&a=b+c"


def test_a_package_that_parses_otherwise_makes_its_own() -> None:
    class Strange(httpx.URL):
        def __getattribute__(self, name: str) -> Any:
            if name == "_uri_reference":
                raise AttributeError(name)
            return super().__getattribute__(name)

    assert plain_url(Strange.__new__(Strange), "/users") is None
