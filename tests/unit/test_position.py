"""``audit.position(...)``: what each step writes, from whatever the bot has at that point."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal, FloatOperation, Inexact, setcontext
from enum import Enum
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emitter import AuditLog, Position

from ..trail import only

KNOWN = {"exchange": "bybit", "symbol": "MNT/USDT:USDT", "position_id": 55}
STEPS = [
    f"{what}_{step}"
    for what, steps in {
        "entry": ("placed", "filled", "cancelled"),
        "exit": ("placed", "filled", "cancelled"),
        "stop_loss": ("placed", "moved", "triggered", "cancelled"),
        "take_profit": ("placed", "moved", "triggered", "cancelled"),
    }.items()
    for step in steps
] + ["closed_by_sync"]


class Paper:
    """A log and one position of it, and what was written so far."""

    def __init__(self, place: Path, **position: Any) -> None:
        self._place = place / "audit"
        self.audit = AuditLog(self._place, service="fox-bot", ring_bytes=1 << 20, flush_interval_ms=1)
        self.position = self.audit.position(**{**KNOWN, "side": "buy", "quantity": 94.7, "signal_id": 4711, **position})

    def written(self) -> list[dict[str, Any]]:
        """Each record as its attributes, without the position's own, under ``is`` what it is."""
        self.audit.close()
        found = []
        for record in only(self._place).check().records:
            fields = record["attributes"]
            assert fields.items() >= KNOWN.items(), record
            assert fields.pop("signal_id", None) == (None if record["event_name"].startswith("order.") else 4711)
            found.append({"is": record["event_name"], **{k: v for k, v in fields.items() if k not in KNOWN}})
        return found


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Paper]:
    made = Paper(tmp_path)
    yield made
    made.audit.close()


def ccxt_order(**changes: Any) -> dict[str, Any]:
    return {
        "id": "1001", "clientOrderId": None, "timestamp": 1709658489123, "datetime": "2024-03-05T17:08:09.123Z",
        "lastTradeTimestamp": 1709658490000, "symbol": "MNT/USDT:USDT", "type": "market", "side": "buy", "amount": 94.7,
        "price": None, "average": 2.1118, "filled": 94.7, "remaining": 0, "cost": 199.98746, "status": "closed",
        "fee": {"cost": 0.1, "currency": "USDT"}, "fees": [{"cost": 0.1, "currency": "USDT"}], "trades": [], "info": {},
    } | changes  # fmt: skip


ENTRY = {
    "is": "order.created", "order_id": "1001", "type": "MARKET", "side": "buy", "size": 94.7, "price": 2.1118,
    "average_price": 2.1118, "status": "FILLED", "filled": 94.7, "remaining": 0, "fee": 0.1, "fee_currency": "USDT",
    "created_at": "2024-03-05T17:08:09.123Z",
}  # fmt: skip
ENTRY_FILL = {
    "is": "trade.executed", "order_id": "1001", "order_type": "MARKET", "side": "buy", "quantity": 94.7,
    "executed_qty": 94.7, "price": 2.1118, "average_price": 2.1118, "status": "FILLED", "fee": 0.1,
    "fee_currency": "USDT", "executed_at": "2024-03-05T17:08:10.000Z",
}  # fmt: skip
STOP = {
    "is": "order.created", "order_id": "1002", "type": "STOP_MARKET", "side": "sell", "size": 94.7, "price": 2.0696,
    "status": "NEW", "filled": 0, "remaining": 94.7,
}  # fmt: skip


def stop_ended(status: str, reason: str, order_id: str = "1002") -> dict[str, Any]:
    return {"is": "order.updated", "order_id": order_id, "status": status, "reason": reason}


def trades(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (r.get("order_id"), r.get("executed_qty"), r.get("price"), r.get("estimated"))
        for r in records
        if r["is"] == "trade.executed"
    ]


