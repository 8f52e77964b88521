"""What makes two calls the same call: the keys of `cached`.

The default key is the bound arguments with their types: ``1``, ``1.0`` and ``True`` are three keys (an
item inside of a tuple counts as what it equals), positional and keyword spelling are one, and defaults
are filled in. Python's own call machinery does the binding: for each function a key function with the
very same parameters is generated, so a hit pays for one plain call. An instance whose method is cached
is represented by a token, which does not keep it alive.

A store outside of the process needs text: there the key is spelled out, and only values that have one
exact spelling are accepted.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping
from inspect import Parameter
from typing import Any, cast

from resilience._callables import full_name, qualified_name

KeyFunction = Callable[..., Hashable]


class InstanceTokens:
    """A token for each instance, found by identity: instances may be unhashable, or equal.

    Safe for several threads: each step is one operation on a dict.

    Args:
        on_death: Called with the token of an instance that is gone.
    """

    def __init__(self, on_death: Callable[[Hashable], None]) -> None:
        self._tokens: dict[int, tuple[weakref.ref[object], Hashable]] = {}
        self._on_death = on_death

    def of(self, instance: object) -> Hashable:
        """Return the token of an instance.

        Raises:
            TypeError: If the instance cannot be weakly referenced.
        """
        found = self._tokens.get(id(instance))
        return found[1] if found is not None and found[0]() is instance else self._add(instance)

    def _add(self, instance: object) -> Hashable:
        address, token = id(instance), object()

        def forget(_: weakref.ref[object]) -> None:
            # Runs before anything else can get the same address.
            self._tokens.pop(address, None)
            self._on_death(token)

        try:
            reference = weakref.ref(instance, forget)
        except TypeError as error:
            raise TypeError(
                f"a cached method cannot tell when its {type(instance).__qualname__} is gone: add "
                "'__weakref__' to the __slots__ of the class (a dataclass: weakref_slot=True), or give "
                "cached() a key= function"
            ) from error
        return self._tokens.setdefault(address, (reference, token))[1]


class CallKeys:
    """The keys of the calls of one function.

    Attributes:
        make: Called with the arguments of a call, returns its key. The first item of a key is the
            token of the function, or a pair of that and the token of the instance.
        token: Stands for the function in the keys of this process.
    """

    __slots__ = ("__weakref__", "_is_own", "make", "token")

    def __init__(self, make: KeyFunction, token: Hashable, *, is_own: bool = False) -> None:
        self.make = make
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
        return key

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise an error that names what cannot be hashed in the key of a call, if something cannot."""
        if self._is_own:
            _, result = cast("tuple[object, object]", self.make(*args, **kwargs))
            _check_hashable("the result of key=", result)
            return
        bound = inspect.signature(self.make).bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            for each in value.values() if kind is Parameter.VAR_KEYWORD else (value,):
                if name not in _INSTANCE:
                    _check_hashable(f"the argument {name!r}", each)


def own_keys(key: KeyFunction, token: Hashable) -> CallKeys:
    """Return keys that the user's function makes."""

    def make(*args: object, **kwargs: object) -> Hashable:
        return token, key(*args, **kwargs)

    return CallKeys(make, token, is_own=True)


def argument_keys(
    function: Callable[..., object], token: Hashable, instance_token: Callable[[object], Hashable]
) -> CallKeys:
    """Return keys made of the bound arguments and their types, without the instance of a method."""
    parameters = list(_signature(function).parameters.values())
    mark = "_"  # begins the names that are not the function's own
    while any(each.name.startswith(mark) for each in parameters):
        mark += "_"
    names: dict[str, object] = {
        f"{mark}token": token,
        f"{mark}instance": instance_token,
        f"{mark}type": type,
        f"{mark}types": _types,
        f"{mark}items": _items,
    }
    names |= {f"{mark}default_{each.name}": each.default for each in parameters}
    parts = [_part(each).format(each.name, mark=mark) for each in parameters]
    if is_method(function):
        parts[0] = f"({mark}token, {mark}instance({parameters[0].name}))"
    else:
        parts.insert(0, f"{mark}token")
    listed = _listed(parameters, f"{mark}default_")
    make: Any = eval(f"lambda {listed}: ({', '.join(parts)},)", names)
    make.__name__ = make.__qualname__ = qualified_name(function)  # for the error of a call that cannot bind
    return CallKeys(make, token)


def text_keys(function: Callable[..., object], key: KeyFunction | None) -> CallKeys:
    """Return keys for a store outside of the process: text, with the function's full name in front.

    Raises:
        TypeError: If the function is a method and there is no ``key``: an instance has no name that
            another process knows it by.
    """
    name = full_name(function)
    if key is None and (is_method(function) or inspect.ismethod(function)):
        raise TypeError(f"{name} is a method: in a store for several processes, cached() needs key=")
    signature = _signature(function)

    def make(*args: object, **kwargs: object) -> str:
        if key is not None:
            return f"{name}:{_spelled('the result of key=', key(*args, **kwargs))}"
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        spelled = [_spelled(f"the argument {each!r}", value) for each, value in _flat(bound)]
        return f"{name}({', '.join(spelled)})"

    return CallKeys(make, name)


def instance_of(key: Hashable) -> Hashable | None:
    """Return the token of the instance that a key belongs to, if it is that of a method."""
    token = cast("tuple[object, ...]", key)[0]
    return cast("tuple[Hashable, Hashable]", token)[1] if isinstance(token, tuple) else None


def is_method(function: Callable[..., object]) -> bool:
    """Whether its first parameter is the instance, or class, that it is called on."""
    in_class = "." in qualified_name(function).rpartition("<locals>.")[2]
    return in_class and next(iter(_signature(function).parameters), "") in _INSTANCE


_INSTANCE = frozenset({"self", "cls"})


def _signature(function: Callable[..., object]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # a function in C that does not tell
        return inspect.signature(_any_arguments)


def _any_arguments(*args: object, **kwargs: object) -> None:
    """Take what comes."""


def _listed(parameters: Iterable[Parameter], default: str) -> str:
    """Spell parameters as in a ``def``, each default as the name that it is found under."""
    plain = [
        each.replace(
            annotation=Parameter.empty,
            default=Parameter.empty if each.default is Parameter.empty else _Name(default + each.name),
        )
        for each in parameters
    ]
    return str(inspect.Signature(plain))[1:-1]


class _Name(str):
    """Text that shows itself without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _part(parameter: Parameter) -> str:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return "{0}, {mark}types({0})"
    if parameter.kind is Parameter.VAR_KEYWORD:
        return "{mark}items({0})"
    return "{0}, {mark}type({0})"


def _types(values: tuple[object, ...]) -> tuple[type, ...]:
    return tuple(map(type, values))


def _items(values: Mapping[str, object]) -> tuple[object, ...]:
    return tuple((name, values[name], type(values[name])) for name in sorted(values))


def _check_hashable(name: str, value: object) -> None:
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(
            f"{name} is not hashable, it is a {type(value).__name__}: pass a hashable value, or give "
            "cached() a key= function that returns one"
        ) from error


def _flat(bound: inspect.BoundArguments) -> Iterable[tuple[str, object]]:
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is Parameter.VAR_KEYWORD:
            for each in sorted(value):
                yield name, (each, value[each])
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
