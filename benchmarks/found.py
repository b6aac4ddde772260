"""What can be found of a contestant's records, once its process is gone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from .contestants import AUDIT, AWAITED, LINES
from .figures import OURS
from .record import FIELDS

_ORDER_ID = str(FIELDS["order_id"]).encode()


def whole_records(path: Path) -> int:
    """Lines of our record that end and can be parsed."""
    if not path.exists():
        return 0
    count = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n") and _ORDER_ID in line:
            try:
                json.loads(line)
            except ValueError:
                continue
            count += 1
    return count


async def rows(dsn: str) -> int:
    """Rows that INSERTs made."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM monitoring.orders"))
    finally:
        await connection.close()


def records(name: str, folder: Path, dsn: str) -> int:
    """Records found, ours after its recovery has finished the stream."""
    if name == AWAITED:
        return asyncio.run(rows(dsn))
    if name == OURS:
        from emitter.recovery import recover

        recover(folder / AUDIT)
        return sum(whole_records(path) for path in (folder / AUDIT).glob("*.jsonl"))
    return whole_records(folder / LINES)
