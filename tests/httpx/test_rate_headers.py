"""Rate-limit headers: the three generations of the IETF's draft and the dialects of the wild."""

import httpx
import pytest

from resilience_httpx._rate_headers import LONGEST_RESET, Quota, exhausted_for, has_quotas, quotas
from resilience_httpx._structured_fields import parse_list

NOW = 1_700_000_000.0
DATE = {"Date": "Tue, 14 Nov 2023 22:13:20 GMT"}  # NOW


def told(unit=None, **headers: str) -> list[tuple[str, float, float]]:
    plain = {name.replace("_", "-"): value for name, value in headers.items()}
    return [tuple(each) for each in quotas(httpx.Headers(plain), NOW, unit)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"default";r=50;t=30', [("default", 50, 30)]),
        ('"burst";r=0;t=5, "day";r=7;t=60', [("burst", 0, 5), ("day", 7, 60)]),
        ("default;r=1;t=2", [("default", 1, 2)]),
        ('"a";t=9;r=1;pk=:dXNlcg==:', [("a", 1, 9)]),
        ('"a";r=1', []),
        ('"a";t=1', []),
        ('"a";r=-1;t=1', []),
        ('"a";r=1;t=-1', []),
        ('"a";r="1";t=1', []),
        ('"a";r=1;t=?1', []),
        ('"a";r=1;t=1,', []),
        ('"a";r=1;t=1 "b"', []),
        ('"a', []),
        ("", []),
        ('("a" "b");r=1;t=1', []),
        ("limit=100, remaining=50, reset=40", [("", 50, 40)]),
        ("reset=40,remaining=0", [("", 0, 40)]),
        ("limit=100, remaining=50", []),
        ("limit=100, remaining=x, reset=1", []),
        ("limit=100, remaining=1, reset=1, other=2", []),
        ("x" * 5000, []),
    ],
)
def test_h4_4_the_single_field(value: str, expected: list) -> None:
    assert told(RateLimit=value) == expected


def test_h4_4_several_lines_are_one_list() -> None:
    headers = httpx.Headers([("RateLimit", '"a";r=1;t=2'), ("RateLimit", '"b";r=3;t=4')])
    assert quotas(headers, NOW) == [Quota("a", 1, 2), Quota("b", 3, 4)]


def test_h4_4_three_fields() -> None:
    fields = {"RateLimit_Limit": "100", "RateLimit_Remaining": "0", "RateLimit_Reset": "50"}
    assert told(**fields) == [("", 0, 50)]


def test_h4_4_github() -> None:
    assert told(
        **DATE,
        X_RateLimit_Limit="60",
        X_RateLimit_Remaining="0",
        X_RateLimit_Reset=str(int(NOW) + 90),
        X_RateLimit_Resource="search",
    ) == [("search", 0, 90)]


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("1s", 1), ("6m0s", 360), ("12ms", 0.012), ("1h2m3.5s", 3723.5), ("20µs", 2e-5), ("0s", 0)],
)
def test_h4_4_openai(reset: str, seconds: float) -> None:
    headers = [
        (b"x-ratelimit-remaining-requests", b"3"),
        (b"x-ratelimit-reset-requests", reset.encode("latin-1")),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"2s"),
    ]
    found = {each.name: each for each in quotas(httpx.Headers(headers), NOW)}
    assert found == {"requests": ("requests", 3, pytest.approx(seconds)), "tokens": ("tokens", 0, 2)}


@pytest.mark.parametrize(
    "reset", ["2023-11-14T22:14:20Z", "2023-11-14T23:14:20+01:00", "2023-11-14T22:14:20"]
)
def test_h4_4_anthropic(reset: str) -> None:
    headers = {
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-limit": "10",
        "anthropic-ratelimit-input-tokens-reset": reset,
    }
    assert quotas(httpx.Headers({**headers, **DATE}), 0) == [Quota("input-tokens", 0, 60)]


def test_h4_4_discord() -> None:
    headers = {
        "X_RateLimit_Remaining": "0",
        "X_RateLimit_Reset": "1470173023.123",
        "X_RateLimit_Reset_After": "64.57",
        "X_RateLimit_Bucket": "abcd1234",
    }
    assert told(**headers) == [("abcd1234", 0, 64.57)]
    assert told(**headers, X_RateLimit_Global="true") == [("", 0, 64.57)]


