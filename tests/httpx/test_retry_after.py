"""`Retry-After`: what is read, and what counts as absent."""

import httpx
import pytest

from resilience_httpx._retry_after import LONGEST, retry_after

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def asked(value: str, **headers: str) -> float | None:
    return retry_after(httpx.Headers({"Retry-After": value, **headers}), NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("-1", None),
        ("+5", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("0x10", None),
        ("1_000", None),
        ("1.", None),
        (".5", None),
        ("1.2.3", None),
        ("", None),
        ("soon", None),
        ("120 seconds", None),
        ("1" + "0" * 20, LONGEST),
        ("9" * 5000, LONGEST),
        ("5, 10", None),
        ("2026-01-01T00:00:00Z", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Mon, 31 Feb 2025 10:00:00 GMT", None),
        ("Mon, 99 Foo 2020 25:61:61 GMT", None),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
        ("Sun Nov  6 08:50:07 1994", 30.0),
        ("Sun, 06 Nov 1994 08:50:07", 30.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", 0.0),
        ("Mon, 07 Nov 1994 09:49:37 GMT", 25 * 3600.0),
        ("Thu, 31 Dec 9999 23:59:59 GMT", LONGEST),
    ],
)
def test_t31_values(value: str, seconds: float | None) -> None:
    assert asked(value) == seconds


def test_t31_digits_of_other_scripts_are_no_digits() -> None:
    headers = httpx.Headers([(b"Retry-After", "²".encode())])
    assert retry_after(headers, NOW) is None
    assert retry_after(httpx.Headers([(b"Retry-After", "٣".encode())]), NOW) is None


def test_h4_3_a_date_is_compared_with_the_date_of_the_response() -> None:
    value = "Wed, 21 Oct 2015 07:28:30 GMT"
    assert asked(value, Date="Wed, 21 Oct 2015 07:28:00 GMT") == 30.0


@pytest.mark.parametrize("date", ["nonsense", "Thu, 01 Jan 1970 00:00:10 GMT"])
def test_h4_3_a_date_of_the_response_that_makes_no_sense_is_ignored(date: str) -> None:
    assert asked("Sun, 06 Nov 1994 08:50:07 GMT", Date=date) == 30.0


@pytest.mark.parametrize("name", ["retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after"])
def test_h4_3_milliseconds_win(name: str) -> None:
    assert asked("120", **{name: "1500"}) == 1.5
    assert asked("120", **{name: "soon"}) == 120.0
    assert retry_after(httpx.Headers({name: "250"}), NOW) == 0.25


def test_h4_3_the_longest_of_several_values_counts() -> None:
    headers = httpx.Headers([("Retry-After", "5"), ("Retry-After", "x"), ("Retry-After", "10")])
    assert retry_after(headers, NOW) == 10.0


def test_h4_3_absent() -> None:
    assert retry_after(httpx.Headers(), NOW) is None
