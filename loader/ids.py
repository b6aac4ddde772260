"""Ids that are behind: sequences that give what rows have already, after a failover, a crash or a bare restore."""

from __future__ import annotations

from . import statements
from .database import Database
from .staging import filled

# A row that is further ahead has its id from elsewhere, and no sequence comes to it.
_NEAR = 100_000_000
_AT_ONCE = 1_000_000


async def move_on(database: Database, *, partitioned: bool = False) -> bool:
    """Take ids until they are past those of all rows; whether any was taken. Outside a transaction.

    ``partitioned``: of such tables only. An id is unique in one partition there, so that no conflict tells of two
    alike: whoever is about to insert looks first. A role that may insert rows may do all that; ``setval`` it may not.
    """
    sql = statements.load("load/ids.sql")
    moved = False
    for table in await database.fetch(sql["tables_by_id"]):
        if partitioned and not table["partitioned"]:
            continue
        highest_id = filled(sql["highest_id"], table=table["name"])
        while True:
            last = await database.fetchval(sql["last_id"], table["sequence"])
            highest = await database.fetchval(highest_id, last, last + _NEAR)
            if highest is None:
                break
            await database.execute(sql["take_ids"], table["sequence"], min(highest - last, _AT_ONCE))
            moved = True
    return moved
