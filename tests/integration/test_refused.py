"""Rows that all rules let through and PostgreSQL refuses: each is one reject with its reason, the others are loaded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from loader.database import Database
from loader.errors import TerminalError, TransientError
from loader.totals import Totals

from ..command import answer, one_line, tradetrail
from ..contents import contents
from ..lines import line, order, segment, trade, update
from ..plugins.postgres import Cluster
from .test_load import rows, take

TRIGGER = """
CREATE FUNCTION monitoring.picky() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {body}
    RETURN NEW;
END
$$;
CREATE TRIGGER picky {when} ON monitoring.{table} FOR EACH ROW EXECUTE FUNCTION monitoring.picky();
"""
BAD = "NEW.order_id = 'bad'"
# What an operator, or the bot's owner, may have put on a table: what it is, and PostgreSQL's words.
FENCES = {
    "a check": ("ALTER TABLE monitoring.{table} ADD CONSTRAINT fence CHECK (order_id <> 'bad') NOT VALID", '"fence"'),
    "a trigger before": (TRIGGER.replace("{body}", f"IF {BAD} THEN RAISE 'no such order'; END IF;"), "no such order"),
    "a trigger after": (TRIGGER.replace("{body}", f"IF {BAD} THEN RAISE 'no such order'; END IF;"), "no such order"),
    "a state of its own": (
        TRIGGER.replace("{body}", f"IF {BAD} THEN RAISE 'mine' USING ERRCODE = 'MY001'; END IF;"),
        "mine",
    ),
    "an assertion": (TRIGGER.replace("{body}", "ASSERT NEW.order_id <> 'bad', 'not so';"), "not so"),
    "a foreign key": (
        "CREATE TABLE monitoring.known (order_id text PRIMARY KEY); "
        "INSERT INTO monitoring.known SELECT 'o' || n FROM generate_series(0, 400) AS n; "
        "ALTER TABLE monitoring.{table} ADD CONSTRAINT fence FOREIGN KEY (order_id) "
        "REFERENCES monitoring.known NOT VALID",
        "violates foreign key constraint",
    ),
}
MAKERS = {
    "orders": lambda n, order_id: line(n, "order.created", order(order_id=order_id, client_order_id=f"c{n}")),
    "order_updates": lambda n, order_id: line(n, "order.updated", update(order_id=order_id, type="LIMIT", side="buy")),
    "trades": lambda n, order_id: line(n, "trade.executed", trade(order_id=order_id, trade_id=f"t{n}")),
    "events": lambda n, order_id: line(n, "ping", {"order_id": order_id, "n": n}),
}


async def fence(dsn: str, sql: str, table: str) -> None:
    async with await Database.connect(dsn) as database:
        for word, value in (("table", table), ("when", "BEFORE INSERT")):
            sql = sql.replace("{" + word + "}", value)
        await database.execute(sql)


async def assert_refused(dsn: str, totals: Totals, seqs: Sequence[int], words: str) -> None:
    assert (totals.rejected, totals.reasons.get(("reject", "refused_by_database"), 0)) == (len(seqs), len(seqs))
    kept = await rows(dsn, "SELECT * FROM monitoring.audit_rejects WHERE severity = 'rejected' ORDER BY seq")
    assert [row["seq"] for row in kept] == list(seqs)
    for row in kept:
        assert len(row["reasons"]) == 1
        assert row["reasons"][0].startswith("refused_by_database: PostgreSQL refused the row: ")
        assert words in row["reasons"][0]
        assert '"bad"' in row["raw"]
    (ledger,) = await rows(dsn, "SELECT * FROM monitoring.audit_segments")
    assert (ledger["records"], ledger["rejected"]) == (totals.records, len(seqs))


@pytest.mark.parametrize("merged", [False, True], ids=["copied", "merged"])
@pytest.mark.parametrize("table", MAKERS)
@pytest.mark.parametrize("what", FENCES)
async def test_each_refused_row_is_one_reject(
    migrated_existing_dsn: str, tmp_path: Path, what: str, table: str, merged: bool
) -> None:
    """L14: with its place and PostgreSQL's own reason; all others are rows."""
    dsn = migrated_existing_dsn
    sql, words = FENCES[what]
    await fence(dsn, sql.replace("{when}", "AFTER INSERT") if what == "a trigger after" else sql, table)
    bad = [17, 18, 200, 350]
    lines = [MAKERS[table](n, "bad" if n in bad else f"o{n}") for n in range(1, 351)]
    if merged:  # a record that is there already makes the batch go through temporary tables
        lines.append(lines[0])
        if table != "orders":
            lines += [MAKERS["orders"](n, f"o{n}") for n in (400, 400)]
    segment(tmp_path, lines)
    totals = await take(dsn, tmp_path)
    assert getattr(totals, table) == 346
    await assert_refused(dsn, totals, bad, words)
    found = await rows(dsn, f"SELECT seq FROM monitoring.{table} WHERE stream IS NOT NULL ORDER BY seq")
    assert [row["seq"] for row in found if row["seq"] <= 350] == [n for n in range(1, 351) if n not in bad]


