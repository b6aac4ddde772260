"""docs/ccxt.md is held to what is there: its tables are those of the code."""

import re
from typing import Any

import pytest

from emitter import ccxt
from emitter.ccxt import order_fields, trade_fields, update_fields

from ..documents import Page

PAGE = Page("docs/ccxt.md")
SAMPLES: dict[str, Any] = {
    "timestamp": 1709658489123,
    "datetime": "2024-03-05T17:08:09.123Z",
    "lastUpdateTimestamp": 1709658489123,
    "lastTradeTimestamp": 1709658489123,
    "status": "open",
    "fee": {"cost": 1, "currency": "USDT"},
    "fees": [{"cost": 1, "currency": "USDT"}, {"cost": 2, "currency": "BNB"}],
    "reduceOnly": True,
    "postOnly": True,
}


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


@pytest.mark.parametrize(
    ("header", "functions"),
    [
        ("| ccxt's order | record |", (order_fields, update_fields)),
        ("| ccxt's trade | record |", (trade_fields,)),
    ],
)
def test_each_field_goes_where_the_page_says(header: str, functions: Any) -> None:
    rows = PAGE.table(header)
    assert len(rows) > 10
    reached = {"exchange"}
    for theirs, ours in rows:
        names = [word for word in words(ours.partition(":")[0]) if word != "fills_of"]
        for key in words(theirs):
            found: set[str] = set()
            for function in functions:
                found |= set(function({key: SAMPLES.get(key, 7)}))
            assert set(names) <= found | {"fills_of"}, (key, names, found)
            reached |= found
    assert reached <= {word for _, ours in rows for word in words(ours)} | {"exchange", "timestamp"}


def test_each_function_is_named_and_each_named_one_is_there() -> None:
    named = set(re.findall(r"\b(\w+_fields|fills_of)\b", PAGE.text))
    assert named == set(ccxt.__all__)
