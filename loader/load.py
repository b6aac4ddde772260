"""Loading: batches of checked lines into PostgreSQL, each in one transaction with its rejects and the ledger.

While PostgreSQL takes one batch, DuckDB checks the next ones. The ledger is the only state: it is asked at the start,
and after every error whose outcome is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from emitter.records import KINDS
from emitter.recovery import recover
from emitter.segments import SegmentName

from . import statements
from .checking import Checking
from .database import Column, Database
from .errors import EnvironmentFault, UsageError
from .migrate import migrate, require_current
from .patience import patiently
from .rules import read_rules
from .settings import LoadSettings
from .spool import Spooled, batches
from .tail import Key, Pending, Progress, Scan, Tail
from .totals import Totals
from .transaction import BatchTransaction, DoesNotAddUp, Moved, Prepared
from .workspace import workspace

T = TypeVar("T")

_TABLES = (*(kind.table for kind in KINDS), "audit_rejects")


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
        self._finished: set[str] = set()  # streams that recovery need not look at again
        self._database: Database | None = None
        self._columns: dict[str, dict[str, Column]] = {}
        self._ledger: dict[tuple[str, int], Progress] = {}
        self._transaction = BatchTransaction()
        self._stack = contextlib.ExitStack()
        self._voids: dict[tuple[str, int], int] = {}
        self.totals = Totals()  # of the present take, or the last one: batch by batch

    @property
    def ledger(self) -> dict[tuple[str, int], Progress]:
        """How far each segment is loaded, as known here; empty before the database was first asked."""
        return self._ledger

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the database."""
        return self._database is not None and not self._database.lost

    async def __aenter__(self) -> Self:
        self._temporary = self._stack.enter_context(workspace())
        self._checking = Checking(self._temporary, self._rules)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            await self._database.close()
        await asyncio.to_thread(self._checking.close)
        self._stack.close()

    async def take(
        self,
        *,
        finish_dead: bool = True,
        changed: Collection[str] | None = None,
        all_again: bool = True,
        follow: Callable[[], bool] = lambda: False,
    ) -> Totals:
        """Load everything that is there now; what came of it.

        ``finish_dead``: first finish the streams whose writer died, so that what its ring still holds is there too.
        ``changed`` and ``all_again`` say which files are looked at, as :meth:`loader.tail.Tail.scan` has it.
        ``follow`` is asked when all of that is checked: whether to go on with what came meanwhile.
        """
        started = time.monotonic()
        totals = self.totals = Totals()
        touched: set[SegmentName] = set()
        if finish_dead:
            recovered = await asyncio.to_thread(recover, self.settings.directory, finished=self._finished)
            for problem in recovered.problems:
                file, _, words = problem.partition(": ")
                totals.problems.setdefault(Path(file).name, words)
        await self._patiently(lambda _: self._connected())
        again = True
        while again:
            again, looked = False, dict(self._ledger)
            try:
                scan = await asyncio.to_thread(self._tail.scan, self._ledger, changed, all_again=all_again)
            except OSError as error:
                raise EnvironmentFault(f"{self.settings.directory}: cannot be read: {error.strerror}") from error
            self._voids = scan.voids
            totals.problems |= scan.problems
            done, total = 0, sum(item.size - item.start for item in scan.pending)
            self._progress(done, total)
            try:
                async with contextlib.aclosing(self._prepared(scan, totals.problems, follow)) as all_:
                    async for prepared in all_:
                        totals.add(await self._patiently(partial(self._commit, prepared)))
                        self._note_progress(prepared)
                        touched |= {part.name for part in prepared.spooled.parts}
                        done += prepared.spooled.bytes
                        self._progress(done, total)
            except Moved:
                again = True
                await self._patiently(lambda _: self._read_ledger())
                if self._ledger == looked:
                    raise DoesNotAddUp(
                        "the ledger (monitoring.audit_segments) and what was read from the files do not fit together; "
                        "nothing of the batch was kept. This is a fault of tradetrail: please report it"
                    ) from None
        totals.segments = len(touched)
        totals.seconds = time.monotonic() - started
        return totals

    # -- checks, ahead of the transaction --

    def _prepared(self, scan: Scan, problems: dict[str, str], follow: Callable[[], bool]) -> AsyncGenerator[Prepared]:
        waiting = sum(item.size - item.start for item in scan.pending)
        return self._checking.prepared(
            self._spooled(scan.pending, problems, follow),
            self._columns,
            ahead=-(-waiting // self.settings.batch_bytes),
            settle=lambda: not self._transaction.merges,
        )

    def _spooled(
        self, pending: list[Pending], problems: dict[str, str], follow: Callable[[], bool]
    ) -> Iterator[Spooled]:
        """Batches of what is pending; then of what came meanwhile, if that is to be followed."""
        ahead: dict[Key, Progress] = {}
        more = True
        while more:
            more = False  # where all that is left is a torn line
            for batch in batches(pending, self._temporary, self.settings.batch_bytes, problems):
                ahead |= {(p.name.stream, p.name.number): Progress(p.stop, False, None) for p in batch.parts}
                yield batch
                more = True
            if more := more and follow():
                scan = self._tail.scan(ahead, [str(item.name) for item in pending])
                problems |= scan.problems
                pending = scan.pending

    # -- the transaction --

    async def _commit(self, prepared: Prepared, unsure: bool) -> Totals:
        """One batch: rows, rejects and ledger, or nothing. Sent again, it finds in the ledger whether it was there."""
        database = await self._connected()
        return await self._transaction.commit(database, prepared, self._voids, unsure=unsure)

    def _note_progress(self, prepared: Prepared) -> None:
        for count in prepared.parts:
            part = prepared.spooled.parts[count.part]
            key = (part.name.stream, part.name.number)
            before = self._ledger.get(key)
            last_seq = count.last_seq if count.last_seq is not None else before.last_seq if before else None
            self._ledger[key] = Progress(part.stop, count.closed, last_seq)

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
        there = await database.fetchval("SELECT to_regclass('monitoring.orders') IS NOT NULL")
        # Asked after: another loader may be making the tables just now.
        await (require_current if there else migrate)(database)
        self._columns = {table: dict(await database.columns(table)) for table in _TABLES}

    async def _read_ledger(self) -> None:
        database = await self._connected()
        self._ledger = {
            (row["stream"], row["segment"]): Progress(row["bytes"], row["closed"], row["last_seq"])
            for row in await database.fetch(self._sql["ledger"])
        }

    async def _patiently(self, work: Callable[[bool], Awaitable[T]]) -> T:
        return await patiently(work, self.settings.timeout_s)


def _no_progress(_done: int, _total: int) -> None:
    """For those who do not watch."""
