"""What the trail is for: each scenario of a position's life from the bot's call to SQL, by real files and loads."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog, Position
from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings

from ..command import answer
from ..contents import all_loaded

ROOT = Path(__file__).parents[2]

LINK = {"position_id": "55", "exchange": "bybit", "symbol": "MNT/USDT:USDT"}
ORDERS = """
SELECT position_id, exchange, symbol, order_id, type, side, size, price, status, filled, remaining, fee, fee_currency
FROM monitoring.orders WHERE position_id = $1 ORDER BY created_at, seq"""
TRADES = """
SELECT
    position_id, exchange, symbol, signal_id, order_id, trade_id, order_type, side, quantity, price, executed_qty,
    status, fee, fee_currency, reason, estimated
FROM monitoring.trades WHERE position_id = $1 ORDER BY seq"""
UPDATES = """
SELECT order_id, status, price, reason FROM monitoring.order_updates
WHERE position_id = $1 AND kind = 'updated' ORDER BY seq"""
# What a row has nothing in, unless a test says what.
ORDER = LINK | {"fee": None, "fee_currency": None}
TRADE = LINK | {
    "signal_id": None,
    "trade_id": None,
    "fee": None,
    "fee_currency": None,
    "reason": None,
    "estimated": None,
}


def filled(order_id: str, side: str, average: float, /, **changes: Any) -> dict[str, Any]:
    """A market order as ccxt gives it once it is filled."""
    return {
        "id": order_id, "clientOrderId": None, "timestamp": None, "symbol": "MNT/USDT:USDT", "type": "market",
        "side": side, "amount": 94.7, "price": None, "average": average, "filled": 94.7, "remaining": 0,
        "cost": None, "status": "closed", "fee": {"cost": 0.11, "currency": "USDT"}, "fees": [], "trades": None,
        "info": {},
    } | changes  # fmt: skip


ENTRY = ORDER | {
    "order_id": "1001", "type": "MARKET", "side": "buy", "size": Decimal("94.7"), "price": Decimal("2.1118"),
    "status": "FILLED", "filled": Decimal("94.7"), "remaining": Decimal(0), "fee": Decimal("0.11"),
    "fee_currency": "USDT",
}  # fmt: skip
ENTRY_TRADE = TRADE | {
    "signal_id": 4711, "order_id": "1001", "order_type": "MARKET", "side": "buy", "quantity": Decimal("94.7"),
    "price": Decimal("2.1118"), "executed_qty": Decimal("94.7"), "status": "FILLED", "fee": Decimal("0.11"),
    "fee_currency": "USDT",
}  # fmt: skip
STOP = ORDER | {
    "order_id": "1002", "type": "STOP_MARKET", "side": "sell", "size": Decimal("94.7"), "price": Decimal("2.0696"),
    "status": "NEW", "filled": Decimal(0), "remaining": Decimal("94.7"),
}  # fmt: skip
EXIT = ENTRY | {"order_id": "1003", "side": "sell", "price": Decimal("2.2")}
EXIT_TRADE = ENTRY_TRADE | {"order_id": "1003", "side": "sell", "price": Decimal("2.2"), "reason": "signal"}
DONE = {"status": "FILLED", "filled": Decimal("94.7"), "remaining": Decimal(0)}


def opened(audit: AuditLog) -> Position:
    """A position with its entry filled and its stop placed, as most of them begin."""
    position = audit.position(
        position_id=55, exchange="bybit", symbol="MNT/USDT:USDT", side="buy", quantity=94.7, signal_id=4711
    )
    position.entry_filled(filled("1001", "buy", 2.1118))
    position.stop_loss_placed({"id": "1002", "info": {"retCode": "0"}}, price=2.0696)
    return position


class Story:
    """What a bot wrote, loaded by the real command and asked with SQL."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory = directory
        self.dsn = dsn

    async def told(self, bot: Callable[[AuditLog], object]) -> tuple[list[dict[str, Any]], ...]:
        """Play a bot and load its log; (orders, trades, changes of orders) of position 55."""
        with AuditLog(self.directory, service="fox-bot") as audit:
            bot(audit)
        async with Loader(LoadSettings(directory=self.directory, dsn=self.dsn)) as loader:
            loaded = await loader.take()
        assert (loaded.rejected, loaded.repaired, loaded.lost) == (0, 0, 0)
        assert await all_loaded(self.dsn, self.directory) == loaded.records
        return await self.ask(ORDERS, "55"), await self.ask(TRADES, "55"), await self.ask(UPDATES, "55")

    async def ask(self, sql: str, *args: object) -> list[dict[str, Any]]:
        async with await Database.connect(self.dsn) as database:
            return await database.fetch(sql, *args)


