"""What ccxt worked out, told apart from what the exchange said.

ccxt fills in what an exchange leaves out: ``remaining`` from ``amount`` and ``filled``, ``average`` from ``cost``, a
market order's ``price`` from ``average``, a trade's ``id`` from its time. It also keeps the answer itself, as ``info``.
A number or an id that stands nowhere in that was worked out. The reverse does not hold: a ``remaining`` of 0 is found
in every answer that holds some 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

_FIGURES = ("size", "price", "filled", "remaining", "average_price", "quantity", "executed_qty", "cost", "fee")
_IDS = ("order_id", "client_order_id", "trade_id")
_PLAIN_ID = re.compile(r"[\w:./+=-]+", re.ASCII)  # its repr is itself
_CONTAINERS = (Mapping, list, tuple)
_SCALARS = (str, int, float, Decimal, type(None))
_PLAIN = frozenset({*_SCALARS, bool})
_NUMBERS = (int, float, Decimal)
_BEGINS_NUMBER = frozenset("+-.0123456789")
_BEGINS_JSON = frozenset("{[")
# An answer about one order holds some 30 values, three deep. What is larger is not looked through.
_MOST_VALUES = 500
_MOST_DEEP = 8


def derived_fields(fields: Mapping[str, Any], info: Any) -> dict[str, list[str]]:
    """``derived``: the names of the numbers and ids in ``fields`` that stand nowhere in ``info``; empty without any.

    Numbers are compared as floats, as ccxt itself reads them, and without their sign: exchanges write a sale or a fee
    as a negative amount. Nothing is said where ``info`` is empty, or too large to be looked through.
    """
    if not isinstance(info, _CONTAINERS) or not info:
        return {}
    values = _values(info)
    if values is None:
        return {}
    figures = _figures(values)
    if figures is None:
        return {}
    found = []
    for name in _FIGURES:
        value = fields.get(name)
        if value is None or (type(value) is float and abs(value) in figures):
            continue
        if isinstance(value, _NUMBERS) and not _stands(value, figures):
            found.append(name)
    found += [name for name in _IDS if (one := fields.get(name)) is not None and not _holds(info, values, one)]
    return {"derived": found} if found else {}


def _values(info: Any) -> list[Any] | None:
    """All that ``info`` holds, without its containers; None where it is too much, or no JSON."""
    values: list[Any] = []
    level = [info]
    entries = 0
    for _ in range(_MOST_DEEP):
        deeper: list[Any] = []
        for container in level:
            entries += len(container)
            if entries > _MOST_VALUES:
                return None
            inner = list(container.values() if isinstance(container, Mapping) else container)
            if not _PLAIN.issuperset(map(type, inner)):
                deeper += [value for value in inner if isinstance(value, _CONTAINERS)]
                inner = [value for value in inner if not isinstance(value, _CONTAINERS)]
                if not all(isinstance(value, _SCALARS) for value in inner):
                    return None
            values += inner
        if not deeper:
            return values
        level = deeper
    return None


def _figures(values: list[Any]) -> set[float] | None:
    """The numbers among these; None where a text is JSON of its own, with more of them."""
    figures = set()
    for value in values:
        if type(value) is str:
            first = value[:1]
            if first not in _BEGINS_NUMBER:
                if first in _BEGINS_JSON:
                    return None
                continue
        elif value is None or type(value) is bool:
            continue
        try:
            figures.add(abs(float(value)))
        except (ValueError, OverflowError):
            continue
    return figures


def _stands(value: float | Decimal, figures: set[float]) -> bool:
    """Whether a number is among these; so too one that cannot be looked for."""
    try:
        figure = abs(float(value))
    except (ValueError, OverflowError):
        return True
    return figure in figures or not isfinite(figure) or isinstance(value, bool)


def _holds(info: Any, values: list[Any], one: str) -> bool:
    """Whether an id stands in there, be it as a number, as a name, or in a longer text; so too where none can say."""
    if one in values or _PLAIN_ID.fullmatch(one) is None:
        return True
    try:
        return one in repr(info)
    except (ValueError, RecursionError):  # an int of more digits than the interpreter writes out
        return True
