"""What exchanges really answered, from ccxt's structures to rows: nothing raised, invented, or lost without a word.

Each row is held against the source by a reading of its own: no field has a value that the source does not hold.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog
from emitter.ccxt import fills_of, order_fields, trade_fields, update_fields
from loader.database import Database

from ..command import answer

DATA = Path(os.environ.get("TRADETRAIL_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="no real answers: TRADETRAIL_SHARED_DATA or ../shared/data")

FREQTRADE = {
    "id": "order_id",
    "symbol": "symbol",
    "type": "order_type",
    "side": "side",
    "status": "status",
    "timestamp": "order_date",
    "lastTradeTimestamp": "order_filled_date",
    "lastUpdateTimestamp": "order_update_date",
    **{name: name for name in ("amount", "price", "average", "filled", "remaining", "cost")},
}
CHANGES = ("cancelOrder", "cancelOrders", "cancelAllOrders", "editOrder", "editOrders")
NUMBERS = {"size": "amount", "price": "price", "filled": "filled", "remaining": "remaining", "average_price": "average"}
TRADE_NUMBERS = {"quantity": "amount", "executed_qty": "amount", "price": "price", "average_price": "average"}
WORDS = {
    "open": {"NEW", "PARTIALLY_FILLED"},
    "closed": {"FILLED", "CLOSED"},
    "canceled": {"CANCELED"},
    "cancelled": {"CANCELED"},
}
COLUMNS_OF_ORDERS = ("size", "price", "filled", "remaining")


# 334 answers about orders, the 3 fills in them, 63 trades, 132 orders of a live account. Those that are rejected lack
# what makes an order: ``reason_of`` looks into the source of each. What is repaired has its row, but for fills told
# twice.
OUTCOME = {
    "records": 532,
    "orders": 302,
    "trades": 56,
    "order_updates": 64,
    "rejected": 103,
    "repaired": 18,
    "duplicates": 7,
}
REASONS = {"field_missing": 95, "order_not_named": 21, "side_unknown": 8, "repeated_trade": 7, "status_unknown": 3}
MISSING = {
    "no side": 53,
    "no status": 52,
    "no type": 51,
    "no symbol": 30,
    "no id": 21,
    "side_unknown": 8,
    "repeated_trade": 7,
    "status_unknown": 3,
}
NEEDED = {"exchange", "symbol", "type", "side", "status"}
REQUEST = {"symbol": "SOL/USDT:USDT", "type": "limit", "side": "sell", "amount": Decimal("3.5"), "price": Decimal(141)}


@dataclass(frozen=True)
class Said:
    """One call of the bot, and the source that it was made of."""

    table: str
    exchange: str
    source: dict[str, Any]

    @property
    def symbol(self) -> str | None:
        """The market; on a prediction market, what can come true."""
        return self.source.get("symbol") or self.source.get("outcome")


def lines(name: str) -> Iterator[dict[str, Any]]:
    for line in (DATA / name).read_text("utf-8").splitlines():
        yield json.loads(line, parse_float=Decimal)


def emitted(directory: Path) -> dict[int, Said]:
    """Everything there is, written as a bot writes it after the call of ccxt that gave it; the sources by seq."""
    said: dict[int, Said] = {}
    with AuditLog(directory, service="fox-bot") as audit:
        for entry in lines("exchange_orders.jsonl"):
            exchange, order = entry["exchange"], entry["unified"]
            if entry["method"] in CHANGES:
                seq = audit.update_order(**update_fields(order, exchange=exchange))
                said[seq] = Said("order_updates", exchange, order)
            else:
                said[audit.order(**order_fields(order, exchange=exchange))] = Said("orders", exchange, order)
            fills = fills_of(order, exchange=exchange)
            for fill, source in zip(fills, order.get("trades") or [], strict=True):
                whole = {name: order[name] for name in ("symbol", "side", "type", "clientOrderId")}
                whole |= {"order": order["id"], **{k: v for k, v in source.items() if v is not None}}
                said[audit.trade(**fill)] = Said("trades", exchange, whole)
        for entry in lines("exchange_trades.jsonl"):
            seq = audit.trade(**trade_fields(entry["unified"], exchange=entry["exchange"]))
            said[seq] = Said("trades", entry["exchange"], entry["unified"])
        for row in lines("metrics/M_live_binance_spot_47.orders.jsonl"):
            order = {name: row[theirs] for name, theirs in FREQTRADE.items()}
            said[audit.order(**order_fields(order, exchange="binance"))] = Said("orders", "binance", order)
        stats = audit.stats()
    assert (stats.emitted, stats.lost, stats.last_error) == (len(said), 0, None)
    return said


async def test_what_exchanges_really_answer_becomes_rows_of_just_that(dsn: str, tmp_path: Path) -> None:
    begun = datetime.now(UTC)
    said = emitted(tmp_path / "audit")
    ended = datetime.now(UTC)
    told = answer("load", "--dir", tmp_path / "audit", "--dsn", dsn, code=1)
    outcome = {name: told[name] for name in OUTCOME}
    assert outcome == OUTCOME
    assert told["reasons"] == REASONS
    async with await Database.connect(dsn) as database:
        rejects = await database.fetch("SELECT seq, severity, reasons FROM monitoring.audit_rejects ORDER BY seq")
        missing = Counter()
        for reject in rejects:
            source = said[reject["seq"]]
            for reason in reject["reasons"]:
                missing[reason_of(reason, source)] += 1
        assert missing == MISSING
        rejected = {reject["seq"] for reject in rejects if reject["severity"] == "rejected"}
        found = {table: await database.fetch(f"SELECT * FROM monitoring.{table}") for table in ("orders", "trades")}
        found["order_updates"] = await database.fetch("SELECT * FROM monitoring.order_updates")
    checked = Checked(begun, ended)
    for table in ("trades", "order_updates"):
        for row in found[table]:
            checked.row(table, row, [said[row["seq"]]])
    for row in found["orders"]:
        checked.row("orders", row, records_of(row, said, rejected))
    kept = {row["seq"] for rows in found.values() for row in rows}
    repeated = {r["seq"] for r in rejects if any(reason.startswith("repeated_trade") for reason in r["reasons"])}
    assert kept | rejected | repeated == set(said)
    assert not kept & rejected


def reason_of(reason: str, said: Said) -> str:
    """A reason in short, once the source is seen to bear it out."""
    rule, _, words = reason.partition(": ")
    source = said.source
    if rule == "field_missing":
        field = words.removesuffix(" is missing")
        assert not (said.symbol if field == "symbol" else source.get(field)), (reason, source)
        return f"no {field}"
    if rule == "order_not_named":
        assert source.get("id") in (None, "0x00"), source
        assert not source.get("clientOrderId"), source
        return "no id"
    value = words.rpartition(": ")[2]
    if rule == "side_unknown":
        assert source["side"].lower() == value
        assert value not in ("buy", "sell")
    elif rule == "status_unknown":
        assert source["status"].upper() == value
    else:
        assert rule == "repeated_trade"
        assert source["id"]
    return rule


def records_of(row: dict[str, Any], said: dict[int, Said], rejected: set[int]) -> list[Said]:
    """The sources of all records that may be in an order's row."""
    if row["order_id"] is None:
        return [said[row["seq"]]]
    key = (row["exchange"], row["symbol"], row["order_id"])
    of_orders = [s for seq, s in said.items() if s.table != "trades" and seq not in rejected]
    return [s for s in of_orders if (s.exchange, s.symbol, str(s.source.get("id"))) == key]


