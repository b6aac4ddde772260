"""PostgreSQL, and the only module that knows asyncpg.

One connection, one task at a time. Every round trip has a hard deadline, and every failure is classified
here, once, into the tree of ``loader.errors``: the rest of the loader looks only at the type.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg
import orjson

from loader.dsn import describe, place, readable
from loader.errors import (
    DatabaseError,
    EnvironmentFault,
    TerminalError,
    TradetrailError,
    TransientError,
    UnknownOutcome,
    UsageError,
    from_sqlstate,
)

T = TypeVar("T")

DEADLINE_S = 30.0
_BAD_DSN = (
    "the DSN cannot be read; give it as postgresql://user:password@host:5432/database "
    "(write signs such as / # @ in the password as %2F %23 %40)"
)
_READ_BYTES = 512 * 1024
# How long a task that was told to end is waited for; with its connection cut it has nothing to wait for.
_GRACE_S = 1.0
# Keepalives find a dead peer on an idle connection; over a local socket the server ignores them. A session
# that stands still inside a transaction (a stopped loader) must not hold its locks for ever. A lock is waited for
# ($1, in milliseconds) less long than an answer: the server then says so itself, and its session can be used on.
# Statements here are short, whatever the planner fears: to compile one would take longer than to run it.
_SESSION = """
SELECT set_config(name, value, false) FROM (VALUES
    ('TimeZone', 'UTC'), ('client_encoding', 'UTF8'), ('idle_in_transaction_session_timeout', '120s'), ('jit', 'off'),
    ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')
) AS setting (name, value)
UNION ALL
SELECT set_config(name, $1, false) FROM pg_settings
WHERE name = 'lock_timeout' AND setting::bigint NOT BETWEEN 1 AND $1::text::bigint
"""
_LOCKS_PART = 2 / 3
# Read-only, statement_timeout: settings of a role or database that are mended are so for new sessions only.
_SET_FOR_SESSION = ("25006", "57014")
# A server that is at work, or waits for a lock, does not see that its client hung up, and each new try would leave one
# more such session behind. Where its system cannot look, it refuses these settings.
# One that sends, to a client whose network is gone, would hold its locks for a quarter of an hour.
_LOOK_FOR_CLIENT = ("SET client_connection_check_interval = '1s'", "SET tcp_user_timeout = '20s'")
_COLUMNS = """
SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale,
       is_nullable = 'YES'
FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it really is.

    ``max_length`` is in characters; ``precision`` and ``scale`` are in decimal digits for ``numeric`` (None:
    without limit), in bits for integers.
    """

    name: str
    data_type: str
    max_length: int | None
    precision: int | None
    scale: int | None
    nullable: bool


class _Watch:
    """The time since the last progress of a round trip; stands still while a COPY waits for its source.

    ``failure`` is the source's own error, kept apart from the database's.
    """

    def __init__(self) -> None:
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._since: float | None = self._clock()
        self.feeding = False
        self.failure: Exception | None = None

    def touch(self) -> None:
        self._since = self._clock()

    def pause(self) -> None:
        self._since = None

    def left(self, deadline_s: float) -> float:
        return deadline_s if self._since is None else self._since + deadline_s - self._clock()

    async def feed(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        try:
            self.feeding = True
            self.pause()
            async for chunk in chunks:
                self.touch()
                yield chunk
                self.pause()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self.feeding = False
            self.touch()


class Database:
    """One connection to PostgreSQL.

    JSON columns come and go as Python objects (a Decimal is written as a string), NUMERIC as Decimal,
    TIMESTAMPTZ as aware datetimes in UTC. ``deadline_s`` is the longest a round trip may take. A task that is
    cancelled inside one costs the connection (``lost``): nothing is waited for, and the server rolls back.

    Errors: ``TransientError`` (lost connection, no answer in time, and what PostgreSQL says will pass),
    ``UniqueViolation``, ``BadRow``, and ``TerminalError`` for all else.
    """

    def __init__(self, connection: Any, where: str, deadline_s: float) -> None:
        self._connection = connection
        self._where = where
        self._deadline_s = deadline_s
        self._lost = False
        self._savepoints = 0

    @classmethod
    async def connect(
        cls, dsn: str, *, deadline_s: float = DEADLINE_S, application_name: str = "tradetrail"
    ) -> Database:
        """Connect, within ``deadline_s`` seconds.

        Errors: ``UsageError`` for a DSN that cannot be read, ``TransientError`` where nobody answers,
        ``TerminalError`` where the server says no (password, role, database).
        """
        if not readable(dsn):
            raise UsageError(_BAD_DSN)
        task = asyncio.ensure_future(_open(dsn, deadline_s, application_name))
        try:
            await asyncio.wait({task}, timeout=deadline_s)
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().terminate()
            raise
        finally:
            if not task.done():
                await _end(task)
        error = TimeoutError() if task.cancelled() else task.exception()
        if error is not None:
            fault = _connect_fault(error, dsn, deadline_s)
            # The text of a ValueError may quote a part of the password.
            raise fault from (None if isinstance(fault, UsageError) else error)
        return cls(task.result(), describe(dsn), deadline_s)

    @property
    def lost(self) -> bool:
        """Whether the connection is gone; such a Database stays so."""
        return self._lost or bool(self._connection.is_closed())

    async def execute(self, sql: str, *args: object, deadline_s: float | None = None) -> int:
        """Run one statement, or a script where there are no ``args``; the rows affected by the (last) one."""
        return _rows(await self._within(self._connection.execute(sql, *args), deadline_s=deadline_s))

    async def fetch(self, sql: str, *args: object, deadline_s: float | None = None) -> list[dict[str, Any]]:
        """All rows."""
        return [dict(row) for row in await self._within(self._connection.fetch(sql, *args), deadline_s=deadline_s)]

    async def fetchrow(self, sql: str, *args: object) -> dict[str, Any] | None:
        """The first row, or None."""
        row = await self._within(self._connection.fetchrow(sql, *args))
        return None if row is None else dict(row)

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        return await self._within(self._connection.fetchval(sql, *args))

    async def copy_csv(
        self,
        table: str,
        columns: Sequence[str],
        source: Path | AsyncIterable[bytes],
        *,
        schema: str | None = "monitoring",
    ) -> int:
        """COPY a CSV file without header, or chunks of one, into ``table``; the rows copied.

        ``schema`` None is for temporary tables. The deadline counts from the last chunk that PostgreSQL took
        and stands still while ``source`` makes the next. An error of ``source`` fails the COPY and comes out
        as it is (``EnvironmentFault`` where a file cannot be read).
        """
        watch = _Watch()
        chunks = watch.feed(_read(source) if isinstance(source, Path) else source)
        copy = self._connection.copy_to_table(
            table, source=chunks, columns=list(columns), schema_name=schema, format="csv"
        )
        return _rows(await self._within(copy, watch))

    async def columns(self, table: str, schema: str = "monitoring") -> dict[str, Column]:
        """The columns of a table by name, in their order; empty where there is no such table."""
        rows = await self._within(self._connection.fetch(_COLUMNS, schema, table))
        return {row[0]: Column(*row) for row in rows}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit on success, roll back on error. Any error at COMMIT is an ``UnknownOutcome``."""
        if not self.lost and self._connection.is_in_transaction():
            raise TerminalError("a transaction is open already; use savepoint() inside it")
        await self.execute("BEGIN")
        try:
            yield
        except BaseException:
            await self._undo("ROLLBACK")
            raise
        try:
            status = await self._within(self._connection.execute("COMMIT"))
        except DatabaseError as error:
            raise UnknownOutcome(f"COMMIT did not succeed: {error}", sqlstate=error.sqlstate) from error
        if status == "ROLLBACK":
            raise TerminalError("nothing was committed: an error inside the transaction had been passed over")

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Inside a transaction: on error undo what was done since, and raise it again. May be nested."""
        self._savepoints += 1
        name = f"savepoint_{self._savepoints}"
        try:
            await self.execute(f"SAVEPOINT {name}")
            try:
                yield
            except BaseException:
                await self._undo(f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
                raise
            await self.execute(f"RELEASE SAVEPOINT {name}")
        finally:
            self._savepoints -= 1

    async def close(self) -> None:
        """Say goodbye if the server listens, hang up in any case; never raises, never hangs."""
        if not self.lost:
            task = asyncio.ensure_future(self._connection.close())
            try:
                await asyncio.wait({task}, timeout=min(self._deadline_s, 2.0))
            finally:
                self._cut()
                await _end(task)
        self._cut()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _within(
        self, work: Coroutine[Any, Any, T], watch: _Watch | None = None, *, deadline_s: float | None = None
    ) -> T:
        """One round trip under its deadline, its failure classified."""
        if self.lost:
            work.close()
            raise TransientError(f"the connection to {self._where} is lost")
        limit = self._deadline_s if deadline_s is None else deadline_s
        watch = watch or _Watch()
        task = asyncio.ensure_future(work)
        try:
            while not task.done() and (left := watch.left(limit)) > 0:
                await asyncio.wait({task}, timeout=left)
        finally:
            expired = not task.done()
            if expired:
                # A socket that is shut down does not free asyncpg in COPY, nor does a timeout where the
                # server process is stopped: cut the connection, and cancel. In COPY asyncpg must see the
                # cancellation before the cut, or its own future is left behind with an error nobody reads.
                if watch.feeding:
                    task.cancel()
                    await asyncio.sleep(0)
                self._cut()
                await _end(task)
        if expired:
            raise TransientError(f"no answer from PostgreSQL at {self._where} within {limit:g} s")
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return task.result()
        if watch.failure is not None and error is watch.failure:
            raise watch.failure
        raise self._classified(error) from error

    def _classified(self, error: BaseException) -> DatabaseError:
        fatal = getattr(error, "severity_en", None) in ("FATAL", "PANIC")
        # asyncpg's protocol is in disorder when the server ends the session in the middle of a message.
        gone = OSError | EOFError | asyncio.CancelledError | asyncpg.InternalClientError
        if fatal or isinstance(error, gone) or self.lost:
            self._cut()
            said = f" ({error})" if str(error) else ""
            state = getattr(error, "sqlstate", None)
            return TransientError(f"the connection to {self._where} is lost{said}", sqlstate=state)
        fault = _fault(error)
        if fault.sqlstate in _SET_FOR_SESSION:
            self._cut()
        return fault

    async def _undo(self, sql: str) -> None:
        """Roll back; where that fails the connection is cut, and the server does it."""
        if self.lost:
            return
        try:
            await self._within(self._connection.execute(sql))
        except DatabaseError:
            self._cut()

    def _cut(self) -> None:
        self._lost = True
        self._connection.terminate()


async def _open(dsn: str, deadline_s: float, application_name: str) -> Any:
    connection = await asyncpg.connect(dsn, timeout=deadline_s, server_settings={"application_name": application_name})
    try:
        for name in ("json", "jsonb"):
            await connection.set_type_codec(
                name, schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text"
            )
        await connection.fetch(_SESSION, str(max(1, round(1000 * _LOCKS_PART * deadline_s))))
        for setting in _LOOK_FOR_CLIENT:
            with suppress(asyncpg.PostgresError):
                await connection.execute(setting)
            if connection.is_closed():  # to asyncpg, that the connection is lost is PostgreSQL's error like others
                raise ConnectionResetError("the connection was lost")
    except BaseException:
        connection.terminate()
        raise
    return connection


def _to_json(value: object) -> str:
    return orjson.dumps(value, default=_decimal_text).decode()


def _decimal_text(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


async def _read(path: Path) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            while chunk := await asyncio.to_thread(file.read, _READ_BYTES):
                yield chunk
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror or error}") from error


async def _end(task: asyncio.Future[Any]) -> None:
    """End a task whose connection was cut; whatever comes out of it says nothing new."""
    task.cancel()
    await asyncio.wait({task}, timeout=_GRACE_S)
    if task.done() and not task.cancelled():
        task.exception()


def _rows(status: str) -> int:
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


def _fault(error: BaseException) -> DatabaseError:
    """What an error of asyncpg's means."""
    if not isinstance(error, asyncpg.PostgresError):
        return TerminalError(f"the query could not be sent: {error or type(error).__name__}")
    reason = getattr(error, "message", None) or str(error)
    context = getattr(error, "context", None) or ""
    return from_sqlstate(error.sqlstate or "", reason, context, getattr(error, "column_name", None))


