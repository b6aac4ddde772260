"""``metrics``: how the trading went."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..database import Database
from ..ending import run
from ..errors import UsageError
from ..metrics import Asked, Figures, Metrics, from_database, from_logs, store
from ..options import DEFAULT_DIRECTORY, Directory, Dsn, Json, Source, database_at, example, moment_of, source_of
from ..round_trips import LABELS
from ..show import cell, console, plain, print_json, table
from ..text import count

_SHOWN_GROUPS = 100
_MONEY = ("gross_pnl", "fees", "net_pnl", "average_win", "average_loss", "expectancy", "best", "worst", "max_drawdown")
# What a line of the table of groups has room for.
_OF_A_GROUP = ("trades", "wins", "losses", "win_rate", "net_pnl", "fees", "profit_factor", "max_drawdown")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail metrics --by month --since 90d"))(metrics)


def metrics(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    source: Source = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Figures of each {', '.join(LABELS)} as well.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Closed since: 2h, 7d, or an ISO 8601 time (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Closed before.")] = None,
    stored: Annotated[
        bool, typer.Option("--store", help="Keep the figures in monitoring.performance_metrics, a row a period.")
    ] = False,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header: the groups, or the total.")] = False,
) -> None:
    """Win rate, profit factor, drawdown, fees: figures of the round trips, from the logs or from PostgreSQL.

    Both give the same answer. A round trip is what was opened and closed, by
    FIFO for each position_id, or for each symbol where fills carry none;
    fees in the currency of the profit are taken off, others are listed. See
    the single ones with: tradetrail query "FROM round_trips".
    """
    if json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    if by is not None and by not in LABELS:
        raise UsageError(f"--by is one of {', '.join(LABELS)}, not {by!r}")
    asked = Asked(by, moment_of("--since", since), moment_of("--until", until))
    if asked.since and asked.until and asked.since >= asked.until:
        raise UsageError("--since is not before --until")
    if stored and source == "logs":
        raise UsageError("--store keeps what the database says; leave --source logs away")
    rows = 0
    if source_of("db" if stored else source, dsn) == "logs":
        found = from_logs(directory, asked)
    else:
        with database_at(dsn) as there:
            found, rows = run(_ask(there, asked, stored=stored))
    if json:
        print_json({"total": found.total, "by": found.by})
    elif as_csv:
        _print_csv(found)
    else:
        _print(found, by)
        if stored:
            console().print(f"{count(rows, 'row')} in monitoring.performance_metrics", style="dim")


async def _ask(dsn: str, asked: Asked, *, stored: bool) -> tuple[Metrics, int]:
    async with await Database.connect(dsn) as database:
        found = await from_database(database, asked)
        return found, await store(database, found, asked) if stored else 0


def _print_csv(found: Metrics) -> None:
    rows = found.by or [found.total]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        values = (_fees(value) if name == "fees_by_currency" else plain(value) for name, value in row.items())
        writer.writerow("" if value is None else value for value in values)


# -- for people: rounded, in words --


def _print(found: Metrics, by: str | None) -> None:
    to, total = console(), found.total
    to.print(_total(total))
    for note in _notes(total):
        to.print(note, style="yellow", soft_wrap=True)
    if by is not None:
        to.print(_groups(found.by[-_SHOWN_GROUPS:], by))
        if len(found.by) > _SHOWN_GROUPS:
            to.print(f"the last {_SHOWN_GROUPS} of {len(found.by):,}; --csv gives all", style="dim")


def _total(total: Figures) -> Table:
    shown = table(("figure", "value"), right=("value",))
    money = f" {total['quote']}" if total["quote"] else ""
    for name, value in total.items():
        if name in ("quote", "fills_without_fee", "fills_left_out", "estimated") or isinstance(value, dict):
            continue
        unit = money if name in _MONEY else ""
        shown.add_row(
            name.removesuffix("_seconds").replace("_", " "),
            Text(_shown(name, value) + (unit if value is not None else "")),
        )
    for currency, cost in total["fees_by_currency"].items():
        shown.add_row("fees paid", Text(f"{_shown('fees', cost)} {currency}"))
    return shown


def _notes(total: Figures) -> list[str]:
    """What the figures lack, in words."""
    notes = []
    if total["trades"] and total["net_pnl"] is None:
        notes.append("profits are in several currencies and not added up: see --by quote")
    if total["open_quantity"] is None:
        notes.append("several symbols are open: see --by symbol")
    if total["fills_without_fee"]:
        notes.append(f"{total['fills_without_fee']:,} of {count(total['fills'], 'fill')} have no fee data")
    if "unknown" in total["fees_by_currency"]:
        notes.append("fees without currency are not taken off the profit")
    if total["fills_left_out"]:
        notes.append(f"{count(total['fills_left_out'], 'fill')} left out: without side, quantity or price, or inverse")
    if total["estimated"]:
        notes.append(f"{count(total['estimated'], 'round trip')} with an estimated price")
    return notes


def _groups(groups: Sequence[Figures], by: str) -> Table:
    figures = [name.replace("_", " ") for name in _OF_A_GROUP]
    shown = table((by, *figures), right=figures)
    for group in groups:
        label = cell(group[by]) if group[by] is not None else Text("none", style="dim")
        shown.add_row(label, *(Text(_shown(name, group[name])) for name in _OF_A_GROUP))
    return shown


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if name == "win_rate":
        return f"{value * 100:.1f} %"
    if name == "average_duration_seconds":
        return _duration(value)
    return _rounded(value)


def _rounded(value: Decimal) -> str:
    """Two decimals from 1000 on, four from 0.01 on, else eight."""
    places = 2 if abs(value) >= 1000 else 4 if abs(value) >= Decimal("0.01") else 8
    text = f"{value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN):,f}"
    return text.rstrip("0").rstrip(".") if "." in text and places > 2 else text


def _duration(value: Decimal) -> str:
    if value < 10:
        return f"{value:.1f} s"
    days, rest = divmod(int(value), 86_400)
    hours, rest = divmod(rest, 3_600)
    parts = [(days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s")]
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2])


def _fees(fees: Any) -> str:
    return " ".join(f"{currency}={plain(cost)}" for currency, cost in fees.items())
