"""What makes two calls the same call: the keys of `cached`.

The default key is the bound arguments with their types: ``1``, ``1.0`` and ``True`` are three keys, inside
of tuples and frozensets too (inside of any other object, an item counts as what it equals); positional and
keyword spelling are one, and defaults are filled in. Python's own call machinery does the binding: for
each function a key function with the very same parameters is generated. It takes 0.1 µs, a quarter of a
hit; ``inspect.Signature.bind`` alone takes ten hits. An instance whose method is cached is represented by a
token, which does not keep it alive.

A store outside of the process needs text: there the key is spelled out, and only values that have one
exact spelling are accepted.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from inspect import Parameter
from typing import Any, cast
from weakref import WeakKeyDictionary

from resilience._by_identity import ByIdentity
from resilience._cache_types import CONTAINERS, items_of, type_of, types_of
from resilience._callables import full_name, qualified_name

KeyFunction = Callable[..., Hashable]


class CallKeys:
    """The keys of the calls of one function.

    Attributes:
        make: Called with the arguments of a call, returns its key. The first item of a key is the
            token of the function, or a pair of that and the token of the instance. `exact` replaces it.
        token: Stands for the function in the keys of this process.
    """

    def __init__(
        self,
        make: KeyFunction,
        token: Hashable,
        *,
        make_exact: KeyFunction | None = None,
        is_own: bool = False,
    ) -> None:
        self.make = make
        self._make_exact = make_exact
        self.token = token
        self._is_own = is_own

    def make_hashed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Return the key of a call after a check that it can be one."""
        key = self.make(*args, **kwargs)
        try:
            hash(key)
        except TypeError:
            self.check(args, kwargs)
            raise
        return self.exact(key, args, kwargs)

    def exact(self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Return the key to store under, from one that was made: they differ if an argument is a container.

        From the first such call of a function on, all its keys are made that way, which is slower; the
        keys of other calls stay the same. Functions that never have such arguments do not pay for it.
        """
        if self._make_exact is None or CONTAINERS.isdisjoint(cast("tuple[object, ...]", key)):
            return key
        self.make = self._make_exact
        return self.make(*args, **kwargs)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise an error that names what cannot be hashed in the key of a call, if something cannot."""
        if self._is_own:
            _, result = cast("tuple[object, object]", self.make(*args, **kwargs))
            _check_hashable("the result of key=", result)
            return
        for name, value in _bound(inspect.signature(self.make), args, kwargs):
            if name not in _INSTANCE:
                _check_hashable(f"the argument {name!r}", value)


class Keys:
    """The keys of all functions that one cache guards; safe for several threads.

    Args:
        key: The user's function that makes them, if there is one.
        is_text: Whether they must be text.
        on_instance_death: Called with the token of an instance that is gone.
    """

    def __init__(
        self, key: KeyFunction | None, *, is_text: bool, on_instance_death: Callable[[Hashable], None]
    ) -> None:
        self._key = key
        self._is_text = is_text
        self._instances: ByIdentity[Hashable] = ByIdentity(lambda _: object(), on_instance_death)
        self._functions: ByIdentity[CallKeys] = ByIdentity(self._make)
        self._lock = threading.Lock()
        # An ordered set of what the wrappers, and `_functions`, keep alive.
        self._all: WeakKeyDictionary[CallKeys, None] = WeakKeyDictionary()

    def of_function(self, function: Callable[..., object]) -> CallKeys:
        """Return the keys of a function; the same ones each time, as long as the function lives."""
        if inspect.ismethod(function) and not self._is_text:
            # A bound method is a new object each time; what it is made of stays.
            its_own = self.of_function(function.__func__).token, self._instances.of(function.__self__)
            return self._make(function, its_own)
        with suppress(TypeError):  # nobody tells when it is gone: it has its entries per decoration
            return self._functions.of(function)
        return self._make(function)

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Hashable]:
        """Return the keys of a call, of each function that can be called like this.

        Raises:
            TypeError: If there are functions, but none that can.
        """
        found: list[Hashable] = []
        refused: TypeError | None = None
        with self._lock:
            functions = list(self._all)
        for keys in functions:
            try:
                found.append(keys.make_hashed(args, kwargs))
            except TypeError as error:
                refused = error
        if refused is None or found:
            return found
        try:
            raise refused
        finally:
            del refused  # it refers to this frame, by the traceback

    def _make(self, function: Callable[..., object], token: Hashable = None) -> CallKeys:
        token = object() if token is None else token
        if self._is_text:
            keys = _text_keys(function, self._key)
        elif self._key is not None:
            keys = _own_keys(self._key, token)
        else:
            keys = _argument_keys(function, token, self._instance_token)
        with self._lock:
            self._all[keys] = None
        return keys

    def _instance_token(self, instance: object) -> Hashable:
        try:
            return self._instances.of(instance)
        except TypeError as error:
            raise TypeError(
                f"a cached method cannot tell when its {type(instance).__qualname__} is gone: add "
                "'__weakref__' to the __slots__ of the class (a dataclass: weakref_slot=True), or give "
                "cached() a key= function"
            ) from error


