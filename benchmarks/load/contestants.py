"""Who takes part: the commands that bring one and the same input into a database, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..crew import RIVALS, ROOT
from ..figures import OURS
from .rivals import COPY, CSV, INSERT
from .server import psql

LIMIT: Final = "psql"
DLT: Final = "dlt"


@dataclass(frozen=True, slots=True)
class Csv:
    """Rows of one table as our load made them, ready as CSV."""

    table: str
    columns: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class Job:
    """What a command is to do: these segments, or these files of CSV, into this database.

    ``known``: the rows may be there already. ``working``: an empty folder of the command's own.
    """

    log: Path
    csv: tuple[Csv, ...]
    dsn: str
    known: bool
    working: Path


@dataclass(frozen=True, slots=True)
class Contestant:
    """How one is shown and started. ``rival``: it finds what only rivals need."""

    title: str
    command: Callable[[Job], list[str]]
    rival: bool = False

    def environment(self) -> dict[str, str]:
        """This process's without what would steer a command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRADETRAIL_", "PG"))}
        paths = [str(ROOT), *([str(RIVALS)] if self.rival else [])]
        return kept | {"PYTHONPATH": os.pathsep.join(paths)}


def _tradetrail(job: Job) -> list[str]:
    return [sys.executable, "-m", "loader", "load", "--dir", str(job.log), "--dsn", job.dsn, "--json"]


def _psql(job: Job) -> list[str]:
    """One process, one table after another; where rows are known, by way of a temporary table."""
    program = psql()
    if program is None:
        files = json.dumps([(file.table, file.columns, str(file.path)) for file in job.csv])
        return _python("rivals", CSV, files, job.dsn, *_known(job))
    steps: list[str] = []
    for file in job.csv:
        table, columns = f"monitoring.{file.table}", ", ".join(file.columns)
        copy = f"\\copy {{}} ({columns}) from '{file.path}' with (format csv)"
        if not job.known:
            steps.append(copy.format(table))
            continue
        steps += [
            f"CREATE TEMPORARY TABLE in_{file.table} AS SELECT {columns} FROM {table} WITH NO DATA",
            copy.format(f"in_{file.table}"),
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM in_{file.table} ON CONFLICT DO NOTHING",
        ]
    options = [word for step in steps for word in ("-c", step)]
    return [program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", job.dsn, *options]


def _python(module: str, *args: str) -> list[str]:
    return [sys.executable, "-m", f"{__package__}.{module}", *args]


def _asyncpg(name: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        return _python("rivals", name, str(job.log), job.dsn, *_known(job))

    return command


def _known(job: Job) -> list[str]:
    return ["--known"] if job.known else []


def _limit_title() -> str:
    return (
        "psql \\copy of the rows, ready as CSV"
        if psql()
        else "asyncpg copy_to_table of the rows, ready as CSV (no psql)"
    )


CONTESTANTS: Final[dict[str, Contestant]] = {
    OURS: Contestant("tradetrail load", _tradetrail),
    LIMIT: Contestant(_limit_title(), _psql),
    COPY: Contestant("asyncpg copy_records_to_table + orjson", _asyncpg(COPY)),
    INSERT: Contestant("asyncpg executemany + orjson", _asyncpg(INSERT)),
    DLT: Contestant(
        "dlt, CSV through COPY",
        lambda job: _python("dlt_pipeline", str(job.log), job.dsn, str(job.working)),
        rival=True,
    ),
}
