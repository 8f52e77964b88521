"""`map_errors`: which error becomes which, and what is left as it is."""

import asyncio
import functools
import gc
import traceback
from typing import Any

import pytest

from resilience import (
    MapErrors,
    RateLimitExceededError,
    RejectedError,
    ResilienceError,
    inactive,
    map_errors,
    retry,
    subscribe,
)
from tests.support.virtual_time import settle


class AppError(Exception):
    """The base of the errors of an application."""


class Unavailable(AppError): ...  # noqa: N818 - as users name theirs


class Missing(AppError): ...  # noqa: N818


async def raised(policy: MapErrors, error: BaseException) -> BaseException:
    """Return what leaves a function that raises an error."""

    @policy
    async def fail() -> None:
        raise error

    try:
        await fail()
    except BaseException as caught:
        return caught
    raise AssertionError


# --- Which error becomes which ---


async def test_a_type_becomes_a_type_with_its_text_and_its_cause() -> None:
    error = ConnectionResetError("reset by peer")
    caught = await raised(map_errors({OSError: Unavailable}), error)
    assert type(caught) is Unavailable
    assert caught.args == ("reset by peer",)
    assert caught.__cause__ is error
    assert caught.__suppress_context__


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(), Missing),
        (ConnectionResetError(), Unavailable),
        (ConnectionError(), Unavailable),
        (PermissionError(), AppError),
        (OSError(), AppError),
    ],
)
async def test_the_most_specific_match_wins_whatever_the_order(
    error: Exception, expected: type[Exception], turned: bool
) -> None:
    pairs: list[Any] = [(OSError, AppError), (ConnectionError, Unavailable), (FileNotFoundError, Missing)]
    mapping = dict(reversed(pairs) if turned else pairs)
    assert type(await raised(map_errors(mapping), error)) is expected


async def test_of_several_bases_the_first_in_the_order_of_resolution_wins() -> None:
    class BothError(KeyError, OSError): ...

    class OtherWayError(OSError, KeyError): ...

    policy = map_errors({OSError: Unavailable, KeyError: Missing})
    assert type(await raised(policy, BothError())) is Missing
    assert type(await raised(policy, OtherWayError())) is Unavailable


async def test_a_tuple_of_types() -> None:
    policy = map_errors({(KeyError, IndexError): Missing, (OSError,): Unavailable, LookupError: AppError})
    for error, expected in ((KeyError(), Missing), (IndexError(), Missing), (LookupError(), AppError)):
        assert type(await raised(policy, error)) is expected
    assert type(await raised(policy, TimeoutError())) is Unavailable


async def test_a_type_named_twice_takes_the_first() -> None:
    policy = map_errors({(KeyError, OSError): Missing, OSError: Unavailable})
    assert type(await raised(policy, OSError())) is Missing


async def test_what_is_not_named_is_left_as_it_is() -> None:
    error = KeyError("x")
    assert await raised(map_errors({OSError: Unavailable}), error) is error
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_a_function_makes_the_error_from_the_original() -> None:
    seen: list[BaseException] = []

    class CodedError(Exception):
        def __init__(self, code: int, *, hint: str) -> None:
            super().__init__(f"{code}: {hint}")
            self.code = code

    def make(error: OSError) -> CodedError:
        seen.append(error)
        return CodedError(error.errno or 0, hint="disk")

    error = OSError(28, "full")
    caught = await raised(map_errors({OSError: make}), error)
    assert isinstance(caught, CodedError)
    assert (caught.code, caught.__cause__, seen) == (28, error, [error])


async def test_any_callable_is_a_function() -> None:
    policy = map_errors({OSError: functools.partial(AppError, "a"), KeyError: lambda error: Missing()})
    assert (await raised(policy, OSError("b"))).args[0] == "a"
    assert isinstance(await raised(policy, KeyError()), Missing)


async def test_default_is_for_every_other_exception() -> None:
    policy = map_errors({OSError: Unavailable}, default=AppError)
    assert type(await raised(policy, OSError())) is Unavailable
    assert type(await raised(policy, KeyError())) is AppError
    assert type(await raised(map_errors(default=lambda error: Missing("made")), KeyError())) is Missing
    assert type(await raised(policy, ExceptionGroup("x", [KeyError()]))) is AppError


