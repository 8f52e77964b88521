"""What all policies share: what may be decorated, how a decorated function looks, the switch."""

import asyncio
import functools
import inspect
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any
from unittest.mock import AsyncMock

import pytest

from resilience import Policy, cached, inactive, policies, retry, set_active, stack, timeout
from resilience._callables import as_async
from resilience.testing import inject_latency


async def plain(value: int, *, twice: bool = False) -> int:
    """Return the value."""
    return value * 2 if twice else value


class Service:
    """Every kind of method."""

    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    @timeout(1)
    async def method(self, value: int) -> int:
        return value * self.factor

    async def undecorated(self, value: int) -> int:
        """Undecorated."""
        return value

    @classmethod
    @timeout(1)
    async def of_class(cls, value: int) -> tuple[type, int]:
        return cls, value

    @timeout(1)
    @classmethod
    async def of_class_outside(cls, value: int) -> tuple[type, int]:
        return cls, value

    @staticmethod
    @timeout(1)
    async def static(value: int) -> int:
        return value

    @timeout(1)
    @staticmethod
    async def static_outside(value: int) -> int:
        return value

    async def __call__(self, value: int) -> int:
        return value * self.factor


async def test_a_decorated_function_keeps_its_looks() -> None:
    decorated = timeout(1)(plain)
    assert decorated.__name__ == "plain"
    assert decorated.__qualname__ == "plain"
    assert decorated.__doc__ == "Return the value."
    assert decorated.__module__ == __name__
    assert decorated.__wrapped__ is plain
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert inspect.iscoroutinefunction(decorated)
    assert await decorated(2, twice=True) == 4


async def test_methods_class_methods_and_static_methods() -> None:
    service = Service(3)
    assert await service.method(2) == 6
    assert await Service.of_class(2) == (Service, 2)
    assert await service.of_class_outside(2) == (Service, 2)
    assert await Service.static(2) == 2
    assert await service.static_outside(2) == 2
    assert [len(policies(each)) for each in (service.method, Service.of_class, Service.static)] == [1, 1, 1]
    assert len(policies(Service.__dict__["of_class_outside"])) == 1


async def test_above_classmethod_or_staticmethod_it_decorates_the_function_inside() -> None:
    limit = timeout(1)

    class Local:
        @limit
        @classmethod
        async def of_class(cls, value: int) -> tuple[type, int]:
            return cls, value

        @limit
        @staticmethod
        async def static(value: int) -> int:
            return value

    assert [type(Local.__dict__[name]) for name in ("of_class", "static")] == [classmethod, staticmethod]
    assert await Local.of_class(2) == (Local, 2)
    assert await Local().static(2) == 2
    assert policies(Local.of_class) == policies(Local.static) == (limit,)
    assert limit.name.endswith("Local.of_class")
    assert isinstance(retry(classmethod(plain)), classmethod)
    assert isinstance(retry(staticmethod(plain)), staticmethod)


async def test_errors_name_the_function_inside_a_classmethod_and_one_that_is_only_called() -> None:
    class Local:
        @timeout(1)
        @classmethod
        async def late(cls) -> None:
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError, match="Local.late"):
        await Local.late()
    with pytest.raises(TimeoutError, match="slow"):
        await timeout(1).call(slow)


def test_the_order_is_checked_inside_a_classmethod_unless_it_is_switched_off() -> None:
    inside = Labelled("cached")(classmethod(plain))
    with pytest.warns(match="retry is outside cached"):
        Labelled("retry")(inside)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack(Labelled("retry"), check=False)(inside)


async def test_t65_partials_callable_objects_and_marked_functions() -> None:
    assert await timeout(1)(functools.partial(plain, 3))(twice=True) == 6
    assert await timeout(1)(functools.partial(functools.partial(plain, 3), twice=True))() == 6
    decorated = timeout(1)(Service(2))
    assert await decorated(4) == 8
    assert decorated.__name__ == "Service"
    assert await timeout(1)(functools.partial(Service(2), 4))() == 8
    assert await timeout(2)(Service(2).method)(1) == 2


