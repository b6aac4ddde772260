"""Turns: one contestant brings one input into a database of its own, and what that cost it and the server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from emitter.records import KINDS

from ..crew import ROOT, Failed
from ..figures import OURS
from .bot import Bot
from .cases import Case
from .contestants import CONTESTANTS, LIMIT, Csv, Job
from .server import Backends, Server
from .trail import spoil

_COST: Final = Path(__file__).with_name("cost.py")
_PATIENCE_S: Final = 600.0
_TABLES: Final = (*(kind.table for kind in KINDS), "audit_rejects")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What our load makes of an input: rows as CSV, and a database that holds them (a template's name)."""

    csv: tuple[Csv, ...]
    template: str
    rows: int


class Run:
    """One run of the cases; each input is made once. ``missing``: who could not take part where, and why."""

    def __init__(
        self,
        there: Server,
        empty: str,
        folder: Path,
        old_rows: int,
        missing: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._there, self._empty, self._folder, self._old_rows = there, empty, folder, old_rows
        self._missing, self._say = missing, say
        self._logs: dict[tuple[int, bool], Path] = {}
        self._loaded: dict[Path, Loaded] = {}
        self._old: tuple[str, int] | None = None

    def case(self, case: Case, names: Collection[str], rounds: int) -> dict[str, dict[str, Any]]:
        """What each contestant of the case needed."""
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in case.who if name in names}
        log = self._log(case.records, case.bad)
        loaded = self._load(log) if LIMIT in turns or case.on_its_own else None
        template, rows = self._before(case, loaded)
        for number in range(case.rounds or rounds):
            for name in _in_turn(list(turns), number):
                where = f"{case.name}, {name}"
                if (number and name in case.once) or where in self._missing:
                    continue
                self._say(f"{case.title}: {CONTESTANTS[name].title}")
                try:
                    figures = self._turn(case, log, loaded, name, template)
                    figures["rows"] -= rows
                    if name in (OURS, LIMIT):
                        _all_there(case, loaded, figures["rows"])
                except Failed as error:
                    self._missing[where] = str(error)
                else:
                    turns[name].append(figures)
        return summaries(case.records, {name: found for name, found in turns.items() if found})

    def forget(self, records: int) -> None:
        """Give the room of an input of this size back."""
        for bad in (False, True):
            if log := self._logs.pop((records, bad), None):
                shutil.rmtree(log)
                if loaded := self._loaded.pop(log, None):
                    self._there.drop(loaded.template)
                    for file in loaded.csv:
                        file.path.unlink()

    def _log(self, records: int, bad: bool) -> Path:
        """Segments, made by the real emitter on first use."""
        if (records, bad) not in self._logs:
            folder = self._folder / f"{records}{'-bad' if bad else ''}"
            if bad:
                spoil(self._log(records, False), folder)
            else:
                self._say(f"making {records:,} records")
                with Bot(folder) as bot:
                    if lost := bot.ask("make", records=records)["lost"]:
                        raise Failed(f"the disk did not keep up: {lost:,} records were dropped")
            self._logs[records, bad] = folder
        return self._logs[records, bad]

    def _load(self, log: Path) -> Loaded:
        """Loaded on first use, without being measured."""
        if log not in self._loaded:
            self._say(f"loading {log.name} once, not measured")
            template = self._there.create(self._empty)
            dsn = self._there.at(template)
            self._cost(OURS, Job(log, (), dsn, False, self._folder))
            csv = tuple(asyncio.run(_export(dsn, table, log.with_name(f"{log.name}-{table}.csv"))) for table in _TABLES)
            self._loaded[log] = Loaded(csv, template, self._there.rows(dsn))
        return self._loaded[log]

    def _before(self, case: Case, loaded: Loaded | None) -> tuple[str, int]:
        """The database that those of the turns are cloned from, and the rows in it."""
        if case.on_its_own and loaded:
            return loaded.template, loaded.rows
        if case.before == "nothing":
            return self._empty, 0
        if self._old is None:
            self._say(f"making tables of {self._old_rows:,} rows")
            name = self._there.with_old_rows(self._empty, self._old_rows)
            self._old = name, self._there.rows(self._there.at(name))
        return self._old

    def _turn(self, case: Case, log: Path, loaded: Loaded | None, name: str, template: str) -> dict[str, Any]:
        working = self._folder / "working"
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir()
        with self._there.database(template) as dsn:
            if case.before == "the input, no ledger":
                self._there.execute(dsn, "DELETE FROM monitoring.audit_segments")
            csv = loaded.csv if loaded else ()
            wal = self._there.wal()
            with Backends(self._there) as backends:
                figures = self._cost(name, Job(log, csv, dsn, case.on_its_own, working))
            return figures | {
                "wal_bytes": self._there.wal() - wal,
                "server_bytes": backends.peak,
                "rows": self._there.rows(dsn),
            }

    def _cost(self, name: str, job: Job) -> dict[str, Any]:
        contestant = CONTESTANTS[name]
        with subprocess.Popen(
            [sys.executable, "-I", "-S", _COST, *contestant.command(job)],
            cwd=ROOT,
            env=contestant.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                answer, words = process.communicate(timeout=_PATIENCE_S)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too
                if isinstance(error, subprocess.TimeoutExpired):
                    raise Failed(f"not done after {_PATIENCE_S:g} s") from error
                raise
        figures: dict[str, Any] = json.loads(answer.splitlines()[-1]) if process.returncode == 0 else {"code": -1}
        # Ours ends with 1 where it rejected a record.
        if figures.pop("code") not in ((0, 1) if name == OURS else (0,)):
            raise Failed((words.strip().splitlines() or ["ended without a word"])[-1])
        return figures


def _all_there(case: Case, loaded: Loaded | None, rows: int) -> None:
    """A turn that made other rows than it should have is no measurement."""
    if case.on_its_own:
        fits = rows == 0
    elif loaded:
        fits = rows == loaded.rows
    else:
        fits = rows >= case.records  # each line makes one, a rejected one too
    if not fits:
        raise Failed(f"made {rows:,} rows")


async def _export(dsn: str, table: str, path: Path) -> Csv:
    """The rows of a table in the order in which they came, without their ids."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetch(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'monitoring' AND table_name = $1 AND column_name <> 'id' ORDER BY ordinal_position",
            table,
        )
        columns = tuple(row[0] for row in found)
        await connection.copy_from_query(
            f"SELECT {', '.join(columns)} FROM monitoring.{table} ORDER BY id", output=path, format="csv"
        )
    finally:
        await connection.close()
    return Csv(table, columns, path)


def _in_turn(names: Sequence[str], number: int) -> list[str]:
    """All of them, beginning with another each round: nobody always follows the same one."""
    at = number % len(names) if names else 0
    return [*names[at:], *names[:at]]


def summaries(records: int, turns: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Medians of each contestant's turns (of memory the most), and its time as a multiple of the limit's."""
    found = {}
    for name, of_one in turns.items():
        each: dict[str, list[Any]] = {key: [turn[key] for turn in of_one] for key in of_one[0]}
        median = statistics.median(each["seconds"])
        servers = [peak for peak in each["server_bytes"] if peak is not None]
        found[name] = {
            "seconds": each["seconds"],
            "median_s": median,
            "best_s": min(each["seconds"]),
            "records_per_s": records / median,
            "cpu_s": statistics.median(each["cpu_s"]),
            "rows": each["rows"][0],
            "peak_bytes": max(each["peak_bytes"]),
            "server_bytes": max(servers, default=None),
            "wal_bytes": statistics.median_low(each["wal_bytes"]),
        }
    limit = found.get(LIMIT)
    for figures in found.values():
        figures["to_limit"] = figures["median_s"] / limit["median_s"] if limit else None
    return found
