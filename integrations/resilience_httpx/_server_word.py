"""The layers by which a call heeds what the server says of its limits; see `ServerLimits`."""

from __future__ import annotations

from typing import Any

from resilience_httpx._call import Send, current
from resilience_httpx._packages import classes, httpx
from resilience_httpx._server_limits import ServerLimits

_STATUS_ERRORS = classes(httpx.HTTPStatusError)


class _BlockedMeanwhileError(Exception):
    """The server asked to be left alone while a request waited for its turn."""


def honouring(limits: ServerLimits, send: Send) -> Send:
    """Wait while the server has asked to be left alone."""

    async def honoured(request: httpx.Request) -> httpx.Response:
        while True:
            passage = await limits.enter(request) if limits.has_heard else None
            answered = False
            try:
                response = await send(request)
                answered = True
                return response
            except _BlockedMeanwhileError:
                continue  # in the line of the limit again: its turn is over
            except Exception:
                answered = True
                raise
            finally:
                if passage is not None:
                    limits.leave(passage, answered=answered)

    return honoured


def still_free(limits: ServerLimits, send: Send) -> Send:
    """Look once more after the wait for a limit, in which the server may have spoken."""

    async def still_free(request: httpx.Request) -> httpx.Response:
        if limits.has_heard and limits.is_blocked(request):
            raise _BlockedMeanwhileError
        return await send(request)

    return still_free


def listening(limits: ServerLimits, send: Send) -> Send:
    """Note what the server says of its limits."""

    async def listening(request: httpx.Request) -> httpx.Response:
        number = limits.number()
        try:
            response = await send(request)
        except Exception as error:
            refused = raised_response(error)
            if refused is not None:
                _hear(limits, refused, number)
            raise
        _hear(limits, response, number)
        return response

    return listening


def _hear(limits: ServerLimits, response: httpx.Response, number: int) -> None:
    call = current.get()
    told = limits.has_something_to_say(response)
    call.asked_pause = limits.hear(call.request, response, number) if told else None


def raised_response(error: Any) -> httpx.Response | None:
    """Return the response of a status that an event hook raised as an error."""
    return error.response if isinstance(error, _STATUS_ERRORS) else None
