"""`adaptive_throttle`: rejects a part of the calls while the other side does not accept them.

A client that goes on sending everything to a server that is overloaded keeps it overloaded. The throttle
compares how many calls were asked for with how many were accepted in the last ``window`` seconds. As long
as the first is at most ``ratio`` times the second, every call is made; beyond that, calls are rejected at
random, with a chance that grows with the excess and never exceeds ``max_rejection_rate``, so that some
always find out how the other side is. There is no state to switch: the less is accepted the less is sent,
and the other way round. A success is accepted, an exception in ``on`` is not; other exceptions, rejections
from further in and cancellations count as nothing. The rule is that of "Handling Overload" in Google's
"Site Reliability Engineering" (2016).
"""

from __future__ import annotations

import random as _random
import threading
from collections.abc import Awaitable, Callable, Hashable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, overload

from resilience import _arguments, _clock, _events
from resilience._adaptive_throttle_config import AdaptiveThrottleConfig, ratio_of
from resilience._adaptive_throttle_state import ThrottleState
from resilience._arguments import Errors, Seconds, errors_or_predicate, optional
from resilience._callables import as_async, is_decoratable, qualified_name
from resilience._errors import ThrottledError, rejection
from resilience._interpreter import HAS_GIL
from resilience._keys import KeyTable
from resilience._policy import Policy
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")


class AdaptiveThrottle(Policy):
    """A throttle for all calls, or one per key; made by `adaptive_throttle`."""

    kind = "adaptive_throttle"
    has_state = True
    config: AdaptiveThrottleConfig

    def __init__(self, config: AdaptiveThrottleConfig, *, name: str | None) -> None:
        super().__init__(name)
        self.config = config
        self._draw = config.random or _random.random
        self._rejected = 0
        # Re-entrant: in the middle of these lines the garbage collector may close a forgotten call.
        self._lock = threading.RLock()
        self._one = ThrottleState(config)
        self._table: KeyTable[ThrottleState] | None = None
        if config.key is not None:
            self._table = KeyTable(lambda: ThrottleState(config), config.max_keys)

    def at(self, key: Hashable) -> ThrottleOfKey:
        """Return the handle for the throttle of one key.

        Raises:
            TypeError: If the policy has no ``key=``, or ``key`` is not hashable.
        """
        if self._table is None:
            raise TypeError("at() is for a throttle with key=; this one is the same for all calls")
        hash(key)
        return ThrottleOfKey(self, self._table, key)

    def reset(self) -> None:
        """Forget the calls that ended, those of all keys."""
        with self._lock:
            self._one.reset()
            if self._table is not None:
                self._table.clear()

    def snapshot(self) -> dict[str, Any]:
        """Return figures as plain data, ready for JSON; of a throttle with keys those of the worst key."""
        now = _clock.monotonic()
        with self._lock:
            total = {"name": self.name, "rejected": self._rejected}
            if self._table is None:
                return {**total, **self._one.snapshot(now)}
            worst = max((each.chance(now) for each in self._table), default=0.0)
            return {**total, "rejection_rate": worst, "keys": len(self._table)}

    def snapshot_of(self, table: KeyTable[ThrottleState], key: Hashable) -> dict[str, Any]:
        """Return the figures of one key."""
        now = _clock.monotonic()
        with self._lock:
            throttle = table.peek(key) or ThrottleState(self.config)
            return {"name": self.name, **throttle.snapshot(now)}

    def reset_of(self, table: KeyTable[ThrottleState], key: Hashable) -> None:
        """Forget the calls of one key that ended."""
        with self._lock:
            throttle = table.peek(key)
            if throttle is not None:
                throttle.reset()

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        return self.guard(function, name, self.config.key)

    def guard(
        self, function: Callable[P, Awaitable[R]], name: str, key: Callable[..., Hashable] | None
    ) -> Callable[P, Awaitable[R]]:
        """Return a bare async function that calls ``function`` under the throttle of a key."""
        name = self._name or name
        one = self._one if self._table is None else None

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            throttle = one
            # The straight path, where nothing can be rejected: on builds with the GIL no other thread
            # comes between the comparison and the store. On others there is never room.
            if throttle is not None and throttle.running < throttle.room:
                throttle.running += 1
            else:
                throttle = self._admit(None if key is None else key(*args, **kwargs), name)
            try:
                result = await function(*args, **kwargs)
            except Exception as error:
                self._raised(throttle, error)
                raise
            except BaseException:
                self._abandoned(throttle)
                raise
            if HAS_GIL and throttle.requests.take(_clock.monotonic()):
                throttle.running -= 1  # straight-line like the addition
            else:
                self._ended(throttle, accepted=True)
            return result

        return wrapper

    def _admit(self, key: Hashable, name: str) -> ThrottleState:
        """Return the state under which a call may be made, or raise if it may not."""
        draw = self._draw()
        now = _clock.monotonic()
        with self._lock:
            throttle = self._one if self._table is None else self._table.at(key, now)
            chance = throttle.admit(now, draw)
            if not chance:
                return throttle
            self._rejected += 1
        if _events.listeners:
            _events.emit("adaptive_throttle.rejected", name, rejection_rate=chance)
        raise rejection(ThrottledError, None, name)

    def _raised(self, throttle: ThrottleState, error: Exception) -> None:
        try:
            failed = self.config.is_failure(error)
        except BaseException:  # of the user's predicate
            self._abandoned(throttle)
            raise
        if failed:
            self._ended(throttle, accepted=False)
        else:
            self._abandoned(throttle)

    def _ended(self, throttle: ThrottleState, *, accepted: bool) -> None:
        now = _clock.monotonic()
        with self._lock:
            throttle.end(now, accepted=accepted)

    def _abandoned(self, throttle: ThrottleState) -> None:
        with self._lock:
            throttle.abandon()


