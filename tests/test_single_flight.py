"""One call for all who miss a key at the same time; each caller waits by itself."""

import asyncio
import contextvars
import copy
import gc
import threading
import traceback
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilience import Cached, CallTimeoutError, Event, cached, deadline, retry, stack, timeout
from resilience._single_flight import Flight
from tests.support.virtual_time import VirtualTimeLoop, advance, now, settle


class Source:
    """A cached function whose calls end when the test says so."""

    def __init__(self, **options: Any) -> None:
        self.policy: Cached = cached(**options)
        self.gates: list[asyncio.Future[Any]] = []
        self.ended: list[str] = []
        self.load = self.policy(self._load)

    async def _load(self, key: object = None) -> Any:
        gate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        try:
            value = await gate
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")
        return value

    @property
    def calls(self) -> int:
        return len(self.gates)

    def start(self, count: int = 1, key: object = None) -> list["asyncio.Task[Any]"]:
        return [asyncio.create_task(self.load(key)) for _ in range(count)]

    def is_idle(self) -> bool:
        flights = self.policy._loads.flights
        return len(flights) == 0 and not flights._background and not flights._tables


async def test_concurrent_misses_make_one_call() -> None:
    source = Source()
    tasks = source.start(5)
    await settle()
    assert source.calls == 1
    source.gates[0].set_result("value")
    assert await asyncio.gather(*tasks) == ["value"] * 5
    info = source.policy.info()
    assert (info.misses, info.coalesced, info.hits, info.size) == (1, 4, 0, 1)
    assert source.is_idle()


async def test_t42_none_is_a_value() -> None:
    source = Source()
    tasks = source.start(3)
    await settle()
    source.gates[0].set_result(None)
    assert await asyncio.gather(*tasks) == [None] * 3
    assert await source.load() is None
    assert source.calls == 1


async def test_different_keys_load_apart() -> None:
    source = Source()
    tasks = source.start(2, "a") + source.start(2, "b")
    await settle()
    assert source.calls == 2
    source.gates[1].set_result("b")
    source.gates[0].set_result("a")
    assert await asyncio.gather(*tasks) == ["a", "a", "b", "b"]


# --- Cancellation -----------------------------------------------------------------------------------


async def test_t7_b14_the_first_caller_is_cancelled_and_the_others_get_their_value() -> None:
    source = Source()
    first, *others = source.start(4)
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    source.gates[0].set_result("value")
    assert await asyncio.gather(*others) == ["value"] * 3
    assert source.calls == 1
    assert await source.load() == "value"


async def test_t7_a_follower_is_cancelled_and_nobody_else() -> None:
    source = Source()
    first, second, third = source.start(3)
    await settle()
    second.cancel()
    await settle()
    source.gates[0].set_result("value")
    assert await asyncio.gather(first, third) == ["value"] * 2
    assert second.cancelled()


