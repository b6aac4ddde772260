"""``sql/views/raw.sql`` for people who use duckdb itself: the answers of ``tradetrail query``, over archives too."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from emitter.segments import Void, new_stream
from loader.query import RawLog
from loader.raw_views import VIEWS, script
from tests.command import answer, emit, one_line, record, tradetrail
from tests.lines import OTHER_STREAM, STREAM, line, order, segment, trade, update

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "sql/views/raw.sql"


def read(directory: Path) -> duckdb.DuckDBPyConnection:
    """What ``.read`` does, after the folder was named."""
    duck = duckdb.connect()
    duck.execute("SET VARIABLE audit_dir = ?", [str(directory)])
    duck.execute(SCRIPT.read_text())
    return duck


def rows(duck: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return duck.execute(sql).fetchall()


def by_program(directory: Path, sql: str) -> list[tuple[Any, ...]]:
    with RawLog(directory) as log:
        return list(log.query(sql).rows)


def everything(view: str, without: str = "") -> str:
    """All of a view as text, as the program's client gets times; ``without`` these columns of the view of segments."""
    left_out = f"EXCLUDE ({without})" if without and view == "segments" else ""
    return f"SELECT columns(*)::VARCHAR FROM (SELECT * {left_out} FROM {view}) ORDER BY ALL"


def contents(duck: duckdb.DuckDBPyConnection, without: str = "") -> dict[str, list[tuple[Any, ...]]]:
    return {view: rows(duck, everything(view, without)) for view in VIEWS}


def contents_by_program(directory: Path, without: str = "") -> dict[str, list[tuple[Any, ...]]]:
    with RawLog(directory) as log:
        return {view: list(log.query(everything(view, without)).rows) for view in VIEWS}


def as_zst(path: Path) -> Path:
    """The archive of a segment, in its place."""
    made = path.with_name(path.name + ".zst")
    made.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    path.unlink()
    return made


def as_gz(path: Path) -> Path:
    made = path.with_name(path.name + ".gz")
    made.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return made


def ruins(directory: Path) -> Path:
    """A log with all that can be wrong: torn ends, lines of no use, bytes replaced, duplicates, odd numbers."""
    segment(
        directory,
        [
            line(1, "order.created", order(status="NEW", price="12345678901234567890.123456789012345678")),
            line(2, "trade.executed", trade(fee={"cost": "-0.1", "currency": "BNB"})),
            line(3, "trade.executed", trade(fee=None)),  # reported again
            b"no json\n",
            b"\n",
            b'{"stream":"\xff\xfe"}\n',
            line(4, "trade.executed", trade(trade_id="t2", side="buy", price="NaN")),
            line(5, "trade.executed", trade(trade_id="t3", side="buy", symbol=None)),  # is rejected
            line(6, "order.updated", update(status="FILLED", filled=94.7)),
            line(6, "order.updated", update(status="FILLED", filled=94.7)),
            b'{"half of it\r"}\n',
        ],
    )
    fees = [{"cost": 1, "currency": "USDT"}, {"cost": "0.002", "currency": "BNB"}]
    kept = [line(7, "trade.executed", trade(trade_id="t4", side="buy", price=2, fees=fees))]
    void = [line(8, "bot.void", {"n": 8}), line(9, "bot.void", {"n": 9})]
    second = segment(directory, [*kept, *void], number=2, closed=False)
    offset = second.stat().st_size - sum(map(len, void))
    segment(
        directory,
        [line(8, "bot.good", {"error_message": "x" * 2000}), line(9, "bot.good", {"deep": {"a": [1, None]}})],
        number=3,
        closed=False,
        tail=line(10, "bot.unfinished", {})[:-1],  # whole, but for its end
        replaces=(Void(2, offset),),
    )
    segment(directory, [], number=4, closed=False, tail=b'{"stream":"' + STREAM.encode())
    segment(directory, [line(1, "x", {}, stream=OTHER_STREAM), b'{"' + b"y" * 3_000_000 + b'"}\n'], stream=OTHER_STREAM)
    (directory / f"empty.{'a' * 32}.000001.jsonl").touch()
    (directory / f"strange.{'b' * 32}.000001.jsonl").write_bytes(record("b" * 32, 1))
    (directory / f"{second.name}.torn").write_bytes(b'{"torn')
    (directory / "notes.jsonl").write_text("{}\n")
    return directory


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    return ruins(tmp_path / "audit [1]")


def test_the_script_is_the_one_that_the_views_make() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "loader.raw_views"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout == script() == SCRIPT.read_text(), "run: make views"


def test_every_view_has_the_rows_that_query_has(log: Path) -> None:
    expected = contents_by_program(log)
    assert contents(read(log)) == expected
    counts = {"records": 10, "orders": 1, "trades": 3, "order_updates": 1, "events": 3, "segments": 5, "round_trips": 1}
    assert {view: len(found) for view, found in expected.items()} == counts


def test_replaced_torn_and_rejected_lines_are_no_rows(log: Path) -> None:
    duck = read(log)
    assert rows(duck, f"SELECT list(seq ORDER BY seq) FROM records WHERE stream = '{STREAM}'") == [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9],)
    ]
    assert rows(duck, "SELECT DISTINCT event_type FROM events ORDER BY ALL") == [("bot.good",), ("x",)]
    assert rows(duck, "SELECT list(trade_id ORDER BY seq) FROM trades") == [(["t1", "t2", "t4"],)]
    assert rows(duck, "SELECT segment, state FROM segments ORDER BY ALL") == [
        (1, "closed"),
        (1, "closed"),
        (2, "replaced"),
        (3, "unfinished"),
        (4, "unfinished"),
    ]


