"""The records of a position's orders: what each step of its life writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..records import ORDER, TRADE
from .answers import Answer, read
from .executions import Fallback, fills_beyond, listed_fills
from .figures import ZERO, number
from .holding import EXIT, Holding, Order, Role
from .standing import FINAL, counts_of, prices_of, status_of, type_of, waits_for

if TYPE_CHECKING:
    from ..audit import AuditLog

# Of what is given beside an order's own fields: what only trades have a place for, and what every record has.
_OF_TRADES = frozenset(field.name for field in TRADE.fields) - {field.name for field in ORDER.fields}
_OF_ALL = frozenset({"position_id", "exchange", "symbol", "timestamp", "trace_id", "span_id"})
_FEES = ("fee", "fee_currency", "fees")


class Lifecycle:
    """Writes what happens to one position. ``link`` is on all its records, ``of_trades`` on its trades and its end."""

    __slots__ = ("_audit", "_holding", "_of_trades", "link")

    def __init__(self, audit: AuditLog, holding: Holding, link: dict[str, Any], of_trades: dict[str, Any]) -> None:
        self._audit = audit
        self._holding = holding
        self.link = link
        self._of_trades = _said(of_trades)

    # -- steps --

    def report(
        self,
        role: Role,
        told: Any,
        given: dict[str, Any],
        claim: str,
        reason: str | None = None,
        closes: bool | None = None,
    ) -> int:
        """An order as it stands; one that the position does not know is made. ``claim``: its status if it says none."""
        answer = self._read(told, given)
        order = self._holding.find(answer.fields)
        if order is not None and order.role.protects:
            reason = reason or order.role.name
        return self._write(order or Order(role), answer, claim, reason, made=order is None, closes=closes)

    def move(self, role: Role, told: Any, given: dict[str, Any], reason: str | None) -> int:
        """Another price for an order that waits, or another order in its place."""
        answer = self._read(told, given)
        order, waiting = self._holding.find(answer.fields), self._holding.newest(role)
        if order is not None or not answer.names_an_order:
            return self._write(order or waiting or Order(role), answer, None, reason or "moved")
        replacement, first = Order(role), 0
        if waiting is not None and waiting.waits:
            replacement.size = waiting.size
            first = self._end(waiting, "CANCELED", reason or "replaced", answer)
        second = self._write(replacement, answer, "NEW", made=True)
        return first or second

    def trigger(self, role: Role, told: Any, given: dict[str, Any], reason: str) -> int:
        """An order that waited was executed: itself, or by another one that the exchange made for it."""
        answer = self._read(told, given)
        order, waiting = self._holding.find(answer.fields), self._holding.newest(role)
        if order is not None or waiting is None or "order_id" not in answer.fields:
            return self._write(order or waiting or Order(role), answer, "FILLED", reason)
        first = self._end(waiting, "TRIGGERED", reason, answer)
        executing = Order(EXIT, size=waiting.size, price=waiting.price)
        second = self._write(executing, answer, "FILLED", reason, made=True)
        return first or second

    def cancel(self, role: Role, told: Any, given: dict[str, Any], reason: str | None) -> int:
        """An order that waited does so no more; 0 where it is known that none does. Filled it stays filled.

        Answers to a cancel often show the order as it was before.
        """
        answer = self._read(told, given)
        order = self._holding.find(answer.fields)
        if order is None and not answer.names_an_order:
            order = self._holding.oldest(role)
            if order is not None and order.filled:
                return 0
        if answer.fields.get("status") not in FINAL:
            answer.fields["status"] = "FILLED" if order is not None and order.filled else "CANCELED"
        return self._write(order or Order(role), answer, "CANCELED", reason or "cancelled")

    def end_unseen(self, told: Any, given: dict[str, Any], reason: str) -> int:
        """A trade for what was left: of an order that is known, if one is named, else of none."""
        answer = self._read(told, given)
        order = self._holding.find(answer.fields)
        if order is not None:
            answer.more.setdefault("estimated", True)
            return self._write(order, answer, "FILLED", reason)
        fields, order = answer.fields, Order(EXIT, waits=False)
        order.side = self._holding.side_of(EXIT, fields.get("side"))
        order.order_id, order.client_order_id = fields.get("order_id"), fields.get("client_order_id")
        quantities = (answer.figure("filled"), answer.figure("amount"), self._holding.size_for(EXIT))
        order.size = next((quantity for quantity in quantities if quantity is not None), None)
        order.executed.filled = number(order.size) or ZERO
        self._holding.add(order)
        average = answer.figure("average")
        fill = {
            "price": answer.figure("price") if average is None else average,
            "quantity": order.size,
            "executed_qty": order.size,
            "executed_at": answer.time("traded", "changed"),
            **{name: fields[name] for name in _FEES if name in fields},
            "reason": reason,
            "estimated": True,
        }
        return self._trade(order, fill, answer.more)

    def end(self, given: dict[str, Any]) -> int:
        """The event that closes the story."""
        return self._audit.event("position.closed", **{**self.link, **self._of_trades, **given})

    # -- one order --

    def _read(self, told: Any, given: dict[str, Any]) -> Answer:
        """What is told. The position's names for exchange and symbol stand, and it learns those that it has not."""
        answer = read(told, given)
        for name in ("exchange", "symbol"):
            if name in answer.plain:
                answer.more[name] = answer.fields[name]
            if name in answer.fields:
                self.link.setdefault(name, answer.fields[name])
        return answer

    def _write(
        self,
        order: Order,
        answer: Answer,
        claim: str | None,
        reason: str | None = None,
        *,
        made: bool = False,
        closes: bool | None = None,
    ) -> int:
        """An order, made or changed, and its new fills; then, where they closed the position, what protected it."""
        placed = claim in ("NEW", None)
        self._complete(order, answer, placed=placed)
        now, fills = self._executed(order, answer, claim)
        now |= prices_of(order, answer, fills, placed=placed, made=made)
        beside = {name: value for name, value in answer.more.items() if not fills or name not in _OF_TRADES}
        named = {**self.link, **order.ids}
        if made:
            fields = {"type": order.type, "side": order.side, "size": order.size, **now}
            seq = self._audit.order(**_said({**named, **fields, "created_at": answer.time("created"), **beside}))
        else:
            fields = {"size": answer.fields.get("size"), **now, "reason": reason}
            seq = self._audit.update_order(**_said({**named, **fields, "updated_at": answer.time("changed"), **beside}))
        beside = {name: value for name, value in answer.more.items() if name in _OF_TRADES or name in _OF_ALL}
        for fill in fills:
            self._trade(order, {"status": now.get("status"), "reason": reason, **fill}, beside)
        if order.role.closes and (closes or (closes is None and fills and self._holding.is_closed(now.get("status")))):
            for other in self._holding.protecting():
                if other is not order:
                    self._end(other, "CANCELED", "position_closed", answer)
        return seq

    def _complete(self, order: Order, answer: Answer, *, placed: bool) -> None:
        """What is told of an order, to be known from now on, and what the position knows where nothing is told."""
        fields, holding = answer.fields, self._holding
        order.order_id = fields.get("order_id", order.order_id)
        order.client_order_id = fields.get("client_order_id", order.client_order_id)
        if order.side is None:
            order.side = holding.side_of(order.role, fields.get("side"))
        if order.type is None:
            order.type = type_of(order.role, answer)
        order.size = fields.get("size", order.size)
        if order.size is None:
            filled = fields.get("filled") if order.role is EXIT and not placed else None  # a part may be all it was for
            order.size = holding.size_for(order.role) if filled is None else filled
        if placed and order.role.protects and (price := waits_for(order, answer)) is not None:
            order.price = price
        if order not in holding.orders:
            holding.add(order)

    def _executed(self, order: Order, answer: Answer, claim: str | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """How far the order is, as fields of its record, and its new fills."""
        done, stand_in = order.executed, order.price if order.role.closes else self._holding.price
        fallback = Fallback(stand_in, answer.more.get("contract_size", self._of_trades.get("contract_size")))
        known = {**answer.fields, **self.link, "type": order.type, "size": order.size}
        fills = listed_fills(known, answer, done, fallback) if answer.fills else []
        filled = known.get("filled", done.filled if answer.fills else None)
        status = status_of(answer, claim, filled, order.size)
        now = {name: known[name] for name in ("filled", "remaining", *_FEES) if name in known}
        if status is not None:
            order.waits = status not in FINAL
            now = {"status": status, **counts_of(status, filled, order.size), **now}
        if not answer.fills:
            fills = fills_beyond({**known, **now}, answer, done, fallback)
        return now, fills

    def _trade(self, order: Order, fill: dict[str, Any], beside: dict[str, Any]) -> int:
        whole = {**self.link, **self._of_trades, **order.ids, "order_type": order.type, "side": order.side}
        return self._audit.trade(**_said({**whole, **fill, **beside}))

    def _end(self, order: Order, status: str, reason: str, answer: Answer) -> int:
        """An order that waited does so no more; one without any id cannot be named, and stays as it is."""
        order.waits = False
        if order.order_id is None and order.client_order_id is None:
            return 0
        beside = {name: value for name, value in answer.more.items() if name in _OF_ALL}
        ended = {**self.link, **order.ids, "status": status, "reason": reason, **beside}
        return self._audit.update_order(**_said(ended))


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
