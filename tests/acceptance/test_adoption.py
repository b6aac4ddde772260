"""A bot with a repository of its own takes the trail in: its call sites stay, and nothing in them can fail it.

The Python blocks of ``docs/adopting.md`` are run here, against tables that the bot had before.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import pytest

from emitter import AuditLog, AuditRepository
from emitter.testing import captured_records

from ..bots import tmpfs_folder
from ..command import answer, tradetrail
from ..contents import all_loaded
from ..disks import grow, small_tmpfs
from ..documents import Page
from ..watching import until

PAGE = Page("docs/adopting.md")
SYMBOL = "MNT/USDT:USDT"
LINK = {"exchange": "bybit", "symbol": SYMBOL}
SMALL: dict[str, Any] = {"service": "fox-bot", "ring_bytes": 64 * 1024, "flush_interval_ms": 1, "fsync_interval_ms": 5}
SLOW_S = 0.01  # of a position's three calls, in the middle of many: the machine does other things as well
logger = logging.getLogger("fox-bot")


def said() -> dict[str, Any]:
    """What the blocks of docs/adopting.md define."""
    names: dict[str, Any] = {}
    for number, code in enumerate(PAGE.code("python")):
        exec(compile(code, f"docs/adopting.md, block {number}", "exec"), names)
    return names


class Exchange:
    """Fills at once, as ccxt would tell it."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []

    async def create_order(
        self,
        symbol: str,
        type: str,  # noqa: A002
        side: str,
        amount: float,
        price: float | None = None,
    ) -> dict[str, Any]:
        waits = type != "market"
        order = {
            "id": str(1000 + len(self.orders)), "clientOrderId": None, "symbol": symbol, "type": type, "side": side,
            "amount": amount, "average": None if waits else 2.1118, "filled": 0 if waits else amount,
            "remaining": amount if waits else 0, "status": "open" if waits else "closed", "fee": None,
        }  # fmt: skip
        self.orders.append(order)
        return order


# -- the plan's call sites, as they would stand in a bot: entry order, entry trade, stop order, each on its own --


class PositionManager:
    def __init__(self, exchange: Exchange, repository: Any) -> None:
        self.exchange = exchange
        self.repository = repository
        self.positions: dict[int, dict[str, Any]] = {}
        self.failures: list[str] = []

    async def open_position(self, signal_id: int | str, symbol: str, quantity: float) -> dict[str, Any]:
        entry = await self.exchange.create_order(symbol, "market", "buy", quantity)
        position_id = await self.repository.create_position(
            {"exchange": "bybit", "symbol": symbol, "side": "long", "quantity": quantity,
             "entry_price": entry["average"]}
        )  # fmt: skip

        try:
            order_id = await self.repository.create_order({
                "position_id": str(position_id),
                "exchange": "bybit",
                "symbol": symbol,
                "order_id": entry["id"],
                "client_order_id": entry.get("clientOrderId"),
                "type": "MARKET",
                "side": "buy",
                "size": quantity,
                "price": entry["average"],
                "status": "FILLED",
                "filled": entry["filled"],
                "remaining": 0,
                "fee": entry["fee"],
                "fee_currency": None,
            })  # fmt: skip
            if not order_id:
                raise RuntimeError("the entry order has no id")
        except Exception as error:
            logger.exception("entry order not saved")
            self.failures.append(repr(error))

        try:
            trade_id = await self.repository.create_trade({
                "signal_id": signal_id,
                "symbol": symbol,
                "exchange": "bybit",
                "side": "buy",
                "order_type": "MARKET",
                "quantity": quantity,
                "price": entry["average"],
                "executed_qty": entry["filled"],
                "average_price": entry["average"],
                "order_id": entry["id"],
                "client_order_id": entry.get("clientOrderId"),
                "status": "FILLED",
                "fee": Decimal("0.11"),
                "fee_currency": "USDT",
            })  # fmt: skip
            if not trade_id:
                raise RuntimeError("the entry trade has no id")
        except Exception as error:
            logger.exception("entry trade not saved")
            self.failures.append(repr(error))

        stop = await self.exchange.create_order(symbol, "stop_market", "sell", quantity, 2.0696)
        try:
            stop_id = await self.repository.create_order({
                "position_id": str(position_id),
                "exchange": "bybit",
                "symbol": symbol,
                "order_id": stop["id"],
                "client_order_id": stop.get("clientOrderId"),
                "type": "STOP_MARKET",
                "side": "sell",
                "size": quantity,
                "price": 2.0696,
                "status": "NEW",
                "filled": 0,
                "remaining": quantity,
                "fee": None,
                "fee_currency": None,
            })  # fmt: skip
            if not stop_id:
                raise RuntimeError("the stop order has no id")
        except Exception as error:
            logger.exception("stop order not saved")
            self.failures.append(repr(error))

        self.positions[position_id] = {"entry": entry["id"], "stop": stop["id"], "quantity": quantity}
        return self.positions[position_id]


