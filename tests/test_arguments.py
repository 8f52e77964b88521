"""Checks of arguments: every message names the argument, the value and what is allowed."""

from datetime import timedelta
from typing import Any

import pytest

from resilience import _arguments

NOT_NUMBERS = ["1", None, True, [], 1j]


def test_what_is_allowed_is_returned() -> None:
    assert _arguments.seconds("x", timedelta(minutes=1)) == 60
    assert _arguments.seconds("x", 0) == 0
    assert _arguments.number("x", 2.5, at_most=2.5) == 2.5
    assert _arguments.fraction("x", 1) == 1
    assert _arguments.whole("x", 1) == 1
    assert _arguments.flag("x", False) is False
    assert _arguments.text("x", "name") == "name"
    assert _arguments.function("x", len) is len
    assert _arguments.exception_types("x", ValueError) == (ValueError,)
    assert _arguments.exception_types("x", (KeyError, OSError)) == (KeyError, OSError)
    assert _arguments.instance("x", 1, int, "an int") == 1
    assert _arguments.finite("x", -2.5) == -2.5
    assert _arguments.optional(_arguments.whole, "x", None) is None
    assert _arguments.optional(_arguments.whole, "x", 3) == 3


async def coroutine() -> None:
    """An async function."""


class Asynchronous:
    """An object whose calls are async."""

    async def __call__(self) -> None:
        """See above."""


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_wrong_types(value: Any) -> None:
    with pytest.raises(TypeError, match="^x must be a finite number, got"):
        _arguments.finite("x", value)
    for check in (_arguments.seconds, _arguments.number, _arguments.fraction, _arguments.whole):
        with pytest.raises(TypeError, match="x must be .*, got"):
            check("x", value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _arguments.seconds("x", -1), "x must be seconds .* of 0 or more, got -1"),
        (lambda: _arguments.seconds("x", 0, above_zero=True), "x must be seconds .* above 0, got 0"),
        (lambda: _arguments.seconds("x", float("inf")), "x must be seconds .* got inf"),
        (lambda: _arguments.number("x", float("nan")), "x must be a number of 0 or more, got nan"),
        (lambda: _arguments.number("x", 10**400), "x must be a number of 0 or more, got 1000"),
        (lambda: _arguments.finite("x", -(10**400)), "x must be a finite number, got -1000"),
        (lambda: _arguments.finite("x", float("-inf")), "x must be a finite number, got -inf"),
        (lambda: _arguments.optional(_arguments.whole, "x", 0), "x must be a whole number .*, got 0"),
        (lambda: _arguments.fraction("x", 1.1), "x must be a number of 0 or more and at most 1, got 1.1"),
        (
            lambda: _arguments.fraction("x", 0, above_zero=True),
            "x must be a number above 0 and at most 1, got 0",
        ),
        (lambda: _arguments.whole("x", 0), "x must be a whole number of 1 or more, got 0"),
        (lambda: _arguments.text("x", ""), "x must be a string that is not empty, got ''"),
    ],
)
def test_wrong_values(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _arguments.whole("x", 1.0), "x must be a whole number of 1 or more, got 1.0"),
        (lambda: _arguments.flag("x", 1), "x must be True or False, got 1"),
        (lambda: _arguments.text("x", b"a"), "x must be a string that is not empty, got b'a'"),
        (lambda: _arguments.function("x", 3), "x must be a function, got 3"),
        (lambda: _arguments.plain_function("x", 3), "x must be a function that is not async, got 3"),
        (lambda: _arguments.plain_function("x", coroutine), "x must be a function that is not async"),
        (lambda: _arguments.plain_function("x", Asynchronous()), "x must be a function that is not async"),
        (
            lambda: _arguments.exception_types("x", 3),
            "x must be an exception type or a tuple of them, got 3",
        ),
        (lambda: _arguments.exception_types("x", (OSError, int)), "x must be an exception type"),
        (lambda: _arguments.exception_types("x", OSError()), "x must be an exception type"),
        (lambda: _arguments.instance("x", 3, str, "a word"), "x must be a word, got 3"),
    ],
)
def test_wrong_kinds(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
