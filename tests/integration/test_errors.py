"""Whatever keeps the database from taking a batch: what the commands say and end with, and that the next run heals it.

Each fault is a real one of a real server. What passes by itself is waited for with a word to the log, by ``watch`` for
ever; what does not ends both commands with one line and exit code 3. In no case is anything half there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from loader.database import Database
from loader.errors import TransientError
from loader.load import Loader
from loader.settings import LoadSettings
from loader.statements import sql_dir
from loader.totals import Totals

from ..command import emit
from ..contents import agreement, all_loaded
from ..disks import small_tmpfs
from ..plugins.postgres import Cluster
from ..plugins.server import PASSWORD, Server, private_folder
from ..processes import Command

RECORDS = 10  # of emit()
PATIENCE_S = 30.0
LOADERS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tradetrail'"


@dataclass(frozen=True)
class Place:
    """A database with our tables on a server that may be disturbed."""

    server: Server
    cluster: Cluster
    dsn: str

    @property
    def name(self) -> str:
        return urlsplit(self.dsn).path[1:]

    def run(self, *statements: str) -> None:
        self.cluster.run(self.dsn, *statements)


Fault = Callable[[Place], AbstractContextManager[None]]


@pytest.fixture
def there(server: Server, own_cluster: Cluster) -> Iterator[Place]:
    with own_cluster.database(own_cluster.template(existing=False, migrated=True)) as dsn:
        yield Place(server, own_cluster, dsn)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    emit(tmp_path / "audit")
    return tmp_path / "audit"


def load(log: Path, dsn: str, *args: str) -> Command:
    command = Command(log.parent, "load", "--dir", log, "--dsn", dsn, *args)
    command.end()
    return command


def loaded(dsn: str) -> int:
    """Records in the tables, which hold what the ledger says."""

    async def count() -> int:
        async with await Database.connect(dsn) as database:
            return await agreement(database)

    return asyncio.run(count())


def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; the limit is for failures only."""
    limit = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < limit, f"{what}: it does not come"
        time.sleep(0.01)


def heals(log: Path, place: Place) -> None:
    """Nothing is there, and the next run brings all."""
    assert loaded(place.dsn) == 0
    brought = load(log, place.dsn, "--json")
    assert brought.end() == 0, brought.said()
    assert json.loads(brought.said())["records"] == RECORDS
    assert asyncio.run(all_loaded(place.dsn, log)) == RECORDS


def one_line(command: Command, *words: str) -> None:
    """What a command said when it gave up, and nothing else."""
    assert command.end() == 3, command.said()
    assert command.said().startswith("tradetrail: ")
    assert command.said().count("\n") == 1, command.said()
    for word in words:
        assert word in command.said()
    assert PASSWORD not in command.said()
    assert "open%2F" not in command.said()


# -- what passes by itself --


@contextmanager
def stopped(place: Place) -> Iterator[None]:
    place.server.stop()
    try:
        yield
    finally:
        place.server.start()


@contextmanager
def standby(place: Place) -> Iterator[None]:
    """It is in recovery, and may be asked but not written."""
    place.server.stop()
    (place.server.data / "standby.signal").touch()
    try:
        place.server.start()
        yield
    finally:
        place.server.promote()


@contextmanager
def in_recovery(place: Place) -> Iterator[None]:
    """It is in recovery, and takes no connections yet."""
    place.server.stop()
    place.server.configure(hot_standby="off")
    (place.server.data / "standby.signal").touch()
    try:
        place.server.begin_start()
        yield
    finally:
        place.server.promote()
        place.server.configure(hot_standby="on")


@contextmanager
def database_setting(place: Place, name: str, value: str) -> Iterator[None]:
    place.cluster.run(place.cluster.admin_dsn, f"ALTER DATABASE {place.name} SET {name} = '{value}'")
    try:
        yield
    finally:
        place.cluster.run(place.cluster.admin_dsn, f"ALTER DATABASE {place.name} RESET {name}")


def read_only(place: Place) -> AbstractContextManager[None]:
    return database_setting(place, "default_transaction_read_only", "on")


