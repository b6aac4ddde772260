"""Rejected lines tried again: what passes today's rules and columns is taken as a load would have taken it.

Page by page, each in one transaction with its marks in ``monitoring.audit_rejects`` and the ledger. That table is the
only state: lines are read, judged, locked and looked at again, so that each is taken once, whoever else is at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emitter.records import KINDS

from .. import statements
from ..database import Column, Database
from ..migrate import require_current
from ..patience import patiently
from ..prepared import Prepared
from ..rules import read_rules
from ..statements import sql_dir
from ..totals import Totals
from ..transaction import BatchTransaction
from ..validate import Check, open_engine
from ..workspace import workspace
from .books import Gone, Line, OutOfPlace, RejectBooks, misplaced, spool
from .rejects import PAGE_BYTES, PAGE_LINES, Asked, Entry, Malformed, at_places, exact, extent, page

_TABLES = (*(kind.table for kind in KINDS), "audit_rejects")
_LOADED = "the line of that place is loaded already"


class Retry:
    """One connection, and an engine that checks. Use as an async context manager.

    ``timeout_s`` is how long a database that goes away in the middle is waited for. ``progress`` is told (lines done,
    all lines); ``say`` the number of a line in a file of mended ones, what is to be said of it, and whether that is a
    fault.
    """

    def __init__(
        self,
        dsn: str,
        *,
        rules: Path | None = None,
        timeout_s: float = 60.0,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
        say: Callable[[int, str, bool], None] = lambda _number, _words, _fault: None,
    ) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._progress = progress
        self._say = say
        own = read_rules(rules) if rules else []
        self._rules = read_rules() + own + read_rules(sql_dir() / "load" / "retry_rules.sql")
        self._transaction = BatchTransaction()
        self._database: Database | None = None
        self._columns: dict[str, dict[str, Column]] = {}
        self._stack = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        try:
            # A database that is away now is no matter of patience: nothing has begun.
            self._there = await (await self._connected()).fetchval(statements.load("views/ledger.sql")["is_there"])
            self._temporary = self._stack.enter_context(workspace())
            self._engine = open_engine(self._temporary)
            self._stack.callback(self._engine.close)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            await self._database.close()
        self._stack.close()

    async def take(self, asked: Asked) -> Totals:
        """Try all rejected lines that are meant; what came of it (``records`` are the lines that were tried)."""
        started, totals = time.monotonic(), Totals()
        after, (lines, last) = 0, await self._ask(partial(extent, asked=asked)) if self._there else (0, 0)
        while last and (rows := await self._ask(partial(page, asked=asked, after=after, last=last))):
            after = rows[-1]["id"]
            totals.add(await self._take([_line(row) for row in rows]))
            self._progress(totals.records, lines)
        totals.seconds = time.monotonic() - started
        return totals

    async def take_mended(self, entries: Iterator[Entry | tuple[int, Malformed]]) -> Totals:
        """Try mended lines in the places of those that were rejected."""
        started, totals = time.monotonic(), Totals()
        while found := await asyncio.to_thread(_next_page, entries):
            totals.add(await self._take(await self._known(found)))
            self._progress(totals.records, 0)
        totals.seconds = time.monotonic() - started
        return totals

    async def _known(self, entries: Sequence[Entry | tuple[int, Malformed]]) -> list[Line]:
        """The rejected lines that entries name; what names none is said."""
        places = [entry.place for entry in entries if isinstance(entry, Entry)]
        rows = iter(await self._ask(partial(at_places, places=places)) if self._there else [{"id": None}] * len(places))
        lines: dict[int, Line] = {}
        for entry in entries:
            if isinstance(entry, tuple):
                self._say(entry[0], str(entry[1]), True)
                continue
            row = next(rows)
            if row["id"] is None:
                self._say(entry.number, "no line of that stream, segment and byte_offset was rejected", True)
            elif row["retried_at"] is not None or row["severity"] != "rejected":
                self._say(entry.number, _LOADED, False)
            elif row["id"] in lines:
                self._say(entry.number, f"names the same place as line {lines[row['id']].number}", True)
            else:
                lines[row["id"]] = Line(row["id"], *entry.place, row["seq"], entry.data, entry.number)
        return list(lines.values())

    async def _take(self, lines: Sequence[Line]) -> Totals:
        out_of_place: dict[int, tuple[str, str]] = {}
        while lines:
            prepared = await asyncio.to_thread(self._prepare, lines, out_of_place)
            try:
                books = RejectBooks(lines, prepared)
                return await patiently(partial(self._commit, prepared, books), self._timeout_s)
            except OutOfPlace as found:
                out_of_place |= found.lines
            except Gone as gone:
                for line in lines:
                    if line.id in gone.ids and line.number is not None:
                        self._say(line.number, _LOADED, False)
                lines = [line for line in lines if line.id not in gone.ids]
            finally:
                prepared.discard()
        return Totals()

    def _prepare(self, lines: Sequence[Line], out_of_place: dict[int, tuple[str, str]]) -> Prepared:
        folder = Path(tempfile.mkdtemp(dir=self._temporary))
        spooled = spool(lines, out_of_place, folder)
        check = Check(self._engine, spooled, folder, self._rules, self._columns)
        check.run()
        spooled.path.unlink()
        prepared = Prepared(spooled, folder, check, [], None, check.parts())
        if found := misplaced(lines, prepared):
            prepared.discard()
            out_of_place |= found
            return self._prepare(lines, out_of_place)
        prepared.rows, prepared.rejects = check.rows(), check.rejects()
        return prepared

    async def _commit(self, prepared: Prepared, books: RejectBooks, unsure: bool) -> Totals:
        return await self._transaction.take(await self._connected(), prepared, books, unsure=unsure)

    async def _ask(self, question: Callable[[Database], Any]) -> Any:
        async def ask(_unsure: bool) -> Any:
            return await question(await self._connected())

        return await patiently(ask, self._timeout_s)

    async def _connected(self) -> Database:
        """The connection, made anew where it was lost."""
        if self._database is not None and not self._database.lost:
            return self._database
        if self._database is not None:
            await self._database.close()
            self._database = None
        database = await Database.connect(self._dsn)
        try:
            if await database.fetchval(statements.load("views/ledger.sql")["is_there"]):
                await require_current(database)
            self._columns = {table: dict(await database.columns(table)) for table in _TABLES}
        except BaseException:
            await database.close()
            raise
        self._database = database
        return database


def _line(row: dict[str, Any]) -> Line:
    return Line(row["id"], row["stream"], row["segment"], row["byte_offset"], row["seq"], exact(row))


def _next_page(entries: Iterator[Entry | tuple[int, Malformed]]) -> list[Entry | tuple[int, Malformed]]:
    found: list[Entry | tuple[int, Malformed]] = []
    size = 0
    while len(found) < PAGE_LINES and size < PAGE_BYTES and (entry := next(entries, None)) is not None:
        found.append(entry)
        size += len(entry.data) if isinstance(entry, Entry) else 0
    return found
