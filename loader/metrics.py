"""``tradetrail metrics``: how the trading went, from raw logs or PostgreSQL; both answer alike to the last digit.

The figures come from ``sql/metrics``; here they get their names and shapes. ``docs/metrics.md`` defines them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import Any

from . import statements
from .database import Database
from .migrate import require_current
from .query import RawLog
from .round_trips import figures

# Sorts of a million fills in memory; a session's own setting.
_WORK_MEM = "SET work_mem = '256MB'"
# Tens of millions of fills, on a server that has other work.
_DEADLINE_S = 3600.0
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)
_PLACES = Decimal(1).scaleb(-18)
_NAMES = (
    *("trades", "wins", "losses", "draws", "win_rate", "gross_pnl", "fees", "net_pnl", "profit_factor", "average_win"),
    *("average_loss", "expectancy", "best", "worst", "max_drawdown", "sharpe_ratio", "average_duration_seconds"),
    *("open_quantity", "quote", "fills", "fills_without_fee", "fills_left_out", "estimated"),
)
_COUNTS = ("trades", "wins", "losses", "draws", "fills", "fills_without_fee", "fills_left_out", "estimated")
_STORED = (
    *("trades", "wins", "losses", "net_pnl", "win_rate", "profit_factor", "sharpe_ratio", "max_drawdown"),
    *("average_win", "average_loss"),
)
_SUMS = ("gross_pnl", "fees", "net_pnl", "max_drawdown", "open_quantity")

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which figures: grouped by a name of :data:`~loader.round_trips.LABELS`, of what was closed from ``since`` until
    before ``until``. None: no groups, no limit.
    """

    by: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of all round trips, and of each group with its label under the name of what it is grouped by.

    Numbers are exact decimals or integers, None where undefined. ``fees_by_currency`` maps currencies to sums.
    """

    total: Figures
    by: Sequence[Figures] = field(default=())


def from_logs(directory: Path, asked: Asked, progress: Callable[[float], None] | None = None) -> Metrics:
    """The figures of a log directory; ``progress`` is told what :class:`~loader.query.RawLog` tells."""
    with RawLog(directory, progress) as log:
        return from_rows(log.ask(figures("duckdb", asked.by, asked.since, asked.until)), asked)


async def from_database(database: Database, asked: Asked) -> Metrics:
    """The figures of what PostgreSQL has from the log; rows that are the bot's own are not counted."""
    await require_current(database)
    await database.execute(_WORK_MEM)
    rows = await database.fetch(figures("postgres", asked.by, asked.since, asked.until), deadline_s=_DEADLINE_S)
    return from_rows(rows, asked)


async def store(database: Database, metrics: Metrics, asked: Asked) -> int:
    """Keep the figures in ``monitoring.performance_metrics``, a row for each period; how many.

    A period is the label of a group, or ``all``, with the limits behind it where there are some.
    """
    sql = statements.load("metrics/postgres.sql")
    limits = "".join(
        f" {word} {at.isoformat()}" for word, at in (("since", asked.since), ("until", asked.until)) if at is not None
    )
    rows = [("all" + limits, metrics.total)]
    rows += [(f"{group[asked.by] or 'none'}{limits}", group) for group in metrics.by if asked.by]
    async with database.transaction():
        for period, one in rows:
            values = [one[name] for name in _STORED]
            if not await database.fetch(sql["update_performance"], period, *values):
                await database.execute(sql["insert_performance"], period, *values)
    return len(rows)


def from_rows(rows: Sequence[Mapping[str, Any]], asked: Asked) -> Metrics:
    """The figures in the rows of :func:`~loader.round_trips.figures`."""
    total = next((_figures(row) for row in rows if row["grouped"] == 0), None) or _nothing()
    groups = [{asked.by: row["label"] or None, **_figures(row)} for row in rows if row["grouped"] == 1 and asked.by]
    return Metrics(total, groups)


def _figures(row: Mapping[str, Any]) -> Figures:
    found = {name: _number(row.get(name)) for name in _NAMES}
    found["sharpe_ratio"] = _sharpe(row["trades"], row["net_pnl"], row["squares"])
    fees = (pair.rpartition("=") for pair in row["fees_by_currency"].split("\x1f") if pair)
    return {**found, "fees_by_currency": {currency: _number(Decimal(cost)) for currency, _, cost in fees}}


def _nothing() -> Figures:
    known = dict.fromkeys(_NAMES) | dict.fromkeys(_COUNTS, 0) | dict.fromkeys(_SUMS, Decimal(0))
    return {**known, "fees_by_currency": {}}


def _number(value: Any) -> Any:
    """As given, a decimal without the zeros at its end, which an engine may write or not."""
    if not isinstance(value, Decimal):
        return value
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize(_EXACT)


def _sharpe(trades: int, total: Decimal | None, squares: Decimal | None) -> Decimal | None:
    """Mean net profit of a round trip over its sample standard deviation; not annualised, no risk-free rate."""
    if trades < 2 or total is None or squares is None:
        return None
    with_variance = _EXACT.subtract(_EXACT.multiply(squares, Decimal(trades)), _EXACT.multiply(total, total))
    if with_variance <= 0:
        return None
    deviation = _EXACT.sqrt(_EXACT.divide(with_variance, Decimal(trades) * (trades - 1)))
    mean = _EXACT.divide(total, Decimal(trades))
    return Decimal(_number(_EXACT.quantize(_EXACT.divide(mean, deviation), _PLACES)))
