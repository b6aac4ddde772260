"""``tradetrail query``: the views over raw files, and what the engine refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from emitter import AuditLog
from emitter.segments import Void, new_stream
from tests.command import FILL, ORDER, answer, emit, one_line, record, segment, tradetrail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    directory = tmp_path / "audit"
    emit(directory, orders=3)
    return directory


def count(log: Path, view: str) -> int:
    return answer("query", "--dir", log, f"SELECT count(*) AS n FROM {view}")[0]["n"]


def test_the_views_hold_what_was_logged(log: Path) -> None:
    counts = {view: count(log, view) for view in ("records", "orders", "trades", "order_updates", "events", "segments")}
    assert counts == {"records": 10, "orders": 3, "trades": 3, "order_updates": 3, "events": 1, "segments": 1}


def test_an_order_is_folded_as_postgresql_folds_it(log: Path) -> None:
    rows = answer("query", "--dir", log, "SELECT status, type, position_id, size FROM orders")
    assert rows == [{"status": "FILLED", "type": "MARKET", "position_id": "55", "size": "94.7"}] * 3


def test_updates_by_client_order_id_and_late_ones_are_folded(tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="bot") as audit:
        audit.order(**ORDER, order_id="1", client_order_id="c1")
        audit.update_order(exchange="bybit", symbol="MNTUSDT", client_order_id="c1", status="CANCELED", filled=1)
        audit.update_order(exchange="bybit", symbol="MNTUSDT", order_id="1", status="OPEN", filled=0)
        audit.order(**ORDER)
        audit.order(**ORDER)
    rows = answer("query", "--dir", tmp_path, "SELECT seq, order_id, status, filled FROM orders ORDER BY seq")
    assert rows[0] == {"seq": 1, "order_id": "1", "status": "CANCELED", "filled": "1"}
    assert [row["status"] for row in rows] == ["CANCELED", "NEW", "NEW"]


def test_a_fill_that_is_reported_again_makes_no_second_row(tmp_path: Path) -> None:
    for _ in range(2):
        with AuditLog(tmp_path, service="bot") as audit:
            audit.trade(**FILL, trade_id="t1")
            audit.trade(**FILL)
    assert count(tmp_path, "trades") == 3
    assert count(tmp_path, "records") == 4


def test_amounts_are_exact_to_18_decimals_and_their_text_is_kept(tmp_path: Path) -> None:
    stream = new_stream()
    exact = "12345678901234567890.123456789012345678"
    segment(tmp_path, record(stream, 1, "trade.executed", **FILL | {"price": exact}), stream=stream)
    (row,) = answer("query", "--dir", tmp_path, "SELECT price, attributes, timestamp, executed_at FROM trades")
    assert row["price"] == exact
    assert row["attributes"]["price"] == exact
    assert row["timestamp"] == row["executed_at"] == "2026-11-22T13:10:56.015378Z"


def test_fees_become_columns_as_the_loader_makes_them(tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="bot") as audit:
        audit.trade(**FILL, fee={"cost": "-0.1", "currency": "BNB"})
        audit.trade(**FILL, fees=[{"cost": 1, "currency": "USDT"}, {"cost": 2, "currency": "BNB"}])
        audit.trade(**FILL, fee={"cost": None, "currency": None})
    rows = answer("query", "--dir", tmp_path, "SELECT fee, fee_currency FROM trades ORDER BY seq")
    assert rows == [{"fee": "-0.1", "fee_currency": "BNB"}] + [{"fee": None, "fee_currency": None}] * 2


def test_lines_that_are_no_records_do_no_harm(tmp_path: Path) -> None:
    stream = new_stream()
    good = [record(stream, seq) for seq in (1, 3, 5, 7, 9, 11)]
    bad = [b'{"stream":"\xff\xfe"}\n', b"\x01\x02\0\n", b"no json\n", b"\n", b'{"a":"\r"}\n']
    lines = [line for pair in zip(good, [*bad, b'{"torn":'], strict=True) for line in pair]
    segment(tmp_path, *lines, stream=stream)
    assert answer("query", "--dir", tmp_path, "SELECT list(seq ORDER BY seq) AS s FROM records")[0]["s"] == [
        1,
        3,
        5,
        7,
        9,
        11,
    ]


def test_a_whole_record_without_a_line_end_does_not_count(tmp_path: Path) -> None:
    stream = new_stream()
    segment(tmp_path, record(stream, 1), record(stream, 2).rstrip(b"\n"), stream=stream)
    assert count(tmp_path, "records") == 1


def test_files_that_are_no_segments_do_no_harm(log: Path) -> None:
    (log / f"empty.{'a' * 32}.000001.jsonl").touch()
    (log / f"folder.{'b' * 32}.000001.jsonl").mkdir()
    (log / f"binary.{'c' * 32}.000001.jsonl").write_bytes(bytes(range(256)) * 1000)
    (log / "notes.txt").write_text("mine")
    assert count(log, "records") == 10
    done = tradetrail("query", "--dir", log, "SELECT 1")
    assert done.returncode == 0
    assert [line.split(": ")[2].split(".")[0] for line in done.stderr.splitlines()] == ["folder", "binary"]


def test_replaced_bytes_are_not_shown(tmp_path: Path) -> None:
    stream = new_stream()
    first = segment(tmp_path, record(stream, 1), stream=stream)
    offset = first.stat().st_size
    with first.open("ab") as file:
        file.write(record(stream, 2, "bot.void") + record(stream, 3, "bot.void"))
    segment(tmp_path, record(stream, 2, "bot.good"), stream=stream, number=2, replaces=(Void(1, offset),))
    rows = answer("query", "--dir", tmp_path, "SELECT seq, event_name FROM records ORDER BY seq")
    assert rows == [{"seq": 1, "event_name": "bot.noted"}, {"seq": 2, "event_name": "bot.good"}]
    assert [row["state"] for row in answer("query", "--dir", tmp_path, "FROM segments")] == ["replaced", "unfinished"]


def test_the_views_and_columns_are_listed(log: Path) -> None:
    done = tradetrail("query", "--dir", log)
    assert done.returncode == 0
    for word in ("records", "orders", "trades", "order_updates", "events", "segments", "executed_qty"):
        assert word in done.stdout
    listed = answer("query", "--dir", log)
    assert {view["view"]: view["columns"] for view in listed}["trades"]["price"] == "DECIMAL(38,18)"


def test_an_empty_directory_has_empty_views(tmp_path: Path) -> None:
    assert answer("query", "--dir", tmp_path, "SELECT * FROM orders, trades, records, events") == []


def test_csv_is_csv(log: Path) -> None:
    done = tradetrail("query", "--dir", log, "--csv", "SELECT seq, symbol, executed_qty, attributes FROM trades")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["executed_qty"] for row in rows] == ["94.7"] * 3
    assert json.loads(rows[0]["attributes"])["symbol"] == "MNTUSDT"


def test_every_type_has_a_json_form(log: Path) -> None:
    sql = (
        "SELECT 'NaN'::DOUBLE AS nan, 1e300 AS big, 2::HUGEINT ** 100 AS huge, [now()] AS times, {'a': 1.50} AS deep, "
        "'x'::BLOB AS blob, DATE '2026-01-02' AS day, NULL AS nothing, uuid() AS id, INTERVAL 1 DAY AS span"
    )
    (row,) = answer("query", "--dir", log, sql)
    assert row["nan"] == "NaN"
    assert row["day"] == "2026-01-02"
    assert row["nothing"] is None
    assert row["deep"] == {"a": "1.5"}


def test_control_signs_do_not_reach_a_terminal(tmp_path: Path) -> None:
    stream = new_stream()
    segment(tmp_path, record(stream, 1, "x", error_message="\x1b]0;evil\x07[bold]b[/bold]\u202e"), stream=stream)
    done = tradetrail("query", "--dir", tmp_path, "SELECT error_message FROM events")
    assert r"\x1b]0;evil\x07[bold]b[/bold]\u202e" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('{log}/../secret')",
        "COPY (SELECT 1) TO '{log}/out.csv'",
        "COPY (SELECT 1) TO '/tmp/tradetrail-out.csv'",
        "WITH x AS (COPY (SELECT 1) TO '{log}/out.csv') FROM x",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{log}/out.csv'",
        "EXPORT DATABASE '{log}/out'",
        "ATTACH '{log}/out.db'",
        "ATTACH ':memory:' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET VARIABLE x = 1",
        "SELECT 1; SELECT 2",
        "CREATE TABLE t (a INT)",
        "DROP VIEW trades",
        "",
        "-- nothing",
    ],
)
def test_the_engine_reads_the_log_and_does_nothing_else(log: Path, sql: str) -> None:
    (log.parent / "secret").write_text("a\n1\n")
    before = sorted(log.iterdir())
    one_line(tradetrail("query", "--dir", log, sql.replace("{log}", str(log))), 2)
    assert sorted(log.iterdir()) == before
    assert not Path("/tmp/tradetrail-out.csv").exists()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT pric FROM trades", '"price"'),
        ("FROM nothing", "the views are records"),
        ("SELECT price * executed_qty FROM trades WHERE price * 100 * executed_qty > 0", "DOUBLE"),
        ("SELECT 'a'::INT", "Could not convert"),
    ],
)
def test_a_wrong_query_is_one_line_with_help(log: Path, sql: str, words: str) -> None:
    assert words in one_line(tradetrail("query", "--dir", log, sql), 2)
