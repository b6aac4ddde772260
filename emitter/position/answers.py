"""What a bot has of an order, in whatever shape it came, under ccxt's names.

That is ccxt's unified order, a mapping or an object with names of its own, one fill, an order id, or nothing; and plain
fields beside it, which win. Each value is read with care: one that cannot be read is one that is not said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any

from ..ccxt import order_fields, trade_fields
from ..times import time_from, time_text
from .figures import number

# ccxt's names, each with the names that bots and exchanges give the same. The first one that is said counts: an
# object's ``id`` may be its row in the bot's own database.
_ORDER: dict[str, tuple[str, ...]] = {
    "id": ("order_id", "orderId", "exchange_order_id", "id"),
    "clientOrderId": ("client_order_id", "clientOrderId", "client_id"),
    "exchange": ("exchange",),
    "symbol": ("symbol",),
    "type": ("type", "order_type"),
    "side": ("side",),
    "amount": ("amount", "size", "quantity", "qty"),
    "price": ("price",),
    "average": ("average", "average_price", "avg_price", "avgPrice"),
    "filled": ("filled", "executed_qty", "executedQty", "filled_qty"),
    "remaining": ("remaining",),
    "cost": ("cost",),
    "status": ("status",),
    "fee": ("fee",),
    "feeCurrency": ("fee_currency", "feeCurrency"),
    "fees": ("fees",),
    "triggerPrice": ("triggerPrice", "trigger_price", "stopPrice", "stop_price", "stopLossPrice", "takeProfitPrice"),
    "created": ("created_at", "timestamp", "datetime"),
    "traded": ("executed_at", "lastTradeTimestamp"),
    "changed": ("updated_at", "lastUpdateTimestamp"),
    "trades": ("trades", "fills"),
    "fillOf": ("order",),
}
_FILL: dict[str, tuple[str, ...]] = {
    "id": ("trade_id", "tradeId", "id"),
    "amount": ("amount", "executed_qty", "size", "quantity", "qty"),
    "timestamp": ("timestamp", "executed_at"),
    **{name: (name,) for name in ("datetime", "price", "cost")},
    **{name: _ORDER[name] for name in ("side", "type", "fee", "feeCurrency", "fees")},
}
# ``timestamp`` as a plain field is the record's own, as in every call of the log.
_PLAIN = {
    name: tuple(other for other in others if other not in ("timestamp", "order")) for name, others in _ORDER.items()
}
_PLAIN_NAMES = frozenset(other for others in _PLAIN.values() for other in others)
_NAMES = frozenset(other for others in _ORDER.values() for other in others)
_WORDS = ("type", "side", "status")
_FEES = frozenset({"fee", "feeCurrency", "fees"})
_CONTAINERS = (str, list, tuple, dict, set, frozenset)
_MOST_FILLS = 1000  # an order of more is told in part, and says so: the bot waits for each


@dataclass(slots=True)
class Answer:
    """One order as it was told at one moment.

    ``fields`` are those of ``AuditLog.order`` without times, ``fills`` those of ``AuditLog.trade``. ``plain`` names
    what was given as plain fields, by ccxt's names; ``more`` is what was given beside an order's own fields.
    """

    fields: dict[str, Any]
    fills: list[dict[str, Any]]
    said: dict[str, Any]
    plain: frozenset[str]
    more: dict[str, Any]

    @property
    def names_an_order(self) -> bool:
        """Whether it has an id."""
        return "order_id" in self.fields or "client_order_id" in self.fields

    def figure(self, name: str) -> Any:
        """A number by ccxt's name, as it was given; None where it is none, or 0, which exchanges write for none."""
        value = self.said.get(name)
        exact = number(value)
        return (exact if isinstance(value, str) else value) if exact else None

    def time(self, *names: str) -> str | None:
        """The first of ``created``, ``changed``, ``traded`` that is a time, in ISO 8601."""
        for name in names:
            moment = time_from(self.said.get(name))
            if moment is not None:
                return time_text(moment)
        return None


