"""What makes two calls the same call."""

import asyncio
import dataclasses
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from resilience import Cached, cached, policies, retry, stack


class Recorder:
    """A cached function that records each call it really gets."""

    def __init__(self, policy: Cached) -> None:
        self.calls: list[Any] = []

        @policy
        async def load(login: Any, page: Any = 1, *rest: Any, deep: Any = False, **options: Any) -> int:
            self.calls.append((login, page, rest, deep, options))
            return len(self.calls)

        self.load = load


async def test_t43_all_spellings_of_a_call_are_one_key() -> None:
    record = Recorder(cached())
    load = record.load
    assert await load("bob") == await load(login="bob") == await load("bob", 1) == await load("bob", page=1)
    assert await load(page=1, login="bob", deep=False) == await load("bob", deep=False) == 1
    assert len(record.calls) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1,), (1.0,)),
        ((1,), (True,)),
        ((0,), (False,)),
        ((1,), ("1",)),
        (("a",), (b"a",)),
        ((None,), ("None",)),
        (("a", 1), ("a", True)),
        (("a,b",), ("a", "b")),
        (("a", 1, 2), ("a", 1, 2.0)),
        (("a", 1), ("a", 1, 1)),
        (((1, 2),), (1, 2)),
        (((1,),), ((True,),)),
        (((1, (2.0, 3)),), ((1, (2, 3)),)),
        (((),), (frozenset(),)),
        ((frozenset({1}),), (frozenset({True}),)),
        ((frozenset({(1,), "a"}),), (frozenset({(1.0,), "a"}),)),
        (((frozenset({0}),),), ((frozenset({False}),),)),
        (("a", 1, (1,)), ("a", 1, (True,))),
        (("a", 1, 2, frozenset({1})), ("a", 1, 2, frozenset({1.0}))),
    ],
)
async def test_t43_calls_that_differ_have_different_keys(first: Any, second: Any) -> None:
    record = Recorder(cached())
    assert [await record.load(*first), await record.load(*second)] == [1, 2]
    assert [await record.load(*first), await record.load(*second)] == [1, 2]


async def test_t43_types_inside_of_tuples_and_frozensets_count_in_every_kind_of_argument() -> None:
    record = Recorder(cached())
    load = record.load
    different: list[Any] = [(1,), (True,), (1.0,), frozenset({1}), frozenset({True})]
    for value in different:
        await load(value)
        await load("a", deep=value)
        await load("a", 1, value)
        await load("a", option=value)
    assert len(record.calls) == 4 * len(different)
    for value in different:
        await load(login=value)
        await load("a", deep=value)
        await load("a", 1, value)
        await load("a", option=value)
    assert len(record.calls) == 4 * len(different)
    await load(((1, frozenset({"b", "a"})),))
    await load(((1, frozenset({"a", "b"})),))
    assert len(record.calls) == 4 * len(different) + 1


async def test_t43_a_type_as_an_argument_is_an_argument_like_others() -> None:
    record = Recorder(cached())
    assert [await record.load(tuple), await record.load(frozenset), await record.load(type)] == [1, 2, 3]
    assert [await record.load(tuple), await record.load(frozenset), await record.load(type)] == [1, 2, 3]


async def test_t43_calls_with_tuples_hit_are_used_and_are_invalidated() -> None:
    policy = cached(maxsize=2, tags=lambda key: "t")
    calls: list[object] = []

    @policy
    async def load(key: object) -> int:
        calls.append(key)
        number = len(calls)
        await asyncio.sleep(1)
        return number

    assert await asyncio.gather(load((1,)), load((True,)), load((1,))) == [1, 2, 1]
    assert [await load((1,)), await load((1,))] == [1, 1]
    info = policy.info()
    assert (info.hits, info.misses, info.coalesced) == (2, 2, 1)
    assert await load("new") == 3
    assert await load((1,)) == 1, "the one that was used last stays"
    policy.invalidate((True,))
    assert await load((1,)) == 1
    policy.invalidate((1,))
    assert await load((1,)) == 4
    policy.invalidate_tag("t")
    assert policy.info().size == 0


