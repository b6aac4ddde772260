"""Finds out which rows of a batch PostgreSQL refuses, where it says so only of all of them together: a constraint or a
trigger in an INSERT, in the UPDATE of a fold, or more of them than could be asked for one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from . import statements
from .database import Database
from .errors import REFUSALS
from .staging import filled
from .validate import Rows

# So many are one round trip: far less than a deadline, even where each has to be tried alone.
_ROWS_AT_ONCE = 1000


class _Found(Exception):
    """Leaves the savepoint, which undoes all that was tried."""


async def refused_rows(database: Database, rows: Iterable[Rows]) -> list[tuple[str, int, str]]:
    """(stream, seq, reason) of each row that PostgreSQL refuses; nothing is left behind.

    ``rows`` are the records as they are, not settled, in the order in which tables are loaded. To be asked inside the
    transaction that takes them, so that it holds the locks.
    """
    sql = statements.load("load/sift.sql")
    found: list[tuple[str, int, str]] = []
    with suppress(_Found):
        async with database.savepoint():
            await database.execute(sql["begin"])
            await database.execute(statements.load("load/merge.sql")["stage_touched"])
            for of_kind in rows:
                await _sift(database, of_kind)
            noted = await database.fetch("SELECT stream, seq, reason FROM refused")
            found += [(row["stream"], row["seq"], row["reason"]) for row in noted]
            raise _Found
    return found


async def _sift(database: Database, rows: Rows) -> None:
    sql, merge = statements.load("load/sift.sql"), statements.load("load/merge.sql")
    table, columns = rows.kind.table, rows.columns
    texts = ", ".join(f'"{name}"' if name in ("stream", "seq") else f'"{name}"::text' for name in columns)
    await database.execute(filled(sql["stage_as_text"], table=table, texts=texts))
    left = await database.copy_csv(f"incoming_{table}", columns, rows.path, schema=None)
    if f"drop_known_{table}" in merge:
        left -= await database.execute(merge[f"drop_known_{table}"])
    values = ", ".join(await database.fetchval(sql["as_they_are"], table, list(columns)))
    fold = {name: merge[name] for name in ("keep_own_values", "fold")}
    fold_part = filled(sql["fold_part"], table=table, values=values, **fold)
    take = filled(sql[f"take_{table}"], columns, values=values, fold_part=fold_part)
    place = filled(sql["place"], columns, table=table, values=values, unplaced=merge[f"unplaced_{table}"])
    for first in range(0, left, _ROWS_AT_ONCE):
        words = {"first": str(first), "many": str(_ROWS_AT_ONCE), "take": take, "place": place, "refusals": REFUSALS}
        await database.execute(filled(sql["sift"], table=table, **words))
        await database.execute("TRUNCATE touched")  # deleted rows stay until then, and are looked at again and again