@pytest.fixture
def story(dsn: str, tmp_path: Path) -> Story:
    return Story(tmp_path / "audit", dsn)


def change(order_id: str, reason: str, **fields: Any) -> dict[str, Any]:
    return {"order_id": order_id, "status": None, "price": None, "reason": reason, **fields}


async def test_an_entry_is_an_order_and_a_trade_and_its_stop_an_order_that_waits(story: Story) -> None:
    orders, trades, changes = await story.told(opened)
    assert orders == [ENTRY, STOP]
    assert trades == [ENTRY_TRADE]  # a stop is no trade until it is executed
    assert changes == []


async def test_a_position_leads_to_its_orders_and_its_trades(story: Story) -> None:
    def two_positions(audit: AuditLog) -> None:
        opened(audit)
        other = audit.position(position_id="56", exchange="binance", symbol="BTC/USDT", side="short", quantity="0.5")
        other.entry_filled(order_id=1001, price="91250.4")

    await story.told(two_positions)
    await story.ask(
        "INSERT INTO monitoring.positions (id, exchange, symbol, side, quantity, exchange_order_id) VALUES"
        " (55, 'bybit', 'MNT/USDT:USDT', 'buy', 94.7, '1001'), (56, 'binance', 'BTC/USDT', 'sell', 0.5, '1001')"
    )
    linked = await story.ask(
        """
        SELECT p.id, p.exchange_order_id, o.order_id, o.type, o.side, t.price, t.signal_id
        FROM monitoring.positions AS p
        JOIN monitoring.orders AS o ON o.position_id = p.id::text
        LEFT JOIN monitoring.trades AS t
            ON t.position_id = p.id::text AND (t.exchange, t.symbol, t.order_id) = (o.exchange, o.symbol, o.order_id)
        ORDER BY p.id, o.seq"""
    )
    assert [tuple(row.values()) for row in linked] == [
        (55, "1001", "1001", "MARKET", "buy", Decimal("2.1118"), 4711),
        (55, "1001", "1002", "STOP_MARKET", "sell", None, None),
        (56, "1001", "1001", "MARKET", "sell", Decimal("91250.4"), None),
    ]


async def test_an_exit_is_an_order_and_a_trade_and_the_stop_is_cancelled(story: Story) -> None:
    def bot(audit: AuditLog) -> None:
        position = opened(audit)
        position.exit_filled(filled("1003", "sell", 2.2), reason="signal")
        position.closed(reason="signal")

    orders, trades, changes = await story.told(bot)
    assert orders == [ENTRY, STOP | {"status": "CANCELED"}, EXIT]
    assert trades == [ENTRY_TRADE, EXIT_TRADE]
    assert changes == [change("1002", "position_closed", status="CANCELED")]
    (event,) = await story.ask(
        "SELECT event_type, position_id, symbol, event_data ->> 'reason' AS why FROM monitoring.events"
    )
    assert tuple(event.values()) == ("position.closed", "55", "MNT/USDT:USDT", "signal")


async def test_a_stop_that_is_moved_keeps_its_order(story: Story) -> None:
    orders, trades, changes = await story.told(
        lambda audit: opened(audit).stop_loss_moved({"id": "1002"}, price=2.0907, reason="trailing stop")
    )
    assert orders == [ENTRY, STOP | {"price": Decimal("2.0907")}]
    assert trades == [ENTRY_TRADE]
    assert changes == [change("1002", "trailing stop", price=Decimal("2.0907"))]


async def test_a_stop_that_is_replaced_is_cancelled_and_another_waits(story: Story) -> None:
    orders, trades, changes = await story.told(
        lambda audit: opened(audit).stop_loss_moved({"id": "1004"}, price=2.0907)
    )
    assert orders == [ENTRY, STOP | {"status": "CANCELED"}, STOP | {"order_id": "1004", "price": Decimal("2.0907")}]
    assert trades == [ENTRY_TRADE]
    assert changes == [change("1002", "replaced", status="CANCELED")]


