"""JSON as PostgreSQL's ``jsonb`` writes it, to hold what the log says against what the database has.

postgresql.org/docs/current/datatype-json.html: no white space is kept, of equal names the last one counts, names are
sorted (by length, then bytewise), numbers keep their digits and lose their exponent.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f]')


class _Number(str):
    """A number as it was written."""


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number)


@lru_cache(maxsize=4096)  # a list of fees is often the same
def jsonb_text(text: str) -> str:
    """The text that ``<text>::jsonb::text`` would be."""
    return _written(_DECODER.decode(text))


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return _number(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
        return "{" + ", ".join(f"{_string(name)}: {_written(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return {None: "null", True: "true", False: "false"}[value]


def _number(text: str) -> str:
    if text.isdecimal():
        return text
    number = Decimal(text)
    return format(number.copy_abs() if number.is_zero() else number, "f")


def _string(text: str) -> str:
    return f'"{_TO_ESCAPE.sub(_escaped, text)}"'


def _escaped(sign: re.Match[str]) -> str:
    return _ESCAPES.get(sign[0]) or f"\\u{ord(sign[0]):04x}"
