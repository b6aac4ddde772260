"""``metrics``: how the trading went."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..database import Database
from ..ending import run
from ..errors import EnvironmentFault, UsageError
from ..extras import installing
from ..metrics import Asked, Figures, Metrics, from_database, from_logs, store
from ..options import (
    DEFAULT_DIRECTORY,
    Directory,
    Dsn,
    Json,
    Source,
    chosen,
    completing,
    database_at,
    example,
    moment_of,
    source_of,
)
from ..progress import progress
from ..round_trips import LABELS
from ..show import Lines, cell, console, fitting, plain, print_json, stacked, table
from ..spark.dataset import trade_files
from ..text import count, visible

_SHOWN_GROUPS = 100
_ENGINES = ("spark",)
_MONEY = ("gross_pnl", "fees", "net_pnl", "average_win", "average_loss", "expectancy", "best", "worst", "max_drawdown")
# What a line of the table of groups has room for, and what of it goes first where it has not.
_OF_A_GROUP = ("trades", "wins", "losses", "win_rate", "net_pnl", "fees", "profit_factor", "max_drawdown")
_TO_SPARE = ("losses", "wins", "fees", "max_drawdown", "profit_factor")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail metrics --by month --since 90d"))(metrics)


def metrics(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    source: Source = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Figures of each {', '.join(LABELS)} as well.",
            autocompletion=completing(LABELS),
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Closed since: 2h, 7d, or an ISO 8601 time (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Closed before.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="spark",
            help="Ask Spark, over the Parquet data set that tradetrail archive makes.",
            autocompletion=completing(_ENGINES),
        ),
    ] = None,
    master: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --engine spark: the cluster, as spark://host:7077; else this machine."),
    ] = None,
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
    if by is not None:
        chosen("--by", by, LABELS)
    asked = Asked(by, moment_of("--since", since), moment_of("--until", until))
    if asked.since and asked.until and asked.since >= asked.until:
        raise UsageError("--since is not before --until")
    if stored and (source == "logs" or engine):
        raise UsageError(f"--store keeps what the database says; leave --{'engine' if engine else 'source logs'} away")
    _check_engine(engine, master, source)
    rows = 0
    if engine:
        with progress("starting Spark") as bar:
            found = _from_spark(directory, master, asked, bar.next)
    elif source_of("db" if stored else source, dsn) == "logs":
        with progress("reading the log") as bar:
            found = from_logs(directory, asked, bar.share)
    else:
        with database_at(dsn) as there, progress("asking PostgreSQL"):
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


def _check_engine(engine: str | None, master: str | None, source: str | None) -> None:
    if engine is not None:
        chosen("--engine", engine, _ENGINES)
        if source is not None:
            raise UsageError("--engine spark reads the archive; leave --source away")
    elif master is not None:
        raise UsageError("--master is for --engine spark")


def _from_spark(directory: Path, master: str | None, asked: Asked, told: Callable[[str], None]) -> Metrics:
    files = trade_files(directory)
    try:
        from ..spark.metrics import from_dataset
        from ..spark.session import session
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise EnvironmentFault(f"--engine spark needs {missing}: {installing('spark')}") from error
    with session(master) as application:
        return from_dataset(application, files, asked, told)


def _print_csv(found: Metrics) -> None:
    rows = found.by or [found.total]
    writer = csv.writer(Lines(), lineterminator="\n")
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
        groups = found.by[-_SHOWN_GROUPS:]
        to.print(fitting(to, _OF_A_GROUP, _TO_SPARE, lambda figures: _groups(groups, by, figures)))
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
        shown.add_row("fees paid", Text(visible(f"{_shown('fees', cost)} {currency}")))
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


def _groups(groups: Sequence[Figures], by: str, names: Sequence[str]) -> Table:
    figures = [name.replace("_", " ") for name in names]
    shown = stacked(table((by, *figures), right=figures, wrapped=(by,)))
    for group in groups:
        label = cell(group[by]) if group[by] is not None else Text("none", style="dim")
        shown.add_row(label, *(Text(_shown(name, group[name])) for name in names))
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
