"""`circuit_breaker`: stops calling what keeps failing, and finds out with few calls when it works again.

The circuit is closed at first: calls pass and are judged. When failures in a row, or the rate of
failures, of slow or of abandoned calls, reach what was set, it opens: calls are rejected for
``recovery_timeout``. The first calls after that are probes: if they succeed the circuit closes, if one
fails or is slow it opens again. With ``half_open_rates`` it closes step by step: a growing part of the
calls passes, judged by the same rules. Every result is recorded against the permit with which its call
was admitted, so a call that began before a transition cannot influence what comes after it. Exceptions
that are no failures, rejections from further in and cancellations count as nothing, unless there is an
``abandoned_rate``, and give the permit back. Michael Nygard, "Release It!" (2007), describes the pattern.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from datetime import timedelta
from types import CoroutineType
from typing import Any, ParamSpec, Self, TypeVar, Unpack, overload

from resilience import _arguments, _clock
from resilience._arguments import Errors, Seconds, optional
from resilience._breaker_circuits import EVERY, Circuits
from resilience._breaker_config import (
    DEFAULT_PAUSE,
    CircuitBreakerConfig,
    Options,
    Pauses,
    calls_or_seconds,
    minimum_of,
    pause_or_pauses,
    rising_rates,
    time_of_stage,
)
from resilience._breaker_handle import Handle
from resilience._breaker_phases import Permit
from resilience._callables import as_async, is_decoratable, qualified_name
from resilience._errors import CircuitBreakerOpenError, rejection
from resilience._policy import Policy
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")


class CircuitBreaker(Handle, Policy):
    """A circuit, or one per key; made by `circuit_breaker`."""

    kind = "circuit_breaker"
    has_state = True
    config: CircuitBreakerConfig

    def __init__(self, config: CircuitBreakerConfig, *, name: str | None) -> None:
        Policy.__init__(self, name)
        Handle.__init__(self, Circuits(config), EVERY)
        self.config = config

    def at(self, key: Hashable) -> CircuitOfKey:
        """Return the handle for the circuit of one key.

        Raises:
            TypeError: If the breaker has no ``key=``, or ``key`` is not hashable.
        """
        if self.config.key is None:
            raise TypeError(
                "at() is for a circuit breaker with key=; this one has one circuit for all calls"
            )
        hash(key)
        return CircuitOfKey(self, self._circuits, key)

    async def __aenter__(self) -> Self:
        if self.config.key is not None:
            raise TypeError(
                "this circuit breaker has a circuit per key: write `async with breaker.at(key):` instead"
            )
        return await super().__aenter__()

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        return self.guard(function, name, self.config.key)

    def guard(
        self, function: Callable[P, Awaitable[R]], name: str, key: Callable[..., Hashable] | None
    ) -> Callable[P, Awaitable[R]]:
        """Return a bare async function that calls ``function`` under the circuit of a key."""
        name = self._name or name
        circuits = self._circuits
        one = circuits.one
        plain: Callable[..., Awaitable[R]] = function  # called without **, it is 10 to 20 ns quicker
        in_seconds = isinstance(self.config.window, timedelta)

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            circuit, started = one, 0.0
            permit: Permit | None = one.straight
            if permit is None:
                started = _clock.monotonic()
                asked = None if key is None else key(*args, **kwargs)
                circuit, permit, retry_after = circuits.admit(asked, started, name)
                if permit is None:
                    raise rejection(CircuitBreakerOpenError, retry_after, name)
            try:
                result = await (plain(*args, **kwargs) if kwargs else plain(*args))
            except BaseException as error:
                circuits.raised(circuit, permit, error, started, name)
                raise
            # The straight path: on builds with the GIL nothing comes between the comparison and `take`
            # but a reading of the clock, and a success taken by a closed phase that has just ended is
            # lost with it, as it would be a moment later.
            closed = one.straight
            if (
                closed is not permit
                or closed is None
                or not closed.take(_clock.monotonic() if in_seconds else 0.0)
            ):
                circuits.returned(circuit, permit, result, started, name)
            return result

        return wrapper

    def _policy(self) -> Policy:
        return self


class CircuitOfKey(Handle):
    """The circuit of one key; made by `CircuitBreaker.at`."""

    def __init__(self, breaker: CircuitBreaker, circuits: Circuits, key: Hashable) -> None:
        super().__init__(circuits, key)
        self._breaker = breaker

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function under this circuit.

        Returns:
            What the function returns.

        Raises:
            CircuitBreakerOpenError: If the circuit rejects the call.
            TypeError: If ``function`` is not an async callable.
        """
        guarded = self._breaker.guard(
            as_async(function), qualified_name(function), lambda *_, **__: self._key
        )
        return await guarded(*args, **kwargs)

    def _policy(self) -> Policy:
        return self._breaker


@overload
def circuit_breaker(function: Callable[P, Awaitable[R]], /) -> Callable[P, CoroutineType[Any, Any, R]]: ...


@overload
def circuit_breaker(failure_threshold: int | None = None, **options: Unpack[Options]) -> CircuitBreaker: ...


