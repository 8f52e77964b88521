"""The one event stream: whatever observes the policies (logs, metrics, dashboards) is a listener of it.

A policy that has something to tell writes::

    if _events.listeners:
        _events.emit("retry.scheduled", name, attempt=2, delay=0.4)

so that with no listener registered an event costs one check, and its attributes are never built.
Events are sent outside of every lock, after the decision they tell of has been recorded: a listener
may call back into the policy.
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import sep
from traceback import walk_tb
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from resilience import _arguments, _clock


class Event(NamedTuple):
    """Something that a policy did.

    Attributes:
        kind: What happened, ``"<policy>.<what>"``, such as ``"circuit_breaker.opened"``.
        policy: The kind of policy: the first half of ``kind``.
        name: The policy's name: its ``name=``, or the qualified name of the decorated function.
        at: When it happened, in monotonic seconds.
        attributes: The facts that belong to this kind of event; read-only.
    """

    kind: str
    policy: str
    name: str
    at: float
    attributes: Mapping[str, object]


Listener: TypeAlias = Callable[[Event], object]


class _Subscription:
    """One subscription of a listener, which may have several."""

    __slots__ = ("failed", "listener")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.failed = False


listeners: tuple[_Subscription, ...] = ()
"""Who listens now. Replaced as a whole, never changed, so that an emission sees one consistent set."""

_lock = threading.Lock()


def subscribe(listener: Listener) -> Callable[[], None]:
    """Send every later event of every policy to a listener.

    A listener is a plain function; it runs inside the call that caused the event, so it should be
    quick. What it raises is logged once and does not affect the call. Safe from any thread.

    Args:
        listener: Called with each `Event`. May be subscribed more than once.

    Returns:
        A function that ends this subscription; calling it again does nothing.

    Raises:
        TypeError: If ``listener`` is not callable, or async.

    Example:
        >>> seen = []
        >>> unsubscribe = subscribe(seen.append)
        >>> unsubscribe()
    """
    global listeners
    subscription = _Subscription(_arguments.plain_function("listener", listener, "the event"))
    with _lock:
        listeners = (*listeners, subscription)

    def unsubscribe() -> None:
        global listeners
        with _lock:
            listeners = tuple(other for other in listeners if other is not subscription)

    return unsubscribe


def emit(kind: str, name: str, /, **attributes: object) -> None:
    """Send an event to all listeners. Call it only if `listeners` is not empty."""
    policy = kind.partition(".")[0]
    event = Event(kind, policy, name, _clock.monotonic(), MappingProxyType(attributes))
    for subscription in listeners:
        try:
            subscription.listener(event)
        except (Exception, CancelledError) as error:
            _report(subscription, error)


def _report(subscription: _Subscription, error: BaseException) -> None:
    """Log the first failure of a listener; the same fault again at every event would be a flood."""
    if subscription.failed:
        return
    subscription.failed = True
    from loguru import logger

    # Neither the text of the error nor its traceback, in which loguru shows the arguments of the call:
    # a secret may be in both.
    name = getattr(subscription.listener, "__qualname__", type(subscription.listener).__qualname__)
    code, line = _origin(error)
    with suppress(Exception):  # a sink of the application's may be broken, too
        logger.error(
            "The listener {} of resilience events failed with {} at {}:{}; told only once.",
            name,
            type(error).__qualname__,
            code,
            line,
        )


def _origin(error: BaseException) -> tuple[str, int]:
    """Return the file and the line that raised an error."""
    *_, (frame, line) = walk_tb(error.__traceback__)
    _, _, file = frame.f_code.co_filename.rpartition(sep)
    return file, line
