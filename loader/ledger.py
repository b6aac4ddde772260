"""The ledger of segments: a batch is held against it before it is taken, and noted in it after, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from emitter.segments import parse_footer

from . import statements
from .database import Database
from .prepared import Moved, Prepared
from .staging import filled
from .totals import declared_loss
from .validate import PartCount, Rejects


class SegmentLedger:
    """The ledger (``monitoring.audit_segments``) as one batch meets it. ``voids``: from where on a segment is void."""

    def __init__(self, prepared: Prepared, voids: Mapping[tuple[str, int], int]) -> None:
        self._sql = statements.load("load/merge.sql")
        self._prepared = prepared
        self._voids = voids

    async def claim(self, database: Database, *, unsure: bool) -> bool:
        """Lock the segments' rows; whether the batch is loaded already, by ourselves.

        Errors: :class:`Moved` where the ledger stands elsewhere than the batch begins.
        """
        parts = self._prepared.spooled.parts
        rows = await database.fetch(
            self._sql["ledger_of"], [part.name.stream for part in parts], [part.name.number for part in parts]
        )
        known = {(row["stream"], row["segment"]): row["bytes"] for row in rows}
        done = [known.get((part.name.stream, part.name.number), 0) for part in parts]
        if done == [part.stop for part in parts] and unsure:
            return True
        if done != [part.start for part in parts]:
            raise Moved
        return False

    async def note(self, database: Database, rejects: Rejects | None) -> None:
        """Add the lines with findings, and move each segment's row on."""
        if rejects is not None:
            await database.execute(filled(self._sql["insert_audit_rejects"], rejects.columns))
        control: dict[int, list[str]] = {}
        for found in self._prepared.check.control():
            control.setdefault(found.part, []).append(found.line)
        moved = [self._moved(count, control.get(count.part, [])) for count in self._prepared.parts]
        await database.execute(self._sql["ledger_write"], moved)

    def _moved(self, count: PartCount, control: list[str]) -> dict[str, object]:
        """How a segment's row moves on by a part of it."""
        part = self._prepared.spooled.parts[count.part]
        losses = [declared_loss(line) for line in control]
        footer = next((f for line in control if (f := parse_footer(line.encode()))), None)
        return {
            "stream": part.name.stream,
            "segment": part.name.number,
            "file": str(part.name),
            "service": part.header.service,
            "bytes": part.stop,
            "records": count.records,
            "rejected": count.rejected,
            "lost": sum(lost for lost, _ in losses),
            "losses": [loss for _, ranges in losses for loss in ranges],
            "first_seq": count.first_seq,
            "last_seq": count.last_seq,
            "sha256": footer.sha256 if footer else None,
            "recovered": footer.recovered if footer else False,
            "void_from": self._voids.get((part.name.stream, part.name.number)),
            "opened_at": _time(part.header.timestamp),
            "closed_at": _time(footer.timestamp) if footer else None,
        }


def _time(text: str) -> str | None:
    """A time that PostgreSQL can read; None for what is none."""
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        return None
