"""Views for people in PostgreSQL: made from the same SQL that the commands run, and made anew when that has changed.

They are no migrations: nothing of the loader reads them, and a program that finds them of another version runs its own.
"""

from __future__ import annotations

import hashlib

from .database import Database
from .errors import DatabaseError
from .round_trips import round_trips

_COMMENT = "SELECT obj_description(to_regclass('monitoring.' || $1), 'pg_class')"
# Columns were renamed or taken away (invalid_table_definition): it cannot be replaced in place.
_CANNOT_REPLACE = "42P16"


def views() -> dict[str, str]:
    """The SELECT of each view, by name."""
    return {"round_trips": round_trips("postgres")}


async def outdated(database: Database) -> list[str]:
    """The views that are missing or made from another text."""
    return [name for name, sql in views().items() if await database.fetchval(_COMMENT, name) != _comment(sql)]


async def make(database: Database, name: str) -> None:
    """Make a view, or make it anew, in one transaction."""
    sql = views()[name]
    try:
        await _make(database, name, sql, drop=False)
    except DatabaseError as error:
        if error.sqlstate != _CANNOT_REPLACE:
            raise
        await _make(database, name, sql, drop=True)


async def _make(database: Database, name: str, sql: str, *, drop: bool) -> None:
    async with database.transaction():
        if drop:
            await database.execute(f"DROP VIEW monitoring.{name}")
        await database.execute(f"CREATE OR REPLACE VIEW monitoring.{name} AS {sql}")
        await database.execute(f"COMMENT ON VIEW monitoring.{name} IS '{_comment(sql)}'")


def _comment(sql: str) -> str:
    digest = hashlib.sha256(sql.encode()).hexdigest()
    return f"One row for each round trip, by FIFO. Made by tradetrail migrate from {digest}"