@pytest.mark.parametrize("lines_first", ["orders", "updates"])
@pytest.mark.parametrize("batches", [1, 2])
async def test_a_change_that_the_row_of_its_order_cannot_take_is_rejected_alone(
    migrated_existing_dsn: str, tmp_path: Path, lines_first: str, batches: int
) -> None:
    dsn = migrated_existing_dsn
    await fence(dsn, "ALTER TABLE monitoring.{table} ADD CONSTRAINT cheap CHECK (price < 1000) NOT VALID", "orders")
    fields = {"type": "LIMIT", "side": "sell"}
    orders = [line(n, "order.created", order(order_id=f"o{n}", status="NEW", price=1)) for n in range(1, 101)]
    updates = [
        line(100 + n, "order.updated", update(order_id=f"o{n}", price=5000 if n % 10 == 0 else 2, **fields))
        for n in range(1, 101)
    ]
    updates += [line(200 + n, "order.updated", update(order_id=f"o{n}", filled=n, **fields)) for n in range(1, 101)]
    parts = [orders, updates] if lines_first == "orders" else [updates, orders]
    segment(tmp_path, [*parts[0], *parts[1]] if batches == 1 else parts[0])
    totals = await take(dsn, tmp_path)
    if batches == 2:
        segment(tmp_path, parts[1], number=2)
        totals.add(await take(dsn, tmp_path))
    kept = await rows(dsn, "SELECT seq, reasons, raw FROM monitoring.audit_rejects ORDER BY seq")
    loaded = await rows(dsn, "SELECT seq, price, filled FROM monitoring.orders WHERE stream IS NOT NULL ORDER BY seq")
    if lines_first == "updates" and batches == 2:
        # The changes came when there was no row yet: it is the order that does not fit to them.
        wrong = list(range(10, 101, 10))
        assert [row["seq"] for row in loaded] == [n for n in range(1, 101) if n % 10]
    else:
        wrong = list(range(110, 201, 10))
        assert [(row["seq"], row["price"], row["filled"]) for row in loaded] == [
            (n, 1 if n % 10 == 0 else 2, n) for n in range(1, 101)
        ]
    assert [row["seq"] for row in kept] == wrong
    assert all(row["reasons"][0].endswith('violates check constraint "cheap"') for row in kept)
    assert (totals.records, totals.rejected, totals.duplicates) == (300, 10, 0)


def test_what_is_left_is_what_a_load_of_the_others_gives(cluster: Cluster, dsn: str, tmp_path: Path) -> None:
    rng = random.Random(20261122)
    lines = []
    for n in range(1, 601):
        key, price = rng.randrange(60), rng.choice([None, 1, 2, 9999])
        status = rng.choice([None, "NEW", "CANCELED"])
        named = {"order_id": f"o{key}"} if rng.random() < 0.7 else {"order_id": None, "client_order_id": f"c{key}"}
        if n % 3 == 0:
            fields = order(order_id=f"o{key}", client_order_id=f"c{key}", price=price, status=status or "NEW")
            lines.append(line(n, "order.created", fields))
        elif n % 3 == 1:
            lines.append(line(n, "order.updated", update(**named, price=price, status=status, filled=n % 50)))
        else:
            lines.append(line(n, "trade.executed", trade(trade_id=f"t{n}", price=price or 3)))
    fences = {
        "orders": "ADD CONSTRAINT cheap CHECK (price < 5000), "
        "ADD CONSTRAINT told CHECK (status <> 'CANCELED' OR price < 2)",
        "order_updates": "ADD CONSTRAINT whole CHECK (filled <> 7)",
        "trades": "ADD CONSTRAINT cheap CHECK (price < 5000)",
    }
    for table, sql in fences.items():
        asyncio.run(fence(dsn, f"ALTER TABLE monitoring.{{table}} {sql}", table))
    for number in range(3):
        segment(tmp_path / "all", lines[number * 200 : (number + 1) * 200], number=number + 1)
    totals = asyncio.run(take(dsn, tmp_path / "all", batch_bytes=30_000))
    refused = {row["seq"] for row in asyncio.run(rows(dsn, "SELECT seq FROM monitoring.audit_rejects"))}
    assert totals.rejected == len(refused)
    assert {3 * n - 1 for n in range(1, 201) if b'"price":9999' in lines[3 * n - 2]} < refused
    with cluster.database(cluster.template(existing=False, migrated=True)) as other:
        for number in range(3):
            part = lines[number * 200 : (number + 1) * 200]
            segment(
                tmp_path / "good",
                [text for n, text in enumerate(part, number * 200 + 1) if n not in refused],
                number=number + 1,
            )
        asyncio.run(take(other, tmp_path / "good"))
        wanted, found = asyncio.run(contents(other)), asyncio.run(contents(dsn))
    for table in ("orders", "trades", "order_updates"):
        assert found[table] == wanted[table], table


