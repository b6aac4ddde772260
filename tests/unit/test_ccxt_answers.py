"""What a bot makes of the answers of ``create_order``, ``edit_order`` and ``cancel_order``, and of an order's fills."""

from decimal import Decimal
from typing import Any

import pytest

from emitter.ccxt import edit_fields, fills_of, order_fields, trade_fields, update_fields

NAMES = """
id clientOrderId timestamp datetime lastTradeTimestamp lastUpdateTimestamp symbol type side amount price cost average
filled remaining status timeInForce postOnly reduceOnly stopPrice triggerPrice fee
"""
EMPTY: dict[str, Any] = dict.fromkeys(NAMES.split()) | {"fees": [], "trades": []}
ASKED = {"symbol": "SOL/USDT:USDT", "type": "limit", "side": "sell", "amount": 3.5, "price": "141.20"}
STOP = {
    "symbol": "SOL/USDT:USDT",
    "type": "market",
    "side": "sell",
    "amount": 3.5,
    "params": {"triggerPrice": 120.5, "reduceOnly": True, "clientOrderId": "bot-7", "positionIdx": 0},
}


def an_answer(**said: Any) -> dict[str, Any]:
    return {**EMPTY, "info": {"orderId": "A-1", "orderLinkId": ""}, "id": "A-1", **said}


def test_an_answer_with_nothing_but_an_id_is_filled_in_from_the_request() -> None:
    assert order_fields(an_answer(), exchange="bybit", asked=ASKED) == {
        "exchange": "bybit",
        "order_id": "A-1",
        "symbol": "SOL/USDT:USDT",
        "type": "LIMIT",
        "side": "sell",
        "size": 3.5,
        "price": Decimal("141.20"),
        "status": "NEW",
        "asked": ["symbol", "type", "side", "size", "price", "status"],
    }


def test_unified_params_of_the_request_count_and_the_exchanges_own_do_not() -> None:
    fields = order_fields(an_answer(), asked=STOP)
    assert fields["trigger_price"] == 120.5
    assert fields["reduce_only"] is True
    assert fields["client_order_id"] == "bot-7"
    assert {"trigger_price", "reduce_only", "client_order_id"} < set(fields["asked"])
    assert "positionIdx" not in fields


def test_what_the_answer_says_wins_over_the_request() -> None:
    answer = an_answer(symbol="SOL/USDT:USDT", type="market", side="sell", amount=3, status="closed", filled=3)
    fields = order_fields(answer, asked=ASKED, derived=False)
    assert (fields["type"], fields["size"], fields["status"]) == ("MARKET", 3, "FILLED")
    assert fields["asked"] == ["price"]


def test_without_an_id_nobody_took_an_order() -> None:
    fields = order_fields({**EMPTY, "info": {"ok": True}}, exchange="okx", asked=ASKED)
    assert "status" not in fields
    assert order_fields(None, exchange="okx", asked=ASKED) == fields
    assert "status" not in order_fields("A-1", asked=ASKED)
    # An id of the request's own is nobody's answer.
    assert "status" not in order_fields({**EMPTY, "info": {"ok": True}}, asked=STOP)


def test_nothing_that_was_asked_for_is_named_where_the_answer_says_all() -> None:
    whole = an_answer(symbol="SOL/USDT:USDT", type="limit", side="sell", amount=3.5, price=141.2, status="open")
    assert "asked" not in order_fields(whole, asked=ASKED)


@pytest.mark.parametrize("asked", [[], "A-1", 5, {"params": 5}])
def test_a_request_of_the_wrong_shape_says_nothing(asked: Any) -> None:
    assert order_fields(an_answer(status="open"), asked=asked) == {"order_id": "A-1", "status": "NEW"}
    assert update_fields(an_answer(), asked=asked) == {"order_id": "A-1"}
    assert edit_fields(an_answer(), asked=asked) == ({"order_id": "A-1"}, {})


@pytest.mark.parametrize("answer", [None, {}, {"info": {"success": True}}, EMPTY])
def test_a_cancel_that_is_answered_with_nothing_names_its_order_and_claims_no_status(answer: Any) -> None:
    asked = {"id": "A-1", "symbol": "SOL/USDT:USDT"}
    assert update_fields(answer, exchange="okx", asked=asked) == {
        "exchange": "okx",
        "symbol": "SOL/USDT:USDT",
        "order_id": "A-1",
        "asked": ["symbol", "order_id"],
    }