async def test_a_hit_with_a_tuple_is_as_straight_as_others_once_one_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = Recorder(cached())
    await record.load(1)
    await record.load((1,))
    monkeypatch.delattr(record_policy(record)._loads, "_store")  # what is not at hand would need it
    assert [await record.load((1,)), await record.load(1), await record.load(login=(1,))] == [2, 1, 2]


async def test_t43_an_unhashable_item_of_a_tuple_is_named_by_its_argument() -> None:
    record = Recorder(cached())
    with pytest.raises(TypeError, match="argument 'login' is not hashable, it is a tuple"):
        await record.load((1, [2]))
    with pytest.raises(TypeError, match="argument 'login' is not hashable, it is a tuple"):
        record_policy(record).invalidate((1, [2]))


def record_policy(record: Recorder) -> Cached:
    (policy,) = policies(record.load)
    assert isinstance(policy, Cached)
    return policy


async def test_t43_keyword_arguments_have_no_order_but_types() -> None:
    record = Recorder(cached())
    assert await record.load("a", x=1, y=2) == await record.load("a", y=2, x=1) == 1
    assert await record.load("a", x=1, y=2.0) == 2
    assert await record.load("a", y=1, x=2) == 3
    assert await record.load("a", deep=1) == 4
    assert await record.load("a", deep=True) == 5


async def test_t43_equal_reprs_are_no_key() -> None:
    class Plain:
        def __repr__(self) -> str:
            return "plain"

    record = Recorder(cached())
    first, second = Plain(), Plain()
    assert [await record.load(first), await record.load(second), await record.load(first)] == [1, 2, 1]


async def test_t43_an_address_that_is_used_again_is_another_key() -> None:
    record = Recorder(cached(maxsize=2))
    for number in range(1, 50):
        assert await record.load(object()) == number


async def test_t43_an_unhashable_argument_is_named_with_the_way_out() -> None:
    record = Recorder(cached())
    with pytest.raises(TypeError, match=r"'login' is not hashable.*list: .* a key= .*one$") as caught:
        await record.load(["bob"])
    assert caught.value.__cause__ is not None
    with pytest.raises(TypeError, match="argument 'page'"):
        await record.load("bob", page={})
    with pytest.raises(TypeError, match="argument 'rest'"):
        await record.load("bob", 1, [])
    with pytest.raises(TypeError, match=r"argument 'options'.*set"):
        await record.load("bob", extra=set())
    assert record.calls == []


async def test_an_unhashable_default_is_named() -> None:
    @cached()
    async def load(names: Any = []) -> int:  # noqa: B006
        return 1

    with pytest.raises(TypeError, match="argument 'names'"):
        await load()


async def test_an_argument_of_moody_hash_gets_its_own_error() -> None:
    class Moody:
        moods: list[str]

        def __hash__(self) -> int:
            if self.moods:
                raise TypeError(self.moods.pop())
            return 1

    for policy in (cached(), cached(key=lambda login: login)):
        record = Recorder(policy)
        moody = Moody()
        for call in (policy.invalidate, record.load):
            moody.moods = ["not today"]
            with pytest.raises(TypeError, match="not today"):
                await call(moody)  # type: ignore[operator]
            assert record.calls == []


async def test_an_unhashable_argument_of_a_method_is_named() -> None:
    class Service:
        @cached()
        async def get(self, login: object) -> None: ...

    with pytest.raises(TypeError, match="argument 'login' is not hashable, it is a list"):
        await Service().get([])


async def test_a_type_error_while_comparing_keys_is_the_arguments_own() -> None:
    class Odd:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise TypeError("cannot compare")

    record = Recorder(cached())
    await record.load(Odd())
    with pytest.raises(TypeError, match="cannot compare"):
        await record.load(Odd())


async def test_a_call_that_does_not_fit_the_function_fails_like_the_function() -> None:
    @cached()
    async def load(login: str) -> str:
        return login

    with pytest.raises(TypeError, match=r"load\(\) missing 1 required positional argument: 'login'"):
        await load()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        await load("a", x=1)  # type: ignore[call-arg]


