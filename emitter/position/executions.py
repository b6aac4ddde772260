"""The fills of an order that the trail does not have yet, from what an order says each time it is looked at.

An exchange lists fills one by one, or only says how much of the order is filled and at what average price. Then the
fill is what came on top of what was written before. Where its price had to be assumed, it is marked ``estimated``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .answers import Answer
from .figures import ZERO, less, number, product, quotient, total


@dataclass(slots=True)
class Executed:
    """What of an order is in the trail.

    ``listed`` is what of ``filled`` was told fill by fill, ``fills`` how often each of them was, ``worth`` what was
    paid for all (None: not known), ``fee`` what was said to be the fee of all.
    """

    filled: Decimal = ZERO
    listed: Decimal = ZERO
    worth: Decimal | None = ZERO
    fee: Decimal = ZERO
    fills: Counter[Any] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Fallback:
    """What stands in where an order does not say it: a price, and how many units one contract has."""

    price: Any = None
    contract_size: Any = None


def has_limit(kind: Any) -> bool:
    """Whether an order of this type has a price that it is not to be filled beyond."""
    return isinstance(kind, str) and "LIMIT" in kind


def listed_fills(order: dict[str, Any], answer: Answer, done: Executed, fallback: Fallback) -> list[dict[str, Any]]:
    """The fields of trades for the listed fills that were not written; ``done`` takes note of them.

    Of fills without an id, alike ones are told apart by how many there are.
    """
    new, seen = [], Counter[Any]()
    for fill in answer.fills:
        name = fill.get("trade_id")
        key = name or (fill.get("executed_at"), number(fill.get("price")), number(fill.get("executed_qty")))
        seen[key] += 1
        if seen[key] > done.fills[key] and (seen[key] == 1 or not name):
            new.append(fill)
    done.fills |= seen
    _fill_in(new, order, answer, fallback)
    done.listed = total([done.listed, *(number(fill.get("executed_qty")) or ZERO for fill in new)])
    done.filled = max(done.filled, done.listed, number(answer.fields.get("filled")) or ZERO)
    done.worth = None
    return new


def _fill_in(fills: list[dict[str, Any]], order: dict[str, Any], answer: Answer, fallback: Fallback) -> None:
    """What a listed fill does not say itself, and its order does."""
    for fill in fills:
        if fill.get("price") is None:
            price, estimated = _stated_price(order, answer, fallback)
            fill.update({"price": price} | ({"estimated": True} if estimated else {}))
    if len(fills) == len(answer.fills) == 1:
        fees = ("fee", "fee_currency", "fees")
        if not any(name in fills[0] for name in fees):
            fills[0].update({name: order[name] for name in fees if name in order})


def fills_beyond(order: dict[str, Any], answer: Answer, done: Executed, fallback: Fallback) -> list[dict[str, Any]]:
    """What an order has filled beyond ``done``, which takes note of it, as one fill or none.

    An order that is filled without anybody saying how much is a fill all the same, for the loader to reject.
    """
    filled = number(order.get("filled"))
    if filled is None:
        filled = ZERO
        if order.get("status") != "FILLED" or done.filled > ZERO:
            return []
    elif filled <= done.filled:
        return []
    first = done.filled == ZERO
    new = less(filled, done.filled)
    price, estimated = _price_of(new, filled, order, answer, done, fallback)
    fill = {
        "quantity": order.get("size"),
        "executed_qty": order.get("filled") if first else new,
        "price": price,
        "average_price": answer.figure("average"),
        "executed_at": answer.time("traded", "changed"),
        **_fee_of(order, done),
    }
    if estimated:
        fill["estimated"] = True
    done.filled = filled
    return [fill]


def _price_of(
    new: Decimal, filled: Decimal, order: dict[str, Any], answer: Answer, done: Executed, fallback: Fallback
) -> tuple[Any, bool]:
    """The price of what is new, and whether it is an estimate."""
    price, estimated = _average(filled, order, answer, fallback)
    if price is None:
        done.worth = None
        return _stated_price(order, answer, fallback)
    worth, before = product(number(price) or ZERO, filled), done.worth
    done.worth = worth
    if new == filled:
        return price, estimated
    beyond = ZERO if before is None else quotient(less(worth, before), new)
    return (beyond, estimated) if beyond > 0 else (price, True)  # averages are rounded, which may outweigh a small fill


def _average(filled: Decimal, order: dict[str, Any], answer: Answer, fallback: Fallback) -> tuple[Any, bool]:
    """The average price as it is said, or by what was paid; and whether that is an estimate."""
    average = answer.figure("average")
    if average is not None:
        return average, False
    cost, symbol = number(answer.figure("cost")), order.get("symbol")
    # ccxt: BTC/USDT:USDT is a contract that is paid in USDT. What an inverse one costs is in the coin that is traded.
    traded, _, paid_in = symbol.partition(":") if isinstance(symbol, str) else ("", "", "")
    inverse = paid_in != "" and traded.startswith(f"{paid_in}/")
    if cost is None or inverse or filled == ZERO:
        return None, False
    size = number(fallback.contract_size)
    return quotient(cost, product(filled, size or Decimal(1))), paid_in != "" and size is None


def _stated_price(order: dict[str, Any], answer: Answer, fallback: Fallback) -> tuple[Any, bool]:
    """The order's own price, else what stands in; and whether that is an estimate. A limit is only a bound."""
    price = answer.figure("price")
    if price is not None:
        return price, "price" not in answer.plain and has_limit(order.get("type"))
    return fallback.price, fallback.price is not None


def _fee_of(order: dict[str, Any], done: Executed) -> dict[str, Any]:
    """The fee of what is new: an order says that of all its fills. Of several currencies it cannot be told."""
    fees: dict[str, Any] = {name: order[name] for name in ("fee", "fee_currency", "fees") if name in order}
    fee = number(fees.get("fee"))
    if done.filled == ZERO:
        done.fee = fee or ZERO
        return fees
    if fee is None or "fees" in fees:
        return {}
    new, done.fee = less(fee, done.fee), fee
    return {**fees, "fee": new}
