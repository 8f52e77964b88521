"""`map_errors`: raises the errors of your own domain instead of those of the libraries below.

The classes of an error are looked at from the most specific to the most general, and the first that the
mapping names decides: as a source, it is mapped; as a target, the error is one of yours already and
passes. An ``Exception`` that the mapping does not know becomes ``default``, if there is one, also if it is
an error of this library. Whatever is no ``Exception`` (a cancellation, for one) is never touched. The new
error has the original as its cause.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import CoroutineType, MappingProxyType
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast, overload

from resilience import _arguments
from resilience._callables import is_decoratable
from resilience._policy import Policy
from resilience._signatures import check_takes
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")
Source: TypeAlias = type[Exception] | tuple[type[Exception], ...]
# A dict that was built elsewhere has narrower keys, and those of a `Mapping` are invariant.
NarrowSource = TypeVar("NarrowSource", bound=Source)
Target: TypeAlias = type[Exception] | Callable[[Any], Exception]


class MapErrorsConfig(NamedTuple):
    """The arguments of ``map_errors``."""

    mapping: Mapping[Any, Target]
    default: Target | None = None


class MapErrors(Policy):
    """A translation of errors; made by `map_errors`."""

    kind = "map_errors"
    config: MapErrorsConfig

    def __init__(self, mapping: Mapping[Any, Target], *, default: Target | None, name: str | None) -> None:
        super().__init__(name)
        allowed = "a mapping of errors to errors, such as {OSError: Unavailable}"
        _arguments.instance("mapping", cast("object", mapping), Mapping, allowed)
        self.config = MapErrorsConfig(MappingProxyType(dict(mapping)), default)
        self._targets = _targets_by_class(self.config)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        del name  # nothing of it is told: an error that is mapped reaches the caller anyway

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                mapped = self._mapped(error)
                if mapped is None:
                    raise
            # Outside the handler, where the error would also become the context of a mapped error that
            # it contains, and close a circle.
            try:
                raise mapped
            finally:
                del mapped  # else it and this frame would hold each other

        return wrapper

    def _mapped(self, error: Exception) -> Exception | None:
        """Return what to raise instead, or ``None`` to leave the error as it is."""
        target = self._target_of(type(error))
        if target is None:
            return None
        mapped = _make(target, error)
        if mapped is error:
            return None
        if not _contains(error, mapped):
            mapped.__cause__ = error
            # A factory may return one instance again and again: its traceback must not grow.
            mapped.__traceback__ = None
        return mapped

    def _target_of(self, kind: type[Exception]) -> Target | None:
        for each in kind.__mro__:
            if each in self._targets:
                return self._targets[each]
        return self.config.default


@overload
def map_errors(mapping: Callable[P, Awaitable[R]], /) -> Callable[P, CoroutineType[Any, Any, R]]: ...


@overload
def map_errors(
    mapping: Mapping[NarrowSource, Target],
    /,
    *,
    default: Target | None = None,
    name: str | None = None,
) -> MapErrors: ...


@overload
def map_errors(
    mapping: Mapping[Source, Target] | None = None,
    /,
    *,
    default: Target | None = None,
    name: str | None = None,
) -> MapErrors: ...


def map_errors(mapping: Any = None, /, *, default: Target | None = None, name: str | None = None) -> Any:
    """Raise other exceptions instead of those that a function raises; also works bare, mapping nothing.

    Args:
        mapping: From an exception type, or a tuple of types, to an exception type or a function
            ``(error) -> exception``. A type is called with the text of the error; a function may return
            the error itself to leave it as it is. The most specific match wins, whatever the order.
        default: A type or function like those of ``mapping``, for every other ``Exception``.
        name: What it is called; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with; it has no state. A decorated function raises ``TypeError``,
        with the original error as its cause, if a type cannot be called with a text or a function
        returns no exception.

    Raises:
        TypeError: If a key is no exception type, or a value neither an ``Exception`` type nor a plain
            function.
        ValueError: If a key is an empty tuple, or a type that is no ``Exception``, as ``CancelledError``.

    Example:
        >>> import asyncio
        >>> class Unavailable(Exception): ...
        >>> @map_errors({OSError: Unavailable})
        ... async def fetch() -> None:
        ...     raise ConnectionResetError("reset by peer")
        >>> try:
        ...     asyncio.run(fetch())
        ... except Unavailable as error:
        ...     print(error, "-", repr(error.__cause__))
        reset by peer - ConnectionResetError('reset by peer')
    """
    if is_decoratable(mapping) and not isinstance(mapping, type):
        return MapErrors({}, default=default, name=name)(mapping)
    return MapErrors({} if mapping is None else mapping, default=default, name=name)


def _targets_by_class(config: MapErrorsConfig) -> dict[type, Target | None]:
    """Return what becomes of an error of each class that is named; ``None``: it passes."""
    targets: dict[type, Target | None] = {}
    for source, target in config.mapping.items():
        for each in _exceptions(source):
            targets.setdefault(each, _checked_target("mapping", target))
    if config.default is not None:
        _checked_target("default", config.default)
    ours = (*config.mapping.values(), config.default)
    targets.update({each: None for each in ours if isinstance(each, type)})
    return targets


def _exceptions(source: object) -> tuple[type[BaseException], ...]:
    types = _arguments.exception_types("mapping: a key", source)
    if not types or not all(issubclass(each, Exception) for each in types):
        raise ValueError(f"mapping: a key must be a type of Exception or a tuple of them, got {source!r}")
    return types


def _checked_target(name: str, target: Target) -> Target:
    if isinstance(target, type):
        is_allowed = issubclass(cast("type[object]", target), Exception)
    else:
        is_allowed = callable(target) and not _arguments.is_async(target)
    if not is_allowed:
        raise TypeError(
            f"{name}: a target must be a type of Exception or a function that makes one, got {target!r}"
        )
    if not isinstance(target, type):
        check_takes(f"{name}: a target", target, "the error")
    return target


def _make(target: Target, error: Exception) -> Exception:
    """Make the new error; when that fails, the original stays visible as the cause of the failure."""
    if isinstance(target, type):
        try:
            made: object = target(str(error))
        except Exception:
            raise TypeError(
                f"map_errors cannot make a {target.__qualname__} from the text of a "
                f"{type(error).__qualname__} alone: map it to a function (error) -> exception instead"
            ) from error
    else:
        made = target(error)
    if not isinstance(made, Exception):
        raise TypeError(
            f"a function of map_errors must return an exception, got {type(made).__qualname__}"
        ) from error
    return made


def _contains(error: BaseException, searched: BaseException) -> bool:
    """Whether one error is among the causes and contexts of another."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        if each is searched:
            return True
        seen.add(id(each))
        left += (each.__cause__, each.__context__)
    return False
