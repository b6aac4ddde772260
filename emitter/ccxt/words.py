"""ccxt's words for an order's status, type and side, as they stand in a record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .values import decimal, number, text

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+")
_RUN_TOGETHER = {
    "STOPLIMIT": "STOP_LIMIT",
    "STOPLOSS": "STOP_LOSS",
    "STOPMARKET": "STOP_MARKET",
    "TAKEPROFIT": "TAKE_PROFIT",
    "TRAILINGSTOP": "TRAILING_STOP",
}
# By far the most orders; the others take the long way.
_PLAIN_TYPES = {"limit": "LIMIT", "market": "MARKET"}


def status_of(order: Mapping[str, Any]) -> Any:
    """``open`` by what is filled, ``closed`` and ``canceled`` as ours; others in upper case."""
    status = text(order.get("status"))
    if not isinstance(status, str):
        return status
    match status.lower():
        case "open":
            filled = decimal(number(order.get("filled")))
            return "PARTIALLY_FILLED" if filled is not None and filled > 0 else "NEW"
        case "closed":
            return "CLOSED" if decimal(number(order.get("filled"))) == 0 else "FILLED"
        case "canceled" | "cancelled":
            return "CANCELED"
        case _:
            return status.upper()


def type_of(value: Any) -> Any:
    """``limit`` -> LIMIT; ``stopMarket``, ``stop_market``, ``stop-market``, ``stopmarket`` -> STOP_MARKET."""
    said = text(value)
    if not isinstance(said, str):
        return said
    plain = _PLAIN_TYPES.get(said)
    if plain is not None:
        return plain
    name = _WORD_START.sub("_", said.strip()).upper()
    return _RUN_TOGETHER.get(name, name)


def side_of(value: Any) -> Any:
    """In lower case."""
    said = text(value)
    return said.lower() if isinstance(said, str) else said
