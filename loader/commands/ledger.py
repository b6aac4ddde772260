"""``status`` and ``rejects``: what PostgreSQL has of the log."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from .. import statements
from ..database import Database
from ..ending import run
from ..errors import EnvironmentFault, UsageError
from ..options import DEFAULT_DIRECTORY, EMBEDDED, AnyDirectory, Directory, Dsn, Json, database_at, example
from ..show import cell, console, moment, print_json, print_problems, table
from ..status import Ledger, Status, read_ledger, take_status
from ..text import count, size, visible

_AGO = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SEVERITIES = ("rejected", "repaired")
_ROWS_IN_A_TABLE = 100


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=example("tradetrail status --dir var/audit --json"))(status)
    group = typer.Typer(no_args_is_help=True, help="Lines that were rejected, or repaired.", rich_markup_mode="rich")
    group.callback(epilog=example("tradetrail rejects list --since 1d"))(_rejects)
    group.command("list", epilog=example("tradetrail rejects list --rule price_missing --since 2h"))(rejects_list)
    app.add_typer(group, name="rejects")


def _rejects() -> None:
    """Lines that were rejected, or repaired."""


def status(*, directory: Directory = DEFAULT_DIRECTORY, dsn: Dsn = None, json: Json = False) -> int:
    """Show each stream: what its files hold, what is loaded, how far the load is behind.

    Exit code 1: a file has a problem. With the database away the files' side is still shown, exit code 3.
    """
    away: EnvironmentFault | None = None
    ledger: Ledger | None = None
    try:
        ledger = _ledger(dsn)
    except EnvironmentFault as error:
        away = error
    found = take_status(directory, ledger)
    if away is not None:
        found.database = str(away)
    if json:
        print_json(found.as_json())
    else:
        _print_status(found)
    if away is not None:
        raise away
    return 1 if found.problems else 0


def _ledger(dsn: str | None) -> Ledger:
    if not dsn and not EMBEDDED.exists():
        return Ledger()  # nothing was ever loaded; no server has to be made to say so
    with database_at(dsn) as there:
        return run(read_ledger(there))


def _print_status(found: Status) -> None:
    to = console()
    numbers = ("emitted", "loaded", "rejected", "lost", "behind")
    shown = table(("service", "stream", "state", *numbers), right=numbers)
    # The start of a stream's id is its time: streams of one minute differ behind it.
    for one in found.streams:
        style = {"live": "green", "unfinished": "red"}.get(one.state, "")
        figures = [_figure(getattr(one, name)) for name in numbers]
        shown.add_row(cell(one.service), f"..{one.stream[-6:]}", Text(one.state, style=style), *figures)
    if len(found.streams) > 1:
        shown.add_section()
        shown.add_row("[bold]all[/bold]", "", "", *(_figure(found.total(name)) for name in numbers))
    if found.streams:
        to.print(shown)
        started = min((s.started_at for s in found.streams if s.started_at), default=None)
        loaded = max((s.loaded_at for s in found.streams if s.loaded_at), default=None)
        behind = found.total("behind_bytes")
        words = [f"first start {moment(started)} UTC"]
        words.append(f"last loaded {moment(loaded)} UTC" if loaded else "nothing is loaded yet")
        if behind:
            words.append(f"{size(behind)} behind")
        to.print("; ".join(words), style="dim")
    else:
        to.print("no streams yet: no emitter has written here")
    print_problems(to, found.problems)


def _figure(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def rejects_list(
    *,
    directory: AnyDirectory = DEFAULT_DIRECTORY,  # noqa: ARG001  a common option
    dsn: Dsn = None,
    stream: Annotated[str | None, typer.Option(help="Only of this stream; a part of its id is enough.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only those that break this rule.")] = None,
    severity: Annotated[str | None, typer.Option(metavar="rejected|repaired", help="Only of this sort.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only those noted since: 30m, 2h, 7d, or an ISO 8601 time (UTC).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many, the newest. By default 100, with --json all.")
    ] = None,
    json: Json = False,
) -> None:
    """List lines that were rejected or repaired, with the reasons; --json gives them whole."""
    if severity is not None and severity not in _SEVERITIES:
        raise UsageError(f"--severity is one of {', '.join(_SEVERITIES)}, not {severity!r}")
    if limit is None and not json:
        limit = _ROWS_IN_A_TABLE
    asked = (stream, severity, rule, _moment(since) if since else None)
    if not dsn and not EMBEDDED.exists():
        rows: list[dict[str, Any]] = []
        total = 0
    else:
        with database_at(dsn) as there:
            rows, total = run(_read_rejects(there, asked, limit))
    if json:
        print_json(rows)
    else:
        _print_rejects(rows, total)


async def _read_rejects(dsn: str, asked: tuple[Any, ...], limit: int | None) -> tuple[list[dict[str, Any]], int]:
    sql = statements.load("views/ledger.sql")
    async with await Database.connect(dsn) as database:
        if not await database.fetchval(sql["is_there"]):
            return [], 0
        rows = await database.fetch(sql["rejects"], *asked, limit)
        return rows, await database.fetchval(sql["count_rejects"], *asked)


def _print_rejects(rows: list[dict[str, Any]], total: int) -> None:
    to = console()
    shown = table(("place", "seq", "reasons and line"), right=("seq",), wrapped=("reasons and line",))
    width = 200 if not sys.stdout.isatty() else max(20, to.width - 36)
    for row in rows:
        style = "red" if row["severity"] == "rejected" else "yellow"
        seq = "?" if row["seq"] is None else f"{row['seq']}{'?' if row['seq_inferred'] else ''}"
        words = Text()
        for reason in row["reasons"]:
            words.append(visible(reason) + "\n", style=style)
        raw = visible(row["raw"][: width + 1])
        words.append(raw if len(raw) <= width else raw[: width - 1] + "…", style="dim")
        shown.add_row(f"..{row['stream'][-6:]}.{row['segment']:06d} @{row['byte_offset']}", seq, words)
    if rows:
        to.print(shown)
    more = f"the newest {len(rows):,} of {total:,} lines" if total > len(rows) else count(total, "line")
    to.print(more, style="dim")


def _moment(text: str) -> datetime:
    if match := _AGO.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since: {text!r} is no time; write 30m, 2h, 7d, or 2026-11-22T13:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
