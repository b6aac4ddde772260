"""Migrations: on an empty database, on a bot's own one, twice, two at once, and after something broke."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

import loader.migrate
from loader.database import Database
from loader.errors import TerminalError, TransientError, UniqueViolation
from loader.migrate import Migration, migrate, migrations, pending
from loader.statements import sql_dir
from loader.views import views

from ..command import emit
from ..contents import agreement
from ..processes import Command

TABLES = ("orders", "trades", "order_updates", "events", "positions", "audit_segments", "audit_rejects")
NAMES = [migration.name for migration in migrations()]
VIEWS = [f"view {name}" for name in views()]
INDEXES = {
    "tradetrail_orders_stream_seq": True,
    "tradetrail_orders_order_id": True,
    "tradetrail_orders_client_order_id": False,
    "tradetrail_orders_position_id": False,
    "tradetrail_trades_stream_seq": True,
    "tradetrail_trades_trade_id": True,
    "tradetrail_trades_order_id": False,
    "tradetrail_trades_position_id": False,
    "tradetrail_events_stream_seq": True,
    "tradetrail_order_updates_stream_seq": True,
    "tradetrail_order_updates_order_id": False,
    "tradetrail_order_updates_client_order_id": False,
    "tradetrail_audit_rejects_place": True,
    "tradetrail_audit_rejects_stream_seq": False,
}
_INDEXES = """
SELECT relname, indisunique, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relname LIKE 'tradetrail%'
"""


_TIMEOUTS = "SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout%' ORDER BY name"
# Rows of a bot that has traded for years; the same order several times, as it logged them.
_OLD = {
    "orders": """
        INSERT INTO monitoring.orders
            (position_id, exchange, symbol, order_id, type, side, size, price, status, created_at)
        SELECT (n / 4)::text, 'bybit', 'MNTUSDT', 'old-' || n / 2, 'MARKET', 'sell', n % 100, 2.1118, 'FILLED',
               TIMESTAMPTZ '2024-01-01' + n * INTERVAL '20 seconds' FROM generate_series(1, $1::int) AS n""",
    "trades": """
        INSERT INTO monitoring.trades (signal_id, symbol, exchange, side, quantity, price, order_id, fee, executed_at)
        SELECT n, 'MNTUSDT', 'bybit', 'buy', n % 100, 2.1118, 'old-' || n / 2, 0.11,
               TIMESTAMPTZ '2024-01-01' + n * INTERVAL '20 seconds' FROM generate_series(1, $1::int) AS n""",
}
_MADE = (
    "SELECT table_name, column_name, ordinal_position, data_type, column_default, is_nullable, collation_name "
    "FROM information_schema.columns WHERE table_schema = 'monitoring' AND table_name <> 'mine' ORDER BY 1, 3",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'monitoring' ORDER BY indexname",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'monitoring'::regnamespace AND contype <> 'n' ORDER BY 1, 2",
    "SELECT objoid::regclass::text, objsubid, description FROM pg_description "
    "WHERE classoid = 'pg_class'::regclass AND objoid::regclass::text LIKE 'monitoring.%' ORDER BY 1, 2",
)
_WAITING_FOR_ANY = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'tradetrail' AND wait_event_type = 'Lock'
"""
_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'tradetrail' AND wait_event = 'relation'
"""
# As the bot does it, one statement a transaction.
_NEW = (
    "INSERT INTO monitoring.orders (exchange, symbol, order_id, type, side, size, status) "
    "VALUES ('bybit', 'MNTUSDT', 'bot-' || $1::int, 'MARKET', 'sell', 1, 'NEW')",
    "INSERT INTO monitoring.trades (exchange, symbol, order_id, side, quantity) "
    "VALUES ('bybit', 'MNTUSDT', 'bot-' || $1::int, 'sell', 1)",
    "UPDATE monitoring.orders SET status = 'FILLED' WHERE id = (SELECT max(id) FROM monitoring.orders) AND $1::int > 0",
)


async def rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    return {
        table: await database.fetch(f"SELECT * FROM monitoring.{table} ORDER BY id")
        for table in ("orders", "trades", "events", "positions")
    }


async def indexes(database: Database) -> dict[str, bool]:
    found = await database.fetch(_INDEXES)
    assert all(row["indisvalid"] for row in found)
    return {row["relname"]: row["indisunique"] for row in found}


async def test_an_empty_database_gets_all_tables_without_limits(empty_dsn: str) -> None:
    async with await Database.connect(empty_dsn) as database:
        assert await pending(database) == NAMES
        assert await migrate(database) == NAMES + VIEWS
        assert await pending(database) == []
        assert await migrate(database) == []
        for table in TABLES:
            columns = await database.columns(table)
            assert columns, table
            for column in columns.values():
                assert column.data_type != "character varying"
                assert column.data_type != "numeric" or column.precision is None
        for table in ("orders", "trades", "events", "order_updates", "positions"):
            columns = await database.columns(table)
            assert [column.name for column in columns.values() if not column.nullable] == ["id"]
        assert await indexes(database) == INDEXES
        collations = await database.fetch(
            "SELECT table_name, collation_name FROM information_schema.columns "
            "WHERE table_schema = 'monitoring' AND column_name = 'stream'"
        )
        assert {row["table_name"]: row["collation_name"] for row in collations} == dict.fromkeys(
            ("orders", "trades", "events", "order_updates", "audit_segments", "audit_rejects", "round_trips"), "C"
        )
        noted = await database.fetch("SELECT * FROM monitoring.schema_migrations ORDER BY version")
        assert [(row["version"], row["name"], row["sha256"]) for row in noted] == [
            (migration.version, migration.name, migration.sha256) for migration in migrations()
        ]


async def test_the_bots_database_keeps_its_rows_columns_and_words(existing_dsn: str) -> None:
    async with await Database.connect(existing_dsn) as database:
        before = await rows(database)
        assert {table: len(found) for table, found in before.items()} == {
            "orders": 50,
            "trades": 40,
            "events": 30,
            "positions": 3,
        }
        columns = {table: await database.columns(table) for table in before}
        files = await database.fetch(
            "SELECT relname, pg_relation_filenode(oid) FROM pg_class "
            "WHERE relnamespace = 'monitoring'::regnamespace AND relkind IN ('r', 'i')"
        )
        assert await migrate(database) == NAMES + VIEWS
        assert await indexes(database) == INDEXES
        after = await rows(database)
        for table, found in before.items():
            kept = [{name: row[name] for name in columns[table]} for row in after[table]]
            assert kept == found
            added = {name: after[table][0][name] for name in after[table][0] if name not in columns[table]}
            assert set(added.values()) <= {None}
            now = await database.columns(table)
            assert {name: now[name] for name in columns[table]} == columns[table]
        # A table that was rewritten has another file.
        for row in files:
            filenode = await database.fetchval("SELECT pg_relation_filenode(to_regclass($1))", _path(row))
            assert filenode == row["pg_relation_filenode"]
        comment = await database.fetchval("SELECT obj_description('monitoring.orders'::regclass, 'pg_class')")
        assert comment == "The bot's own words"
        added = set(await database.columns("trades")) - set(columns["trades"])
        more = {"fees", "contract_size", "reason", "estimated"}
        assert added == {"position_id", "trade_id", "stream", "seq", *more}


def _path(row: dict[str, Any]) -> str:
    return f"monitoring.{row['relname']}"


async def test_the_bots_own_inserts_work_on(migrated_existing_dsn: str) -> None:
    async with await Database.connect(migrated_existing_dsn) as database:
        for _ in range(2):
            assert (
                await database.execute(
                    "INSERT INTO monitoring.orders (exchange, symbol, order_id, type, side, size, status) "
                    "VALUES ('bybit', 'MNTUSDT', 'old-1', 'MARKET', 'sell', 1, 'FILLED')"
                )
                == 1
            )
        assert (
            await database.execute(
                "INSERT INTO monitoring.events (event_type, event_data, position_id) VALUES ('x', $1, 7)",
                {"n": 1},
            )
            == 1
        )
        assert await database.execute("UPDATE monitoring.trades SET status = 'SEEN'") == 40
        touched = "SELECT count(*) FROM monitoring.trades WHERE updated_at > '2026-11-02'::date"
        assert await database.fetchval(touched) == 40
        same = "SELECT count(*) FROM monitoring.orders WHERE order_id = 'old-1'"
        assert await database.fetchval(same) == 4


async def test_a_record_can_be_there_only_once(db: Database) -> None:
    insert = "INSERT INTO monitoring.orders (stream, seq, exchange, symbol, order_id) VALUES ($1, $2, 'x', 'y', $3)"
    await db.execute(insert, "s", 1, "a")
    for stream, seq, order_id in (("s", 1, "b"), ("s", 2, "a")):
        with pytest.raises(UniqueViolation):
            await db.execute(insert, stream, seq, order_id)
    for seq in (3, 4):
        await db.execute(insert, "s", seq, None)
    assert await db.fetchval("SELECT count(*) FROM monitoring.orders") == 3


async def test_two_at_once_apply_each_migration_once(existing_dsn: str) -> None:
    async def one() -> list[str]:
        async with await Database.connect(existing_dsn) as database:
            return await migrate(database)

    results = await asyncio.gather(one(), one(), one())
    assert sorted(name for names in results for name in names) == NAMES + VIEWS
    async with await Database.connect(existing_dsn) as database:
        assert await indexes(database) == INDEXES


async def test_an_index_left_invalid_by_a_broken_build_is_built_again(existing_dsn: str) -> None:
    async with await Database.connect(existing_dsn) as database:
        await migrate(database)
        await database.execute("DELETE FROM monitoring.schema_migrations WHERE version = 8")
        await database.execute("DROP INDEX monitoring.tradetrail_trades_stream_seq")
        await database.execute(
            "INSERT INTO monitoring.trades (stream, seq, exchange, symbol, side) "
            "SELECT 's', 1, 'x', 'y', 'buy' FROM generate_series(1, 2)"
        )
        with pytest.raises(UniqueViolation):
            await migrate(database)
        broken = [row["relname"] for row in await database.fetch(_INDEXES) if not row["indisvalid"]]
        assert broken == ["tradetrail_trades_stream_seq"]
        assert await pending(database) == [NAMES[7]]
        await database.execute("DELETE FROM monitoring.trades WHERE stream = 's'")
        before = await database.fetch(_TIMEOUTS)
        assert await migrate(database) == [NAMES[7]]
        assert await indexes(database) == INDEXES
        assert await database.fetch(_TIMEOUTS) == before


async def test_a_busy_table_is_waited_for_briefly_and_then_again(existing_dsn: str) -> None:
    async with (
        await Database.connect(existing_dsn) as bot,
        await Database.connect(existing_dsn) as database,
    ):
        async with bot.transaction():
            await bot.execute("UPDATE monitoring.orders SET status = 'BUSY' WHERE id = 1")
            started = asyncio.get_running_loop().time()
            with pytest.raises(TransientError, match="0002_orders: its table is held") as caught:
                await migrate(database, lock_attempts=1)
            assert asyncio.get_running_loop().time() - started < 2
            assert caught.value.sqlstate == "55P03"
            assert await pending(database) == NAMES[1:]
            again = asyncio.create_task(migrate(database))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not await bot.fetchval(waiting):
                assert not again.done()
        assert await again == NAMES[1:] + VIEWS
        assert await indexes(database) == INDEXES


async def test_a_migration_whose_text_changed_is_refused(db: Database) -> None:
    await db.execute("UPDATE monitoring.schema_migrations SET sha256 = 'other' WHERE version = 3")
    for call in (pending, migrate):
        with pytest.raises(TerminalError, match=r"0003_trades\.sql was changed after"):
            await call(db)


async def test_a_database_newer_than_this_program_is_refused(db: Database) -> None:
    await db.execute("INSERT INTO monitoring.schema_migrations VALUES (9999, '9999_future', 'x')")
    for call in (pending, migrate):
        with pytest.raises(TerminalError, match=r"9999_future.*newer tradetrail"):
            await call(db)


async def test_a_migration_that_fails_leaves_nothing(
    existing_dsn: str, empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of itself on a bot's database, of any on an empty one."""
    bad = Migration(2, "0002_bad", "CREATE TABLE monitoring.half (); SELECT 1 / 0;")
    first = migrations()[0]
    monkeypatch.setattr(loader.migrate, "migrations", lambda: (first, bad))
    for dsn, left in ((existing_dsn, ["0002_bad"]), (empty_dsn, ["0001_schema", "0002_bad"])):
        async with await Database.connect(dsn) as database:
            with pytest.raises(Exception, match="division by zero"):
                await migrate(database)
            assert await database.fetchval("SELECT to_regclass('monitoring.half')") is None
            assert await pending(database) == left
            free = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert await database.fetchval(free) == 0


