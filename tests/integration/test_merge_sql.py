"""Every statement for PostgreSQL, prepared against what there really is: a slip cannot hide in a rare path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from emitter.records import KINDS
from loader import statements
from loader.database import Database
from loader.rules import read_rules
from loader.sift import refused_rows
from loader.spool import batches
from loader.staging import filled, stage
from loader.tail import Tail
from loader.validate import Check, Rejects, Rows, open_engine

from ..lines import line, order, segment, trade, update

# Told by a name's end what a statement is about.
TABLES = ("orders", "trades", "order_updates", "events", "audit_rejects")
# These are run where they stand, not prepared: what is no SELECT, INSERT, UPDATE or DELETE cannot be.
MAKE_TABLES = ("stage", "stage_touched")
# These are filled with a table, or with what is said of one.
FILLED = ("insert", "unplaced")


@pytest.fixture(params=["dsn", "migrated_existing_dsn"], ids=["fresh", "existing"])
def any_dsn(request: pytest.FixtureRequest) -> str:
    """A migrated database, empty or a bot's own."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, str)
    return found


@pytest.fixture
def checked(tmp_path: Path) -> Iterator[tuple[list[Rows], Rejects]]:
    """Rows of every kind, and a line with findings, as a batch brings them."""
    fields = {"type": "LIMIT", "side": "sell"}
    segment(
        tmp_path / "audit",
        [
            line(1, "order.created", order(client_order_id="c1", price=1)),
            line(2, "order.updated", update(price=2, **fields)),
            line(3, "order.updated", update(price=7, **fields)),
            line(4, "order.updated", update(order_id=None, client_order_id="c1", filled=3, **fields)),
            line(5, "order.created", order(order_id="o2", price=7)),
            line(6, "order.created", order(client_order_id="c1", price=7, size=5)),
            *(line(n, "trade.executed", trade(trade_id=f"t{n}", price=n)) for n in (7, 8)),
            *(line(n, "ping", {"symbol": str(n)}) for n in (9, 7)),
            b"broken\n",
        ],
    )
    engine = open_engine(tmp_path)
    (batch,) = batches(Tail(tmp_path / "audit").scan({}).pending, tmp_path, 1_000_000)
    with Check(engine, batch, tmp_path, read_rules(), {}) as check:
        check.run()
        rejects = check.rejects()
        assert rejects is not None
        yield check.rows(), rejects
    engine.close()


def columns(checked: tuple[list[Rows], Rejects]) -> dict[str, tuple[str, ...]]:
    rows, rejects = checked
    return {**{of.kind.table: of.columns for of in rows}, "audit_rejects": rejects.columns}


async def prepare(database: Database, sql: Mapping[str, str], known: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Prepare and plan each statement; the names of those that were."""
    done = set()
    for name, text in sql.items():
        if name in MAKE_TABLES or name in FILLED or name == "asked":
            continue
        table = next((table for table in TABLES if name.endswith(table)), "orders")
        if name.startswith("unplaced_"):
            text = filled(sql["unplaced"], table=table, unplaced=text)
        whole = filled(text, known[table], asked=sql.get("asked", "")).rstrip(";")
        await database.execute(f"PREPARE {name} AS {whole}")
        nulls = ", ".join(["NULL"] * len(set(re.findall(r"\$\d+", whole))))
        planned = await database.fetch(f"EXPLAIN EXECUTE {name}" + (f"({nulls})" if nulls else ""))
        assert planned
        await database.execute(f"DEALLOCATE {name}")
        done.add(name)
    return done


async def test_the_statements_of_a_batch_fit_the_tables(any_dsn: str, checked: tuple[list[Rows], Rejects]) -> None:
    sql, known = statements.load("load/merge.sql"), columns(checked)
    assert set(known) == set(TABLES) == {kind.table for kind in KINDS} | {"audit_rejects"}
    async with await Database.connect(any_dsn) as database, database.transaction():
        for table in TABLES:
            await database.execute(filled(sql["stage"], known[table], table=table))
        await database.execute(sql["stage_touched"])
        assert await prepare(database, sql, known) == set(sql) - {*MAKE_TABLES, *FILLED}
        inserts = {
            f"insert_{kind.table}": filled(sql["insert"].replace("{table}", kind.table), known[kind.table])
            for kind in KINDS
        }
        assert await prepare(database, inserts, known) == set(inserts)


async def test_the_statements_about_ids_fit_the_tables(any_dsn: str) -> None:
    """Each table has ids and a sequence, and the rows past it are found by an index."""
    sql = statements.load("load/ids.sql")
    async with await Database.connect(any_dsn) as database:
        found = await database.fetch(sql["tables_by_id"])
        assert [(row["name"], row["partitioned"]) for row in found] == [(name, False) for name in sorted(TABLES)]
        await database.execute("SET enable_seqscan = off")
        for row in found:
            last = await database.fetchval(sql["last_id"], row["sequence"])
            highest = filled(sql["highest_id"], table=row["name"])
            assert await database.fetchval(highest, last, last + 1000) is None
            plan = await database.fetch(f"EXPLAIN {highest.replace('$1', '7').replace('$2', '9')}")
            assert any("Index" in line["QUERY PLAN"] for line in plan)
            assert await database.fetchval(sql["take_ids"], row["sequence"], 3) == 3
            assert await database.fetchval(sql["last_id"], row["sequence"]) == last + 3


@pytest.mark.parametrize("file", ["load/retry.sql", "views/ledger.sql"])
async def test_the_statements_about_rejects_and_the_ledger_fit_the_tables(
    any_dsn: str, checked: tuple[list[Rows], Rejects], file: str
) -> None:
    sql = statements.load(file)
    async with await Database.connect(any_dsn) as database, database.transaction():
        await stage(database, "audit_rejects", checked[1].columns, checked[1].path)
        assert await prepare(database, sql, columns(checked)) == set(sql) - {"asked"}


async def test_the_blocks_of_the_sift_run_to_their_ends(any_dsn: str, checked: tuple[list[Rows], Rejects]) -> None:
    """PL/pgSQL looks at a statement only when it comes to it: here it comes to each, for every table."""
    async with await Database.connect(any_dsn) as database:
        for table, condition in (("orders", "price < 7"), ("trades", "price <> 8"), ("events", "symbol <> '9'")):
            await database.execute(f"ALTER TABLE monitoring.{table} ADD CONSTRAINT fence CHECK ({condition}) NOT VALID")
        before = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname LIKE 'pg_temp%'")
        async with database.transaction():
            found = await refused_rows(database, checked[0])
            left = [
                await database.fetchval(f"SELECT count(*) FROM monitoring.{table} WHERE stream IS NOT NULL")
                for table in TABLES
            ]
        assert {(seq, reason.rsplit(" ", 1)[1]) for _, seq, reason in found} == {
            (seq, '"fence"') for seq in (3, 5, 6, 8, 9)
        }
        assert left == [0] * len(TABLES)
        assert await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname LIKE 'pg_temp%'") == before
        assert await database.fetchval("SHOW enable_hashjoin") == "on"