async def test_errors_of_this_library_are_exceptions_like_any_other() -> None:
    error = RateLimitExceededError(retry_after=2)
    assert await raised(map_errors({OSError: Unavailable}), error) is error
    assert type(await raised(map_errors({RejectedError: Unavailable}), error)) is Unavailable
    assert type(await raised(map_errors({ResilienceError: Unavailable}), error)) is Unavailable
    assert type(await raised(map_errors(default=AppError), error)) is AppError


async def test_an_exception_group_is_an_exception() -> None:
    group = ExceptionGroup("two", [OSError(), KeyError()])
    assert await raised(map_errors({OSError: Unavailable}), group) is group
    assert type(await raised(map_errors({ExceptionGroup: Unavailable}), group)) is Unavailable


async def test_the_bare_form_maps_nothing() -> None:
    error = ConnectionError()

    @map_errors
    async def fail(value: int) -> int:
        if value:
            return value
        raise error

    assert await fail(4) == 4
    with pytest.raises(ConnectionError) as caught:
        await fail(0)
    assert caught.value is error


# --- What is a mapped type already ---


@pytest.mark.parametrize("error", [Unavailable("x"), AppError("x"), Missing("x")])
async def test_what_is_a_mapped_type_already_passes(error: Exception) -> None:
    policy = map_errors({Exception: AppError})
    assert await raised(policy, error) is error
    assert error.__cause__ is None
    assert await raised(map_errors({OSError: Unavailable}, default=AppError), error) is error


async def test_an_error_is_not_mapped_twice_along_a_chain() -> None:
    policy = map_errors({OSError: Unavailable, Unavailable: Missing})
    assert type(await raised(policy, OSError())) is Unavailable
    error = Unavailable()
    assert await raised(policy, error) is error


async def test_a_source_that_is_more_specific_than_a_target_is_still_mapped() -> None:
    policy = map_errors({KeyError: LookupError, OSError: AppError, Missing: Unavailable})
    assert type(await raised(policy, KeyError())) is LookupError
    assert type(await raised(policy, Missing())) is Unavailable
    for error in (IndexError(), Unavailable(), AppError()):
        assert await raised(policy, error) is error


async def test_a_type_mapped_to_itself_is_an_exception_to_a_wider_rule() -> None:
    policy = map_errors({OSError: Unavailable, TimeoutError: TimeoutError}, default=AppError)
    error = TimeoutError()
    assert await raised(policy, error) is error


async def test_two_layers_map_once() -> None:
    @map_errors({Exception: AppError})
    @map_errors({OSError: Unavailable})
    async def fail() -> None:
        raise OSError("disk")

    with pytest.raises(Unavailable) as caught:
        await fail()
    assert isinstance(caught.value.__cause__, OSError)


# --- What is no Exception ---


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_t1_what_is_no_exception_is_never_touched(kind: type[BaseException]) -> None:
    error = kind("x")

    @map_errors({Exception: AppError}, default=AppError)
    async def fail() -> None:
        raise error

    with pytest.raises(kind) as caught:
        fail().send(None)
    assert caught.value is error
    assert error.__cause__ is None


@pytest.mark.parametrize("turns", range(5))
async def test_t2_a_cancellation_in_any_turn_is_a_cancellation(turns: int) -> None:
    @map_errors({Exception: AppError}, default=AppError)
    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await settle(turns)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def test_a_base_exception_group_is_no_exception() -> None:
    group = BaseExceptionGroup("x", [KeyboardInterrupt()])
    assert await raised(map_errors(default=AppError), group) is group


def test_t8_a_coroutine_that_is_closed() -> None:
    @map_errors(default=AppError)
    async def work() -> None:
        await asyncio.Event().wait()

    coroutine = work()
    coroutine.close()


# --- When the new error cannot be made ---


class Demanding(Exception):  # noqa: N818
    def __init__(self, code: int, hint: str) -> None: ...


async def test_t36_a_type_that_cannot_be_made_from_a_text_keeps_the_original_as_cause() -> None:
    error = OSError("disk")
    caught = await raised(map_errors({OSError: Demanding}), error)
    assert type(caught) is TypeError
    assert caught.__cause__ is error
    assert "cannot make a Demanding from the text of a OSError" in str(caught)
    assert "disk" in "".join(traceback.format_exception(caught))


async def test_an_error_without_a_text() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("mute")

    error = MuteError()
    caught = await raised(map_errors({MuteError: AppError}), error)
    assert type(caught) is TypeError
    assert caught.__cause__ is error