def circuit_breaker(
    failure_threshold: Any = None,
    *,
    recovery_timeout: Seconds | Pauses = DEFAULT_PAUSE,
    failure_rate: float | None = None,
    window: int | timedelta = 100,
    minimum_calls: int | None = None,
    slow_call: Seconds | None = None,
    slow_call_rate: float = 1.0,
    abandoned_rate: float | None = None,
    half_open_calls: int = 1,
    half_open_rates: Sequence[float] = (),
    half_open_stage: Seconds | None = None,
    on: Errors = Exception,
    ignore: Errors = (),
    on_result: Callable[[Any], object] | None = None,
    key: Callable[..., Hashable] | None = None,
    max_keys: int = 10_000,
    name: str | None = None,
) -> Any:
    """Reject calls for a while when too many of them fail or are slow; works with and without arguments.

    Args:
        failure_threshold: Failures in a row that open the circuit, 1 or more; default: 5, or no such rule
            if ``failure_rate`` or ``slow_call`` is given. All rules that are given apply.
        recovery_timeout: How long the circuit stays open, seconds or ``timedelta``, 0 or more. For a pause
            that grows with the number of openings in a row: a sequence of them, the last of which repeats,
            a `FullJitter` or `DecorrelatedJitter`, or a wait of tenacity. Should be longer than a call
            takes: a probe that has not returned after it gives its place to another one, and its result
            counts for nothing. After a pause of 0, of a jitter or of a wait a probe has at least 1 s.
        failure_rate: The part of the calls in the window, 0 to 1, that opens the circuit when it failed;
            0 means at the first failure.
        window: The last calls that the rates judge, 1 or more, or the last seconds, as a ``timedelta``
            above 0, which is forgotten in twentieths.
        minimum_calls: How many calls the window must hold to be judged, 1 or more, not more than
            ``window``; default: 20, or ``window`` if that is less.
        slow_call: Seconds or ``timedelta``, 0 or more, from which on a call is slow; a success that is
            slow is no failure.
        slow_call_rate: The part of the calls in the window, 0 to 1, that opens the circuit when it was
            slow.
        abandoned_rate: The part of the calls in the window, 0 to 1, that opens the circuit when it was
            cancelled, so that a service which never answers does so although an outer time limit or a
            hedge cancels every call. Default: a cancellation counts as nothing, as that of a probe always
            does. A call that is closed, as by the garbage collector, is not cancelled.
        half_open_calls: How many probes may run at once, and must succeed, 1 or more.
        half_open_rates: The parts of the calls that pass one after the other when the probes have
            succeeded, above 0, rising, at most 1, as in ``(0.01, 0.05, 0.25, 0.5)``; then the circuit
            closes. Which calls pass is no matter of chance. They are judged from zero by the rules of a
            closed circuit: what would open it opens it again. The others are rejected without a
            ``retry_after``. Default: the circuit closes at once.
        half_open_stage: How long each part passes at least, seconds or ``timedelta`` above 0, and until one
            of its calls has succeeded; default: as long as a probe keeps its place.
        on: Exceptions that are failures: a type, a tuple of types, or a function of the exception. Others
            count as nothing.
        ignore: Exceptions that count as nothing though they are in ``on``; given like ``on``.
        on_result: Function of the value; true makes the call a failure.
        key: Function of the call's arguments; calls with the same key share a circuit.
        max_keys: How many keys have a circuit of their own at most, 1 or more.
        name: What events and errors call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with. A decorated function raises `CircuitBreakerOpenError` when
        it is not called. Safe for concurrent tasks, threads and loops.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range.

    Example:
        >>> import asyncio
        >>> breaker = circuit_breaker(failure_threshold=2, recovery_timeout=30)
        >>> @breaker
        ... async def fetch() -> str:
        ...     raise ConnectionError("down")
        >>> async def main() -> None:
        ...     for _ in range(3):
        ...         try:
        ...             await fetch()
        ...         except Exception as error:
        ...             print(type(error).__name__)
        >>> asyncio.run(main())
        ConnectionError
        ConnectionError
        CircuitBreakerOpenError
        >>> breaker.state
        <CircuitState.OPEN: 'open'>
    """
    if is_decoratable(failure_threshold):
        return circuit_breaker()(failure_threshold)
    if failure_threshold is None and failure_rate is None and slow_call is None:
        failure_threshold = 5
    window = calls_or_seconds("window", window)
    config = CircuitBreakerConfig(
        failure_threshold=optional(_arguments.whole, "failure_threshold", failure_threshold),
        recovery_timeout=pause_or_pauses("recovery_timeout", recovery_timeout),
        failure_rate=optional(_arguments.fraction, "failure_rate", failure_rate),
        window=window,
        minimum_calls=minimum_of(window, minimum_calls),
        slow_call=optional(_arguments.seconds, "slow_call", slow_call),
        slow_call_rate=_arguments.fraction("slow_call_rate", slow_call_rate),
        abandoned_rate=optional(_arguments.fraction, "abandoned_rate", abandoned_rate),
        half_open_calls=_arguments.whole("half_open_calls", half_open_calls),
        half_open_rates=rising_rates("half_open_rates", half_open_rates),
        half_open_stage=optional(time_of_stage, "half_open_stage", half_open_stage),
        on=_arguments.errors_or_predicate("on", on),
        ignore=_arguments.errors_or_predicate("ignore", ignore),
        on_result=optional(_arguments.function_of_value, "on_result", on_result),
        key=optional(_arguments.plain_function, "key", key),
        max_keys=_arguments.whole("max_keys", max_keys),
    )
    return CircuitBreaker(config, name=name)
