"""What stands between a call of the client and the wire.

The layers, outermost first::

    fallback, map_errors, track_metrics    of an endpoint
    presented                              errors become those of httpx too, typed if asked for
    response cache                         what it answers goes no further; requests cross it as they are
    total timeout                          of the call, and of each exchange for the cache
    answered                               the last response, or the last error, ends the call
    retry
    observed                               notes what failed
    circuit breaker, one circuit per origin
    the server's word                      waits while the server has asked to be left alone
    rate limit
    bulkhead
    attempt timeout
    judged                                 an error status is a failure, and some failures are neutral
    listening                              notes what the server says of its limits
    the attempt

A pipeline is built once for each set of policies, not for each request. Its layers are plain async
functions of the ``httpx.Request``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from resilience import (
    Bulkhead,
    CircuitBreaker,
    Policy,
    RateLimit,
    RejectedError,
    Retry,
    Timeout,
)
from resilience_httpx._call import Send, current
from resilience_httpx._circuits import NeutralError, guard, origin_of_request
from resilience_httpx._error_map import ErrorMap
from resilience_httpx._errors import note_retry_after
from resilience_httpx._failures import is_wire_fault, request_of
from resilience_httpx._narrowing import narrowed
from resilience_httpx._origins import origin_of
from resilience_httpx._outcome import answered, completed, presented
from resilience_httpx._packages import httpx
from resilience_httpx._response_cache import ResponseCache
from resilience_httpx._server_limits import ServerLimits
from resilience_httpx._server_word import honouring, listening, raised_response, still_free

_AROUND_THE_CALL = ("fallback", "map_errors", "track_metrics")


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a pipeline; ``None`` for one that is off.

    Attributes:
        others: Those of an endpoint that the client has no argument for.
    """

    retry: Retry | None
    rate_limit: RateLimit | None
    circuit_breaker: CircuitBreaker | None
    attempt_timeout: Timeout | None
    total_timeout: Timeout | None
    others: tuple[Policy, ...] = ()
    cache: ResponseCache | None = None
    server_limits: ServerLimits | None = None
    bulkhead: Bulkhead | None = None


class Pipeline(NamedTuple):
    """The way of a request through a set of policies.

    Attributes:
        send: The outermost layer.
        retries: Whether anything is sent again.
        shows_requests: Whether a function of the user's sees requests, so that these must not be the ones
            that sending changes.
    """

    send: Send
    retries: bool
    shows_requests: bool


def build(
    policies: Policies, attempt: Send, *, use: str, home: str | None, raises: bool, errors: ErrorMap
) -> Pipeline:
    """Put an attempt under a set of policies.

    Args:
        policies: The policies.
        attempt: Sends a request once.
        use: What events call policies without a name.
        home: The client's own origin, if it is known.
        raises: Whether error statuses are raised, and errors of the network typed.
        errors: Makes the errors of error statuses.
    """
    _name(policies, use)
    around = sorted(
        (each for each in policies.others if each.kind in _AROUND_THE_CALL),
        key=lambda each: _AROUND_THE_CALL.index(each.kind),
    )
    innermost = [each for each in policies.others if each not in around]

    limits = policies.server_limits
    send = attempt if limits is None else listening(limits, attempt)
    send = _judged(_under(innermost, send, use), errors)
    send = _under([policies.bulkhead, policies.attempt_timeout], send, use)
    if policies.rate_limit is not None:
        send = policies.rate_limit.wrap(send if limits is None else still_free(limits, send), use)
    if limits is not None:
        send = honouring(limits, send)
    if policies.circuit_breaker is not None:
        send = guard(policies.circuit_breaker, send, use, home)
    send = _observed(send)
    if policies.retry is not None:
        send = _repeated(policies.retry, send, use, raises=raises)
    send = answered(send, errors, raises=raises)
    if policies.cache is None:
        send = _under([policies.total_timeout], send, use)
    else:
        send = policies.cache.over(send, policies.total_timeout, use)
    send = presented(send, errors, typed=raises)
    if around:
        send = completed(_under(around, send, use), use)
    return Pipeline(send, policies.retry is not None, _show_requests(policies))


def _name(policies: Policies, use: str) -> None:
    """Give those without a name the one that their events have, for the page of `snapshot`."""
    named = (policies.retry, policies.rate_limit, policies.circuit_breaker, policies.bulkhead)
    for policy in (*named, *policies.others):
        if policy is not None:
            policy.note_use(use)


def _show_requests(policies: Policies) -> bool:
    """Whether a function of the user's sees requests: it may keep them, and must not see credentials."""
    if policies.others or policies.cache is not None:
        return True
    limit, breaker, bulkhead = policies.rate_limit, policies.circuit_breaker, policies.bulkhead
    if bulkhead is not None and (bulkhead.config.key is not None or callable(bulkhead.config.priority)):
        return True
    if limit is not None and (limit.config.key is not None or callable(limit.config.cost)):
        return True
    return breaker is not None and breaker.config.key not in (None, origin_of_request)


def _under(policies: Iterable[Policy | None], send: Send, use: str) -> Send:
    for policy in reversed([*policies]):
        if policy is not None:
            send = policy.wrap(send, use)
    return send


def _judged(attempt: Send, errors: ErrorMap) -> Send:
    """Make failures of responses with an error status, and say which failures are not the server's."""

    async def judged(request: httpx.Request) -> httpx.Response:
        try:
            response = await attempt(request)
        except Exception as error:
            if raised_response(error) is not None:
                note_retry_after(error, current.get().asked_pause)
            if _tells_of(request, error):
                raise
            raise NeutralError(error) from error
        if response.status_code < 400:
            return response
        call = current.get()
        answer = call.answer = errors.error(response)
        if call.asked_pause is not None:
            answer.retry_after = call.asked_pause
        try:
            raise answer if _tells_of(request, answer) else NeutralError(answer)
        finally:
            del answer  # an error in a local variable of its own traceback would be a cycle

    return judged


def _tells_of(request: httpx.Request, error: Exception) -> bool:
    """Whether a failure tells of the server that the request was for; a redirect may lead elsewhere."""
    failed = request_of(error)
    return is_wire_fault(error) and (failed is None or origin_of(failed.url) == origin_of(request.url))


def _observed(send: Send) -> Send:
    """Begin each attempt with the request as it was; note its failure, and unwrap it."""

    async def observed(request: httpx.Request) -> httpx.Response:
        call = current.get()
        if call.sent is not None:  # sending has changed that one
            request = call.request
        try:
            return await send(request)
        except NeutralError as neutral:
            error = neutral.error
        except RejectedError:
            raise
        except Exception as failure:
            call.failure = failure
            raise
        try:
            call.failure = error
            raise error
        finally:
            del error

    return observed


def _repeated(policy: Retry, send: Send, use: str, *, raises: bool) -> Send:
    repeated = narrowed(policy, raises=raises).wrap(send, use)

    async def repeated_if_enabled(request: httpx.Request) -> httpx.Response:
        return await (repeated if policy.enabled else send)(request)

    return repeated_if_enabled