def test_a_life_from_entry_to_exit(paper: Paper) -> None:
    position = paper.position
    assert position.entry_filled(ccxt_order()) == 1
    assert position.stop_loss_placed({"id": "1002"}, price=2.0696) == 3  # of Bybit's answer all but the id is null
    assert position.stop_loss_moved(price=2.0907, reason="trailing stop") == 4
    leave = ccxt_order(id="1003", side="sell", average=2.2, fee={"cost": None, "currency": None}, fees=[])
    assert position.exit_filled(leave, reason="take profit") == 5
    assert position.closed(reason="take profit") == 8
    left = {
        "order_id": "1003",
        "side": "sell",
        "price": 2.2,
        "average_price": 2.2,
    }
    without_fee = ("fee", "fee_currency")
    assert paper.written() == [
        ENTRY,
        ENTRY_FILL,
        STOP,
        {"is": "order.updated", "order_id": "1002", "price": 2.0907, "reason": "trailing stop"},
        {k: v for k, v in {**ENTRY, **left}.items() if k not in without_fee},
        {k: v for k, v in {**ENTRY_FILL, **left, "reason": "take profit"}.items() if k not in without_fee},
        stop_ended("CANCELED", "position_closed"),
        {"is": "position.closed", "reason": "take profit"},
    ]


@dataclass
class Fill:
    trade_id: str
    qty: Decimal
    price: Decimal


class Side(Enum):
    BUY = 1


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (None, {"order_id": 1001, "price": 2.1118, "fee": 0.1, "fee_currency": "USDT"}),
        ("1001", {"average_price": 2.1118, "filled": 94.7, "fee": {"cost": 0.1, "currency": "USDT"}}),
        ({"orderId": 1001, "executedQty": 94.7, "avgPrice": 2.1118, "fee": 7}, {"fee": 0.1, "fee_currency": "USDT"}),
        (
            SimpleNamespace(id=5, order_id="1001", size=94.7, avg_price=2.1118, side=Side.BUY, fee=0.1),
            {"fee_currency": "USDT"},
        ),
        (
            {"id": "1001", "average": None, "filled": 94.7, "cost": 199.98746},
            {"contract_size": 1, "fee": {"cost": 0.1, "currency": "USDT"}},
        ),
    ],
    ids=["plain fields", "an id", "names of its own", "an object", "cost instead of average"],
)  # fmt: skip
def test_an_entry_is_the_same_in_whatever_shape_it_comes(paper: Paper, answer: Any, fields: dict[str, Any]) -> None:
    assert paper.position.entry_filled(answer, **fields) == 1
    order, fill = paper.written()
    beside = ("average_price", "contract_size", "estimated", "created_at", "executed_at")
    for record, wanted in ((order, ENTRY), (fill, ENTRY_FILL)):
        found = {k: float(v) if isinstance(v, str) and k == "price" else v for k, v in record.items()}
        assert {k: v for k, v in found.items() if k not in beside} == {
            k: v for k, v in wanted.items() if k not in beside
        }


def test_each_listed_fill_is_a_trade_and_only_once(paper: Paper) -> None:
    fills = [Fill("t1", Decimal("60"), Decimal("2.11")), Fill("t2", Decimal("34.7"), Decimal("2.12"))]
    order = SimpleNamespace(id="1", size=Decimal("94.7"), price=0, status="PARTIALLY_FILLED", fills=fills[:1])
    paper.position.entry_filled(order)
    order.fills, order.status = fills, "FILLED"
    paper.position.entry_filled(order)
    paper.position.entry_filled(order)
    records = paper.written()
    assert [(r["is"], r.get("status"), r.get("filled"), r.get("trade_id")) for r in records] == [
        ("order.created", "PARTIALLY_FILLED", "60", None),
        ("trade.executed", "PARTIALLY_FILLED", None, "t1"),
        ("order.updated", "FILLED", "94.7", None),
        ("trade.executed", "FILLED", None, "t2"),
        ("order.updated", "FILLED", "94.7", None),
    ]
    assert trades(records) == [("1", "60", "2.11", None), ("1", "34.7", "2.12", None)]
    assert records[0]["remaining"] == "34.7"


def test_the_price_of_an_order_is_the_average_of_its_fills(paper: Paper) -> None:
    fills = [Fill("t1", Decimal("30"), Decimal("2.10")), Fill("t2", Decimal("10"), Decimal("2.20"))]
    paper.position.entry_filled(SimpleNamespace(id="1", size=40, price=0, status="FILLED", fills=fills))
    order, *_ = paper.written()
    assert (order["price"], order["average_price"], order["filled"]) == ("2.125", "2.125", "40")


