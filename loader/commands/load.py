"""``migrate``, ``load``, ``watch``: into PostgreSQL."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ..database import Database
from ..ending import run
from ..load import Loader
from ..migrate import migrate as apply_migrations
from ..options import DEFAULT_DIRECTORY, AnyDirectory, BatchBytes, Directory, Dsn, Json, Rules, database_at, example
from ..settings import LoadSettings
from ..show import console, errors_console, print_json, print_totals
from ..text import one_line
from ..totals import Totals
from ..watch import watch as keep_watching

Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long a database that is away is waited for.")
]
_DEFAULTS = LoadSettings(directory=DEFAULT_DIRECTORY, dsn="")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=example("tradetrail migrate --dsn postgresql://bot@db/trading"))(migrate)
    app.command(epilog=example("tradetrail load --dir var/audit --json"))(load)
    app.command(epilog=example("tradetrail watch --dir var/audit --dsn postgresql://bot@db/trading"))(watch)


def migrate(
    *,
    directory: AnyDirectory = DEFAULT_DIRECTORY,  # noqa: ARG001  a common option
    dsn: Dsn = None,
    json: Json = False,
) -> None:
    """Bring the database's tables up to this program.

    Only adds: rows and columns that a bot has there already stay as they are.
    """

    async def work(dsn: str) -> list[str]:
        async with await Database.connect(dsn) as database:
            return await apply_migrations(database)

    with database_at(dsn) as there:
        applied = run(work(there))
    if json:
        print_json({"applied": applied})
        return
    for name in applied:
        console().print(f"applied {name}")
    if not applied:
        console().print("nothing to do: the database is up to date")


def load(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    rules: Rules = None,
    batch_bytes: BatchBytes = _DEFAULTS.batch_bytes,
    timeout: Timeout = 60.0,
    json: Json = False,
) -> int:
    """Load all that is new into PostgreSQL, exactly once, and end.

    A database that is empty gets its tables. Exit code 1: this run rejected or lost a record, or a file has a problem.
    """
    with database_at(dsn) as there:
        settings = LoadSettings(directory=directory, dsn=there, rules=rules, batch_bytes=batch_bytes, timeout_s=timeout)
        totals = run(_load(settings))
    if json:
        print_json(totals.as_json())
    else:
        print_totals(console(), totals)
    return 1 if totals.rejected or totals.lost or totals.problems else 0


async def _load(settings: LoadSettings) -> Totals:
    bar = Progress(
        TextColumn("loading"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=errors_console(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar, _words_to(bar):
        task = bar.add_task("", total=None)
        async with Loader(settings, lambda done, total: bar.update(task, completed=done, total=total)) as loader:
            return await loader.take()


class _words_to:  # noqa: N801  a context manager
    """What the loader says while it waits is shown above the bar; off a terminal only the outcome counts."""

    def __init__(self, bar: Progress) -> None:
        self._log = logging.getLogger("tradetrail")
        self._handler: logging.Handler = logging.NullHandler()
        if not bar.disable:
            self._handler = _Above(bar)

    def __enter__(self) -> None:
        self._log.addHandler(self._handler)
        self._log.propagate = False

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self._handler)


class _Above(logging.Handler):
    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self._bar = bar

    def emit(self, record: logging.LogRecord) -> None:
        self._bar.console.print(one_line(record.getMessage()), markup=False, soft_wrap=True)


def watch(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    rules: Rules = None,
    batch_bytes: BatchBytes = _DEFAULTS.batch_bytes,
    rescan: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="How often to look without being told."),
    ] = _DEFAULTS.rescan_s,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            envvar="TRADETRAIL_METRICS_PORT",
            metavar="PORT",
            help="Serve figures for Prometheus on this port, at /metrics (0: any free one). Off unless given.",
        ),
    ] = None,
    metrics_host: Annotated[
        str,
        typer.Option(
            envvar="TRADETRAIL_METRICS_HOST",
            metavar="ADDRESS",
            help="The address to serve them on; whoever reaches it can read them.",
        ),
    ] = _DEFAULTS.metrics_host,
    json: Json = False,
) -> None:
    """Load what is new as it comes, until SIGTERM or Ctrl-C.

    A directory that is not there yet is waited for, and a database that is away too. With --json each batch of work is
    one object on one line.
    """
    with database_at(dsn) as there:
        settings = LoadSettings(
            directory=directory,
            dsn=there,
            rules=rules,
            batch_bytes=batch_bytes,
            timeout_s=None,
            rescan_s=rescan,
            metrics_port=metrics_port,
            metrics_host=metrics_host,
        )
        run(keep_watching(settings, json=json))
