"""``tradetrail status``: what the files hold beside what PostgreSQL has of it, stream by stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emitter.segments import SegmentName

from . import statements
from .archive.files import FOLDER, archives_in, lost_folder
from .database import Database
from .inventory import Inventory, SegmentFile, is_living, take_inventory
from .partitions import in_default
from .text import count


@dataclass(slots=True)
class StreamStatus:
    """One stream. What the database would know is None while it cannot be asked.

    ``state``: ``live`` (its emitter runs), ``closed``, ``unfinished`` (its emitter died; the next load finishes it),
    ``archived`` (all its files are), ``no files`` (loaded, and the files are gone). ``behind_bytes`` counts whole lines
    only. ``archived`` are segments of which only the archive is there, and ``archived_bytes`` what they have packed.
    """

    stream: str
    service: str
    started_at: datetime | None
    state: str
    segments: int
    emitted: int | None
    archived: int = 0
    archived_bytes: int = 0
    loaded: int | None = None
    rejected: int | None = None
    lost: int | None = None
    behind: int | None = None
    behind_bytes: int | None = None
    loaded_at: datetime | None = None


@dataclass(slots=True)
class Status:
    """All streams, and what a person should know. ``in_default``: tables with rows that have no monthly partition."""

    streams: list[StreamStatus] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    in_default: list[str] = field(default_factory=list)
    database: str = "ok"

    def total(self, name: str) -> int | None:
        """The sum of a figure; None where a stream has none, as the database could not be asked for it."""
        values = [getattr(stream, name) for stream in self.streams]
        return None if None in values else sum(values)

    def as_json(self) -> dict[str, Any]:
        names = (
            *("segments", "archived", "archived_bytes", "emitted", "loaded", "rejected", "lost"),
            *("behind", "behind_bytes"),
        )
        return {
            "database": self.database,
            "streams": [asdict(stream) for stream in self.streams],
            "total": {name: self.total(name) for name in names},
            "problems": self.problems,
            **({"in_default": self.in_default} if self.in_default else {}),
        }


@dataclass(slots=True)
class Ledger:
    """What PostgreSQL has: figures by stream, bytes by (stream, segment), tables with rows in a default partition."""

    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    bytes: dict[tuple[str, int], int] = field(default_factory=dict)
    in_default: list[str] = field(default_factory=list)


async def read_ledger(dsn: str) -> Ledger:
    """Ask PostgreSQL; a database that was never loaded into has an empty ledger."""
    sql = statements.load("views/ledger.sql")
    async with await Database.connect(dsn) as database:
        if not await database.fetchval(sql["is_there"]):
            return Ledger()
        streams = {row["stream"]: row for row in await database.fetch(sql["streams"])}
        progress = await database.fetch(sql["progress"])
        left = await in_default(database)
    return Ledger(streams, {(row["stream"], row["segment"]): row["bytes"] for row in progress}, left)


@dataclass(frozen=True, slots=True)
class _Archive:
    """A segment that is only in the archive, and its bytes there."""

    name: SegmentName
    bytes: int


def take_status(directory: Path, ledger: Ledger | None) -> Status:
    """Hold the files against the ledger (None: it could not be asked)."""
    inventory = take_inventory(directory)
    status = Status(problems=inventory.problems)
    files: dict[str, list[SegmentFile]] = {}
    for file in inventory.files:
        files.setdefault(file.name.stream, []).append(file)
    archives: dict[str, list[_Archive]] = {}
    archived = list(_archived(directory, inventory))
    for archive in archived:
        archives.setdefault(archive.name.stream, []).append(archive)
    known = ledger.streams if ledger else {}
    for stream in sorted({*files, *archives, *known}):
        found = _stream(stream, files.get(stream, []), archives.get(stream, []), inventory, ledger)
        status.streams.append(found)
    if problem := lost_folder(directory):
        status.problems[FOLDER] = problem
    if ledger is not None:
        status.in_default = ledger.in_default
        status.problems |= _amiss(inventory, archived, ledger)
    return status


def _amiss(inventory: Inventory, archived: list[_Archive], ledger: Ledger) -> dict[str, str]:
    """What the ledger and the files do not agree on, though a load would not mend it."""
    found = {}
    if unloaded := sum((one.name.stream, one.name.number) not in ledger.bytes for one in archived):
        restore = "tradetrail archive restore --unloaded, then load"
        found[FOLDER] = f"{count(unloaded, 'segment')} not in the database: {restore}"
    for file in inventory.files:
        done = ledger.bytes.get((file.name.stream, file.name.number), 0)
        if file.bytes < min(done, inventory.voids.get((file.name.stream, file.name.number), done)):
            found[str(file.name)] = f"has shrunk to {file.bytes} bytes, {done} were loaded"
    return found


def _archived(directory: Path, inventory: Inventory) -> Iterator[_Archive]:
    there = {file.name for file in inventory.files}
    for name, path in archives_in(directory).items():
        if name not in there:
            with suppress(FileNotFoundError):  # its segment was restored, and the archive taken away
                yield _Archive(name, path.stat().st_size)


def _stream(
    stream: str,
    files: list[SegmentFile],
    archives: list[_Archive],
    inventory: Inventory,
    ledger: Ledger | None,
) -> StreamStatus:
    row = ledger.streams.get(stream, {}) if ledger else {}
    found = StreamStatus(
        stream=stream,
        service=_service(files, archives, row),
        started_at=_moment(files[0].header.timestamp) if files else row.get("started_at"),
        state=_state(files, archives),
        segments=len(files),
        emitted=_emitted(files, row),
        archived=len(archives),
        archived_bytes=sum(archive.bytes for archive in archives),
    )
    if ledger is not None:
        found.loaded = row.get("loaded", 0)
        found.rejected = row.get("rejected", 0)
        found.lost = row.get("lost", 0)
        found.loaded_at = row.get("loaded_at")
        found.behind_bytes = sum(
            max(0, inventory.end(file) - ledger.bytes.get((stream, file.name.number), 0)) for file in files
        )
        if found.emitted is not None:
            # The last line's seq may be unreadable: what is taken to the end is not behind.
            found.behind = found.emitted - (row.get("last_seq") or 0) if found.behind_bytes else 0
    return found


def _service(files: list[SegmentFile], archives: list[_Archive], row: Mapping[str, Any]) -> str:
    if files:
        return files[0].header.service
    return str(row.get("service") or (archives[0].name.service if archives else ""))


def _emitted(files: list[SegmentFile], row: Mapping[str, Any]) -> int | None:
    """The greatest number known; archives would have to be unpacked for theirs, and the database knows it."""
    if not files and not row:
        return None
    return max(max((file.last_seq for file in files if file.last_seq), default=0), row.get("last_seq") or 0)


def _moment(text: str) -> datetime | None:
    """The time in a header; None where a damaged one says none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _state(files: list[SegmentFile], archives: list[_Archive]) -> str:
    if not files:
        return "archived" if archives else "no files"
    if is_living(files[-1].path):
        return "live"
    return "closed" if files[-1].footer else "unfinished"
