"""``migrate``, ``load``, ``watch``: into PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from ..database import Database
from ..ending import run
from ..errors import UsageError
from ..load import Loader
from ..migrate import migrate as apply_migrations
from ..options import DEFAULT_DIRECTORY, AnyDirectory, BatchBytes, Directory, Dsn, Json, Rules, database_at, example
from ..partitions import add_partitions, hint, in_default, month_of
from ..progress import progress
from ..settings import LoadSettings
from ..show import console, print_json, print_totals
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
    partitioned: Annotated[
        bool,
        typer.Option(
            "--partitioned", help="Make new tables partitioned by month; run again, partitions for a year ahead."
        ),
    ] = False,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="YYYY-MM", help="With --partitioned: partitions from this month on."),
    ] = None,
    json: Json = False,
) -> None:
    """Bring the database's tables up to this program.

    Only adds: rows and columns that a bot has there already stay as they are.
    Tables can be partitioned only when they are made; docs/scaling.md tells
    for whom that is.
    """
    if since is not None and not partitioned:
        raise UsageError("--from tells from when on there are partitions: give --partitioned, too")
    month = None if since is None else month_of("--from", since)

    async def work(dsn: str) -> tuple[list[str], list[str], list[str]]:
        async with await Database.connect(dsn) as database:
            applied = await apply_migrations(database, partitioned=partitioned)
            made = await add_partitions(database, month) if partitioned else []
            return applied, made, await in_default(database)

    with database_at(dsn) as there, progress("bringing the tables up to date"):
        applied, made, left = run(work(there))
    if json:
        more = {"partitions": made, "in_default": left} if partitioned else {}
        print_json({"applied": applied, **more})
        return
    for name in applied:
        console().print(f"applied {name}")
    if made:
        months = sorted(name[-7:].replace("_", "-") for name in made)
        console().print(f"made {len(made)} partitions, {months[0]} to {months[-1]}")
    if not applied and not made:
        console().print("nothing to do: the database is up to date")
    if left:
        console().print(hint(left))


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

    A database that is empty gets its tables. Exit code 1: this run rejected or
    lost a record, or a file has a problem.
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
    with progress("loading", "bytes") as bar:
        async with Loader(settings, bar.update) as loader:
            return await loader.take()


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

    A directory that is not there yet is waited for, and a database that is
    away too. With --json each batch of work is one object on one line.
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
