"""What an order's record says of it where nobody says it outright: its type, prices, status and how much is filled."""

from __future__ import annotations

from typing import Any

from .answers import Answer
from .executions import has_limit
from .figures import ZERO, less, number, product, quotient, total
from .holding import Order, Role

FINAL = frozenset({"FILLED", "CANCELED", "CANCELLED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"})
_TRIGGERED = {"stop_loss": "STOP", "take_profit": "TAKE_PROFIT"}


def type_of(role: Role, answer: Answer) -> Any:
    """The type of an order. A stop is STOP_MARKET also where the exchange calls it MARKET, with a price to wait for."""
    said = answer.fields.get("type")
    if said is None:
        return role.type
    if not role.protects or said not in ("MARKET", "LIMIT"):
        return said
    rests = said == "LIMIT" and role.name == "take_profit" and answer.figure("triggerPrice") is None
    return said if rests else f"{_TRIGGERED[role.name]}_{said}"


def waits_for(order: Order, answer: Answer) -> Any:
    """The price of an order that was placed or moved: its limit, or for one that protects what triggers it."""
    price, trigger = answer.figure("price"), answer.figure("triggerPrice")
    if not order.role.protects or trigger is None:
        return price
    own = "price" in answer.plain or has_limit(order.type)
    return price if own and price is not None else trigger


def prices_of(order: Order, answer: Answer, fills: list[dict[str, Any]], *, placed: bool, made: bool) -> dict[str, Any]:
    """``price``, ``average_price`` and ``stop_price`` of a record.

    A market order has no price of its own: what it was filled at stands there. That is never the price of an order
    that was placed before: as what it is waiting for, that one stays.
    """
    average = answer.figure("average")
    prices = {"average_price": _average_of(fills, order) if average is None else average}
    if placed or made:
        price = prices["price"] = waits_for(order, answer)
        if price is None and order.type == "MARKET":
            prices["price"] = prices["average_price"]
    trigger = answer.figure("triggerPrice")
    if placed and order.role.protects and number(trigger) != number(prices["price"]):
        prices["stop_price"] = trigger
    return prices


def _average_of(fills: list[dict[str, Any]], order: Order) -> Any:
    """The average price of all that an order has filled, where these fills are all of it and their prices are known."""
    prices = [None if "estimated" in fill else number(fill.get("price")) for fill in fills]
    sizes = [number(fill.get("executed_qty")) for fill in fills]
    paid = [product(price, size) for price, size in zip(prices, sizes, strict=True) if price and size]
    filled = total(size for size in sizes if size)
    if filled == ZERO or len(paid) < len(fills) or filled != order.executed.filled:
        return None
    return fills[0]["price"] if len(fills) == 1 else quotient(total(paid), filled)


def status_of(answer: Answer, claim: str | None, filled: Any, size: Any) -> Any:
    """The status that is said, else the one that is claimed as far as the figures bear it out."""
    said = answer.fields.get("status")
    part, whole = number(filled), number(size)
    if part is None or whole is None or claim not in ("NEW", "FILLED"):
        return claim if said is None else said
    if said is not None and (claim == "NEW" or said not in ("NEW", "PARTIALLY_FILLED")):
        return said
    if part <= ZERO:
        return said or "NEW"
    return "FILLED" if part >= whole.copy_abs() else "PARTIALLY_FILLED"


def counts_of(status: Any, filled: Any, size: Any) -> dict[str, Any]:
    """``filled`` and ``remaining``, where the status or each other tell them."""
    if filled is None:
        filled = {"FILLED": size, "NEW": 0}.get(status)
    part, whole = number(filled), number(size)
    if part is None or whole is None or part > whole:
        return {"filled": filled}
    return {"filled": filled, "remaining": size if part == ZERO else less(whole, part) or 0}