def test_alike_fills_without_an_id_are_told_apart_by_how_many_there_are(paper: Paper) -> None:
    one = {"amount": 10, "price": 2.0, "timestamp": 1709658490000}
    paper.position.entry_filled({"id": "1", "amount": 30, "trades": [one, dict(one)]})
    paper.position.entry_filled({"id": "1", "amount": 30, "trades": [one, dict(one), dict(one)]})
    records = paper.written()
    assert trades(records) == [("1", 10, 2.0, None)] * 3
    assert [r["status"] for r in records if r["is"] != "trade.executed"] == ["PARTIALLY_FILLED", "FILLED"]


def test_single_fills_of_ccxt_name_their_order(paper: Paper) -> None:
    fill = {"symbol": "MNT/USDT:USDT", "order": "1", "side": "buy", "takerOrMaker": "taker", "type": None}
    paper.position.entry_filled(
        {**fill, "id": "t1", "amount": 60, "price": 2.11, "fee": {"cost": 0.1, "currency": "X"}}
    )
    paper.position.entry_filled({**fill, "id": "t2", "amount": 34.7, "price": 2.12, "fee": None})
    records = paper.written()
    assert [(r["is"], r["order_id"], r["status"], r.get("trade_id"), r.get("fee")) for r in records] == [
        ("order.created", "1", "PARTIALLY_FILLED", None, None),
        ("trade.executed", "1", "PARTIALLY_FILLED", "t1", 0.1),
        ("order.updated", "1", "FILLED", None, None),
        ("trade.executed", "1", "FILLED", "t2", None),
    ]


def test_what_came_on_top_is_priced_by_the_difference_of_what_was_paid(paper: Paper) -> None:
    order = {"id": "1", "type": "limit", "amount": 10, "price": 2.2}
    paper.position.entry_placed({**order, "status": "open"})
    first = {"status": "open", "filled": 4, "average": Decimal("2.00"), "fee": {"cost": 0.4, "currency": "USDT"}}
    paper.position.entry_filled({**order, **first})
    second = {"status": "closed", "filled": 10, "average": Decimal("2.06"), "fee": {"cost": 1.0, "currency": "USDT"}}
    paper.position.entry_filled({**order, **second})
    records = paper.written()
    assert [r["is"] for r in records] == ["order.created", *["order.updated", "trade.executed"] * 2]
    assert [r["status"] for r in records] == ["NEW", "PARTIALLY_FILLED", "PARTIALLY_FILLED", "FILLED", "FILLED"]
    assert trades(records) == [("1", 4, "2.00", None), ("1", "6", "2.10", None)]
    assert [r["fee"] for r in records if r["is"] == "trade.executed"] == [0.4, "0.6"]
    assert [r.get("price") for r in records if r["is"] != "trade.executed"] == [2.2, None, None]  # the limit stays


@pytest.mark.parametrize(
    ("order", "price", "estimated"),
    [
        ({"average": 2.1, "cost": 1, "price": 9}, 2.1, None),
        ({"average": 0, "cost": "189.4", "price": 0}, "2", True),  # paid, but in contracts of a size nobody said
        ({"average": None, "cost": None, "price": 2.2}, 2.2, None),
        ({"type": "limit", "price": 2.2}, 2.2, True),  # a limit is only a bound
        ({"price": 0}, 2.15, True),  # what the position was planned at
    ],
)
def test_the_price_of_a_fill(tmp_path: Path, order: dict[str, Any], price: Any, estimated: bool | None) -> None:
    paper = Paper(tmp_path, price=2.15)
    paper.position.entry_filled({"id": "1", "filled": 94.7, "status": "closed", **order})
    assert trades(paper.written()) == [("1", 94.7, price, estimated)]


def test_the_cost_of_contracts_is_by_their_size_and_of_inverse_ones_says_no_price(tmp_path: Path) -> None:
    order = {"id": "1", "filled": 10, "cost": 200}
    sized = Paper(tmp_path / "sized", contract_size=10)
    sized.position.entry_filled(order)
    (fill,) = [r for r in sized.written() if r["is"] == "trade.executed"]
    assert (fill["price"], fill["contract_size"], fill.get("estimated")) == ("2", 10, None)
    audit = AuditLog(tmp_path / "inverse", service="fox-bot", ring_bytes=1 << 20)
    audit.position(symbol="BTC/USD:BTC", side="buy").entry_filled(order)
    audit.close()
    assert "price" not in only(tmp_path / "inverse").records[1]["attributes"]


