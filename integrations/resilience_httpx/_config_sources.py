"""Where the values of a configuration come from, and how its mistakes are told."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

# In these tables a variable's text is meant as it is, whatever it looks like.
_TEXTS = frozenset({"base_url", "headers", "bearer", "api_key", "basic", "oauth2"})

_FLAGS = frozenset(
    {
        "raise_for_status",
        "follow_redirects",
        "http2",
        "verify",
        "idempotency_key",
        "wrap",
        "credentials",
        "quoted",
    }
)
_WORDS: dict[str, bool | None] = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
    "none": None,
}
_DIGITS = {"1": True, "0": False}


class ConfigurationError(ValueError):
    """A configuration cannot be used; the text has a line for each mistake.

    Attributes:
        problems: The lines: where the value is from, its key, what is wrong and what is allowed.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.problems


class UnknownKeyError(ValueError):
    """A key that a table does not have.

    Args:
        key: The key.
        hint: What may be meant.
    """

    def __init__(self, key: str, hint: str) -> None:
        super().__init__(f"is not known; {hint}")
        self.key = key


class Source:
    """Some values, and where they are from.

    Args:
        name: What people call it.
        values: The values, in tables as in the configuration.
        variable: Returns the name of the environment variable of a key, if they are from there.
    """

    def __init__(
        self, name: str, values: dict[str, Any], variable: Callable[[Sequence[str]], str] | None = None
    ) -> None:
        self.name = name
        self.values = values
        self._variable = variable

    def has(self, keys: Iterable[str]) -> bool:
        """Whether a value is from here."""
        found: Any = self.values
        for key in keys:
            if not (isinstance(found, Mapping) and key in found):
                return False
            found = cast("Mapping[str, Any]", found)[key]
        return True

    def name_of(self, keys: Sequence[str]) -> str:
        """Return what people call the place of a value."""
        return self.name if self._variable is None else self._variable(keys)


def from_environment(prefix: str) -> Source:
    """Read the variables with a prefix: after it, the keys in capitals with ``__`` between them.

    A variable that turns a table off counts more than those of its keys.
    """
    variables: dict[tuple[str, ...], str] = {}
    for name in os.environ:
        if name.upper().startswith(prefix.upper()) and os.environ[name]:
            variables[tuple(name[len(prefix) :].lower().split("__"))] = name
    values: dict[str, Any] = {}
    for keys in sorted(variables):  # a table before its keys
        text = os.environ[variables[keys]]
        table, *rest = keys
        if rest and _is_off(values, table):
            continue
        is_text = keys[-1] == "name" or (table in _TEXTS and (rest or table == "base_url"))
        value: Any = text if is_text else _plain(text, keys[-1])
        for key in reversed(keys):
            value = {key: value}
        values = merged_values(values, value)

    def variable(keys: Sequence[str]) -> str:
        found = (variables.get(tuple(keys[:count])) for count in range(len(keys), 0, -1))
        return next(filter(None, found), prefix + "__".join(keys).upper())

    return Source("the environment", values, variable)


def from_file(path: Path) -> Source:
    """Read a TOML or YAML file.

    Raises:
        ConfigurationError: If it cannot be read. The error shows nothing of what is in it.
    """
    readers = {".toml": _read_toml, ".yaml": _read_yaml, ".yml": _read_yaml}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise ConfigurationError(f"{path}: must be a file whose name ends in {', '.join(readers)}")
    problem = ""
    values: object = None
    try:
        values = read(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "must be UTF-8"
    except _SyntaxError as error:
        problem = str(error)
    if problem:
        raise ConfigurationError(f"{path}: {problem}")
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: must have keys and values at the top")
    return Source(str(path), cast("dict[str, Any]", values))


def merged_values(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put tables together key by key; what is above counts."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            value = merged_values(cast("Mapping[str, Any]", under), cast("Mapping[str, Any]", value))
        merged[key] = value
    return merged


def problem_of(error: Mapping[str, Any], sources: Sequence[Source]) -> str:
    """Put one of pydantic's errors into words.

    Args:
        error: The error, of which the value is left out: it may be a secret.
        sources: Where values are from; the first one that has a key counts.
    """
    keys = [str(each) for each in error["loc"]]
    cause = error.get("ctx", {}).get("error")
    text = str(cause) if cause is not None else error["msg"].replace("Input should", "must")
    if error["type"] == "missing":
        text = "is missing"
    elif isinstance(cause, UnknownKeyError):
        keys.append(cause.key)
    else:
        # The core's errors begin with the name of the argument.
        name, _, rest = text.partition(" ")
        if keys and name == keys[-1]:
            text = rest
        elif any(source.has([*keys, name]) for source in sources):
            keys, text = [*keys, name], rest
    where = _where(keys, sources)
    return f"{where}: {_dotted(keys)} {text}" if keys else f"{where}: {text}"


def _where(keys: Sequence[str], sources: Sequence[Source]) -> str:
    """Return what people call the place of a value, or of the table that it should be in."""
    known = (
        source.name_of(keys)
        for count in range(len(keys), 0, -1)
        for source in sources
        if source.has(keys[:count])
    )
    return next(known, sources[-1].name)


def _dotted(keys: Sequence[str]) -> str:
    return ".".join(key if key.replace("_", "").isalnum() else json.dumps(key) for key in keys)


def _is_off(values: Mapping[str, Any], table: str) -> bool:
    return table in values and (values[table] is None or values[table] is False)


def _plain(text: str, key: str) -> Any:
    """Return the number, flag, list or table that a variable holds, or its text if that is none."""
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if key in _FLAGS and word in _DIGITS:
        return _DIGITS[word]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class _SyntaxError(Exception):
    """A file is not what its name says."""


def _read_toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _SyntaxError(f"is not TOML: {error}") from None


def _read_yaml(text: str) -> object:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ImportError('YAML files need PyYAML: pip install "async-resilience[settings]"') from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Only the line: the rest of the message quotes the file, which may hold secrets.
        mark: Any = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (at line {mark.line + 1})"
        raise _SyntaxError(f"is not YAML{line}") from None