def read(answer: Any, given: Mapping[str, Any]) -> Answer:
    """What ``answer`` and the plain fields say of an order; what has no meaning here stays in ``more``."""
    told = _order_id_alone(answer) or _said(answer, _ORDER)
    more = {name: value for name, value in given.items() if name not in _PLAIN_NAMES}
    if not told and not _says_nothing(answer):
        more["answer"] = answer
    if isinstance(told.pop("fillOf", None), str | int) and "status" not in told:
        told = _order_of_fill(answer)
    plain = _said(given, _PLAIN) if given else {}
    if "fee" in plain or "fees" in plain:
        told = {name: value for name, value in told.items() if name not in _FEES}
    told.update(plain)
    listed = told.pop("trades", None)
    listed = listed if isinstance(listed, list | tuple) else ()
    if len(listed) > _MOST_FILLS:
        more["fills_not_written"] = len(listed) - _MOST_FILLS
    fields = order_fields(_with_fee(told))
    for name in _WORDS:
        if not isinstance(fields.get(name, ""), str):  # for the loader to judge, and not for us to compare
            more[name] = fields.pop(name)
    return Answer(
        fields=fields,
        fills=[_fill(fill) for fill in listed[:_MOST_FILLS]],
        said=told,
        plain=frozenset(plain),
        more=more,
    )


def _says_nothing(answer: Any) -> bool:
    """Whether it is empty, or has the names of an order and nothing under them."""
    if isinstance(answer, _CONTAINERS) and not answer:
        return True
    return answer is None or (type(answer) is dict and not _NAMES.isdisjoint(answer))


def _order_id_alone(answer: Any) -> dict[str, Any]:
    alone = isinstance(answer, str | int) and not isinstance(answer, bool | Enum) and str(answer).strip()
    return {"id": answer} if alone else {}


def _order_of_fill(fill: Any) -> dict[str, Any]:
    """A fill is a list of one, of an order of which nothing more is known."""
    of_order = ("clientOrderId", "exchange", "symbol", "type", "side")
    names = {"id": ("order",), **{name: _ORDER[name] for name in of_order}}
    return {**_said(fill, names), "trades": [fill]}


def _fill(fill: Any) -> dict[str, Any]:
    fields = trade_fields(_with_fee(_said(fill, _FILL)))
    fields.pop("timestamp", None)
    return fields


def _with_fee(said: dict[str, Any]) -> dict[str, Any]:
    """ccxt's fee is one with its currency."""
    fee, currency = said.get("fee"), said.get("feeCurrency")
    if currency is None or isinstance(fee, Mapping | list | tuple):
        return said
    return {**said, "fee": {"cost": fee, "currency": currency}}


def _said(source: Any, names: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if source is None:
        return said
    look = _looker(source)
    for name, others in names.items():
        for other in others:
            value = look(other)
            if value is not None and (value := _plain_value(value)) is not None:
                said[name] = value
                break
    return said


def _looker(source: Any) -> Callable[[str], Any]:
    if type(source) is dict:
        return source.get

    def look(name: str) -> Any:
        try:
            return get(name)
        except Exception:  # noqa: BLE001  a row without it, or whatever a bot's object raises
            return None

    get: Callable[[str], Any]
    if isinstance(source, Mapping):
        get = source.get
    elif callable(getattr(type(source), "keys", None)):  # a row of a database
        get = source.__getitem__
    else:
        get = partial(getattr, source)
    return look


def _plain_value(value: Any) -> Any:
    """A value without its wrapping; None where it says nothing, or is a method of that name."""
    if isinstance(value, Enum):
        value = value.value if isinstance(value.value, str) else value.name
    if isinstance(value, str):
        return value if str.strip(value) else None
    for kind in (float, Decimal):  # of numpy's floats, the repr is no number
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)
    return None if callable(value) else value
