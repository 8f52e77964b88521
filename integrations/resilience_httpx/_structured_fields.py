"""Lists of structured fields (RFC 9651, section 3.1), as far as rate-limit headers need them."""

from __future__ import annotations

import re
from typing import TypeAlias

Parameters: TypeAlias = dict[str, float | str | bool]

_LONGEST = 4096  # characters; a header of a rate limit has a tenth of that

_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_NUMBER = r"-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}(?![0-9.])"
_TOKEN = r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
_OTHER = r":[A-Za-z0-9+/=]*:|\?[01]"
_ITEM = re.compile(f"{_STRING}|{_NUMBER}|{_TOKEN}|{_OTHER}", re.ASCII)
_KEY = re.compile(r"; *([a-z*][a-z0-9_.*-]*)(=)?", re.ASCII)
_COMMA = re.compile(r"[ \t]*,[ \t]*", re.ASCII)


def parse_list(text: str) -> list[tuple[str, Parameters]]:
    """Return the members of a list, each with its parameters; none if the list is malformed.

    A malformed field must be ignored as a whole. Members that are lists themselves count as malformed.

    Example:
        >>> parse_list('"burst";r=50;t=30, "day";r=7')
        [('burst', {'r': 50.0, 't': 30.0}), ('day', {'r': 7.0})]
        >>> parse_list("limit=100, remaining=50")
        []
    """
    text = text.strip(" ")
    members: list[tuple[str, Parameters]] = []
    if not text or len(text) > _LONGEST:
        return members
    position = 0
    while True:
        item = _ITEM.match(text, position)
        if item is None:
            return []
        parameters, position = _parameters(text, item.end())
        members.append((str(_value(item[0])), parameters))
        if position == len(text):
            return members
        comma = _COMMA.match(text, position)
        if comma is None:
            return []
        position = comma.end()


def _parameters(text: str, position: int) -> tuple[Parameters, int]:
    found: Parameters = {}
    while key := _KEY.match(text, position):
        position = key.end()
        value: float | str | bool = True
        if key[2]:
            item = _ITEM.match(text, position)
            if item is None:
                return found, key.start()  # where no comma is: malformed
            value, position = _value(item[0]), item.end()
        found[key[1]] = value
    return found, position


def _value(text: str) -> float | str | bool:
    if text[0] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text[0] == "?":
        return text == "?1"
    return float(text) if text[0] in "-0123456789" else text
