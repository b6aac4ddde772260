"""Partitioned tables: each record and each fill is there once, as in plain ones, whichever partition it falls into."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loader.migrate
from loader.database import Database
from loader.errors import UniqueViolation, UsageError
from loader.load import Loader
from loader.migrate import Migration, migrate, migrations, pending
from loader.partitions import add_partitions, in_default, month_of
from loader.rejects.rejects import Asked
from loader.rejects.retry import Retry
from loader.settings import LoadSettings
from loader.statements import sql_dir
from loader.totals import Totals

from ..command import answer, one_line, tradetrail
from ..contents import agreement, assert_same, contents
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.postgres import Cluster
from ..processes import Command

BY = {
    "audit_rejects": "RANGE (stream)",
    "events": "RANGE (created_at)",
    "order_updates": "RANGE (recorded_at)",
    "orders": "HASH (exchange, symbol, order_id)",
    "trades": "RANGE (executed_at)",
}
_PARTITIONED = "SELECT partrelid::regclass::text AS name, pg_get_partkeydef(partrelid) AS key FROM pg_partitioned_table"
_COLUMNS = (
    "SELECT table_name, column_name, ordinal_position, data_type, column_default, is_nullable, collation_name "
    "FROM information_schema.columns WHERE table_schema = 'monitoring' AND table_name = ANY ($1::text[]) ORDER BY 1, 3",
    "SELECT objoid::regclass::text, objsubid, description FROM pg_description WHERE classoid = 'pg_class'::regclass "
    "AND objoid = ANY (SELECT format('monitoring.%s', t)::regclass FROM unnest($1::text[]) AS t) ORDER BY 1, 2",
    "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' "
    "AND conrelid = ANY (SELECT format('monitoring.%s', t)::regclass FROM unnest($1::text[]) AS t) ORDER BY 1, 2",
)
_INDEXES = (
    "SELECT indexname FROM pg_indexes WHERE schemaname = 'monitoring' AND tablename = ANY ($1::text[]) "
    "AND indexname LIKE 'tradetrail%'"
)
_WHERE = "SELECT tableoid::regclass::text AS part, count(*) AS rows FROM monitoring.{} GROUP BY 1 ORDER BY 1"


def _lines(stream: str) -> Iterator[bytes]:
    """Of every kind, over three months: fills of years ago, lines that break rules, fills and orders told again."""
    for n in range(1, 301):
        key, when = n % 40, f"2026-{9 + n % 3:02d}-{1 + n % 28:02d}T10:{n % 60:02d}:00.{n:06d}Z"
        if n % 31 == 0:
            yield b"broken line %d\n" % n
        elif n % 5 == 0:
            told = order(order_id=f"o{key}" if n % 25 else None, client_order_id=f"c{key}", status="NEW", price=n)
            yield line(n, "order.created", told, stream=stream, timestamp=when)
        elif n % 5 == 1:
            named = {"client_order_id": f"c{key}", "order_id": None} if n % 4 else {"order_id": f"o{key}"}
            yield line(n, "order.updated", update(**named, filled=n), stream=stream, timestamp=when)
        elif n % 5 == 2:
            yield line(n, "ping", {"n": n}, stream=stream, timestamp=when)
        else:
            said = {"trade_id": f"{stream}{n - 5 if n % 15 == 3 else n}", "price": n}
            said |= {"executed_at": f"20{23 + n % 3}-03-04T05:06:07Z"} if n % 7 == 0 else {}
            yield line(n, "trade.executed", trade(**said), stream=stream, timestamp=when)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files") / "audit"
    for stream in (STREAM, OTHER_STREAM):
        lines = list(_lines(stream))
        for number in range(3):
            segment(directory, lines[number * 100 : (number + 1) * 100], stream=stream, number=number + 1)
    return directory


@pytest.fixture
def directory(files: Path, tmp_path: Path) -> Path:
    return shutil.copytree(files, tmp_path / "audit")


@pytest.fixture(scope="module")
def wanted(cluster: Cluster, files: Path) -> dict[str, list[str]]:
    """What plain tables hold of these files."""
    with cluster.database(cluster.template(existing=False, migrated=True)) as dsn:
        asyncio.run(_take(dsn, files))
        found = asyncio.run(contents(dsn))
    assert all(len(found[table]) > 15 for table in BY)
    return found


async def _take(dsn: str, directory: Path, batch_bytes: int = 40_000) -> Totals:
    async with Loader(LoadSettings(directory=directory, dsn=dsn, batch_bytes=batch_bytes)) as loader:
        return await loader.take()


async def _parts(database: Database, table: str) -> dict[str, int]:
    found = await database.fetch(_WHERE.format(table))
    return {row["part"].removeprefix("monitoring."): row["rows"] for row in found}


# -- how they are made --


async def test_migrate_makes_them_once_and_then_their_partitions_a_year_ahead(empty_dsn: str, dsn: str) -> None:
    first = answer("migrate", "--partitioned", "--dsn", empty_dsn)
    assert first["applied"] == [*(one.name for one in migrations()), "view round_trips"]
    assert first["in_default"] == []
    assert len(first["partitions"]) == 4 * 14
    async with await Database.connect(empty_dsn) as database, await Database.connect(dsn) as plain:
        found = {row["name"]: row["key"] for row in await database.fetch(_PARTITIONED)}
        assert found == {f"monitoring.{table}": key for table, key in BY.items()}
        # All else is as the migrations say, whatever they will say one day.
        for query in _COLUMNS:
            assert await database.fetch(query, list(BY)) == await plain.fetch(query, list(BY))
        there, here = [{row["indexname"] for row in await one.fetch(_INDEXES, list(BY))} for one in (plain, database)]
        # The one stands on each partition, the other is a table of its own.
        assert there - here == {"tradetrail_orders_stream_seq", "tradetrail_trades_trade_id"}
        assert await pending(database) == []
        await database.execute("DROP TABLE monitoring.trades_" + first["partitions"][-1][-7:])
    again = answer("migrate", "--partitioned", "--dsn", empty_dsn)
    assert again == {"applied": [], "partitions": ["trades_" + first["partitions"][-1][-7:]], "in_default": []}
    done = tradetrail("migrate", "--partitioned", "--from", "2020-01", "--dsn", empty_dsn)
    assert done.returncode == 0
    assert "2020-01 to " in done.stdout
    assert tradetrail("migrate", "--dsn", empty_dsn).stdout == "nothing to do: the database is up to date\n"


def test_tables_that_are_there_are_not_made_partitioned(existing_dsn: str, cluster: Cluster) -> None:
    plain = cluster.template(existing=True, migrated=True)
    with cluster.database(plain) as migrated:
        for dsn in (existing_dsn, migrated):
            said = one_line(tradetrail("migrate", "--partitioned", "--dsn", dsn), 2)
            assert "this database has monitoring.orders already" in said
    said = one_line(tradetrail("migrate", "--from", "2020-01", "--dsn", existing_dsn), 2)
    assert "give --partitioned" in said
    for text in ("2020", "2020-13", "next", "2020-01-01"):
        with pytest.raises(UsageError, match="is no month; write 2020-01"):
            month_of("--from", text)


async def test_two_that_make_them_at_once_make_each_once(empty_dsn: str) -> None:
    async def one() -> tuple[list[str], list[str]]:
        async with await Database.connect(empty_dsn) as database:
            return await migrate(database, partitioned=True), await add_partitions(database)

    results = await asyncio.gather(one(), one())
    assert sorted(len(applied) for applied, _ in results) == [0, len(migrations()) + 1]
    made = [name for _, names in results for name in names]
    assert len(made) == len(set(made)) == 4 * 14


async def test_a_later_migration_finds_its_way(partitioned_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that is built beside writers elsewhere is built all the same, on each partition."""
    number = len(migrations()) + 1
    sql = "CREATE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_later ON monitoring.trades (side);\n"
    later = (*migrations(), Migration(number, f"{number:04d}_later", f"-- outside a transaction\n{sql}"))
    monkeypatch.setattr(loader.migrate, "migrations", lambda: later)
    async with await Database.connect(partitioned_dsn) as database:
        assert await migrate(database) == [later[-1].name]
        index = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'monitoring.tradetrail_later'::regclass"
        assert await database.fetchval(index)


