"""Functions of the user's that cannot be called as they will be are told when they are given."""

import functools
import operator
import re
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from resilience import (
    AdaptiveLimit,
    Priority,
    adaptive_throttle,
    bulkhead,
    cached,
    circuit_breaker,
    fallback,
    hedge,
    map_errors,
    rate_limited,
    retry,
    stack,
    subscribe,
    timeout,
)


async def find(user: str, page: int = 1) -> str:
    return f"{user} {page}"


# --- Functions of one thing -------------------------------------------------------------------------


def two(first: object, second: object) -> bool:
    return first == second


OF_ONE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "retry on": ("on: error", lambda given: retry(on=given)),
    "retry on_result": ("on_result: value", lambda given: retry(on_result=given)),
    "circuit_breaker on": ("on: error", lambda given: circuit_breaker(on=given)),
    "circuit_breaker ignore": ("ignore: error", lambda given: circuit_breaker(ignore=given)),
    "circuit_breaker on_result": ("on_result: value", lambda given: circuit_breaker(on_result=given)),
    "adaptive_throttle on": ("on: error", lambda given: adaptive_throttle(on=given)),
    "AdaptiveLimit on": ("on: error", lambda given: AdaptiveLimit(on=given)),
    "fallback on": ("on: error", lambda given: fallback(None, on=given)),
    "cached ttl": ("ttl: value", lambda given: cached(ttl=given)),
    "cached condition": ("condition: value", lambda given: cached(condition=given)),
    "cached copy": ("copy: value", lambda given: cached(copy=given)),
    "map_errors": ("mapping: a target: error", lambda given: map_errors({OSError: given})),
    "map_errors default": ("default: a target: error", lambda given: map_errors(default=given)),
    "subscribe": ("listener: event", subscribe),
}


@pytest.mark.parametrize(("call", "give"), OF_ONE.values(), ids=OF_ONE)
def test_a_function_of_one_thing_must_take_it(call: str, give: Callable[[Any], object]) -> None:
    name, what = call.rsplit(": ", 1)
    message = f"^{name} must be callable with one argument, the {what}, got "
    with pytest.raises(TypeError, match=message + re.escape("two(first: object, second: object) -> bool")):
        give(two)
    with pytest.raises(TypeError, match=message + r"test_\S*<lambda>\(\)"):
        give(lambda: True)
    with pytest.raises(TypeError, match=message + r"test_\S*<lambda>\(\*, error\)"):
        give(lambda *, error: error)


@pytest.mark.parametrize(("call", "give"), OF_ONE.values(), ids=OF_ONE)
def test_what_might_take_it_is_taken(call: str, give: Callable[[Any], object]) -> None:
    class Both:
        def takes(self, value: object, more: int = 1) -> bool:
            return bool(value) and more > 0

        def __call__(self, value: object) -> bool:
            return bool(value)

    class Odd:
        __signature__ = "no signature"

        def __call__(self, value: object) -> bool:
            return bool(value)

    given: list[Any] = [
        lambda value: bool(value),
        lambda *values: bool(values),
        functools.partial(two, 1),
        functools.partial(two, second=1),
        Both().takes,
        Both(),
        Odd(),
        Mock(),
        operator.attrgetter("x"),
        operator.not_,
        callable,
        {}.get,
        {1}.__contains__,
    ]
    for each in given:
        stop = give(each)
        if call.startswith("listener"):
            stop()


def test_a_wrapper_of_somebody_elses_is_asked_for_its_own_signature() -> None:
    @functools.wraps(two)
    def wrapper(*args: object) -> bool:
        return two(*args, None)

    retry(on=wrapper)


# --- Functions of the arguments of the call ---------------------------------------------------------

OF_THE_CALL: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "rate_limited key": ("key", lambda given: rate_limited(1, key=given)),
    "rate_limited cost": ("cost", lambda given: rate_limited(1, cost=given)),
    "circuit_breaker key": ("key", lambda given: circuit_breaker(key=given)),
    "adaptive_throttle key": ("key", lambda given: adaptive_throttle(key=given)),
    "bulkhead key": ("key", lambda given: bulkhead(1, key=given)),
    "bulkhead priority": ("priority", lambda given: bulkhead(1, priority=given)),
    "cached key": ("key", lambda given: cached(key=given)),
    "cached tags": ("tags", lambda given: cached(tags=given)),
    "hedge delay": ("delay", hedge),
}


@pytest.mark.parametrize(("name", "give"), OF_THE_CALL.values(), ids=OF_THE_CALL)
def test_a_function_of_the_arguments_must_take_them(name: str, give: Callable[[Any], Any]) -> None:
    message = f"{name} must be callable with the arguments of find(user: str, page: int = 1) -> str, got "
    for wrong, shown in ((lambda: "", "<lambda>()"), (lambda a, b, c: "", "<lambda>(a, b, c)")):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}.*{re.escape(shown)}$"):
            give(wrong)(find)
        with pytest.raises(TypeError, match=re.escape(message)):
            stack(timeout(1), give(wrong))(find)
        with pytest.raises(TypeError, match=re.escape(message)):
            give(wrong)(timeout(1)(find))


