"""The calls of ``AuditLog`` as type checkers and editors see them: each known field by name, and any other.

At run time the calls take plain ``**fields``, which costs less; this module is never imported then. A test holds it
to ``emitter.fields`` and ``emitter.records``.
"""

from __future__ import annotations

from typing import Any

from .fields import ExcInfo, Fee, Fees, Id, Number, OrderType, Severity, Side, Status, Text, Time


class TypedCalls:
    """Signatures only."""

    __slots__ = ()

    def order(
        self,
        /,
        *,
        position_id: Id = None,
        exchange: Text = None,
        symbol: Text = None,
        order_id: Id = None,
        client_order_id: Id = None,
        type: OrderType = None,  # noqa: A002  the name of the field
        side: Side = None,
        size: Number = None,
        price: Number = None,
        status: Status = None,
        filled: Number = None,
        remaining: Number = None,
        fee: Fee = None,
        fee_currency: Text = None,
        fees: Fees = None,
        created_at: Time = None,
        updated_at: Time = None,
        timestamp: Time = None,
        trace_id: str | None = None,
        span_id: str | None = None,
        **more: Any,
    ) -> int:
        """An order was made (``order.created``): exchange, symbol, type, side, status and what else is known."""
        raise NotImplementedError

    def update_order(
        self,
        /,
        *,
        position_id: Id = None,
        exchange: Text = None,
        symbol: Text = None,
        order_id: Id = None,
        client_order_id: Id = None,
        type: OrderType = None,  # noqa: A002
        side: Side = None,
        size: Number = None,
        price: Number = None,
        status: Status = None,
        filled: Number = None,
        remaining: Number = None,
        average_price: Number = None,
        fee: Fee = None,
        fee_currency: Text = None,
        fees: Fees = None,
        reason: Text = None,
        created_at: Time = None,
        updated_at: Time = None,
        timestamp: Time = None,
        trace_id: str | None = None,
        span_id: str | None = None,
        **more: Any,
    ) -> int:
        """An order changed (``order.updated``): exchange, symbol, order_id or client_order_id, and what changed."""
        raise NotImplementedError

    def trade(
        self,
        /,
        *,
        signal_id: Id = None,
        position_id: Id = None,
        exchange: Text = None,
        symbol: Text = None,
        side: Side = None,
        order_type: OrderType = None,
        quantity: Number = None,
        price: Number = None,
        executed_qty: Number = None,
        average_price: Number = None,
        order_id: Id = None,
        client_order_id: Id = None,
        trade_id: Id = None,
        status: Status = None,
        fee: Fee = None,
        fee_currency: Text = None,
        fees: Fees = None,
        contract_size: Number = None,
        reason: Text = None,
        estimated: bool | None = None,
        executed_at: Time = None,
        timestamp: Time = None,
        trace_id: str | None = None,
        span_id: str | None = None,
        **more: Any,
    ) -> int:
        """A fill (``trade.executed``): exchange, symbol, side, price, executed_qty and what else is known."""
        raise NotImplementedError

    def event(
        self,
        name: str,
        /,
        *,
        severity: Severity = "INFO",
        exc_info: ExcInfo = None,
        position_id: Id = None,
        order_id: Id = None,
        symbol: Text = None,
        exchange: Text = None,
        correlation_id: Id = None,
        error_message: Text = None,
        stack_trace: Text = None,
        timestamp: Time = None,
        trace_id: str | None = None,
        span_id: str | None = None,
        **more: Any,
    ) -> int:
        """Anything else worth a line, under a name in the past tense such as ``position.closed``.

        ``exc_info``, as in ``logging``: an exception, or True for the one that is being handled, becomes
        ``error_message`` and ``stack_trace``.
        """
        raise NotImplementedError
