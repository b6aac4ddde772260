"""A PostgreSQL for the session, and a database of its own for each test, cloned from a template.

``TRADETRAIL_TEST_DSN`` names another server to use (a role that may create databases); else the embedded one is
started in a temporary folder. ``TRADETRAIL_TEST_SCHEMA=partitioned`` gives all tests that start from empty tables
partitioned ones.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from loader.database import Database
from loader.embedded import embedded
from loader.migrate import migrate
from loader.statements import load

from .server import Server

EXISTING_BOT = Path(__file__).with_name("existing_bot.sql")
# The months of most tests; other rows fall into the default partitions.
_MONTHS = """
SELECT monitoring.add_partition(of_table, month::date)
FROM unnest(ARRAY['trades', 'events', 'order_updates', 'audit_rejects']) AS t (of_table)
CROSS JOIN generate_series(timestamp '2026-10-01', '2026-12-01', '1 month') AS m (month)
"""


class Cluster:
    """Makes and drops databases of one server."""

    def __init__(self, dsn: str) -> None:
        self.admin_dsn = dsn
        self._numbers = count(1)
        self._templates: dict[tuple[bool, bool, bool], str] = {}

    def dsn(self, name: str) -> str:
        return urlsplit(self.admin_dsn)._replace(path=f"/{name}").geturl()

    def run(self, dsn: str, *scripts: str) -> None:
        async def work() -> None:
            async with await Database.connect(dsn) as database:
                for script in scripts:
                    await database.execute(script)

        asyncio.run(work())

    def template(self, *, existing: bool, migrated: bool, partitioned: bool = False) -> str:
        """The name of a database to clone, made on first use."""
        partitioned |= not existing and migrated and os.environ.get("TRADETRAIL_TEST_SCHEMA") == "partitioned"
        key = (existing, migrated, partitioned)
        if key not in self._templates:
            name = f"tradetrail_test_{os.getpid()}_template{len(self._templates)}"
            self.run(self.admin_dsn, f"CREATE DATABASE {name}")
            self._templates[key] = name
            if existing:
                self.run(self.dsn(name), EXISTING_BOT.read_text())
            if migrated:
                asyncio.run(_migrate(self.dsn(name), partitioned=partitioned))
        return self._templates[key]

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        name = f"tradetrail_test_{os.getpid()}_{next(self._numbers)}"
        self.run(self.admin_dsn, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        try:
            yield self.dsn(name)
        finally:
            self.drop(name)

    def drop(self, *names: str) -> None:
        self.run(self.admin_dsn, *(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in names))

    def close(self) -> None:
        self.drop(*self._templates.values())


async def _migrate(dsn: str, *, partitioned: bool) -> None:
    async with await Database.connect(dsn) as database:
        await migrate(database, partitioned=partitioned)
        if partitioned:
            await database.execute(load("scale/partitions.sql")["make_add_partition"])
            await database.execute(_MONTHS)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        dsn = os.environ.get("TRADETRAIL_TEST_DSN")
        if not dsn:
            folder = Path(tempfile.mkdtemp(prefix="tradetrail-tests-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            # Under root the server's user must be able to pass through; the data folder itself is private.
            folder.chmod(0o711)
            dsn = stack.enter_context(embedded(folder / "postgres"))
        cluster = Cluster(dsn)
        if not os.environ.get("TRADETRAIL_TEST_DSN"):
            cluster.run(dsn, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        stack.callback(cluster.close)
        yield cluster


@pytest.fixture(scope="session")
def own_cluster(server: Server) -> Iterator[Cluster]:
    """Databases on the server that a test may disturb."""
    cluster = Cluster(server.dsn())
    yield cluster
    cluster.close()


@pytest.fixture
def empty_dsn(cluster: Cluster) -> Iterator[str]:
    """A database with nothing in it."""
    with cluster.database() as dsn:
        yield dsn


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    """A fresh, migrated database."""
    with cluster.database(cluster.template(existing=False, migrated=True)) as dsn:
        yield dsn


@pytest.fixture
def partitioned_dsn(cluster: Cluster) -> Iterator[str]:
    """The same with partitioned tables."""
    with cluster.database(cluster.template(existing=False, migrated=True, partitioned=True)) as dsn:
        yield dsn


@pytest.fixture
def existing_dsn(cluster: Cluster) -> Iterator[str]:
    """The database of a bot that does not know tradetrail yet, with rows."""
    with cluster.database(cluster.template(existing=True, migrated=False)) as dsn:
        yield dsn


@pytest.fixture
def migrated_existing_dsn(cluster: Cluster) -> Iterator[str]:
    """The same after ``tradetrail migrate``."""
    with cluster.database(cluster.template(existing=True, migrated=True)) as dsn:
        yield dsn


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """A connection to ``dsn``."""
    async with await Database.connect(dsn) as database:
        yield database