@pytest.mark.parametrize(
    ("order", "status", "filled"),
    [
        ({"status": "open", "filled": 0}, "NEW", 0),  # a market order answered before it met anybody
        ({"status": "open"}, "NEW", 0),
        ({"status": "canceled", "filled": 0, "type": "limit", "timeInForce": "IOC"}, "CANCELED", 0),
        ({"status": "rejected"}, "REJECTED", None),
        ({"status": "closed", "filled": 0}, "CLOSED", 0),
        ({"filled": 0}, "NEW", 0),
    ],
)
def test_the_exchanges_word_wins_over_the_name_of_the_call(
    paper: Paper, order: dict[str, Any], status: str, filled: Any
) -> None:
    paper.position.entry_filled({"id": "1", "amount": 94.7, "price": 2.1, **order})
    (written,) = paper.written()
    assert (written["status"], written.get("filled")) == (status, filled)


@pytest.mark.parametrize(("filled", "status"), [(0, "NEW"), (40, "PARTIALLY_FILLED"), (94.7, "FILLED")])
def test_an_order_that_was_placed_and_filled_at_once_is_not_new(paper: Paper, filled: Any, status: str) -> None:
    paper.position.entry_placed({"id": "1", "filled": filled, "average": 2.1})
    order, *fills = paper.written()
    assert (order["status"], trades(fills)) == (status, [("1", filled, 2.1, None)] * (filled > 0))


def test_an_entry_cancelled_in_part_leaves_a_position_of_that_part(paper: Paper) -> None:
    ioc = {"id": "1", "type": "limit", "timeInForce": "IOC", "amount": 94.7, "price": 2.2}
    paper.position.entry_filled({**ioc, "status": "canceled", "filled": 60, "average": 2.1, "remaining": 34.7})
    paper.position.stop_loss_placed("2", price=2.0)
    paper.position.exit_filled(order_id="3", price=2.3, reason="signal")
    records = paper.written()
    assert [(r["is"], r.get("status"), r.get("size"), r.get("filled")) for r in records] == [
        ("order.created", "CANCELED", 94.7, 60),
        ("trade.executed", "CANCELED", None, None),
        ("order.created", "NEW", "60", 0),
        ("order.created", "FILLED", "60", "60"),
        ("trade.executed", "FILLED", None, None),
        ("order.updated", "CANCELED", None, None),
    ]
    assert trades(records) == [("1", 60, 2.1, None), ("3", "60", 2.3, None)]


@pytest.mark.parametrize("side", ["sell", "SHORT", Side])
def test_a_short_is_closed_by_buying(tmp_path: Path, side: Any) -> None:
    side = Enum("Way", {"SELL": "sell"}).SELL if side is Side else side  # type: ignore[attr-defined]
    paper = Paper(tmp_path, side=side)
    paper.position.entry_filled("1", price=2.1)
    paper.position.stop_loss_placed("2", price=2.2)
    paper.position.take_profit_placed("3", price=1.9)
    paper.position.exit_filled("4", price=2.0)
    assert [r["side"] for r in paper.written() if "side" in r] == ["sell", "sell", "buy", "buy", "buy", "buy"]


def test_what_the_position_was_not_told_it_learns_from_its_entry(tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="fox-bot", ring_bytes=1 << 20) as audit:
        position = audit.bind(exchange="binance").position(position_id=55)
        position.entry_filled(ccxt_order(side="sell"))
        position.stop_loss_placed({"id": "2"}, price=2.2)
    first, _, stop = [record["attributes"] for record in only(tmp_path).records]
    for fields in (first, stop):
        assert (fields["exchange"], fields["symbol"], fields["position_id"]) == ("binance", "MNT/USDT:USDT", 55)
    assert (first["side"], stop["side"], stop["size"]) == ("sell", "buy", 94.7)