@pytest.mark.parametrize("made", [None, "text", ValueError, KeyboardInterrupt()])
async def test_a_function_that_makes_no_exception(made: object) -> None:
    error = OSError("disk")
    caught = await raised(map_errors({OSError: lambda error: made}), error)  # type: ignore[arg-type,return-value]
    assert type(caught) is TypeError
    assert caught.__cause__ is error
    assert f"must return an exception, got {type(made).__name__}" in str(caught)


async def test_t36_a_function_that_raises_does_not_hide_the_original() -> None:
    error = OSError("disk")
    caught = await raised(map_errors({OSError: lambda error: error.missing}), error)
    assert type(caught) is AttributeError
    assert caught.__context__ is error


async def test_a_function_that_raises_the_new_error() -> None:
    def make(error: Exception) -> Exception:
        raise Missing("no") from error

    error = OSError("disk")
    caught = await raised(map_errors({OSError: make}), error)
    assert type(caught) is Missing
    assert caught.__cause__ is error


async def test_a_function_that_returns_the_error_leaves_it() -> None:
    other = await raised(map_errors(), OSError("disk"))
    error = OSError("disk")
    caught = await raised(map_errors({OSError: lambda error: error}), error)
    assert caught is error
    assert len(traceback.extract_tb(error.__traceback__)) == len(traceback.extract_tb(other.__traceback__))
    assert error.__cause__ is None
    assert error.__context__ is None


# --- Chains ---


async def test_t34_an_error_that_contains_the_new_one_makes_no_circle() -> None:
    inner = Missing("inner")

    @map_errors({Unavailable: lambda error: error.__cause__})
    async def fail() -> None:
        raise Unavailable("outer") from inner

    with pytest.raises(Missing) as caught:
        await fail()
    assert caught.value is inner
    seen: set[int] = set()
    left: list[BaseException | None] = [inner]
    while left:
        each = left.pop()
        if each is not None:
            assert id(each) not in seen, "a circle of causes"
            seen.add(id(each))
            left += (each.__cause__, each.__context__)


async def test_t34_a_circle_that_is_there_already_does_not_hang() -> None:
    first, second = OSError("first"), OSError("second")
    first.__cause__, second.__cause__ = second, first
    caught = await raised(map_errors({OSError: Unavailable}), first)
    assert type(caught) is Unavailable
    assert caught.__cause__ is first


async def test_t16_one_instance_returned_again_and_again_does_not_grow() -> None:
    always = AppError("always")
    policy = map_errors({OSError: lambda error: always})
    depths = []
    for _ in range(20):
        assert await raised(policy, OSError()) is always
        depths.append(len(traceback.extract_tb(always.__traceback__)))
    assert set(depths) == {depths[0]}


async def test_t34_an_error_is_freed_with_its_last_reference() -> None:
    import weakref

    policy = map_errors({OSError: Unavailable, KeyError: lambda error: error.__cause__ or Missing()})

    @policy
    async def fail(kind: type[Exception]) -> None:
        raise kind("x")

    async def call(kind: type[Exception]) -> "list[weakref.ref[BaseException]]":
        try:
            await fail(kind)
        except AppError as error:
            return [weakref.ref(error), weakref.ref(error.__cause__)]
        raise AssertionError

    class WeakOSError(OSError): ...

    class WeakKeyError(KeyError): ...

    gc.collect()
    gc.disable()
    try:
        for kind in (WeakOSError, WeakKeyError):
            assert [kept() for kept in await call(kind)] == [None, None]
    finally:
        gc.enable()


async def test_notes_stay_readable_on_the_cause() -> None:
    @map_errors({OSError: Unavailable})
    @retry(attempts=2, wait=0)
    async def fail() -> None:
        raise OSError("disk")

    with pytest.raises(Unavailable) as caught:
        await fail()
    assert "2 attempts" in "".join(traceback.format_exception(caught.value))


async def test_the_context_of_the_original_is_kept() -> None:
    @map_errors({OSError: Unavailable})
    async def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise OSError("second") from None

    with pytest.raises(Unavailable) as caught:
        await fail()
    assert isinstance(caught.value.__cause__.__context__, KeyError)


# --- The policy ---