@pytest.mark.parametrize(
    ("function", "name", "qualified", "documentation"),
    [
        (functools.partial(plain, 3), "plain", "plain", plain.__doc__),
        (functools.partial(Service().undecorated, 3), "undecorated", "Service.undecorated", "Undecorated."),
        (Service().undecorated, "undecorated", "Service.undecorated", "Undecorated."),
        (Service(), "Service", "Service", Service.__doc__),
        (functools.partial(Service(), 3), "Service", "Service", Service.__doc__),
    ],
)
def test_partials_methods_and_objects_lend_their_looks(
    function: Any, name: str, qualified: str, documentation: str
) -> None:
    decorated = timeout(1)(function)
    assert (decorated.__name__, decorated.__qualname__) == (name, qualified)
    assert (decorated.__doc__, decorated.__module__) == (documentation, __name__)
    assert decorated.__wrapped__ is function or decorated.__wrapped__ == function
    assert inspect.signature(decorated) == inspect.signature(function)


async def test_t65_a_def_that_is_annotated_to_return_an_awaitable() -> None:
    def future(value: int) -> "asyncio.Future[int]":
        result = asyncio.get_running_loop().create_future()
        result.set_result(value)
        return result

    def coroutine(value: int) -> Coroutine[Any, Any, int]:
        return plain(value)

    def unresolved(value: int) -> "collections.abc.Awaitable[Nothing]":  # noqa: F821
        return plain(value)

    class Local:
        def method(self, value: int) -> Awaitable[int]:
            return plain(value)

    for function in (future, coroutine, unresolved, Local().method):
        assert await timeout(1)(function)(5) == 5


Pending = Awaitable[int]


async def test_t65_an_annotation_may_be_a_text_that_names_an_alias() -> None:
    def function(value: int) -> "Pending":
        return plain(value)

    assert await timeout(1)(function)(5) == 5


@pytest.mark.parametrize(
    "annotation",
    [
        "Awaitable",
        "collections.abc.Awaitable[Unknown]",
        "Awaitable[list[some.Unknown]]",
        "Coroutine[Any, Any, Unknown]",
        "types.CoroutineType[Any, Any, Unknown]",
        "asyncio.Future[Unknown]",
        "Task[Unknown]",
    ],
)
async def test_t65_an_annotation_with_names_for_type_checkers_only(annotation: str) -> None:
    def function(value: int):
        return plain(value)

    function.__annotations__["return"] = annotation
    assert await timeout(1)(function)(5) == 5


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="inspect.markcoroutinefunction is new in Python 3.12"
)
async def test_t65_a_function_marked_as_coroutine_function() -> None:
    def marked(value: int):
        return plain(value)

    inspect.markcoroutinefunction(marked)
    assert await timeout(1)(marked)(5) == 5


async def test_t65_an_async_mock() -> None:
    mock = AsyncMock(return_value=4)
    assert await timeout(1)(mock)(5, twice=True) == 4
    mock.assert_awaited_once_with(5, twice=True)


async def test_t65_singledispatch_over_async_functions() -> None:
    @functools.singledispatch
    async def describe(value: object) -> str:
        return "object"

    @describe.register
    async def _(value: int) -> str:
        return "int"

    decorated = timeout(1)(describe)
    assert (await decorated("x"), await decorated(1)) == ("object", "int")


async def test_a_lambda_is_checked_when_it_is_called() -> None:
    assert await timeout(1)(lambda: plain(7))() == 7
    assert await timeout(1)(lambda value, **options: plain(value, **options))(7, twice=True) == 14
    with pytest.raises(TypeError, match="<lambda> is not async: it returned int"):
        await timeout(1)(lambda: 7)()


