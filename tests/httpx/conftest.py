"""Each test of the client runs twice: over httpx and over httpx2.

The same code serves both packages, so the same tests must pass: their modules' names ``httpx`` and
``ResilientClient`` stand for one package and then for the other.
"""

from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

import resilience_httpx
import resilience_httpx.httpx2

TWINS = {
    httpx: (httpx, resilience_httpx.ResilientClient),
    httpx2: (httpx2, resilience_httpx.httpx2.ResilientClient),
}


@pytest.fixture(autouse=True, params=[httpx, httpx2], ids=["httpx", "httpx2"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package that the test is about."""
    package, client = TWINS[request.param]
    for name, value in {"httpx": package, "ResilientClient": client}.items():
        if hasattr(request.module, name):
            monkeypatch.setattr(request.module, name, value)
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and package is not httpx:
        callspec.params.update({name: _twin(value, package) for name, value in callspec.params.items()})
    return package


def _twin(value: Any, package: ModuleType) -> Any:
    """Return an exception or a class of httpx as the other package has it; anything else as it is."""
    if isinstance(value, Exception) and type(value).__module__ == "httpx":
        kind = getattr(package, type(value).__name__)
        return kind() if kind is package.StreamConsumed else kind(*value.args)
    if isinstance(value, type) and value.__module__ == "httpx":
        return getattr(package, value.__name__)
    return value
