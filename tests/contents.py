"""What was loaded into a database: row for row, and held against the ledger and the files."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

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


async def contents(dsn: str) -> dict[str, list[str]]:
    """Each table's rows as sorted texts."""
    found = {}
    async with await Database.connect(dsn) as database:
        for table in TABLES:
            rows = await database.fetch(f"SELECT * FROM monitoring.{table}")
            found[table] = sorted(
                repr([(name, _value(value)) for name, value in row.items() if name not in _LEFT_OUT]) for row in rows
            )
    return found


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
    again = await asyncio.to_thread(_told_again, directory) if directory else set()
    for row in rows:
        assert row["rejected"] == row["told_rejected"], row
        assert row["there"] == row["told"] or (row["there"] < row["told"] and row["stream"] in again), row
    return sum(row["there"] for row in rows)


def _told_again(directory: Path) -> set[str]:
    """Streams of which a segment replaces bytes of another; such segments are never archived."""
    found = set()
    for path in directory.glob("*.jsonl"):
        name = SegmentName.parse(path.name)
        with path.open("rb") as file:
            if name and b'"replaces":' in file.readline():
                found.add(name.stream)
    return found


async def all_loaded(dsn: str, directory: Path) -> int:
    """Assert that every line of every file is accounted for, by a reader that is not the loader's; how many."""
    files = await asyncio.to_thread(lambda: {path.name: _read(path) for path in directory.glob("*.jsonl")})
    async with await Database.connect(dsn) as database:
        ledger = {row["file"]: (row["bytes"], row["records"], row["sha256"]) for row in await database.fetch(_LEDGER)}
        assert ledger == files
        assert await agreement(database) == sum(records for _, records, _ in files.values())
    return sum(records for _, records, _ in files.values())


def _read(path: Path) -> tuple[int, int, str | None]:
    """(bytes, record lines, digest of what stands before the footer) of a closed file."""
    lines = path.read_bytes().splitlines(keepends=True)
    records = sum(not _is_control(line) for line in lines)
    return sum(map(len, lines)), records, hashlib.sha256(b"".join(lines[:-1])).hexdigest()


def _is_control(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return "seq" not in record and record["event_name"] in ("segment.opened", "segment.closed", "audit.lost")