async def test_a_stop_that_is_hit_becomes_a_trade(story: Story) -> None:
    def bot(audit: AuditLog) -> None:
        position = opened(audit)
        position.take_profit_placed({"id": "1005"}, price=2.4)
        position.stop_loss_triggered(filled("1002", "sell", 2.0691))

    orders, trades, changes = await story.told(bot)
    profit = {"order_id": "1005", "type": "TAKE_PROFIT_MARKET", "price": Decimal("2.4"), "status": "CANCELED"}
    paid = {"fee": Decimal("0.11"), "fee_currency": "USDT"}
    assert orders == [ENTRY, STOP | DONE | paid, STOP | profit]
    stopped = {"order_id": "1002", "order_type": "STOP_MARKET", "price": Decimal("2.0691"), "reason": "stop_loss"}
    assert trades == [ENTRY_TRADE, EXIT_TRADE | stopped]
    assert changes == [
        change("1002", "stop_loss", status="FILLED"),
        change("1005", "position_closed", status="CANCELED"),
    ]


async def test_a_take_profit_is_a_trade_and_ends_the_stop(story: Story) -> None:
    def bot(audit: AuditLog) -> None:
        position = opened(audit)
        position.take_profit_placed({"id": "1005", "type": "limit", "price": 2.4, "status": "open"})
        position.exit_filled(filled("1005", "sell", 2.4, type="limit", price=2.4, fee=None))

    orders, trades, changes = await story.told(bot)
    profit = {"order_id": "1005", "type": "LIMIT", "price": Decimal("2.4")}
    assert orders == [ENTRY, STOP | {"status": "CANCELED"}, STOP | profit | DONE]
    won = {"order_id": "1005", "order_type": "LIMIT", "price": Decimal("2.4"), "reason": "take_profit"}
    assert trades == [ENTRY_TRADE, EXIT_TRADE | won | {"fee": None, "fee_currency": None}]
    assert changes == [
        change("1005", "take_profit", status="FILLED"),
        change("1002", "position_closed", status="CANCELED"),
    ]


async def test_a_closure_that_only_a_sync_saw_is_an_estimated_trade(story: Story) -> None:
    orders, trades, changes = await story.told(lambda audit: opened(audit).closed_by_sync(price=Decimal("2.0700")))
    assert orders == [ENTRY, STOP]
    seen = {"order_id": None, "order_type": None, "price": Decimal("2.07"), "status": None, "reason": "sync"}
    assert trades == [ENTRY_TRADE, EXIT_TRADE | seen | {"fee": None, "fee_currency": None, "estimated": True}]
    assert changes == []


async def test_an_entry_that_was_filled_in_part_is_protected_and_left_as_that_part(story: Story) -> None:
    def bot(audit: AuditLog) -> None:
        position = audit.position(**(LINK | {"side": "long", "quantity": 94.7, "signal_id": 4711}))
        ioc = {"type": "limit", "timeInForce": "IOC", "status": "canceled", "price": 2.12, "fee": None}
        fills = [
            {"id": "t1", "amount": 40, "price": 2.11, "fee": {"cost": 0.05, "currency": "USDT"}},
            {"id": "t2", "amount": 20, "price": 2.12, "fee": {"cost": "-0.01", "currency": "BNB"}},
        ]
        position.entry_filled(filled("1001", "buy", 2.1133, **ioc, filled=60, remaining=34.7, trades=fills))
        position.stop_loss_placed("1002", price=2.0696)
        position.exit_filled(order_id="1003", price=2.2, fee=0.11, fee_currency="USDT", reason="signal")

    orders, trades, _ = await story.told(bot)
    part = {"filled": Decimal(60), "remaining": Decimal("34.7")}
    limit = {"type": "LIMIT", "price": Decimal("2.12"), "status": "CANCELED", "fee": None, "fee_currency": None}
    sixty = {"size": Decimal(60), "remaining": Decimal(60)}
    assert orders == [
        ENTRY | limit | part,
        STOP | sixty | {"status": "CANCELED"},
        EXIT | {"size": Decimal(60), "filled": Decimal(60)},
    ]
    first = {
        "order_type": "LIMIT",
        "trade_id": "t1",
        "quantity": Decimal(40),
        "executed_qty": Decimal(40),
        "price": Decimal("2.11"),
    }
    second = {
        "order_type": "LIMIT",
        "trade_id": "t2",
        "quantity": Decimal(20),
        "executed_qty": Decimal(20),
        "price": Decimal("2.12"),
    }
    assert trades == [
        ENTRY_TRADE | first | {"status": "CANCELED", "fee": Decimal("0.05")},
        ENTRY_TRADE | second | {"status": "CANCELED", "fee": Decimal("-0.01"), "fee_currency": "BNB"},
        EXIT_TRADE | {"quantity": Decimal(60), "executed_qty": Decimal(60)},
    ]


