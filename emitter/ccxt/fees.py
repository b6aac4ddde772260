"""ccxt's fees: ``fee``, one or a total, and ``fees``, a list that repeats it or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .values import LISTS, decimal, number, unsaid, without_none

_FEE = ("cost", "currency")
_NO_COSTS = (bool, list, tuple, Mapping)


def fee_fields(fee: Any = None, fees: Any = None) -> dict[str, Any]:
    """``fee`` and ``fee_currency`` of the one fee, or ``fees`` of several; empty where none is said.

    Each argument is a number, a numeric text, a ccxt fee (``{cost, currency}``, of some exchanges
    ``{amount, currency}``) or a list of those. A fee without cost is not said; a negative one is a rebate.

    Several entries stay whole in ``fees``, also those in one currency: which of them repeat each other cannot
    be known. Then ``fee`` itself (their total, or one of them) is left out, unless its currency is not among
    theirs. Where ``fee`` and the only entry of ``fees`` contradict each other, both are kept.
    """
    if fee is None and not fees:
        return {}
    if isinstance(fees, LISTS) and len(fees) == 1 and fees[0] is fee:  # as ccxt itself hands out a single fee
        fees = None
    stated, listed = _entries(fee), _entries(fees)
    entries = [one for one in stated if not any(_covers(other, one) for other in listed)] + listed
    if not entries:
        return {}
    if len(entries) > 1:
        return {"fees": entries}
    only = stated[0] if stated else listed[0]
    currency = only.get("currency") or entries[0].get("currency")
    fields = without_none({"fee": only["cost"], "fee_currency": currency})
    if not _equal(only["cost"], entries[0]["cost"]):
        fields["fees"] = entries
    return fields


def _entries(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    items = value if isinstance(value, LISTS) else [value]
    return [entry for item in items if (entry := _entry(item)) is not None]


def _entry(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        cost = _cost(value)
        return None if cost is None else {"cost": cost}
    key = "cost"
    cost = _cost(value.get(key))
    if cost is None:
        key = "amount"
        cost = _cost(value.get(key))
        if cost is None:
            return None
    currency = value.get("currency")
    entry = {"cost": cost, "currency": currency} if isinstance(currency, str) and currency else {"cost": cost}
    if len(value) > len(entry):
        known = (key, *_FEE)
        entry |= {name: other for name, other in value.items() if name not in known and not unsaid(other)}
    return entry


def _cost(value: Any) -> Any:
    return None if isinstance(value, _NO_COSTS) else number(value)


def _covers(other: dict[str, Any], one: dict[str, Any]) -> bool:
    mine, theirs = one.get("currency"), other.get("currency")
    return mine is None or theirs is None or mine == theirs


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    left, right = decimal(one), decimal(other)
    return left == right if left is not None and right is not None else str(one) == str(other)