@pytest.mark.parametrize(
    ("answer", "kind", "price"),
    [
        ({"id": "2", "type": "market", "price": None, "triggerPrice": 2.0, "status": "open"}, "STOP_MARKET", 2.0),
        ({"id": "2", "type": "limit", "price": 1.99, "stopPrice": 2.0}, "STOP_LIMIT", 1.99),
        ({"id": "2", "type": "stopMarket", "price": 0, "stopLossPrice": "2.0"}, "STOP_MARKET", "2.0"),
        (SimpleNamespace(id="2", type="TRAILING_STOP_MARKET", stop_price=2.0), "TRAILING_STOP_MARKET", 2.0),
    ],
)
def test_a_stop_is_a_stop_whatever_the_exchange_calls_it(paper: Paper, answer: Any, kind: str, price: Any) -> None:
    paper.position.stop_loss_placed(answer)
    (stop,) = paper.written()
    assert (stop["type"], stop["price"], stop["side"], stop["size"]) == (kind, price, "sell", 94.7)
    assert stop.get("stop_price") == (2.0 if kind == "STOP_LIMIT" else None)


def test_a_stop_that_moves_is_changed_or_replaced(paper: Paper) -> None:
    position = paper.position
    position.stop_loss_placed("1002", price=2.0696)
    position.stop_loss_moved({"id": "1002", "triggerPrice": 2.08, "status": "open"})
    assert position.stop_loss_moved("1003", price=2.09, reason="trailing stop") == 3
    position.stop_loss_moved({"id": None}, price=2.1)
    moved = {"is": "order.updated", "order_id": "1002", "status": "NEW", "price": 2.08, "reason": "moved"}
    assert paper.written() == [
        STOP,
        {**moved, "filled": 0, "remaining": 94.7},
        stop_ended("CANCELED", "trailing stop"),
        {**STOP, "order_id": "1003", "price": 2.09},
        {"is": "order.updated", "order_id": "1003", "price": 2.1, "reason": "moved"},
    ]


@pytest.mark.parametrize("role", ["stop_loss", "take_profit"])
def test_what_protects_is_executed_and_the_other_cancelled(paper: Paper, role: str) -> None:
    paper.position.entry_filled(ccxt_order())
    other = {"stop_loss": "take_profit", "take_profit": "stop_loss"}[role]
    getattr(paper.position, f"{role}_placed")("10", price=2.3)
    getattr(paper.position, f"{other}_placed")("11", price=2.0)
    seq = getattr(paper.position, f"{role}_triggered")(
        {"id": "10", "status": "closed", "filled": 94.7, "average": 2.29}
    )
    assert seq == 5
    *_, update, fill, end = paper.written()
    assert update == {
        "is": "order.updated", "order_id": "10", "status": "FILLED", "filled": 94.7, "remaining": 0,
        "average_price": 2.29, "reason": role,
    }  # fmt: skip
    assert fill == {
        "is": "trade.executed", "order_id": "10", "side": "sell", "status": "FILLED", "reason": role, "price": 2.29,
        "order_type": {"stop_loss": "STOP_MARKET", "take_profit": "TAKE_PROFIT_MARKET"}[role],
        "quantity": 94.7, "executed_qty": 94.7, "average_price": 2.29,
    }  # fmt: skip
    assert end == stop_ended("CANCELED", "position_closed", "11")


def test_an_estimate_is_the_trades_alone_and_a_field_of_trades_is_not_lost_without_one(tmp_path: Path) -> None:
    paper = Paper(tmp_path, price=2.15, quantity=-94.7)
    paper.position.entry_filled({"id": "1"})
    paper.position.stop_loss_placed("2", price=2.0, reason="as planned")
    order, fill, stop = paper.written()
    assert (order["status"], order.get("price"), order.get("average_price"), order["size"]) == (
        "FILLED",
        None,
        None,
        "94.7",
    )
    assert (fill["price"], fill["executed_qty"], fill["estimated"]) == (2.15, "94.7", True)
    assert stop["reason"] == "as planned"


def test_a_trigger_of_which_nothing_is_known_is_estimated_by_the_stop(paper: Paper) -> None:
    paper.position.entry_filled(ccxt_order())
    paper.position.stop_loss_placed("1002", price=2.0696)
    paper.position.stop_loss_triggered()
    assert trades(paper.written())[1:] == [("1002", 94.7, 2.0696, True)]


