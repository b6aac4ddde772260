"""Anything in any field of a ccxt structure: nothing raises, and each value that comes out came in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException, FloatOperation, localcontext
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from emitter.ccxt import edit_fields, fills_of, order_fields, trade_fields, update_fields
from emitter.times import time_from

NAMES_OF_CCXT = """
id clientOrderId timestamp datetime lastTradeTimestamp lastUpdateTimestamp symbol type side amount price cost average
filled remaining status timeInForce postOnly reduceOnly stopPrice triggerPrice stopLossPrice takeProfitPrice order
takerOrMaker exchange outcome info
"""
KEYS = NAMES_OF_CCXT.split()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**9, 10**19),
    st.floats(),
    st.decimals(),
    st.decimals().map(str),
    st.text(),
    st.sampled_from(["open", "closed", "canceled", "stopMarket", "0x00", "1970-01-20T18:54:18.489Z", "\x00", "-0"]),
)
JSON_LIKE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
FEE = st.fixed_dictionaries({}, optional={"cost": SCALARS, "amount": SCALARS, "currency": JSON_LIKE, "rate": SCALARS})
FEES = JSON_LIKE | FEE | st.lists(FEE, max_size=3)
STRUCTURE = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON_LIKE) | {"fee": FEES, "fees": FEES})
ORDER = st.builds(
    lambda order, trades: {**order, "trades": trades}, STRUCTURE, JSON_LIKE | st.lists(STRUCTURE, max_size=2)
)
ANSWER = ORDER | JSON_LIKE
ASKED = st.builds(lambda asked, params: {**asked, "params": params}, STRUCTURE, STRUCTURE | JSON_LIKE) | JSON_LIKE

OURS = {"NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED"}
TIMES = {"timestamp", "created_at", "updated_at", "executed_at"}
NAMES = {"derived", "asked"}


@given(ANSWER, ASKED)
@example({"filled": Decimal("sNaN"), "status": "open", "price": Decimal("sNaN"), "id": Decimal("sNaN")}, {})
@example(dict.fromkeys(KEYS, 10**5000), dict.fromkeys(KEYS, 10**5000))
@example({"price": 1, "id": "7", "info": {"a": 10**5000}}, {})
@example({"filled": "1e99999999999999999999", "status": "closed", "timestamp": "1e99999999999999999999"}, {})
@example({"fee": {"cost": Decimal("sNaN")}, "fees": [{"cost": Decimal("sNaN")}]}, {"id": [1, 2]})
def test_nothing_raises_and_nothing_is_invented(answer: Any, asked: Any) -> None:
    with localcontext() as context:  # a bot's own decimal context
        context.prec = 2
        context.traps[FloatOperation] = True
        update, order = edit_fields(answer, exchange="x", asked=asked)
        made = [update, order, trade_fields(answer, exchange="x"), *fills_of(answer, exchange="x")]
        for function in (order_fields, update_fields):
            made += [function(answer, exchange="x"), function(answer, exchange="x", asked=asked)]
    came_in = list(parts([answer, asked, "x"]))
    for fields in made:
        for name, value in fields.items():
            assert value is not None
            assert value != "", name
            assert stems(name, value, fields, came_in), (name, value)


def parts(value: Any) -> Iterator[Any]:
    """A value and all that it holds."""
    yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from parts(inner)


def stems(name: str, value: Any, fields: dict[str, Any], came_in: list[Any]) -> bool:
    """Whether a field says what was given, or a word of ours for it."""
    if name in NAMES:
        return set(value) <= set(fields) and len(set(value)) == len(value)
    if name == "status" and isinstance(value, str) and value in OURS:
        return True
    if name in TIMES:
        moment = time_from(value)
        return any(moment in (found := time_from(part), seconds(found)) for part in came_in)
    if name == "fees":
        return all(says(one, came_in) for entry in value for one in entry.values())
    return says(value, came_in)


def seconds(moment: Any) -> Any:
    """What a time means that was made of seconds as if they were milliseconds."""
    return moment and time_from((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


def says(value: Any, came_in: list[Any]) -> bool:
    """Whether one of these is the value, or a list of the ids that it joins."""
    if isinstance(value, str) and any(value == joined(part) for part in came_in if isinstance(part, list)):
        return True
    return any(same(value, part) for part in came_in)


def joined(ids: list[Any]) -> str:
    said = [one for one in ids if not isinstance(one, bool | dict | list | None)]
    finite = [one for one in said if isinstance(one, str | int) or Decimal(str(one)).is_finite()]
    return ",".join(text for one in finite if (text := short(one)).strip())


def same(value: Any, part: Any) -> bool:
    if value is part:
        return True
    if isinstance(value, Decimal) and isinstance(part, str):
        with suppress(DecimalException):
            return value.as_tuple() == Decimal(part.strip()).as_tuple()
        return False
    if not isinstance(value, str) or isinstance(part, dict | list):
        return False
    words = {short(part), plain(part)}
    return word(value) in {word(one) for said in words for one in (said, said.upper(), said.lower())}


def short(value: Any) -> str:
    """A scalar as the text of an id."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return plain(int(value) if whole else value)


def plain(value: Any) -> str:
    with suppress(ValueError):  # an int of more digits than the interpreter writes out
        return str(value)
    return ""


def word(text: str) -> str:
    """A word without case and signs: ``stopMarket`` is STOP_MARKET."""
    return re.sub(r"[\s_-]+", "", text.casefold())