# -- exactly once --


async def test_they_hold_what_plain_tables_hold_however_often_it_is_loaded(
    partitioned_dsn: str, directory: Path, wanted: dict[str, list[str]]
) -> None:
    first = await _take(partitioned_dsn, directory, 20_000)
    assert_same(await contents(partitioned_dsn), wanted)
    async with await Database.connect(partitioned_dsn) as database:
        assert await agreement(database) == first.records == 600
        before = await _parts(database, "trades")
        assert {"trades_2026_11", "trades_default"} < set(before)
        # Without the ledger nothing but the keys tells what is there already.
        await database.execute("TRUNCATE monitoring.audit_segments")
        results = await asyncio.gather(*(_take(partitioned_dsn, directory, size) for size in (12_000, 40_000)))
        assert sum(one.orders + one.trades + one.order_updates + one.events for one in results) == 0
        assert_same(await contents(partitioned_dsn), wanted)
        assert await _parts(database, "trades") == before


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_fill_that_two_records_tell_of_different_months_is_one_row(
    partitioned_dsn: str, tmp_path: Path, at_once: bool
) -> None:
    numbers = range(1, 1001)
    told = ((STREAM, numbers, "2026-10-31"), (OTHER_STREAM, reversed(numbers), "2026-11-01"))
    for stream, order_of, day in told:
        fills = (
            line(seq, "trade.executed", trade(trade_id=f"t{n}", price=n, executed_at=f"{day}T12:00:00Z"), stream=stream)
            for seq, n in enumerate(order_of, 1)
        )
        segment(tmp_path / stream, fills, stream=stream)
    args = [("load", "--dir", tmp_path / stream, "--dsn", partitioned_dsn, "--json") for stream, *_ in told]
    if at_once:
        running = [Command(tmp_path, *one) for one in args]
        codes = [await asyncio.to_thread(command.end) for command in running]
        assert codes == [0, 0], [command.said() for command in running]
        totals = [json.loads(command.said()) for command in running]
    else:
        totals = [answer(*one[:-1]) for one in args]
    assert [one["records"] for one in totals] == [1000, 1000]
    assert sum(one["trades"] for one in totals) == sum(one["duplicates"] for one in totals) == 1000
    async with await Database.connect(partitioned_dsn) as database:
        assert await agreement(database) == 2000
        once = "SELECT count(*) AS rows, count(DISTINCT trade_id) AS ids, sum(price) AS prices FROM monitoring.trades"
        assert await database.fetchrow(once) == {"rows": 1000, "ids": 1000, "prices": 500_500}
        repeated = "SELECT count(*) FROM monitoring.audit_rejects WHERE reasons[1] LIKE 'repeated_trade%'"
        assert await database.fetchval(repeated) == 1000
        assert await database.fetchval("SELECT count(*) FROM monitoring.trade_keys") == 1000


