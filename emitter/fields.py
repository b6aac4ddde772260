"""What type checkers and editors know of a record's fields. At run time a field may hold anything.

``OrderFields`` and its like are for dicts that a bot fills field by field, and hands over with ``**``. The words of a
``Literal`` are there for editors to offer: any other word is allowed, too, since exchanges invent new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypedDict
from uuid import UUID

Text = str | Enum | None
Id = str | int | UUID | None
Number = int | float | Decimal | str | None
Time = datetime | int | float | Decimal | str | None
Fee = Number | Mapping[str, Any]
Fees = Sequence[Number | Mapping[str, Any]] | None

Side = Literal["buy", "sell"] | Text
PositionSide = Literal["buy", "sell", "long", "short"] | Text
OrderType = (
    Literal["MARKET", "LIMIT", "STOP_MARKET", "STOP_LIMIT", "TAKE_PROFIT_MARKET", "TAKE_PROFIT_LIMIT", "TRAILING_STOP"]
    | Text
)
Status = Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED", "TRIGGERED"] | Text
ExcInfo = BaseException | tuple[object, ...] | bool | None
Severity = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] | str


class RecordFields(TypedDict, total=False):
    """What stands beside the fields of any record: when it happened, if not now, and OpenTelemetry's ids."""

    timestamp: Time
    trace_id: str | None
    span_id: str | None


class _OfOrders(RecordFields, total=False):
    position_id: Id
    exchange: Text
    symbol: Text
    order_id: Id
    client_order_id: Id
    type: OrderType
    side: Side
    size: Number
    price: Number
    status: Status
    filled: Number
    remaining: Number
    fee: Fee
    fee_currency: Text
    fees: Fees
    created_at: Time
    updated_at: Time


class OrderFields(_OfOrders, total=False):
    """An order that was made; exchange, symbol, type, side and status are needed."""


class OrderUpdateFields(_OfOrders, total=False):
    """What changed of an order; exchange, symbol and one of its ids are needed."""

    average_price: Number
    reason: Text


class TradeFields(RecordFields, total=False):
    """A fill; exchange, symbol, side, price and executed_qty are needed."""

    signal_id: Id
    position_id: Id
    exchange: Text
    symbol: Text
    side: Side
    order_type: OrderType
    quantity: Number
    price: Number
    executed_qty: Number
    average_price: Number
    order_id: Id
    client_order_id: Id
    trade_id: Id
    status: Status
    fee: Fee
    fee_currency: Text
    fees: Fees
    contract_size: Number
    reason: Text
    estimated: bool | None
    executed_at: Time


class EventFields(RecordFields, total=False):
    """What ``monitoring.events`` has columns for."""

    position_id: Id
    order_id: Id
    symbol: Text
    exchange: Text
    correlation_id: Id
    error_message: Text
    stack_trace: Text
