"""How a task that waits is shown: its name, and the lines of code that it waits at."""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_HIDDEN = (str(Path(asyncio.__file__).parent), str(Path(__file__).parent))
"""Code that waits in the same place whatever the cause is."""


def describe(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Return a few lines for each task, in the order of their names."""
    return "\n".join(sorted(map(_describe, tasks)))


def _describe(task: asyncio.Task[Any]) -> str:
    frames = list(_frames(task.get_coro()))
    shown = [each for each in frames if not each.f_code.co_filename.startswith(_HIDDEN)]
    return "\n".join([f"  {task.get_name()}", *map(_line, shown or frames[-1:])])


def _frames(waiting: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it awaits, outermost first."""
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(waiting, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            return


def _line(frame: FrameType) -> str:
    code = frame.f_code
    text = linecache.getline(code.co_filename, frame.f_lineno).strip()
    path = Path(code.co_filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"    {shown}:{frame.f_lineno} in {code.co_qualname}" + (f": {text}" if text else "")