class Checked:
    """Holds rows against their sources."""

    def __init__(self, begun: datetime, ended: datetime) -> None:
        self.now = (begun, ended)

    def row(self, table: str, row: dict[str, Any], sources: list[Said]) -> None:
        assert sources, row
        texts = {"order_id": "order", "trade_id": "id"} if table == "trades" else {"order_id": "id"}
        texts["client_order_id"] = "clientOrderId"
        numbers = TRADE_NUMBERS if table == "trades" else NUMBERS
        words = {"order_type": "type", "side": "side"} if table == "trades" else {"type": "type", "side": "side"}
        known = {"exchange", "fee", "fee_currency", "fees", "status", "id", "stream", "seq", "kind", "symbol"}
        if table == "orders" or row.get("kind") == "created":
            numbers = {name: key for name, key in numbers.items() if name in COLUMNS_OF_ORDERS}
        for name, value in row.items():
            if value is None:
                assert not is_lost(name, {**texts, **numbers, **words}, sources), (name, row)
            elif name in texts:
                assert value in {as_text(s.source.get(texts[name])) for s in sources}, (name, row)
            elif name in numbers:
                assert value in {as_number(s.source.get(numbers[name])) for s in sources}, (name, row)
            elif name in words:
                assert bare(value) in {bare(s.source.get(words[name])) for s in sources}, (name, row)
            elif isinstance(value, datetime):
                assert self.is_time_of(value, sources), (name, row)
            else:
                assert name in known, (name, row)
        assert {(s.exchange, s.symbol) for s in sources} == {(row["exchange"], row["symbol"])}
        if row["status"] is not None:
            assert any(is_status_of(row["status"], s.source) for s in sources), row
        self.fees(row, sources)

    def is_time_of(self, value: datetime, sources: list[Said]) -> bool:
        """A time of the source, or that of the call, where the source has none for it."""
        names = ("timestamp", "lastTradeTimestamp", "lastUpdateTimestamp")
        begun, ended = self.now
        return begun <= value <= ended or value in {moment(s.source.get(name)) for s in sources for name in names}

    def fees(self, row: dict[str, Any], sources: list[Said]) -> None:
        told = [fee for s in sources for fee in (s.source.get("fee"), *(s.source.get("fees") or [])) if fee]
        costs = [(as_number(fee.get("cost")), fee.get("currency")) for fee in told if fee.get("cost") is not None]
        if row["fee"] is None and row["fees"] is None:
            assert not costs, row
            return
        kept = json.loads(row["fees"]) if isinstance(row["fees"], str) else row["fees"] or []
        for fee in kept:
            assert (as_number(fee["cost"]), fee.get("currency")) in costs, row
        if row["fee"] is not None:
            assert row["fee"] in {cost for cost, _ in costs}, row
        assert row["fee_currency"] in {None, *(currency for _, currency in costs)}, row


