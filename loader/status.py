"""``tradetrail status``: what the files hold beside what PostgreSQL has of it, stream by stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import statements
from .database import Database
from .inventory import Inventory, SegmentFile, is_living, take_inventory
from .partitions import in_default


@dataclass(slots=True)
class StreamStatus:
    """One stream. What the database would know is None while it cannot be asked.

    ``state``: ``live`` (its emitter runs), ``closed``, ``unfinished`` (its emitter died; the next load finishes it),
    ``no files`` (loaded, and the files are gone). ``behind_bytes`` counts whole lines only.
    """

    stream: str
    service: str
    started_at: datetime | None
    state: str
    segments: int
    emitted: int
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
        """The sum of a figure; None where the database could not be asked for it."""
        values = [getattr(stream, name) for stream in self.streams]
        return None if None in values else sum(values)

    def as_json(self) -> dict[str, Any]:
        names = ("segments", "emitted", "loaded", "rejected", "lost", "behind", "behind_bytes")
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


def take_status(directory: Path, ledger: Ledger | None) -> Status:
    """Hold the files against the ledger (None: it could not be asked)."""
    inventory = take_inventory(directory)
    status = Status(problems=inventory.problems)
    files: dict[str, list[SegmentFile]] = {}
    for file in inventory.files:
        files.setdefault(file.name.stream, []).append(file)
    known = ledger.streams if ledger else {}
    for stream in sorted({*files, *known}):
        status.streams.append(_stream(stream, files.get(stream, []), inventory, ledger))
    if ledger is not None:
        status.in_default = ledger.in_default
        for file in inventory.files:
            done = ledger.bytes.get((file.name.stream, file.name.number), 0)
            if file.bytes < done:
                status.problems[str(file.name)] = f"has shrunk to {file.bytes} bytes, {done} were loaded"
    return status


def _stream(stream: str, files: list[SegmentFile], inventory: Inventory, ledger: Ledger | None) -> StreamStatus:
    row = ledger.streams.get(stream, {}) if ledger else {}
    emitted = max((file.last_seq for file in files if file.last_seq), default=0)
    found = StreamStatus(
        stream=stream,
        service=files[0].header.service if files else row["service"] or "",
        started_at=_moment(files[0].header.timestamp) if files else row["started_at"],
        state=_state(files),
        segments=len(files),
        emitted=max(emitted, row.get("last_seq") or 0),
    )
    if ledger is not None:
        found.loaded = row.get("loaded", 0)
        found.rejected = row.get("rejected", 0)
        found.lost = row.get("lost", 0)
        found.loaded_at = row.get("loaded_at")
        found.behind_bytes = sum(
            max(0, inventory.end(file) - ledger.bytes.get((stream, file.name.number), 0)) for file in files
        )
        # The last line's seq may be unreadable: what is taken to the end is not behind.
        found.behind = found.emitted - (row.get("last_seq") or 0) if found.behind_bytes or not files else 0
    return found


def _moment(text: str) -> datetime | None:
    """The time in a header; None where a damaged one says none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _state(files: list[SegmentFile]) -> str:
    if not files:
        return "no files"
    if is_living(files[-1].path):
        return "live"
    return "closed" if files[-1].footer else "unfinished"
