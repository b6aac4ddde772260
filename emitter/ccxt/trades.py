"""ccxt's trades of one's own: a list of them, or those within an order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .derived import derived_fields
from .fees import fee_fields
from .values import LISTS, id_, number, order_id, text, time, unsaid
from .words import side_of, type_of


def trade_fields(trade: object, *, exchange: str | None = None, derived: bool = True) -> dict[str, Any]:
    """Keyword arguments for ``AuditLog.trade`` from a ccxt trade of one's own (``fetchMyTrades``, ``watchMyTrades``).

    A ccxt trade is one fill, so ``quantity`` and ``executed_qty`` are both its ``amount``. ``timestamp`` and
    ``executed_at`` are its time. ``cost`` and ``taker_or_maker`` stay in the log. ``derived`` is that of
    :func:`emitter.ccxt.order_fields`: a ``trade_id`` in it is one that ccxt made up.
    """
    if not isinstance(trade, Mapping):
        return no_structure(trade, exchange)
    get = trade.get
    executed_at = time(trade, "timestamp", "datetime")
    amount = number(get("amount"))
    fields = {
        "exchange": text(exchange) or text(get("exchange")),
        "symbol": text(get("symbol")) or text(get("outcome")),
        "side": side_of(get("side")),
        "order_type": type_of(get("type")),
        "quantity": amount,
        "price": number(get("price")),
        "executed_qty": amount,
        "average_price": number(get("average")),
        "order_id": order_id(get("order")),
        "client_order_id": id_(get("clientOrderId")),
        "trade_id": id_(get("id")),
        **fee_fields(get("fee"), get("fees")),
        "cost": number(get("cost")),
        "taker_or_maker": text(get("takerOrMaker")),
        "executed_at": executed_at,
        "timestamp": executed_at,
    }
    said = {name: value for name, value in fields.items() if value is not None}
    if derived:
        said.update(derived_fields(said, get("info")))
    return said


def fills_of(order: object, *, exchange: str | None = None, derived: bool = True) -> list[dict[str, Any]]:
    """Keyword arguments for ``AuditLog.trade``, one each, from the fills in a ccxt order's ``trades``.

    What a fill does not say of its order (symbol, side, type, ids) is the order's. Most exchanges leave the list
    empty: then the fills come from ``fetch_order_trades`` or ``fetch_my_trades``.
    """
    if not isinstance(order, Mapping) or not isinstance(listed := order.get("trades"), LISTS):
        return []
    get = order.get
    of_order = {
        "exchange": text(exchange) or text(get("exchange")),
        "symbol": text(get("symbol")) or text(get("outcome")),
        "side": side_of(get("side")),
        "order_type": type_of(get("type")),
        "order_id": order_id(get("id")),
        "client_order_id": id_(get("clientOrderId")),
    }
    known = {name: value for name, value in of_order.items() if value is not None}
    return [
        {**known, **trade_fields(fill, exchange=exchange, derived=derived)}
        for fill in listed
        if isinstance(fill, Mapping)
    ]


def no_structure(answer: object, exchange: object) -> dict[str, Any]:
    """The fields of an answer that is no mapping: it stays in the log, whole, and says nothing that has a column."""
    fields = {"exchange": text(exchange), "answer": None if unsaid(answer) else answer}
    return {name: value for name, value in fields.items() if value is not None}