def test_archives_are_read_as_the_segments_they_hold(log: Path) -> None:
    before = contents_by_program(log, without="file, state")
    first, second, third, fourth = sorted(log.glob(f"*.{STREAM}.*.jsonl"))
    as_zst(first), as_gz(second), as_zst(fourth)
    assert contents_by_program(log, without="file, state") == before
    # What is no text has no length in DuckDB.
    assert contents(read(log), without="file, state, bytes") == contents_by_program(log, without="file, state, bytes")
    as_gz(third)  # its last line has no end, which only the program sees in an archive
    assert contents_by_program(log, without="file, state") == before


def test_a_segment_that_is_there_and_archived_is_read_once(log: Path) -> None:
    before = contents_by_program(log)
    for path in log.glob("*.jsonl"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()[:700]))
        path.with_name(path.name + ".zst").write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    assert contents_by_program(log) == contents(read(log)) == before


def test_what_is_written_after_the_script_was_read_is_seen(tmp_path: Path) -> None:
    path = segment(tmp_path, [line(1, "x", {})], closed=False, tail=line(2, "x", {})[:-1])
    duck = read(tmp_path)
    assert rows(duck, "SELECT count(*) FROM events") == [(1,)]
    with path.open("ab") as file:
        file.write(b"\n" + line(3, "x", {}))
    assert rows(duck, "SELECT count(*) FROM events") == [(3,)]
    segment(tmp_path, [line(4, "x", {})], number=2)
    assert rows(duck, "SELECT count(*) FROM events") == [(3,)]
    duck.execute(SCRIPT.read_text())
    assert rows(duck, "SELECT count(*), max(seq) FROM events") == [(4, 4)]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_segments_is_said_and_its_views_are_empty(tmp_path: Path, there: bool) -> None:
    duck = duckdb.connect()
    duck.execute("SET VARIABLE audit_dir = ?", [str(tmp_path if there else tmp_path / "nowhere")])
    with pytest.raises(duckdb.Error, match=r"there are no segments in .*SET VARIABLE audit_dir"):
        duck.execute(SCRIPT.read_text())
    for view in VIEWS:
        assert rows(duck, f"FROM {view}") == []


def test_the_default_folder_is_var_audit(tmp_path: Path) -> None:
    emit(tmp_path / "var/audit", orders=2)
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, duckdb; duckdb.execute(sys.stdin.read()); print(duckdb.table('orders').shape)",
        ],
        cwd=tmp_path,
        input=SCRIPT.read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "(2, 21)\n"


def test_query_prints_the_script_for_its_folder(tmp_path: Path) -> None:
    emit(tmp_path / "o'hara", orders=2)
    duck = duckdb.connect()
    duck.execute(tradetrail("query", "--dir", tmp_path / "o'hara", "--script").stdout)
    assert rows(duck, "SELECT count(*) FROM trades") == [(2,)]


def test_metrics_are_the_same_over_archives(tmp_path: Path) -> None:
    segment(tmp_path, [line(1, "trade.executed", trade(side="buy", price=2))])
    closing = segment(tmp_path, [line(2, "trade.executed", trade(trade_id="t2", price=3))], number=2)
    before = answer("metrics", "--dir", tmp_path)
    assert before["total"]["net_pnl"] == "94.7"
    as_zst(closing)
    assert answer("metrics", "--dir", tmp_path) == before


@pytest.mark.parametrize(
    ("suffix", "data", "word"),
    [
        (".zst", zstandard.ZstdCompressor().compress(record("c" * 32, 1) * 5000)[:-5], "cut off"),
        (".gz", gzip.compress(record("c" * 32, 1) * 5000, mtime=0)[:-5], "cut off"),
        (".zst", b"something else entirely", "no archive"),
        (".gz", b"something else entirely", "no archive"),
        (".zst", b"", "cut off"),
        (".gz", gzip.compress(b"{}\n", mtime=0), "no segment header"),
    ],
)
def test_a_damaged_archive_is_said_and_left_out(tmp_path: Path, suffix: str, data: bytes, word: str) -> None:
    emit(tmp_path, orders=1)
    bad = tmp_path / f"bot.{'c' * 32}.000001.jsonl{suffix}"
    bad.write_bytes(data)
    done = tradetrail("query", "--dir", tmp_path, "--csv", "SELECT count(*) AS n FROM records")
    assert done.stdout == "n\n4\n"
    assert word in one_line_of(done.stderr, bad.name)


def one_line_of(said: str, name: str) -> str:
    (found,) = said.splitlines()
    assert found.startswith(f"tradetrail: warning: {name}: ")
    return found


def test_an_archive_of_several_frames_is_whole(tmp_path: Path) -> None:
    stream = new_stream()
    lines = [line(n, "x", {"n": n}, stream=stream) for n in range(1, 2001)]
    path = segment(tmp_path, lines, stream=stream)
    data = path.read_bytes()
    path.unlink()
    pack = zstandard.ZstdCompressor().compress
    path.with_name(path.name + ".zst").write_bytes(pack(data[:1000]) + pack(data[1000:-7]) + pack(data[-7:]))
    assert by_program(tmp_path, "SELECT count(*), sum(seq) FROM events") == [(2000, 2001000)]
    assert rows(read(tmp_path), "SELECT count(*), sum(seq) FROM events") == [(2000, 2001000)]
    assert by_program(tmp_path, "SELECT bytes, records, state FROM segments") == [(len(data), 2000, "closed")]


def test_the_loader_leaves_archives_alone(tmp_path: Path) -> None:
    emit(tmp_path, orders=1)
    (path,) = tmp_path.glob("*.jsonl")
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    verdict = answer("validate", "--dir", tmp_path)
    assert (verdict["records"], verdict["segments"]) == (4, 1)
    assert one_line(tradetrail("validate", tmp_path / f"{path.name}.gz"), 2)
