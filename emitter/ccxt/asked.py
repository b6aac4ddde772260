"""What a bot asked for, where the answer of the exchange is silent.

Many exchanges answer ``create_order``, ``edit_order`` and ``cancel_order`` with little more than an id. What the order
is then stands only in the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .further import further_fields
from .values import id_, number, order_id, text
from .words import side_of, type_of


def request_fields(asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """A request in the names of a record.

    ``asked`` has the arguments of ccxt's call by their names (``id``, ``symbol``, ``type``, ``side``, ``amount``,
    ``price``, ``cost``), unified ones of ``params`` too, within ``params`` or beside it.
    """
    if not isinstance(asked, Mapping):
        return {}
    params = asked.get("params")
    if isinstance(params, Mapping):
        asked = {**params, **asked}
    get = asked.get
    fields = {
        "symbol": text(get("symbol")) or text(get("outcome")),
        "order_id": order_id(get("id")),
        "client_order_id": id_(get("clientOrderId")),
        "type": type_of(get("type")),
        "side": side_of(get("side")),
        "size": number(get("amount")),
        "price": number(get("price")),
        **further_fields(asked),
    }
    return {name: value for name, value in fields.items() if value is not None}


def fill_in(fields: dict[str, Any], request: Mapping[str, Any]) -> None:
    """Add what only the request says, and name it in ``asked``."""
    silent = [name for name in request if name not in fields]
    fields.update((name, request[name]) for name in silent)
    if silent:
        fields["asked"] = silent
