"""sql/scale/citus.sql, on a server without Citus: what it says to PostgreSQL runs, and each key has its column."""

from __future__ import annotations

from typing import Any

from loader.database import Database
from loader.statements import sql_dir

# What Citus has these functions for is to be taken down here instead.
_STUBS = """
CREATE TABLE distributed (name regclass PRIMARY KEY, by_column text NOT NULL, beside text NOT NULL);
CREATE FUNCTION create_distributed_table(name regclass, by_column text, colocate_with text) RETURNS void
LANGUAGE sql AS 'INSERT INTO distributed VALUES (name, by_column, colocate_with)';
"""
_KEYS = """
SELECT i.indrelid::regclass::text AS of_table, i.indexrelid::regclass::text AS name,
    ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = i.indexrelid ORDER BY attnum) AS columns
FROM pg_index AS i
JOIN distributed AS d ON d.name = i.indrelid
WHERE i.indisunique
"""
_COLUMN = """
SELECT
    d.name::text AS of_table, a.attnotnull AS filled, format_type(a.atttypid, a.atttypmod) AS type,
    d.beside, d.by_column
FROM distributed AS d JOIN pg_attribute AS a ON a.attrelid = d.name AND a.attname = d.by_column ORDER BY d.name::text
"""


async def _distributed(db: Database) -> list[dict[str, Any]]:
    await db.execute(_STUBS)
    await db.execute((sql_dir() / "scale" / "citus.sql").read_text(encoding="utf-8"))
    return await db.fetch(_COLUMN)


async def test_every_key_of_a_distributed_table_has_its_distribution_column(db: Database) -> None:
    columns = {row["of_table"]: row for row in await _distributed(db)}
    assert {table: row["by_column"] for table, row in columns.items()} == {
        "monitoring.trades": "symbol",
        "monitoring.orders": "symbol",
        "monitoring.order_updates": "symbol",
        "monitoring.events": "stream",
    }
    assert all(row["filled"] for row in columns.values())
    keys = await db.fetch(_KEYS)
    assert len(keys) == 10
    for key in keys:
        assert columns[key["of_table"]]["by_column"] in key["columns"], key
    # The keys that "exactly once" stands on are all there, and no wider than a record is.
    assert {tuple(key["columns"]) for key in keys} == {
        ("id", "symbol"),
        ("id", "stream"),
        ("stream", "seq"),
        ("stream", "seq", "symbol"),
        ("exchange", "symbol", "order_id"),
        ("exchange", "symbol", "trade_id"),
    }


async def test_tables_that_are_colocated_are_distributed_by_columns_of_one_type(db: Database) -> None:
    found = await _distributed(db)
    columns = {row["of_table"]: row for row in found}
    for row in found:
        if row["beside"] != "none":
            assert row["type"] == columns[row["beside"]]["type"]


async def test_no_distributed_table_has_a_trigger_or_a_foreign_key(db: Database) -> None:
    await _distributed(db)
    assert await db.fetchval("SELECT count(*) FROM pg_trigger JOIN distributed ON name = tgrelid") == 0
    links = "SELECT count(*) FROM pg_constraint JOIN distributed ON name IN (conrelid, confrelid) WHERE contype = 'f'"
    assert await db.fetchval(links) == 0
