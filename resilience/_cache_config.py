"""The arguments of `cached`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias, TypedDict, cast

from resilience import _arguments
from resilience._cache_key import KeyFunction
from resilience._cache_levels import LayeredStore
from resilience._cache_memory import Container, ContainerStore, MemoryStore
from resilience._cache_shared import CacheStore, SharedStore
from resilience._cache_store import Store
from resilience._callables import as_async

TimeToLive: TypeAlias = _arguments.Seconds | Callable[[Any], _arguments.Seconds]
TagsFunction: TypeAlias = Callable[..., str | Iterable[str]]
Tags: TypeAlias = str | Iterable[str] | TagsFunction

DEFAULT_TTL: Final = 300.0
DEFAULT_MAXSIZE: Final = 1024


class CachedConfig(NamedTuple):
    """The arguments of a cache; durations in seconds."""

    ttl: float | Callable[[Any], _arguments.Seconds] = DEFAULT_TTL
    maxsize: int = DEFAULT_MAXSIZE
    store: Container | CacheStore | None = None
    memory_ttl: float = 0
    key: KeyFunction | None = None
    stale_while_revalidate: float = 0
    stale_if_error: float = 0
    error_ttl: float = 0
    condition: Callable[[Any], bool] | None = None
    early_refresh: float = 0.0
    jitter: float = 0.0
    copy: Callable[[Any], Any] | None = None
    tags: tuple[str, ...] | TagsFunction = ()

    def __repr__(self) -> str:
        shown = {name: value for name, value in self._asdict().items() if name != "store"}
        return f"CachedConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def make_store(self) -> Store:
        """Make the place for the entries."""
        if self.store is None:
            return MemoryStore(self.maxsize)
        if not isinstance(self.store, CacheStore):
            return ContainerStore(self.store)
        window = max(self.stale_while_revalidate, self.stale_if_error)
        shared = SharedStore(self.store, self.maxsize, window, self.early_refresh)
        return (
            LayeredStore(MemoryStore(self.maxsize), shared, self.memory_ttl) if self.memory_ttl else shared
        )


class Options(TypedDict, total=False):
    """The arguments of `cached` besides ``ttl``, for type checkers."""

    maxsize: int
    store: Container | CacheStore | None
    memory_ttl: _arguments.Seconds
    key: KeyFunction | None
    stale_while_revalidate: _arguments.Seconds
    stale_if_error: _arguments.Seconds
    error_ttl: _arguments.Seconds
    condition: Callable[[Any], bool] | None
    early_refresh: float
    jitter: float
    copy: Callable[[Any], Any] | None
    tags: Tags | None
    name: str | None


def checked_ttl(ttl: object) -> float | Callable[[Any], _arguments.Seconds]:
    """Return a time to live in seconds, or the function that gives it, after a check."""
    if not callable(ttl):
        return _arguments.seconds("ttl", ttl)
    return _arguments.function_of_value("ttl", cast("Callable[[Any], _arguments.Seconds]", ttl))


def checked_store(store: Container | CacheStore) -> Container | CacheStore:
    """Return a store after a check."""
    from cachetools import Cache  # not needed by who does not have one

    _arguments.instance("store", store, (Cache, CacheStore), "a cachetools.Cache or an async CacheStore")
    if isinstance(store, CacheStore):
        for method in ("get", "set", "delete", "clear"):
            as_async(getattr(store, method))
    return store


def checked_memory_ttl(memory_ttl: object, store: Container | CacheStore | None) -> float:
    """Return for how long a shared store is not asked again, in seconds, after a check."""
    seconds = _arguments.seconds("memory_ttl", memory_ttl)
    if seconds and not isinstance(store, CacheStore):
        raise ValueError(f"memory_ttl must be 0 without an async store, got {memory_ttl!r}")
    return seconds


def checked_tags(tags: Tags) -> tuple[str, ...] | TagsFunction:
    """Return tags, or the function that gives them, after a check."""
    return _arguments.plain_function("tags", tags) if callable(tags) else tag_names("tags", tags)


def tag_names(name: str, value: object) -> tuple[str, ...]:
    """Return tags from one string or several, each of them once."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Iterable):
        items = list(cast("Iterable[object]", value))
        names = [each for each in items if isinstance(each, str)]
        if len(names) == len(items):
            return tuple(dict.fromkeys(names))
    raise TypeError(f"{name} must be a string or several, got {value!r}")
