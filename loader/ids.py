"""Ids that are behind: sequences that give what rows have already, after a restore without ``setval`` or a crash."""

from __future__ import annotations

from . import statements
from .database import Database
from .staging import filled

# Where ids have gaps, one look does not come past all of them.
_LOOKS = 100
_IDS_A_LOOK = 1_000_000


async def move_on(database: Database) -> bool:
    """Take ids until they are past those of all rows; whether any was taken. Outside a transaction.

    A role that may insert rows may do that; ``setval`` it may not.
    """
    sql = statements.load("load/ids.sql")
    moved = False
    for found in await database.fetch(sql["unique_ids"]):
        ahead = filled(sql["ahead"], table=found["name"])
        for _ in range(_LOOKS):
            if not await database.fetchval(ahead, found["sequence"], _IDS_A_LOOK):
                break
            moved = True
    return moved
