"""Round trips and figures from DuckDB and from PostgreSQL: alike to the digit, and as a plain list has them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emitter import AuditLog
from loader.database import Database
from loader.load import Loader
from loader.metrics import Asked, Metrics, from_database, from_logs
from loader.query import RawLog
from loader.settings import LoadSettings
from loader.show import plain

from ..fills import Fill, log, round_trips

# A unit of the eighteenth decimal for each amount that went into a figure is more than rounding can have moved it.
NEAR = Fraction(1, 10**14)
COLUMNS = (
    "symbol, position_id, side, opened_at, closed_at, quantity, entry_price, exit_price, gross_pnl, fees, net_pnl, seq"
)

quantities = st.sampled_from(["1", "1", "2", "3", "0.5", "0.001", "7.125", "0.333333333333333333", "1000000"])
prices = st.sampled_from(["100", "101", "99.5", "0", "-37.63", "0.00000001", "2.7292815907953973", "64000.1", "3"])
costs = st.sampled_from(["0.1", "-0.02", "0", "0.000000000000000007", "12.5", "0.333333333333333333"])
fees = st.lists(st.tuples(st.sampled_from(["USDT", "USDT", "BNB", "AB"]), costs), max_size=3).map(tuple)
fills = st.builds(
    Fill,
    at=st.integers(0, 12),
    side=st.sampled_from(["buy", "sell"]),
    quantity=quantities,
    price=prices,
    symbol=st.sampled_from(["AB/USDT", "CD/USDT:USDT"]),
    position_id=st.sampled_from([None, None, "55", "56"]),
    fees=fees,
    contract_size=st.sampled_from([None, None, "1", "0.01", "10"]),
)


async def loaded(dsn: str, directory: Path, by: str) -> tuple[list[dict[str, Any]], Metrics]:
    async with await Database.connect(dsn) as database:
        await database.execute("TRUNCATE monitoring.trades, monitoring.audit_segments, monitoring.audit_rejects")
    async with Loader(LoadSettings(directory=directory, dsn=dsn)) as loader:
        assert (await loader.take()).rejected == 0
    async with await Database.connect(dsn) as database:
        rows = await database.fetch(f"SELECT {COLUMNS} FROM monitoring.round_trips")
        return rows, await from_database(database, Asked(by))


def vars_of(figures: Metrics) -> dict[str, Any]:
    return {"total": figures.total, "by": list(figures.by)}


def plain_rows(rows: Sequence[dict[str, Any]]) -> list[Any]:
    return sorted((plain(row) for row in rows), key=str)


@pytest.mark.parametrize(
    "examples", [3, pytest.param(15, marks=[pytest.mark.long, pytest.mark.timeout(600)])], ids=["few", "many"]
)
def test_both_engines_find_the_round_trips_of_a_plain_list(dsn: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @example(fills=[Fill(0, "buy", "1", "100"), Fill(0, "sell", "3", "110"), Fill(1, "buy", "2", "90")], by="side")
    @example(fills=[Fill(0, "buy", "1", "100", fees=(("USDT", "1"),)), Fill(1, "sell", "0.999", "110")] * 2, by="day")
    @example(
        fills=[Fill(0, "buy", "2", "0", position_id="55"), Fill(0, "sell", "1", "0", position_id="55")], by="symbol"
    )
    @given(fills=st.lists(fills, min_size=1, max_size=40), by=st.sampled_from(["day", "symbol", "side", "signal"]))
    def hold(fills: list[Fill], by: str) -> None:
        _hold_both(dsn, fills, by)

    hold()


def _hold_both(dsn: str, fills: list[Fill], by: str) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        with AuditLog(directory, service="bot") as audit:
            log(audit, fills)
        of_database, figures = asyncio.run(loaded(dsn, directory, by))
        with RawLog(directory) as raw:
            answer = raw.query(f"SELECT {COLUMNS} FROM round_trips")
            names = [name for name, _ in answer.columns]
            of_logs = [dict(zip(names, row, strict=True)) for row in answer.rows]
        assert plain_rows(of_logs) == plain_rows(of_database)
        assert plain(vars_of(from_logs(directory, Asked(by)))) == plain(vars_of(figures))
    finally:
        shutil.rmtree(directory)

    expected, left = round_trips(fills)
    assert len(of_database) == len(expected)
    for trip, row in zip(sorted(expected, key=_of_trip), sorted(of_database, key=_of_row), strict=True):
        assert (row["symbol"], row["position_id"], row["side"]) == (trip.fill.symbol, trip.fill.position_id, trip.side)
        assert row["closed_at"].timestamp() == 1_700_000_000 + trip.closed_at
        assert row["opened_at"].timestamp() == 1_700_000_000 + trip.opened_at
        for name, value in (("quantity", trip.quantity), ("gross_pnl", trip.gross), ("fees", trip.fees)):
            assert near(row[name], value), name
    _hold_against(figures.total, [trip.net for trip in expected])
    if figures.total["open_quantity"] is not None:
        assert near(figures.total["open_quantity"], left)
    paid = {currency: Fraction(0) for fill in fills for currency, _ in fill.fees}
    for fill in fills:
        for currency, cost in fill.fees:
            paid[currency] += Fraction(cost)
    assert figures.total["fees_by_currency"].keys() == paid.keys()
    assert all(near(figures.total["fees_by_currency"][currency], cost) for currency, cost in paid.items())
    assert figures.total["fills_without_fee"] == sum(not fill.fees for fill in fills)
    assert figures.total["fills"] == len(fills)


def _hold_against(total: Any, nets: Sequence[Fraction]) -> None:
    wins, losses = [net for net in nets if round(net, 8) > 0], [net for net in nets if round(net, 8) < 0]
    assert (total["trades"], total["wins"], total["losses"]) == (len(nets), len(wins), len(losses))
    assert near(total["net_pnl"], sum(nets, Fraction(0)))
    assert near(total["best"], max(nets, default=None))
    assert near(total["worst"], min(nets, default=None))
    assert near(total["expectancy"], sum(nets, Fraction(0)) / len(nets) if nets else None)
    assert near(total["average_win"], sum(wins, Fraction(0)) / len(wins) if wins else None)
    assert near(total["average_loss"], sum(losses, Fraction(0)) / len(losses) if losses else None)


def near(found: Decimal | None, expected: Fraction | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return abs(Fraction(found) - expected) <= NEAR * max(1, abs(expected))


def _of_trip(trip: Any) -> tuple[Any, ...]:
    return (trip.fill.symbol, trip.fill.position_id or "", trip.closed_at, trip.quantity, trip.gross)


def _of_row(row: dict[str, Any]) -> tuple[Any, ...]:
    at = row["closed_at"].timestamp() - 1_700_000_000
    return (row["symbol"], row["position_id"] or "", at, Fraction(row["quantity"]), Fraction(row["gross_pnl"]))