def sync_function() -> int:
    return 1


def annotated_sync_function() -> "Nothing[int]":  # noqa: F821
    return 1


def badly_annotated_function() -> "not an expression":  # noqa: F722
    return 1


@functools.wraps(plain)
def blocking(value: int) -> int:
    return value


async def generator() -> AsyncIterator[int]:
    yield 1


class CallsPartial:
    __call__ = functools.partial(sync_function)


class Synchronous:
    def __call__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (sync_function, "sync_function is not async"),
        (annotated_sync_function, "annotated_sync_function is not async"),
        (badly_annotated_function, "badly_annotated_function is not async"),
        (functools.partial(sync_function), "sync_function is not async"),
        (functools.singledispatch(sync_function), "sync_function is not async"),
        (blocking, "plain is not async"),
        (Synchronous(), "Synchronous is not async"),
        (CallsPartial(), "CallsPartial is not async"),
        (Service, "Service is not async"),
        (len, "len is not async"),
        (generator, "generator is an async generator"),
        (functools.partial(generator), "generator is an async generator"),
        (42, "only async callables can be decorated, got 42"),
        (None, "only async callables can be decorated, got None"),
    ],
)
def test_t18_what_is_not_async_is_refused_at_decoration(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        timeout(1)(function)


async def test_call_refuses_the_same_and_works_like_the_decorator() -> None:
    assert await timeout(1).call(plain, 2, twice=True) == 4
    with pytest.raises(TypeError, match="sync_function is not async"):
        await timeout(1).call(sync_function)


async def test_t70_arguments_named_like_ours_belong_to_the_function() -> None:
    async def echo(*args: object, **kwargs: object) -> object:
        return args, kwargs

    names = {"self": 1, "function": 2, "name": 3, "key": 4, "args": 5, "kwargs": 6, "policy": 7}
    assert await stack(timeout(1)).call(echo, 0, **names) == ((0,), names)
    assert await stack(timeout(1))(echo)(0, **names) == ((0,), names)


# --- policies() -------------------------------------------------------------------------------------


async def test_policies_sees_through_other_decorators_partials_and_methods() -> None:
    inner, outer = timeout(1), timeout(2)

    def foreign(function):
        @functools.wraps(function)
        async def wrapper(*args: object) -> object:
            return await function(*args)

        return wrapper

    decorated = outer(foreign(inner(plain)))
    assert policies(decorated) == (outer, inner)
    assert policies(functools.partial(decorated, 1)) == (outer, inner)
    assert policies(foreign(decorated)) == (outer, inner)
    assert policies(plain) == ()
    assert policies(len) == ()
    assert await decorated(3) == 3


def test_t19_a_foreign_wrapper_that_copies_attributes_does_not_claim_our_policy() -> None:
    decorated = timeout(1)(plain)

    def imitation(value: int) -> int:
        return value

    imitation.__dict__.update({k: v for k, v in decorated.__dict__.items() if k != "__wrapped__"})
    assert policies(imitation) == ()


def test_t73_attributes_of_the_function_are_kept_but_not_those_of_an_object() -> None:
    async def marked() -> None: ...

    marked.tag = "mine"
    decorated = timeout(2)(timeout(1)(marked))
    assert decorated.tag == "mine"
    assert decorated.__wrapped__.__wrapped__ is marked
    assert not hasattr(timeout(1)(Service(2)), "factor")


def test_policies_ends_in_a_ring_of_wrapped_functions() -> None:
    async def first() -> None: ...

    async def second() -> None: ...

    first.__wrapped__, second.__wrapped__ = second, first
    assert policies(first) == ()


def test_a_decorated_function_that_is_dropped_is_forgotten() -> None:
    import gc
    import weakref

    async def local() -> None: ...

    gone = weakref.ref(timeout(1)(local))
    gc.collect()
    assert gone() is None


# --- Names ------------------------------------------------------------------------------------------


def test_t71_the_name_is_the_given_one_or_that_of_the_first_use() -> None:
    policy = timeout(1)
    assert policy.name == "timeout"
    policy(plain)
    policy(slow)
    assert policy.name == "plain"
    assert timeout(1, name="github").name == "github"


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (3, TypeError), (b"x", TypeError)])
def test_bad_names(name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="name must be a string that is not empty"):
        timeout(1, name=name)


