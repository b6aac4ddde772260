"""All that was loaded into a database, for tests that compare two of them row for row."""

from __future__ import annotations

from loader.database import Database

TABLES = ("orders", "trades", "order_updates", "events", "audit_rejects", "audit_segments")
# What differs between two right loads: ids from sequences, and when the load was.
_LEFT_OUT = ("id", "loaded_at", "rejected_at")


async def contents(dsn: str) -> dict[str, list[str]]:
    """Each table's rows as sorted texts."""
    found = {}
    async with await Database.connect(dsn) as database:
        for table in TABLES:
            rows = await database.fetch(f"SELECT * FROM monitoring.{table}")
            found[table] = sorted(
                repr([(name, value) for name, value in row.items() if name not in _LEFT_OUT]) for row in rows
            )
    return found
