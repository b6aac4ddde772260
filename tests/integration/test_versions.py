"""The embedded PostgreSQL and the one that the machine has (15 on Debian 12) are given the same, and hold the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings

from ..contents import all_loaded, assert_same, contents
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.postgres import Cluster
from ..plugins.server import Server, machine_programs, started

LATER = "2026-11-22T14:00:00.000000Z"
EARLIER = "2026-11-22T12:00:00.000000Z"


def _records(stream: str) -> list[bytes]:
    """All that a loader meets; the order o7 is of both streams."""
    other = stream == OTHER_STREAM
    fields = [
        ("order.updated", update(order_id="o7", filled=3, status="PARTIALLY_FILLED")),  # before its creation
        ("order.created", order(order_id="o7", client_order_id="c7", status="NEW", size="0.1")),
        ("order.updated", update(order_id=None, client_order_id="c7", status="FILLED", filled=4, average_price=2)),
        ("order.updated", update(order_id="o7", status="NEW", price=1)),  # after a final status: left out
        ("order.created", order(order_id="o7", status="CANCELED")),  # again
        ("order.created", order(order_id=None, status="Odd one", type="ICEBERG", side="SELL")),  # repaired, kept
        ("order.created", order(order_id=f"{stream}-1", price="1e-12", size="123456789.123456789")),  # more decimals
        ("order.created", order(order_id=f"{stream}-2", price="1e13", fee={"cost": "-0.1", "currency": "USDT"})),
        ("order.created", order(order_id=f"{stream}-3", symbol="1000000PEIPEI/USDT:USDT")),  # 23 characters
        ("order.created", order(order_id="o9", symbol=None)),  # rejected
        ("order.updated", {"exchange": "bybit", "symbol": "MNTUSDT", "status": "FILLED"}),  # of which order?
        ("trade.executed", trade(trade_id=f"{stream}-1", quantity="NaN", signal_id="unknown")),  # repaired
        ("trade.executed", trade(trade_id=f"{stream}-1", price=9)),  # repeated
        (
            "trade.executed",
            trade(trade_id=None, fees=[{"currency": "USDT", "cost": 1}, {"currency": "MNT", "cost": 2}]),
        ),
        ("trade.executed", trade(trade_id=f"{stream}-2", signal_id=4711, executed_at=1_795_000_000_123_456)),
        ("trade.executed", trade(trade_id=f"{stream}-3", executed_qty="much")),  # rejected
        (
            "position.closed",
            {"position_id": 55, "reason": "Größe \N{GRINNING FACE}", "deep": {"a": [1, None, "1e400"]}},
        ),
        ("error", {"position_id": "pending", "error_message": "x" * 3000, "symbol": "1000000PEIPEI/USDT:USDT"}),
        ("no.times", {"at": "9999999999999999999999"}),
    ]
    times = [EARLIER if other else LATER, *[None] * len(fields)]
    return [
        line(seq, name, attributes, stream=stream, timestamp=time)
        for seq, ((name, attributes), time) in enumerate(zip(fields, times, strict=False), 1)
    ] + [
        b'{"stream":"%b","seq":20,"timestamp":"2026-11-22T13:1\n' % stream.encode(),  # torn
        b"\xff\xfe no text\n",
        line(22, "nul", {"text": "a\0b"}, stream=stream),
        line(23, "bot.noted", {}, stream=stream, timestamp="no time"),
        line(24, "bot.noted", {"text": '"quoted", \\N and\ttabs'}, stream=stream),
    ]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for stream in (STREAM, OTHER_STREAM):
        lines = _records(stream)
        for number, part in enumerate((lines[:5], lines[5:13], lines[13:]), 1):
            segment(tmp_path / "audit", part, stream=stream, number=number)
    return tmp_path / "audit"


@pytest.fixture(scope="module")
def machines_server() -> Iterator[Server]:
    with started(machine_programs()) as running:
        yield running


async def _load(dsn: str, directory: Path, batch_bytes: int) -> dict[str, list[str]]:
    async with Loader(LoadSettings(directory=directory, dsn=dsn, batch_bytes=batch_bytes)) as loader:
        totals = await loader.take()
    assert totals.records == await all_loaded(dsn, directory) == 2 * 24
    return await contents(dsn)


@pytest.mark.parametrize("existing", [False, True], ids=["fresh", "existing bot"])
def test_both_servers_hold_the_same(machines_server: Server, cluster: Cluster, directory: Path, existing: bool) -> None:
    """And so they do whatever the batches are: what else stands in one changes no row."""
    found = []
    machines = Cluster(machines_server.dsn())
    for of, batch_bytes in ((machines, 1500), (cluster, 1500), (cluster, 1_000_000)):
        with of.database(of.template(existing=existing, migrated=True)) as dsn:
            found.append(asyncio.run(_load(dsn, directory, batch_bytes)))
            print(asyncio.run(_version(dsn)))
    machines.close()
    ours, embedded, at_once = found
    assert_same(ours, embedded)
    assert_same(at_once, embedded)
    mine = {table: [row for row in rows if STREAM[:-1] in row] for table, rows in ours.items()}
    counts = {table: len(rows) for table, rows in mine.items()}
    print(counts)
    # What an update does not say, the row of its order has already.
    assert not [row for row in ours["audit_rejects"] if "column_not_null" in row]
    assert counts["audit_segments"] == 6
    assert min(counts.values()) >= 5


async def _version(dsn: str) -> str:
    async with await Database.connect(dsn) as database:
        return str(await database.fetchval("SHOW server_version"))