def is_status_of(status: str, source: dict[str, Any]) -> bool:
    said = source.get("status")
    if said:
        return status in WORDS.get(said, {said.upper()})
    return status == "FILLED" and source["filled"] > 0 and source["remaining"] == 0


def is_lost(name: str, names: dict[str, str], sources: list[Said]) -> bool:
    """Whether the sources say what a row does not have; an id that is only a placeholder says nothing."""
    return name in names and any(as_text(s.source.get(names[name])) not in (None, "", "0x00") for s in sources)


def as_text(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(map(str, value)) or None
    return None if value is None else str(value)


def as_number(value: Any) -> Decimal | None:
    return None if value is None or value == "" else Decimal(str(value))


def bare(value: Any) -> str | None:
    return None if value is None else re.sub(r"[\W_]", "", value).casefold()


def moment(value: Any) -> datetime | None:
    """ccxt's milliseconds, or freqtrade's text."""
    if value is None or value == 0 or value == -1:
        return None
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)


def test_a_request_completes_every_real_answer_that_has_an_id() -> None:
    made = Counter()
    for entry in lines("exchange_orders.jsonl"):
        if not entry["method"].startswith("create"):
            continue
        alone = order_fields(entry["unified"], exchange=entry["exchange"])
        asked = order_fields(entry["unified"], exchange=entry["exchange"], asked=REQUEST)
        named = not {"order_id", "client_order_id"}.isdisjoint(alone)
        made["alone" if set(alone) >= NEEDED else "with its request" if named else "by nobody"] += 1
        assert asked.items() >= {name: value for name, value in alone.items() if name != "asked"}.items()
        assert set(asked) - set(alone) <= {*asked.get("asked", ()), "asked"}
        assert set(asked) >= NEEDED or not named
    assert made == {"alone": 74, "with its request": 49, "by nobody": 5}
