"""The arguments of `cached`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from resilience import _arguments
from resilience._cache_key import KeyFunction
from resilience._cache_memory import Container
from resilience._cache_shared import CacheStore
from resilience._callables import as_async

TimeToLive: TypeAlias = _arguments.Seconds | Callable[[Any], _arguments.Seconds]
TagsFunction: TypeAlias = Callable[..., str | Iterable[str]]
Tags: TypeAlias = str | Iterable[str] | TagsFunction

DEFAULT_TTL: Final = 300.0
DEFAULT_MAXSIZE: Final = 1024


@dataclass(frozen=True, slots=True)
class CachedConfig:
    """The arguments of a cache; durations in seconds."""

    ttl: float | Callable[[Any], _arguments.Seconds] = DEFAULT_TTL
    maxsize: int = DEFAULT_MAXSIZE
    store: Container | CacheStore | None = field(default=None, repr=False)  # would show what it holds
    key: KeyFunction | None = None
    stale_while_revalidate: float = 0
    stale_if_error: float = 0
    error_ttl: float = 0
    condition: Callable[[Any], bool] | None = None
    jitter: float = 0.0
    tags: tuple[str, ...] | TagsFunction = ()


def checked_ttl(ttl: object) -> float | Callable[[Any], _arguments.Seconds]:
    """Return a time to live in seconds, or the function that gives it, after a check."""
    if not callable(ttl):
        return _arguments.seconds("ttl", ttl)
    return _arguments.plain_function("ttl", cast("Callable[[Any], _arguments.Seconds]", ttl))


def checked_store(store: Container | CacheStore) -> Container | CacheStore:
    """Return a store after a check."""
    from cachetools import Cache  # not needed by who does not have one

    _arguments.instance("store", store, (Cache, CacheStore), "a cachetools.Cache or an async CacheStore")
    if isinstance(store, CacheStore):
        for method in ("get", "set", "delete", "clear"):
            as_async(getattr(store, method))
    return store


def checked_tags(tags: Tags) -> tuple[str, ...] | TagsFunction:
    """Return tags, or the function that gives them, after a check."""
    return _arguments.plain_function("tags", tags) if callable(tags) else tag_names("tags", tags)


def tag_names(name: str, value: object) -> tuple[str, ...]:
    """Return tags from one string or several, each of them once."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Iterable):
        names = list(cast("Iterable[object]", value))
        if all(isinstance(each, str) for each in names):
            return tuple(dict.fromkeys(cast("list[str]", names)))
    raise TypeError(f"{name} must be a string or several, got {value!r}")
