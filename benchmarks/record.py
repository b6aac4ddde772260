"""The record that every contestant is given: an order with 14 fields."""

from __future__ import annotations

from typing import Any, Final

EVENT: Final = "order.created"
FIELDS: Final[dict[str, Any]] = {
    "position_id": "55",
    "exchange": "bybit",
    "symbol": "MNTUSDT",
    "order_id": "d2e5a4a0-3a0b-4f0e-8f3e-0e9a4f7f6c11",
    "client_order_id": "fox-6412b439d353",
    "type": "MARKET",
    "side": "sell",
    "size": 94.7,
    "price": 2.1118,
    "status": "FILLED",
    "filled": 94.7,
    "remaining": 0,
    "fee": 0.1,
    "fee_currency": "USDT",
}
INSERT: Final = (
    f"INSERT INTO monitoring.orders ({', '.join(FIELDS)}) "
    f"VALUES ({', '.join(f'${number}' for number in range(1, len(FIELDS) + 1))})"
)
