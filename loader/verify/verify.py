"""``tradetrail verify``: is the trail complete, unchanged and consistent, and is it what the database has?

Nothing is written, neither to the log nor to the database. PostgreSQL is asked first, of one state of it; then the
files are fixed as they are, and read once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emitter.seal import Seal

from .. import statements
from ..archive.locks import reading
from ..database import Database
from ..ending import run
from ..text import count
from . import completeness
from .agreement import Comparison, Difference, differences
from .books import Books, fill_books, open_books
from .consistency import check_log, check_positions
from .facts import Reading
from .files import take_files
from .findings import Findings
from .head import Head, check_head
from .rejected_lines import check_rejects
from .unchanged import Unchanged

# One question goes over all that was ever loaded.
_DEADLINE_S = 900.0

_TAMPERED = (
    "segment_changed", "segment_cut", "segment_missing", "segment_unreadable", "bytes_behind_footer", "footer_wrong",
    "chain_broken", "seal_broken", "unsealed", "unfinished", "head_changed", "head_cut", "head_missing",
)  # fmt: skip
_INCOMPLETE = ("hole", "seq_twice", "out_of_order", "segment_missing", "segment_cut", "segment_unreadable")
_DISAGREEING = (
    "row_differs", "row_missing", "row_unknown", "reject_differs", "hole_in_database", "count_differs",
    "archived_not_loaded",
)  # fmt: skip
# Rules that are no such, so that who asks what is proved hears the right word.
_NOT_INCONSISTENT = frozenset((*_TAMPERED, *_INCOMPLETE, *_DISAGREEING))


@dataclass(slots=True)
class Verdict:
    """What was found, and over how much. ``database``: whether it was asked, or why not."""

    findings: Findings
    streams: int = 0
    records: int = 0
    rejected: int = 0
    lost: int = 0
    not_loaded: int = 0
    bytes: int = 0
    seconds: float = 0.0
    database: str = "ok"
    left_out: list[str] = field(default_factory=list)

    @property
    def compared(self) -> bool:
        """Whether the database was held against the log."""
        return self.database == "ok"

    @property
    def proved(self) -> str:
        """One sentence: over what, and what of it was proved."""
        if not self.streams:
            return "no streams: there is nothing to verify"
        over = f"{count(self.streams, 'stream')}, {count(self.records, 'record')}"
        if self.lost:
            over += f", {self.lost:,} declared lost"
        if self.rejected:
            over += f", {self.rejected:,} rejected"
        words = [
            "not complete" if self._any(_INCOMPLETE) else "complete",
            "not unchanged" if self._any(_TAMPERED) else "unchanged",
            "not consistent" if self._inconsistent() else "consistent",
        ]
        said = f"{over}: {', '.join(words)}"
        if self.compared:
            said += "; logs and database " + ("do not agree" if self._any(_DISAGREEING) else "agree")
        return said

    def _any(self, rules: Collection[str]) -> bool:
        return any(rule in rules and severity != "information" for severity, rule in self.findings.counts)

    def _inconsistent(self) -> bool:
        return any(
            rule not in _NOT_INCONSISTENT and severity != "information" for severity, rule in self.findings.counts
        )

    def as_json(self) -> dict[str, Any]:
        counts = {rule: number for (_, rule), number in self.findings.counts.items()}
        names = ("streams", "records", "rejected", "lost", "not_loaded", "bytes", "database")
        return {
            "findings": self.findings.as_json(),
            "counts": counts,
            "proved": self.proved,
            **{name: getattr(self, name) for name in names},
            "left_out": self.left_out,
            "seconds": round(self.seconds, 3),
        }


def verify(
    directory: Path,
    dsn: str | None,
    *,
    seal: Seal | None = None,
    head: Head | None = None,
    ignored: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verdict:
    """All checks. ``dsn`` None: without a database. ``progress`` is told bytes done and in all.

    Errors: :class:`~loader.errors.UsageError` for a directory that is not there, and those of the database's door.
    """
    started = time.monotonic()
    findings = Findings(frozenset(ignored))
    verdict = Verdict(findings)
    with ExitStack() as stack:
        stack.enter_context(reading(directory))
        audit = _Audit(directory, verdict, stack, progress)
        if dsn is None:
            audit.begin(None)
            audit.read()
            verdict.database = "left out"
        else:
            run(_ask(dsn, audit))
            verdict.database = "ok" if audit.books else "nothing was ever loaded into it"
        audit.judge(seal, head)
        differing = audit.agree()
        if dsn is not None and audit.books is not None and differing is not None:
            run(_compare(dsn, audit, differing))
        audit.count()
    verdict.seconds = time.monotonic() - started
    return verdict


class _Audit:
    """One run: what the database has, the files, and what was read of them."""

    def __init__(
        self, directory: Path, verdict: Verdict, stack: ExitStack, progress: Callable[[int, int], None]
    ) -> None:
        self.verdict, self.findings = verdict, verdict.findings
        self.books: Books | None = None
        self.stopped = False
        self._directory, self._stack, self._progress = directory, stack, progress
        self._done = {"read": 0, "hashed": 0}

    def begin(self, books: Books | None) -> None:
        """Fix the files as they are, after the database was asked how far it is: so they have all that it has."""
        self.books = books
        self.files = take_files(self._directory)
        columns = books.columns if books else {}
        self.reading = self._stack.enter_context(Reading(columns, books.layout.of_log if books else None))

    def read(self) -> None:
        """Read all lines."""
        loaded = self.books.loaded() if self.books else {}
        self.reading.read(self.files.pending, loaded, self.files.living, self._has_read, self.files.problems)

    def _has_read(self, number: int) -> None:
        if self.stopped:
            raise _Stopped
        self._advance("read", number)

    def _advance(self, what: str, number: int) -> None:
        self._done[what] = number
        # Each byte is read twice, for its line and for its digest: each time it counts half.
        self._progress(sum(self._done.values()) // 2, sum(item.size for item in self.files.pending))

    def judge(self, seal: Seal | None, head: Head | None) -> None:
        """All that the files alone, and the ledger, can tell."""
        self.unchanged = Unchanged(self.files, self.books.ledger if self.books else {}, self.findings, seal)
        self.unchanged.check(
            self.reading.facts.segments, lambda number: self._advance("hashed", self._done["hashed"] + number)
        )
        excused = self.unchanged.excused
        if head is not None:
            check_head(head, self.files, self.unchanged.ledger, self.findings)
        self.missing = completeness.check_files(self.reading, self.files.streams(), excused, self.findings)
        whole = not excused and not self.findings.has("hole")
        self.verdict.left_out = check_log(self.reading, self.findings, whole=whole)

    def agree(self) -> list[Difference] | None:
        """What the tables lack; where they and the log differ. None: there is nothing to look at row by row."""
        if self.books is None:
            return None
        completeness.check_database(self.reading, self.books, self.missing, self.findings)
        completeness.check_counts(self.books, self.files.streams(), self.findings)
        for stream, segment, records, first, last in self.reading.facts.not_loaded:
            self.verdict.not_loaded += records
            what = f"{count(records, 'record')} not loaded yet, from {first} to {last}"
            self.findings.add("not_loaded", "information", what, stream=stream, seq=first, segment=segment)
        found = differences(self.reading, self.books)
        return found if found or "taken" in self.books.noted.values() else None

    def count(self) -> None:
        facts, verdict = self.reading.facts, self.verdict
        verdict.streams = len({*self.files.streams(), *(stream for stream, _ in self.unchanged.ledger)})
        verdict.records, verdict.rejected, verdict.bytes = facts.records, facts.rejected, facts.bytes
        verdict.lost = completeness.lost(facts)


class _Stopped(Exception):
    """The other side failed, or a signal came."""


async def _ask(dsn: str, audit: _Audit) -> None:
    """Ask PostgreSQL, of one state of it, while the files are read."""
    async with await Database.connect(dsn, deadline_s=_DEADLINE_S) as database, database.transaction():
        await database.execute(statements.load("checks/agreement.sql")["begin"])
        books = await open_books(database)
        await asyncio.to_thread(audit.begin, books)
        reading = asyncio.ensure_future(asyncio.to_thread(audit.read))
        try:
            if books is not None:
                await fill_books(database, books, audit.files.present, audit.findings)
                await check_rejects(database, audit.files, audit.findings)
                await check_positions(database, books.columns["positions"], audit.findings)
        except BaseException:
            audit.stopped = True
            await asyncio.wait({reading})
            with suppress(Exception):
                reading.result()
            raise
    await reading


async def _compare(dsn: str, audit: _Audit, found: list[Difference]) -> None:
    assert audit.books is not None  # noqa: S101  the caller's condition
    async with await Database.connect(dsn, deadline_s=_DEADLINE_S) as database:
        comparison = Comparison(database, audit.reading, audit.books, audit.files.pending, audit.findings)
        await comparison.compare(found, audit.unchanged.excused)
        await comparison.mended()