async def test_parameter_names_may_be_anything() -> None:
    calls = 0

    @cached()
    async def load(
        _token: int,
        type: int,  # noqa: A002
        __types: int = 3,
        *_items: int,
        token: int = 0,
        **_type: int,
    ) -> int:
        nonlocal calls
        calls += 1
        return calls

    assert await load(1, 2) == await load(1, 2, 3, token=0) == await load(_token=1, type=2) == 1
    assert await load(1, 2, 3, 4, x=5) == 2


async def test_positional_only_and_defaults_by_identity() -> None:
    marker = object()

    @cached()
    async def load(a: int, /, b: object = marker, *, c: object = marker) -> object:
        return b, c

    assert await load(1) == (marker, marker)
    assert await load(1, marker, c=marker) == (marker, marker)
    assert load.__defaults__ is None


async def test_t70_no_argument_of_the_function_is_taken_away() -> None:
    @cached()
    async def load(ttl: int, key: int, self: int, function: int, args: int, kwargs: int) -> tuple[int, ...]:
        return ttl, key, self, function, args, kwargs

    assert await load(ttl=1, key=2, self=3, function=4, args=5, kwargs=6) == (1, 2, 3, 4, 5, 6)


# --- key= -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [0, "", None, False, (), b""])
async def test_falsy_keys_are_keys(key: Any) -> None:
    record = Recorder(cached(key=lambda *args, **kwargs: key))
    assert [await record.load("a"), await record.load("b", 5)] == [1, 1]
    assert len(record.calls) == 1


async def test_key_gets_the_arguments_of_the_call() -> None:
    record = Recorder(cached(key=lambda login, **_: login.lower()))
    assert await record.load("Bob") == await record.load("BOB", page=3) == 1
    assert await record.load("eve") == 2


async def test_an_unhashable_result_of_key_is_named() -> None:
    record = Recorder(cached(key=lambda login, *, page: [page]))
    with pytest.raises(TypeError, match=r"the result of key= is not hashable.*list"):
        await record.load("a", page=2)


async def test_an_error_of_key_reaches_the_caller_and_calls_nothing() -> None:
    record = Recorder(cached(key=lambda login: login.missing))
    with pytest.raises(AttributeError):
        await record.load("a")
    assert record.calls == []


# --- Functions --------------------------------------------------------------------------------------


async def test_entries_are_per_function() -> None:
    policy = cached()
    first, second = Recorder(policy), Recorder(policy)
    assert await first.load("a") == 1
    assert await second.load("a") == 1
    assert len(first.calls) == len(second.calls) == 1
    assert policy.info().misses == 2
    assert policy.info().size == 2


async def test_entries_are_per_function_with_key() -> None:
    policy = cached(key=lambda *args: 1)
    first, second = Recorder(policy), Recorder(policy)
    await first.load("a")
    await second.load("a")
    assert len(first.calls) == len(second.calls) == 1


async def test_call_shares_the_entries_of_a_function_between_calls() -> None:
    calls: list[int] = []

    async def load(number: int) -> int:
        calls.append(number)
        return number

    policy = cached()
    assert [await policy.call(load, 1), await policy.call(load, number=1)] == [1, 1]
    assert await policy(load)(1) == 1
    assert calls == [1]
    lonely = lambda number: load(number)  # noqa: E731
    assert [await policy.call(lonely, 2), await policy.call(lonely, number=2)] == [2, 2]
    assert calls == [1, 2]


async def test_methods_of_one_instance_share_no_entries_though_a_key_is_alike() -> None:
    class Api:
        async def users(self, page: int) -> str:
            return "users"

        async def groups(self, page: int) -> str:
            return "groups"

    policy, api = cached(key=lambda page: page), Api()
    assert await policy.call(api.users, 1) == "users"
    assert await policy.call(api.groups, 1) == "groups"


async def test_call_through_a_stack_shares_them_too() -> None:
    calls: list[int] = []

    async def load(number: int) -> int:
        calls.append(number)
        return number

    policy = cached()
    both = stack(policy, retry(attempts=2))
    assert [await both.call(load, 1), await both.call(load, number=1), await both(load)(1)] == [1, 1, 1]
    assert calls == [1]