@pytest.mark.parametrize(
    ("mapping", "default", "error", "match"),
    [
        ("x", None, TypeError, "mapping must be a mapping of errors to errors, such as .*, got 'x'"),
        ([(OSError, AppError)], None, TypeError, "mapping must be a mapping"),
        (
            {"OSError": AppError},
            None,
            TypeError,
            "a key must be an exception type or a tuple of them, got 'OSError'",
        ),
        ({int: AppError}, None, TypeError, "a key must be an exception type .* got <class 'int'>"),
        ({(OSError, 3): AppError}, None, TypeError, "a key must be an exception type"),
        ({((OSError,),): AppError}, None, TypeError, "a key must be an exception type"),
        (
            {(): AppError},
            None,
            ValueError,
            r"a key must be a type of Exception or a tuple of them, got \(\)",
        ),
        (
            {KeyboardInterrupt: AppError},
            None,
            ValueError,
            "a key must be a type of Exception .*KeyboardInterrupt",
        ),
        ({asyncio.CancelledError: AppError}, None, ValueError, "a key must be a type of Exception"),
        ({BaseException: AppError}, None, ValueError, "a key must be a type of Exception"),
        ({(OSError, GeneratorExit): AppError}, None, ValueError, "a key must be a type of Exception"),
        ({OSError: KeyboardInterrupt}, None, TypeError, "mapping: a target must be .*KeyboardInterrupt"),
        ({OSError: int}, None, TypeError, "mapping: a target must be a type of Exception or a function"),
        ({OSError: AppError()}, None, TypeError, "mapping: a target must be"),
        ({OSError: None}, None, TypeError, "mapping: a target must be .* got None"),
        ({}, 3, TypeError, "default: a target must be .* got 3"),
        ({}, BaseException, TypeError, "default: a target must be"),
    ],
)
def test_wrong_arguments_are_named(mapping: Any, default: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        map_errors(mapping, default=default)


def test_an_async_function_as_target_is_refused() -> None:
    async def make(error: Exception) -> Exception:
        return error

    with pytest.raises(TypeError, match="a target must be"):
        map_errors({OSError: make})  # type: ignore[dict-item]


async def test_the_mapping_is_copied_and_frozen() -> None:
    mapping: dict[Any, Any] = {OSError: Unavailable}
    policy = map_errors(mapping)
    mapping[OSError] = Missing
    assert type(await raised(policy, OSError())) is Unavailable
    with pytest.raises(TypeError):
        policy.config.mapping[OSError] = Missing


def test_the_handle() -> None:
    policy = map_errors({OSError: AppError})
    assert isinstance(policy, MapErrors)
    assert (policy.kind, policy.has_state) == ("map_errors", False)
    assert repr(policy) == "map_errors({OSError: AppError})"
    assert repr(map_errors({(OSError, KeyError): Missing}, default=AppError)) == (
        "map_errors({(OSError, KeyError): Missing}, default=AppError)"
    )
    assert repr(map_errors({OSError: Missing, KeyError: AppError})) == (
        "map_errors({OSError: Missing, KeyError: AppError})"
    )
    assert map_errors({}, name="users").name == "users"


async def test_t35_one_policy_on_two_functions_and_switched_off() -> None:
    policy = map_errors({OSError: Unavailable})

    @policy
    async def one() -> None:
        raise OSError

    @policy
    async def two() -> None:
        raise ConnectionError

    for function in (one, two):
        with pytest.raises(Unavailable):
            await function()
    policy.enabled = False
    with pytest.raises(ConnectionError):
        await two()
    policy.enabled = True
    with inactive(), pytest.raises(ConnectionError):
        await two()
    with pytest.raises(Unavailable):
        await policy.call(two)


async def test_t70_arguments_of_any_name_reach_the_function() -> None:
    @map_errors(default=AppError)
    async def work(**more: int) -> dict[str, int]:
        return more

    sent = dict.fromkeys(("self", "mapping", "default", "name", "error", "function", "mapped"), 1)
    assert await work(**sent) == sent


async def test_the_traceback_shows_where_both_came_from() -> None:
    @map_errors({OSError: Unavailable})
    async def fail_here() -> None:
        raise OSError("disk")

    with pytest.raises(Unavailable) as caught:
        await fail_here()
    shown = "".join(traceback.format_exception(caught.value))
    assert "direct cause" in shown
    assert 'raise OSError("disk")' in shown


async def test_no_event_is_sent() -> None:
    seen: list[object] = []
    stop = subscribe(seen.append)
    await raised(map_errors({OSError: Unavailable}), OSError())
    stop()
    assert seen == []
