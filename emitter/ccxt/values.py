"""Single values of ccxt's structures: texts, numbers, ids and times, each as it is said, or None where nothing is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import Any

from ..times import text_from, text_from_iso_of_milliseconds

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# GRVT answers createOrder with the id 0x00 while the order is pending; as an id, all orders would be one.
_NO_ORDER_ID = re.compile(r"0[xX]0+")
_EXACT_FLOAT_IDS_BELOW = 2**53
# As tuples: the bot waits for these, and a union would be made at every look.
_NUMBERS = (int, float, Decimal)
LISTS = (list, tuple)
_CONTAINERS = (list, tuple, Mapping)


def text(value: Any) -> Any:
    """A text or a number as text; None where nothing is said (also by NaN); anything else as it is."""
    if isinstance(value, str):
        return value if value.strip() else None
    if unsaid(value) or (isinstance(value, (float, Decimal)) and decimal(value) is None):
        return None
    if isinstance(value, _NUMBERS) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # an int of more digits than the interpreter writes out
            return value
    return value


def number(value: Any) -> Any:
    """A number as it is, a numeric text as ``Decimal``; None where nothing is said; others as they are."""
    if isinstance(value, _NUMBERS):
        return value
    if unsaid(value):
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        try:
            exact = Decimal(value.strip())
        except DecimalException:  # an exponent beyond every number
            return value
        return exact if exact.is_finite() else value
    return value


def decimal(value: Any) -> Decimal | None:
    """For comparing: the finite value of a number, else None."""
    if isinstance(value, float):
        value = Decimal(float.__repr__(value))  # numpy's floats have a repr of their own
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    return value if isinstance(value, Decimal) and value.is_finite() else None


def order_id(value: Any) -> str | None:
    """As :func:`id_`; None for a placeholder that exchanges give to every order that is not made yet."""
    found = id_(value)
    return None if found is None or (found[0] == "0" and _NO_ORDER_ID.fullmatch(found)) else found


def id_(value: Any) -> str | None:
    """One id as text; of a list its only one, or all joined with commas; a bool or a mapping is no id."""
    if not isinstance(value, LISTS):
        return _single_id(value) or None
    return ",".join(one for item in value if (one := _single_id(item)) is not None) or None


def _single_id(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOAT_IDS_BELOW:
        value = int(value)
    found = text(value)
    return found if isinstance(found, str) else None


def time(source: Mapping[str, Any], *keys: str) -> str | None:
    """The first of these that is a time, in ISO 8601."""
    for key in keys:
        value = source.get(key)
        if value is None:
            continue
        found = text_from_iso_of_milliseconds(value) if key == "datetime" else text_from(value)
        if found is not None:
            return found
    return None


def unsaid(value: Any) -> bool:
    """Whether it says nothing: None, a text of blanks, an empty container."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, _CONTAINERS) and not value)


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that are said."""
    return {name: value for name, value in fields.items() if value is not None}