def _own_keys(key: KeyFunction, token: Hashable) -> CallKeys:
    """Return keys that the user's function makes."""

    def make(*args: object, **kwargs: object) -> Hashable:
        return token, key(*args, **kwargs)

    return CallKeys(make, token, is_own=True)


def _argument_keys(
    function: Callable[..., object], token: Hashable, instance_token: Callable[[object], Hashable]
) -> CallKeys:
    """Return keys made of the bound arguments and their types, without the instance of a method."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    mark = "_" * max(
        (len(each.name) for each in parameters), default=0
    )  # with a word: longer than each name
    parts = [_part(each, mark) for each in parameters]
    if is_method(function):
        parts[0] = f"({mark}token, {mark}instance({parameters[0].name}))"
    else:
        parts.insert(0, f"{mark}token")
    names: dict[str, object] = {
        f"{mark}token": token,
        f"{mark}instance": instance_token,
        f"{mark}type": type,
        f"{mark}types": types_of,
        f"{mark}items": items_of,
    }

    def generate(names: dict[str, object]) -> KeyFunction:
        make: Any = eval(f"lambda {_listed(signature)}: ({', '.join(parts)},)", names)
        defaults = {each.name: each.default for each in parameters if each.default is not Parameter.empty}
        make.__kwdefaults__ = {name: defaults.pop(name) for name in make.__kwdefaults__ or ()}
        make.__defaults__ = tuple(defaults.values())
        make.__name__ = make.__qualname__ = qualified_name(function)  # for a call that cannot bind
        return cast("KeyFunction", make)

    return CallKeys(generate(names), token, make_exact=generate({**names, f"{mark}type": type_of}))


def _text_keys(function: Callable[..., object], key: KeyFunction | None) -> CallKeys:
    """Return keys for a store outside of the process: text, with the function's full name in front.

    Raises:
        TypeError: If the function is a method and there is no ``key``: an instance has no name that
            another process knows it by.
    """
    name = full_name(function)
    if key is None and (is_method(function) or inspect.ismethod(function)):
        raise TypeError(f"{name} is a method: in a store for several processes, cached() needs key=")
    signature = inspect.signature(function)

    def make(*args: object, **kwargs: object) -> str:
        if key is not None:
            return f"{name}:{_spelled('the result of key=', key(*args, **kwargs))}"
        bound = _bound(signature, args, kwargs)
        return f"{name}({', '.join(_spelled(f'the argument {each!r}', value) for each, value in bound)})"

    return CallKeys(make, name)


def instance_of(key: Hashable) -> Hashable | None:
    """Return the token of the instance that a key belongs to, if it is that of a method."""
    token = cast("tuple[object, ...]", key)[0]
    return cast("tuple[Hashable, Hashable]", token)[1] if isinstance(token, tuple) else None


def is_method(function: Callable[..., object]) -> bool:
    """Whether its first parameter is the instance, or class, that it is called on."""
    in_class = "." in qualified_name(function).rpartition("<locals>.")[2]
    return in_class and next(iter(inspect.signature(function).parameters), "") in _INSTANCE


_INSTANCE = frozenset({"self", "cls"})


def _listed(signature: inspect.Signature) -> str:
    """Spell parameters as in a ``def``, with ``None`` for each default: those cannot be spelled."""
    plain = [
        each.replace(
            annotation=Parameter.empty,
            default=each.default if each.default is Parameter.empty else None,
        )
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(plain))[1:-1]


def _part(parameter: Parameter, mark: str) -> str:
    """Spell what a key contains of an argument."""
    name = parameter.name
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return f"{name}, {mark}types({name})"
    if parameter.kind is Parameter.VAR_KEYWORD:
        return f"{mark}items({name})"
    return f"{name}, {mark}type({name})"


def _check_hashable(name: str, value: object) -> None:
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(
            f"{name} is not hashable, it is a {type(value).__name__}: pass a hashable value, or give "
            "cached() a key= function that returns one"
        ) from error


def _bound(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterable[tuple[str, object]]:
    """Yield the arguments of a call under the names of their parameters, in an order of their own."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is Parameter.VAR_KEYWORD:
            for each in sorted(value):
                yield name, each
                yield name, value[each]
        else:
            yield name, value


_EXACT = frozenset({str, bytes, int, float, bool, type(None)})


def _spelled(name: str, value: Any) -> str:
    """Spell a value such that no other value is spelled alike, in any process."""
    kind = cast("type[object]", type(value))
    if kind in _EXACT:
        return repr(value)
    if kind is tuple:
        return f"({''.join(_spelled(name, each) + ',' for each in value)})"
    if kind is frozenset:
        return f"{{{''.join(sorted(_spelled(name, each) + ',' for each in value))}}}"
    raise TypeError(
        f"{name} is a {kind.__qualname__}, which has no exact spelling for the key of a shared store: give "
        "cached() a key= function that returns text, numbers, or a tuple of them"
    )