@pytest.mark.parametrize("merged", [False, True], ids=["copied", "merged"])
async def test_many_refused_rows_do_not_take_for_ever(migrated_existing_dsn: str, tmp_path: Path, merged: bool) -> None:
    dsn = migrated_existing_dsn
    for table in ("orders", "trades"):
        await fence(dsn, "ALTER TABLE monitoring.{table} ADD CONSTRAINT cheap CHECK (price < 1000) NOT VALID", table)
    lines = []
    for n in range(1, 6001):
        price = 5000 if n % 30 in (7, 8, 9) else 1
        fields = {"type": "LIMIT", "side": "sell"}
        if n % 3 == 0:
            lines.append(line(n, "order.created", order(order_id=f"o{n // 3}", price=1, status="NEW")))
        elif n % 3 == 1:
            lines.append(line(n, "order.updated", update(order_id=f"o{n // 3}", price=price, **fields)))
        else:
            lines.append(line(n, "trade.executed", trade(trade_id=f"t{n}", price=price)))
    segment(tmp_path, lines + lines[-3:] * merged)
    totals = await take(dsn, tmp_path)
    # A change of an order that is not there is kept all the same: the first one's price is good.
    assert (totals.orders, totals.trades, totals.order_updates) == (2000, 1800, 1800)
    assert (totals.rejected, totals.duplicates) == (400, 3 * merged)
    prices = await rows(dsn, "SELECT DISTINCT price FROM monitoring.orders WHERE stream IS NOT NULL")
    assert [row["price"] for row in prices] == [1]


async def test_a_table_that_takes_nothing_rejects_all_and_stops_nothing(dsn: str, tmp_path: Path) -> None:
    """L15: a trigger refuses every row."""
    await fence(dsn, "ALTER TABLE monitoring.{table} ADD COLUMN desk text NOT NULL", "trades")
    segment(tmp_path, [MAKERS["trades"](n, "bad") for n in range(1, 301)] + [line(301, "ping", {})])
    totals = await take(dsn, tmp_path)
    assert (totals.events, totals.trades) == (1, 0)
    await assert_refused(dsn, totals, range(1, 301), 'null value in column "desk"')


async def test_an_id_too_long_for_its_index_is_refused(dsn: str, tmp_path: Path) -> None:
    rng = random.Random(1)
    lines = [
        line(n, "trade.executed", trade(order_id="bad", trade_id=rng.randbytes(8000).hex() if n % 5 == 0 else f"t{n}"))
        for n in range(1, 101)
    ]
    segment(tmp_path, lines)
    totals = await take(dsn, tmp_path)
    assert totals.trades == 80
    await assert_refused(dsn, totals, range(5, 101, 5), "index row")


async def test_a_deferred_constraint_ends_the_load_with_its_name_and_keeps_nothing(dsn: str, tmp_path: Path) -> None:
    await fence(
        dsn,
        "CREATE TABLE monitoring.known (order_id text PRIMARY KEY); ALTER TABLE monitoring.{table} "
        "ADD CONSTRAINT late FOREIGN KEY (order_id) REFERENCES monitoring.known DEFERRABLE INITIALLY DEFERRED",
        "trades",
    )
    segment(tmp_path, [MAKERS["trades"](n, f"o{n}") for n in range(1, 5)])
    before = await contents(dsn)
    with pytest.raises(TerminalError, match=r'deferred constraint .* "late"') as caught:
        await take(dsn, tmp_path)
    assert caught.value.sqlstate == "23503"
    said = one_line(await asyncio.to_thread(tradetrail, "load", "--dir", tmp_path, "--dsn", dsn), 3)
    assert '"late"' in said
    assert await contents(dsn) == before
    async with await Database.connect(dsn) as database:
        await database.execute("INSERT INTO monitoring.known SELECT 'o' || n FROM generate_series(1, 4) AS n")
    assert (await take(dsn, tmp_path)).trades == 4