def test_a_stop_may_be_executed_by_an_order_of_its_own(paper: Paper) -> None:
    paper.position.entry_filled(ccxt_order())
    paper.position.stop_loss_placed("algo-7", price=2.0696)
    executed = ccxt_order(id="1009", side="sell", average=2.06)
    paper.position.stop_loss_triggered(executed)
    *_, stop, order, fill = paper.written()
    assert stop == stop_ended("TRIGGERED", "stop_loss", "algo-7")
    assert (order["is"], order["order_id"], order["type"], order["status"]) == (
        "order.created",
        "1009",
        "MARKET",
        "FILLED",
    )
    assert (fill["order_id"], fill["reason"], fill["price"], fill["side"]) == ("1009", "stop_loss", 2.06, "sell")


def test_an_exit_by_a_known_order_is_that_orders_fill(paper: Paper) -> None:
    paper.position.entry_filled(ccxt_order())
    paper.position.take_profit_placed({"id": "12", "type": "limit", "price": 2.3})
    paper.position.exit_filled({"id": "12", "status": "closed", "filled": 94.7, "average": 2.3})
    records = paper.written()
    assert records[2]["type"] == "LIMIT"
    assert [(r["is"], r["order_id"], r.get("reason")) for r in records[3:]] == [
        ("order.updated", "12", "take_profit"),
        ("trade.executed", "12", "take_profit"),
    ]


def test_a_part_of_an_exit_leaves_the_stop_and_dust_does_not(paper: Paper) -> None:
    paper.position.entry_filled(ccxt_order())
    paper.position.stop_loss_placed("1002", price=2.0696)
    paper.position.exit_filled("20", filled=40, price=2.2, reason="half")
    paper.position.exit_filled("21", filled=54.6, price=2.3, reason="rest")
    records = paper.written()
    assert [(r["is"], r.get("order_id"), r.get("status"), r.get("size")) for r in records[3:]] == [
        ("order.created", "20", "FILLED", 40),
        ("trade.executed", "20", "FILLED", None),
        ("order.created", "21", "FILLED", 54.6),
        ("trade.executed", "21", "FILLED", None),
        ("order.updated", "1002", "CANCELED", None),
    ]


@pytest.mark.parametrize("closes", [True, False])
def test_the_bot_may_say_whether_an_exit_closes(paper: Paper, closes: bool) -> None:
    paper.position.entry_filled(ccxt_order())
    paper.position.stop_loss_placed("1002", price=2.0696)
    paper.position.exit_filled("20", filled=40 if closes else 94.7, price=2.2, closes=closes)
    assert (paper.written()[-1]["is"] == "order.updated") is closes


def test_a_cancel_names_the_one_that_waits_longest_and_never_undoes_a_fill(paper: Paper) -> None:
    position = paper.position
    position.stop_loss_placed("1", price=2.0)
    position.stop_loss_placed("2", price=2.05)
    position.stop_loss_cancelled({"id": None, "status": "open"}, reason="replaced")
    position.stop_loss_triggered(price=2.04)
    assert position.stop_loss_cancelled() == 0
    position.stop_loss_cancelled("2")
    assert [(r["order_id"], r["status"]) for r in paper.written() if r["is"] == "order.updated"] == [
        ("1", "CANCELED"),
        ("2", "FILLED"),
        ("2", "FILLED"),
    ]


def test_a_closure_seen_later_is_an_estimated_trade_and_nothing_else(paper: Paper) -> None:
    paper.position.entry_filled(ccxt_order())
    paper.position.stop_loss_placed("1002", price=2.0696)
    assert paper.position.closed_by_sync(price=Decimal("2.07")) == 4
    assert paper.written()[3:] == [
        {
            "is": "trade.executed", "side": "sell", "quantity": 94.7, "executed_qty": 94.7, "price": "2.07",
            "reason": "sync", "estimated": True,
        }
    ]  # fmt: skip


def test_a_closure_by_an_order_that_is_known_is_its_fill(paper: Paper) -> None:
    paper.position.stop_loss_placed("1002", price=2.0696)
    paper.position.closed_by_sync(order_id="1002", price=2.06)
    assert [(r["is"], r["order_id"], r.get("estimated")) for r in paper.written()] == [
        ("order.created", "1002", None),
        ("order.updated", "1002", None),
        ("trade.executed", "1002", True),
    ]


