"""A small bot on a simulated exchange, with the paper trail a real one would leave.

    python examples/bot.py --dir var/audit --seconds 10

It opens positions with a market order, protects each with a stop-loss order that it moves once, and closes them by a
second market order unless the stop is hit first. The trading code hands each answer of the exchange to the log and
never looks at what the call returns: whatever happens to the log, the bot trades on. The simulated exchange, whose
orders are plain objects, stands at the end of the file.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any

from emitter import AuditLog


async def hold_position(exchange: Exchange, audit: AuditLog, ids: tuple[int, int], stopping: asyncio.Event) -> None:
    """One position from its entry to its exit, each step written down when it has happened."""
    symbol, side = exchange.pick(), exchange.dice.choice(["buy", "sell"])
    other_side = "sell" if side == "buy" else "buy"
    position = audit.position(position_id=ids[0], signal_id=ids[1], exchange=exchange.name, symbol=symbol, side=side)

    entry = exchange.market_order(symbol, side)
    position.entry_filled(entry)
    stop = exchange.stop_order(symbol, other_side, entry.size, distance="0.02")
    position.stop_loss_placed(stop)
    await wait(stopping, exchange.dice.uniform(0.05, 0.5))

    # The price went our way: the stop follows. One exchange can change an order, the other wants a new one.
    if exchange.changes_orders:
        stop.price = exchange.stop_price(symbol, other_side, distance="0.01")
    else:
        stop = exchange.stop_order(symbol, other_side, entry.size, distance="0.01")
    position.stop_loss_moved(stop, reason="trailing stop")
    await wait(stopping, exchange.dice.uniform(0.05, 0.5))

    if exchange.dice.random() < 0.3:
        exchange.fill(stop, stop.price)
        position.stop_loss_triggered(stop)
        position.closed(reason="stop loss")
    else:
        leave = exchange.market_order(symbol, other_side, entry.size)
        position.exit_filled(leave, reason="exit signal")  # and its stop is canceled
        position.closed(reason="exit signal")


async def wait(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, but not longer than until the bot is told to stop: then open positions are closed at once."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


async def trade(audit: AuditLog, seconds: float, rate: float, seed: int | None) -> None:
    """Open about ``rate`` positions a second for some seconds, then see all of them closed."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.call_later(seconds, stopping.set)
    dice = random.Random(seed)
    exchanges = [Exchange("binance", dice, changes_orders=False), Exchange("bybit", dice, changes_orders=True)]
    position_ids, signal_ids = count(dice.randrange(10_000, 10_000_000)), count(dice.randrange(10_000, 10_000_000))
    audit.event("bot.started", strategy="coin flip")
    async with asyncio.TaskGroup() as positions:
        while not stopping.is_set():
            ids = next(position_ids), next(signal_ids)
            positions.create_task(hold_position(dice.choice(exchanges), audit, ids, stopping))
            await wait(stopping, dice.expovariate(rate))
    audit.event("bot.stopped")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A bot that trades on a simulated exchange and keeps a paper trail.")
    parser.add_argument("--dir", default="var/audit", help="the log directory")
    parser.add_argument("--service", default="fox-bot", help="the name of this bot in the log")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to trade")
    parser.add_argument("--rate", type=float, default=5.0, help="positions opened a second")
    parser.add_argument("--seed", type=int, help="the same seed makes the same orders")
    given = parser.parse_args()
    with AuditLog.from_env(directory=given.dir, service=given.service) as audit:
        asyncio.run(trade(audit, given.seconds, given.rate, given.seed))
    done = audit.stats()
    print(f"{done.emitted} records, {done.lost} lost, in {given.dir}")


# -- the simulated exchange --

PRICES = {  # price, the step of a size
    "BTC/USDT:USDT": ("91250.4", "0.001"),
    "ETH/USDT:USDT": ("3120.55", "0.01"),
    "SOL/USDT:USDT": ("142.31", "0.1"),
    "MNT/USDT:USDT": ("1.0837", "0.1"),
    "1000000PEIPEI/USDT:USDT": ("0.02214", "1"),
}


@dataclass
class Fill:
    id: str
    size: Decimal
    price: Decimal
    fee: dict[str, Any] | None


@dataclass
class Order:
    id: str
    client_id: str
    symbol: str
    side: str
    type: str
    size: Decimal
    price: Decimal
    status: str = "NEW"
    fills: list[Fill] = field(default_factory=list)


class Exchange:
    """Takes every order and fills it in up to three parts."""

    def __init__(self, name: str, dice: random.Random, *, changes_orders: bool) -> None:
        self.name = name
        self.dice = dice
        self.changes_orders = changes_orders
        self._ids = count(dice.randrange(10**11, 10**12))

    def pick(self) -> str:
        return self.dice.choice(list(PRICES))

    def market_order(self, symbol: str, side: str, size: Decimal | None = None) -> Order:
        price = self._price(symbol)
        step = Decimal(PRICES[symbol][1])
        order = self._order(symbol, side, "MARKET", size or step * self.dice.randint(3, 900), price)
        self.fill(order, price)
        return order

    def stop_order(self, symbol: str, side: str, size: Decimal, distance: str) -> Order:
        return self._order(symbol, side, "STOP_MARKET", size, self.stop_price(symbol, side, distance))

    def stop_price(self, symbol: str, side: str, distance: str) -> Decimal:
        """A stop that sells lies below the price, one that buys above it."""
        part = 1 - Decimal(distance) if side == "sell" else 1 + Decimal(distance)
        return self._round(symbol, self._price(symbol) * part)

    def fill(self, order: Order, price: Decimal) -> None:
        """Fill an order in one to three parts, each at its own price."""
        step = Decimal(PRICES[order.symbol][1])
        left, parts = order.size, self.dice.choice([1, 1, 2, 3])
        for part in range(parts, 0, -1):
            size = left if part == 1 else left / part // step * step
            order.fills.append(Fill(self._id(), size, price, self._fee(size * price)))
            price = self._round(order.symbol, price * Decimal("1.0003"))
            left -= size
        order.status = "FILLED"

    def _order(self, symbol: str, side: str, kind: str, size: Decimal, price: Decimal) -> Order:
        return Order(self._id(), f"fox-{self.dice.getrandbits(48):012x}", symbol, side, kind, size, price)

    def _price(self, symbol: str) -> Decimal:
        return self._round(symbol, Decimal(PRICES[symbol][0]) * Decimal(self.dice.randint(9900, 10100)) / 10000)

    def _round(self, symbol: str, price: Decimal) -> Decimal:
        return price.quantize(Decimal(PRICES[symbol][0]))

    def _id(self) -> str:
        """Binance counts, Bybit draws UUIDs."""
        return (
            str(next(self._ids))
            if self.name == "binance"
            else str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        )

    def _fee(self, cost: Decimal) -> dict[str, Any] | None:
        kind = self.dice.random()
        if kind < 0.1:
            return None  # reported later, or never
        if kind < 0.3 and self.name == "binance":
            return {"currency": "BNB", "cost": (cost * Decimal("0.00045") / 870).quantize(Decimal("1e-8"))}
        return {"currency": "USDT", "cost": (cost * Decimal("0.0005")).quantize(Decimal("1e-8"))}


if __name__ == "__main__":
    main()
