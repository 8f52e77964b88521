"""`rate_limited`: lets calls through no faster than a rate, first come, first served.

A call that does not fit waits for its turn; nobody overtakes, also with different costs. A call whose
turn would come later than ``max_wait``, or than the nearest deadline, is refused at once and takes
nothing. Without ``burst`` the limit is an exact sliding window, with it a token bucket; both hold across
tasks, threads and event loops. A caller that is cancelled in the line passes its place, or the tokens
that it was just given, to the next. With ``key=`` every key has a limit and a line of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast, overload

from resilience import _arguments, _clock, _events
from resilience._async_limiter import adopt, is_async_limiter
from resilience._errors import RateLimitExceededError
from resilience._interpreter import HAS_GIL
from resilience._keys import KeyTable
from resilience._limiters import KeyedLimiter, Limiter
from resilience._line import Exclusive, Waiter, arrive, turn
from resilience._policy import Policy
from resilience._rate_limit_door import Door, LimitOfKey, give_all_back, state_of
from resilience._rate_limit_wrappers import (
    guard,
    guard_bucket,
    guard_keyed_bucket,
    guard_keyed_window,
    guard_window,
)
from resilience._sliding_window import SlidingWindow
from resilience._token_bucket import LeakyBucket, TokenBucket

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

P = ParamSpec("P")
R = TypeVar("R")
Key: TypeAlias = Callable[..., Hashable]
Cost: TypeAlias = float | Callable[..., float]

PER = 1.0
MAX_KEYS = 10_000


class RateLimitConfig(NamedTuple):
    """The arguments of a rate limit."""

    rate: float | None = None
    per: float = PER
    burst: float | None = None
    limiter: object = None
    max_wait: float | None = None
    cost: Cost = 1
    key: Key | None = None
    max_keys: int = MAX_KEYS


class RateLimit(Door, Policy):
    """A limit on the rate of calls; made by `rate_limited`.

    Safe for concurrent tasks, threads and event loops, also several at once; with an ``AsyncLimiter`` for
    one live loop at a time.

    Example:
        >>> import asyncio
        >>> quota = rate_limited(10)
        >>> async def main() -> float:
        ...     async with quota:
        ...         return await quota.acquire(2)
        >>> asyncio.run(main())
        0.0
    """

    kind = "rate_limited"
    has_state = True
    config: RateLimitConfig

    def __init__(self, limiter: Limiter, config: RateLimitConfig, *, name: str | None) -> None:
        super().__init__(name)
        self.config = config
        self._limiter = limiter
        self.rule = limiter.rule
        self._table: KeyTable[KeyedLimiter] | None = None
        if config.key is not None:
            self._table = KeyTable(cast("KeyedLimiter", limiter).fresh, config.max_keys)

    def at(self, key: Hashable) -> LimitOfKey:
        """Return the handle for one key.

        Raises:
            TypeError: If the policy was made without ``key=``.
        """
        if self._table is None:
            raise TypeError("at() needs a policy that was made with key=")
        hash(key)
        return LimitOfKey(self, self._table, key)

    def reset(self) -> None:
        """Give all tokens back, of all keys, and let those who wait through as far as they fit."""
        if self._table is None:
            give_all_back(self._limiter)
            return
        with Exclusive(self.rule):
            limiters = list(self._table)
        for limiter in limiters:
            give_all_back(limiter)

    def snapshot(self) -> dict[str, Any]:
        """Return its state as plain data: what is available, and how many callers wait.

        With ``key=``: how many keys there are, and how many callers wait at all of them.
        """
        rule = self.rule
        facts = {"rate": rule.rate, "per": rule.per, "capacity": rule.capacity}
        if self._table is None:
            return {**facts, **state_of(self._limiter)}
        with Exclusive(rule):
            waiting = sum(len(each.line.queue) for each in self._table if each.line is not None)
            return {**facts, "keys": len(self._table), "waiting": waiting}

    def check_cost(self, name: str, cost: object) -> float:
        """Return a cost that the limit can ever allow; see `Rule.check_cost`."""
        if type(cost) is int and 0 <= cost <= self.rule.capacity:
            return cost
        return self.rule.check_cost(name, cost)

    async def take_turn(self, place: Waiter | float, started: float, name: str) -> float:
        """Wait in line, or raise if the caller was refused; return the seconds waited."""
        if not isinstance(place, Waiter):
            if _events.listeners:
                _events.emit("rate_limit.rejected", name, retry_after=place)
            raise RateLimitExceededError(retry_after=place, policy=name)
        await turn(place)
        waited = _clock.monotonic() - started
        if _events.listeners:
            _events.emit("rate_limit.waited", name, seconds=waited)
        return waited

    def cost_of(self, /, *args: object, **kwargs: object) -> float:
        """Return the cost of a call with these arguments."""
        cost = self.config.cost
        return self.check_cost("cost", cost(*args, **kwargs)) if callable(cost) else cost

    @property
    def _policy(self) -> RateLimit:
        return self

    def arrive(self, cost: float, max_wait: float | None) -> Waiter | float:
        """Ask for tokens; see `_line.arrive`.

        Raises:
            TypeError: If each key has a limit of its own.
        """
        if self._table is not None:
            raise TypeError("a policy with key= has a limit for each key: use policy.at(key)")
        with Exclusive(self.rule) as now:
            return arrive(self._limiter, cost, now, max_wait)

    def arrive_at(self, key: Hashable, cost: float, max_wait: float | None) -> Waiter | float:
        """Ask for tokens of a key; see `_line.arrive`."""
        table = cast("KeyTable[KeyedLimiter]", self._table)
        with Exclusive(self.rule) as now:
            return arrive(table.at(key, now), cost, now, max_wait)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        if not HAS_GIL or self.config.cost != 1:
            return guard(self, function, name)
        limiter = self._limiter
        if self._table is not None:
            if isinstance(limiter, SlidingWindow):
                return guard_keyed_window(
                    self, function, name, cast("KeyTable[SlidingWindow]", self._table)
                )
            return guard_keyed_bucket(self, function, name, cast("KeyTable[TokenBucket]", self._table))
        if isinstance(limiter, SlidingWindow):
            return guard_window(self, function, name, limiter)
        if isinstance(limiter, TokenBucket):
            return guard_bucket(self, function, name, limiter)
        return guard(self, function, name)


@overload
def rate_limited(
    rate: float,
    *,
    per: _arguments.Seconds = ...,
    burst: float | None = ...,
    max_wait: _arguments.Seconds | None = ...,
    cost: Cost = ...,
    key: Key | None = ...,
    max_keys: int = ...,
    name: str | None = ...,
) -> RateLimit: ...


@overload
def rate_limited(
    limiter: SlidingWindow | TokenBucket | LeakyBucket | AsyncLimiter,
    /,
    *,
    max_wait: _arguments.Seconds | None = ...,
    cost: Cost = ...,
    name: str | None = ...,
) -> RateLimit: ...


def rate_limited(
    rate: object,
    *,
    per: _arguments.Seconds = PER,
    burst: float | None = None,
    max_wait: _arguments.Seconds | None = None,
    cost: Cost = 1,
    key: Key | None = None,
    max_keys: int = MAX_KEYS,
    name: str | None = None,
) -> RateLimit:
    """Let calls through no faster than a rate; the others wait their turn or are refused.

    Args:
        rate: Calls per period. Without ``burst`` a whole number of 1 or more: never more than that in any
            ``per`` seconds. With ``burst`` any number above 0. Or a limiter, in place of ``rate``, ``per``
            and ``burst``: a `SlidingWindow`, `TokenBucket` or `LeakyBucket`, or an
            ``aiolimiter.AsyncLimiter``. Policies that are given one limiter share its tokens and its line.
        per: The period, seconds or ``timedelta``, above 0.
        burst: The capacity of a token bucket, above 0: so many calls may come at once after a pause.
        max_wait: The longest wait, seconds or ``timedelta``; 0 never waits, ``None`` waits for any turn.
            A call whose turn would come later, or after the nearest deadline, is refused at once.
        cost: How many tokens a call takes, 0 or more: a number, or a function of the call's arguments. A
            sliding window takes whole ones only. A call that costs nothing never waits.
        key: A function of the call's arguments that returns a hashable: each key has a limit of its own.
        max_keys: How many keys have one at most; further ones share one while none of those is unused.
        name: What events and errors call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with. A decorated function raises `RateLimitExceededError`, with
        ``retry_after``, when it is refused, and ``ValueError`` when its cost is more than the capacity.
        Safe for concurrent tasks, threads and loops.

    Raises:
        TypeError: If an argument is of the wrong type, or a limiter comes with per, burst or key.
        ValueError: If an argument is out of range.

    Example:
        >>> import asyncio
        >>> @rate_limited(2, per=60, max_wait=0)
        ... async def search(text: str) -> str:
        ...     return text.upper()
        >>> async def main() -> None:
        ...     for text in ("a", "b", "c"):
        ...         print(await search(text))
        >>> asyncio.run(main())
        Traceback (most recent call last):
        ...
        resilience._errors.RateLimitExceededError: search: the rate limit is exceeded; retry in 60 s
    """
    given = _given(rate)
    if given is not None and (key is not None or burst is not None or per != PER):
        raise TypeError(
            "per, burst and key must be left out where a limiter is given: it has one rate and one state; "
            f"got per={per!r}, burst={burst!r}, key={key!r}"
        )
    limiter = given or _made(rate, per, burst)
    config = RateLimitConfig(
        rate=limiter.rule.rate if given is None else None,
        per=limiter.rule.per if given is None else PER,
        burst=burst,
        limiter=given,
        max_wait=None if max_wait is None else _arguments.seconds("max_wait", max_wait),
        cost=(
            _arguments.plain_function("cost", cost)
            if callable(cost)
            else limiter.rule.check_cost("cost", cost)
        ),
        key=None if key is None else _arguments.plain_function("key", key),
        max_keys=_arguments.whole("max_keys", max_keys),
    )
    return RateLimit(limiter, config, name=name)


def _given(value: object) -> Limiter | None:
    """Return the limiter that a user gave instead of a rate."""
    if isinstance(value, Limiter):
        return value
    if is_async_limiter(value):
        return adopt(cast("AsyncLimiter", value))
    if callable(value):
        raise TypeError(f"rate_limited needs a rate, as in @rate_limited(10), or a limiter; got {value!r}")
    return None


def _made(rate: Any, per: _arguments.Seconds, burst: float | None) -> Limiter:
    return SlidingWindow(rate, per) if burst is None else TokenBucket(rate, per, burst)