async def test_t7_the_last_one_to_leave_cancels_the_work_and_waits_for_its_end() -> None:
    cleaned: list[float] = []

    @cached()
    async def load() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            cleaned.append(now())

    tasks = [asyncio.create_task(load()) for _ in range(3)]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert cleaned == [2.0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_t7_cancelled_work_is_not_kept() -> None:
    source = Source()
    (task,) = source.start()
    await settle()
    task.cancel()
    await settle()
    assert source.ended == ["cancelled"]
    assert source.is_idle()
    (again,) = source.start()
    await settle()
    source.gates[1].set_result("value")
    assert await again == "value"


async def test_who_comes_as_the_last_one_leaves_begins_a_new_load() -> None:
    calls: list[int] = []

    @cached()
    async def load() -> int:
        calls.append(1)
        number = len(calls)
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(5)  # the cancelled work is still there when the other one comes
        return number

    first = asyncio.create_task(load())
    await settle()
    first.cancel()
    second = asyncio.create_task(load())
    await asyncio.sleep(0.5)
    third = asyncio.create_task(load())
    assert await asyncio.gather(second, third) == [2, 2]
    assert first.cancelled()
    assert await load() == 2
    assert len(calls) == 2


async def test_work_that_swallows_its_cancellation_does_not_swallow_the_callers() -> None:
    @cached()
    async def load() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return "late"

    task = asyncio.create_task(load())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert now() == 1
    assert await load() == "late", "a value of cancelled work is not kept"
    assert now() == 11


async def test_an_error_while_cancelled_work_cleans_up_is_not_lost_on_the_loop() -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    @cached()
    async def load() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("cleaning up")

    task = asyncio.create_task(load())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    gc.collect()
    assert problems == []


async def test_a_second_cancellation_reaches_the_clean_up() -> None:
    ended: list[str] = []

    @cached()
    async def load() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                ended.append("hurried")
                raise

    task = asyncio.create_task(load())
    await settle()
    task.cancel()
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ended == ["hurried"]
    assert now() == 0


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("who", ["first", "second", "both"])
async def test_cancelled_in_any_turn(turns: int, who: str) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    calls: list[str] = []
    policy = cached()

    @policy
    async def load() -> str:
        calls.append("begun")
        try:
            for _ in range(3):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            calls.append("cancelled")
            raise
        calls.append("done")
        return "value"

    tasks = {"first": asyncio.create_task(load()), "second": asyncio.create_task(load())}
    await settle(turns)
    cancelled = list(tasks.values()) if who == "both" else [tasks[who]]
    for task in cancelled:
        task.cancel()
    await asyncio.wait(tasks.values())
    for task in tasks.values():
        if task not in cancelled:
            assert task.result() == "value"
    flights = policy._loads.flights
    assert len(flights) == 0
    assert not flights._tables
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert calls.count("begun") == calls.count("done") + calls.count("cancelled") <= 2
    assert await load() == "value"
    gc.collect()
    assert problems == []


async def test_the_work_cancelled_by_itself_cancels_the_callers_and_nobody_hangs() -> None:
    source = Source()
    tasks = source.start(3)
    await settle()
    source.gates[0].cancel()
    done, _ = await asyncio.wait(tasks, timeout=1)
    assert len(done) == 3
    assert all(task.cancelled() for task in done)
    assert source.is_idle()


async def test_the_work_cancelled_before_its_first_step_leaves_nobody_hanging() -> None:
    source = Source()
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(source.load())
    await settle(1)
    (work,) = asyncio.all_tasks() - before - {waiting}
    work.cancel()
    done, _ = await asyncio.wait([waiting], timeout=1)
    assert done == {waiting}
    assert waiting.cancelled()
    assert source.is_idle()


async def test_a_closed_waiting_coroutine_lets_the_work_go() -> None:
    source = Source()
    coroutine = source.load("key")
    assert isinstance(coroutine.send(None), asyncio.Future)
    await settle()
    assert source.calls == 1
    coroutine.close()
    await settle()
    assert source.ended == ["cancelled"]
    assert source.is_idle()


async def test_of_two_overlapping_loads_the_older_may_end_last() -> None:
    source = Source()
    (old,) = source.start()
    await settle()
    source.policy.invalidate()
    (new,) = source.start()
    await settle()
    source.gates[1].set_result("new")
    assert await new == "new"
    source.gates[0].set_result("old")
    assert await old == "old"
    assert await source.load() == "new"

    source.policy.invalidate()
    (old,) = source.start()
    await settle()
    source.policy.invalidate()
    (new,) = source.start()
    await settle()
    source.gates[3].set_result("newer")
    assert await new == "newer"
    old.cancel()
    await settle()
    assert await source.load() == "newer"
    assert source.is_idle()


# --- Functions that call themselves ------------------------------------------------------------------


async def test_a_function_that_calls_itself_with_other_arguments_loads_each_once() -> None:
    policy = cached()

    @policy
    async def fibonacci(number: int) -> int:
        if number < 2:
            return number
        return sum(await asyncio.gather(fibonacci(number - 1), fibonacci(number - 2)))

    assert await fibonacci(20) == 6765
    assert policy.info().misses == 21


async def test_a_function_that_calls_itself_with_the_same_arguments_recurses_and_does_not_hang() -> None:
    @cached()
    async def forever(number: int) -> int:
        return await forever(number)

    @cached()
    async def ping(number: int) -> int:
        return await pong(number)

    @cached()
    async def pong(number: int) -> int:
        return await ping(number)

    for function in (forever, ping):
        with pytest.raises(RecursionError):
            await function(1)


async def test_a_load_in_the_background_that_calls_itself_does_not_hang() -> None:
    policy = cached(ttl=10, stale_while_revalidate=5)
    depth = 0

    @policy
    async def load() -> int:
        nonlocal depth
        depth += 1
        if depth == 2:
            advance(5)
            return await load()
        return depth

    await load()
    advance(10)
    assert await load() == 1
    await settle()
    assert depth == 3
    assert policy.snapshot()["in_flight"] == 0


async def test_nested_loads_leave_no_chain() -> None:
    @cached(ttl=0)
    async def load(number: int) -> "asyncio.Task[Any] | None":
        return asyncio.create_task(load(number - 1)) if number else None

    gc.collect()
    before = {id(each) for each in gc.get_objects() if type(each) is Flight}
    task = await load(50)
    while task is not None:
        task = await task
    gc.collect()
    alive = [each for each in gc.get_objects() if type(each) is Flight and id(each) not in before]
    assert len(alive) <= 2


# --- Time limits and context ------------------------------------------------------------------------


async def test_a_time_limit_of_one_caller_is_its_own() -> None:
    source = Source()
    hasty = asyncio.create_task(timeout(1)(source.load)())
    await settle()
    patient = asyncio.create_task(source.load())
    await asyncio.sleep(1.5)
    assert isinstance(hasty.exception(), CallTimeoutError)
    source.gates[0].set_result("value")
    assert await patient == "value"
    assert source.calls == 1


async def test_the_work_does_not_see_the_first_callers_deadline() -> None:
    seen: list[float | None] = []

    @timeout(10)
    @cached()
    async def load() -> None:
        seen.append(deadline())

    await load()
    assert seen == [None]


async def test_a_result_and_a_timeout_in_the_same_turn_are_the_result() -> None:
    @timeout(1)
    @cached()
    async def load() -> str:
        await asyncio.sleep(1)
        return "value"

    assert await load() == "value"


async def test_t50_the_work_runs_in_a_copy_of_the_first_callers_context() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @cached()
    async def load() -> str:
        seen = user.get()
        user.set("changed inside")
        await asyncio.sleep(1)
        return seen

    async def call(name: str) -> tuple[str, str]:
        user.set(name)
        return await load(), user.get()

    first, second = asyncio.create_task(call("first")), asyncio.create_task(call("second"))
    assert await first == ("first", "first")
    assert await second == ("first", "second")


# --- Errors -----------------------------------------------------------------------------------------


class FailureError(Exception):
    """With an attribute, a note and a cause."""

    def __init__(self, code: int) -> None:
        super().__init__(f"failed with {code}")
        self.code = code


async def collect(tasks: list["asyncio.Task[Any]"]) -> list[BaseException]:
    return [error for error in await asyncio.gather(*tasks, return_exceptions=True) if error]


async def test_t41_a_failing_load_fails_all_who_wait_at_once_and_is_not_kept() -> None:
    source = Source()
    tasks = source.start(100)
    await settle()
    source.gates[0].set_exception(FailureError(5))
    errors = await collect(tasks)
    assert source.calls == 1
    assert [(type(error), str(error), error.code) for error in errors] == [
        (FailureError, "failed with 5", 5)
    ] * 100
    assert source.policy.info().size == 0
    assert source.is_idle()
    (again,) = source.start()
    await settle()
    assert source.calls == 2
    source.gates[1].set_result(1)
    assert await again == 1


async def test_the_first_caller_gets_the_error_itself() -> None:
    source = Source()
    tasks = source.start(2)
    await settle()
    error = FailureError(5)
    error.add_note("a note")
    error.__cause__ = OSError("the cause")
    source.gates[0].set_exception(error)
    first, second = await collect(tasks)
    assert first is error
    assert second is not error
    assert second.__notes__ == ["a note"]
    assert second.__cause__ is error.__cause__
    assert second.__suppress_context__
    assert "_load" in [frame.name for frame in traceback.extract_tb(second.__traceback__)]
    first.add_note("of the first caller only")
    assert second.__notes__ == ["a note"]


async def test_t46_raising_in_many_callers_grows_no_traceback() -> None:
    source = Source()
    tasks = source.start(50)
    await settle()
    source.gates[0].set_exception(FailureError(5))
    errors = await collect(tasks)
    depths = {len(traceback.extract_tb(error.__traceback__)) for error in errors}
    assert max(depths) < 15
    assert len({id(error) for error in errors}) == 50


async def test_notes_that_callers_add_stay_with_them() -> None:
    source = Source()
    decorated = stack(retry(attempts=2, wait=0), source.policy, check=False)(source._load)
    tasks = [asyncio.create_task(decorated()) for _ in range(3)]
    await settle()
    source.gates[0].set_exception(FailureError(1))
    await settle()
    source.gates[1].set_exception(FailureError(2))
    errors = await collect(tasks)
    assert [len(error.__notes__) for error in errors] == [1, 1, 1]


async def test_an_error_that_cannot_be_copied_is_raised_itself() -> None:
    class StubbornError(Exception):
        def __new__(cls, *args: object) -> "StubbornError":
            if not args or args[0] != "allowed":
                raise RuntimeError("no second one")
            error = super().__new__(cls)
            error.args = ()
            return error

        def __init__(self, *args: object) -> None:
            pass

    source = Source()
    tasks = source.start(3)
    await settle()
    error = StubbornError("allowed")
    error.args = ()
    source.gates[0].set_exception(error)
    assert [each is error for each in await collect(tasks)] == [True] * 3


async def test_t34_errors_are_freed_without_garbage_collection() -> None:
    @cached(error_ttl=60)
    async def fail() -> None:
        await asyncio.sleep(1)
        raise FailureError(5)

    gc.collect()
    gc.disable()
    try:
        tasks = [asyncio.create_task(fail()) for _ in range(3)]
        references = [weakref.ref(error) for error in await collect(tasks)]
        del tasks
        await settle()
        assert [reference() for reference in references] == [None] * 3
        with pytest.raises(FailureError) as caught:
            await fail()
        reference = weakref.ref(caught.value)
        del caught
        assert reference() is None
    finally:
        gc.enable()


def test_what_is_no_exception_leaves_through_the_loop() -> None:
    @cached(error_ttl=60, stale_if_error=60)
    async def leave() -> None:
        raise KeyboardInterrupt("out")

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt, match="out"):
            asyncio.run(leave())


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text", 5),
        OSError(2, "no such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopAsyncIteration(3),
        CallTimeoutError("late", details={"a": 1}),
        FailureError(7),
        ExceptionGroup("several", [ValueError(1), FailureError(2)]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_copies_of_errors_tell_the_same(error: Exception) -> None:
    source = Source()
    tasks = source.start(2)
    await settle()
    source.gates[0].set_exception(error)
    first, second = await collect(tasks)
    assert first is error
    assert second is not error
    assert type(second) is type(error)
    assert str(second) == str(error)
    assert repr(second) == repr(error)


async def test_an_error_with_keyword_arguments_is_copied() -> None:
    class StatusError(Exception):
        def __init__(self, message: str, *, status: int) -> None:
            super().__init__(message)
            self.status = status

    with pytest.raises(TypeError):
        copy.copy(StatusError("bad", status=500))
    source = Source()
    tasks = source.start(2)
    await settle()
    source.gates[0].set_exception(StatusError("bad", status=500))
    first, second = await collect(tasks)
    assert second is not first
    assert (str(second), second.status) == ("bad", 500)


# --- Loops and threads ------------------------------------------------------------------------------


def test_t64_a_loop_that_is_cut_off_in_a_load_leaves_the_next_one_unharmed() -> None:
    policy = cached()
    calls: list[int] = []

    @policy
    async def load() -> str:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.sleep(1000)
        return f"value {len(calls)}"

    async def cut_off() -> None:
        tasks = [asyncio.create_task(load()) for _ in range(3)]
        await settle()
        assert not tasks[0].done()

    asyncio.run(cut_off())
    assert len(policy._loads.flights) == 0
    assert asyncio.run(load()) == "value 2"
    assert asyncio.run(load()) == "value 2"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_t64_a_loop_closed_without_any_goodbye_is_not_joined() -> None:
    policy = cached(stale_while_revalidate=1000)
    hang = True

    @policy
    async def load() -> str:
        if hang:
            await asyncio.sleep(1000)
        return "value"

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(load())
    loop.run_until_complete(settle())
    loop.close()
    assert len(policy._loads.flights) == 1
    hang = False

    async def twice() -> list[str]:
        return [await load(), await load()]

    assert asyncio.run(twice()) == ["value", "value"]
    assert len(policy._loads.flights) == 0
    assert not policy._loads.flights._tables
    del task
    gc.collect()


def test_t64_loops_load_apart_and_share_the_entries() -> None:
    policy = cached()
    together = threading.Barrier(4)
    calls: list[int] = []
    results: list[str] = []

    @policy
    async def load(key: str) -> str:
        calls.append(threading.get_ident())
        await asyncio.sleep(0.05)
        return key

    async def main() -> None:
        together.wait()
        results.extend(await asyncio.gather(*(load("a") for _ in range(20))))
        together.wait()
        results.append(await load("a"))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert results == ["a"] * 84
    assert len(calls) == len(set(calls)) <= 4
    info = policy.info()
    assert info.hits + info.misses + info.coalesced == 84
    assert len(policy._loads.flights) == 0


@pytest.mark.parametrize(
    "options", [{}, {"maxsize": 3}, {"ttl": 0}, {"stale_while_revalidate": 5, "ttl": 0.0001}]
)
def test_t51_threads_under_load(options: dict[str, Any]) -> None:
    policy = cached(**options)
    failures: list[BaseException] = []

    @policy
    async def load(key: int) -> int:
        await asyncio.sleep(0)
        return key

    async def work(number: int) -> None:
        for turn in range(60):
            keys = [(turn + each) % 7 for each in range(5)]
            assert await asyncio.gather(*map(load, keys)) == keys
            if turn % 10 == number:
                policy.invalidate(turn % 7)
            if turn % 50 == number:
                policy.clear()
            policy.info()
        await policy.aclose()

    def run(number: int) -> None:
        try:
            asyncio.run(work(number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []
    assert len(policy._loads.flights) == 0
    assert policy.info().size <= options.get("maxsize", 7)


def test_an_eager_task_factory_works_too() -> None:
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("new in Python 3.12")
    policy = cached()

    @policy
    async def at_once(key: int) -> int:
        return key

    @policy
    async def later(key: int) -> int:
        await asyncio.sleep(0)
        return key

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        assert await asyncio.gather(*(at_once(1) for _ in range(3))) == [1] * 3
        assert await asyncio.gather(*(later(1) for _ in range(3))) == [1] * 3

    asyncio.run(main())
    assert policy.info().misses == 2
    assert len(policy._loads.flights) == 0


def test_a_task_factory_that_fails_leaves_nothing() -> None:
    policy = cached()

    @policy
    async def load() -> int:
        return 1

    def refuse(loop: Any, coroutine: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        raise RuntimeError("no tasks today")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(refuse)
        with pytest.raises(RuntimeError, match="no tasks today"):
            await load()
        loop.set_task_factory(None)
        assert await load() == 1

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert len(policy._loads.flights) == 0


# --- Invalidation while a load is in flight ----------------------------------------------------------


FORGET: dict[str, Callable[[Cached], object]] = {
    "invalidate": lambda policy: policy.invalidate("key"),
    "invalidate_tag": lambda policy: policy.invalidate_tag("users"),
    "clear": lambda policy: policy.clear(),
    "reset": lambda policy: policy.reset(),
}


@pytest.mark.parametrize("forget", FORGET.values(), ids=FORGET.keys())
async def test_t38_what_is_forgotten_while_it_loads_is_not_kept(forget: Callable[[Cached], object]) -> None:
    source = Source(tags="users")
    old = source.start(2, "key")
    await settle()
    forget(source.policy)
    new = source.start(2, "key")
    await settle()
    assert source.calls == 2, "a later caller joined the older load"
    source.gates[0].set_result("old")
    assert await asyncio.gather(*old) == ["old", "old"]
    assert source.policy.info().size == 0
    later = source.start(1, "key")
    await settle()
    assert source.calls == 2, "the newer load can still be joined"
    source.gates[1].set_result("new")
    assert await asyncio.gather(*new, *later) == ["new"] * 3
    assert await source.load("key") == "new"
    assert source.is_idle()


@pytest.mark.parametrize("forget", FORGET.values(), ids=FORGET.keys())
async def test_t37_the_older_load_ends_last_and_does_not_touch_the_newer_entry(
    forget: Callable[[Cached], object],
) -> None:
    source = Source(tags="users", ttl=10)
    (old,) = source.start(1, "key")
    await settle()
    forget(source.policy)
    (new,) = source.start(1, "key")
    await settle()
    source.gates[1].set_result("new")
    assert await new == "new"
    advance(8)
    source.gates[0].set_result("old")
    assert await old == "old"
    assert await source.load("key") == "new"
    advance(2)
    (newest,) = source.start(1, "key")
    await settle()
    assert source.calls == 3, "the newer entry got the older load's time"
    source.gates[2].set_result("newest")
    assert await newest == "newest"


@pytest.mark.parametrize("forget", FORGET.values(), ids=FORGET.keys())
async def test_t38_a_failure_that_was_forgotten_while_it_loaded_is_not_remembered(
    forget: Callable[[Cached], object],
) -> None:
    source = Source(tags="users", error_ttl=60, stale_if_error=60, ttl=1)
    (task,) = source.start(1, "key")
    await settle()
    source.gates[0].set_result("old")
    await task
    advance(2)
    (task,) = source.start(1, "key")
    await settle()
    forget(source.policy)
    source.gates[1].set_exception(FailureError(1))
    with pytest.raises(FailureError):  # not the old value, which was forgotten too
        await task
    (task,) = source.start(1, "key")
    await settle()
    source.gates[2].set_result("new")
    assert await task == "new"


async def test_events_of_a_shared_load(events: list[Event]) -> None:
    source = Source(name="users")
    tasks = source.start(3, "secret")
    await settle()
    source.gates[0].set_result("secret value")
    await asyncio.gather(*tasks)
    await source.load("secret")
    kinds = sorted(event.kind for event in events)
    assert kinds == ["cache.coalesced", "cache.coalesced", "cache.hit", "cache.miss"]
    assert {event.name for event in events} == {"users"}
    assert "secret" not in repr(events)
