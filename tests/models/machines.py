"""How the models run: each machine under the profile of the run, and from a fixed corpus of seeds.

A model is a `RuleBasedStateMachine` that drives the real thing and an obvious, slow one side by side.
``test_x = as_test(Machine)`` makes tests of it: one explores with the profile in force (see conftest: a
few derandomized examples, or 10,000 random ones under ``--hypothesis-profile=long``), and one for each of
`SEEDS`, which is always the same. When an exploration finds a defect, add the seed that it prints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hypothesis import seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.support.virtual_time import VirtualTimeLoop, clock_of, settle

SEEDS = (1, 2, 3, 5, 8)
EXAMPLES_FOR_A_SEED = 10


def as_test(machine: type[RuleBasedStateMachine]) -> Callable[..., None]:
    """Return the tests of a machine, as one parametrised function."""

    @pytest.mark.parametrize(
        "corpus", [None, *SEEDS], ids=lambda corpus: "explore" if corpus is None else None
    )
    def test(corpus: int | None) -> None:
        if corpus is None:
            run_state_machine_as_test(machine, settings=settings())
        else:
            seeded = seed(corpus)(type(machine.__name__, (machine,), {}))
            run_state_machine_as_test(seeded, settings=settings(max_examples=EXAMPLES_FOR_A_SEED))

    return test


class AsyncMachine(RuleBasedStateMachine):
    """A machine whose rules start tasks in a virtual loop of its own, in which time is zero at first."""

    def __init__(self) -> None:
        super().__init__()
        self._entered = ExitStack()
        self.loop = VirtualTimeLoop()
        self._entered.callback(self.loop.close)
        self._entered.enter_context(clock_of(self.loop))
        self.tasks: list[asyncio.Task[object]] = []

    def start(self, coroutine: object) -> asyncio.Task[object]:
        """Start a task; it runs when the loop does."""
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        return task

    def run(self, turns: int = 20) -> None:
        """Let every task run as far as it can without time passing."""
        self.loop.run_until_complete(settle(turns))

    def sleep(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def teardown(self) -> None:
        """Cancel what is left, and see to it that nothing is forgotten."""
        try:
            for task in self.tasks:
                task.cancel()
            if self.tasks:
                self.loop.run_until_complete(asyncio.wait(self.tasks))
            assert not asyncio.all_tasks(self.loop)
        finally:
            self._entered.close()
