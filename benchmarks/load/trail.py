"""The input: what a bot logs over the lives of many positions, and the same with some lines spoiled.

Of ten records of a position four are orders, two are changes of those, three are fills and one is an event. Many
positions are open at once, so that an order's change often stands in another batch than the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson

from emitter import AuditLog
from emitter.segments import SegmentName, footer_line, header_line, new_stream

OPEN_POSITIONS: Final = 500
BAD_EACH: Final = 100
# Exchange, symbol, price.
_MARKETS: Final = (
    ("bybit", "MNT/USDT:USDT", 2.1),
    ("binance", "BTC/USDT:USDT", 67_250.0),
    ("bybit", "1000000PEIPEI/USDT:USDT", 0.0412),
    ("binance", "ETH/USDT:USDT", 3_480.0),
)

# The name of AuditLog's method, and the fields; those of an event hold its name as "event".
Call = tuple[str, dict[str, Any]]


def calls(seed: int = 1) -> Iterator[Call]:
    """Records without end, the same for the same seed."""
    chance = Random(seed)
    number = 0
    lives: list[Iterator[Call]] = []
    while True:
        while len(lives) < OPEN_POSITIONS:
            number += 1
            lives.append(_life(number, chance))
        at = int(chance.random() * OPEN_POSITIONS)
        call = next(lives[at], None)
        if call is None:
            number += 1
            lives[at] = _life(number, chance)
            call = next(lives[at])
        yield call


def _life(number: int, chance: Random) -> Iterator[Call]:
    exchange, symbol, about = _MARKETS[number % len(_MARKETS)]
    ids = (_id(exchange, 10 * number + n, chance) for n in range(10))
    entry, stop, target, leaving = next(ids), next(ids), next(ids), next(ids)
    price, size = float(f"{about * (0.98 + 0.04 * chance.random()):.5g}"), round(1 + 99 * chance.random(), 1)
    part = round(size / 3, 1)
    side, other = ("buy", "sell") if number % 2 else ("sell", "buy")
    shared = {"position_id": str(number), "exchange": exchange, "symbol": symbol}

    def order(order_id: str, **fields: Any) -> Call:
        known = {**shared, "order_id": order_id, "client_order_id": f"fox-{order_id[-12:]}", "size": size}
        return "order", known | fields

    def fill(order_id: str, trade_side: str, quantity: float) -> Call:
        return "trade", {
            **shared,
            "signal_id": number + 4000,
            "side": trade_side,
            "order_type": "MARKET",
            "quantity": size,
            "price": price,
            "executed_qty": quantity,
            "average_price": price,
            "order_id": order_id,
            "client_order_id": f"fox-{order_id[-12:]}",
            "trade_id": next(ids),
            "status": "FILLED",
            "fee": round(quantity * price * 0.00055, 8),
            "fee_currency": "USDT",
        }

    done = {"status": "FILLED", "filled": size, "remaining": 0, "fee": 0.1, "fee_currency": "USDT"}
    waits = {"status": "NEW", "filled": 0, "remaining": size}
    yield order(entry, type="MARKET", side=side, price=price, **done)
    yield fill(entry, side, part)
    yield fill(entry, side, round(size - part, 1))
    yield order(stop, type="STOP_MARKET", side=other, price=round(price * 0.98, 6), **waits)
    yield order(target, type="TAKE_PROFIT_MARKET", side=other, price=round(price * 1.05, 6), **waits)
    yield "update_order", {**shared, "order_id": stop, "price": round(price * 0.99, 6), "reason": "trailing stop"}
    yield order(leaving, type="MARKET", side=other, price=price, **done)
    yield fill(leaving, other, size)
    yield "update_order", {**shared, "order_id": stop, "status": "CANCELED", "reason": "position closed"}
    yield (
        "event",
        {**shared, "event": "position.closed", "order_id": leaving, "reason": "take profit", "held_s": 3605.2},
    )


def _id(exchange: str, number: int, chance: Random) -> str:
    """Binance counts, Bybit gives UUIDs."""
    if exchange == "binance":
        return str(8_389_765_000_000 + number)
    text = f"{chance.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def log(audit: AuditLog) -> Callable[[Call], int]:
    """What makes a record of a call; its seq."""
    methods = {"order": audit.order, "update_order": audit.update_order, "trade": audit.trade}

    def make(call: Call) -> int:
        method, fields = call
        if method == "event":
            return audit.event(fields.pop("event"), **fields)
        return methods[method](**fields)

    return make


def spoil(source: Path, target: Path, each: int = BAD_EACH) -> int:
    """Copy segments, one record in ``each`` made bad in one of four ways; how many were.

    Cut short, without a field that is needed, with a price that is no number, with bytes that are no UTF-8. Digests no
    longer fit.
    """
    target.mkdir(mode=0o700)
    count = 0
    for path in sorted(source.glob("*.jsonl")):
        with path.open("rb") as lines, (target / path.name).open("wb") as file:
            for line in lines:
                if b'"seq":' in line[:64]:
                    count += 1
                    if count % each == 0:
                        line = _WAYS[count // each % len(_WAYS)](line)
                file.write(line)
    return count // each


def _without_symbol(line: bytes) -> bytes:
    record = orjson.loads(line)
    del record["attributes"]["symbol"]
    # An event needs none, so its own name goes, too.
    if record["event_name"].startswith("position."):
        del record["event_name"]
    return orjson.dumps(record) + b"\n"


def _no_number(line: bytes) -> bytes:
    record = orjson.loads(line)
    # Bad in every kind: an event has no price to be read, and a timestamp all have.
    record["attributes"]["price"] = "about two"
    if record["event_name"] not in ("order.created", "order.updated", "trade.executed"):
        record["timestamp"] = "yesterday"
    return orjson.dumps(record) + b"\n"


_WAYS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda line: line[: len(line) // 2] + b"\n",
    _without_symbol,
    _no_number,
    lambda line: line[:-3] + b"\xff\xfe" + line[-3:],
)


def small_segments(folder: Path, count: int) -> str:
    """``count`` closed segments of one event each, as hours of a quiet bot leave them; their stream."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stream = new_stream()
    for number in range(1, count + 1):
        name = SegmentName.of("quiet", stream, number)
        head = header_line(name, service="quiet", resource={}, pid=1, ring=None, previous_sha256=None)
        record = {
            "stream": stream,
            "seq": number,
            "timestamp": "2026-11-22T13:10:56.015378Z",
            "severity_text": "INFO",
            "severity_number": 9,
            "event_name": "bot.waited",
            "attributes": {"exchange": "bybit"},
        }
        foot = footer_line(name, records=1, first_seq=number, last_seq=number, sha256="0" * 64)
        (folder / str(name)).write_bytes(head + orjson.dumps(record) + b"\n" + foot)
    return stream
