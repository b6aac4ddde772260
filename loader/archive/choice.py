"""Which segments may be archived: closed, loaded to the last byte, synced, and left alone by emitter and recovery.

What may not be is left where it lies, and counted with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from emitter.segments import SegmentName, boot_id

from .. import statements
from ..database import Database
from ..inventory import Inventory, SegmentFile, is_living
from ..tail import Key

# A writer, and who finishes what it left, may need the last two of a stream: while it rotates it holds both.
_AT_WORK = 2

IN_USE = "still in use: newest of a stream that goes on, or not synced yet"
UNFINISHED = "of a bot that died, to be finished by the next load"
NOT_LOADED = "not loaded to the last byte"
REPLACED = "with bytes that a failed sync made void, or that replace such"


class Loaded(NamedTuple):
    """A segment that the database has to its last byte."""

    file: str
    bytes: int
    sha256: str
    closed_at: datetime


@dataclass(slots=True)
class Choice:
    """The segments that may be archived, how many may not by reason, and by file what a person has to look at."""

    ready: list[SegmentFile] = field(default_factory=list)
    waiting: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)


async def read_loaded(dsn: str) -> dict[Key, Loaded]:
    """What the database has whole."""
    async with await Database.connect(dsn) as database:
        if not await database.fetchval(statements.load("views/ledger.sql")["is_there"]):
            return {}
        rows = await database.fetch(statements.load("archive/ledger.sql")["whole_segments"])
    return {(row.pop("stream"), row.pop("segment")): Loaded(**row) for row in rows}


def choose(inventory: Inventory, loaded: Mapping[Key, Loaded]) -> Choice:
    """Of the raw segments of a log."""
    choice = Choice(problems=dict(inventory.problems))
    streams: dict[str, list[SegmentFile]] = {}
    for file in inventory.files:
        streams.setdefault(file.name.stream, []).append(file)
    for files in streams.values():
        _choose_of_stream(files, inventory, loaded, choice)
    return choice


def _choose_of_stream(
    files: Sequence[SegmentFile], inventory: Inventory, loaded: Mapping[Key, Loaded], choice: Choice
) -> None:
    living = any(is_living(file.path) for file in files[-_AT_WORK:])
    if not living and not _is_finished(files[-1]):
        choice.waiting[UNFINISHED] += len(files)
        return
    behind = {file.name.number: file for file in files}
    for at, file in enumerate(files):
        row = loaded.get((file.name.stream, file.name.number))
        if (living and at >= len(files) - _AT_WORK) or is_living(file.path):
            choice.waiting[IN_USE] += 1
        elif file.header.replaces or (file.name.stream, file.name.number) in inventory.voids:
            choice.waiting[REPLACED] += 1
        elif file.footer is None or row is None or row.bytes > file.bytes or row.file != str(file.name):
            choice.waiting[NOT_LOADED] += 1
        elif problem := _problem(file, row, behind.get(file.name.number + 1)):
            choice.problems[str(file.name)] = f"{problem}; it is not archived"
        else:
            choice.ready.append(file)


def _is_finished(last: SegmentFile) -> bool:
    """Whether nobody will write to its stream any more: it has its last footer, and no ring."""
    header = last.header
    ring = header.ring is not None and header.boot_id == boot_id() and Path(header.ring).exists()
    return last.footer is not None and not ring


def _problem(file: SegmentFile, row: Loaded, behind: SegmentFile | None) -> str | None:
    assert file.footer is not None  # noqa: S101  the caller's condition
    if file.bytes != row.bytes:
        return f"has {file.bytes:,} bytes, and {row.bytes:,} were loaded"
    if file.footer.sha256 != row.sha256:
        return "its footer has another digest than the database"
    if behind is not None and behind.header.previous_sha256 not in (None, file.footer.sha256):
        return "the header of the next segment has another digest than its footer"
    return None


def names_of(loaded: Mapping[Key, Loaded]) -> set[SegmentName]:
    """The segments that the database has whole, by name."""
    names = (SegmentName.parse(row.file) for row in loaded.values())
    return {name for name in names if name is not None}