def test_a_cancel_that_is_answered_with_the_order_says_its_state() -> None:
    answer = an_answer(symbol="SOL/USDT:USDT", status="canceled", filled=1, lastUpdateTimestamp=1709658490500)
    fields = update_fields(answer, asked={"id": "A-1", "symbol": "SOL/USDT:USDT"}, derived=False)
    assert fields == {
        "symbol": "SOL/USDT:USDT",
        "order_id": "A-1",
        "status": "CANCELED",
        "filled": 1,
        "updated_at": "2024-03-05T17:08:10.500Z",
        "timestamp": "2024-03-05T17:08:10.500Z",
    }


EDIT = {"id": "A-1", "symbol": "SOL/USDT:USDT", "type": "limit", "side": "sell", "amount": 3.5, "price": 140}


@pytest.mark.parametrize("answer", [an_answer(), an_answer(id=None), None, "A-1"])
def test_an_edit_that_keeps_the_id_is_an_update(answer: Any) -> None:
    update, order = edit_fields(answer, exchange="bybit", asked=EDIT)
    assert order == {}
    assert update == update_fields(answer, exchange="bybit", asked=EDIT)
    assert (update["order_id"], update["price"], update["size"]) == ("A-1", 140, 3.5)
    assert "status" not in update


def test_an_edit_that_gives_another_id_cancels_the_one_and_makes_the_other() -> None:
    update, order = edit_fields(an_answer(id="A-2", info={"orderId": "A-2"}), exchange="gate", asked=EDIT)
    assert update == {
        "exchange": "gate",
        "symbol": "SOL/USDT:USDT",
        "order_id": "A-1",
        "status": "CANCELED",
        "replaced_by": "A-2",
        "asked": ["order_id", "status"],
    }
    assert order == {
        "exchange": "gate",
        "order_id": "A-2",
        "symbol": "SOL/USDT:USDT",
        "type": "LIMIT",
        "side": "sell",
        "size": 3.5,
        "price": 140,
        "status": "NEW",
        "replaces": "A-1",
        "asked": ["symbol", "type", "side", "size", "price", "status"],
    }


FILL = {"id": "T-1", "timestamp": 1709658490000, "price": 141.25, "amount": 1.5, "side": None, "symbol": None}


def test_fills_of_an_order_are_trades_that_name_it() -> None:
    order = an_answer(symbol="SOL/USDT:USDT", side="sell", type="limit", clientOrderId="bot-7")
    order["trades"] = [
        {**FILL, "fee": {"cost": 0.02, "currency": "USDT"}},
        "T-2",
        {**FILL, "id": "T-3", "order": "A-9", "symbol": "SOL/USDT", "fees": [{"cost": 0.1, "currency": "SOL"}]},
    ]
    of_order = {
        "exchange": "okx",
        "symbol": "SOL/USDT:USDT",
        "side": "sell",
        "order_type": "LIMIT",
        "order_id": "A-1",
        "client_order_id": "bot-7",
    }
    own = {
        "price": 141.25,
        "quantity": 1.5,
        "executed_qty": 1.5,
        "executed_at": "2024-03-05T17:08:10.000Z",
        "timestamp": "2024-03-05T17:08:10.000Z",
    }
    assert fills_of(order, exchange="okx") == [
        {**of_order, **own, "trade_id": "T-1", "fee": 0.02, "fee_currency": "USDT"},
        {
            **of_order,
            **own,
            "trade_id": "T-3",
            "order_id": "A-9",
            "symbol": "SOL/USDT",
            "fee": 0.1,
            "fee_currency": "SOL",
        },
    ]


@pytest.mark.parametrize("order", [None, {}, {"trades": None}, {"trades": {}}, {"trades": "T-1"}, [], "A-1"])
def test_without_a_list_there_are_no_fills(order: Any) -> None:
    assert fills_of(order) == []


def test_what_an_order_waits_for_and_may_do_stays_in_the_log() -> None:
    answer = an_answer(
        triggerPrice="120.50",
        stopLossPrice=0,
        takeProfitPrice=150,
        reduceOnly=True,
        postOnly=False,
        timeInForce="GTC",
        cost=0,
    )
    assert order_fields(answer, derived=False) == {
        "order_id": "A-1",
        "trigger_price": Decimal("120.50"),
        "take_profit_price": 150,
        "reduce_only": True,
        "time_in_force": "GTC",
        "cost": 0,
    }
    assert order_fields({"stopPrice": 120.5}) == {"trigger_price": 120.5}
    assert order_fields({"stopPrice": 0, "triggerPrice": 0}) == {}


