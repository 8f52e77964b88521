"""What an ``async with`` block took is found by its exit, wherever that runs, once."""

import asyncio
import contextvars

import pytest

from resilience._blocks import Blocks, _around


def elsewhere(blocks: Blocks[str]) -> str:
    """Leave a block in a context that does not know of it."""
    return contextvars.Context().run(blocks.leave)


async def test_blocks_nest() -> None:
    one, other = Blocks[str](), Blocks[str]()
    one.enter("outer")
    other.enter("other")
    one.enter("inner")
    assert [one.leave(), one.leave(), other.leave()] == ["inner", "outer", "other"]
    assert _around.get() == ()


async def test_tasks_do_not_mix_up_their_blocks() -> None:
    blocks = Blocks[str]()

    async def use(name: str, turns: int) -> str:
        blocks.enter(name)
        for _ in range(turns):
            await asyncio.sleep(0)
        return blocks.leave()

    assert await asyncio.gather(use("a", 4), use("b", 2), use("c", 3)) == ["a", "b", "c"]


async def test_a_task_that_inherits_an_open_block_finds_its_own_first() -> None:
    blocks = Blocks[str]()
    blocks.enter("outer")

    async def child() -> str:
        blocks.enter("inner")
        return blocks.leave()

    assert await asyncio.create_task(child()) == "inner"
    assert blocks.leave() == "outer"


async def test_an_exit_in_another_context_takes_the_last_block_and_each_is_taken_once() -> None:
    blocks = Blocks[str]()
    contextvars.Context().run(blocks.enter, "foreign")
    blocks.enter("own")
    assert elsewhere(blocks) == "own"
    assert blocks.leave() == "foreign"
    with pytest.raises(RuntimeError, match="^an `async with` block ended that was not open$"):
        blocks.leave()


async def test_of_two_nested_blocks_one_may_have_ended_elsewhere() -> None:
    blocks = Blocks[str]()
    blocks.enter("outer")
    blocks.enter("inner")
    assert elsewhere(blocks) == "inner"
    assert blocks.leave() == "outer"
    assert _around.get() == ()


async def test_blocks_that_end_elsewhere_do_not_pile_up_in_a_context() -> None:
    blocks = Blocks[str]()
    for number in range(100):
        blocks.enter(str(number))
        assert elsewhere(blocks) == str(number)
    assert len(_around.get()) == 1
    blocks.enter("last")
    assert blocks.leave() == "last"
    assert _around.get() == ()
