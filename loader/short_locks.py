"""Changes to tables that others are using: a lock is asked for briefly, let go, and asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .database import Database
from .errors import TransientError

T = TypeVar("T")

# While a lock is waited for, everybody behind it waits too: never longer than a second. PostgreSQL sends an
# autovacuum off the table only after deadlock_timeout, which must be the shorter one (superusers may say so).
SHORT_LOCKS = """
SET LOCAL lock_timeout = '700ms';
SELECT set_config('deadlock_timeout', '300ms', true) WHERE current_setting('is_superuser') = 'on';
"""
LOCK_ATTEMPTS = 100
# Lock not available, deadlock.
_RETRIED = ("55P03", "40P01")


async def retried(database: Database, what: str, work: Callable[[], Awaitable[T]], attempts: int) -> T:
    """What ``work`` answers, tried again while it cannot have its locks; ``what`` is for the message.

    Errors: those of ``work``; ``TransientError`` after so many ``attempts``.
    """
    for attempt in range(1, attempts):
        try:
            return await work()
        except TransientError as error:
            if database.lost or error.sqlstate not in _RETRIED:
                raise
        await asyncio.sleep(min(0.1 * attempt, 1.0))
    try:
        return await work()
    except TransientError as error:
        if database.lost or error.sqlstate not in _RETRIED:
            raise
        raise TransientError(
            f"{what}: its table is held by another transaction "
            f"({attempts} attempts); end that one and run 'tradetrail migrate' again",
            sqlstate=error.sqlstate,
        ) from error
