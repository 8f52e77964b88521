"""One call under `retry`: what was tried, whether to try again, and the wait until then.

Nothing of a call is kept on the policy. A `Call` is made when the first attempt has failed, or before it
if there is a deadline or values are judged. It decides in this order: is the error worth a retry, are
attempts left, does the wait fit the cap and every deadline, does the budget allow it. The error of an
attempt is let go on every way out: kept in a local variable it would form a cycle with its own traceback.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from asyncio import CancelledError
from collections.abc import Awaitable, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from resilience import _backoff, _clock, _deadline, _events
from resilience._errors import CallTimeoutError, RejectedError, RetryExhaustedError
from resilience._retry_rules import Rules, Target, is_try_again
from resilience._timeout import timeout_error

if TYPE_CHECKING:
    from resilience._retry_budget import Slice
    from resilience._tenacity import CallState

Verdict: TypeAlias = bool | Awaitable[bool]

# Without a wait, this many attempts follow one another directly, like any awaits in a row. From then on
# the loop gets a turn before each: a function that fails without ever waiting would otherwise hold up
# every other task, and no cancellation could reach this one.
_ATTEMPTS_IN_A_ROW = 3

_STOPPED_BECAUSE = {
    "exhausted": "no attempts left",
    "deadline": "no time left for another attempt",
    "budget": "the retry budget is used up",
    "retry_after": "retry_after is later than this call may wait",
    "not_retryable": "this error is not retried",
}


@coroutine
def _loop_turn() -> Generator[None, None, None]:
    """Let the loop run everything else that is ready, as ``sleep(0)`` does, which costs more."""
    yield


class Call:
    """One call and its attempts so far. Belongs to the task that makes the call.

    Args:
        rules: The rules of the policy.
        name: What events and errors call the policy.
        started: When the call began.
        attempts: How many attempts were made or begun.
        target: What is called.

    Attributes:
        error: What the last attempt raised, as long as it may be needed.
    """

    __slots__ = (
        "_delay",
        "_reserved",
        "_state",
        "_target",
        "attempts",
        "error",
        "name",
        "rules",
        "scope",
        "started",
    )

    def __init__(self, rules: Rules, name: str, started: float, attempts: int, target: Target) -> None:
        self.rules = rules
        self.name = name
        self.started = started
        self.attempts = attempts
        self.scope: _deadline.Scope | None = None
        self._target = target
        self._state: CallState | None = None
        self.error: Exception | None = None
        self._delay = 0.0

    async def goes_on(self, error: Exception | None, value: object = None) -> bool:
        """Decide what follows an attempt, and wait for the next one.

        Args:
            error: What the attempt raised, or ``None`` if it returned.
            value: What it returned.

        Returns:
            Whether to make another attempt, now. If not, the call ends with the value, or with the error,
            which then has a note that tells why.

        Raises:
            RetryExhaustedError: In place of the error, if the policy wraps errors.
        """
        now = _clock.monotonic()
        rules = self.rules
        _tell_what_came_before(error, self.error)
        self.error = error
        self._reserved: Slice | None = None
        reason: str | None = "not_retryable"
        goes_on = False
        try:
            retried = self._judge_value(value, now) if error is None else self._judge(error, now)
            if retried.__class__ is not bool:
                retried = await _settled(retried)
                now = _clock.monotonic()
            if retried:
                reason = await self._consult() if rules.has_strategies else self._plan(now)
            if reason is None:
                if self._delay:
                    await _clock.sleep(self._delay)
                elif self.attempts >= _ATTEMPTS_IN_A_ROW:
                    await _loop_turn()
                goes_on = _deadline.innermost.get() is None or self._is_in_time()
        except (Exception, CancelledError) as fault:
            self.explain(fault)
            raise
        finally:
            if not goes_on:
                self._let_go()
        if not goes_on:
            self._give_up(reason or "deadline", error)
        return goes_on

    def succeeded(self) -> None:
        """Report a success that took more than one attempt."""
        if self.attempts > 1 and _events.listeners:
            _events.emit("retry.succeeded", self.name, attempts=self.attempts, elapsed=self._elapsed())

    def timeout_error(self) -> CallTimeoutError:
        """Report that the call's own deadline cut an attempt off, and make the error to raise."""
        assert self.rules.deadline is not None
        error = timeout_error(self.rules.deadline, self.name)
        self._report("deadline", error)
        return error

    def explain(self, fault: BaseException) -> None:
        """Give the last error as cause to what must not hide it: a cancellation, or a fault of a predicate.

        A time limit around the call, whose cancellation it may be, passes the cause on.
        """
        if self.error is not None and fault is not self.error and fault.__cause__ is None:
            with contextlib.suppress(Exception):  # see `_note`; its context tells then
                fault.__cause__ = self.error

    def close_scope(self) -> bool:
        """Leave the call's own deadline, if it is under one; see `Scope.close`."""
        scope, self.scope = self.scope, None
        return scope is not None and scope.close()

    def close(self) -> None:
        """Leave the deadline, and let go of what would keep an error alive."""
        self.close_scope()
        self.error = self._state = None

    def _judge(self, error: Exception, now: float) -> Verdict:
        rules = self.rules
        if rules.needs_state:
            self._record(now, error)
        if isinstance(error, RejectedError) and not isinstance(error, rules.rejections):
            return False
        if rules.types is not None:
            return isinstance(error, rules.types) or is_try_again(error)
        if is_try_again(error):
            return True
        verdict: Verdict = rules.on(self._state if rules.on_is_tenacity else error)
        return verdict

    async def _judge_value(self, value: object, now: float) -> bool:
        rules = self.rules
        if rules.needs_state:
            self._record(now, None, value)
        if rules.on_result is not None and await _settled(rules.on_result(value)):
            return True
        return rules.on_is_tenacity and await _settled(rules.on(self._state))

    async def _consult(self) -> str | None:
        """Plan the next attempt with strategies that the user gave; see `_plan`."""
        rules, state = self.rules, self._state
        assert state is not None
        if self.attempts == rules.attempts:
            return "exhausted"
        if rules.strategy is None:
            delay = rules.backoff.delay(self.attempts, self._delay)
        else:
            delay = rules.strategy(state)
            if delay.__class__ is not float or not delay >= 0:
                delay = _backoff.checked_delay(await _settled(delay))
        if rules.stop is not None:
            state.upcoming_sleep = max(delay, _backoff.retry_after(self.error))
            stopped = rules.stop(state)
            if stopped.__class__ is not bool:
                stopped = await _settled(stopped)
            if stopped:
                return "exhausted"
        reason = self._plan(_clock.monotonic(), delay)
        if reason is None:
            state.idle_for += self._delay
        return reason

    def _plan(self, now: float, delay: float | None = None) -> str | None:
        """Charge the next attempt to the budget, or return the reason why there is none."""
        rules = self.rules
        if delay is None:
            if self.attempts == rules.attempts:
                return "exhausted"
            delay = rules.backoff.delay(self.attempts, self._delay)
        obstacle = "deadline"
        asked = _backoff.retry_after(self.error)
        if asked > delay:
            obstacle = "retry_after"
            delay = asked
            if asked > rules.longest_wait:
                return obstacle
        left = _deadline.remaining(now)
        if delay >= _backoff.FOREVER or (left is not None and left <= delay):
            return obstacle
        # What a policy of ours refused did not reach the other side: to repeat it adds no load there.
        if rules.budget is not None and not isinstance(self.error, RejectedError):
            self._reserved = rules.budget.reserve(now)
            if self._reserved is None:
                return "budget"
        if obstacle == "retry_after" and not isinstance(self.error, RejectedError):
            delay += _backoff.later(delay, math.inf if left is None else left - delay)
        self._delay = delay
        if _events.listeners:
            facts = {"attempt": self.attempts, "delay": delay, "error": _kind(self.error)}
            _events.emit("retry.scheduled", self.name, **facts)
        return None

    def _is_in_time(self) -> bool:
        """Whether there is time for an attempt; the wait may have taken longer than it should."""
        left = _deadline.remaining(_clock.monotonic())
        return left is None or left > 0

    def _let_go(self) -> None:
        """Undo what was prepared for an attempt that is not made."""
        self.error = self._state = None
        if self._reserved is not None and self.rules.budget is not None:
            self.rules.budget.refund(self._reserved)

    def _record(self, now: float, error: Exception | None, value: object = None) -> None:
        if self._state is None:
            self._state = self.rules.new_state(self._target, self.started)
        self._state.record(self.attempts, now, error, value)

    def _give_up(self, reason: str, error: Exception | None) -> None:
        if reason == "not_retryable" and error is None:
            self.succeeded()
            return
        if reason == "not_retryable" and self.attempts == 1:
            return  # nothing was retried: as if undecorated
        elapsed = self._report(reason, error)
        attempts = f"{self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        text = f"gave up after {attempts} in {elapsed:.3g} s: {_STOPPED_BECAUSE[reason]}"
        if self.rules.wrap and reason != "not_retryable":
            details = {"policy": self.name, "reason": reason}
            raise RetryExhaustedError(
                f"{self.name}: {text}", attempts=self.attempts, elapsed=elapsed, details=details
            ) from error
        if error is not None:
            _note(error, text)

    def _report(self, reason: str, error: Exception | None) -> float:
        elapsed = self._elapsed()
        if _events.listeners:
            facts = {"reason": reason, "attempts": self.attempts, "elapsed": elapsed, "error": _kind(error)}
            _events.emit("retry.gave_up", self.name, **facts)
        return elapsed

    def _elapsed(self) -> float:
        return _clock.monotonic() - self.started


def _tell_what_came_before(error: Exception | None, before: Exception | None) -> None:
    """Give a rejection the last real error as its cause: by itself it does not tell what went wrong."""
    if isinstance(error, RejectedError) and error.__cause__ is None:
        cause = before.__cause__ if isinstance(before, RejectedError) else before
        if cause is not None:
            error.__cause__ = cause


async def _settled(value: Any) -> Any:
    """Return what a function of the user's returned, awaited if it was an async one."""
    return await value if inspect.isawaitable(value) else value


def _kind(error: Exception | None) -> str | None:
    """Name an error without its text, which may hold a secret."""
    return None if error is None else type(error).__qualname__


def _note(error: Exception, text: str) -> None:
    """Add the note, in place of one that an earlier raise of the same object left."""
    with contextlib.suppress(Exception):  # an exception may forbid attributes; it is still the one to raise
        notes: list[str] = getattr(error, "__notes__", [])
        notes[:] = [each for each in notes if not each.startswith("gave up after ")]
        error.add_note(text)
