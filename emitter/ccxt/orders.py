"""ccxt's orders: as they are made, as they change, and as an edit replaces one by another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .asked import fill_in, request_fields
from .derived import derived_fields
from .fees import fee_fields
from .further import further_fields
from .trades import no_structure
from .values import decimal, id_, number, order_id, text, time
from .words import side_of, status_of, type_of

_CHANGE_TIMES = ("lastUpdateTimestamp", "lastTradeTimestamp")
_CREATION_TIMES = ("timestamp", "datetime")


def order_fields(
    order: object,
    *,
    exchange: str | None = None,
    asked: Mapping[str, Any] | None = None,
    derived: bool = True,
) -> dict[str, Any]:
    """Keyword arguments for ``AuditLog.order`` from a ccxt order (``createOrder``, ``fetchOrder``, ``fetchOrders``).

    ``exchange`` is not part of ccxt's structure; without the argument a key of that name is taken.
    ``timestamp`` is the time of the last change: ``lastUpdateTimestamp``, else ``lastTradeTimestamp``,
    ``timestamp``, ``datetime``.

    ``status``: ``open`` becomes NEW, or PARTIALLY_FILLED where something is filled; ``canceled`` becomes
    CANCELED; others are the source's word in upper case. ``closed`` becomes FILLED, also where less is filled
    than ``amount``: ccxt means a complete fill by it (github.com/ccxt/ccxt/issues/3945), and some exchanges
    give the ``amount`` of a market order in quote currency; ``filled`` and ``remaining`` stand beside it
    unchanged. Only where the source says that nothing was filled it stays CLOSED: that is no fill, and
    whether it was a cancel or a trigger that fired is not said. A ``status`` of None is FILLED where something
    is filled and nothing remains.

    ``asked`` is what the bot asked for, by the names of ccxt's arguments: ``exchange.create_order(**asked)``. It
    fills in what the answer does not say, and the record's field ``asked`` names what. An answer with an id and
    no status is that of an order that was taken: NEW, which is named there, too.

    The record's field ``derived`` names the numbers and ids that stand nowhere in the exchange's own answer
    (``info``): ccxt worked them out. They are not looked for where ``info`` is empty, nor with ``derived=False``. A
    ``status`` that only the figures tell is always named there.
    """
    if not isinstance(order, Mapping):
        return _asked(no_structure(order, exchange), asked, answers=False)
    fields = _order(order, exchange, derived)
    changed = time(order, *_CHANGE_TIMES)
    created = time(order, *_CREATION_TIMES)
    if created is not None:
        fields["created_at"] = created
    if changed is not None or created is not None:
        fields["timestamp"] = changed or created
    return fields if asked is None else _asked(fields, asked, answers=True)


def update_fields(
    order: object,
    *,
    exchange: str | None = None,
    asked: Mapping[str, Any] | None = None,
    derived: bool = True,
) -> dict[str, Any]:
    """Keyword arguments for ``AuditLog.update_order`` from a ccxt order: its state as the source says it now.

    As :func:`order_fields` (``cancelOrder``, ``editOrder``, ``fetchOrder`` of an order that is known,
    ``watchOrders``), with these differences. ``updated_at`` and ``timestamp`` are the source's time of change; where
    it has none, the record's time is that of the call, not that of the order's creation. Where nobody says a
    status, there is none: that a cancel was asked for does not mean that it came in time.
    """
    if not isinstance(order, Mapping):
        return _asked(no_structure(order, exchange), asked, answers=False)
    fields = _order(order, exchange, derived)
    created = time(order, *_CREATION_TIMES)
    if created is not None:
        fields["created_at"] = created
    changed = time(order, *_CHANGE_TIMES)
    if changed is not None:
        fields["updated_at"] = fields["timestamp"] = changed
    return fields if asked is None else _asked(fields, asked, answers=False)


def edit_fields(
    answer: object,
    *,
    exchange: str | None = None,
    asked: Mapping[str, Any],
    derived: bool = True,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """For ``AuditLog.update_order``, and for ``AuditLog.order``, from what ``exchange.edit_order(**asked)`` answers.

    Where the order keeps its id, the first is its new state and the second is empty. Where the answer names another
    id, the exchange put a new order in the place of the old one: the first cancels the old one and has
    ``replaced_by``, the second is the new one and has ``replaces``.
    """
    request = request_fields(asked)
    before = request.get("order_id")
    now = order_id(answer.get("id")) if isinstance(answer, Mapping) else None
    if before is None or now is None or before == now:
        return update_fields(answer, exchange=exchange, asked=asked, derived=derived), {}
    new = order_fields(answer, exchange=exchange, asked={**asked, "id": None}, derived=derived)
    new["replaces"] = before
    old = {
        "exchange": new.get("exchange"),
        "symbol": new.get("symbol"),
        "order_id": before,
        "status": "CANCELED",
        "replaced_by": now,
        "asked": ["order_id", "status"],
    }
    return {name: value for name, value in old.items() if value is not None}, new


def _order(order: Mapping[str, Any], exchange: str | None, derived: bool) -> dict[str, Any]:
    """What an order says, without its times."""
    get = order.get
    fields = {
        "exchange": text(exchange) or text(get("exchange")),
        "symbol": text(get("symbol")) or text(get("outcome")),  # prediction markets have no symbol
        "order_id": order_id(get("id")),
        "client_order_id": id_(get("clientOrderId")),
        "type": type_of(get("type")),
        "side": side_of(get("side")),
        "size": number(get("amount")),
        "price": number(get("price")),
        "status": status_of(order),
        "filled": number(get("filled")),
        "remaining": number(get("remaining")),
        "average_price": number(get("average")),
        **fee_fields(get("fee"), get("fees")),
        **further_fields(order),
    }
    said = {name: value for name, value in fields.items() if value is not None}
    if derived:
        said.update(derived_fields(said, get("info")))
    if "status" in order and "status" not in said and _is_filled(said):
        said["status"] = "FILLED"
        said["derived"] = [*said.get("derived", ()), "status"]
    return said


def _is_filled(said: Mapping[str, Any]) -> bool:
    filled, remaining = decimal(said.get("filled")), decimal(said.get("remaining"))
    return filled is not None and filled > 0 and remaining == 0


def _asked(fields: dict[str, Any], asked: Mapping[str, Any] | None, *, answers: bool) -> dict[str, Any]:
    """The fields with what only the request says; ``answers``: and NEW, where there is an id and no status."""
    if not isinstance(asked, Mapping):
        return fields
    taken = answers and "status" not in fields and not {"order_id", "client_order_id"}.isdisjoint(fields)
    request = request_fields(asked)
    if taken:
        request["status"] = "NEW"
    fill_in(fields, request)
    return fields