# -- a repository with tables of its own --


@pytest.fixture
def old_repository() -> Any:
    return said()["OldRepository"]


@asynccontextmanager
async def connected(dsn: str) -> Any:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        yield pool


async def fetch(dsn: str, sql: str, *args: Any) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [dict(row) for row in await connection.fetch(sql, *args)]
    finally:
        await connection.close()


@pytest.mark.parametrize("way", ["inheritance", "delegation"])
async def test_positions_stay_the_old_ones_and_orders_and_trades_come_by_the_trail(
    migrated_existing_dsn: str, tmp_path: Path, way: str
) -> None:
    dsn, names = migrated_existing_dsn, said()
    before = (await fetch(dsn, "SELECT (SELECT count(*) FROM monitoring.orders) AS orders,"
                               " (SELECT count(*) FROM monitoring.trades) AS trades"))[0]  # fmt: skip
    with AuditLog(tmp_path / "audit", **SMALL) as audit:
        async with connected(dsn) as pool:
            if way == "inheritance":
                repository = names["Repository"](pool, audit)
            else:
                repository = names["wrapped"](names["OldRepository"](pool), audit)
            exchange = Exchange()
            bot = PositionManager(exchange, repository)
            await bot.open_position("unknown", SYMBOL, 94.7)
            await repository.update_order(3, status="CANCELED", price=Decimal("2.0907"))
            position_id, order_id = await names["open_position"](repository, exchange, SYMBOL, 10.5)
    assert bot.failures == []
    assert order_id == 5
    loaded = answer("load", "--dir", tmp_path / "audit", "--dsn", dsn)
    assert (loaded["rejected"], loaded["lost"]) == (0, 0)
    assert (loaded["orders"], loaded["trades"]) == (3, 1)
    rows = await fetch(
        dsn,
        "SELECT p.quantity, o.order_id, o.type, o.status, o.price FROM monitoring.positions AS p"
        " JOIN monitoring.orders AS o ON o.position_id = p.id::text WHERE o.stream IS NOT NULL ORDER BY o.seq",
    )
    stop = {"type": "STOP_MARKET", "status": "CANCELED", "price": Decimal("2.0907")}
    entry = {"type": "MARKET", "status": "FILLED", "price": Decimal("2.1118")}
    assert rows == [
        {"quantity": Decimal("94.7"), "order_id": "1000", **entry},
        {"quantity": Decimal("94.7"), "order_id": "1001", **stop},
        {"quantity": Decimal("10.5"), "order_id": "1002", **entry},
    ]
    (trade,) = await fetch(dsn, "SELECT signal_id, fee, order_id FROM monitoring.trades WHERE stream IS NOT NULL")
    assert trade == {"signal_id": None, "fee": Decimal("0.11"), "order_id": "1000"}
    old = await fetch(dsn, "SELECT (SELECT count(*) FROM monitoring.orders WHERE stream IS NULL) AS orders,"
                           " (SELECT count(*) FROM monitoring.trades WHERE stream IS NULL) AS trades")  # fmt: skip
    assert old == [before]
    assert position_id == max(row["id"] for row in await fetch(dsn, "SELECT id FROM monitoring.positions"))


async def test_with_the_disk_full_and_the_database_away_positions_are_opened_all_the_same(
    dsn: str, tmp_path: Path, old_repository: type
) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there, and nobody else comes
        taken.bind(("127.0.0.1", 0))
        away = f"postgresql://bot@127.0.0.1:{taken.getsockname()[1]}/bot"
        with small_tmpfs(tmp_path / "disk", "1m") as disk, tmpfs_folder() as rings:
            log = disk / "audit"
            bot, audit = await trade_on_a_full_disk(disk, AuditLog(log, ring_dir=rings, **SMALL), away, old_repository)
            grow(disk, "32m")
            assert audit.flush(30), audit.stats()
            written, lost = audit.stats().written, audit.stats().lost
            assert written + lost == 3 * len(bot.positions)
            assert lost > 0
            audit.close()
            loaded = answer("load", "--dir", log, "--dsn", dsn, code=1)  # 1: records were lost, and it says so
            assert (loaded["records"], loaded["rejected"], loaded["lost"]) == (written, 0, lost)
            assert loaded["orders"] + loaded["trades"] == written
            assert await all_loaded(dsn, log) == written


