"""Rejected lines as a batch: how they are laid out to be checked, and what the batch is held against and noted in."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from emitter.records import SCHEMA_VERSION
from emitter.segments import Header, SegmentName

from .. import statements
from ..database import Database
from ..prepared import Moved, Prepared
from ..spool import OddLine, Spooled, batches
from ..tail import Pending
from ..validate import Rejects

# Why a line stands for no record, or for another one, by its id: rules of sql/load/retry_rules.sql, with what they say.
Misplaced = Mapping[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Line:
    """A rejected line that is tried again.

    ``seq`` is that of its record, where known. ``number`` is the line of the file that it was mended in, if it was.
    """

    id: int
    stream: str
    segment: int
    byte_offset: int
    seq: int | None
    data: bytes
    number: int | None = None


class Gone(Moved):
    """Somebody else has taken lines meanwhile; ``ids`` says which."""

    def __init__(self, ids: set[int]) -> None:
        super().__init__()
        self.ids = ids


class OutOfPlace(Exception):
    """Lines whose records are there already, as others."""

    def __init__(self, lines: Misplaced) -> None:
        super().__init__()
        self.lines = lines


def spool(lines: Sequence[Line], misplaced: Misplaced, folder: Path) -> Spooled:
    """Lay lines out as a batch, each a part of its own in the place where it was rejected."""
    path = folder / "lines"
    pending = []
    with path.open("wb") as file:
        for line in lines:
            start = file.tell()
            file.write(b"" if line.id in misplaced else line.data)
            file.write(b"\n")
            name = SegmentName(line.stream, line.segment, "rejects")
            last_seq = None if line.seq is None else line.seq - 1
            pending.append(Pending(name, path, start, file.tell(), last_seq, _no_header(name)))
    (spooled,) = batches(pending, folder, sys.maxsize)
    path.unlink()
    spooled.parts = [
        replace(part, start=line.byte_offset, stop=line.byte_offset + part.stop - part.start, last_seq=of.last_seq)
        for part, line, of in zip(spooled.parts, lines, pending, strict=True)
    ]
    for n, line in enumerate(lines, 1):
        if line.id in misplaced:
            spooled.odd.append(OddLine(n, "", None, 0, *misplaced[line.id]))
    return spooled


def misplaced(lines: Sequence[Line], prepared: Prepared) -> Misplaced:
    """Of the lines that passed, those that are no records, or not the ones that stood in their places."""
    control = {found.part for found in prepared.check.control()}
    passed = [(lines[count.part], count) for count in prepared.parts if not count.rejected or count.part in control]
    claims = Counter((line.stream, count.first_seq) for line, count in passed)
    found = {}
    for line, count in passed:
        if count.part in control:
            found[line.id] = ("no_record", "")
        elif line.seq is None and claims[line.stream, count.first_seq] > 1:
            found[line.id] = ("seq_taken", str(count.first_seq))
        elif line.seq not in (None, count.first_seq):
            found[line.id] = (
                "seq_of_another_record",
                f"{count.first_seq}, but the record that belongs here is number {line.seq}",
            )
    return found


class RejectBooks:
    """``monitoring.audit_rejects`` as a batch of its lines meets it."""

    def __init__(self, lines: Sequence[Line], prepared: Prepared) -> None:
        self._sql = statements.load("load/retry.sql")
        self._lines = lines
        self._prepared = prepared
        self._taken_at: datetime | None = None

    def _taken(self) -> tuple[list[int], list[str], list[int]]:
        """Ids, streams and seqs of the lines that passed."""
        passed = [
            (self._lines[count.part], count.first_seq)
            for count in self._prepared.parts
            if not count.rejected and count.first_seq is not None
        ]
        return [line.id for line, _ in passed], [line.stream for line, _ in passed], [seq for _, seq in passed]

    async def claim(self, database: Database, *, unsure: bool) -> bool:
        """Lock the lines and look at them again; whether they are taken already, by ourselves.

        Errors: :class:`Gone` where others took some, :class:`OutOfPlace`.
        """
        rows = await database.fetch(self._sql["lock_lines"], [line.id for line in self._lines])
        ids, streams, seqs = self._taken()
        when = {row["id"]: row["retried_at"] for row in rows}
        if unsure and self._taken_at is not None and ids and all(when.get(id_) == self._taken_at for id_ in ids):
            return True
        waiting = {row["id"] for row in rows if row["retried_at"] is None and row["severity"] == "rejected"}
        gone = {line.id for line in self._lines} - waiting
        if gone:
            raise Gone(gone)
        unknown = {line.id for line in self._lines if line.seq is None}
        asked = [key for key in zip(ids, streams, seqs, strict=True) if key[0] in unknown]
        if asked:
            await self._hold_against(database, "taken_seqs", *(list(column) for column in zip(*asked, strict=True)))
        self._taken_at = await database.fetchval("SELECT clock_timestamp()")
        return False

    async def note(self, database: Database, rejects: Rejects | None) -> None:
        """Mark what was taken, say anew why the others were not, and count both in the ledger.

        Errors: :class:`OutOfPlace`.
        """
        ids, streams, seqs = self._taken()
        await self._hold_against(database, "doubled_seqs", ids, streams, seqs)
        await database.execute(self._sql["note_taken"], self._taken_at, ids, seqs)
        await database.execute(self._sql["note_in_ledger"], ids)
        if rejects is not None:
            await database.execute(self._sql["note_repairs"], ids)
            # The reasons are those of the kept line: what a mended one lacks is said where it was mended.
            left = {line.id for line in self._lines if line.number is None}.difference(ids)
            await database.execute(self._sql["note_reasons"], list(left))

    async def _hold_against(self, database: Database, question: str, *keys: Sequence[object]) -> None:
        found = {row["id"] for row in await database.fetch(self._sql[question], *keys)}
        if found:
            ids, _, seqs = self._taken()
            raise OutOfPlace({id_: ("seq_taken", str(seq)) for id_, seq in zip(ids, seqs, strict=True) if id_ in found})


def _no_header(name: SegmentName) -> Header:
    return Header(
        stream=name.stream,
        segment=name.number,
        service=name.service,
        schema_version=SCHEMA_VERSION,
        timestamp="",
        pid=None,
        boot_id=None,
        ring=None,
        previous_sha256=None,
        replaces=(),
        resource={},
    )