# --- The switch -------------------------------------------------------------------------------------


async def slow() -> str:
    await asyncio.sleep(10)
    return "ended"


async def test_t68_the_switch_is_process_wide() -> None:
    guarded = timeout(1)(slow)
    set_active(False)
    assert await guarded() == "ended"
    set_active(True)
    with pytest.raises(TimeoutError):
        await guarded()


def test_t68_policies_are_active_from_the_start() -> None:
    from resilience._switch import switch

    fresh = type(switch)()
    assert fresh.active is True
    fresh.add_block(1)
    assert fresh.active is False
    fresh.add_block(-1)
    assert fresh.active is True


async def test_t68_inactive_blocks_nest_and_overlap_and_reach_other_threads() -> None:
    from resilience._switch import switch

    seen: list[bool] = []
    first, second = inactive(), inactive()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    seen.append(switch.active)
    second.__exit__(None, None, None)
    seen.append(switch.active)
    with inactive():
        import threading

        thread = threading.Thread(target=lambda: seen.append(switch.active))
        thread.start()
        thread.join()
        set_active(True)
        seen.append(switch.active)
    with pytest.raises(KeyError), inactive():
        raise KeyError
    assert [*seen, switch.active] == [False, True, False, False, True]


@pytest.mark.parametrize("active", [None, 0, "no"])
def test_the_switch_takes_a_bool(active: Any) -> None:
    with pytest.raises(TypeError, match="active must be True or False"):
        set_active(active)


# --- stack() ----------------------------------------------------------------------------------------


async def test_a_stack_applies_its_policies_outermost_first() -> None:
    outer, inner = timeout(3, name="outer"), timeout(1, name="inner")
    both = stack(outer, inner)
    guarded = both(slow)
    assert policies(guarded) == (outer, inner)
    assert guarded.__wrapped__ is slow
    with pytest.raises(TimeoutError, match="inner"):
        await guarded()
    with pytest.raises(TimeoutError, match="inner"):
        await both.call(slow)
    assert repr(both) == "stack(timeout(3), timeout(1))"


async def test_a_stack_in_a_stack_counts_as_its_policies() -> None:
    one, two, three = timeout(3), timeout(2), timeout(1)
    nested = stack(one, stack(two, three))
    assert nested.policies == (one, two, three)
    assert policies(nested(slow)) == (one, two, three)


async def test_a_stack_on_two_functions_and_its_own_switch() -> None:
    limit = timeout(1)
    both = stack(limit, name="both")
    guarded, other = both(slow), stack(limit)(slow)
    both.enabled = False
    assert await guarded() == "ended"
    with pytest.raises(TimeoutError):
        await other()
    both.enabled = True
    with pytest.raises(TimeoutError, match="both"):
        await guarded()
    with inactive():
        assert await guarded() == "ended"


async def test_a_stack_and_its_policies_are_called_like_the_function_unless_they_have_names() -> None:
    both = stack(timeout(3, name="outer"), timeout(1))
    with pytest.raises(TimeoutError, match="slow"):
        await both(slow)()
    assert both.name == "slow"


async def test_the_layers_of_a_stack_stand_for_the_function_inside() -> None:
    calls: list[int] = []

    async def load(key: int) -> int:
        calls.append(key)
        return key

    shared = stack(cached(), timeout(1), inject_latency(0, enabled=True))
    assert (await shared(load)(1), await shared(load)(1)) == (1, 1)
    assert calls == [1]