@pytest.mark.parametrize(
    ("unit", "reset", "seconds"),
    [
        (None, "60", 60),
        (None, "1000000000", LONGEST_RESET),
        (None, "1700000060", 60),
        (None, "1700000060000", 60),
        (None, "Tue, 14 Nov 2023 22:14:20 GMT", 60),
        (None, "1699999999", 0),
        ("seconds", "1700000060", LONGEST_RESET),
        ("milliseconds", "1500", 1.5),
        ("epoch_seconds", "60", 0),
        ("epoch_seconds", "1700000060.5", 60.5),
        ("epoch_milliseconds", "1700000060000", 60),
        (None, "99999999999999999999", LONGEST_RESET),
    ],
)
def test_h4_5_units_of_the_reset(unit, reset: str, seconds: float) -> None:
    headers = {**DATE, "X_Rate_Limit_Remaining": "5", "X_Rate_Limit_Reset": reset}
    assert told(unit, **headers) == [("", 5, pytest.approx(seconds))]


def test_h4_5_an_epoch_is_compared_with_the_date_of_the_response() -> None:
    headers = {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(NOW) + 60)}
    assert told(**headers, Date="Tue, 14 Nov 2023 22:13:50 GMT") == [("", 0, 30)]


@pytest.mark.parametrize(
    "reset",
    ["", "soon", "-5", "+5", "1e3", "inf", "nan", "5, 10", "٣", "1s2", "2023-11-14", "20231114", "9" * 30],
)
def test_h4_4_what_makes_no_sense_is_ignored(reset: str) -> None:
    headers = [(b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", reset.encode())]
    assert quotas(httpx.Headers(headers), NOW) in ([], [Quota("", 0, LONGEST_RESET)])
    assert (quotas(httpx.Headers(headers), NOW) == []) == (reset != "20231114")
    headers = [(b"x-ratelimit-remaining", reset.encode()), (b"x-ratelimit-reset", b"5")]
    assert (quotas(httpx.Headers(headers), NOW) == []) == (reset != "20231114")


def test_h4_4_a_cached_response_tells_nothing() -> None:
    fields = {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "5"}
    assert told(**fields, Age="1") == []
    assert told(**fields, Age="0") == told(**fields, Age="x") == [("", 0, 5)]


def test_what_may_tell_of_a_quota() -> None:
    for name in ("RateLimit", "X-RATELIMIT-Reset", "x-rate-limit-remaining", "anthropic-ratelimit-x-reset"):
        assert has_quotas(httpx.Headers({name: "1"}))
    assert not has_quotas(httpx.Headers({"Content-Type": "text/plain"}))


def test_exhausted_for() -> None:
    assert exhausted_for([]) is None
    assert exhausted_for([Quota("", 1, 9)]) is None
    assert exhausted_for([Quota("", 0, 0)]) == 0
    assert exhausted_for([Quota("", 0.5, 3), Quota("", 0, 4), Quota("", 7, 9)]) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1, 2.5, -3", [("1.0", {}), ("2.5", {}), ("-3.0", {})]),
        ('"a\\"b\\\\c"', [('a"b\\c', {})]),
        ("a;b;c=?0;d=:YQ==:", [("a", {"b": True, "c": False, "d": ":YQ==:"})]),
        ("a; b=1 \t,\t c ", [("a", {"b": 1.0}), ("c", {})]),
        ("a;b=1;b=2", [("a", {"b": 2.0})]),
        ("?1", [("True", {})]),
        ("a;B=1", []),
        ("a;b=", []),
        ("a ;b=1", []),
        ("a,,b", []),
        (",a", []),
        ("1234567890123456", []),
        ("1.", []),
        ('"é"', []),
        ('"a\\b"', []),
        ("   ", []),
    ],
)
def test_h4_4_lists_of_structured_fields(text: str, expected: list) -> None:
    assert parse_list(text) == expected


def test_h4_4_structured_fields_take_linear_time() -> None:
    for text in ('"' * 4096, "a;" * 2048, ", " * 2048, '"\\' * 2000):
        assert parse_list(text) == []
