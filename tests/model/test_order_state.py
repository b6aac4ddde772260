"""``order_as_of`` and ``order_history``: an order at each instant, held against the fold of the records up to it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings

from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings
from loader.statements import sql_dir

from ..lines import STREAM, line, order, segment, update
from .test_fold import EARLY_FINAL, FOLDED, Record, _load, expected, histories

START = datetime(2026, 11, 22, 13, tzinfo=UTC)
SHOWN = ("order_id", "side", *FOLDED)
_EACH_AS_OF = f"""
SELECT o.stream AS row_stream, o.seq AS row_seq, {", ".join(f"s.{name}" for name in SHOWN)}, s.recorded_at
FROM monitoring.orders AS o
CROSS JOIN LATERAL monitoring.order_as_of(o.exchange, o.symbol, o.order_id, $1, o.stream, o.seq) AS s
ORDER BY o.stream, o.seq
"""


async def _at_each_instant(dsn: str, records: list[Record]) -> None:
    async with await Database.connect(dsn) as database:
        for moment in range(-1, 8):
            at = START + timedelta(seconds=moment)
            wanted = expected([record for record in records if record.moment <= moment])
            found = await database.fetch(_EACH_AS_OF, at)
            assert [_comparable(row) for row in found] == [_comparable(row) for row in wanted]
            assert all(row["recorded_at"] <= at for row in found)


def _comparable(row: dict[str, Any]) -> list[Any]:
    place = [row.get("row_stream", row.get("stream")), row.get("row_seq", row.get("seq"))]
    return place + [row[name] for name in SHOWN]  # a Decimal equals its integer


@pytest.mark.timeout(300)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
@example((EARLY_FINAL, [0, 1, 2]))
@example((EARLY_FINAL, [2, 1, 0]))
@example((EARLY_FINAL, [0, 0, 0]))
def test_at_each_instant_it_is_the_fold_of_what_was_recorded_by_then(
    dsn: str, history: tuple[list[Record], list[int]]
) -> None:
    records, loads = history
    asyncio.run(_load(dsn, records, loads))
    asyncio.run(_at_each_instant(dsn, records))


async def _taken(dsn: str, folder: Path, *lines: bytes) -> None:
    segment(folder, lines)
    async with Loader(LoadSettings(directory=folder, dsn=dsn)) as loader:
        assert (await loader.take()).rejected == 0


def _at(second: int) -> str:
    return f"2026-11-22T13:00:{second:02d}Z"


STOP = {"type": "STOP_MARKET", "status": "NEW", "price": 2.0, "size": None, "client_order_id": "c1"}


async def test_every_step_is_listed_with_what_it_changed(dsn: str, tmp_path: Path) -> None:
    """A stop that moves, fills, and is then said to be open by a late answer."""
    await _taken(
        dsn,
        tmp_path / "audit",
        line(1, "order.created", order(**STOP), timestamp=_at(0)),
        line(2, "order.updated", update(price="2.05", reason="trailing stop"), timestamp=_at(1)),
        line(
            3,
            "order.updated",
            update(order_id=None, client_order_id="c1", status="FILLED", average_price="2.0499", filled=94.7),
            timestamp=_at(2),
        ),
        line(4, "order.updated", update(status="NEW", price=9), timestamp=_at(3)),
        line(5, "order.updated", update(fee=0.1, fee_currency="USDT"), timestamp=_at(4)),
    )
    async with await Database.connect(dsn) as database:
        steps = await database.fetch("SELECT * FROM monitoring.order_history('bybit', 'MNTUSDT', 'o1')")
        assert [(s["place"], s["seq"], s["kind"], s["counts"]) for s in steps] == [
            (1, 1, "created", True),
            (2, 2, "updated", True),
            (3, 3, "updated", True),
            (4, 4, "updated", False),
            (5, 5, "updated", True),
        ]
        assert [str(s["price"]) for s in steps] == ["2.0", "2.05", "None", "9", "None"]
        states = [
            await database.fetchrow(
                "SELECT * FROM monitoring.order_as_of('bybit', 'MNTUSDT', 'o1', $1)", START + timedelta(seconds=n)
            )
            for n in range(-1, 5)
        ]
        assert states[0] is None
        known = [state for state in states if state is not None]
        assert [(s["status"], str(s["price"]), s["reason"], s["seq"]) for s in known] == [
            ("NEW", "2.0", None, 1),
            ("NEW", "2.05", "trailing stop", 2),
            ("FILLED", "2.05", "trailing stop", 3),
            ("FILLED", "2.05", "trailing stop", 3),
            ("FILLED", "2.05", "trailing stop", 5),
        ]
        assert [str(s["average_price"]) for s in known] == ["None", "None", "2.0499", "2.0499", "2.0499"]
        assert (str(known[-1]["fee"]), known[-1]["fee_currency"], known[-1]["position_id"]) == ("0.1", "USDT", "55")


async def test_what_waits_for_its_order_is_history_but_no_state(dsn: str, tmp_path: Path) -> None:
    await _taken(dsn, tmp_path / "audit", line(1, "order.updated", update(status="FILLED"), timestamp=_at(0)))
    async with await Database.connect(dsn) as database:
        steps = await database.fetch("SELECT * FROM monitoring.order_history('bybit', 'MNTUSDT', 'o1')")
        assert [(s["kind"], s["status"]) for s in steps] == [("updated", "FILLED")]
        assert await database.fetch("SELECT * FROM monitoring.order_as_of('bybit', 'MNTUSDT', 'o1', 'infinity')") == []


async def test_an_order_without_id_is_named_by_its_record(dsn: str, tmp_path: Path) -> None:
    await _taken(
        dsn,
        tmp_path / "audit",
        line(1, "order.created", order(order_id=None, **STOP), timestamp=_at(0)),
        line(2, "order.created", order(order_id=None, status="NEW", price=7), timestamp=_at(0)),
        line(3, "order.updated", update(order_id=None, client_order_id="c1", price=3), timestamp=_at(1)),
    )
    async with await Database.connect(dsn) as database:
        asked = (
            "SELECT price, order_id, client_order_id FROM monitoring.order_as_of('bybit', 'MNTUSDT', NULL, $1, $2, $3)"
        )
        for second, seq, wanted in ((0, 1, 2), (1, 1, 3), (1, 2, 7)):
            (found,) = await database.fetch(asked, START + timedelta(seconds=second), STREAM, seq)
            assert found == {"price": wanted, "order_id": None, "client_order_id": "c1" if seq == 1 else None}
        assert await database.fetch("SELECT * FROM monitoring.order_history('bybit', 'MNTUSDT', NULL)") == []


async def test_it_works_in_a_bots_own_database_and_for_who_may_only_read(
    migrated_existing_dsn: str, tmp_path: Path
) -> None:
    """Narrow columns; and the bot's own rows, which belong to no trail, make no state."""
    await _taken(
        migrated_existing_dsn,
        tmp_path / "audit",
        line(1, "order.created", order(order_id="old-1", status="NEW"), timestamp=_at(0)),
        line(2, "order.updated", update(order_id="old-1", status="FILLED"), timestamp=_at(1)),
    )
    async with await Database.connect(migrated_existing_dsn) as database:
        await database.execute((sql_dir() / "roles.sql").read_text())
        await database.execute("SET ROLE tradetrail_reader")
        asked = "SELECT status, price FROM monitoring.order_as_of('bybit', 'MNTUSDT', $1, 'infinity')"
        assert await database.fetch(asked, "old-1") == [{"status": "FILLED", "price": Decimal("2.1118")}]
        assert await database.fetch(asked, "old-2") == []
