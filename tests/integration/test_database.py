"""The database's door: what comes in and out, what each failure becomes, and that nothing waits for ever."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from loader.database import Column, Database
from loader.dsn import describe
from loader.errors import (
    BadRow,
    EnvironmentFault,
    TerminalError,
    TransientError,
    UniqueViolation,
    UnknownOutcome,
    UsageError,
)

COUNT = "SELECT count(*) FROM monitoring.trades"
COLUMNS = ["symbol", "price", "stream", "seq"]
PASSWORD = "open,sesame"


own_server = pytest.mark.skipif(
    bool(os.environ.get("TRADETRAIL_TEST_DSN")), reason="the processes of that server cannot be signalled"
)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A server process that stands still, as on a machine that is out of memory."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[Database]:
    async with await Database.connect(dsn) as database:
        yield database


async def test_values_come_back_as_what_they_are(db: Database) -> None:
    row = await db.fetchrow(
        "SELECT $1::jsonb AS j, '[1, null]'::json AS k, $2::numeric AS n, $3::timestamptz AS t, NULL AS nothing",
        {"a": [1, "\N{GRINNING FACE}", None], "d": Decimal("1.10")},
        Decimal("100000000000000000000.000000000000000001"),
        datetime(2026, 11, 22, 13, 10, 56, 15378, UTC),
    )
    assert row == {
        "j": {"a": [1, "\N{GRINNING FACE}", None], "d": "1.10"},
        "k": [1, None],
        "n": Decimal("100000000000000000000.000000000000000001"),
        "t": datetime(2026, 11, 22, 13, 10, 56, 15378, UTC),
        "nothing": None,
    }
    assert row["t"].tzinfo is not None
    assert await db.fetchval("SHOW timezone") == "UTC"
    assert await db.fetchrow("SELECT 1 WHERE false") is None
    assert await db.fetch("SELECT n FROM generate_series(1, 2) AS n") == [{"n": 1}, {"n": 2}]
    assert await db.fetchval("SHOW application_name") == "tradetrail"


async def test_execute_counts_rows(db: Database) -> None:
    insert = "INSERT INTO monitoring.trades (symbol) SELECT 'a' FROM generate_series(1, $1::int)"
    assert await db.execute(insert, 5) == 5
    assert await db.execute("UPDATE monitoring.trades SET symbol = 'b'") == 5
    assert await db.execute("CREATE TEMPORARY TABLE t (a int); INSERT INTO t VALUES (1), (2)") == 2
    assert await db.execute("SET lock_timeout = 0") == 0


async def test_columns_say_what_the_table_really_takes(migrated_existing_dsn: str) -> None:
    async with await Database.connect(migrated_existing_dsn) as database:
        columns = await database.columns("orders")
        assert columns["symbol"] == Column("symbol", "character varying", 20, None, None, False)
        assert columns["price"] == Column("price", "numeric", None, 20, 8, True)
        assert columns["id"] == Column("id", "integer", None, 32, 0, False)
        assert columns["fees"] == Column("fees", "jsonb", None, None, None, True)
        assert await database.columns("no_such_table") == {}


async def test_copy_takes_null_empty_quotes_and_line_ends_exactly(db: Database, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_bytes(
        b'"a ""b"" c\r\n\\N",1.5,s,1\n"",,s,2\n,1e-19,s,3\n\xf0\x9f\x98\x80,NaN,s,4\n'
        + b"".join(b"x,%d,s,%d\n" % (n, n) for n in range(5, 200_001))
    )
    assert await db.copy_csv("trades", COLUMNS, source) == 200_000
    rows = await db.fetch("SELECT symbol, price FROM monitoring.trades WHERE seq < 6 ORDER BY seq")
    assert [(row["symbol"], str(row["price"])) for row in rows] == [
        ('a "b" c\r\n\\N', "1.5"),
        ("", "None"),
        (None, "1E-19"),
        ("\N{GRINNING FACE}", "NaN"),
        ("x", "5"),
    ]
    assert await db.fetchval("SELECT sum(seq) FROM monitoring.trades") == 200_000 * 200_001 // 2


async def test_copy_takes_chunks_into_a_temporary_table(db: Database) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in (b"a,", b"1\nb", b",2\n"):
            yield part

    await db.execute("CREATE TEMPORARY TABLE stage (name text, n int)")
    assert await db.copy_csv("stage", ["name", "n"], chunks(), schema=None) == 2
    assert await db.fetch("SELECT * FROM stage") == [{"name": "a", "n": 1}, {"name": "b", "n": 2}]


async def test_a_source_that_fails_midway_copies_nothing_and_says_so(db: Database, tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a,1,s,1\n" * 100_000
        raise Broken("half of it")

    async with db.transaction():
        with pytest.raises(Broken, match="half of it"):
            async with db.savepoint():
                await db.copy_csv("trades", COLUMNS, chunks())
        assert await db.fetchval(COUNT) == 0
        with pytest.raises(EnvironmentFault, match=r"cannot read .*missing\.csv: No such file"):
            async with db.savepoint():
                await db.copy_csv("trades", COLUMNS, tmp_path / "missing.csv")
    assert not db.lost
    assert await db.fetchval(COUNT) == 0


@pytest.mark.parametrize(
    ("line", "column", "sqlstate", "reason"),
    [
        ("a,abc,s,3", "price", "22P02", 'invalid input syntax for type numeric: "abc"'),
        ("a,1,s,99999999999999999999", "seq", "22003", "out of range for type bigint"),
        ("a,1,s", None, "22P04", 'missing data for column "seq"'),
        (f"{'z' * 20_000},1,s,3", None, None, None),
    ],
)
async def test_a_refused_row_is_named_by_its_line(
    db: Database, tmp_path: Path, line: str, column: str | None, sqlstate: str | None, reason: str | None
) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(f"a,1,s,1\na,2,s,2\n{line}\na,4,s,4\n")
    if sqlstate is None:
        # Text that does not compress into an index entry is the only thing that a TEXT column refuses.
        await db.execute("CREATE INDEX ON monitoring.trades (symbol)")
        source.write_text(f"a,1,s,1\na,2,s,2\n{os.urandom(8000).hex()},3,s,3\n")
        column, sqlstate, reason = None, "54000", "index row"
    with pytest.raises(BadRow) as caught:
        await db.copy_csv("trades", COLUMNS, source)
    assert (caught.value.line, caught.value.column, caught.value.sqlstate) == (3, column, sqlstate)
    assert reason is not None
    assert reason in caught.value.reason
    assert await db.fetchval(COUNT) == 0


async def test_what_narrow_columns_and_triggers_refuse_is_a_bad_row(migrated_existing_dsn: str, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    columns = ["symbol", "exchange", "side", "price"]
    async with await Database.connect(migrated_existing_dsn) as database:
        await database.execute(
            "CREATE FUNCTION monitoring.picky() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.side = 'up' THEN RAISE 'no such side'; END IF; RETURN NEW; END $$; "
            "CREATE TRIGGER picky BEFORE INSERT ON monitoring.trades "
            "FOR EACH ROW EXECUTE FUNCTION monitoring.picky()"
        )
        for line, state in (
            ("1000000PEIPEI/USDT:USDT,x,buy,1", "22001"),
            ("BTC,x,buy,1e13", "22003"),
            (",x,buy,1", "23502"),
            ("BTC,x,up,1", "P0001"),
        ):
            source.write_text(f"BTC,x,buy,1\n{line}\n")
            with pytest.raises(BadRow) as caught:
                await database.copy_csv("trades", columns, source)
            assert (caught.value.line, caught.value.sqlstate) == (2, state)
        assert await database.fetchval(COUNT) == 40


async def test_a_double_row_is_a_unique_violation_and_the_savepoint_undoes_the_copy(
    db: Database, other: Database, tmp_path: Path
) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("a,1,s,1\nb,2,s,2\nc,3,s,2\n")
    async with db.transaction():
        await db.execute("INSERT INTO monitoring.trades (symbol) VALUES ('first')")
        with pytest.raises(UniqueViolation) as caught:
            async with db.savepoint():
                await db.copy_csv("trades", COLUMNS, source)
        assert caught.value.sqlstate == "23505"
        async with db.savepoint():
            await db.execute("INSERT INTO monitoring.trades (symbol) VALUES ('second')")
            with pytest.raises(TerminalError):
                async with db.savepoint():
                    await db.execute("SELECT * FROM monitoring.nowhere")
        assert await other.fetchval(COUNT) == 0
    rows = await other.fetch("SELECT symbol FROM monitoring.trades ORDER BY id")
    assert rows == [{"symbol": "first"}, {"symbol": "second"}]


async def test_a_transaction_ends_with_all_or_nothing(db: Database) -> None:
    async def insert_and(fail: Callable[[], Awaitable[object]]) -> None:
        async with db.transaction():
            await db.execute("INSERT INTO monitoring.trades (symbol) VALUES ('a')")
            await fail()

    async def change_of_mind() -> None:
        raise RuntimeError("changed my mind")

    async def error_passed_over() -> None:
        with pytest.raises(TerminalError):
            await db.execute("SELECT nothing")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await insert_and(change_of_mind)
    assert await db.fetchval(COUNT) == 0
    with pytest.raises(TerminalError, match="nothing was committed"):
        await insert_and(error_passed_over)
    assert await db.fetchval(COUNT) == 0
    async with db.transaction():
        with pytest.raises(TerminalError, match="open already"):
            async with db.transaction():
                pass
        await db.execute("INSERT INTO monitoring.trades (symbol) VALUES ('a')")
    assert await db.fetchval(COUNT) == 1


async def test_any_error_at_commit_is_an_unknown_outcome(db: Database, other: Database) -> None:
    await db.execute("CREATE TABLE late (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    async def twice_the_same() -> None:
        async with db.transaction():
            await db.execute("INSERT INTO late VALUES (1), (1)")

    with pytest.raises(UnknownOutcome) as caught:
        await twice_the_same()
    assert caught.value.sqlstate == "23505"
    assert isinstance(caught.value, TransientError)
    pid = await db.fetchval("SELECT pg_backend_pid()")

    async def cut_before_commit() -> None:
        async with db.transaction():
            await db.execute("INSERT INTO late VALUES (2)")
            await other.execute("SELECT pg_terminate_backend($1, 5000)", pid)

    with pytest.raises(UnknownOutcome):
        await cut_before_commit()
    assert db.lost
    assert await other.fetchval("SELECT count(*) FROM late") == 0


async def begin(database: Database) -> None:
    async with database.transaction():
        pass


async def test_a_terminated_server_process_is_a_lost_connection(db: Database, other: Database) -> None:
    pid = await db.fetchval("SELECT pg_backend_pid()")
    assert not db.lost
    waiting = asyncio.create_task(db.fetchval("SELECT pg_sleep(60)"))
    busy = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
    while not await other.fetchval(busy, pid):
        assert not waiting.done()
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises(TransientError, match="lost") as caught:
        await waiting
    assert caught.value.sqlstate in ("57P01", "08003")
    assert db.lost
    for call in (db.fetchval("SELECT 1"), db.copy_csv("trades", COLUMNS, Path("any")), begin(db)):
        with pytest.raises(TransientError, match="lost"):
            await call
    await db.close()
    await db.close()


@own_server
async def test_a_stopped_server_process_does_not_hold_a_query_or_a_transaction(dsn: str) -> None:
    database = await Database.connect(dsn, deadline_s=0.3)
    pid = await database.fetchval("SELECT pg_backend_pid()")
    started = time.monotonic()

    async def work() -> None:
        async with database.transaction(), database.savepoint():
            with stopped(pid):
                await database.fetchval("SELECT 1")

    with pytest.raises(TransientError, match=r"within 0\.3 s"):
        await work()
    assert database.lost
    await database.close()
    assert time.monotonic() - started < 2


@own_server
async def test_a_stopped_server_process_does_not_hold_a_copy(dsn: str, other: Database, tmp_path: Path) -> None:
    """L7: the deadline counts from the last progress."""
    source = tmp_path / "rows.csv"
    source.write_bytes(b"".join(b"x,%d,s,%d\n" % (n, n) for n in range(1, 500_001)))
    for many in (True, False):
        database = await Database.connect(dsn, deadline_s=0.3)
        pid = await database.fetchval("SELECT pg_backend_pid()")
        if not many:
            source.write_bytes(b"x,1,s,1\n")
        with stopped(pid):
            started = time.monotonic()
            with pytest.raises(TransientError, match=r"within 0\.3 s"):
                await database.copy_csv("trades", COLUMNS, source)
            assert time.monotonic() - started < 1.5
            await database.close()
        assert database.lost
    assert await other.fetchval(COUNT) == 0


async def test_a_copy_may_take_longer_than_the_deadline_while_it_gets_on(dsn: str) -> None:
    slow = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        for n in range(1, 4):
            # The source's own time is nobody's fault: longer than the deadline.
            asyncio.get_running_loop().call_later(0.3, slow.set)
            await slow.wait()
            slow.clear()
            yield b"x,1,s,%d\n" % n

    async with await Database.connect(dsn, deadline_s=0.2) as database:
        assert await database.copy_csv("trades", COLUMNS, chunks()) == 3


async def test_a_cancelled_query_costs_the_connection_at_once(db: Database, other: Database) -> None:
    pid = await db.fetchval("SELECT pg_backend_pid()")
    task = asyncio.create_task(db.execute("SELECT pg_sleep(60)"))
    busy = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
    while not await other.fetchval(busy, pid):
        assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert db.lost


async def test_a_lock_timeout_is_transient_and_keeps_the_connection(db: Database, other: Database) -> None:
    await other.execute("CREATE TABLE held (a int)")
    await db.execute("SET lock_timeout = '20ms'")
    async with other.transaction():
        await other.execute("LOCK TABLE held")
        with pytest.raises(TransientError) as caught:
            await db.fetch("SELECT * FROM held")
    assert caught.value.sqlstate == "55P03"
    assert not db.lost
    assert await db.fetch("SELECT * FROM held") == []


@pytest.mark.parametrize(
    ("sql", "value"),
    [("SELECT $1::int", "not a number"), ("SELECT $1::text", "\ud800"), ("SELECT $1::jsonb", {"a": object()})],
)
async def test_a_value_that_cannot_be_sent_is_an_error_of_ours(db: Database, sql: str, value: object) -> None:
    with pytest.raises(BadRow):
        await db.fetchval(sql, value)
    assert await db.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    "bad",
    [
        f"postgresql//u:{PASSWORD}@h/db",
        f"mysql://u:{PASSWORD}@h/db",
        f"postgresql://u:pa/{PASSWORD}@h/db",
        f"postgresql://u:#{PASSWORD}@h/db",
        f"postgresql://u:{PASSWORD}@h:port/db",
        f"postgresql://u:{PASSWORD}@h/db?sslmode=what",
        f"host=h password={PASSWORD}",
    ],
)
async def test_a_dsn_that_cannot_be_read_is_a_usage_error_without_its_password(bad: str) -> None:
    with pytest.raises(UsageError) as caught:
        await Database.connect(bad)
    assert caught.value.exit_code == 2
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in describe(bad)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        (f"postgresql://u:{PASSWORD}@h:5/db?application_name=x", "postgresql://u@h:5/db?application_name=x"),
        (f"postgresql://u@h/db?password={PASSWORD}", "postgresql://u@h/db"),
        (f"postgres://u:{PASSWORD}@[::1]:5/db", "postgres://u@[::1]:5/db"),
        (f"postgresql://u:{PASSWORD}@a@h/db", "postgresql://u@h/db"),
        ("postgresql://u@/db?host=/var/run", "postgresql://u@/db?host=/var/run"),
        ("postgresql://[::1]:5/db", "postgresql://[::1]:5/db"),
        (f"postgresql://u:1{PASSWORD}/a@h/db", "the given DSN"),
    ],
)
def test_a_dsn_is_shown_without_its_password(dsn: str, shown: str) -> None:
    assert describe(dsn) == shown


async def test_nobody_there_is_transient_and_says_where(tmp_path: Path, unused_tcp_port: int) -> None:
    cases = {
        f"postgresql://u:{PASSWORD}@127.0.0.1:{unused_tcp_port}/db": (
            f"cannot reach PostgreSQL at 127.0.0.1:{unused_tcp_port}: connection refused; is it running?"
        ),
        f"postgresql://u:{PASSWORD}@no-such-host.invalid/db": (
            "cannot reach PostgreSQL at no-such-host.invalid:5432: the host name is not known"
        ),
        f"postgresql://u:{PASSWORD}@/db?host={tmp_path}": (
            f"cannot reach PostgreSQL at {tmp_path}: there is no socket; is it running?"
        ),
    }
    for dsn, message in cases.items():
        with pytest.raises(TransientError) as caught:
            await Database.connect(dsn)
        assert str(caught.value) == message


async def test_a_server_that_takes_the_call_and_says_nothing_is_left_in_time() -> None:
    """L6: it accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(TransientError, match=rf"127\.0\.0\.1:{port}: no answer within 0\.2 s"):
            await Database.connect(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/db", deadline_s=0.2)
        assert time.monotonic() - started < 2


async def test_an_unknown_database_or_role_is_terminal_and_shows_no_password(dsn: str) -> None:
    parts = urlsplit(dsn)
    password = parts.password or PASSWORD
    place = parts.netloc.rpartition("@")[2]
    with pytest.raises(TerminalError) as caught:
        await Database.connect(
            parts._replace(netloc=f"{parts.username}:{password}@{place}", path="/no_such_database").geturl()
        )
    assert caught.value.sqlstate == "3D000"
    assert "no_such_database" in str(caught.value)
    assert password not in str(caught.value)
    with pytest.raises(TerminalError) as caught:
        await Database.connect(parts._replace(netloc=f"nobody_here:{PASSWORD}@{place}").geturl())
    assert caught.value.sqlstate in ("28000", "28P01")
    assert PASSWORD not in str(caught.value)
