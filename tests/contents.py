"""What was loaded into a database: row for row, and held against the ledger and the files."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from emitter.segments import SegmentName
from loader.database import Database

TABLES = ("orders", "trades", "order_updates", "events", "audit_rejects", "audit_segments")
# What differs between two right loads: ids from sequences, and when the load was.
_LEFT_OUT = ("id", "loaded_at", "rejected_at")

# One statement sees one snapshot. A record may stand in several tables (an order in its fold, a repaired line in
# audit_rejects too) and counts once; a rejected line whose seq nobody knows counts for itself.
_AGREEMENT = """
WITH placed AS (
    SELECT stream, seq FROM monitoring.orders WHERE stream IS NOT NULL
    UNION SELECT stream, seq FROM monitoring.trades WHERE stream IS NOT NULL
    UNION SELECT stream, seq FROM monitoring.events WHERE stream IS NOT NULL
    UNION SELECT stream, seq FROM monitoring.order_updates
    UNION SELECT stream, seq FROM monitoring.audit_rejects WHERE seq IS NOT NULL
), found AS (
    SELECT stream, count(*) AS records FROM placed GROUP BY stream
), refused AS (
    SELECT
        stream, count(*) FILTER (WHERE seq IS NULL) AS nameless,
        count(*) FILTER (WHERE severity = 'rejected') AS rejected
    FROM monitoring.audit_rejects GROUP BY stream
), ledger AS (
    SELECT stream, sum(records) AS records, sum(rejected) AS rejected FROM monitoring.audit_segments GROUP BY stream
)
SELECT
    stream, coalesce(ledger.records, 0)::bigint AS told, coalesce(ledger.rejected, 0)::bigint AS told_rejected,
    coalesce(found.records, 0) + coalesce(refused.nameless, 0) AS there, coalesce(refused.rejected, 0) AS rejected
FROM ledger FULL JOIN found USING (stream) FULL JOIN refused USING (stream)
"""
_LEDGER = "SELECT file, bytes, records, sha256 FROM monitoring.audit_segments"


async def contents(dsn: str, directory: Path | None = None) -> dict[str, list[str]]:
    """Each table's rows as sorted texts.

    Where a header in ``directory`` makes bytes void, it depends on when they became so how far their segment was
    loaded, and from which places a line that was told again is refused or repaired: of its stream each such line
    stands there once, with all reasons.
    """
    found, voids = {}, await asyncio.to_thread(_voids, directory) if directory else {}
    streams = {stream for stream, _ in voids}
    async with await Database.connect(dsn) as database:
        for table in TABLES:
            rows = await database.fetch(f"SELECT * FROM monitoring.{table}")
            if table == "audit_segments":
                rows = [row for row in rows if (row["stream"], row["segment"]) not in voids]
            if table == "audit_rejects":
                again = _anywhere([row for row in rows if row["stream"] in streams])
                rows = [row for row in rows if row["stream"] not in streams] + again
            found[table] = sorted(
                repr([(name, _value(value)) for name, value in row.items() if name not in _LEFT_OUT]) for row in rows
            )
    return found


def _anywhere(rejects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each line once, wherever it stands: that a trade is a repeated one is said only where it was loaded first."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rejects:
        key = tuple(row[name] for name in ("stream", "seq", "severity", "raw", "raw_bytes"))
        line = lines.setdefault(key, dict(row))
        line.update(segment=None, byte_offset=None, reasons=sorted({*line["reasons"], *row["reasons"]}))
    return list(lines.values())


def _value(value: object) -> object:
    """Without the zeros that a column of a fixed scale adds: an order's own values come from its row, or the record."""
    return value.normalize() if isinstance(value, Decimal) else value


def assert_same(found: dict[str, list[str]], wanted: dict[str, list[str]]) -> None:
    """Assert that two contents are the same; of each table the first rows that only one of them has are said."""
    words = []
    for table in TABLES:
        more, less = ((Counter(a[table]) - Counter(b[table])) for a, b in ((found, wanted), (wanted, found)))
        for rows, what in ((more, "rows too many"), (less, "rows too few")):
            words += [f"{len(rows)} {what} in {table}, as", *list(rows)[:3]] if rows else []
    assert found == wanted, "\n".join(words)


async def agreement(database: Database, directory: Path | None = None) -> int:
    """Assert that, at one instant, the tables hold just what the ledger says; how many records that is.

    Records that were loaded before a failed sync made their bytes void are told again by the next segment: of streams
    whose headers in ``directory`` say so, the ledger tells more.
    """
    rows = await database.fetch(_AGREEMENT)
    again = {stream for stream, _ in await asyncio.to_thread(_voids, directory)} if directory else set()
    for row in rows:
        assert row["rejected"] == row["told_rejected"], row
        assert row["there"] == row["told"] or (row["there"] < row["told"] and row["stream"] in again), row
    return sum(row["there"] for row in rows)


def _voids(directory: Path) -> dict[tuple[str, int], int]:
    """From where the bytes of a segment are void, by stream and number; such segments are never archived."""
    found: dict[tuple[str, int], int] = {}
    for path in directory.glob("*.jsonl"):
        name = SegmentName.parse(path.name)
        try:
            with path.open("rb") as file:
                first = file.readline()
        except FileNotFoundError:  # archived meanwhile
            continue
        if name is None or b'"replaces":' not in first or not first.endswith(b"\n"):
            continue
        for void in json.loads(first)["attributes"]["replaces"]:
            key = name.stream, void["segment"]
            found[key] = min(void["offset"], found.get(key, void["offset"]))
    return found


async def all_loaded(dsn: str, directory: Path) -> int:
    """Assert that every line of every file is accounted for, by a reader that is not the loader's; how many.

    Of bytes that a failed sync made void as many may be loaded as were there before the word of it.
    """
    records, whole, partly = await asyncio.to_thread(_files, directory)
    async with await Database.connect(dsn) as database:
        ledger = {row["file"]: (row["bytes"], row["records"], row["sha256"]) for row in await database.fetch(_LEDGER)}
        for file, (least, most) in partly.items():
            loaded = ledger.pop(file, (0,))[0]
            assert least <= loaded <= most, (file, least, loaded, most)
        assert ledger == whole
        assert await agreement(database, directory) == records
    return records


def _files(directory: Path) -> tuple[int, dict[str, tuple[int, int, str | None]], dict[str, tuple[int, int]]]:
    """Records that count, files that do as a whole, and of the others where their void bytes begin and end."""
    voids, records = _voids(directory), 0
    whole: dict[str, tuple[int, int, str | None]] = {}
    partly: dict[str, tuple[int, int]] = {}
    for path in directory.glob("*.jsonl"):
        name = SegmentName.parse(path.name)
        void = voids.get((name.stream, name.number)) if name else None
        data = path.read_bytes()
        lines = data[:void].splitlines(keepends=True)
        many = sum(not _is_control(line) for line in lines)
        records += many
        if void is None:
            # The digest is that of what stands before the footer.
            whole[path.name] = len(data), many, hashlib.sha256(b"".join(lines[:-1])).hexdigest()
        else:
            partly[path.name] = void, len(data)
    return records, whole, partly


def _is_control(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return "seq" not in record and record["event_name"] in ("segment.opened", "segment.closed", "audit.lost")