async def test_a_limit_order_that_met_nobody_is_an_order_and_no_trade(story: Story) -> None:
    def bot(audit: AuditLog) -> None:
        position = audit.position(**(LINK | {"side": "buy", "quantity": 94.7}))
        ioc = {"type": "limit", "timeInForce": "IOC", "status": "canceled", "price": 2.1, "fee": None}
        position.entry_filled(filled("1001", "buy", 0, **ioc, filled=0, remaining=94.7))

    orders, trades, changes = await story.told(bot)
    nothing = {
        "status": "CANCELED",
        "filled": Decimal(0),
        "remaining": Decimal("94.7"),
        "fee": None,
        "fee_currency": None,
    }
    assert orders == [ENTRY | nothing | {"type": "LIMIT", "price": Decimal("2.1")}]
    assert (trades, changes) == ([], [])


# -- the log fails, and the position does not --


def trade(audit: AuditLog, broken: Callable[[], object]) -> Decimal:
    """A bot's own reckoning of a hundred positions, in the middle of which the log breaks."""
    won = Decimal(0)
    for number in range(100):
        position = audit.position(**LINK, side="buy", quantity=94.7)
        position.entry_filled(filled(f"{number}-1", "buy", 2.1118))
        position.stop_loss_placed({"id": f"{number}-2"}, price=2.0696)
        if number == 50:
            broken()
        position.exit_filled(filled(f"{number}-3", "sell", 2.2), reason="signal")
        won += Decimal("94.7") * (Decimal("2.2") - Decimal("2.1118"))
    return won


RECORDS = 600  # of the hundred positions
WON = 100 * Decimal("94.7") * Decimal("0.0882")


def test_a_log_that_was_closed_does_not_break_the_position(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit", service="fox-bot")
    assert trade(audit, audit.close) == WON
    done = audit.stats()
    assert (done.emitted, done.written, done.lost_by_reason) == (RECORDS, 303, {"closed": 297})


def test_a_log_whose_folder_is_removed_does_not_break_the_position(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    audit = AuditLog(directory, service="fox-bot", segment_max_bytes=20_000, flush_interval_ms=1)

    def removed() -> None:
        while directory.exists():  # the writer may make its next file meanwhile
            shutil.rmtree(directory, ignore_errors=True)

    assert trade(audit, removed) == WON
    audit.close()
    done = audit.stats()
    assert done.emitted == RECORDS == done.written + done.lost


FULL = """
import json, sys
from pathlib import Path
from emitter import AuditLog
from tests.acceptance.test_mission import full_disk, trade

audit = AuditLog(Path(sys.argv[1]), service="fox-bot", ring_bytes=65536, flush_interval_ms=1)
won = trade(audit, full_disk)
audit.close(timeout=0.5)
done = audit.stats()
print(json.dumps([str(won), done.emitted, done.lost]))
"""


def full_disk() -> None:
    """From here on no file of this process grows."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def played(script: str, directory: Path) -> str:
    """What a bot in a process of its own prints."""
    words = [sys.executable, "-c", script, str(directory)]
    return subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout


async def test_a_disk_that_is_full_does_not_break_the_position_and_the_log_accounts_for_all(story: Story) -> None:
    won, emitted, lost = json.loads(played(FULL, story.directory))
    assert (Decimal(won), emitted) == (WON, RECORDS)
    assert lost > 0
    loaded = answer("load", "--dir", story.directory, "--dsn", story.dsn, code=1)  # the loss is a finding
    assert (loaded["records"] + loaded["lost"], loaded["lost"]) == (RECORDS, lost)
    assert await all_loaded(story.dsn, story.directory) == RECORDS - lost