async def test_both_ways_make_the_same_tables(
    empty_dsn: str, existing_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, as on an empty database, and one by one, as on a bot's."""
    async with await Database.connect(empty_dsn) as database, await Database.connect(existing_dsn) as other:
        assert await migrate(database) == NAMES + VIEWS
        await other.execute("DROP SCHEMA monitoring CASCADE; CREATE SCHEMA monitoring; CREATE TABLE monitoring.mine ()")
        assert await migrate(other) == NAMES + VIEWS
        for query in _MADE:
            made = await database.fetch(query)
            assert len(made) >= 10
            assert await other.fetch(query) == made


async def test_who_is_killed_while_tables_are_made_leaves_none(empty_dsn: str, tmp_path: Path) -> None:
    """Several loaders at once, one of them killed: the others make the tables, and load."""
    log = tmp_path / "audit"
    emit(log)
    async with (
        await Database.connect(empty_dsn, application_name="holder") as holder,
        await Database.connect(empty_dsn, application_name="watcher") as watcher,
    ):
        async with holder.transaction():
            # In the midst of its tables it waits for whoever makes the same one.
            await holder.execute("CREATE SCHEMA monitoring; CREATE TABLE monitoring.audit_segments ()")
            args = ("load", "--dir", log, "--dsn", empty_dsn, "--json")
            victim = Command(tmp_path, *args)
            while not await watcher.fetchval(_WAITING_FOR_ANY):
                assert victim.running, victim.said()
            others = [Command(tmp_path, *args) for _ in range(3)]
            victim.process.kill()
            await asyncio.to_thread(victim.end)
            await holder.execute("DROP SCHEMA monitoring CASCADE")
        said = []
        for other in others:
            assert await asyncio.to_thread(other.end) == 0, other.said()
            said.append(json.loads(other.said())["records"])
        assert sum(said) == await agreement(watcher) == 10


async def test_tables_and_added_columns_are_described(db: Database) -> None:
    for table in TABLES:
        text = "SELECT obj_description(('monitoring.' || $1)::regclass, 'pg_class')"
        assert await db.fetchval(text, table), table
    for table in ("orders", "trades", "events"):
        for column in ("stream", "seq"):
            text = "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = $1::text::regclass"
            assert await db.fetchval(f"{text} AND attname = $2", f"monitoring.{table}", column), (table, column)


async def test_the_roles_may_do_their_work_and_no_more(dsn: str) -> None:
    async with await Database.connect(dsn) as database:
        for _ in range(2):
            await database.execute((sql_dir() / "roles.sql").read_text())
        await database.execute("SET ROLE tradetrail_loader")
        await database.execute("CREATE TEMPORARY TABLE stage (LIKE monitoring.orders)")
        for table in ("orders", "trades", "order_updates", "events"):
            insert = f"INSERT INTO monitoring.{table} (stream, seq, exchange) VALUES ('s', 1, 'x')"
            assert await database.execute(insert) == 1
        await database.execute("INSERT INTO monitoring.audit_segments (stream, segment) VALUES ('s', 1)")
        await database.execute("UPDATE monitoring.audit_segments SET bytes = 5")
        await database.execute("UPDATE monitoring.orders SET status = 'NEW'")
        assert await pending(database) == []
        for forbidden in (
            "DELETE FROM monitoring.orders",
            "UPDATE monitoring.trades SET status = 'NEW'",
            "UPDATE monitoring.order_updates SET status = 'NEW'",
            "TRUNCATE monitoring.events",
            "CREATE TABLE monitoring.mine ()",
        ):
            with pytest.raises(TerminalError, match="permission denied"):
                await database.execute(forbidden)
        await database.execute("RESET ROLE; SET ROLE tradetrail_reader")
        assert await database.fetchval("SELECT count(*) FROM monitoring.orders") == 1
        with pytest.raises(TerminalError, match="permission denied"):
            await database.execute("INSERT INTO monitoring.orders (exchange) VALUES ('x')")


async def _checksum(database: Database, table: str, columns: list[str], last: int) -> Any:
    fields = ", ".join(columns)
    return await database.fetchval(
        f"SELECT count(*) || ' ' || sum(hashtextextended(ROW({fields})::text, 0)::numeric) "
        f"FROM monitoring.{table} WHERE id <= {last}"
    )


class _Bot:
    """The old bot: one INSERT or UPDATE after the other, each timed, until it is told to stop."""

    def __init__(self, dsn: str) -> None:
        self.done = 0
        self.longest_s = 0.0
        self._dsn = dsn
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        async with await Database.connect(self._dsn, application_name="bot") as database:
            while not self._stop.is_set():
                began = time.perf_counter()
                await database.execute(_NEW[self.done % 3], self.done // 3)
                self.longest_s = max(self.longest_s, time.perf_counter() - began)
                self.done += 1
                await asyncio.sleep(0.001)

    async def stop(self) -> str:
        self._stop.set()
        await self._task
        return f"{self.done} statements of the bot's, the longest took {1000 * self.longest_s:.0f} ms"


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_bot_with_five_million_rows_writes_on_while_it_is_migrated_and_loaded(
    existing_dsn: str, tmp_path: Path
) -> None:
    """One second is the promise itself: the longest that migrations may make anybody wait."""
    half = 2_500_000
    log = tmp_path / "audit"
    emit(log, 5000)
    async with await Database.connect(existing_dsn, deadline_s=120) as database:
        columns = {table: list(await database.columns(table)) for table in _OLD}
        for insert in _OLD.values():
            await database.execute(insert, half)
        last = {table: await database.fetchval(f"SELECT max(id) FROM monitoring.{table}") for table in _OLD}
        before = {table: await _checksum(database, table, columns[table], last[table]) for table in _OLD}
        assert before["orders"].startswith(str(half + 50))

        # Somebody reads for a while, as pg_dump does: migrations come behind, and let go again and again.
        async with await Database.connect(existing_dsn, application_name="reader") as reader, reader.transaction():
            await reader.fetchval("SELECT id FROM monitoring.orders LIMIT 1")
            bot = _Bot(existing_dsn)
            began = time.perf_counter()
            migrating = Command(tmp_path, "migrate", "--dsn", existing_dsn, "--json")
            for waits in (1, 0, 1):
                while await database.fetchval(_WAITING) != waits:
                    assert migrating.running, migrating.said()
        assert await asyncio.to_thread(migrating.end, 120) == 0, migrating.said()
        took = time.perf_counter() - began
        print(f"migrate: {took:.1f} s; {await bot.stop()}")
        assert json.loads(migrating.said())["applied"] == NAMES + VIEWS
        assert bot.done > 100
        assert bot.longest_s < 1.0

        bot = _Bot(existing_dsn)
        began = time.perf_counter()
        loading = Command(tmp_path, "load", "--dir", log, "--dsn", existing_dsn, "--json")
        assert await asyncio.to_thread(loading.end, 120) == 0, loading.said()
        print(f"load of 15001 records: {time.perf_counter() - began:.1f} s; {await bot.stop()}")
        assert json.loads(loading.said())["records"] == await agreement(database) == 15_001
        assert bot.longest_s < 1.0

        assert await indexes(database) == INDEXES
        assert {table: await _checksum(database, table, columns[table], last[table]) for table in _OLD} == before
        made = "SELECT count(*) FROM monitoring.orders WHERE order_id LIKE 'bot-%' AND stream IS NULL"
        assert await database.fetchval(made) > 0