async def test_a_fills_key_says_to_each_statement_what_a_unique_index_would(partitioned_dsn: str) -> None:
    """L26: a partition by time may not let a fill in twice."""
    insert = (
        "INSERT INTO monitoring.trades (stream, seq, exchange, symbol, trade_id, executed_at) "
        "VALUES ($1, $2::int, 'x', 'y', $3::text, $4::text::timestamptz)"
    )
    keys = "SELECT array_agg(trade_id ORDER BY trade_id) FROM monitoring.trade_keys"
    async with await Database.connect(partitioned_dsn) as database:
        assert await database.execute(insert, "s", 1, "a", "2026-10-01") == 1
        with pytest.raises(UniqueViolation, match="trade_keys_pkey"):
            await database.execute(insert, "s", 2, "a", "2026-11-01")

        async def csv() -> Any:
            yield b"s,3,x,y,a,2026-11-01\n"

        columns = ("stream", "seq", "exchange", "symbol", "trade_id", "executed_at")
        with pytest.raises(UniqueViolation):
            await database.copy_csv("trades", columns, csv())
        assert await database.execute(insert + " ON CONFLICT DO NOTHING", "s", 2, "a", "2026-11-01") == 0
        # Rows of the bot's own, and fills without ids, are nobody's business.
        for stream, trade_id in ((None, "a"), (None, "a"), ("s", None)):
            assert await database.execute(insert, stream, 4, trade_id, "2026-11-01") == 1
        assert await database.fetchval(keys) == ["a"]
        # A row that moves, is deleted, or goes with its partition.
        assert await database.execute("UPDATE monitoring.trades SET executed_at = '2026-11-05' WHERE seq = 1") == 1
        assert await database.fetchval(keys) == ["a"]
        assert await database.execute("DELETE FROM monitoring.trades WHERE seq = 1") == 1
        assert await database.fetchval(keys) is None
        assert await database.execute(insert, "s", 5, "a", "2026-11-01") == 1
        await database.execute("DROP TABLE monitoring.trades_2026_11")
        assert await database.fetchval(keys) == ["a"]
        await database.execute("TRUNCATE monitoring.trades")
        assert await database.fetchval(keys) is None