async def test_call_does_not_keep_functions() -> None:
    policy = cached()

    async def call() -> "weakref.ref[object]":
        async def load(number: int) -> int:
            return number

        await policy.call(load, 1)
        return weakref.ref(load)

    reference = await call()
    gc.collect()
    assert reference() is None
    assert len(policy._keys._all) == len(policy._keys._functions) == 0


async def test_a_decorated_function_that_calls_itself_is_not_kept() -> None:
    policy = cached()

    async def call() -> "weakref.ref[object]":
        @policy
        async def factorial(number: int) -> int:
            return number * await factorial(number - 1) if number else 1

        assert await factorial(5) == 120
        return weakref.ref(factorial)

    reference = await call()
    gc.collect()
    assert reference() is None


async def test_callable_objects_partials_and_objects_that_cannot_be_weak_keys() -> None:
    class Slotted:
        __slots__ = ("calls",)
        __hash__ = None  # type: ignore[assignment]

        def __init__(self) -> None:
            self.calls = 0

        async def __call__(self, number: int, factor: int = 1) -> int:
            self.calls += 1
            return number

    loader = Slotted()
    policy = cached()
    load = policy(loader)
    assert [await load(1), await load(number=1), await load(1, factor=1)] == [1, 1, 1]
    assert loader.calls == 1
    fixed = policy(functools.partial(Slotted(), 5))
    assert [await fixed(), await fixed(factor=1)] == [5, 5]
    policy.invalidate(1)
    assert await load(1) == 1
    assert loader.calls == 2


async def test_callable_objects_that_are_equal_share_no_entries() -> None:
    class Constant:
        def __init__(self, value: int) -> None:
            self.value = value

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Constant)

        def __hash__(self) -> int:
            return 5

        async def __call__(self) -> int:
            return self.value

    policy = cached()
    one, two = Constant(1), Constant(2)
    assert [await policy(one)(), await policy(two)(), await policy(one)()] == [1, 2, 1]
    assert policy.info().misses == 2


# --- Methods ----------------------------------------------------------------------------------------


class Client:
    """Equal to every other client, and not hashable."""

    policy = cached()

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.calls = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Client)

    __hash__ = None  # type: ignore[assignment]

    @policy
    async def get(self, login: str) -> int:
        self.calls += 1
        return self.answer

    @policy
    async def other(self, login: str) -> int:
        return -self.answer

    @classmethod
    @policy
    async def of_class(cls, number: int) -> str:
        return cls.__name__

    @staticmethod
    @policy
    async def static(number: int) -> int:
        return number


class Special(Client):
    """Shares the class method."""


async def test_t44_instances_do_not_share_entries() -> None:
    one, two = Client(1), Client(2)
    for _ in range(2):
        assert [await one.get("bob"), await two.get("bob"), await one.other("bob")] == [1, 2, -1]
    assert (one.calls, two.calls) == (1, 1)
    assert await one.get(login="bob") == 1
    assert one.calls == 1
    assert [await Client.of_class(1), await Special.of_class(1)] == ["Client", "Special"]
    assert [await Client.static(1), await one.static(2)] == [1, 2]
    Client.policy.reset()


async def test_t44_a_cached_method_does_not_keep_its_instance() -> None:
    client = Client(1)
    await client.get("bob")
    await client.other("bob")
    assert Client.policy.info().size == 2
    reference = weakref.ref(client)
    del client
    assert reference() is None
    assert Client.policy.info().size == 0
    assert {each().__class__ for each, _ in Client.policy._keys._instances._found.values()} <= {type}


async def test_t44_an_address_that_is_used_again_is_another_instance() -> None:
    for number in range(200):
        assert await Client(number).get("bob") == number
    assert Client.policy.info().size == 0


async def test_t44_errors_of_an_instance_go_with_it() -> None:
    policy = cached(error_ttl=60)

    class Service:
        @policy
        async def fail(self) -> None:
            raise LookupError

    service = Service()
    with pytest.raises(LookupError):
        await service.fail()
    assert policy.info().size == 1
    del service
    gc.collect()
    assert policy.info().size == 0