def _connect_fault(error: BaseException, dsn: str, deadline_s: float) -> TradetrailError:
    if isinstance(error, asyncpg.ClientConfigurationError | ValueError):
        return UsageError(_BAD_DSN)
    if isinstance(error, asyncpg.PostgresError):
        fault = _fault(error)
        kind = TransientError if isinstance(fault, TransientError) else TerminalError
        return kind(f"cannot open {describe(dsn)}: {fault}", sqlstate=fault.sqlstate)
    text = f"cannot reach PostgreSQL at {place(dsn)}: "
    if isinstance(error, TimeoutError):
        return TransientError(text + f"no answer within {deadline_s:g} s")
    if isinstance(error, socket.gaierror):
        return TransientError(text + "the host name is not known")
    # Where a name has several addresses, asyncio puts their errors into one text without errno.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return TransientError(text + "connection refused; is it running?")
    if isinstance(error, FileNotFoundError):
        return TransientError(text + "there is no socket; is it running?")
    if isinstance(error, asyncpg.InternalClientError):
        return TransientError(text + "the server ended the session while it was being opened")
    if isinstance(error, ssl.SSLError | PermissionError) or not isinstance(error, OSError | EOFError):
        return TerminalError(text + (str(error) or type(error).__name__))
    return TransientError(text + (getattr(error, "strerror", None) or str(error) or type(error).__name__))
