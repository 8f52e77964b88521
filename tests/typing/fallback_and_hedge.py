"""Exact types of `fallback` and `hedge` under mypy and pyright; never run."""

from datetime import timedelta
from typing import NoReturn, assert_type

from resilience import Fallback, Hedge, Percentile, Policy, RetryBudget, fallback, hedge, retry, stack


class User: ...


# --- The answer of a fallback joins the result ------------------------------------------------------


async def from_archive(error: Exception, login: str) -> User:
    raise error


def anonymous(error: Exception, login: str) -> str:
    return login


async def translated(error: Exception, login: str) -> NoReturn:
    raise ValueError from error


@fallback(None)
async def or_none(login: str) -> User:
    raise NotImplementedError


@fallback(None)
async def or_none_already(login: str) -> User | None:
    raise NotImplementedError


@fallback("", on=(OSError, KeyError))
async def same_type(login: str) -> str:
    raise NotImplementedError


@fallback(from_archive, on=lambda error: bool(error.args))
async def by_async_function(login: str) -> User:
    raise NotImplementedError


@fallback(anonymous)
async def by_function(login: str) -> User:
    raise NotImplementedError


@fallback(translated)
async def never_answered(login: str) -> User:
    raise NotImplementedError


@fallback(0)
@fallback(anonymous)
@retry
async def chained(login: str) -> User:
    raise NotImplementedError


class Base:
    async def name(self, number: int) -> str:
        raise NotImplementedError


class Directory(Base):
    @fallback("nobody")
    async def name(self, number: int) -> str:
        raise NotImplementedError

    @classmethod
    @fallback(None)
    async def of_class(cls, number: int) -> User:
        raise NotImplementedError

    @staticmethod
    @fallback(None)
    async def static(number: int) -> User:
        raise NotImplementedError


async def fallbacks(directory: Directory) -> None:
    assert_type(await or_none("a"), User | None)
    assert_type(await or_none_already("a"), User | None)
    assert_type(await same_type("a"), str)
    assert_type(await by_async_function("a"), User)
    assert_type(await by_function("a"), User | str)
    assert_type(await never_answered("a"), User)
    assert_type(await chained("a"), User | str | int)
    assert_type(await directory.name(1), str)
    assert_type(await Directory.of_class(1), User | None)
    assert_type(await Directory.static(1), User | None)
    assert_type(await fallback(None).call(never_answered, "a"), User | None)

    await or_none(1)  # type: ignore[arg-type]
    await directory.name("1")  # type: ignore[arg-type]
    await fallback(None).call(never_answered, 1)  # type: ignore[arg-type]


assert_type(fallback("text"), Fallback[str])
assert_type(fallback(None, on=OSError, name="users"), Fallback[None])
assert_type(fallback(from_archive), Fallback[User])
assert_type(fallback(anonymous), Fallback[str])

policy: Policy = fallback(None)
wider: Fallback[object] = fallback("text")
stack(fallback(None), retry())

fallback()  # type: ignore[call-overload]
fallback(None, on=5)  # type: ignore[call-overload]
fallback(None, anonymous)  # type: ignore[call-overload]

# --- A hedge keeps the type -------------------------------------------------------------------------


def by_size(login: str, size: int) -> float:
    return size / 100


@hedge(by_size, max_hedges=2, budget=RetryBudget(0.1))
async def hedged(login: str, size: int) -> User:
    raise NotImplementedError


async def hedges() -> None:
    assert_type(await hedged("a", 1), User)
    assert_type(await hedge(1).call(hedged, "a", size=1), User)

    await hedged("a")  # type: ignore[call-arg]
    await hedged("a", "b")  # type: ignore[arg-type]


assert_type(hedge(timedelta(seconds=1)), Hedge)
assert_type(hedge(Percentile(99, initial=timedelta(0), minimum_calls=5, window=9)), Hedge)
assert_type(hedge(lambda: timedelta(seconds=1), name="search"), Hedge)

hedge()  # type: ignore[call-arg]
hedge("1")  # type: ignore[arg-type]
hedge(from_archive)  # type: ignore[arg-type]
hedge(1, max_hedges=None)  # type: ignore[arg-type]
hedge(1, budget=0.2)  # type: ignore[arg-type]
Percentile()  # type: ignore[call-arg]
Percentile("95")  # type: ignore[arg-type]