@pytest.mark.parametrize(("name", "give"), OF_THE_CALL.values(), ids=OF_THE_CALL)
def test_a_function_that_takes_some_calls_is_taken(name: str, give: Callable[[Any], Any]) -> None:
    given: list[Any] = [
        lambda user: name,
        lambda user, page: name,
        lambda user, page=1: name,
        lambda *, user, page: name,
        lambda *, user: name,
        lambda *args, **kwargs: name,
        functools.partial(two, 1),
        len,
        Mock(),
        operator.itemgetter(0),
    ]
    for each in given:
        give(each)(find)


def test_methods_are_called_with_their_instance() -> None:
    class Users:
        @rate_limited(1, key=lambda self, user: user)
        async def find(self, user: str) -> str:
            return user

        @rate_limited(1, key=lambda kind, user: user)
        @classmethod
        async def of_class(cls, user: str) -> str:
            return user

        @rate_limited(1, key=lambda user: user)
        @staticmethod
        async def static(user: str) -> str:
            return user

        async def plain(self, user: str) -> str:
            return user

    rate_limited(1, key=lambda user: user)(Users().find)
    rate_limited(1, key=lambda user: user)(Users().plain)
    with pytest.raises(
        TypeError, match=r"key must be callable with the arguments of \S*plain\(user: str\)"
    ):
        rate_limited(1, key=lambda self, user: user)(Users().plain)


def test_arguments_are_given_as_the_function_takes_them() -> None:
    async def search(text: str, /, page: int, *, size: int) -> None: ...

    for right in (lambda text, page, size: "", lambda text, *, page, size: "", lambda t, p, *, size: ""):
        rate_limited(1, key=right)(search)
    for wrong in (lambda text, page: "", lambda *, text, page, size: "", lambda text, page, length: ""):
        with pytest.raises(TypeError, match="key must be callable with the arguments of"):
            rate_limited(1, key=wrong)(search)


@pytest.mark.parametrize("kind", ["args", "kwargs"])
def test_a_function_that_may_take_anything_says_nothing(kind: str) -> None:
    async def args(*args: object) -> None: ...
    async def kwargs(user: str, **kwargs: object) -> None: ...

    rate_limited(1, key=lambda a, b, c: 1)({"args": args, "kwargs": kwargs}[kind])


def test_a_wrapper_around_the_function_may_take_other_arguments_than_it_shows() -> None:
    @functools.wraps(find)
    async def with_page(*args: str) -> str:
        return await find(*args, 1)

    rate_limited(1, key=lambda: 1)(with_page)


def test_a_function_whose_signature_is_not_known_says_nothing() -> None:
    class Odd:
        __signature__ = "no signature"

        async def __call__(self, user: str) -> str:
            return user

    rate_limited(1, key=lambda: 1)(Odd())


async def test_a_policy_without_such_functions_looks_at_nothing() -> None:
    assert await retry(timeout(1)(find))("ada") == "ada 1"
    assert bulkhead(1, priority=Priority.LOW)(find)


# --- Fallback ---------------------------------------------------------------------------------------


def test_a_fallback_takes_the_error_and_then_the_arguments() -> None:
    message = "value_or_function must be callable with the error and the arguments of find(user: str, page"
    for wrong in (lambda error: "", lambda error, a, b, c: ""):
        with pytest.raises(TypeError, match=re.escape(message)):
            fallback(wrong)(find)

    class Odd:
        __signature__ = "no signature"

        async def __call__(self, error: Exception, user: str) -> str:
            return user

    async def right(error: Exception, user: str) -> str:
        return user

    for each in (right, Odd(), lambda error, user: "", lambda error, *args: "", lambda *args, **kwargs: ""):
        fallback(each)(find)


# --- Bare -------------------------------------------------------------------------------------------


def test_a_bare_hedge_says_what_is_missing() -> None:
    class Users:
        async def find(self) -> None: ...

    for bare in (find, Users().find, Users.find, classmethod(find), staticmethod(find)):
        with pytest.raises(TypeError, match=r"hedge needs a delay, as in @hedge\(0\.5\); got "):
            hedge(bare)


async def test_a_bare_fallback_says_what_is_missing() -> None:
    message = r"fallback needs a value or a function, as in @fallback\(None\)"
    bare: Any = fallback(find)
    with pytest.raises(TypeError, match=message):
        bare("ada")
    for descriptor in (classmethod(find), staticmethod(find)):
        with pytest.raises(TypeError, match=message):
            fallback(descriptor)

    async def without_arguments() -> None: ...

    with pytest.raises(TypeError, match=message):
        fallback(without_arguments)


@pytest.mark.parametrize("given", [OSError, (OSError, KeyError), [OSError], "x", 3])
def test_errors_to_map_are_a_mapping(given: Any) -> None:
    message = r"^mapping must be a mapping of errors to errors, such as \{OSError: Unavailable\}, got"
    with pytest.raises(TypeError, match=message):
        map_errors(given)
