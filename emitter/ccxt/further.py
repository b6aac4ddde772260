"""What an order says beyond the columns of ``orders``: it stays in the log, under these names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .values import decimal, number, text

_PRICES = {
    "triggerPrice": "trigger_price",
    "stopLossPrice": "stop_loss_price",
    "takeProfitPrice": "take_profit_price",
}
_PROMISES = {"reduceOnly": "reduce_only", "postOnly": "post_only"}


def further_fields(order: Mapping[str, Any]) -> dict[str, Any]:
    """The prices that an order waits for, how long it stands, what it may do, and what it costs.

    A price of 0 to wait for is how some exchanges write that there is none, and False is what ccxt puts for some where
    nothing is said: both are left out.
    """
    get = order.get
    found: dict[str, Any] = {}
    for key, name in _PRICES.items():
        value = get(key)
        if value is None and key == "triggerPrice":
            value = get("stopPrice")  # its name until 2023
        if value is not None and (price := number(value)) is not None and decimal(price) != 0:
            found[name] = price
    for key, name in _PROMISES.items():
        if get(key) is True:
            found[name] = True
    if (value := get("timeInForce")) is not None and (word := text(value)) is not None:
        found["time_in_force"] = word
    if (value := get("cost")) is not None and (cost := number(value)) is not None:
        found["cost"] = cost
    return found
