"""Loading: batches of checked lines into PostgreSQL, each in one transaction with its rejects and the ledger.

While PostgreSQL takes one batch, DuckDB checks the next. The ledger is the only state: it is asked at the start, and
after every error whose outcome is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from emitter.records import KINDS
from emitter.recovery import recover
from emitter.segments import SegmentName, parse_footer

from . import statements
from .database import Column, Database
from .errors import (
    BadRow,
    EnvironmentFault,
    TerminalError,
    TransientError,
    UniqueViolation,
    UnknownOutcome,
    UsageError,
)
from .migrate import migrate, pending
from .rules import read_rules
from .settings import LoadSettings
from .tail import Part, Progress, Spooled, Tail, batches
from .validate import Check, PartCount, Rejects, Rows, key_at_line, open_engine
from .workspace import workspace

_log = logging.getLogger("tradetrail")
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MOST_S = 10.0
_TABLES = (*(kind.table for kind in KINDS), "audit_rejects")


class Moved(Exception):
    """Another loader has taken some of these bytes meanwhile: look at the ledger again."""


class DoesNotAddUp(TerminalError):
    """The rows of a batch are not as many as its lines: a fault of this program; nothing of the batch was kept."""


@dataclass(slots=True)
class Totals:
    """What a run did; the fields of ``load --json``."""

    records: int = 0
    orders: int = 0
    trades: int = 0
    order_updates: int = 0
    events: int = 0
    rejected: int = 0
    repaired: int = 0
    duplicates: int = 0
    lost: int = 0
    segments: int = 0
    bytes: int = 0
    seconds: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, other: Totals) -> None:
        for name in ("records", *(kind.table for kind in KINDS), "rejected", "repaired", "duplicates", "lost", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.examples = other.examples | self.examples

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        del values["examples"]
        values["reasons"] = {rule: count for (_, rule), count in self.reasons.items()}
        values["seconds"] = round(self.seconds, 3)
        return values


@dataclass(slots=True)
class Prepared:
    """A batch that is checked and waits for PostgreSQL."""

    spooled: Spooled
    folder: Path
    check: Check
    rows: list[Rows]
    rejects: Rejects | None
    parts: list[PartCount]
    copying: Rows | None = None  # what PostgreSQL was given last, for the case that it refuses a row
    outcome: Totals | None = None  # what was sent to COMMIT last

    def discard(self) -> None:
        self.check.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)


class Loader:
    """One connection, one directory. Use as an async context manager; :meth:`take` loads all that is there now."""

    def __init__(self, settings: LoadSettings, progress: Callable[[int, int], None] | None = None) -> None:
        if not settings.directory.is_dir():
            raise UsageError(f"{settings.directory}: there is no such directory; give the log directory with --dir")
        self.settings = settings
        self._progress = progress or _no_progress
        self._sql = statements.load("load/merge.sql")
        self._rules = read_rules() + (read_rules(settings.rules) if settings.rules else [])
        self._tail = Tail(settings.directory)
        self._database: Database | None = None
        self._columns: dict[str, dict[str, Column]] = {}
        self._ledger: dict[tuple[str, int], Progress] = {}
        self._merge_first = False
        self._unsure = False  # a COMMIT of the present batch did not answer
        self._stack = contextlib.ExitStack()
        self._voids: dict[tuple[str, int], int] = {}

    async def __aenter__(self) -> Self:
        self._temporary = self._stack.enter_context(workspace())
        self._engine = open_engine(self._temporary)
        self._stack.callback(self._engine.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            await self._database.close()
        self._stack.close()

    async def take(self, *, finish_dead: bool = True) -> Totals:
        """Load everything that is there now; what came of it.

        ``finish_dead``: first finish the streams whose writer died, so that what its ring still holds is there too.
        """
        started = time.monotonic()
        totals = Totals()
        touched: set[SegmentName] = set()
        if finish_dead:
            recovered = await asyncio.to_thread(recover, self.settings.directory)
            for number, problem in enumerate(recovered.problems, 1):
                totals.problems[f"recovery {number}"] = problem
        await self._with_patience(self._connected)
        again = True
        while again:
            again = False
            try:
                scan = await asyncio.to_thread(self._tail.scan, self._ledger)
            except OSError as error:
                raise EnvironmentFault(f"{self.settings.directory}: cannot be read: {error.strerror}") from error
            self._voids = scan.voids
            totals.problems |= scan.problems
            done, total = 0, sum(item.size - item.start for item in scan.pending)
            self._progress(done, total)
            try:
                async with contextlib.aclosing(
                    self._prepared(batches(scan.pending, self._temporary, self._room))
                ) as all_:
                    async for prepared in all_:
                        totals.add(await self._with_patience(self._commit, prepared))
                        self._note_progress(prepared)
                        touched |= {part.name for part in prepared.spooled.parts}
                        done += prepared.spooled.bytes
                        self._progress(done, total)
            except Moved:
                again, before = True, self._ledger
                await self._with_patience(self._read_ledger)
                if self._ledger == before:
                    raise DoesNotAddUp(
                        "the ledger (monitoring.audit_segments) and what was read from the files do not fit together; "
                        "nothing of the batch was kept. This is a fault of tradetrail: please report it"
                    ) from None
        totals.segments = len(touched)
        totals.seconds = time.monotonic() - started
        return totals

    @property
    def _room(self) -> int:
        return self.settings.batch_bytes

    # -- checks, one batch ahead --

    async def _prepared(self, spooled: Iterator[Spooled]) -> AsyncGenerator[Prepared]:
        known: dict[SegmentName, int | None] = {}
        ahead = asyncio.create_task(asyncio.to_thread(self._prepare_next, spooled, known))
        try:
            while (prepared := await ahead) is not None:
                ahead = asyncio.create_task(asyncio.to_thread(self._prepare_next, spooled, known))
                try:
                    yield prepared
                finally:
                    prepared.discard()
        finally:
            with contextlib.suppress(Exception):
                if (left := await ahead) is not None:
                    left.discard()

    def _prepare_next(self, spooled: Iterator[Spooled], known: dict[SegmentName, int | None]) -> Prepared | None:
        batch = next(spooled, None)
        if batch is None:
            return None
        batch.parts = [
            part if part.last_seq is not None else replace(part, last_seq=known.get(part.name)) for part in batch.parts
        ]
        folder = Path(tempfile.mkdtemp(dir=self._temporary))
        check = Check(self._engine, batch, folder, self._rules, self._columns)
        check.run()
        parts = check.parts()
        known.update((batch.parts[count.part].name, count.last_seq) for count in parts)
        rows = check.rows()
        batch.path.unlink()
        return Prepared(batch, folder, check, rows, check.rejects(), parts)

    # -- the transaction --

    async def _commit(self, prepared: Prepared) -> Totals:
        """One batch: rows, rejects and ledger, or nothing. Sent again, it finds in the ledger whether it was there."""
        database = await self._connected()
        while True:
            try:
                async with database.transaction():
                    if await self._is_done(database, prepared.spooled.parts) and prepared.outcome is not None:
                        return prepared.outcome
                    totals = prepared.outcome = await self._take_batch(database, prepared)
            except BadRow as error:
                await self._set_aside(prepared, error)
            else:
                return totals

    def _note_progress(self, prepared: Prepared) -> None:
        for count in prepared.parts:
            part = prepared.spooled.parts[count.part]
            key = (part.name.stream, part.name.number)
            before = self._ledger.get(key)
            last_seq = count.last_seq if count.last_seq is not None else before.last_seq if before else None
            self._ledger[key] = Progress(part.stop, False, last_seq)

    async def _is_done(self, database: Database, parts: list[Part]) -> bool:
        """Lock the streams and hold the ledger against the batch: whether it is loaded already, by ourselves."""
        for stream in sorted({part.name.stream for part in parts}):
            await database.execute(self._sql["lock_stream"], stream)
        rows = await database.fetch(
            self._sql["ledger_of"], [part.name.stream for part in parts], [part.name.number for part in parts]
        )
        known = {(row["stream"], row["segment"]): row["bytes"] for row in rows}
        done = [known.get((part.name.stream, part.name.number), 0) for part in parts]
        if done == [part.stop for part in parts] and self._unsure:
            return True
        if done != [part.start for part in parts]:
            raise Moved
        return False

    async def _take_batch(self, database: Database, prepared: Prepared) -> Totals:
        totals = self._counted(prepared)
        made = dict.fromkeys((kind.table for kind in KINDS), 0)
        rows = {rows.kind.table: rows for rows in prepared.rows}
        if "orders" in rows or "order_updates" in rows:
            await database.execute(self._sql["lock_orders"])
        conflict = False
        repeated: list[dict[str, Any]] = []
        for table, of_kind in rows.items():
            prepared.copying = of_kind
            if not self._merge_first:
                try:
                    async with database.savepoint():
                        made[table] += await database.copy_csv(table, of_kind.columns, of_kind.path)
                        continue
                except UniqueViolation:
                    conflict = True
            conflict |= await self._merge(database, of_kind, made, totals, repeated)
        self._merge_first = conflict
        if "orders" in rows or "order_updates" in rows:
            await self._fold(database, prepared.check)
        rejects = prepared.rejects
        if repeated:
            says = [(row["stream"], row["seq"], "repeated_trade", "") for row in repeated]
            rejects = await asyncio.to_thread(self._with_marks, prepared, says)
        if rejects is not None:
            await self._copy_to_stage(database, "audit_rejects", rejects.columns, rejects.path)
            await self._run(database, "insert_audit_rejects", rejects.columns)
            totals.repaired = rejects.repaired
            for severity, rule, lines, example in await asyncio.to_thread(prepared.check.reasons):
                totals.reasons[severity, rule] = lines
                totals.examples[severity, rule] = example
        for table, count in made.items():
            setattr(totals, table, count)
        accounted = sum(made.values()) + totals.duplicates + totals.rejected
        if accounted != totals.records:
            raise DoesNotAddUp(
                f"{totals.records} records were read and {accounted} accounted for; the batch was rolled back. "
                "This is a fault of tradetrail: please report it with the segment "
                f"{prepared.spooled.parts[0].name}"
            )
        await self._write_ledger(database, prepared)
        return totals

    async def _merge(
        self, database: Database, rows: Rows, made: dict[str, int], totals: Totals, repeated: list[dict[str, Any]]
    ) -> bool:
        """Through a temporary table: what is there already is left alone; whether there was any of that."""
        table, columns = rows.kind.table, rows.columns
        await self._copy_to_stage(database, table, columns, rows.path)
        if table == "order_updates":
            count = await self._run(database, "insert_order_updates", columns)
            made[table] += count
            totals.duplicates += rows.count - count
            return count < rows.count
        known = await self._run(database, f"drop_known_{table}", columns)
        count = await self._run(database, f"insert_{table}", columns)
        made[table] += count
        left = rows.count - known - count
        if table == "orders" and left:
            kept = await self._run(database, "keep_repeated_orders", columns)
            made["order_updates"] += kept
            left -= kept
        elif table == "trades" and left:
            repeated += await database.fetch(self._sql["repeated_trades"])
        totals.duplicates += known + left
        return count < rows.count

    async def _copy_to_stage(self, database: Database, table: str, columns: tuple[str, ...], path: Path) -> None:
        await self._run(database, "stage", columns, table=table)
        await database.copy_csv(f"incoming_{table}", columns, path, schema=None)

    async def _run(self, database: Database, name: str, columns: tuple[str, ...], **words: str) -> int:
        listed = ", ".join(f'"{column}"' for column in columns)
        text = self._sql[name].replace("{columns}", listed)
        for word, value in words.items():
            text = text.replace("{" + word + "}", value)
        return await database.execute(text)

    async def _fold(self, database: Database, check: Check) -> None:
        streams = await asyncio.to_thread(check.streams)
        await database.execute(self._sql["stage_touched"])
        columns = [list(column) for column in zip(*streams, strict=True)]
        if await database.execute(self._sql["touch"], *columns):
            await database.execute(self._sql["keep_own_values"])
            await database.execute(self._sql["fold"])

    def _with_marks(self, prepared: Prepared, marks: list[tuple[str, int, str, str]]) -> Rejects | None:
        prepared.check.mark(marks)
        return prepared.check.rejects()

    async def _set_aside(self, prepared: Prepared, error: BadRow) -> None:
        """PostgreSQL refused a row that all rules let through: reject its line and send the others again."""
        rows = prepared.copying
        key = key_at_line(rows, error.line) if rows is not None and error.line else None
        if key is None:
            raise error
        mark = (*key, "refused_by_database", error.reason)
        prepared.rejects = await asyncio.to_thread(self._with_marks, prepared, [mark])
        prepared.rows = await asyncio.to_thread(prepared.check.rows)
        prepared.parts = await asyncio.to_thread(prepared.check.parts)

    def _counted(self, prepared: Prepared) -> Totals:
        totals = Totals(
            records=sum(part.records for part in prepared.parts),
            rejected=sum(part.rejected for part in prepared.parts),
            bytes=prepared.spooled.bytes,
        )
        for control in prepared.check.control():
            totals.lost += _loss(control.line)[0]
        return totals

    async def _write_ledger(self, database: Database, prepared: Prepared) -> None:
        control: dict[int, list[str]] = {}
        for found in prepared.check.control():
            control.setdefault(found.part, []).append(found.line)
        for count in prepared.parts:
            part = prepared.spooled.parts[count.part]
            lines = control.get(count.part, [])
            losses = [_loss(line) for line in lines]
            footer = next((f for line in lines if (f := parse_footer(line.encode()))), None)
            await database.execute(
                self._sql["ledger_write"],
                part.name.stream,
                part.name.number,
                str(part.name),
                part.header.service,
                part.stop,
                count.records,
                count.rejected,
                sum(lost for lost, _ in losses),
                [loss for _, ranges in losses for loss in ranges],
                count.first_seq,
                count.last_seq,
                footer.sha256 if footer else None,
                footer.recovered if footer else False,
                self._voids.get((part.name.stream, part.name.number)),
                _time(part.header.timestamp),
                _time(footer.timestamp) if footer else None,
            )

    # -- the connection --

    async def _connected(self) -> Database:
        """The connection, made anew where it was lost; a database that is empty gets its tables."""
        if self._database is not None and not self._database.lost:
            return self._database
        if self._database is not None:
            await self._database.close()
            self._database = None
        database = await Database.connect(self.settings.dsn, deadline_s=self.settings.deadline_s)
        try:
            await self._prepare_database(database)
        except BaseException:
            await database.close()
            raise
        self._database = database
        await self._read_ledger()
        return database

    async def _prepare_database(self, database: Database) -> None:
        missing = await pending(database)
        if missing:
            if await database.fetchval("SELECT to_regclass('monitoring.orders') IS NOT NULL"):
                raise TerminalError(
                    f"the database lacks {len(missing)} migrations (first: {missing[0]}); run: tradetrail migrate"
                )
            await migrate(database)
        self._columns = {table: dict(await database.columns(table)) for table in _TABLES}

    async def _read_ledger(self) -> None:
        database = await self._connected()
        self._ledger = {
            (row["stream"], row["segment"]): Progress(row["bytes"], row["closed"], row["last_seq"])
            for row in await database.fetch(self._sql["ledger"])
        }

    async def _with_patience(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do it again while the database is away or busy, with capped back-off; how long, the settings say."""
        pause, waited = _BACKOFF_FIRST_S, 0.0
        self._unsure = False
        while True:
            try:
                return await work(*args)
            except TransientError as error:
                self._unsure |= isinstance(error, UnknownOutcome)
                if self.settings.timeout_s is not None and waited >= self.settings.timeout_s:
                    raise
                _log.warning("%s; trying again in %.1f s", error, pause)
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  only spreads retries
                waited += pause
                pause = min(2 * pause, _BACKOFF_MOST_S)


def _no_progress(_done: int, _total: int) -> None:
    """For those who do not watch."""


def _loss(line: str) -> tuple[int, list[dict[str, Any]]]:
    """(records, ranges) that a line declares lost; (0, []) for other control lines."""
    if '"audit.lost"' not in line:
        return 0, []
    attributes = orjson.loads(line).get("attributes") or {}
    ranges = attributes.get("ranges") or []
    return sum(int(r["last"]) - int(r["first"]) + 1 for r in ranges), ranges


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
