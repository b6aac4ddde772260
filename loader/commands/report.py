"""``report``: how the trading went and how the trail is, as one page."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from ..database import Database
from ..dsn import describe
from ..ending import run
from ..errors import EnvironmentFault, UsageError
from ..extras import installing
from ..new_file import new_file
from ..options import (
    DEFAULT_DIRECTORY,
    EMBEDDED,
    Directory,
    Dsn,
    Json,
    Source,
    database_at,
    example,
    moment_of,
    source_of,
)
from ..progress import progress
from ..report.report import Report, Told, from_database, from_logs
from ..report.sql import Scope
from ..show import console, print_json
from ..text import size

_MARKED_WITHIN = 4096
_STDOUT = Path("-")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail report -o report.html --since 90d"))(report)


def report(
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Where the page goes; - is the standard output."),
    ] = Path("report.html"),
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    source: Source = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Closed since: 2h, 7d, or an ISO 8601 time (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Closed before.")] = None,
    verified: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Over raw logs: check the whole trail as well.")
    ] = True,
    json: Json = False,
) -> None:
    """Make a page with the equity curve, months, wins and losses, fees, open positions, and the trail's health.

    One HTML file that needs no network, to be opened in a browser, sent or
    printed. The figures are those of tradetrail metrics, from the raw logs or
    from PostgreSQL. An earlier report of that name is replaced.
    """
    scope = Scope(moment_of("--since", since), moment_of("--until", until))
    if scope.since and scope.until and scope.since >= scope.until:
        raise UsageError("--since is not before --until")
    _check(output)
    started = time.monotonic()
    text, made = _page(directory, dsn, source, scope, verified=verified)
    if output == _STDOUT:
        sys.stdout.buffer.write(text)
        return
    with new_file(output, force=True) as file:
        file.write(text)
    seconds = time.monotonic() - started
    if json:
        print_json({"file": str(output), "bytes": len(text), "seconds": round(seconds, 3), "total": made.trading.total})
    else:
        console().print(f"{output}: {size(len(text))} in {seconds:.1f} s", markup=False, soft_wrap=True)


def _page(
    directory: Path, dsn: str | None, source: str | None, scope: Scope, *, verified: bool
) -> tuple[bytes, Report]:
    page = _drawing().page
    if source_of(source, dsn) == "logs":
        with progress("reading the log") as bar:
            made = from_logs(directory, scope, bar.next, verified=verified)
            bar.next("making the page")
            return page(made).encode(), made
    with database_at(dsn) as there, progress("asking PostgreSQL") as bar:
        where = describe(dsn) if dsn else f"an embedded one in {EMBEDDED}"
        made = run(_ask(there, where, directory if directory.is_dir() else None, scope, bar.next))
        bar.next("making the page")
        return page(made).encode(), made


def _drawing() -> ModuleType:
    """What makes the page; its libraries are no part of the loader's."""
    try:
        from ..report import page as report_page
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise EnvironmentFault(f"a report needs {missing}: {installing('report')}") from error
    return report_page


async def _ask(dsn: str, where: str, directory: Path | None, scope: Scope, told: Told) -> Report:
    async with await Database.connect(dsn) as database:
        return await from_database(database, where, directory, scope, told)


def _check(output: Path) -> None:
    """Only an earlier report is replaced: anything else that has this name is somebody's."""
    if output == _STDOUT or not output.is_file():
        return
    mark = _drawing().MARK
    try:
        with output.open("rb") as file:
            known = mark.encode() in file.read(_MARKED_WITHIN)
    except OSError as error:
        raise EnvironmentFault(f"{output}: cannot be read: {error.strerror}") from error
    if not known:
        raise UsageError(f"{output}: is there already, and is no report; give another name with -o")
