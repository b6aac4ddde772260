"""``tradetrail query`` beyond the table: files, formats, SELECTs from files, rows in the same order each time."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from emitter.segments import new_stream
from loader.errors import UsageError
from loader.query import RawLog
from tests.command import FILL, SCRIPT, answer, emit, environment, one_line, record, segment, tradetrail

EXACT = "12345678901234567890.123456789012345678"
BY_SYMBOL = "SELECT symbol, count(*) AS fills, sum(executed_qty) AS volume FROM trades GROUP BY symbol"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Fills of three symbols, in no order of theirs."""
    directory, stream = tmp_path / "audit", new_stream()
    symbols = ["SOLUSDT", "BTCUSDT", "MNTUSDT"] * 4
    fills = [
        record(stream, n, "trade.executed", **FILL | {"symbol": symbol, "price": EXACT})
        for n, symbol in enumerate(symbols, 1)
    ]
    segment(directory, *fills, stream=stream)
    return directory


def write(log: Path, to: Path, sql: str = BY_SYMBOL, *more: str) -> Any:
    return answer("query", "--dir", log, sql, "--output", to, *more)


def parquet(path: Path, sql: str = "FROM {}") -> list[tuple[Any, ...]]:
    return duckdb.execute(sql.format(f"'{path}'")).fetchall()


def test_parquet_has_exact_types_and_the_rows(log: Path, tmp_path: Path) -> None:
    to = tmp_path / "fills.parquet"
    sql = "SELECT seq, timestamp, price, symbol, attributes, seq::HUGEINT AS huge, [seq::HUGEINT] AS hugest FROM trades"
    assert write(log, to, sql) == {"file": str(to), "rows": 12}
    types = {name: type_ for name, type_, *_ in parquet(to, "DESCRIBE FROM {}")}
    assert types == {
        "seq": "BIGINT",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "price": "DECIMAL(38,18)",
        "symbol": "VARCHAR",
        "attributes": "JSON",
        "huge": "DECIMAL(38,0)",
        "hugest": "DECIMAL(38,0)[]",
    }
    rows = parquet(to, "SELECT seq, timestamp::VARCHAR, price::VARCHAR, attributes ->> 'price', huge::BIGINT FROM {}")
    assert [row[0] for row in rows] == list(range(1, 13))
    assert [row[1:] for row in rows] == [("2026-11-22 13:10:56.015378+00", EXACT, EXACT, n) for n in range(1, 13)]


def test_each_format_has_the_same_rows(log: Path, tmp_path: Path) -> None:
    expected = [{"symbol": name, "fills": 4, "volume": "378.8"} for name in ("BTCUSDT", "MNTUSDT", "SOLUSDT")]
    for name in ("a.csv", "a.json", "a.jsonl", "a.PARQUET"):
        assert write(log, tmp_path / name)["rows"] == 3
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{**row, "fills": "4"} for row in expected]
    assert json.loads((tmp_path / "a.json").read_text()) == expected
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == expected
    assert [(row[0], row[1], str(row[2].normalize())) for row in parquet(tmp_path / "a.PARQUET")] == [
        tuple(row.values()) for row in expected
    ]


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_what_is_printed_is_what_is_written(log: Path, tmp_path: Path, form: str) -> None:
    printed = tradetrail("query", "--dir", log, "--format", form, "FROM trades").stdout
    done = tradetrail("query", "--dir", log, "--format", form, "--output", tmp_path / "x", "FROM trades")
    assert (tmp_path / "x").read_text() == printed
    assert done.stdout.startswith("12 rows in ")
    assert len(printed.splitlines()) == 12 + (form == "csv")


def test_json_in_the_log_is_one_line_in_json_lines(log: Path) -> None:
    done = tradetrail("query", "--dir", log, "--format", "jsonl", "SELECT '{\n\"a\": 1.50}'::JSON AS j")
    assert done.stdout == '{"j": { "a": 1.50}}\n'


