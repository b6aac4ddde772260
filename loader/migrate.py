"""Bring a database's tables up to this program: ``sql/migrations``, in order, each once.

Works on an empty database and on a bot's own one. An empty one gets all tables in one transaction: who is killed
meanwhile, or looks on, leaves or sees nothing half made. On a bot's own a migration runs in a transaction that waits
less than a second for its table, lets go, and tries again; one with the directive ``-- outside a transaction`` runs
statement by statement, and an index that an earlier broken build left invalid is dropped and built again. Tables that
are made here may be partitioned (:mod:`loader.partitions`).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial

from loader.database import Database
from loader.errors import TerminalError
from loader.partitions import is_partitioned, make_partitioned, refuse_plain
from loader.short_locks import LOCK_ATTEMPTS, SHORT_LOCKS, retried
from loader.statements import sql_dir
from loader.views import make, outdated

# The first eight letters of the name as a number; any constant of our own does.
_LOCK_KEY = int.from_bytes(b"tradetra", "big") & (2**63 - 1)
# An index over hundreds of millions of old rows, and the transactions it has to wait out.
_BUILD_DEADLINE_S = 4 * 3600.0
_OUTSIDE = "-- outside a transaction"
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_INDEX = re.compile(r"\bCREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+)")

# CREATE INDEX CONCURRENTLY waits for old transactions, but nobody who writes waits for it.
_LONG_LOCKS = "SET lock_timeout = 0; SET statement_timeout = 0"
_TIMEOUTS = "SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')"
_IS_THERE = "SELECT to_regclass('monitoring.schema_migrations') IS NOT NULL"
_IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('monitoring'))"
_APPLIED = "SELECT version, name, sha256 FROM monitoring.schema_migrations ORDER BY version"
_NOTE = "INSERT INTO monitoring.schema_migrations (version, name, sha256) VALUES ($1, $2, $3)"
_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('monitoring.' || $1)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``sql/migrations``: ``0002_orders.sql`` is version 2, name ``0002_orders``."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def outside(self) -> bool:
        """Whether it must run outside a transaction."""
        return self.sql.startswith(_OUTSIDE + "\n")

    def statements(self) -> list[str]:
        """Its statements; one ends with a semicolon at the end of a line."""
        lines = [line for line in self.sql.splitlines() if not line.lstrip().startswith("--")]
        return [part.strip() for part in re.split(r";\s*(?:\n|$)", "\n".join(lines)) if part.strip()]


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations of this program, in order."""
    found = []
    for path in sorted((sql_dir() / "migrations").glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise TerminalError(f"sql/migrations/{path.name} is not named like 0001_name.sql")
        found.append(Migration(int(match[1]), path.stem, path.read_text(encoding="utf-8")))
    if [one.version for one in found] != list(range(1, len(found) + 1)):
        raise TerminalError("the files of sql/migrations are not numbered 1, 2, 3 without a gap")
    return tuple(found)


async def pending(database: Database) -> list[str]:
    """The names of the migrations that the database still needs; changes nothing.

    Errors: ``TerminalError`` where the database is newer than this program, or an applied migration's text
    was changed.
    """
    return [migration.name for migration in await _missing(database)]


async def require_current(database: Database) -> None:
    """Raise a ``TerminalError`` that says what to do where migrations are missing; else those of ``pending``."""
    if missing := await pending(database):
        raise TerminalError(
            f"the database lacks {len(missing)} migrations (first: {missing[0]}); run: tradetrail migrate"
        )


async def migrate(database: Database, *, partitioned: bool = False, lock_attempts: int = LOCK_ATTEMPTS) -> list[str]:
    """Apply what is missing, and make views anew; the names applied now. Safe to run twice, and by several at once.

    ``partitioned``: tables that are not there yet are made with partitions.

    Errors: those of ``pending``; ``TransientError`` where a table could not be locked in ``lock_attempts``
    attempts of 0.7 s each: what was applied before stays, and the next call goes on from there. ``UsageError``
    where tables are there that are not ``partitioned``, and should be.
    """
    if partitioned:
        await refuse_plain(database)
    if not await _missing(database) and not await outdated(database):
        return []
    async with _alone(database):
        if partitioned:
            await refuse_plain(database)
        missing = await _missing(database)
        if missing and (partitioned or await database.fetchval(_IS_EMPTY)) and not await is_partitioned(database):
            await _create(database, missing, partitioned=partitioned)
        else:
            for migration in missing:
                apply = _apply_outside if migration.outside else _apply_inside
                what = f"migration {migration.name}"
                await retried(database, what, partial(apply, database, migration), lock_attempts)
        views = await outdated(database)
        for view in views:
            await make(database, view)
        return [migration.name for migration in missing] + [f"view {view}" for view in views]


async def _missing(database: Database) -> list[Migration]:
    known = {migration.version: migration for migration in migrations()}
    done = await database.fetch(_APPLIED) if await database.fetchval(_IS_THERE) else []
    for row in done:
        mine = known.pop(row["version"], None)
        if mine is None:
            raise TerminalError(
                f"the database has migration {row['name']}, which this program does not know: "
                "it was migrated by a newer tradetrail; update this one"
            )
        if mine.sha256 != row["sha256"]:
            raise TerminalError(
                f"sql/migrations/{mine.name}.sql was changed after it had been applied; "
                "put the old text back and write the change as a new migration"
            )
    return list(known.values())


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    """Hold the migration lock.

    It is asked for again and again: a session that waits for it inside a statement would hold a snapshot, for
    which the other's CREATE INDEX CONCURRENTLY waits in turn.
    """
    while not await database.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    try:
        yield
    finally:
        if not database.lost:
            await database.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)


async def _create(database: Database, missing: list[Migration], *, partitioned: bool) -> None:
    async with database.transaction():
        for migration in missing:
            await database.execute(_not_concurrently(migration.sql))
            await _note(database, migration)
        if partitioned:
            await make_partitioned(database)


async def _apply_inside(database: Database, migration: Migration) -> None:
    async with database.transaction():
        await database.execute(SHORT_LOCKS)
        await database.execute(migration.sql)
        await _note(database, migration)


async def _apply_outside(database: Database, migration: Migration) -> None:
    timeouts = await database.fetch(_TIMEOUTS)
    partitioned = await is_partitioned(database)
    await database.execute(_LONG_LOCKS)
    try:
        for text in migration.statements():
            # Of a partitioned table PostgreSQL builds no index while others write.
            statement = _not_concurrently(text) if partitioned else text
            index = _INDEX.search(statement)
            if index and await database.fetchval(_VALID, index[1]) is False:
                await database.execute(f"DROP INDEX CONCURRENTLY monitoring.{index[1]}", deadline_s=_BUILD_DEADLINE_S)
            await database.execute(statement, deadline_s=_BUILD_DEADLINE_S)
        await _note(database, migration)
    finally:
        if not database.lost:
            for timeout in timeouts:
                await database.fetchval("SELECT set_config($1, $2, false)", timeout["name"], timeout["setting"])


async def _note(database: Database, migration: Migration) -> None:
    await database.execute(_NOTE, migration.version, migration.name, migration.sha256)


def _not_concurrently(sql: str) -> str:
    return sql.replace(" CONCURRENTLY ", " ")
