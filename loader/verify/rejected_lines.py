"""The lines that the database keeps because they were rejected or repaired, against the files they stand in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

from .. import statements
from ..archive.files import opened as open_segment
from ..database import Database
from ..rejects.rejects import exact
from ..spool import MAX_KEPT_BYTES
from .files import File, Files
from .findings import Findings

_AT_ONCE = 2000
# Such a beginning may lack a character.
_CHARACTER_BYTES = 4


async def check_rejects(database: Database, files: Files, findings: Findings) -> None:
    """Each kept line is, byte for byte, what stands at its place; where the file is here, and reaches so far."""
    sql = statements.load("checks/agreement.sql")["rejects"]
    place: tuple[str, int, int] = ("", 0, -1)
    with contextlib.ExitStack() as stack:
        opened: dict[str, BinaryIO] = {}
        while rows := await database.fetch(sql, *place, _AT_ONCE):
            for row in rows:
                file = files.files.get((row["stream"], row["segment"]))
                if file is not None and not _stands(row, file, opened, stack):
                    what = "the line that audit_rejects keeps is not the one that stands there in the log"
                    findings.add(
                        "reject_differs", "error", what, stream=row["stream"], seq=row["seq"], segment=row["segment"]
                    )
            last = rows[-1]
            place = (last["stream"], last["segment"], last["byte_offset"])


def _stands(row: Mapping[str, Any], file: File, opened: dict[str, BinaryIO], stack: contextlib.ExitStack) -> bool:
    wanted = exact(dict(row))
    if len(wanted) < MAX_KEPT_BYTES - _CHARACTER_BYTES:
        wanted += b"\n"  # of a longer line its beginning is kept
    start = row["byte_offset"]
    if start + len(wanted) > file.end:
        return True  # what became of the file is said elsewhere; after a loss of power its footer may stand there
    name = str(file.name)
    if name not in opened:
        stack.pop_all().close()  # they come in the order of the files
        opened.clear()
        opened[name] = stack.enter_context(open_segment(file.path))
    return os.pread(opened[name].fileno(), len(wanted), start) == wanted
