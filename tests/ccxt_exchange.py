"""An exchange as the pages about ccxt have one."""

from __future__ import annotations

from typing import Any


class Exchange:
    """Answers as Bybit does: with an id, and what became of it only on the stream."""

    id = "bybit"

    def create_order(self, symbol: str, type: str, side: str, amount: float, price: float) -> dict[str, Any]:  # noqa: A002
        return {"info": {"orderId": "A-1", "orderLinkId": ""}, "id": "A-1", "symbol": symbol, "status": None}

    def edit_order(self, id: str, symbol: str, *args: Any, **more: Any) -> dict[str, Any]:  # noqa: A002
        return {"info": {"orderId": "A-2"}, "id": "A-2", "symbol": symbol, "status": None}

    def watch_orders(self, symbol: str) -> list[dict[str, Any]]:
        fill = {"id": "T-1", "timestamp": 1709658490000, "price": 140.9, "amount": 1.5}
        order = {"id": "A-2", "symbol": symbol, "side": "sell", "status": "open", "amount": 3.5, "filled": 1.5}
        return [{**order, "remaining": 2.0, "info": {"qty": "3.5", "cumExecQty": "1.5", "id": "A-2"}, "trades": [fill]}]

    def fetch_my_trades(self, symbol: str) -> list[dict[str, Any]]:
        return [{"id": "T-1", "order": "A-2", "symbol": symbol, "side": "sell", "price": 140.9, "amount": 1.5}]

    def cancel_order(self, id: str, symbol: str) -> dict[str, Any]:  # noqa: A002
        return {"info": {"orderId": id}, "id": id}