def test_a_bot_that_starts_again_goes_on_with_the_orders_that_wait(tmp_path: Path) -> None:
    paper = Paper(tmp_path, stop_loss_order_id=1002, take_profit_order_id="1003")
    paper.position.stop_loss_moved(price=2.09)
    paper.position.exit_filled("20", price=2.2)
    assert [(r["is"], r["order_id"], r.get("status")) for r in paper.written()] == [
        ("order.updated", "1002", None),
        ("order.created", "20", "FILLED"),
        ("trade.executed", "20", "FILLED"),
        ("order.updated", "1002", "CANCELED"),
        ("order.updated", "1003", "CANCELED"),
    ]


def test_other_fields_stay_in_the_log_and_a_time_is_on_all(paper: Paper) -> None:
    past = "2025-01-02T03:04:05.000Z"
    paper.position.stop_loss_placed("1002", price=2.0, timestamp=past)
    paper.position.exit_filled("20", price=2.2, estimated=True, trade_id="t", why={"rsi": 71}, timestamp=past)
    paper.audit.close()
    records = only(paper._place).records
    assert [record["timestamp"] for record in records] == [past] * 4
    order, fill = records[1]["attributes"], records[2]["attributes"]
    assert (order["why"], order.get("trade_id"), order.get("estimated")) == ({"rsi": 71}, None, None)
    assert (fill.get("why"), fill["trade_id"], fill["estimated"]) == (None, "t", True)


def test_a_stop_moved_ten_thousand_times_is_remembered_by_its_last_ones(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, service="fox-bot", ring_bytes=16 << 20)
    position = audit.position(**KNOWN, side="buy", quantity=94.7)
    position.stop_loss_placed("0", price=2.0)
    for number in range(1, 10_001):
        position.stop_loss_moved(str(number), price=2.0)
    assert len(position._life._holding.orders) < 20
    audit.close()
    records = only(tmp_path).check().records
    assert len(records) == 20_001
    assert [r["attributes"]["status"] for r in records] == ["NEW", *["CANCELED", "NEW"] * 10_000]


class Evil:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Worse(Decimal):
    def is_finite(self) -> bool:
        raise RuntimeError("worse")


