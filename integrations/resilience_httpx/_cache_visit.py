"""A call that comes to the response cache, what it finds there, and what an exchange brings it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from resilience_httpx import _cache_rules as rules
from resilience_httpx._cache_keys import Owner, header_of, is_as_shown, is_variant
from resilience_httpx._cache_rules import StoredResponse
from resilience_httpx._call import Call, Send
from resilience_httpx._packages import httpx


@dataclass(slots=True)
class Visit:
    """A call that comes to the cache.

    Attributes:
        call: The call.
        key: The key of its request.
        slot: The key that its response has: another one if that varies.
        owner: Whose its response will be.
        alone: Sends a request as part of the caller's own call.
        exchange: Sends a request as a call of its own.
    """

    call: Call
    key: str
    slot: str
    owner: Owner
    alone: Send
    exchange: Callable[[httpx.Request, Call], Awaitable[httpx.Response]]

    @property
    def request(self) -> httpx.Request:
        """The request as the caller made it."""
        return self.call.request

    def response(self, stored: StoredResponse, age: float, origin: str) -> httpx.Response:
        """Make a response for the caller of what is stored."""
        response = stored.response(self.call.given, age, origin)
        response.default_encoding = self.call.default_encoding()
        return response

    def fits(self, sent: httpx.Request, vary: str) -> bool:
        """Whether the response to what was sent in the end is certainly the one that the slot is for.

        Args:
            sent: The request as it was sent.
            vary: What the response varies by.
        """
        if not (self.owner.is_told or is_as_shown(self.request, sent, self.call.auth)):
            return False
        return is_variant(rules.varying(vary), self.request, sent)


@dataclass(frozen=True, slots=True)
class Found:
    """A stored response and its age in seconds."""

    stored: StoredResponse
    age: float

    def is_within(self, directive: str, request: httpx.Request, default: float) -> bool:
        """Whether it may be used although it has expired."""
        window = rules.stale_window(self.stored, directive, request, default)
        return window > 0 and self.age < self.stored.lifetime + window


@dataclass(frozen=True, slots=True)
class Answer:
    """What an exchange brought.

    Attributes:
        request: The request of the call that asked for it.
        response: What that call gets.
        copy: What others may get, if anything.
        age: The age of the copy in seconds.
    """

    request: httpx.Request
    response: httpx.Response
    copy: StoredResponse | None
    age: float

    def copied_for(self, visit: Visit) -> httpx.Response | None:
        """Return a response for another call, if this one may answer it."""
        if self.copy is None:
            return None
        names = rules.varying(self.copy.header("vary"))
        if any(header_of(self.request, name) != header_of(visit.request, name) for name in names):
            return None
        return visit.response(self.copy, self.age, "shared")
