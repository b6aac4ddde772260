import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from emitter.ccxt import fee_fields, order_fields, trade_fields, update_fields

CREATED = "2024-03-05T17:08:09.123Z"
CREATED_MS = 1709658489123
CHANGED = "2024-03-05T17:08:10.500Z"
CHANGED_MS = 1709658490500
TRADED = "2024-03-05T17:08:10.000Z"
TRADED_MS = 1709658490000


def an_order(**changes: Any) -> dict[str, Any]:
    return {
        "id": "A-1",
        "clientOrderId": "bot-7",
        "timestamp": CREATED_MS,
        "datetime": CREATED,
        "lastTradeTimestamp": TRADED_MS,
        "lastUpdateTimestamp": CHANGED_MS,
        "symbol": "SOL/USDT:USDT",
        "type": "limit",
        "side": "sell",
        "amount": 3.5,
        "price": Decimal("141.20"),
        "filled": "1.50",
        "remaining": 2,
        "average": 141.25,
        "status": "open",
        "fee": {"cost": 0.042, "currency": "USDT"},
        "fees": [{"cost": 0.042, "currency": "USDT"}],
        "trades": [],
        "info": {},
    } | changes


def a_trade(**changes: Any) -> dict[str, Any]:
    return {
        "id": "T-1",
        "order": "A-1",
        "timestamp": TRADED_MS,
        "datetime": TRADED,
        "symbol": "SOL/USDT:USDT",
        "type": "limit",
        "side": "sell",
        "takerOrMaker": "maker",
        "price": 141.25,
        "amount": 1.5,
        "cost": 211.875,
        "fee": {"cost": -0.0042, "currency": "USDT"},
        "fees": [{"cost": -0.0042, "currency": "USDT"}],
    } | changes


def test_an_order_becomes_the_fields_of_an_order() -> None:
    assert order_fields(an_order(), exchange="bybit") == {
        "exchange": "bybit",
        "symbol": "SOL/USDT:USDT",
        "order_id": "A-1",
        "client_order_id": "bot-7",
        "type": "LIMIT",
        "side": "sell",
        "size": 3.5,
        "price": Decimal("141.20"),
        "status": "PARTIALLY_FILLED",
        "filled": Decimal("1.50"),
        "remaining": 2,
        "average_price": 141.25,
        "fee": 0.042,
        "fee_currency": "USDT",
        "created_at": CREATED,
        "timestamp": CHANGED,
    }


def test_an_update_also_says_when_it_changed() -> None:
    assert update_fields(an_order(), exchange="bybit") == {
        **order_fields(an_order(), exchange="bybit"),
        "updated_at": CHANGED,
    }


def test_an_update_without_a_time_of_change_is_one_of_now_and_not_of_the_orders_creation() -> None:
    fields = update_fields(an_order(lastUpdateTimestamp=None, lastTradeTimestamp=0))
    assert fields["created_at"] == CREATED
    assert not {"updated_at", "timestamp"} & set(fields)


def test_a_trade_becomes_the_fields_of_a_trade() -> None:
    assert trade_fields(a_trade(), exchange="bybit") == {
        "exchange": "bybit",
        "symbol": "SOL/USDT:USDT",
        "side": "sell",
        "order_type": "LIMIT",
        "quantity": 1.5,
        "price": 141.25,
        "executed_qty": 1.5,
        "order_id": "A-1",
        "trade_id": "T-1",
        "fee": -0.0042,
        "fee_currency": "USDT",
        "cost": 211.875,
        "taker_or_maker": "maker",
        "executed_at": TRADED,
        "timestamp": TRADED,
    }


def test_average_price_and_client_id_of_a_trade_are_taken_where_said() -> None:
    fields = trade_fields(a_trade(average="141.3", clientOrderId=77))
    assert fields["average_price"] == Decimal("141.3")
    assert fields["client_order_id"] == "77"


def test_an_answer_with_nothing_but_an_id_gives_nothing_but_the_id() -> None:
    silent = dict.fromkeys(an_order()) | {"id": "A-9", "fees": [], "trades": [], "fee": {}, "info": {}}
    assert order_fields(silent) == {"order_id": "A-9"}
    assert order_fields(silent, exchange="bybit") == {"order_id": "A-9", "exchange": "bybit"}
    assert order_fields({}) == {}
    assert trade_fields({}) == {}


def test_the_exchange_is_the_argument_or_else_the_structures_own() -> None:
    assert order_fields({"exchange": "okx"}) == {"exchange": "okx"}
    assert order_fields({"exchange": "okx"}, exchange="gate") == {"exchange": "gate"}
    assert trade_fields({"exchange": ""}, exchange="") == {}


