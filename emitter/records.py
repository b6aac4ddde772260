"""The contract of a record: its kinds, their fields, and the names that stand in a line.

``docs/format.md`` is the normative text. The emitter writes by this module and the loader checks by it;
a kind of record is described here once, and one path carries all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

FieldType = Literal["text", "number", "integer", "boolean", "time", "fee", "fees"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of ``attributes``.

    ``number`` is a JSON number or, for exact decimals, a string. ``time`` is ISO 8601 or a number since 1970 in
    seconds, milliseconds, microseconds or nanoseconds. ``fee`` is a number or ``{cost, currency}``; ``fees`` is
    a list of those.
    """

    name: str
    type: FieldType = "text"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record: the event name that marks it and the table it is loaded into."""

    name: str
    event_name: str | None
    table: str
    fields: tuple[Field, ...]


def _fields(spec: str) -> tuple[Field, ...]:
    """``"symbol* size:number"``: names, ``*`` where needed, ``:type`` where it is not text."""
    fields = []
    for word in spec.split():
        name, _, type_ = word.partition(":")
        fields.append(Field(name.rstrip("*"), type_ or "text", name.endswith("*")))  # type: ignore[arg-type]
    return tuple(fields)


ORDER = Kind(
    "order",
    "order.created",
    "orders",
    _fields(
        "position_id exchange* symbol* order_id client_order_id type* side* size:number price:number status* "
        "filled:number remaining:number fee:fee fee_currency fees:fees created_at:time updated_at:time"
    ),
)
ORDER_UPDATE = Kind(
    "order_update",
    "order.updated",
    "order_updates",
    _fields(
        "position_id exchange* symbol* order_id client_order_id type side size:number price:number status "
        "filled:number remaining:number average_price:number fee:fee fee_currency fees:fees reason "
        "created_at:time updated_at:time"
    ),
)
TRADE = Kind(
    "trade",
    "trade.executed",
    "trades",
    _fields(
        "signal_id:integer position_id exchange* symbol* side* order_type quantity:number price*:number "
        "executed_qty*:number average_price:number order_id client_order_id trade_id status fee:fee fee_currency "
        "fees:fees contract_size:number reason estimated:boolean executed_at:time"
    ),
)
# Any other event name; the fields named here are lifted into columns, the whole stays in event_data.
EVENT = Kind(
    "event",
    None,
    "events",
    _fields("position_id order_id symbol exchange correlation_id error_message stack_trace"),
)
KINDS = (ORDER, ORDER_UPDATE, TRADE, EVENT)

# Control lines: they carry no seq and are not records.
SEGMENT_OPENED = "segment.opened"
SEGMENT_CLOSED = "segment.closed"
AUDIT_LOST = "audit.lost"
CONTROL_EVENTS = (SEGMENT_OPENED, SEGMENT_CLOSED, AUDIT_LOST)

# OpenTelemetry's severity numbers (opentelemetry.io/docs/specs/otel/logs/data-model, "SeverityNumber").
SEVERITY_NUMBERS = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