class ThrottleOfKey:
    """The throttle of one key; made by `AdaptiveThrottle.at`.

    It may be kept: it does not hold the key's place in the table. Safe for concurrent tasks, threads and
    event loops.
    """

    def __init__(self, policy: AdaptiveThrottle, table: KeyTable[ThrottleState], key: Hashable) -> None:
        self._policy = policy
        self._table = table
        self._key = key

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function under the throttle of the key.

        Returns:
            What the function returns.

        Raises:
            ThrottledError: If the call is rejected.
            TypeError: If ``function`` is not an async callable.
        """
        guarded = self._policy.guard(
            as_async(function), qualified_name(function), lambda *_, **__: self._key
        )
        return await guarded(*args, **kwargs)

    def reset(self) -> None:
        """Forget the key's calls that ended."""
        self._policy.reset_of(self._table, self._key)

    def snapshot(self) -> dict[str, Any]:
        """Return the key's figures as plain data, ready for JSON."""
        return self._policy.snapshot_of(self._table, self._key)

    def __repr__(self) -> str:
        return f"{self._policy!r}.at({self._key!r})"


@overload
def adaptive_throttle(
    function: Callable[P, Awaitable[R]], /
) -> Callable[P, CoroutineType[Any, Any, R]]: ...


@overload
def adaptive_throttle(
    ratio: float = 2.0,
    *,
    window: Seconds = 120.0,
    minimum_calls: int = 100,
    max_rejection_rate: float = 0.9,
    on: Errors = Exception,
    key: Callable[..., Hashable] | None = None,
    max_keys: int = 10_000,
    random: Callable[[], float] | None = None,
    name: str | None = None,
) -> AdaptiveThrottle: ...


def adaptive_throttle(
    ratio: Any = 2.0,
    *,
    window: Seconds = 120.0,
    minimum_calls: int = 100,
    max_rejection_rate: float = 0.9,
    on: Errors = Exception,
    key: Callable[..., Hashable] | None = None,
    max_keys: int = 10_000,
    random: Callable[[], float] | None = None,
    name: str | None = None,
) -> Any:
    """Reject a part of the calls while the other side accepts too few; works with and without arguments.

    Args:
        ratio: How many calls may be made per accepted one, 1 or more. At 2 nothing is rejected before half
            of the calls failed; less protects the other side more, and rejects more in vain.
        window: For how many seconds, or ``timedelta``, above 0, a call counts. After a long outage it takes
            up to twice as long until nothing is rejected any more.
        minimum_calls: How many calls the window must hold to be judged, 1 or more, so that callers
            of few calls never notice.
        max_rejection_rate: The part of the calls that is rejected at most, 0 to 1; the others are the
            probes. 0.9 is the default of failsafe-go; Envoy's admission control has 0.8.
        on: Exceptions that mean that a call was not accepted: a type, a tuple of types, or a function of
            the exception. Others count as nothing.
        key: Function of the call's arguments; calls with the same key are judged together.
        max_keys: How many keys are judged on their own at most, 1 or more.
        random: Function without arguments that returns a number from 0 up to 1, for tests; default:
            ``random.random``.
        name: What events and errors call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with. A decorated function raises `ThrottledError` when it is not
        called. Safe for concurrent tasks, threads and loops.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range.

    Example:
        >>> import asyncio
        >>> throttle = adaptive_throttle(minimum_calls=1, random=lambda: 0.5)
        >>> @throttle
        ... async def fetch() -> str:
        ...     raise ConnectionError("overloaded")
        >>> async def main() -> None:
        ...     for _ in range(3):
        ...         try:
        ...             await fetch()
        ...         except Exception as error:
        ...             print(type(error).__name__)
        >>> asyncio.run(main())
        ConnectionError
        ConnectionError
        ThrottledError
    """
    if is_decoratable(ratio):
        return adaptive_throttle()(ratio)
    config = AdaptiveThrottleConfig(
        ratio=ratio_of(ratio),
        window=_arguments.seconds("window", window, above_zero=True),
        minimum_calls=_arguments.whole("minimum_calls", minimum_calls),
        max_rejection_rate=_arguments.fraction("max_rejection_rate", max_rejection_rate),
        on=errors_or_predicate("on", on),
        key=optional(_arguments.plain_function, "key", key),
        max_keys=_arguments.whole("max_keys", max_keys),
        random=optional(_arguments.plain_function, "random", random),
    )
    return AdaptiveThrottle(config, name=name)
