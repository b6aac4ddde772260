"""A line of the log as Python values, with numbers as exact as they were written.

orjson reads a line in a microsecond, but a number of more digits than a double holds as its neighbour. A line that may
hold such a number is read by the standard library, which hands out each number's own text.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

import orjson

# A number of 16 digits and more, or one with an exponent; a double holds any other. Texts that look like it cost time.
_SUSPECT = re.compile(rb"[:\[,]\s*-?\d(?:[\d.]{15}|[\d.]*[eE])")
_INT64 = range(-(1 << 63), 1 << 63)
_INT64_DIGITS = 19


class Literal(str):
    """A number's text, where neither an int64 nor a double holds its value."""

    __slots__ = ()


def parse(line: bytes) -> tuple[Any, list[str]]:
    """The JSON value of a line, and where in it literals stand, as JSON Pointers (RFC 6901).

    Integers within int64, floats, and :class:`Literal` for all other numbers. A ValueError for what is no JSON, or
    nested too deep to be read.
    """
    if _SUSPECT.search(line) is None:
        return orjson.loads(line), []
    try:
        value = json.loads(line.decode(), parse_int=_integer, parse_float=_float, parse_constant=_no_number)
        return value, _literals(value, "")
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _literals(value: Any, path: str) -> list[str]:
    if type(value) is Literal:
        return [path]
    if type(value) is dict:
        inner = [(key.replace("~", "~0").replace("/", "~1"), item) for key, item in value.items()]
    elif type(value) is list:
        inner = [(str(at), item) for at, item in enumerate(value)]
    else:
        return []
    return [found for key, item in inner for found in _literals(item, f"{path}/{key}")]


def _integer(text: str) -> int | Literal:
    if len(text) <= _INT64_DIGITS + 1 and (number := int(text)) in _INT64:
        return number
    return Literal(text)


def _float(text: str) -> float | Literal:
    number = float(text)
    try:
        # repr() is the shortest text that reads back: the number itself, unless more was written than a double holds.
        return number if isfinite(number) and Decimal(repr(number)) == Decimal(text) else Literal(text)
    except InvalidOperation:  # an exponent that no Decimal has
        return Literal(text)


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