@pytest.mark.parametrize(
    ("status", "filled", "amount", "expected"),
    [
        ("open", 0, 5, "NEW"),
        ("open", None, 5, "NEW"),
        ("open", "0.000", "5", "NEW"),
        ("open", nan, 5, "NEW"),
        ("open", "0.1", 5.0, "PARTIALLY_FILLED"),
        ("open", 0.1, None, "PARTIALLY_FILLED"),
        ("closed", 5, 5, "FILLED"),
        ("closed", None, None, "FILLED"),
        ("closed", 0.0004, 20, "FILLED"),
        ("closed", 0, 5, "CLOSED"),
        ("closed", "0.0", 5, "CLOSED"),
        ("canceled", 1, 5, "CANCELED"),
        ("cancelled", 0, 5, "CANCELED"),
        ("Cancelled", 0, 5, "CANCELED"),
        ("expired", 0, 5, "EXPIRED"),
        ("rejected", 0, 5, "REJECTED"),
        ("untriggered", 0, 5, "UNTRIGGERED"),
        ("Partially_Filled_Canceled", 1, 5, "PARTIALLY_FILLED_CANCELED"),
        (4, 1, 5, "4"),
        (None, 5, 5, None),
        ("", 5, 5, None),
    ],
)
def test_the_status(status: Any, filled: Any, amount: Any, expected: str | None) -> None:
    fields = order_fields({"status": status, "filled": filled, "amount": amount})
    assert fields.get("status") == expected


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("market", "MARKET"),
        ("limit", "LIMIT"),
        ("LIMIT", "LIMIT"),
        ("stop_market", "STOP_MARKET"),
        ("stopMarket", "STOP_MARKET"),
        ("stop-limit", "STOP_LIMIT"),
        ("stopmarket", "STOP_MARKET"),
        ("takeProfitLimit", "TAKE_PROFIT_LIMIT"),
        ("Stop Loss", "STOP_LOSS"),
        ("limit_maker", "LIMIT_MAKER"),
        ("iceberg", "ICEBERG"),
        (None, None),
    ],
)
def test_the_type(type_: str | None, expected: str | None) -> None:
    assert order_fields({"type": type_}).get("type") == expected
    assert trade_fields({"type": type_}).get("order_type") == expected


def test_the_side_is_kept_in_lower_case() -> None:
    assert order_fields({"side": "BUY"}) == {"side": "buy"}
    assert trade_fields({"side": "sell_open"}) == {"side": "sell_open"}


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        ("0012", "0012"),
        (1234567890123456789012, "1234567890123456789012"),
        (17.0, "17"),
        (Decimal("12345678901234567890"), "12345678901234567890"),
        (["a"], "a"),
        ([7], "7"),
        (["a", None, 8, ""], "a,8"),
        *((value, None) for value in (None, "", " ", [], {}, True, [None], [[1]], {"id": 1}, nan, Decimal("sNaN"))),
    ],
)
def test_ids(id_: Any, expected: str | None) -> None:
    said = {} if expected is None else {"order_id": expected, "client_order_id": expected}
    assert order_fields({"id": id_, "clientOrderId": id_}) == said
    said = {} if expected is None else {"order_id": expected, "trade_id": expected}
    assert trade_fields({"id": id_, "order": id_}) == said


def test_the_placeholder_of_a_pending_order_is_no_order_id() -> None:
    assert order_fields({"id": "0x00", "clientOrderId": "55"}) == {"client_order_id": "55"}
    assert order_fields({"id": "0x0a"}) == {"order_id": "0x0a"}
    assert order_fields({"id": "0"}) == {"order_id": "0"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (0.1, 0.1),
        (2**70, 2**70),
        (Decimal("1.10"), Decimal("1.10")),
        ("0.100000000000000000001", Decimal("0.100000000000000000001")),
        (" 5 ", Decimal(5)),
        ("-.5e3", Decimal("-.5e3")),
        ("1e99999999999999999999", "1e99999999999999999999"),
        ("NaN", "NaN"),
        ("1_000", "1_000"),
        ("about 5", "about 5"),
        (inf, inf),
    ],
)
def test_a_number_stays_what_it_is(value: Any, expected: Any) -> None:
    for fields in (order_fields({"price": value}), trade_fields({"price": value})):
        assert fields == {"price": expected}
        assert type(fields["price"]) is type(expected)


def test_digits_of_a_numeric_text_are_all_kept() -> None:
    assert str(order_fields({"filled": "10.500"})["filled"]) == "10.500"


def test_a_remaining_quantity_is_not_worked_out() -> None:
    assert order_fields({"amount": 5, "filled": 2}) == {"size": 5, "filled": 2}


