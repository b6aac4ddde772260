"""A batch between its checks and its transaction."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .spool import Spooled
from .totals import Totals
from .validate import Check, PartCount, Rejects, Rows


class Moved(Exception):
    """Somebody else has taken some of these lines meanwhile: look again at what there is."""


@dataclass(slots=True)
class Prepared:
    """A batch that is checked and waits for PostgreSQL."""

    spooled: Spooled
    folder: Path
    check: Check
    rows: list[Rows]
    rejects: Rejects | None
    parts: list[PartCount]
    outcome: Totals | None = None  # what was sent to COMMIT last

    @property
    def seqs(self) -> list[tuple[str, int, int]]:
        """(stream, first seq, last seq) of the records that were read; parts that follow each other as one."""
        found: list[tuple[str, int, int]] = []
        for count in self.parts:
            if count.first_seq is None or count.last_seq is None:
                continue
            stream, first = self.spooled.parts[count.part].name.stream, count.first_seq
            if found and found[-1][0] == stream and found[-1][2] + 1 == first:
                first = found.pop()[1]
            found.append((stream, first, count.last_seq))
        return found

    def mark(self, marks: list[tuple[str, int, str, str]]) -> None:
        """Note what PostgreSQL said of records, as (stream, seq, rule, detail): ``rejects`` has them from now on."""
        self.check.mark(marks)
        self.rejects = self.check.rejects()

    def unsettle(self) -> None:
        """Make the rows anew, each record as it is and without those that were refused, for a merge to fold."""
        self.rows = self.check.rows()
        self.parts = self.check.parts()

    def discard(self) -> None:
        self.check.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)
