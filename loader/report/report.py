"""``tradetrail report``: how the trading went and how the trail is, put together for one page.

What is asked is the same of the raw logs and of PostgreSQL, so it is written once, as a generator of questions that
either of them answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from .. import statements
from ..database import Database
from ..metrics import Asked, Figures, from_rows
from ..migrate import require_current
from ..query import RawLog
from ..round_trips import Engine
from . import sql as ask
from .bars import Bars, bars_between
from .health import Health, health_of_database, health_of_logs
from .sql import Scope

Row = Mapping[str, Any]
# A question as (what a person is told meanwhile, SQL); its answer, a list of rows, is sent back.
Questions = Generator[tuple[str, str], list[dict[str, Any]], "Trading"]
Told = Callable[[str], None]

GROUPS = ("symbol", "exchange", "side")
# Profits in more currencies than that are listed, and have no plots.
MOST_CURRENCIES = 6
_WORK_MEM = "SET work_mem = '256MB'"
_DEADLINE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Curve:
    """Points as (milliseconds since 1970, equity, drawdown), and of how many they were chosen."""

    points: Sequence[tuple[int, Decimal, Decimal]]
    of: int


@dataclass(frozen=True, slots=True)
class Money:
    """How the trading went in one currency of profit; ``by`` has the figures by symbol, exchange, side."""

    figures: Figures
    months: Sequence[Figures]
    by: Mapping[str, Sequence[Figures]]
    curve: Curve
    bars: Bars


@dataclass(frozen=True, slots=True)
class Trading:
    """What the fills and orders say. ``total`` is what ``tradetrail metrics`` says of the period.

    Rows are as ``sql/report`` names their columns; ``fee_coverage`` maps currencies to how many fills have a fee in it.
    """

    total: Figures
    quotes: Sequence[Figures]
    money: Sequence[Money]
    fee_coverage: Mapping[str, int]
    estimated_fills: int
    open_positions: Sequence[Row]
    entered: int
    never_protected: Sequence[Row]
    life_times: Sequence[Row]
    order_states: Row


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page says. ``source``: of what, in words; ``made_at`` in UTC."""

    scope: Scope
    source: str
    trading: Trading
    health: Health
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def from_logs(directory: Path, scope: Scope, told: Told, *, verified: bool = True) -> Report:
    """The report of a log directory; ``told`` hears what is being done. ``verified``: the trail is checked as well."""
    with RawLog(directory) as log:
        trading = _answered_by(log, _questions("duckdb", scope), told)
    told("verifying the trail")
    return Report(scope, f"the raw logs in {directory}", trading, health_of_logs(directory, verified=verified))


async def from_database(database: Database, where: str, directory: Path | None, scope: Scope, told: Told) -> Report:
    """The report of what PostgreSQL has from the log; rows that are the bot's own do not count.

    The files of ``directory``, if any, tell what is not loaded yet.
    """
    await require_current(database)
    await database.execute(_WORK_MEM)
    async with database.transaction():
        await database.execute(statements.load("report/postgres.sql")["begin"])
        trading = await _answered_in(database, _questions("postgres", scope), told)
        told("looking at the trail")
        health = await health_of_database(database, directory)
    return Report(scope, f"PostgreSQL, {where}", trading, health)


def _answered_by(log: RawLog, questions: Questions, told: Told) -> Trading:
    try:
        words, sql = next(questions)
        while True:
            told(words)
            words, sql = questions.send(log.ask(sql))
    except StopIteration as done:
        found: Trading = done.value
        return found


async def _answered_in(database: Database, questions: Questions, told: Told) -> Trading:
    try:
        words, sql = next(questions)
        while True:
            told(words)
            words, sql = questions.send(await database.fetch(sql, deadline_s=_DEADLINE_S))
    except StopIteration as done:
        found: Trading = done.value
        return found


def _questions(engine: Engine, scope: Scope) -> Questions:
    for words, statement in ask.tables(engine):
        yield words, statement
    words = "working out figures"
    total = _one((yield words, ask.figures(scope)), scope)
    quotes = from_rows((yield words, ask.figures_by(scope, "quote")), _by("quote")).by
    known = {figures["quote"] for figures in quotes}
    several = len(known - {None}) > 1
    money = []
    if not several:
        money.append((yield from _money(engine, scope, total)))
    else:
        ranked = sorted(quotes, key=lambda figures: -figures["trades"])
        for figures in ranked[:MOST_CURRENCIES]:
            narrow = Scope(scope.since, scope.until, figures["quote"] or "")
            money.append((yield from _money(engine, narrow, _one((yield words, ask.figures(narrow)), narrow))))
    words = "looking at positions"
    for statement in ask.part_tables(engine, scope):
        yield words, statement
    coverage = yield words, ask.of_parts(engine, "fee_coverage")
    estimated = yield words, ask.of_parts(engine, "estimated_fills")
    open_positions = yield words, ask.of_parts(engine, "open_positions", "live_stops", "holdings")
    entered = yield words, ask.of_parts(engine, "count_entered")
    never_protected = yield words, ask.of_parts(engine, "never_protected", most=ask.MOST_UNPROTECTED)
    words = "looking at orders"
    life_times = yield words, ask.of_orders(engine, "life_times", scope)
    order_states = yield words, ask.of_orders(engine, "order_states", scope)
    return Trading(
        total=total,
        quotes=quotes if several else (),
        money=money,
        fee_coverage={row["currency"]: row["fills"] for row in coverage},
        estimated_fills=estimated[0]["fills"],
        open_positions=open_positions,
        entered=entered[0]["positions"],
        never_protected=never_protected,
        life_times=life_times,
        order_states=order_states[0],
    )


def _money(engine: Engine, scope: Scope, figures: Figures) -> Generator[tuple[str, str], list[dict[str, Any]], Money]:
    words = f"working out figures in {figures['quote'] or 'an unknown currency'}"
    months = from_rows((yield words, ask.figures_by(scope, "month")), _by("month")).by
    by = {}
    for name in GROUPS:
        by[name] = from_rows((yield words, ask.figures_by(scope, name)), _by(name)).by
    for statement in ask.curve_tables(scope):
        yield words, statement
    curve = yield words, ask.of_curve(engine, "curve")
    spread = (yield words, ask.of_curve(engine, "spread"))[0]
    bars = bars_between(spread["low"], spread["high"])
    if bars is not None:
        counted = yield words, ask.of_curve(engine, "distribution", **bars.words)
        bars = bars.filled({row["bar"]: row["trips"] for row in counted})
    points = [(row["closed_ms"], row["equity"], row["drawdown"]) for row in curve]
    return Money(figures, months, by, Curve(points, curve[0]["points"] if curve else 0), bars or Bars())


def _one(rows: Sequence[Row], scope: Scope) -> Figures:
    return from_rows(rows, scope.asked).total


def _by(name: str) -> Asked:
    return Asked(name)
