"""`cached`: keeps results, and makes one call for all who miss the same key at the same time.

A fresh value is returned at once. A miss calls the function in a task of its own, in a copy of the first
caller's context without its deadline; whoever asks for the same key meanwhile, in the same event loop,
waits for that call. Each waits by itself: cancelling one leaves the others alone, and the last one to
leave cancels the call. Entries are per function and per instance, are shared by all loops and threads, and
live from the completion of the call on. What is invalidated is gone at once, also from loads in flight.

A value is returned as it was stored: who changes it changes it for all, unless ``copy`` gives each his own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from resilience import _arguments, _clock, _events
from resilience._cache_config import (
    DEFAULT_MAXSIZE,
    DEFAULT_TTL,
    CachedConfig,
    Options,
    Tags,
    TimeToLive,
    checked_memory_ttl,
    checked_store,
    checked_tags,
    checked_ttl,
)
from resilience._cache_info import CacheInfo
from resilience._cache_key import KeyFunction, Keys
from resilience._cache_load import Call, Loads
from resilience._cache_memory import Container
from resilience._cache_shared import CacheStore
from resilience._cache_store import Entry
from resilience._callables import is_decoratable
from resilience._interpreter import HAS_GIL
from resilience._policy import Policy, guarded_function
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")


class Cached(Policy):
    """A cache of results; made by `cached`."""

    kind = "cached"
    _not_shown = ("store",)
    has_state = True
    config: CachedConfig

    def __init__(self, config: CachedConfig, *, name: str | None) -> None:
        super().__init__(name)
        self.config = config
        self._store = config.make_store()
        self._loads = Loads(config, self._store)
        self._keys = Keys(
            config.key, is_text=self._store.is_shared, on_instance_death=self._loads.drop_instance
        )

    def invalidate(self, *args: object, **kwargs: object) -> Awaitable[None]:
        """Forget the results of a call, of every decorated function that can be called like this.

        A load in flight goes on for those who wait for it, but nobody joins it any more and its result
        is not kept.

        Args:
            *args: The arguments of the call; the instance first, if it is a method.
            **kwargs: The keyword arguments of the call.

        Returns:
            An awaitable that must be awaited only with an async store: then it is done in the store.

        Raises:
            TypeError: If no decorated function can be called like this.

        Example:
            >>> users = cached(60)
            >>> @users
            ... async def get_user(login: str) -> str: ...
            >>> _ = users.invalidate("bob")
        """
        return self._loads.drop(self._keys.of_call(args, kwargs))

    def invalidate_tag(self, tag: str) -> Awaitable[None]:
        """Forget the results that have a tag, and those of loads in flight that will have it.

        Args:
            tag: One of those that ``tags`` gave.

        Returns:
            An awaitable that must be awaited only with an async store; there it reaches the entries
            that this process stored or read.

        Raises:
            TypeError: If ``tag`` is not a string.
        """
        return self._loads.drop_tag(_arguments.instance("tag", tag, str, "a string"))

    def clear(self) -> Awaitable[None]:
        """Forget all results, and those of loads in flight.

        Returns:
            An awaitable that must be awaited only with an async store, all of whose entries it drops.
        """
        return self._loads.clear()

    def reset(self) -> Awaitable[None]:
        """Forget all results like `clear`, and begin to count at zero."""
        return self._loads.reset()

    async def aclose(self) -> None:
        """Cancel the loads in the background, and wait until those of this event loop have ended.

        Loads that somebody waits for go on. The cache can be used again afterwards.
        """
        await self._loads.flights.close_background()

    def info(self) -> CacheInfo:
        """Return what the cache has done, and how many results it keeps."""
        counts = self._loads.counts
        size = self._store.size()
        return CacheInfo(
            hits=counts.hit,
            misses=counts.miss,
            stale=counts.stale,
            coalesced=counts.coalesced,
            evictions=counts.evicted,
            size=None if size is None else size + self._loads.errors.size(),
        )

    def snapshot(self) -> dict[str, object]:
        """Return the state as plain data: `info`, the failures that no caller saw, and loads in flight."""
        counts = self._loads.counts
        return {
            **self.info()._asdict(),
            "refresh_failures": counts.refresh_failed,
            "store_failures": counts.store_failed,
            "in_flight": len(self._loads.flights),
        }

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        keys = self._keys.of_function(guarded_function(function))
        make_key, loads, copy = keys.make, self._loads, self.config.copy
        at_hand, touch = self._store.at_hand, self._store.touch

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            nonlocal make_key
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            # A call without ** is quicker by 12 ns, 3 % of a hit.
            key = make_key(*args, **kwargs) if kwargs else make_key(*args)
            entry: Entry | None
            try:
                entry = at_hand[key]
                if entry.stored_at <= _clock.monotonic() < entry.good_until:
                    touch(entry)
                else:
                    entry = None
            except KeyError:  # unknown, or dropped by another thread just now
                entry = None
            except TypeError:
                keys.check(args, kwargs)
                raise
            if entry is None:
                key = keys.exact(key, args, kwargs)
                make_key = keys.make
                return await loads.answer(Call(function, args, kwargs, key, name))
            # Straight-line: between reading and writing the number there is no call. Without the GIL,
            # `count` locks; it tells the listeners as well.
            if _events.listeners or not HAS_GIL:
                loads.count("hit", name)
            else:
                loads.counts.hit += 1
            return entry.value if copy is None else copy(entry.value)

        return wrapper


@overload
def cached(function: Callable[P, Awaitable[R]], /) -> Callable[P, CoroutineType[Any, Any, R]]: ...
@overload
def cached(ttl: _arguments.Seconds = ..., /, **options: Unpack[Options]) -> Cached: ...
@overload
def cached(*, ttl: TimeToLive, **options: Unpack[Options]) -> Cached: ...
def cached(
    function_or_ttl: Any = DEFAULT_TTL,
    /,
    *,
    ttl: Any = DEFAULT_TTL,
    maxsize: int = DEFAULT_MAXSIZE,
    store: Container | CacheStore | None = None,
    memory_ttl: _arguments.Seconds = 0,
    key: KeyFunction | None = None,
    stale_while_revalidate: _arguments.Seconds = 0,
    stale_if_error: _arguments.Seconds = 0,
    error_ttl: _arguments.Seconds = 0,
    condition: Callable[[Any], bool] | None = None,
    early_refresh: float = 0.0,
    jitter: float = 0.0,
    copy: Callable[[Any], Any] | None = None,
    tags: Tags | None = None,
    name: str | None = None,
) -> Any:
    """Keep the results of calls, and make one call for all who miss the same key at the same time.

    Works bare (``@cached``) and called (``@cached(60)``). Safe for concurrent tasks, threads and event
    loops; concurrent misses share a call per loop. ``None`` is a result like others. An instance whose
    method is cached is not kept alive, and shares no results with others.

    Args:
        function_or_ttl: The function, if used bare; else ``ttl``, unless that is a function.
        ttl: How long a result is fresh, counted from the completion of the call: seconds or
            ``timedelta``, 0 or more, or (as ``ttl=``) a function of the result that returns them. 0: it is
            never fresh, but concurrent calls still share one.
        maxsize: How many results to keep at most, 1 or more, of all functions and instances together;
            the least recently used goes first. Remembered errors are kept apart, as many at most. With an
            async ``store``: of how many results the tags are known, and how many are in memory as well.
        store: A cachetools container, which then decides on size and eviction, or an async `CacheStore`.
        memory_ttl: With an async store, for how long a result is also kept in memory and returned without
            asking the store, never longer than it is fresh there: what another process invalidates is
            still returned for so long here. Seconds or ``timedelta``; 0: the store is always asked.
        key: A function of the call's arguments (the instance first, if it is a method) that returns
            what identifies a call, any hashable value. Default: all arguments, typed, with the defaults
            filled in. A method's key that leaves the instance out lets all instances share.
        stale_while_revalidate: For how long after its expiry a result is still returned at once,
            while a new one is loaded in the background, at most 100 at a time; seconds or ``timedelta``,
            0 or more.
        stale_if_error: For how long after its expiry a result is returned if the call fails.
        error_ttl: For how long an ``Exception`` is remembered: calls then get a copy of it instead of
            calling again, or the expired result that ``stale_if_error`` allows. Never a `RejectedError`.
        condition: Called with each result; if it returns something false, the result is not kept.
        early_refresh: How eagerly a result is loaded anew in the background while it is still fresh, so
            that nobody has to wait when it expires, a number of 0 or more; 0: never. 1 is right for most:
            each call then has a chance to begin that of 5 % when three times as many seconds are left as
            the call takes, of 37 % when just as many are (XFetch: Vattani, Chierichetti, Lowenstein, VLDB
            2015). By the dice, so that processes which share a store do not all begin at once.
        jitter: By up to which fraction each ``ttl`` is shortened at random, 0 to 1, so that results
            which were stored together do not expire together.
        copy: Called with a result that can be changed, returns a copy, such as ``copy.deepcopy``: each
            caller gets one of his own, and what is kept is given to nobody. Without it, a result is
            returned as it was stored: who changes it changes it for all.
        tags: A string or several, or a function of the call's arguments that returns them:
            ``invalidate_tag`` forgets all results with a tag.
        name: What events call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with; or the decorated function, if used bare. What the
        function raises reaches the first of those who wait as it is, each other one as a copy. A
        decorated function raises ``TypeError`` for arguments that are not hashable.

    Raises:
        TypeError: If an argument has the wrong type, or a function is not async.
        ValueError: If an argument is out of range.

    Example:
        >>> import asyncio
        >>> users = cached(ttl=60)
        >>> @users
        ... async def get_user(login: str) -> str:
        ...     print("loading", login)
        ...     return login.title()
        >>> async def main() -> None:
        ...     print(await asyncio.gather(get_user("bob"), get_user("bob")), await get_user(login="bob"))
        ...     users.invalidate("bob")
        ...     print(await get_user("bob"))
        >>> asyncio.run(main())
        loading bob
        ['Bob', 'Bob'] Bob
        loading bob
        Bob
        >>> users.info()
        CacheInfo(hits=1, misses=2, stale=0, coalesced=1, evictions=0, size=1)
    """
    function = function_or_ttl if is_decoratable(function_or_ttl) else None
    if function is None and function_or_ttl is not DEFAULT_TTL:
        if ttl is not DEFAULT_TTL:
            raise TypeError(f"ttl is given twice: {function_or_ttl!r} and {ttl!r}")
        ttl = function_or_ttl
    config = CachedConfig(
        ttl=checked_ttl(ttl),
        maxsize=_arguments.whole("maxsize", maxsize),
        store=None if store is None else checked_store(store),
        memory_ttl=checked_memory_ttl(memory_ttl, store),
        key=None if key is None else _arguments.plain_function("key", key),
        stale_while_revalidate=_arguments.seconds("stale_while_revalidate", stale_while_revalidate),
        stale_if_error=_arguments.seconds("stale_if_error", stale_if_error),
        error_ttl=_arguments.seconds("error_ttl", error_ttl),
        condition=_arguments.optional(_arguments.function_of_value, "condition", condition),
        early_refresh=_arguments.number("early_refresh", early_refresh),
        jitter=_arguments.fraction("jitter", jitter),
        copy=_arguments.optional(_arguments.function_of_value, "copy", copy),
        tags=() if tags is None else checked_tags(tags),
    )
    policy = Cached(config, name=name)
    return policy if function is None else policy(function)