# -- partitions --


async def test_what_stands_in_a_default_partition_moves_into_its_own(
    partitioned_dsn: str, directory: Path, wanted: dict[str, list[str]]
) -> None:
    """L26: a row whose month has no partition is kept all the same."""
    await _take(partitioned_dsn, directory)
    status = tradetrail("status", "--dir", directory, "--dsn", partitioned_dsn).stdout
    assert "rows without a monthly partition in trades, events, order_updates" in " ".join(status.split())
    async with await Database.connect(partitioned_dsn) as database:
        assert await in_default(database) == ["trades", "events", "order_updates", "audit_rejects"]
        keys = await database.fetchval("SELECT count(*) FROM monitoring.trade_keys")
        done = answer("migrate", "--partitioned", "--from", "2023-01", "--dsn", partitioned_dsn)
        assert done["in_default"] == []
        assert len(done["partitions"]) > 4 * 30
        assert sum((await _parts(database, "trades")).values()) == len(wanted["trades"])
        assert (await _parts(database, "trades"))["trades_2023_03"] > 0
        # Both streams began on 2025-10-14, as their ids say.
        assert await _parts(database, "audit_rejects") == {"audit_rejects_2025_10": len(wanted["audit_rejects"])}
        assert await database.fetchval("SELECT count(*) FROM monitoring.trade_keys") == keys
        await database.execute("TRUNCATE monitoring.audit_segments")
    await _take(partitioned_dsn, directory)
    assert_same(await contents(partitioned_dsn), wanted)


async def test_a_dropped_month_stays_away_though_its_files_are_there(
    partitioned_dsn: str, directory: Path, wanted: dict[str, list[str]]
) -> None:
    """The ledger says that they were loaded; what comes later is loaded as ever."""
    half = directory.parent / "half"
    shutil.copytree(directory, half, ignore=shutil.ignore_patterns("*.000003.jsonl"))
    await _take(partitioned_dsn, half)
    async with await Database.connect(partitioned_dsn) as database:
        for table in ("trades", "events", "order_updates"):
            await database.execute(f"DROP TABLE monitoring.{table}_2026_11")
        totals = await _take(partitioned_dsn, directory)
        assert totals.records == 200
        left = (
            "SELECT count(*) FROM monitoring.events WHERE created_at >= '2026-11-01' AND (event_data->>'n')::int <= 200"
        )
        assert await database.fetchval(left) == 0
        keys = "SELECT count(*) FROM monitoring.trade_keys"
        ids = {row for row in wanted["trades"] if "('trade_id', None)" not in row}
        assert await database.fetchval(keys) == len(ids)


