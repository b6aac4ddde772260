"""Partitioned tables: made once, by ``tradetrail migrate --partitioned``, and their partitions a year ahead each time.

The loader may not make tables: what has no partition goes into the default one, and is moved when one is made.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from . import statements
from .database import Database
from .errors import UsageError
from .short_locks import LOCK_ATTEMPTS, SHORT_LOCKS, retried

_MONTHS_AHEAD = 12
# The rows of a month that are moved, and their indexes.
_MOVE_DEADLINE_S = 3600.0
_MONTH = re.compile(r"(\d{4})-(\d{2})")


def month_of(option: str, text: str) -> date:
    """The first day of the month that an option means, given as ``2020-01``."""
    try:
        if found := _MONTH.fullmatch(text.strip()):
            return date(int(found[1]), int(found[2]), 1)
    except ValueError:
        pass  # a month 13
    raise UsageError(f"{option}: {text!r} is no month; write 2020-01")


async def is_partitioned(database: Database) -> bool:
    """Whether the tables are partitioned; False where there are none."""
    return bool(await database.fetchval(statements.load("scale/partitions.sql")["is_partitioned"]))


async def refuse_plain(database: Database) -> None:
    """Raise a ``UsageError`` where the database has a table that would have to be partitioned, and is not."""
    there = await database.fetchval(statements.load("scale/partitions.sql")["any_table"])
    if there is not None and not await is_partitioned(database):
        raise UsageError(
            f"--partitioned makes new tables, and this database has monitoring.{there} already, without partitions; "
            "load into a new database, or go on without --partitioned"
        )


async def make_partitioned(database: Database) -> None:
    """Turn the empty tables that the migrations made into partitioned ones; in the caller's transaction."""
    script = statements.sql_dir() / "scale" / "partitioned.sql"
    await database.execute(script.read_text(encoding="utf-8"))


async def add_partitions(database: Database, since: date | None = None, *, attempts: int = LOCK_ATTEMPTS) -> list[str]:
    """Make the monthly partitions that lack, from ``since`` (else the oldest there is) to a year ahead; their names.

    Each in a transaction of its own that asks for its locks briefly. Safe to run twice, and by several at once.

    Errors: ``TransientError`` where a table could not be locked in so many ``attempts``; the next call goes on.
    """
    sql = statements.load("scale/partitions.sql")
    await database.execute(sql["make_add_partition"])
    made = []
    for lack in await database.fetch(sql["missing"], since, _last_month()):
        table, month = lack["of_table"], lack["of_month"]

        async def add(table: str = table, month: date = month) -> str | None:
            async with database.transaction():
                await database.execute(SHORT_LOCKS)
                await database.execute("SET LOCAL statement_timeout = 0")
                rows = await database.fetch(sql["add"], table, month, deadline_s=_MOVE_DEADLINE_S)
                name: str | None = rows[0]["add_partition"]
                return name

        if name := await retried(database, f"the partition of {table} for {month:%Y-%m}", add, attempts):
            made.append(name)
    return made


async def in_default(database: Database) -> list[str]:
    """The tables whose default partition holds rows; empty where there is none, or this role may not look."""
    sql = statements.load("scale/partitions.sql")
    if not await database.fetchval(sql["may_ask_defaults"]):
        return []
    return [row["name"] for row in await database.fetch(sql["in_default"])]


def hint(tables: list[str]) -> str:
    """What to say of the tables that :func:`in_default` found; nothing of none."""
    if not tables:
        return ""
    return (
        f"rows without a monthly partition in {', '.join(tables)}: queries find them, and "
        "'tradetrail migrate --partitioned --from YYYY-MM' gives them theirs from that month on"
    )


def _last_month() -> date:
    today = datetime.now(UTC).date()
    months = today.year * 12 + today.month - 1 + _MONTHS_AHEAD
    return date(months // 12, months % 12 + 1, 1)
