"""The last orders and trades of a log, from its newest lines: orders folded as the loader folds them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from emitter.records import KINDS
from emitter.times import time_from

from ..exact import parse
from .looks import MOST_ROWS, Row

_ORDER_EVENTS = {kind.event_name for kind in KINDS if kind.name in ("order", "order_update")}
_TRADE_EVENTS = {kind.event_name for kind in KINDS if kind.name == "trade"}
_FINAL = ("FILLED", "CANCELED", "REJECTED", "EXPIRED")
_OF_ORDER = ("exchange", "symbol", "type", "side", "size", "price", "status", "filled")
_OF_TRADE = ("exchange", "symbol", "side", "price", "fee", "fee_currency", "fees", "position_id")

Place = tuple[str, str, int]  # timestamp, stream, seq: what orders are folded by


class Recent:
    """Takes lines as they come, and keeps the newest orders and trades. ``last_at``: time of the newest record."""

    def __init__(self) -> None:
        self.last_at: datetime | None = None
        self._orders: dict[Any, dict[Place, Mapping[str, Any]]] = {}
        self._trades: dict[Any, tuple[Place, Row]] = {}

    def take(self, lines: bytes) -> None:
        """Take whole lines of a segment; what is no record, or none of an order or a trade, is passed over."""
        for line in lines.split(b"\n"):
            record = _record(line)
            if record is None:
                continue
            place = (record["timestamp"], record["stream"], record["seq"])
            at = time_from(record.get("observed_timestamp") or record["timestamp"])
            self.last_at = max(filter(None, (self.last_at, at)), default=None)
            fields = record["attributes"]
            if record["event_name"] in _ORDER_EVENTS:
                self._orders.setdefault(self._key(fields, place), {})[place] = fields
            elif record["event_name"] in _TRADE_EVENTS:
                known = (fields.get("exchange"), fields.get("symbol"), fields.get("trade_id"))
                key = str(known if fields.get("trade_id") else place)
                if key not in self._trades or place < self._trades[key][0]:
                    self._trades[key] = (place, _trade(fields, place))
        self._forget()

    @property
    def full(self) -> bool:
        """Whether older lines would add nothing that is shown."""
        return len(self._orders) >= MOST_ROWS and len(self._trades) >= MOST_ROWS

    def orders(self) -> list[Row]:
        """The newest first, by their last record."""
        newest = sorted(self._orders.values(), key=max, reverse=True)
        return [{"at": time_from(max(records)[0]), **_folded(records)} for records in newest[:MOST_ROWS]]

    def trades(self) -> list[Row]:
        """The newest first, by when they were executed."""
        rows = [row for _, row in sorted(self._trades.values(), key=lambda kept: kept[0], reverse=True)]
        return sorted(rows, key=_executed, reverse=True)[:MOST_ROWS]

    def _key(self, fields: Mapping[str, Any], place: Place) -> Any:
        """What tells an order from others; a change that names it by client_order_id goes to the order of that name."""
        of = (str(fields.get("exchange")), str(fields.get("symbol")))
        if order_id := fields.get("order_id"):
            return (*of, "order_id", str(order_id))
        client_id = fields.get("client_order_id")
        if not client_id:
            return place
        for key, records in self._orders.items():
            if key[:2] == of and any(known.get("client_order_id") == client_id for known in records.values()):
                return key
        return (*of, "client_order_id", str(client_id))

    def _forget(self) -> None:
        """Keep twice what is shown, so that an order that is changed again still has its first record."""
        for kept, newest in ((self._orders, max), (self._trades, min)):
            if len(kept) > 4 * MOST_ROWS:
                ranked = sorted(kept, key=lambda key, kept=kept, newest=newest: newest(kept[key]))
                for key in ranked[: -2 * MOST_ROWS]:
                    del kept[key]


def _record(line: bytes) -> dict[str, Any] | None:
    if not line:
        return None
    try:
        found, _ = parse(line)
    except ValueError:
        return None
    texts = ("stream", "timestamp", "event_name")
    known = isinstance(found, dict) and all(isinstance(found.get(name), str) for name in texts)
    if not known or not isinstance(found.get("seq"), int) or not isinstance(found.get("attributes"), dict):
        return None
    return dict(found)


def _folded(records: Mapping[Place, Mapping[str, Any]]) -> dict[str, Any]:
    """The order's row: each field's last value, of records up to a final status and later ones that do not undo it."""
    row: dict[str, Any] = dict.fromkeys(_OF_ORDER)
    final = False
    for fields in (records[place] for place in sorted(records)):
        status = fields.get("status")
        is_final = isinstance(status, str) and status.upper() in _FINAL
        if final and status is not None and not is_final:
            continue
        final = final or is_final
        for name in _OF_ORDER:
            if fields.get(name) is not None and not (name in ("type", "side") and row[name] is not None):
                row[name] = fields[name]
    return row


def _trade(fields: Mapping[str, Any], place: Place) -> Row:
    at = time_from(fields.get("executed_at")) or time_from(place[0])
    return {"at": at, "quantity": fields.get("executed_qty"), **{name: fields.get(name) for name in _OF_TRADE}}


def _executed(row: Row) -> datetime:
    found = row["at"]
    return found if isinstance(found, datetime) else datetime.min.replace(tzinfo=UTC)
