"""The server that all write to: databases made for one turn, and what the server itself spends.

``TRADETRAIL_BENCH_DSN`` names one (by a superuser: databases are made, and checkpoints); else the embedded one is used,
with its ordinary settings. A server of another machine tells nothing of its memory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from loader.database import Database
from loader.embedded import embedded
from loader.errors import TradetrailError
from loader.migrate import migrate
from loader.service_user import binaries, server_account

_OLD_ROWS = Path(__file__).with_name("old_rows.sql")
_PATIENCE_S = 900.0
_SAMPLE_S = 0.02
_FILE_COPY_SINCE = 150_000
_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS made
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = 'monitoring'::regnamespace AND NOT indisprimary
"""
# Whatever tables there are, but for the loader's and dlt's own books.
_TABLES = r"""
SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
WHERE
    schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename NOT LIKE '\_dlt%'
    AND tablename NOT IN ('audit_segments', 'schema_migrations', 'positions')
ORDER BY 1
"""


class Server:
    """Databases of one server, each gone when its turn is over. ``where``: how it is shown."""

    def __init__(self, dsn: str, where: str) -> None:
        self.dsn, self.where = dsn, where
        self._numbers = count(1)
        found = self.fetch(dsn, "SELECT current_setting('server_version_num')::int AS n, version() AS words")[0]
        self.version = found["words"].split(" on ")[0]
        self._copy = " STRATEGY file_copy" if found["n"] >= _FILE_COPY_SINCE else ""

    def at(self, name: str) -> str:
        return urlsplit(self.dsn)._replace(path=f"/{name}").geturl()

    def execute(self, dsn: str, *statements: str) -> None:
        async def work(database: Database) -> None:
            for statement in statements:
                await database.execute(statement)

        _within(dsn, work)

    def fetch(self, dsn: str, sql: str, *args: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = _within(dsn, lambda database: database.fetch(sql, *args))
        return found

    def create(self, template: str = "") -> str:
        """A new database, with what a template holds; its name."""
        name = f"tradetrail_bench_{os.getpid()}_{next(self._numbers)}"
        self.execute(self.dsn, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}{self._copy}" if template else ""))
        return name

    def drop(self, name: str) -> None:
        self.execute(self.dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def database(self, template: str) -> Iterator[str]:
        """The DSN of a clone that nobody has used, right after a checkpoint."""
        name = self.create(template)
        try:
            self.execute(self.dsn, "CHECKPOINT")
            yield self.at(name)
        finally:
            self.drop(name)

    def wal(self) -> int:
        """Bytes of WAL that were ever written."""
        return int(self.fetch(self.dsn, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS n")[0]["n"])

    def rows(self, dsn: str) -> int:
        """Rows in all tables that take records."""
        tables = " UNION ALL ".join(f"SELECT count(*) AS n FROM {row['name']}" for row in self.fetch(dsn, _TABLES))
        return int(self.fetch(dsn, f"SELECT coalesce(sum(n), 0)::bigint AS n FROM ({tables}) AS counts")[0]["n"])

    def with_old_rows(self, template: str, rows: int) -> str:
        """A database of these many rows, its indexes built when they are in."""
        name = self.create(template)
        dsn = self.at(name)
        indexes = self.fetch(dsn, _INDEXES)

        async def work(database: Database) -> None:
            await database.execute("".join(f"DROP INDEX {index['name']};" for index in indexes))
            await database.execute(f"SET bench.rows = {rows}; SET maintenance_work_mem = '256MB'")
            await database.execute(_OLD_ROWS.read_text())
            for index in indexes:
                await database.execute(index["made"])
            await database.execute("VACUUM ANALYZE")

        _within(dsn, work)
        return name


def _within(dsn: str, work: Callable[[Database], Any]) -> Any:
    async def connected() -> Any:
        async with await Database.connect(dsn, deadline_s=_PATIENCE_S, application_name="benchmark") as database:
            return await work(database)

    return asyncio.run(connected())


async def _migrate(database: Database) -> None:
    await migrate(database)


@contextmanager
def server(folder: Path) -> Iterator[tuple[Server, str]]:
    """The server, and the name of a template with empty tables; what was made on it is dropped."""
    with ExitStack() as stack:
        given = os.environ.get("TRADETRAIL_BENCH_DSN")
        dsn = given or stack.enter_context(embedded(folder / "postgres"))
        there = Server(dsn, "TRADETRAIL_BENCH_DSN" if given else "embedded")
        stack.callback(_drop_all, there)
        empty = there.create()
        _within(there.at(empty), _migrate)
        yield there, empty


def _drop_all(there: Server) -> None:
    mine = f"tradetrail_bench_{os.getpid()}_"
    with suppress(TradetrailError):
        for row in there.fetch(there.dsn, "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", mine):
            there.drop(row["datname"])


def psql() -> str | None:
    """The program, from PATH or from the embedded server's wheel; None where there is none."""
    if found := shutil.which("psql"):
        return found
    with suppress(TradetrailError):
        if (program := binaries(server_account()) / "psql").exists():
            return str(program)
    return None


class Backends:
    """Samples the memory of the server's processes that begin while this lasts (a context manager).

    ``peak``: the most that they had at once in bytes, without shared buffers; None where it cannot be seen.
    """

    def __init__(self, there: Server) -> None:
        self.peak: int | None = None
        self._over = threading.Event()
        self._children: Path | None = None
        self._before: set[str] = set()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        _within(there.dsn, self._find_postmaster)

    async def _find_postmaster(self, database: Database) -> None:
        own = Path("/proc", str(await database.fetchval("SELECT pg_backend_pid()")))
        with suppress(OSError):
            parent = own.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            if own.joinpath("comm").read_text().startswith("postgres"):
                self._children = Path("/proc", parent, "task", parent, "children")

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            now = sum(_private(pid) for pid in self._pids() if pid not in self._before)
            self.peak = max(self.peak or 0, now)

    def _pids(self) -> Sequence[str]:
        try:
            return self._children.read_text().split() if self._children else ()
        except OSError:
            return ()

    def __enter__(self) -> Self:
        if self._children is not None and self._children.exists():
            self._before = set(self._pids())
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()


def _private(pid: str) -> int:
    """Bytes of a process that no other shares; autovacuum's do not count."""
    with suppress(OSError):
        if b"autovacuum" in Path("/proc", pid, "cmdline").read_bytes():
            return 0
        for line in Path("/proc", pid, "status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
