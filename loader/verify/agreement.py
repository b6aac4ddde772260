"""The log and the database, held against each other row by row.

Each row is one text on both sides, and has a digest; of every few thousand rows the digests have a digest. PostgreSQL
answers with these, and only where one differs the rows' own digests are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from emitter.records import KINDS
from emitter.segments import timestamp

from .. import statements
from ..database import Database
from ..staging import filled
from ..tail import Pending
from .books import Books
from .facts import Reading
from .findings import Findings, runs, seqs
from .intervals import within
from .row_text import BUCKET

# Whose digests are brought together at once; whole buckets.
_ROWS_AT_ONCE = 64 * BUCKET
# So many rows of a stream and table are told apart column by column, and so many segments are read again for it.
_EXPLAINED = 20
_SEGMENTS_EXPLAINED = 3
_SHOWN = 60
_MICROSECONDS_DIGITS = 17  # up to the year 5138


class Difference(NamedTuple):
    """Numbers of a stream within which a table and the log are not the same."""

    table: str
    stream: str
    bucket: int


def differences(reading: Reading, books: Books) -> list[Difference]:
    """Where the digests of the log and of the database differ; no row is fetched for it."""
    sql = statements.load("checks/sides.sql")
    _insert(reading, sql["noted"], [(stream, seq) for stream, seq in books.noted])
    _insert(reading, sql["buckets"], books.buckets)
    reading.ask(sql["log_buckets"])
    fill = filled(sql["fill_log_buckets"], width=str(BUCKET))
    for streams, first, last in _portions(reading.ask(sql["extents"])):
        reading.ask(fill, streams, first, last)
    return [Difference(*row) for row in reading.ask(sql["differences"])]


def _portions(extents: Iterable[tuple[str, int, int, int]]) -> Iterator[tuple[list[str], int, int]]:
    """Streams and ranges of numbers, of as many rows as memory holds: small streams together, large ones in parts."""
    together: list[str] = []
    rows = highest = 0
    for stream, count, first, last in extents:
        if count > _ROWS_AT_ONCE:
            for start in range(first // BUCKET * BUCKET, last + 1, _ROWS_AT_ONCE):
                yield [stream], start, start + _ROWS_AT_ONCE - 1
            continue
        if rows + count > _ROWS_AT_ONCE:
            yield together, 0, highest
            together, rows, highest = [], 0, 0
        together.append(stream)
        rows, highest = rows + count, max(highest, last)
    if together:
        yield together, 0, highest


def _insert(reading: Reading, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    width = statement.count("?")
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
    reading.ask(statement, *columns)


class Comparison:
    """Says which rows differ, where :func:`differences` said that some do."""

    def __init__(
        self, database: Database, reading: Reading, books: Books, pending: Iterable[Pending], findings: Findings
    ) -> None:
        self._database, self._reading, self._books, self._findings = database, reading, books, findings
        self._pending = {(item.name.stream, item.name.number): item for item in pending}
        self._sql = statements.load("checks/agreement.sql")
        self._sides = statements.load("checks/sides.sql")

    async def compare(
        self, differences: Sequence[Difference], excused: Mapping[str, Sequence[tuple[int, int]]]
    ) -> None:
        """Each difference, row by row. ``excused``: records by stream whose lines are known not to be here."""
        missing: dict[tuple[str, str], list[int]] = {}
        unknown: dict[tuple[str, str], list[int]] = {}
        changed: dict[tuple[str, str], list[int]] = {}
        for table, stream, bucket in differences:
            log, there = await self._both(table, stream, bucket)
            key = (table, stream)
            missing.setdefault(key, []).extend(sorted(log.keys() - there.keys()))
            unknown.setdefault(key, []).extend(
                seq for seq in sorted(there.keys() - log.keys()) if not within(seq, excused.get(stream, ()))
            )
            changed.setdefault(key, []).extend(
                sorted(seq for seq in log.keys() & there.keys() if log[seq] != there[seq])
            )
        for (table, stream), found in missing.items():
            for first, last in runs(sorted(found)):
                what = f"{seqs(first, last)} of the log: no row in {table}"
                self._findings.add("row_missing", "error", what, stream=stream, seq=first)
        for (table, stream), found in unknown.items():
            logged = {seq for seq, _ in self._reading.ask(self._sides["segments_of"], stream, found)}
            for numbers, why in (
                (logged, f"{table} has a row, though by the ledger it is not loaded"),
                (set(found) - logged, f"{table} has a row, and the log no such record"),
            ):
                for first, last in runs(sorted(numbers)):
                    self._findings.add("row_unknown", "error", f"{seqs(first, last)}: {why}", stream=stream, seq=first)
        for (table, stream), found in changed.items():
            explained = await self._explained(table, stream, sorted(found)[:_EXPLAINED])
            for seq in sorted(found):
                what = f"the row in {table} is not what the log says{explained.get(seq, '')}"
                self._findings.add("row_differs", "error", what, stream=stream, seq=seq)

    async def _explained(self, table: str, stream: str, numbers: list[int]) -> dict[int, str]:
        """What of some rows is another: ``: price is 2.2, and 2.1118 in the log``."""
        kind = next(kind for kind in KINDS if kind.table == table)
        layout = self._books.layout
        by_segment: dict[int, list[int]] = {}
        for seq, number in self._reading.ask(self._sides["segments_of"], stream, numbers):
            by_segment.setdefault(number, []).append(seq)
        log: dict[int, list[str | None]] = {}
        for number, wanted in list(by_segment.items())[:_SEGMENTS_EXPLAINED]:
            log |= self._reading.cells(self._pending[stream, number], kind, layout.of_log(kind), wanted)
        asked = filled(self._sql["rows"], **layout.of_database(table))
        there = {row["seq"]: row["cells"] for row in await self._database.fetch(asked, stream, numbers)}
        names = layout.names(table)
        return {
            seq: ": "
            + "; ".join(
                f"{name} is {_shown(now, layout.sort(table, name))}, "
                f"and {_shown(said, layout.sort(table, name))} in the log"
                for name, now, said in zip(names, there[seq], log[seq], strict=True)
                if now != said
            )
            for seq in log.keys() & there.keys()
        }

    async def _both(self, table: str, stream: str, bucket: int) -> tuple[dict[int, str], dict[int, str]]:
        """Digests by seq, of the log and of the database, without the records that are noted in audit_rejects."""
        first, last = bucket * BUCKET, bucket * BUCKET + BUCKET - 1
        log = dict(self._reading.ask(self._sides["log_rows"], table, stream, first, last))
        asked = filled(self._sql["row_digests"], **self._books.layout.of_database(table))
        rows = {row["seq"]: row["digest"] for row in await self._database.fetch(asked, stream, first, last)}
        for side in (log, rows):
            for seq in [seq for seq in side if (stream, seq) in self._books.noted]:
                del side[seq]
        return log, rows

    async def mended(self) -> None:
        """Rows of lines that were rejected and taken after all, where they are not what the line itself says."""
        taken: dict[str, list[int]] = {}
        for (stream, seq), state in self._books.noted.items():
            if state == "taken":
                taken.setdefault(stream, []).append(seq)
        for kind in KINDS:
            asked = filled(self._sql["row_digests"], **self._books.layout.of_database(kind.table))
            for stream, numbers in taken.items():
                for first, last in runs(sorted(numbers)):
                    log = dict(self._reading.ask(self._sides["log_rows"], kind.table, stream, first, last))
                    for row in await self._database.fetch(asked, stream, first, last):
                        if log.get(row["seq"]) != row["digest"]:
                            what = f"the row in {kind.table} is that of a line mended since; the log has the old one"
                            self._findings.add("row_mended", "information", what, stream=stream, seq=row["seq"])


def _shown(value: str | None, sort: str) -> str:
    """A value as its row's text has it, for people."""
    if value is None:
        return "NULL"
    if sort == "time" and value.isdecimal() and len(value) <= _MICROSECONDS_DIGITS:
        return timestamp(int(value) * 1000)
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]} ..."