async def trade_on_a_full_disk(
    disk: Path, audit: AuditLog, away: str, old_repository: type
) -> tuple[PositionManager, AuditLog]:
    class InMemory(old_repository):  # type: ignore[misc]
        """Orders and trades as ever; positions where a bot has them that outlives its database."""

        def __init__(self) -> None:
            super().__init__(None)
            self.count = 0

        async def create_position(self, position: dict[str, Any]) -> int:
            self.count += 1
            return self.count

        async def create_order(self, order: dict[str, Any]) -> int:
            self.pool = self.pool or await asyncpg.create_pool(away)
            return await super().create_order(order)

    class WithTrail(AuditRepository, InMemory):
        def __init__(self) -> None:
            AuditRepository.__init__(self, audit)
            InMemory.__init__(self)

    with pytest.raises(ConnectionRefusedError):  # what the bot's own way would have met
        await InMemory().create_order(LINK)
    (disk / "ballast").write_bytes(b"\0" * 512 * 1024)
    fill(disk / "more")
    bot, took = PositionManager(Exchange(), WithTrail()), []
    while audit.stats().lost < 30:
        begun = time.perf_counter()
        position = await bot.open_position(4711, SYMBOL, 94.7)
        took.append(time.perf_counter() - begun)
        assert position["stop"] == bot.exchange.orders[-1]["id"]
    assert bot.failures == []
    assert len(bot.exchange.orders) == 2 * len(bot.positions) > 40
    assert median(took) < SLOW_S
    until(lambda: "No space left on device" in str(audit.stats().last_error))  # the ring may be full before the disk is
    return bot, audit


def fill(path: Path) -> None:
    """A file that takes what a disk has left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


# -- what else docs/adopting.md shows --


async def test_a_change_of_an_order_that_nobody_knows_is_kept_and_can_be_mended(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "audit"
    with AuditLog(log, **SMALL) as audit:
        audit.order(**LINK, order_id="1002", type="STOP_MARKET", side="sell", status="NEW")
        await AuditRepository(audit).update_order("1002", status="CANCELED")
        audit.event("bot.stopped")
    loaded = answer("load", "--dir", log, "--dsn", dsn, code=1)
    assert (loaded["records"], loaded["rejected"]) == (3, 1)
    tradetrail("rejects", "export", tmp_path / "mend.jsonl", "--dsn", dsn)
    kept = json.loads((tmp_path / "mend.jsonl").read_text())
    record = json.loads(kept["line"])
    assert record["attributes"] == {"order_id": "1002", "status": "CANCELED"}
    kept["line"] = json.dumps({**record, "attributes": {**LINK, **record["attributes"]}}, separators=(",", ":"))
    (tmp_path / "mend.jsonl").write_text(json.dumps(kept))
    done = tradetrail("rejects", "retry", "--from", tmp_path / "mend.jsonl", "--dsn", dsn)
    assert done.returncode == 0, done
    assert await fetch(dsn, "SELECT order_id, status FROM monitoring.orders") == [
        {"order_id": "1002", "status": "CANCELED"}
    ]


async def test_the_ways_to_say_where_an_order_is_and_to_link_it(tmp_path: Path) -> None:
    names = said()
    with AuditLog(tmp_path, **SMALL) as audit:
        await names["after_a_restart"](audit)
        await names["protect"](audit, AuditRepository(audit), 55, 4711)
        *updates, stop = (record["attributes"] for record in captured_records(audit))
    assert updates == [{**LINK, "order_id": order_id, "status": "CANCELED"} for order_id in ("1002", "1003", "1004")]
    assert stop == {"position_id": 55, "signal_id": 4711, **LINK, "order_id": "1002", "type": "STOP_MARKET",
                    "side": "sell", "size": 94.7, "price": 2.0696, "status": "NEW"}  # fmt: skip


def test_the_handler_beside_a_queue(tmp_path: Path) -> None:
    waiting: queue.Queue[Any] = queue.Queue(1)
    log = logging.Logger("bot")
    log.addHandler(logging.handlers.QueueHandler(waiting))
    with AuditLog(tmp_path, **SMALL) as audit:
        said()["add_to"](log, audit)
        log.info("order.created", extra={"audit": {**LINK, "order_id": "1001", "severity": "of its own"}})
        assert waiting.get().getMessage() == "order.created"
        log.warning("position.%s", "closed", extra={"audit": {"reason": "stop"}})
        waiting.get()
        log.info("not for the trail")
        records = [(r["event_name"], r["severity_text"], r["attributes"]) for r in captured_records(audit)]
    assert records == [
        ("order.created", "INFO", {**LINK, "order_id": "1001", "severity": "of its own"}),
        ("position.closed", "WARN", {"reason": "stop"}),
    ]


def test_the_test_of_a_bot(tmp_path: Path) -> None:
    (code,) = (code for code in PAGE.code("python") if "def test_" in code)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["emitter.testing"]\n')
    (tmp_path / "test_bot.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
