"""The outermost layers of a call: with what it ends, and how its caller sees that."""

from __future__ import annotations

import contextlib

from resilience import CallTimeoutError, RejectedError, ResilienceError, _clock
from resilience_httpx._bodies import read, read_if_short
from resilience_httpx._call import Call, Send, current
from resilience_httpx._error_map import ErrorMap
from resilience_httpx._errors import client_error, note_call
from resilience_httpx._middleware import check_response, complete
from resilience_httpx._packages import classes, httpx
from resilience_httpx._sending import NOT_REPLAYABLE, is_replayable, may_be_sent_again

_STATUS_ERRORS = classes(httpx.HTTPStatusError)
_REQUEST_ERRORS = classes(httpx.RequestError)


def answered(send: Send, errors: ErrorMap, *, raises: bool) -> Send:
    """End the call with its last response or its last error, whichever policy ended it."""

    async def call_answered(request: httpx.Request) -> httpx.Response:
        call = current.get()
        try:
            return await send(request)
        except Exception as failure:
            error = _last_failure(call, failure)
        is_lost = call.keep_answer()
        answer = call.answer
        try:
            if answer is None or error is not answer:
                raise error
            if is_lost:
                answer.add_note("its body, a long one, was given up in the wait for another attempt")
                raise answer
            if raises:
                await _read_for_error(answer.response, stream=call.stream)
                raise errors.refined(answer)
            call.answer = None  # it is the caller's now
            if not call.stream:
                await read(answer.response)
            return answer.response
        finally:
            del error, answer

    return call_answered


def _last_failure(call: Call, failure: Exception) -> Exception:
    """Return what the caller shall see of a call that failed."""
    if isinstance(failure, RejectedError) and call.failure not in (None, failure):
        # A policy that refuses another attempt must not hide how the last one ended.
        call.failure.add_note(f"not sent again: {failure}")
        return call.failure
    sent_once = call.retries and not is_replayable(call.request)
    is_answered = call.is_answered
    if sent_once and may_be_sent_again(failure, call.request, call.sent, is_answered=is_answered):
        failure.add_note(NOT_REPLAYABLE)
    return failure


async def _read_for_error(response: httpx.Response, *, stream: bool) -> None:
    with contextlib.suppress(*_REQUEST_ERRORS):  # the status says more than a body that is broken
        await (read_if_short(response) if stream else read(response))


def presented(send: Send, errors: ErrorMap, *, typed: bool) -> Send:
    """Make the errors that leave the client those that its caller catches."""

    async def call_presented(request: httpx.Request) -> httpx.Response:
        try:
            return await send(request)
        except Exception as error:
            call = current.get()
            shown = client_error(error, call.given, typed=typed, make=errors.error)
            note_call(shown, call.attempts, _clock.monotonic() - call.started)
            try:
                if shown is error:
                    raise
                raise shown.with_traceback(error.__traceback__) from _cause(error)
            finally:
                del shown

    return call_presented


def completed(send: Send, use: str) -> Send:
    """Give a response that a fallback made what one from the wire has."""

    async def call_completed(request: httpx.Request) -> httpx.Response:
        response = check_response(f"the fallback of {use}", await send(request))
        if getattr(response, "_request", None) is None:
            complete(response, request)
        return response

    return call_completed


def _cause(error: Exception) -> BaseException | None:
    """Return the last real error behind an error that was made anew."""
    last = current.get().failure
    if isinstance(error, CallTimeoutError) and last is not None and last is not error:
        return last
    if isinstance(error, _STATUS_ERRORS):
        return None  # its text has the whole URL
    return error.__cause__ if isinstance(error, ResilienceError) else error
