"""Run the Python snippets of a document one after the other; a traceback shows the document's own lines.

A snippet that begins with the name of a file, such as ``# test_users.py``, is a file, and is not run here.
"""

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType


def snippets(document: Path) -> Iterator[CodeType]:
    text = document.read_text()
    for block in re.finditer(r"^```python\n(?!# \w+\.py\n)(.*?)^```", text, re.MULTILINE | re.DOTALL):
        source = "\n" * text[: block.start(1)].count("\n") + block[1]
        yield compile(source, str(document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def run(document: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for code in snippets(document):
            running = eval(code, names)
            if inspect.iscoroutine(running):
                runner.run(running)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