async def test_a_fill_of_a_dropped_month_that_is_told_again_makes_no_row_and_stops_nothing(
    partitioned_dsn: str, tmp_path: Path
) -> None:
    """``trade_keys`` knows it still; it is a repeat as one of a month that is there."""
    fills = [line(n, "trade.executed", trade(trade_id=f"t{n}")) for n in (1, 2, 3)]
    segment(tmp_path, fills)
    await _take(partitioned_dsn, tmp_path)
    async with await Database.connect(partitioned_dsn) as database:
        for part in await _parts(database, "trades"):
            if part != "trades_default":
                await database.execute(f"DROP TABLE monitoring.{part}")
        await database.execute("ALTER TABLE monitoring.trades DETACH PARTITION monitoring.trades_default")
        await database.execute("DROP TABLE monitoring.trades_default")
        await database.execute("CREATE TABLE monitoring.trades_default PARTITION OF monitoring.trades DEFAULT")
    again = [line(n, "trade.executed", trade(trade_id=f"t{n - 3}")) for n in (4, 5, 6, 7)]
    segment(tmp_path, again, number=2)
    totals = await _take(partitioned_dsn, tmp_path)
    assert (totals.trades, totals.duplicates, totals.rejected) == (1, 3, 0)
    assert totals.reasons == {("repair", "repeated_trade"): 3}


def _as(role: str, dsn: str) -> str:
    return f"{dsn}{'&' if '?' in dsn else '?'}options=-crole%3Dtradetrail_{role}"


async def test_ids_that_a_restore_left_behind_are_given_to_no_second_row(partitioned_dsn: str, tmp_path: Path) -> None:
    """An id is unique in one partition here, so that no conflict tells of two orders of one id, or of two lines."""
    asked = "SELECT count(*) AS rows, count(DISTINCT id) AS ids FROM monitoring.{}"
    async with await Database.connect(partitioned_dsn) as database:
        await database.execute((sql_dir() / "roles.sql").read_text())
        for number in range(1, 7):
            first = 20 * number
            seqs = range(first, first + 5)
            told = [line(n, "order.created", order(order_id=f"o{n}")) for n in seqs]
            told += [line(n + 5, "order.updated", update(order_id=f"o{n}", price=n + 5)) for n in seqs]
            told += [line(n + 10, "trade.executed", trade(price="dear")) for n in seqs]
            segment(tmp_path, told, number=number)
            totals = await _take(_as("loader", partitioned_dsn), tmp_path)
            assert (totals.orders, totals.order_updates, totals.rejected, totals.duplicates) == (5, 5, 5, 0)
            assert await database.fetchrow(asked.format("orders")) == {"rows": 5 * number, "ids": 5 * number}
            assert await database.fetchrow(asked.format("audit_rejects")) == {"rows": 5 * number, "ids": 5 * number}
            for table in ("orders", "audit_rejects"):
                await database.execute(f"SELECT setval('monitoring.{table}_id_seq', 1)")
        folded = await database.fetch("SELECT order_id, price FROM monitoring.orders ORDER BY seq")
        assert folded == [
            {"order_id": f"o{n}", "price": n + 5} for first in range(20, 140, 20) for n in range(first, first + 5)
        ]


async def test_lines_tried_again_give_no_id_to_a_second_order(partitioned_dsn: str, tmp_path: Path) -> None:
    """``rejects retry`` inserts orders too; where it begins ids are looked at as well."""
    told = [line(n, "order.created", order(order_id=f"o{n}", size=5 if n <= 20 else 7)) for n in range(1, 31)]
    segment(tmp_path, told)
    async with await Database.connect(partitioned_dsn) as database:
        await database.execute("ALTER TABLE monitoring.orders ADD CONSTRAINT fence CHECK (size <> 7)")
        totals = await _take(partitioned_dsn, tmp_path)
        assert (totals.orders, totals.rejected) == (20, 10)
        await database.execute("ALTER TABLE monitoring.orders DROP CONSTRAINT fence")
        await database.execute("SELECT setval('monitoring.orders_id_seq', 1)")
        async with Retry(partitioned_dsn) as retry:
            assert (await retry.take(Asked(severity="rejected"))).orders == 10
        assert await database.fetchval("SELECT count(DISTINCT id) FROM monitoring.orders") == 30