@contextmanager
def statement_timeout(place: Place) -> Iterator[None]:
    """An order takes longer than a statement may."""
    place.run(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON monitoring.orders FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    with database_setting(place, "statement_timeout", "100ms"):
        yield


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Another session works on the table, for longer than a lock is waited for here."""
    with database_setting(place, "lock_timeout", "100ms"), sessions(place.dsn, 1, "SELECT 1") as (holder,):
        holder("BEGIN")
        holder("LOCK TABLE monitoring.orders IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def no_connection_left(place: Place) -> Iterator[None]:
    with sessions(place.server.dsn(), 40, "SELECT 1"):
        yield


@contextmanager
def sessions(dsn: str, most: int, first: str) -> Iterator[list[Callable[[str], object]]]:
    """Sessions that stay, as many as can be had; each runs statements."""
    with asyncio.Runner() as runner, ExitStack() as stack:
        found: list[Callable[[str], object]] = []
        with suppress(TransientError):
            while len(found) < most:
                database = runner.run(Database.connect(dsn, application_name="holder"))
                stack.callback(_run, runner, database.close)
                found.append(partial(_run, runner, database.execute))
                found[-1](first)
        yield found


def _run(runner: asyncio.Runner, work: Callable[..., Coroutine[Any, Any, object]], *args: str) -> object:
    return runner.run(work(*args))


PASSING: dict[str, tuple[Fault, str]] = {
    "stopped": (stopped, "connection refused; is it running?"),
    "standby": (standby, "SQLSTATE 25006); it is a standby, or was set read-only"),
    "in recovery": (in_recovery, "SQLSTATE 57P03"),
    "read-only": (read_only, "SQLSTATE 25006); it is a standby, or was set read-only"),
    "no connection left": (no_connection_left, "SQLSTATE 53300); free a connection"),
    "statement_timeout": (statement_timeout, "SQLSTATE 57014); if the role or database has a statement_timeout"),
    "a lock": (locked, "SQLSTATE 55P03); another session holds a lock, see pg_locks"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_waited_for_and_healed_by_the_next_run(there: Place, log: Path, name: str) -> None:
    """L11, L9: a server that starts, recovers, is full, locks, or cancels."""
    fault, words = PASSING[name]
    with fault(there):
        one_line(load(log, there.dsn, "--timeout", "0.3"), words)
    heals(log, there)


@pytest.mark.parametrize("name", PASSING)
def test_watch_waits_for_what_passes_and_says_so(there: Place, log: Path, name: str) -> None:
    fault, words = PASSING[name]
    with fault(there):
        watch = Command(log.parent, "watch", "--dir", log, "--dsn", there.dsn)
        until(lambda: watch.said().count("trying again") >= 3, "its word")
    until(lambda: "10 records in" in watch.said(), "the load")
    watch.signal(signal.SIGTERM)
    assert watch.end() == 0
    assert words in watch.said()
    assert PASSWORD not in watch.said()
    assert asyncio.run(all_loaded(there.dsn, log)) == RECORDS


def test_a_server_that_restarts_in_the_midst_of_a_batch_costs_nothing(there: Place, log: Path) -> None:
    """L22: the staging tables are gone with it, and are filled anew."""
    with sessions(there.dsn, 1, "BEGIN") as (holder,):
        holder("LOCK TABLE monitoring.trades IN ACCESS EXCLUSIVE MODE")
        command = Command(log.parent, "load", "--dir", log, "--dsn", there.dsn, "--json")
        until(lambda: _ask(there.dsn, f"SELECT count(*) {LOADERS} AND wait_event_type = 'Lock'"), "its batch")
        there.server.stop()
        there.server.start()
    assert command.end() == 0, command.said()
    assert json.loads(command.said())["records"] == RECORDS
    assert asyncio.run(all_loaded(there.dsn, log)) == RECORDS


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is made by root")
def test_a_full_disk_is_waited_for_and_healed_once_there_is_room(
    server: Server, own_cluster: Cluster, log: Path
) -> None:
    """L10: the server's own disk."""
    template = own_cluster.template(existing=False, migrated=True)
    with private_folder() as folder, small_tmpfs(folder / "disk", "32m") as disk:
        tables = disk / "tables"
        tables.mkdir(mode=0o700)
        server.programs.account.own(tables)
        own_cluster.run(own_cluster.admin_dsn, f"CREATE TABLESPACE small LOCATION '{tables}'")
        with own_cluster.database(f"{template} TABLESPACE small") as dsn:
            place = Place(server, own_cluster, dsn)
            place.run("CHECKPOINT")
            with suppress(OSError), (disk / "ballast").open("wb") as ballast:
                while ballast.write(bytes(65536)):
                    pass
            watch = Command(log.parent, "watch", "--dir", log, "--dsn", dsn)
            one_line(load(log, dsn, "--timeout", "0.3"), "No space left on device", "make room on the server's disk")
            until(lambda: "No space left" in watch.said(), "its word")
            assert loaded(dsn) == 0
            (disk / "ballast").unlink()
            until(lambda: "10 records in" in watch.said(), "the load")
            watch.signal(signal.SIGTERM)
            assert watch.end() == 0
            assert asyncio.run(all_loaded(dsn, log)) == RECORDS
        own_cluster.run(own_cluster.admin_dsn, "DROP TABLESPACE small")


# -- deadlines --


@asynccontextmanager
async def in_a_batch(there: Place, log: Path) -> AsyncIterator[tuple[asyncio.Task[Totals], Database, Database]]:
    """A patient loader that waits for a table's lock, and two to look on: the lock's holder, and another."""
    settings = LoadSettings(directory=log, dsn=there.dsn, deadline_s=0.5, timeout_s=None)
    async with (
        await Database.connect(there.dsn, application_name="holder") as holder,
        await Database.connect(there.dsn, application_name="watcher") as watcher,
        Loader(settings) as loader,
    ):
        await holder.execute("BEGIN; LOCK TABLE monitoring.trades IN ACCESS EXCLUSIVE MODE")
        loading = asyncio.create_task(loader.take())
        try:
            yield loading, holder, watcher
        finally:
            loading.cancel()
            await asyncio.wait({loading})


async def _until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < limit, f"{what}: it does not come"
        await asyncio.sleep(0.01)


async def test_a_lock_that_is_held_for_long_costs_the_server_no_more_than_one_session(
    there: Place, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that waits for a lock does not see that its client has gone: each new try would leave one more."""

    async def tried() -> bool:
        return caplog.text.count("lock timeout") >= 4

    async with in_a_batch(there, log) as (loading, holder, watcher):
        await _until(tried, "its fourth try")
        assert await watcher.fetchval(f"SELECT count(*) {LOADERS}") <= 1
        await holder.execute("COMMIT")
        assert (await loading).records == RECORDS
        assert await agreement(watcher) == RECORDS


async def test_a_session_whose_client_gave_up_waiting_ends(there: Place) -> None:
    async with await Database.connect(there.dsn, application_name="watcher") as watcher:
        impatient = await Database.connect(there.dsn, deadline_s=0.2)
        with pytest.raises(TransientError, match="no answer"):
            await impatient.execute("SELECT pg_sleep(60)")

        async def gone() -> bool:
            return not await watcher.fetchval(f"SELECT count(*) {LOADERS}")

        await _until(gone, "its end")


async def test_a_server_process_that_stands_still_is_left_and_holds_up_nobody_once_it_goes_on(
    there: Place, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """L7: the work is done over another connection."""
    async with in_a_batch(there, log) as (loading, holder, watcher):
        pids: list[int] = []

        async def waits() -> bool:
            pids[:] = [row["pid"] for row in await watcher.fetch(f"SELECT pid {LOADERS} AND wait_event_type = 'Lock'")]
            return bool(pids)

        async def left() -> bool:
            return "no answer" in caplog.text and "lock timeout" in caplog.text[caplog.text.index("no answer") :]

        await _until(waits, "its batch")
        os.kill(pids[0], signal.SIGSTOP)
        try:
            await holder.execute("COMMIT")
            await _until(left, "a new session, which waits for what the stopped one holds")
            assert await agreement(watcher) == 0
        finally:
            os.kill(pids[0], signal.SIGCONT)
        assert (await loading).records == RECORDS
        assert await agreement(watcher) == RECORDS


@pytest.mark.long
@pytest.mark.timeout(200)
def test_watch_leaves_a_server_process_that_stands_still(there: Place, log: Path) -> None:
    """With the deadline that users have, half a minute."""
    with sessions(there.dsn, 1, "BEGIN") as (holder,):
        holder("LOCK TABLE monitoring.trades IN ACCESS EXCLUSIVE MODE")
        watch = Command(log.parent, "watch", "--dir", log, "--dsn", there.dsn)
        until(lambda: _ask(there.dsn, f"SELECT count(*) {LOADERS} AND wait_event_type = 'Lock'"), "its batch")
        pid = _ask(there.dsn, f"SELECT pid {LOADERS} AND wait_event_type = 'Lock'")
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: "no answer from PostgreSQL" in watch.said(), "its word", 90)
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: "10 records in" in watch.said(), "the load", 90)
    watch.signal(signal.SIGTERM)
    assert watch.end() == 0
    assert asyncio.run(all_loaded(there.dsn, log)) == RECORDS


def _ask(dsn: str, sql: str) -> object:
    async def ask() -> object:
        async with await Database.connect(dsn, application_name="watcher") as database:
            return await database.fetchval(sql)

    return asyncio.run(ask())


# -- what does not pass by itself --


@contextmanager
def changed(place: Place, there: str, back: str) -> Iterator[None]:
    place.run(there)
    try:
        yield
    finally:
        place.run(back)


LASTING: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a column is gone": (
        "ALTER TABLE monitoring.orders RENAME COLUMN fees TO charges",
        "ALTER TABLE monitoring.orders RENAME COLUMN charges TO fees",
        ('column "fees" of relation "orders" does not exist', "put it back"),
    ),
    "a column that later parts need is gone": (
        "ALTER TABLE monitoring.audit_segments RENAME COLUMN losses TO lost_ones",
        "ALTER TABLE monitoring.audit_segments RENAME COLUMN lost_ones TO losses",
        ('column "losses" of relation "audit_segments" does not exist', "put it back"),
    ),
    "a table is gone": (
        "ALTER TABLE monitoring.events RENAME TO happenings",
        "ALTER TABLE monitoring.happenings RENAME TO events",
        ('relation "monitoring.events" does not exist', "put it back"),
    ),
    "the ledger is gone": (
        "ALTER TABLE monitoring.audit_segments RENAME TO elsewhere",
        "ALTER TABLE monitoring.elsewhere RENAME TO audit_segments",
        ('relation "monitoring.audit_segments" does not exist', "put it back"),
    ),
    "a table is another thing": (
        "ALTER TABLE monitoring.events RENAME TO happenings; CREATE VIEW monitoring.events AS SELECT 1 AS stream",
        "DROP VIEW monitoring.events; ALTER TABLE monitoring.happenings RENAME TO events",
        ("events",),
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_a_person_must_mend_ends_load_and_watch_at_once(there: Place, log: Path, name: str) -> None:
    """L23: a column or a table is gone; once it is back, all loads."""
    forth, back, words = LASTING[name]
    with changed(there, forth, back):
        one_line(load(log, there.dsn), *words)
        watch = Command(log.parent, "watch", "--dir", log, "--dsn", there.dsn)
        assert watch.end() == 3
        last = watch.said().splitlines()[-1]
        assert last.startswith("tradetrail: ")
        assert all(word in last for word in words)
        assert "Traceback" not in watch.said()
    heals(log, there)


@pytest.mark.parametrize(
    "forbidden",
    [
        "INSERT ON monitoring.orders",
        "INSERT ON monitoring.audit_rejects",
        "UPDATE ON monitoring.audit_segments",
        "SELECT ON monitoring.schema_migrations",
        "USAGE ON SCHEMA monitoring",
    ],
)
def test_a_right_that_is_missing_is_said(there: Place, log: Path, forbidden: str) -> None:
    """L23: nothing is kept of the batch."""
    there.run(
        (sql_dir() / "roles.sql").read_text(),
        "DROP ROLE IF EXISTS fox",
        f"CREATE ROLE fox LOGIN PASSWORD '{PASSWORD}' IN ROLE tradetrail_loader",
        f"REVOKE {forbidden} FROM tradetrail_loader",
    )
    dsn = there.server.dsn(there.name, user="fox")
    with (log / next(log.glob("*.jsonl")).name).open("ab") as file:
        file.write(b"no record\n")  # so that audit_rejects is needed, too
    one_line(load(log, dsn), "permission denied", "sql/roles.sql")
    assert loaded(there.dsn) == 0
    there.run((sql_dir() / "roles.sql").read_text())
    assert load(log, dsn).end() == 1
    assert loaded(there.dsn) == RECORDS + 1


def test_a_server_that_does_not_let_one_in_is_said_at_once(there: Place, log: Path) -> None:
    there.run("DROP ROLE IF EXISTS nobody", "CREATE ROLE nobody NOLOGIN PASSWORD 'x'")
    started = time.monotonic()
    port = there.server.port
    for dsn, words in (
        (there.server.dsn(there.name).replace(quote(PASSWORD, safe=""), "wrong"), "password authentication failed"),
        (f"postgresql://nobody:x@127.0.0.1:{port}/{there.name}", "not permitted to log in"),
        (there.server.dsn("nowhere"), 'database "nowhere" does not exist'),
    ):
        one_line(load(log, dsn, "--timeout", "60"), words)
    with no_entry(there):
        one_line(load(log, there.dsn, "--timeout", "60"), "no pg_hba.conf entry")
    assert time.monotonic() - started < 60, "none of these was waited for"
    heals(log, there)


@contextmanager
def no_entry(place: Place) -> Iterator[None]:
    rules = place.server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all all trust\n")
    _read_anew(place)
    try:
        yield
    finally:
        rules.write_text(before)
        _read_anew(place)


def _read_anew(place: Place) -> None:
    """What it let in before, it reads on; who knocks next, it reads the file for."""
    place.server.programs.run("pg_ctl", "reload", "-D", ".", cwd=place.server.data)
