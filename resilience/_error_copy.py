"""Copies of errors: one error object that is raised in several places grows a traceback without end."""

from __future__ import annotations

import copy
from typing import Any, Final


def copy_error(error: BaseException) -> BaseException | None:
    """Return a new error of the same type, arguments and attributes, without traceback and cause.

    Returns:
        The copy, or ``None`` if its class makes that impossible.
    """
    for way in _WAYS:
        try:
            twin = way(error)
        except Exception:
            continue  # an `__init__` with arguments of its own may raise anything
        if type(twin) is type(error) and twin is not error:
            if hasattr(error, "__notes__"):
                twin.__notes__ = list(error.__notes__)
            return twin
    return None


def _copy(error: Any) -> Any:
    if isinstance(error, BaseExceptionGroup):
        return _copy_group(error)
    twin = copy.copy(error)
    # An `__init__` that makes its message from the arguments would have made it once more.
    twin.args = error.args
    return twin


def _copy_group(group: Any) -> BaseException:
    # Its members have tracebacks too. `derive` would lose the class, unless that overrides it.
    members = [copy_error(each) or each for each in group.exceptions]
    make: Any = BaseExceptionGroup.__new__
    twin: BaseException = make(type(group), group.message, members)
    twin.__dict__.update(group.__dict__)
    return twin


def _copy_without_init(error: BaseException) -> BaseException:
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    return twin


_WAYS: Final = (_copy, _copy_without_init)