async def test_an_id_from_elsewhere_takes_no_ids_of_the_sequence(partitioned_dsn: str, tmp_path: Path) -> None:
    """What no sequence comes to is no reason to move one, each time that a loader begins."""
    async with await Database.connect(partitioned_dsn) as database:
        bots_own = "INSERT INTO monitoring.orders (id, exchange, symbol, order_id) VALUES ($1, 'bybit', 'S', $2)"
        await database.execute(bots_own, 9_223_372_036_854_775_000, "far")
        await database.execute(bots_own, 50, "near")
        segment(tmp_path, [line(1, "order.created", order(order_id="o1"))])
        await _take(partitioned_dsn, tmp_path)
        assert await database.fetchval("SELECT id FROM monitoring.orders WHERE order_id = 'o1'") == 51
        segment(tmp_path, [line(2, "order.created", order(order_id="o2"))], number=2)
        await _take(partitioned_dsn, tmp_path)
        assert await database.fetchval("SELECT id FROM monitoring.orders WHERE order_id = 'o2'") == 52


async def test_the_row_of_an_order_outlives_its_oldest_records(partitioned_dsn: str, tmp_path: Path) -> None:
    """What is dropped of them, oldest first, is kept in the row, and a later change is folded into that."""
    told = (
        ("order.created", order(status="NEW", size=5, price=1), "2026-10-05"),
        ("order.updated", update(price=2), "2026-10-06"),
        ("order.updated", update(filled=3), "2026-11-05"),
        ("order.updated", update(filled=4), "2026-12-05"),
    )
    lines = [line(n, name, fields, timestamp=f"{day}T00:00:00Z") for n, (name, fields, day) in enumerate(told, 1)]
    row = "SELECT status, size, price, filled, seq FROM monitoring.orders"
    async with await Database.connect(partitioned_dsn) as database:
        segment(tmp_path / "audit", lines[:3])
        await _take(partitioned_dsn, tmp_path / "audit")
        await database.execute("DROP TABLE monitoring.order_updates_2026_10")
        segment(tmp_path / "audit", lines[3:], number=2)
        assert (await _take(partitioned_dsn, tmp_path / "audit")).order_updates == 1
        assert await database.fetch(row) == [{"status": "NEW", "size": 5, "price": 2, "filled": 4, "seq": 1}]


# -- the other commands --


async def test_everybody_else_finds_what_they_look_for(partitioned_dsn: str, directory: Path) -> None:
    """A loader's role loads, a reader's role verifies; figures are those of the raw log."""
    async with await Database.connect(partitioned_dsn) as database:
        await database.execute((sql_dir() / "roles.sql").read_text())
        await database.execute("SET ROLE tradetrail_loader")
        with pytest.raises(Exception, match="permission denied"):
            await database.execute("INSERT INTO monitoring.trade_keys VALUES ('x', 'y', 'z')")
    as_loader, as_reader = (_as(role, partitioned_dsn) for role in ("loader", "reader"))
    first = await _take(as_loader, directory)
    assert first.records == 600
    known = Counter(found["rule"] for found in answer("verify", "--dir", directory, code=1)["findings"])
    # Row for row, nothing is missing, different or too much beside what the log itself is to blame for.
    found = answer("verify", "--dir", directory, "--dsn", as_reader, code=1)["findings"]
    assert Counter(one["rule"] for one in found) == known
    from_logs = answer("metrics", "--dir", directory)
    assert answer("metrics", "--dsn", as_reader) == from_logs
    async with await Database.connect(as_reader) as database:
        state = "SELECT status, price FROM monitoring.order_as_of('bybit', 'MNTUSDT', 'o5', '2027-01-01')"
        row = "SELECT status, price FROM monitoring.orders WHERE order_id = 'o5'"
        assert await database.fetch(state) == await database.fetch(row)