async def test_t44_instances_that_come_and_go_leave_nothing() -> None:
    policy = cached(error_ttl=60, ttl=0)

    class Service:
        @policy
        async def get(self) -> int:
            return 1

    for _ in range(100):
        await Service().get()
    gc.collect()
    assert not policy._keys._instances._found
    for store in (policy._store, policy._loads.errors):
        assert not store._dead_tags
        assert not store._tags._keys


async def test_t44_maxsize_is_in_total() -> None:
    policy = cached(maxsize=3)

    class Service:
        @policy
        async def get(self, number: int) -> int:
            return number

    services = [Service() for _ in range(3)]
    for service in services:
        for number in range(3):
            await service.get(number)
    assert policy.info().size == 3
    assert policy.info().evictions == 6


async def test_t44_a_slotted_instance_gets_a_clear_error() -> None:
    @dataclasses.dataclass(slots=True)
    class Slotted:
        number: int

        @cached()
        async def get(self) -> int:
            return self.number

        @cached(key=lambda self: self.number)
        async def keyed(self) -> int:
            return self.number

    with pytest.raises(
        TypeError, match=r"Slotted.* '__weakref__' .*weakref_slot=True.* cached\(\) a key= "
    ):
        await Slotted(1).get()
    assert await Slotted(1).keyed() == 1

    @dataclasses.dataclass(slots=True, weakref_slot=True)
    class Referable:
        number: int

        @cached()
        async def get(self) -> int:
            return self.number

    assert await Referable(1).get() == 1


async def test_key_of_a_method_decides_whether_instances_share() -> None:
    class Service:
        calls = 0

        @cached(key=lambda self, login: login)
        async def get(self, login: str) -> str:
            Service.calls += 1
            return login

    assert [await Service().get("bob"), await Service().get("bob")] == ["bob", "bob"]
    assert Service.calls == 1


async def test_bound_methods_are_per_instance() -> None:
    class Plain:
        def __init__(self) -> None:
            self.calls = 0

        async def get(self, login: str) -> int:
            self.calls += 1
            return self.calls

    policy = cached()
    one, two = Plain(), Plain()
    assert [await policy.call(one.get, "bob"), await policy.call(one.get, login="bob")] == [1, 1]
    assert await policy.call(two.get, "bob") == 1
    assert (one.calls, two.calls) == (1, 1)
    decorated = policy(one.get)
    assert await decorated("bob") == 1
    policy.invalidate("bob")
    assert await decorated("bob") == 2
    policy.invalidate(one, "bob")
    assert await decorated("bob") == 3
    assert await policy.call(two.get, "bob") == 1


async def test_bound_methods_with_key_do_not_share() -> None:
    class Plain:
        def __init__(self, answer: int) -> None:
            self.answer = answer

        async def get(self, login: str) -> int:
            return self.answer

    policy = cached(key=lambda login: login)
    one, two = Plain(1), Plain(2)
    assert [await policy(one.get)("bob"), await policy(two.get)("bob")] == [1, 2]


async def test_self_outside_of_a_class_is_an_argument_like_others() -> None:
    calls = 0

    class Holder:
        def make(self) -> Callable[..., Any]:
            @cached()
            async def load(self: int) -> int:
                nonlocal calls
                calls += 1
                return self

            return load

    load = Holder().make()
    assert [await load(1), await load(1), await load(self=1)] == [1, 1, 1]
    assert calls == 1


async def test_a_stack_knows_methods_too() -> None:
    policy = cached()

    class Service:
        def __init__(self, answer: int) -> None:
            self.answer = answer

        @stack(policy, retry(attempts=2))
        async def get(self, login: str) -> int:
            return self.answer

    one, two = Service(1), Service(2)
    assert [await one.get("bob"), await two.get(login="bob")] == [1, 2]
    reference = weakref.ref(one)
    del one
    assert reference() is None


async def test_t73_twice_around_one_function_shares_nothing() -> None:
    calls = 0
    outer, inner = cached(), cached()

    @outer
    @inner
    async def load(number: int) -> int:
        nonlocal calls
        calls += 1
        return calls

    assert [await load(1), await load(number=1)] == [1, 1]
    outer.clear()
    assert await load(1) == 1
    inner.clear()
    outer.clear()
    assert await load(1) == 2
    await asyncio.sleep(0)