async def test_rows_that_a_trigger_swallows_end_the_load_and_nothing_of_the_batch_is_kept(
    dsn: str, tmp_path: Path
) -> None:
    await fence(dsn, TRIGGER.replace("{body}", f"IF {BAD} THEN RETURN NULL; END IF;"), "trades")
    segment(tmp_path, [MAKERS["trades"](n, "bad" if n == 2 else f"o{n}") for n in range(1, 4)])
    before = await contents(dsn)
    with pytest.raises(TerminalError, match=r"^3 records were read and 2 accounted for; the batch was rolled back"):
        await take(dsn, tmp_path)
    assert await contents(dsn) == before


async def test_what_is_refused_only_together_ends_the_load_and_keeps_nothing(dsn: str, tmp_path: Path) -> None:
    async with await Database.connect(dsn) as database:
        await database.execute(
            "CREATE FUNCTION monitoring.few() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF (SELECT count(*) FROM made) > 1500 THEN RAISE 'too many at once'; END IF; RETURN NULL; END $$; "
            "CREATE TRIGGER few AFTER INSERT ON monitoring.events REFERENCING NEW TABLE AS made "
            "FOR EACH STATEMENT EXECUTE FUNCTION monitoring.few()"
        )
    segment(tmp_path, [line(n, "ping", {}) for n in range(1, 2001)])
    with pytest.raises(TerminalError, match=r"too many at once.*together they are not"):
        await take(dsn, tmp_path)
    assert await rows(dsn, "SELECT FROM monitoring.events") == []
    assert (await take(dsn, tmp_path, batch_bytes=100_000)).events == 2000


@pytest.mark.parametrize("state", ["40001", "53200", "55P03"])
async def test_what_may_pass_by_itself_rejects_nothing(dsn: str, tmp_path: Path, state: str) -> None:
    body = f"IF {BAD} THEN RAISE 'refused' USING ERRCODE = '23514'; END IF; " + (
        f"IF NEW.order_id = 'busy' THEN RAISE 'busy' USING ERRCODE = '{state}'; END IF;"
    )
    await fence(dsn, TRIGGER.replace("{body}", body), "trades")
    names = {5: "bad", 80: "busy"}
    segment(tmp_path, [MAKERS["trades"](n, names.get(n, "o")) for n in range(1, 101)])
    with pytest.raises(TransientError) as caught:
        await take(dsn, tmp_path, timeout_s=0.0)
    assert caught.value.sqlstate == state
    assert await rows(dsn, "SELECT FROM monitoring.audit_rejects") == []
    assert await rows(dsn, "SELECT FROM monitoring.trades") == []


async def test_a_record_that_stands_twice_in_a_batch_is_one_row_and_a_duplicate(dsn: str, tmp_path: Path) -> None:
    lines = [text for n, table in enumerate(MAKERS, 1) for text in [MAKERS[table](n, f"o{n}")] * 2]
    segment(tmp_path, lines)
    totals = await take(dsn, tmp_path)
    assert (totals.records, totals.duplicates, totals.rejected) == (8, 4, 0)
    assert (totals.orders, totals.order_updates, totals.trades, totals.events) == (1, 1, 1, 1)


def test_an_operator_reads_the_reason(dsn: str, tmp_path: Path) -> None:
    asyncio.run(fence(dsn, "ALTER TABLE monitoring.{table} ADD CONSTRAINT cheap CHECK (price < 2)", "trades"))
    segment(tmp_path / "audit", [MAKERS["trades"](1, "a"), MAKERS["events"](2, "b")])
    done = answer("load", "--dir", tmp_path / "audit", "--dsn", dsn, code=1)
    assert (done["events"], done["reasons"]) == (1, {"refused_by_database": 1})
    assert "cheap" in tradetrail("rejects", "list", "--dsn", dsn).stdout
    assert answer("rejects", "retry", "--dsn", dsn, code=1)["reasons"] == {"refused_by_database": 1}
    asyncio.run(fence(dsn, "ALTER TABLE monitoring.{table} DROP CONSTRAINT cheap", "trades"))
    assert answer("rejects", "retry", "--dsn", dsn)["trades"] == 1