async def test_an_empty_stack_changes_nothing() -> None:
    assert await stack()(plain)(1) == 1


def test_a_stack_takes_policies_only() -> None:
    with pytest.raises(TypeError, match="policies must be policies, outermost first, got 5"):
        stack(5)
    with pytest.raises(TypeError, match="check must be True or False"):
        stack(check=1)


# --- The order check --------------------------------------------------------------------------------


class Labelled(Policy):
    """A policy of any kind that does nothing."""

    has_state = True

    def __init__(self, kind: str) -> None:
        super().__init__(None)
        self.kind = kind

    def _wrap(self, function: Any, name: str) -> Any:
        async def wrapper(*args: object, **kwargs: object) -> object:
            return await function(*args, **kwargs)

        return wrapper

    def __repr__(self) -> str:
        return self.kind


DEFEATED = [
    ("cached", "fallback"),
    ("retry", "fallback"),
    ("retry", "cached"),
    ("hedge", "fallback"),
    ("hedge", "cached"),
    ("circuit_breaker", "fallback"),
    ("circuit_breaker", "cached"),
    ("adaptive_throttle", "fallback"),
    ("adaptive_throttle", "cached"),
    ("bulkhead", "cached"),
    ("bulkhead", "retry"),
    ("bulkhead", "hedge"),
    ("rate_limited", "cached"),
    ("rate_limited", "retry"),
    ("rate_limited", "hedge"),
]


@pytest.mark.parametrize(("outer", "inner"), DEFEATED)
def test_an_order_that_defeats_its_purpose_is_told_with_reason_and_mend(outer: str, inner: str) -> None:
    message = f"{outer} is outside {inner}: .* Put {outer} inside {inner} .plain."
    with pytest.warns(match=message) as caught:
        Labelled(outer)(Labelled("other")(Labelled(inner)(plain)))
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(match=message) as caught:
        stack(Labelled(outer), Labelled(inner))(plain)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(("inner", "outer"), DEFEATED)
def test_the_right_order_is_silent_and_so_is_check_false(outer: str, inner: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Labelled(outer)(Labelled(inner)(plain))
        stack(Labelled(outer), Labelled(inner))(plain)
        stack(Labelled(inner), Labelled(outer), check=False)(plain)


def test_the_attempts_of_two_retries_multiply() -> None:
    message = r"retry is outside another retry: their attempts multiply\. Remove one \(plain\)\."
    with pytest.warns(match=message):
        stack(Labelled("retry"), Labelled("timeout"), Labelled("retry"))(plain)
    once = Labelled("retry")
    with pytest.warns() as caught:
        stack(once, once)(plain)
    assert ["the same retry object stands twice" in str(each.message) for each in caught] == [True]


def test_what_is_injected_stands_together_in_any_order() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack(Labelled("inject_errors"), Labelled("inject_latency"), Labelled("inject_result"))(plain)
    with pytest.warns(match="inject_errors is outside timeout"):
        stack(Labelled("inject_errors"), Labelled("timeout"))(plain)


def test_a_problem_further_in_is_told_once() -> None:
    with pytest.warns(match="retry is outside cached"):
        decorated = Labelled("retry")(Labelled("cached")(plain))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Labelled("map_errors")(decorated)


def test_an_inner_time_limit_that_is_not_shorter_never_acts() -> None:
    with pytest.warns(
        match=r"inner time limit \(timeout, 2 s\) is not shorter than the outer \(timeout, 2 s\)"
    ):
        timeout(2)(timeout(2)(plain))


def test_the_same_object_twice_counts_double() -> None:
    twice = Labelled("circuit_breaker")
    with pytest.warns(match="the same circuit_breaker object stands twice"):
        stack(twice, twice)(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack(Labelled("circuit_breaker"), Labelled("circuit_breaker"))(plain)


def test_as_async_returns_the_function_itself() -> None:
    assert as_async(plain) is plain
