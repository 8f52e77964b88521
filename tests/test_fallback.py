"""`fallback`: when it answers, with what, and what is left as it is."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from resilience import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreakerOpenError,
    Event,
    Fallback,
    RateLimitExceededError,
    circuit_breaker,
    fallback,
    inactive,
    rate_limited,
    retry,
    stack,
    subscribe,
    timeout,
)
from tests.support.virtual_time import now, settle


async def fail(error: BaseException) -> str:
    raise error


# --- What answers ---


@pytest.mark.parametrize("value", [None, "", 0, False, [], {}, "text", object()])
async def test_a_value_answers_as_it_is(value: object) -> None:
    assert await fallback(value)(fail)(OSError()) is value


async def test_a_call_that_succeeds_keeps_its_value_whatever_it_is() -> None:
    @fallback("unused")
    async def give(value: object) -> object:
        return value

    for value in (None, 0, "", ValueError("returned, not raised")):
        assert await give(value) is value


async def from_archive(error: Exception, *args: object, **kwargs: object) -> object:
    await asyncio.sleep(1)
    return error, args, kwargs


def made(error: Exception, *args: object, **kwargs: object) -> object:
    return error, args, kwargs


class Archive:
    async def __call__(self, error: Exception, *args: object, **kwargs: object) -> object:
        return error, args, kwargs

    async def look_up(self, error: Exception, *args: object, **kwargs: object) -> object:
        return error, args, kwargs


def future(error: Exception, *args: object, **kwargs: object) -> "asyncio.Future[object]":
    answer = asyncio.get_running_loop().create_future()
    answer.set_result((error, args, kwargs))
    return answer


@pytest.mark.parametrize(
    "function",
    [
        from_archive,
        made,
        future,
        Archive(),
        Archive().look_up,
        functools.partial(from_archive),
        lambda error, *args, **kwargs: (error, args, kwargs),
        lambda *args, **kwargs: from_archive(*args, **kwargs),
    ],
)
async def test_a_function_gets_the_error_and_then_the_arguments(function: Callable[..., Any]) -> None:
    error = OSError("reset")

    @fallback(function)
    async def call(*args: object, **kwargs: object) -> object:
        raise error

    assert await call(1, "two", three=3) == (error, (1, "two"), {"three": 3})


async def test_t70_an_argument_of_the_call_may_have_any_name() -> None:
    @fallback(made)
    async def call(**kwargs: object) -> object:
        raise OSError

    names = {"error": 1, "function": 2, "value": 3, "self": 4, "on": 5, "name": 6}

    def only(problem: Exception, /, **kwargs: object) -> object:
        return kwargs

    assert await fallback(only)(call.__wrapped__)(**names) == names  # type: ignore[attr-defined]


async def test_a_method_hands_over_its_instance_as_well() -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        def _closed(self, error: Exception, product: str) -> str:
            return f"{self.name} has no {product}: {error}"

        @fallback(lambda error, self, product: self._closed(error, product))
        async def price(self, product: str) -> str:
            raise LookupError("closed")

    assert await Shop("The corner").price("tea") == "The corner has no tea: closed"


async def test_a_class_is_called_like_any_function() -> None:
    class Unknown:
        def __init__(self, error: Exception, login: str) -> None:
            self.text = f"{login}: {error}"

    answer = await fallback(Unknown)(lambda login: fail(OSError("reset")))("bob")
    assert answer.text == "bob: reset"


async def test_the_function_is_not_called_when_the_call_succeeds() -> None:
    calls: list[object] = []
    decorated = fallback(lambda *args: calls.append(args))(asyncio.sleep)
    assert await decorated(1, "fine") == "fine"
    assert calls == []


# --- Which errors ---


class OwnError(OSError):
    """More special than what is named."""


KINDS = (OSError, KeyError, OwnError, StopAsyncIteration)


@pytest.mark.parametrize(
    ("on", "answered"),
    [
        (OSError, {OSError, OwnError}),
        (OwnError, {OwnError}),
        ((KeyError, OwnError), {KeyError, OwnError}),
        (Exception, set(KINDS)),
        (BaseException, set(KINDS)),
        (asyncio.CancelledError, set()),
        ((), set()),
        (lambda error: isinstance(error, KeyError), {KeyError}),
        (lambda error: error.args == ("x",), set(KINDS)),
        (lambda error: "truthy", set(KINDS)),
        (lambda error: 0, set()),
    ],
)
async def test_on_names_types_or_is_a_predicate(on: Any, answered: set[type[Exception]]) -> None:
    decorated = fallback("answer", on=on)(fail)
    for kind in KINDS:
        error = kind("x")
        if kind in answered:
            assert await decorated(error) == "answer"
            continue
        with pytest.raises(kind) as caught:
            await decorated(error)
        assert caught.value is error
        assert (error.__context__, error.__cause__) == (None, None)


async def test_by_default_every_exception_is_answered() -> None:
    for error in (Exception("any"), TimeoutError(), CallTimeoutError(), AssertionError()):
        assert await fallback(5)(fail)(error) == 5


@pytest.mark.parametrize(
    "error", [BulkheadFullError(), RateLimitExceededError(), CircuitBreakerOpenError()]
)
async def test_a_rejection_is_answered_too(error: Exception) -> None:
    assert await fallback("calm")(fail)(error) == "calm"


async def test_policies_further_in_may_refuse_or_cut_off() -> None:
    breaker = circuit_breaker(failure_threshold=1)
    breaker.force_open()
    assert await fallback(1)(breaker(fail))(OSError()) == 1
    limited = fallback("later")(rate_limited(1, max_wait=0)(asyncio.sleep))
    assert [await limited(0, "now"), await limited(0, "now")] == ["now", "later"]
    assert await fallback("late")(timeout(1)(asyncio.sleep))(5, "in time") == "late"
    assert await fallback("after all")(retry(attempts=3, wait=1)(fail))(OSError()) == "after all"
    assert now() == 3


@pytest.mark.parametrize("leave", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("on", [BaseException, (BaseException, OSError), lambda error: True])
def test_t1_what_is_no_exception_is_never_answered_and_never_shown(leave: Any, on: Any) -> None:
    seen: list[object] = []
    predicate = on if not callable(on) or isinstance(on, type) else lambda error: seen.append(error) or True

    async def main() -> str:
        try:
            await fallback("answer", on=predicate)(fail)(leave("out"))
        except leave as error:
            return str(error)
        raise AssertionError

    assert asyncio.run(main()) == "out"
    assert seen == []


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_in_any_turn_it_does_not_answer(turns: int) -> None:
    answers: list[int] = []

    async def slow_answer(error: Exception) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answers.append(1)

    @fallback(slow_answer)
    async def call() -> None:
        await asyncio.sleep(0)
        raise OSError

    task = asyncio.create_task(call())
    await settle(turns)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == (turns < 4), turns
    assert len(answers) == (turns >= 4)


# --- Errors of the fallback ---


async def test_a_function_that_fails_raises_its_own_error_with_the_original_as_context() -> None:
    original, own = OSError("first"), KeyError("second")

    async def broken(error: Exception, *args: object) -> None:
        raise own

    def broken_at_once(error: Exception, *args: object) -> None:
        raise own

    for function in (broken, broken_at_once):
        own.__context__ = None
        with pytest.raises(KeyError) as caught:
            await fallback(function)(fail)(original)
        assert caught.value is own
        assert own.__context__ is original
        assert not own.__suppress_context__


async def test_a_function_may_raise_the_original_again() -> None:
    def pass_on(error: Exception, *args: object) -> None:
        raise error

    def pass_on_bare(error: Exception, *args: object) -> None:
        raise  # it runs inside of the handler

    original = OSError("first")
    for function in (pass_on, pass_on_bare):
        with pytest.raises(OSError, match="first") as caught:
            await fallback(function)(fail)(original)
        assert caught.value is original
        assert original.__context__ is None


async def test_a_predicate_that_fails_raises_its_own_error() -> None:
    original = OSError("first")
    with pytest.raises(ZeroDivisionError) as caught:
        await fallback(1, on=lambda error: 1 / 0)(fail)(original)
    assert caught.value.__context__ is original


# --- Chains ---


async def test_fallbacks_chain_outwards() -> None:
    seen: list[Exception] = []

    def from_memory(error: Exception) -> str:
        seen.append(error)
        return "from memory"

    async def from_disk(error: Exception) -> str:
        seen.append(error)
        raise KeyError("not on disk")

    @fallback(from_memory)
    @fallback(from_disk)
    async def fetch() -> str:
        raise OSError("not in the net")

    assert await fetch() == "from memory"
    assert [str(error) for error in seen] == ["not in the net", "'not on disk'"]
    assert seen[1].__context__ is seen[0]


async def test_a_function_may_have_a_fallback_of_its_own() -> None:
    @fallback("the last resort")
    async def from_disk(error: Exception, name: str) -> str:
        raise KeyError(name)

    assert await fallback(from_disk)(lambda name: fail(OSError()))("a") == "the last resort"


async def test_an_inner_answer_is_a_success_for_the_outer() -> None:
    @fallback("outer")
    @fallback("inner", on=OSError)
    async def call(error: Exception) -> str:
        raise error

    assert await call(OSError()) == "inner"
    assert await call(KeyError()) == "outer"


# --- Events, the switch, configuration ---


async def test_the_original_stays_visible_as_an_event(events: list[Event]) -> None:
    class SecretError(Exception):
        """Its text must not be told."""

    @fallback(None, name="page")
    async def call() -> None:
        raise SecretError("password")

    await call()
    (event,) = events
    assert (event.kind, event.policy, event.name) == ("fallback.used", "fallback", "page")
    assert dict(event.attributes) == {"error": SecretError.__qualname__}
    assert "password" not in repr(event)


async def test_the_event_comes_before_the_answer_and_only_for_errors_that_are_meant(
    events: list[Event],
) -> None:
    def broken(error: Exception, *args: object) -> None:
        assert [event.name for event in events] == ["fail"]
        raise KeyError

    decorated = fallback(broken, on=OSError)(fail)
    with pytest.raises(ValueError, match="other"):
        await decorated(ValueError("other"))
    assert events == []
    with pytest.raises(KeyError):
        await decorated(OSError())
    assert [event.kind for event in events] == ["fallback.used"]


async def test_t72_a_listener_that_raises_does_not_change_the_answer() -> None:
    unsubscribe = subscribe(lambda event: 1 / 0)
    try:
        assert await fallback(1)(fail)(OSError()) == 1
    finally:
        unsubscribe()


async def test_switched_off_the_error_comes_through() -> None:
    policy = fallback("answer")
    decorated = policy(fail)
    policy.enabled = False
    with pytest.raises(OSError, match="real"):
        await decorated(OSError("real"))
    with pytest.raises(OSError, match="real"):
        await policy.call(fail, OSError("real"))
    policy.enabled = True
    assert await policy.call(fail, OSError()) == "answer"
    with inactive(), pytest.raises(OSError, match="real"):
        await decorated(OSError("real"))
    assert await decorated(OSError()) == "answer"


async def test_in_a_stack() -> None:
    policy = stack(fallback(made), retry(attempts=2, wait=0))
    error = OSError()
    assert await policy(fail)(error) == (error, (error,), {})


def test_it_shows_its_arguments() -> None:
    assert repr(fallback(None)) == "fallback(None)"
    assert repr(fallback(from_archive, on=OSError)) == "fallback(from_archive, on=OSError)"
    assert repr(fallback(0.5, on=(OSError, KeyError))) == "fallback(0.5, on=(OSError, KeyError))"
    assert repr(fallback(False)) == "fallback(False)"
    assert repr(fallback("s3cret")) == "fallback(<str>)"
    assert repr(fallback(["s3cret"] * 9)) == "fallback(<list>)"
    assert repr(fallback(Archive)) == "fallback(Archive)"
    policy = fallback("x", name="pages")
    assert isinstance(policy, Fallback)
    assert policy.kind == "fallback"
    assert not policy.has_state
    assert policy.name == "pages"
    assert policy.config.value_or_function == "x"
    assert policy.config.on is Exception
    assert policy.config == fallback("x").config
    with pytest.raises(AttributeError):
        policy.config.on = OSError  # type: ignore[misc]


async def a_coroutine() -> None: ...


@pytest.mark.parametrize("on", [None, 5, "OSError", (OSError, 5), [OSError], int, a_coroutine, Archive()])
def test_a_wrong_on_is_told(on: Any) -> None:
    with pytest.raises(TypeError, match=r"^on must be .*, got ") as caught:
        fallback(None, on=on)
    assert repr(on) in str(caught.value)


async def test_t30_an_awaitable_is_no_value() -> None:
    answer = asyncio.get_running_loop().create_future()
    coroutine = a_coroutine()
    for value in (answer, coroutine):
        kind = type(value).__name__
        with pytest.raises(
            TypeError,
            match=f"^value_or_function must be a value or a function that makes one, got a {kind}$",
        ):
            fallback(value)
    coroutine.close()


async def test_what_can_be_called_is_a_function_even_if_it_could_be_awaited() -> None:
    class Both(Archive):
        def __await__(self) -> Any:
            raise AssertionError

    error = OSError()
    assert await fallback(Both())(fail)(error) == (error, (error,), {})


@pytest.mark.parametrize("name", [5, ""])
def test_a_wrong_name_is_told(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="name must be"):
        fallback(None, name=name)


def test_it_needs_an_answer() -> None:
    with pytest.raises(TypeError):
        fallback()  # type: ignore[call-overload]


def test_only_async_functions_can_be_decorated() -> None:
    async def generator() -> AsyncIterator[int]:
        yield 1

    for function in (made, generator):
        with pytest.raises(TypeError):
            fallback(None)(function)  # type: ignore[arg-type]