def test_the_file_is_private_and_made_whole(log: Path, tmp_path: Path) -> None:
    to = tmp_path / "out" / "fills.csv"
    to.parent.mkdir()
    write(log, to)
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    before = to.read_bytes()
    assert "--force" in one_line(tradetrail("query", "--dir", log, "SELECT 1", "-o", to), 2)
    # It fails after the first rows were written: nothing of them is left, and the old file is untouched.
    failing = "SELECT CASE WHEN n > 5000 THEN error('here') END FROM range(10000) AS t(n) ORDER BY n"
    one_line(tradetrail("query", "--dir", log, failing, "-o", to, "--force"), 2)
    one_line(tradetrail("query", "--dir", log, "SELECT nothing", "-o", to.with_name("other.parquet")), 2)
    assert to.read_bytes() == before
    assert list(to.parent.iterdir()) == [to]
    write(log, to, "SELECT 1 AS one", "--force")
    assert to.read_text() == "one\n1\n"
    assert list(to.parent.iterdir()) == [to]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("fills.xlsx", ".parquet"),
        ("nowhere/fills.csv", "no such directory"),
        (".", "is a directory"),
        ("audit/{segment}", "name of a segment"),
        ("audit/{segment}.zst", "name of a segment"),
        ("pipe.csv", "no regular file"),
        ("link.csv", "name of a segment"),
    ],
)
def test_what_cannot_be_an_output_is_one_line(log: Path, tmp_path: Path, name: str, word: str) -> None:
    (path,) = log.iterdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(path)
    before = path.read_bytes()
    to = tmp_path / name.replace("{segment}", path.name)
    form = [] if word == ".parquet" else ["--format", "csv"]
    assert word in one_line(tradetrail("query", "--dir", log, "SELECT 1", "--force", "--output", to, *form), 2)
    assert list(log.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--format", "yaml", "SELECT 1"], "--format is one of table, csv, json, jsonl, parquet"),
        (["--format", "parquet", "SELECT 1"], "--output"),
        (["--format", "table", "-o", "x.csv", "SELECT 1"], "a table is for people"),
        (["--format", "csv", "--json", "SELECT 1"], "exclude"),
        (["--csv", "--json", "SELECT 1"], "exclude"),
        (["-o", "x.csv"], "needs a SELECT"),
        (["-f", "x.sql", "SELECT 1"], "given twice"),
        (["-f", "x.sql"], "x.sql: No such file"),
    ],
)
def test_what_does_not_go_together_is_one_line(log: Path, tmp_path: Path, args: list[str], word: str) -> None:
    assert word in one_line(tradetrail("query", "--dir", log, *args, cwd=tmp_path), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_writing_a_file_opens_no_door(log: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a\n1\n")
    before = sorted(tmp_path.rglob("*"))
    refused = [
        "SELECT * FROM read_text('/etc/passwd')",
        f"SELECT * FROM read_csv('{log}/../secret')",
        f"COPY (SELECT 1) TO '{log}/more.csv'",
        f"WITH x AS (COPY (SELECT 1) TO '{log}/more.csv') FROM x",
        f"SELECT 1) TO '{log}/more.csv'; --",
        f"SELECT 1 AS a) AS answer) TO '{log}/more.csv' --",
        f"ATTACH '{log}/more.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "CREATE TABLE t (a INT)",
    ]
    with RawLog(log) as raw:
        for sql in refused:
            with pytest.raises(UsageError):
                raw.parquet(sql)
            with pytest.raises(UsageError):
                list(raw.query(sql, ordered=True).rows)
    one_line(tradetrail("query", "--dir", log, refused[0], "--output", tmp_path / "out.parquet"), 2)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_select_comes_from_a_file_or_from_stdin(log: Path, tmp_path: Path) -> None:
    asked = tmp_path / "volume.sql"
    asked.write_text(f"-- per symbol; sorted\n{BY_SYMBOL}\nORDER BY 1 DESC; -- that's all;\n")
    found = answer("query", "--dir", log, "--file", asked)
    assert [row["symbol"] for row in found] == ["SOLUSDT", "MNTUSDT", "BTCUSDT"]
    piped = subprocess.run(
        [SCRIPT, "query", "--dir", log, "--csv", "-f", "-"],
        input="SELECT 'ä;€' AS text;;\n",
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stdout == "text\nä;€\n"


def test_rows_without_an_order_come_in_the_same_one_each_time(log: Path) -> None:
    names = ["BTCUSDT", "MNTUSDT", "SOLUSDT"]
    with RawLog(log) as raw:

        def first(sql: str) -> list[Any]:
            return [row[0] for row in raw.query(sql, ordered=True).rows]

        assert first(BY_SYMBOL) == first(f"{BY_SYMBOL} UNION {BY_SYMBOL}") == first(f"({BY_SYMBOL})") == names
        assert first(f"{BY_SYMBOL} ORDER BY symbol DESC") == first(f"({BY_SYMBOL} ORDER BY 1 DESC)") == names[::-1]
        assert first("SELECT seq FROM trades") == list(range(1, 13))
        assert first("VALUES ('b'), ('c'), ('a')") == ["b", "c", "a"]
        assert first("DESCRIBE trades")[:3] == ["stream", "seq", "timestamp"]
    printed = [row["symbol"] for row in answer("query", "--dir", log, BY_SYMBOL)]
    assert printed == names


def test_a_reader_that_has_enough_ends_the_query_quietly(tmp_path: Path) -> None:
    emit(tmp_path, orders=1)
    command = f"'{SCRIPT}' query --dir '{tmp_path}' --csv 'SELECT * FROM range(3000000) AS t(n) ORDER BY n' | head -n 2"
    done = subprocess.run(["/bin/sh", "-c", command], env=environment(), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("n\n0\n", "")