@pytest.mark.parametrize(
    ("changes", "created_at", "timestamp"),
    [
        ({}, CREATED, CHANGED),
        ({"lastUpdateTimestamp": None}, CREATED, TRADED),
        ({"lastUpdateTimestamp": 0, "lastTradeTimestamp": -1}, CREATED, CREATED),
        ({"timestamp": -1, "datetime": None}, None, CHANGED),
        ({"timestamp": CREATED_MS * 1000 + 7}, "2024-03-05T17:08:09.123007Z", CHANGED),
        ({"timestamp": "1709658489"}, "2024-03-05T17:08:09.000Z", CHANGED),
        # ccxt took seconds for milliseconds when it made the text.
        ({"timestamp": None, "datetime": "1970-01-20T18:54:18.489Z"}, "2024-03-05T17:08:09.000Z", CHANGED),
        (
            {"lastUpdateTimestamp": None, "lastTradeTimestamp": None, "timestamp": None},
            CREATED,
            CREATED,
        ),
        (
            dict.fromkeys(("lastUpdateTimestamp", "lastTradeTimestamp", "timestamp", "datetime")),
            None,
            None,
        ),
    ],
)
def test_times_of_an_order(changes: dict[str, Any], created_at: str | None, timestamp: str | None) -> None:
    fields = order_fields(an_order(**changes))
    assert fields.get("created_at") == created_at
    assert fields.get("timestamp") == timestamp


BNB = {"cost": 0.001, "currency": "BNB"}
USDT = {"cost": Decimal("0.20"), "currency": "USDT"}


@pytest.mark.parametrize(
    ("fee", "fees", "expected"),
    [
        (None, None, {}),
        ({}, [], {}),
        ({"cost": None, "currency": None}, [{"cost": None, "currency": None}], {}),
        ({"cost": None, "currency": "USDT"}, [{"cost": None, "currency": "USDT"}], {}),
        ("", [None, {}, "", True], {}),
        (True, None, {}),
        ({"cost": {}}, None, {}),
        (0, None, {"fee": 0}),
        ({"cost": 0, "currency": "USDT"}, None, {"fee": 0, "fee_currency": "USDT"}),
        (0.5, None, {"fee": 0.5}),
        ("0.500", None, {"fee": Decimal("0.500")}),
        ({"cost": "-0.01", "currency": "USDT"}, None, {"fee": Decimal("-0.01"), "fee_currency": "USDT"}),
        ({"amount": 0.3, "currency": "HKD"}, None, {"fee": 0.3, "fee_currency": "HKD"}),
        (BNB, None, {"fee": 0.001, "fee_currency": "BNB"}),
        (BNB, [BNB], {"fee": 0.001, "fee_currency": "BNB"}),
        (None, [BNB], {"fee": 0.001, "fee_currency": "BNB"}),
        ([BNB], None, {"fee": 0.001, "fee_currency": "BNB"}),
        (None, BNB, {"fee": 0.001, "fee_currency": "BNB"}),
        ({"cost": "0.20", "currency": None}, [USDT], {"fee": Decimal("0.20"), "fee_currency": "USDT"}),
        (0.2, [USDT], {"fee": 0.2, "fee_currency": "USDT"}),
        (None, [BNB, USDT], {"fees": [BNB, USDT]}),
        ([BNB, USDT], None, {"fees": [BNB, USDT]}),
        (None, [BNB, BNB], {"fees": [BNB, BNB]}),
        (BNB, [BNB, BNB], {"fees": [BNB, BNB]}),
        (BNB, [BNB, USDT], {"fees": [BNB, USDT]}),
        (BNB, [USDT], {"fees": [BNB, USDT]}),
        ({"cost": 9, "currency": "USDT"}, [USDT], {"fee": 9, "fee_currency": "USDT", "fees": [USDT]}),
        (
            None,
            [
                {"cost": "1.0", "currency": "A", "rate": 0.01, "type": None},
                {"cost": None, "currency": "B"},
                2,
            ],
            {"fees": [{"cost": Decimal("1.0"), "currency": "A", "rate": 0.01}, {"cost": 2}]},
        ),
    ],
)
def test_fees(fee: Any, fees: Any, expected: dict[str, Any]) -> None:
    assert fee_fields(fee, fees) == expected
    assert order_fields({"fee": fee, "fees": fees}) == expected
    assert trade_fields({"fee": fee, "fees": fees}) == expected


def test_what_is_handed_in_is_not_changed() -> None:
    order = an_order(fees=[BNB | {"rate": None}, USDT])
    before = repr(order)
    order_fields(order)["fees"][0]["cost"] = 1
    assert repr(order) == before