def test_an_outcome_of_a_prediction_market_stands_for_its_symbol() -> None:
    assert order_fields({"outcome": "MARS_2099:YES"}) == {"symbol": "MARS_2099:YES"}
    assert trade_fields({"outcome": "MARS_2099:YES", "symbol": None}) == {"symbol": "MARS_2099:YES"}
    assert update_fields(None, asked={"outcome": "MARS_2099:YES"})["symbol"] == "MARS_2099:YES"


# -- what ccxt worked out --

BINANCE_MARKET_ORDER = {
    "symbol": "LTCUSDT",
    "orderId": 3397148653,
    "price": "0.00000000",
    "origQty": "0.10000000",
    "executedQty": "0.10000000",
    "cummulativeQuoteQty": "9.08000000",
    "time": 1679571174472,
    "fills": [{"tradeId": 7, "commission": "-0.00908"}],
}
SAID = {"id": "3397148653", "amount": 0.1, "filled": 0.1, "cost": 9.08, "info": BINANCE_MARKET_ORDER}


@pytest.mark.parametrize(
    ("said", "derived"),
    [
        ({}, None),
        ({"price": 90.8, "average": 90.8}, ["price", "average_price"]),
        ({"average": "90.80"}, ["average_price"]),
        ({"average": Decimal("9.0800")}, None),  # that there is such a number is all that can be said
        ({"remaining": 0}, None),
        ({"remaining": 0.05}, ["remaining"]),
        ({"fee": {"cost": 0.00908, "currency": "USDT"}}, None),  # the same but for its sign
        ({"fee": {"cost": 0.00454, "currency": "USDT"}}, ["fee"]),
        ({"clientOrderId": "bot-7"}, ["client_order_id"]),
        ({"clientOrderId": "3397"}, None),  # in a longer one
        ({"id": "x 1"}, None),  # not looked for
        ({"price": [90.8]}, None),
        ({"price": True}, None),
    ],
)
def test_a_number_or_an_id_that_stands_nowhere_in_the_answer_is_derived(
    said: dict[str, Any], derived: list[str] | None
) -> None:
    assert order_fields({**SAID, **said}).get("derived") == derived
    assert "derived" not in order_fields({**SAID, **said}, derived=False)


@pytest.mark.parametrize(
    ("figures", "status"),
    [
        ({"filled": 2, "remaining": 0}, "FILLED"),
        ({"filled": "2", "remaining": "0.00"}, "FILLED"),
        ({"filled": 2, "remaining": 1}, None),
        ({"filled": 2}, None),
        ({"filled": 0, "remaining": 0}, None),
        ({"amount": 2, "remaining": 0}, None),
    ],
)
def test_an_order_without_a_status_of_which_nothing_remains_is_filled(
    figures: dict[str, Any], status: str | None
) -> None:
    for function in (order_fields, update_fields):
        fields = function(an_answer(**figures), derived=False)
        assert fields.get("status") == status
        assert fields.get("derived") == (["status"] if status else None)
        assert "status" not in function(figures)  # no structure of ccxt's


def test_a_trade_id_that_ccxt_made_up_is_derived() -> None:
    info = {"price": "141.25", "qty": 1.5, "time": "1709658490000", "order": "A-1"}
    made_up = {**FILL, "id": "1709658490000-sell-1.5-141.25", "order": "A-1", "info": info}
    assert trade_fields(made_up)["derived"] == ["trade_id"]
    assert "derived" not in trade_fields({**made_up, "id": None})


@pytest.mark.parametrize(
    "info",
    [
        None,
        {},
        [],
        "90.8",
        {"x": object()},
        {"x": '{"avg": "90.8"}'},
        {"x": [0] * 501},
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {}}}}}}}}},
    ],
)
def test_nothing_is_called_derived_where_the_answer_is_not_there_or_cannot_be_looked_through(info: Any) -> None:
    assert order_fields({"id": "A-1", "price": 90.8, "info": info}) == {"order_id": "A-1", "price": 90.8}


def test_an_answer_as_a_list_is_looked_through() -> None:
    info = [130065885881, None, "tLTCUST", 0.1, -0.1, "CANCELED", {"hidden": "68.5"}]
    fields = order_fields({"id": "130065885881", "amount": 0.1, "price": 68.5, "average": 69, "info": info})
    assert fields["derived"] == ["average_price"]


def test_an_answer_that_holds_itself_is_not_looked_through() -> None:
    info: dict[str, Any] = {"a": 1}
    info["again"] = info
    assert order_fields({"price": 90.8, "info": info}) == {"price": 90.8}
