"""From ccxt's unified order, trade and fee structures to the fields of ``AuditLog``'s typed calls.

Pure functions over plain dicts; ccxt itself is not imported. The structures are those of ccxt's manual
(docs.ccxt.com: "Order Structure", "Trade Structure", "Fee Structure"); what exchanges put into them goes
beyond it. The same rules hold for all fields:

- What the source does not say (None, an empty text, an empty container) is left out, never 0.
- Nothing is computed that the source did not say.
- Numbers stay what they are; a number in a text becomes a ``Decimal`` with all its digits.
- Times become ISO 8601 in UTC (:func:`emitter.times.time_from` tells the units apart).
- A value of the wrong shape is passed on as it is: the loader judges it, and says so.

No input raises, except that a structure which is not a mapping is a ``TypeError``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import Any

from .times import time_from, time_text

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# GRVT answers createOrder with the id 0x00 while the order is pending; as an id, all orders would be one.
_NO_ORDER_ID = re.compile(r"0[xX]0+")
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+")
_RUN_TOGETHER = {
    "STOPLIMIT": "STOP_LIMIT",
    "STOPLOSS": "STOP_LOSS",
    "STOPMARKET": "STOP_MARKET",
    "TAKEPROFIT": "TAKE_PROFIT",
    "TRAILINGSTOP": "TRAILING_STOP",
}
_CHANGE_TIMES = ("lastUpdateTimestamp", "lastTradeTimestamp")
_CREATION_TIMES = ("timestamp", "datetime")
_EXACT_FLOAT_IDS_BELOW = 2**53
# As tuples: the bot waits for these, and a union would be made at every look.
_NUMBERS = (int, float, Decimal)
_LISTS = (list, tuple)
_CONTAINERS = (list, tuple, Mapping)
_NO_COSTS = (bool, *_CONTAINERS)


def order_fields(order: Mapping[str, Any], *, exchange: str | None = None) -> dict[str, Any]:
    """Keyword arguments for ``AuditLog.order`` from a ccxt order.

    ``exchange`` is not part of ccxt's structure; without the argument a key of that name is taken.
    ``timestamp`` is the time of the last change: ``lastUpdateTimestamp``, else ``lastTradeTimestamp``,
    ``timestamp``, ``datetime``.

    ``status``: ``open`` becomes NEW, or PARTIALLY_FILLED where something is filled; ``canceled`` becomes
    CANCELED; others are the source's word in upper case. ``closed`` becomes FILLED, also where less is filled
    than ``amount``: ccxt means a complete fill by it (github.com/ccxt/ccxt/issues/3945), and some exchanges
    give the ``amount`` of a market order in quote currency; ``filled`` and ``remaining`` stand beside it
    unchanged. Only where the source says that nothing was filled it stays CLOSED: that is no fill, and
    whether it was a cancel or a trigger that fired is not said.

    Raises ``TypeError`` where ``order`` is not a mapping.
    """
    _check(order, "order")
    return _without_none(
        {
            "exchange": _text(exchange) or _text(order.get("exchange")),
            "symbol": _text(order.get("symbol")),
            "order_id": _order_id(order.get("id")),
            "client_order_id": _id(order.get("clientOrderId")),
            "type": _type(order.get("type")),
            "side": _side(order.get("side")),
            "size": _number(order.get("amount")),
            "price": _number(order.get("price")),
            "status": _status(order),
            "filled": _number(order.get("filled")),
            "remaining": _number(order.get("remaining")),
            "average_price": _number(order.get("average")),
            **fee_fields(order.get("fee"), order.get("fees")),
            "created_at": _time(order, *_CREATION_TIMES),
            "timestamp": _time(order, *_CHANGE_TIMES, *_CREATION_TIMES),
        }
    )


def update_fields(order: Mapping[str, Any], *, exchange: str | None = None) -> dict[str, Any]:
    """Keyword arguments for ``AuditLog.update_order`` from a ccxt order: its state as the source says it now.

    As :func:`order_fields`, with ``updated_at`` where the source has a time of change beside its creation.
    Raises ``TypeError`` where ``order`` is not a mapping.
    """
    fields = order_fields(order, exchange=exchange)
    updated_at = _time(order, *_CHANGE_TIMES)
    return fields if updated_at is None else {**fields, "updated_at": updated_at}


def trade_fields(trade: Mapping[str, Any], *, exchange: str | None = None) -> dict[str, Any]:
    """Keyword arguments for ``AuditLog.trade`` from a ccxt trade of one's own (``fetchMyTrades``).

    A ccxt trade is one fill, so ``quantity`` and ``executed_qty`` are both its ``amount``. ``timestamp`` and
    ``executed_at`` are its time. Raises ``TypeError`` where ``trade`` is not a mapping.
    """
    _check(trade, "trade")
    return _without_none(
        {
            "exchange": _text(exchange) or _text(trade.get("exchange")),
            "symbol": _text(trade.get("symbol")),
            "side": _side(trade.get("side")),
            "order_type": _type(trade.get("type")),
            "quantity": _number(trade.get("amount")),
            "price": _number(trade.get("price")),
            "executed_qty": _number(trade.get("amount")),
            "average_price": _number(trade.get("average")),
            "order_id": _order_id(trade.get("order")),
            "client_order_id": _id(trade.get("clientOrderId")),
            "trade_id": _id(trade.get("id")),
            **fee_fields(trade.get("fee"), trade.get("fees")),
            "executed_at": _time(trade, *_CREATION_TIMES),
            "timestamp": _time(trade, *_CREATION_TIMES),
        }
    )


def fee_fields(fee: Any = None, fees: Any = None) -> dict[str, Any]:
    """``fee`` and ``fee_currency`` of the one fee, or ``fees`` of several; empty where none is said.

    Each argument is a number, a numeric text, a ccxt fee (``{cost, currency}``, of some exchanges
    ``{amount, currency}``) or a list of those. A fee without cost is not said; a negative one is a rebate.

    Several entries stay whole in ``fees``, also those in one currency: which of them repeat each other cannot
    be known. Then ``fee`` itself (their total, or one of them) is left out, unless its currency is not among
    theirs. Where ``fee`` and the only entry of ``fees`` contradict each other, both are kept.
    """
    stated, listed = _fee_entries(fee), _fee_entries(fees)
    entries = [one for one in stated if not any(_covers(other, one) for other in listed)] + listed
    if not entries:
        return {}
    if len(entries) > 1:
        return {"fees": entries}
    only = stated[0] if stated else listed[0]
    currency = only.get("currency") or entries[0].get("currency")
    fields = _without_none({"fee": only["cost"], "fee_currency": currency})
    if not _equal(only["cost"], entries[0]["cost"]):
        fields["fees"] = entries
    return fields


def _fee_entries(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, _LISTS) else [value]
    return [entry for item in items if (entry := _fee_entry(item)) is not None]


def _fee_entry(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        cost = _cost(value)
        return None if cost is None else {"cost": cost}
    key = "amount" if _cost(value.get("cost")) is None else "cost"
    cost = _cost(value.get(key))
    if cost is None:
        return None
    others = {k: v for k, v in value.items() if k not in {"cost", "currency", key} and not _unsaid(v)}
    currency = value.get("currency")
    return _without_none(
        {"cost": cost, "currency": currency if isinstance(currency, str) and currency else None, **others}
    )


def _cost(value: Any) -> Any:
    return None if isinstance(value, _NO_COSTS) else _number(value)


def _covers(other: dict[str, Any], one: dict[str, Any]) -> bool:
    known = {entry["currency"] for entry in (other, one) if "currency" in entry}
    return len(known) < 2


def _equal(one: Any, other: Any) -> bool:
    left, right = _decimal(one), _decimal(other)
    return left == right if left is not None and right is not None else str(one) == str(other)


def _status(order: Mapping[str, Any]) -> Any:
    status = _text(order.get("status"))
    if not isinstance(status, str):
        return status
    filled = _decimal(_number(order.get("filled")))
    match status.lower():
        case "open":
            return "PARTIALLY_FILLED" if filled is not None and filled > 0 else "NEW"
        case "closed":
            return "CLOSED" if filled == 0 else "FILLED"
        case "canceled" | "cancelled":
            return "CANCELED"
        case _:
            return status.upper()


def _type(value: Any) -> Any:
    """``limit`` -> LIMIT; ``stopMarket``, ``stop_market``, ``stop-market``, ``stopmarket`` -> STOP_MARKET."""
    text = _text(value)
    if not isinstance(text, str):
        return text
    name = _WORD_START.sub("_", text.strip()).upper()
    return _RUN_TOGETHER.get(name, name)


def _side(value: Any) -> Any:
    text = _text(value)
    return text.lower() if isinstance(text, str) else text


def _order_id(value: Any) -> str | None:
    text = _id(value)
    return None if text is None or _NO_ORDER_ID.fullmatch(text) else text


def _id(value: Any) -> str | None:
    """One id as text; of a list its only one, or all joined with commas; a bool or a mapping is no id."""
    if not isinstance(value, _LISTS):
        return _single_id(value) or None
    return ",".join(text for item in value if (text := _single_id(item)) is not None) or None


def _single_id(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOAT_IDS_BELOW:
        value = int(value)
    text = _text(value)
    return text if isinstance(text, str) else None


def _text(value: Any) -> Any:
    """A text or a number as text; None where nothing is said (also by NaN); anything else as it is."""
    if isinstance(value, str):
        return value if value.strip() else None
    if _unsaid(value) or (isinstance(value, (float, Decimal)) and _decimal(value) is None):
        return None
    if isinstance(value, _NUMBERS) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # an int of more digits than the interpreter writes out
            return value
    return value


def _number(value: Any) -> Any:
    """A number as it is, a numeric text as ``Decimal``; None where nothing is said; others as they are."""
    if isinstance(value, _NUMBERS):
        return value
    if _unsaid(value):
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        try:
            number = Decimal(value.strip())
        except DecimalException:  # an exponent beyond every number
            return value
        return number if number.is_finite() else value
    return value


def _decimal(value: Any) -> Decimal | None:
    """For comparing: the finite value of a number, else None."""
    if isinstance(value, float):
        value = Decimal(float.__repr__(value))  # numpy's floats have a repr of their own
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    return value if isinstance(value, Decimal) and value.is_finite() else None


def _time(source: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        moment = time_from(source.get(key))
        if moment is not None:
            return time_text(moment)
    return None


def _unsaid(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, _CONTAINERS) and not value)


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _check(structure: object, what: str) -> None:
    if not isinstance(structure, Mapping):
        raise TypeError(f"a ccxt {what} is a mapping, not {type(structure).__name__}")