class Deaf:
    """Every name is there, as a method."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


ODD = [
    None, {}, [], (), "", "  ", b"x", 0, 7, True, 3.5, float("nan"), Decimal("NaN"), [1, {}], {1: 2}, {"a": 1},
    object(), Evil(), Deaf(), Side, {"id": Evil(), "filled": Evil()}, {"trades": [None, 3, Evil(), {}]}, {"id": [1, 2]},
    {"amount": 10**400, "filled": "1e999999999"}, {"amount": -3, "filled": -3, "average": "abc"}, {"fee": [[[]]]},
    {"filled": float("inf"), "cost": 0, "trades": 7, "status": 9, "side": 1, "type": {}}, {"amount": Worse(1)},
    {"side": [1], "status": {"a": 1}, "type": [2], "symbol": [3], "id": {"b": 4}, "timestamp": [5], "trades": [[6]]},
]  # fmt: skip


NAMES = [
    "position_id", "exchange", "symbol", "side", "quantity", "signal_id", "price", "contract_size",
    "stop_loss_order_id", "take_profit_order_id",
]  # fmt: skip


@pytest.mark.parametrize("traps", [[], [Inexact, FloatOperation]])
def test_whatever_it_is_given_nothing_is_raised_and_each_call_is_seen(tmp_path: Path, traps: list[Any]) -> None:
    audit = AuditLog(tmp_path, service="fox-bot", ring_bytes=8 << 20)
    setcontext(Context(prec=3, traps=traps))
    calls = 0
    try:
        for odd, sane in product(ODD, (True, False)):
            position = audit.position(
                **({**KNOWN, "side": "buy", "quantity": 3} if sane else dict.fromkeys(NAMES, odd))
            )
            for step in STEPS:
                calls += 1
                assert getattr(position, step)(odd) > 0 or step.endswith("cancelled"), (step, odd)
                getattr(position, step)(order_id=odd, size=odd, filled=odd, price=odd, reason=odd, fee=odd, trades=odd)
            position.closed(reason=odd)
    finally:
        setcontext(Context())
    audit.close()
    records = only(tmp_path).check().records
    assert len(records) > calls
    # A fee that raises when it is shown or compared: what could not be written is said.
    unwritten = [r for r in records if r["event_name"] == "position.not_written"]
    assert {r["attributes"]["error_message"] for r in unwritten} <= {"RuntimeError('no')", "RuntimeError('worse')"}
    assert {r["severity_text"] for r in unwritten} <= {"ERROR"}
    assert len(unwritten) < len(STEPS) * 8


def test_after_close_and_where_it_is_disabled_calls_return_0(tmp_path: Path) -> None:
    for audit in (AuditLog(tmp_path / "closed", service="x"), AuditLog(tmp_path / "off", disabled=True)):
        position = audit.position(**KNOWN, side="buy", quantity=1)
        audit.close()
        assert [getattr(position, step)({"id": "1"}, price=2.0) for step in STEPS] == [0] * len(STEPS)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.decimals("0.001", "50", places=3), min_size=1, max_size=6),
    prices=st.lists(st.decimals("0.01", "100", places=2), min_size=6, max_size=6),
)
def test_however_an_order_fills_its_trades_add_up_to_what_was_paid(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Decimal], prices: list[Decimal]
) -> None:
    place = tmp_path_factory.mktemp("parts")
    size, paid, filled = sum(parts), Decimal(0), Decimal(0)
    with AuditLog(place, service="x", ring_bytes=1 << 20) as audit:
        position = audit.position(**{**KNOWN, "symbol": "MNT/USDT"}, side="buy")
        for part, price in zip(parts, prices, strict=False):
            paid, filled = paid + part * price, filled + part
            position.entry_filled({"id": "1", "amount": size, "filled": filled, "cost": paid, "status": "open"})
    records = [r for r in only(place).records if r["event_name"] == "trade.executed"]
    found = [(Decimal(r["attributes"]["executed_qty"]), Decimal(r["attributes"]["price"])) for r in records]
    assert [quantity for quantity, _ in found] == parts
    assert abs(sum(q * p for q, p in found) - paid) < Decimal("1e-9")
    assert not any("estimated" in r["attributes"] for r in records)


# -- real answers --


def real_orders() -> Iterator[dict[str, Any]]:
    root = os.environ.get("TRADETRAIL_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(root) / "exchange_orders.jsonl"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    with path.open() as lines:
        yield from (json.loads(line)["unified"] for line in lines)


def figures(value: Any) -> Iterator[float]:
    """All numbers in a structure, also those in texts."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from figures(inner)
    elif isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            yield abs(float(value))
        except ValueError:
            return


@pytest.mark.parametrize("step", STEPS)
def test_real_answers_of_exchanges_make_records_of_their_own_figures(tmp_path: Path, step: str) -> None:
    audit = AuditLog(tmp_path, service="fox-bot", ring_bytes=16 << 20)
    orders = list(real_orders())
    ends = []
    for order in orders:
        getattr(audit.position(position_id=len(ends)), step)(order)
        ends.append(audit.stats().emitted)
    audit.close()
    records = only(tmp_path).check().records
    assert len(records) == ends[-1]
    begin = 0
    for order, end in zip(orders, ends, strict=True):
        said = {*figures({k: v for k, v in order.items() if k != "info"}), 0.0}
        size, filled, cost = ({*figures(order.get(name))} for name in ("amount", "filled", "cost"))
        said |= {round(s - f, 12) for s in size for f in filled} | {c / q for c in cost for q in (*size, *filled) if q}
        for record in records[begin:end]:
            fields = record["attributes"]
            assert record["event_name"] != "position.not_written", fields
            for name in ("size", "price", "filled", "remaining", "executed_qty", "quantity", "fee", "average_price"):
                for value in figures(fields.get(name)):
                    assert any(abs(value - one) <= 1e-9 * max(1, one) for one in said), (name, value, order)
            if order.get("side") in ("buy", "sell") and "side" in fields:
                assert fields["side"] == order["side"]
            if record["event_name"] == "trade.executed" and step != "closed_by_sync":
                assert order.get("filled") != 0, order
                assert order.get("status") not in ("open", "pending", "untriggered") or order["filled"], order
        begin = end


def test_a_position_is_public() -> None:
    assert Position.__module__.startswith("emitter.position")