@pytest.mark.parametrize("wrong", [[[]], ["A-1"], "A-1", 5])
def test_what_is_no_structure_is_kept_and_says_nothing_else(wrong: Any) -> None:
    for function in (order_fields, update_fields, trade_fields):
        assert function(wrong, exchange="okx") == {"exchange": "okx", "answer": wrong}
        for nothing in (None, "", [], ()):
            assert function(nothing) == {}


def test_a_wrong_shape_is_passed_on_for_the_loader_to_judge() -> None:
    odd = {"symbol": {"base": "SOL"}, "price": [1], "side": True, "status": ["open"], "type": {"x": 1}}
    assert order_fields(odd) == odd


def shared_lines(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    root = os.environ.get("TRADETRAIL_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"no {name}: TRADETRAIL_SHARED_DATA or ../shared/data")
    for line in path.read_text("utf-8").splitlines():
        # Every number as the text that stands in the file.
        entry = json.loads(line, parse_float=Number, parse_int=Number)
        yield entry["exchange"], entry["unified"]


class Number(Decimal):
    """A number of a file that remembers its text."""

    text: str

    def __new__(cls, text: str) -> "Number":
        number = super().__new__(cls, text)
        number.text = text
        return number


def text_of(value: Any) -> str | None:
    """The number as it stands in the source: its digits and its exponent, and no more."""
    if value is None or value == "":
        return None
    if isinstance(value, Number):
        return value.text
    assert isinstance(value, str | Decimal)
    return str(value)


def said_in(structure: Any) -> set[str]:
    """Every scalar of a structure as text."""
    if isinstance(structure, dict):
        return set().union(*(said_in(value) for key, value in structure.items() if key != "info"))
    if isinstance(structure, list):
        return set().union(*(said_in(value) for value in structure))
    return {structure.text if isinstance(structure, Number) else str(structure)}


OURS = {"NEW", "PARTIALLY_FILLED", "FILLED"}
ORDER_NUMBERS = {
    "size": "amount",
    "price": "price",
    "filled": "filled",
    "remaining": "remaining",
    "average_price": "average",
    "cost": "cost",
}
TRADE_NUMBERS = {"quantity": "amount", "executed_qty": "amount", "price": "price", "cost": "cost"}


@pytest.mark.parametrize(
    ("name", "function", "numbers", "lines"),
    [
        ("exchange_orders.jsonl", order_fields, ORDER_NUMBERS, 334),
        ("exchange_trades.jsonl", trade_fields, TRADE_NUMBERS, 63),
    ],
)
def test_real_answers_lose_no_digit_and_gain_no_word(
    name: str, function: Any, numbers: dict[str, str], lines: int
) -> None:
    seen = 0
    for exchange, unified in shared_lines(name):
        seen += 1
        fields = function(unified, exchange=exchange)
        assert fields.pop("exchange") == exchange
        assert set(fields.pop("derived", [])) <= set(fields)
        for field, key in numbers.items():
            assert text_of(fields.get(field)) == text_of(unified.get(key)), (exchange, field)
        costs = [fee["cost"] for fee in [unified.get("fee"), *(unified.get("fees") or [])] if fee and "cost" in fee]
        said_costs = {text_of(cost) for cost in costs} - {None}
        kept = [fields["fee"]] if "fee" in fields else [fee["cost"] for fee in fields.get("fees", [])]
        assert {text_of(cost) for cost in kept} == said_costs, exchange
        said = said_in(unified)
        folded = {word.casefold() for word in said} | {word.replace("Loss", "_loss") for word in said}
        for field, value in fields.items():
            if field in {"created_at", "executed_at", "timestamp"}:
                moments = [unified.get(key) for key in ("lastUpdateTimestamp", "lastTradeTimestamp", "timestamp")]
                assert value == unified.get("datetime") or iso_ms(value) in map(text_of, moments), (
                    exchange,
                    field,
                )
            elif not (field == "status" and value in OURS):
                assert (value.text if isinstance(value, Number) else str(value).casefold()) in said | folded
    assert seen == lines


def iso_ms(text: str) -> str:
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return str(since // timedelta(milliseconds=1))


def test_real_orders_come_to_these_states() -> None:
    states: Counter[str | None] = Counter()
    without_id = []
    for exchange, unified in shared_lines("exchange_orders.jsonl"):
        fields = order_fields(unified, exchange=exchange)
        states[fields.get("status")] += 1
        if unified.get("id") and "order_id" not in fields:
            without_id.append((exchange, fields["client_order_id"]))
    assert states == {
        "NEW": 128,
        "PARTIALLY_FILLED": 2,
        "FILLED": 68,
        "CLOSED": 3,
        "CANCELED": 29,
        "PENDING": 12,
        "UNTRIGGERED": 3,
        None: 89,
    }
    assert len(without_id) == len(set(without_id)) == 10
    assert {exchange for exchange, _ in without_id} == {"grvt"}
