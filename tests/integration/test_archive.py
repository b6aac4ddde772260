"""``tradetrail archive``: byte for byte, value for value; nothing goes that is not proved, loaded and old enough."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from emitter import AuditLog
from emitter.segments import Void
from loader.archive.archiving import READ, archive
from loader.archive.choice import IN_USE, NOT_LOADED, REPLACED, UNFINISHED
from loader.archive.locks import archiving, reading, removing
from loader.archive.manifest import read_manifest
from loader.archive.views import script
from loader.cli import run
from loader.database import Database
from loader.load import Loader
from loader.metrics import Asked, from_logs
from loader.query import RawLog
from loader.settings import LoadSettings
from loader.totals import Totals
from loader.verify.files import take_files
from loader.verify.head import Head, take_head
from loader.verify.rule_book import BUILT_IN
from loader.verify.verify import Verdict, verify

from ..bots import Bot, ended
from ..command import answer, one_line, tradetrail
from ..contents import assert_same, contents
from ..lines import OTHER_STREAM, line, order, segment, trade, update
from ..plugins.postgres import Cluster

KINDS = ("orders", "trades", "order_updates", "events", "round_trips")
NOTHING = timedelta(0)


def load(log: Path, dsn: str) -> Totals:
    async def work() -> Totals:
        async with Loader(LoadSettings(directory=log, dsn=dsn)) as loader:
            return await loader.take()

    return asyncio.run(work())


def run_sql(dsn: str, statement: str) -> None:
    async def work() -> None:
        async with await Database.connect(dsn) as database:
            await database.execute(statement)

    asyncio.run(work())


def make(log: Path, positions: int = 12) -> str:
    """A closed stream of some segments, with all kinds of records; its id."""
    with AuditLog(log, service="fox-bot", segment_max_bytes=4000) as audit:
        for number in range(positions):
            trail = audit.bind(exchange="bybit", symbol="MNT/USDT:USDT", position_id=number)
            trail.order(order_id=f"e{number}", type="MARKET", side="buy", size="94.7", price=2.1118, status="NEW")
            trail.update_order(order_id=f"e{number}", status="FILLED", filled=Decimal("94.700"))
            for side, price in (("buy", 2.1118), ("sell", Decimal("2.2"))):
                trail.trade(
                    order_id=f"e{number}", trade_id=f"{side}{number}", side=side, price=price, executed_qty=94.7,
                    fee={"cost": "0.1", "currency": "USDT"},
                )  # fmt: skip
            trail.event("position.closed", reason="\N{GRINNING FACE}")
            audit.flush()
        return audit.stats().stream


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "audit"
    make(folder)
    assert len(list(folder.iterdir())) > 4
    return folder


@pytest.fixture
def log(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "audit"))


@pytest.fixture
def loaded(log: Path, dsn: str) -> Path:
    """A trail of 60 records in some closed segments, which the database ``dsn`` has."""
    load(log, dsn)
    return log


def raw(log: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(log.glob("*.jsonl"))}


def packed(log: Path) -> dict[str, bytes]:
    """What the archives hold, by zstd's own reader, under the segments' names."""
    paths = sorted((log / "archive").glob("*.jsonl.zst"))
    read = zstandard.ZstdDecompressor().stream_reader
    return {path.name.removesuffix(".zst"): read(path.open("rb")).read() for path in paths}


def asked(log: Path) -> dict[str, Any]:
    """All that the views show, but the names of files."""
    with RawLog(log) as opened:
        assert not opened.problems
        views = {view: list(opened.query(f"SELECT * FROM {view}", ordered=True).rows) for view in ("records", *KINDS)}
        return views | {"segments": list(opened.query("SELECT * EXCLUDE (file) FROM segments").rows)}


def parquet(log: Path) -> duckdb.DuckDBPyConnection:
    duck = duckdb.connect()
    duck.execute(script(log / "archive"))
    return duck


def same_in_parquet(log: Path) -> dict[str, int]:
    """Assert that each view over Parquet has the rows of the one over raw files; how many each has."""
    counts = {}
    with RawLog(log) as opened, parquet(log) as duck:
        columns = {view.name: [f'"{name}"' for name, _ in view.columns] for view in opened.views()}
        for view in KINDS:
            names = ", ".join(columns[view])
            wanted = list(
                opened.query(f"SELECT columns(*)::VARCHAR FROM (SELECT {names} FROM {view}) ORDER BY ALL").rows
            )
            found = duck.execute(
                f"SELECT columns(*)::VARCHAR FROM (SELECT {names} FROM {view}) ORDER BY ALL"
            ).fetchall()
            assert found == wanted, view
            counts[view] = len(found)
    return counts


def rules(verdict: Verdict) -> list[tuple[str, str]]:
    """What was found of files and tables; the orders of these positions are not all there."""
    return [(f.severity, f.rule) for f in verdict.findings.kept if f.rule in {name for name, *_ in BUILT_IN}]


def flip(path: Path) -> None:
    """Change a digit of a record."""
    data = path.read_bytes()
    at = data.index(b"94.7")
    path.write_bytes(data[:at] + b"84.7" + data[at + 4 :])


# -- there and back --


def test_segments_are_archived_byte_for_byte_and_removed(loaded: Path, dsn: str) -> None:
    before, views = raw(loaded), asked(loaded)
    done = archive(loaded, dsn)
    assert (done.archived, done.removed, done.problems) == (len(before), 0, {})
    assert packed(loaded) == raw(loaded) == before
    assert asked(loaded) == views
    done = archive(loaded, dsn, keep=NOTHING)
    assert (done.archived, done.parquet_files, done.removed) == (0, 0, len(before))
    assert not raw(loaded)
    assert packed(loaded) == before
    assert asked(loaded) == views
    files = [path for path in (loaded / "archive").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_all_commands_say_the_same_when_only_archives_are_left(loaded: Path, dsn: str) -> None:
    figures, line = from_logs(loaded, Asked("symbol")), str(take_head(take_files(loaded)))
    verdict = verify(loaded, dsn)
    assert rules(verdict) == []
    archive(loaded, dsn, keep=NOTHING)
    assert not raw(loaded)
    assert from_logs(loaded, Asked("symbol")) == figures
    for source in (dsn, None):
        after = verify(loaded, source, head=Head.parse(line))
        assert rules(after) == []
        assert (after.records, after.bytes, after.proved.split(";")[0]) == (
            verdict.records, verdict.bytes, verdict.proved.split(";")[0],
        )  # fmt: skip
    assert str(take_head(take_files(loaded))).split()[2:] == line.split()[2:]
    again = load(loaded, dsn)
    assert (again.records, again.problems) == (0, {})


def test_the_views_for_duckdb_itself_find_the_archives(loaded: Path, dsn: str, pytestconfig: pytest.Config) -> None:
    views = asked(loaded)
    archive(loaded, dsn, keep=NOTHING)
    with duckdb.connect() as duck:
        duck.execute(f"SET VARIABLE audit_dir = '{loaded}'")
        duck.execute((pytestconfig.rootpath / "sql/views/raw.sql").read_text())
        assert duck.execute("SELECT count(*) FROM records").fetchone() == (len(views["records"]),)


def test_a_removed_segment_in_the_middle_is_no_problem(loaded: Path, dsn: str) -> None:
    views, names = asked(loaded), sorted(raw(loaded))
    archive(loaded, dsn)
    for name in (names[0], names[2]):
        (loaded / name).unlink()
    assert asked(loaded) == views
    assert rules(verify(loaded, dsn)) == []
    assert rules(verify(loaded, None)) == []
    assert load(loaded, dsn).problems == {}


# -- what stays --


def test_without_a_database_nothing_is_archived(log: Path, empty_dsn: str) -> None:
    words = one_line(tradetrail("archive", "--dir", log, cwd=log.parent), 2)
    assert words == "tradetrail: archive has to know what is loaded, and there is no database here: name it with --dsn"
    assert "no segment was ever loaded" in one_line(tradetrail("archive", "--dir", log, "--dsn", empty_dsn), 2)
    assert not (log / "archive").exists()


@pytest.mark.parametrize("keep", ["", "30", "thirty days", "-1d", "99999999999999d"])
def test_a_keep_that_is_no_age_is_one_line(log: Path, keep: str) -> None:
    assert "write 12h, 30d or 8w" in one_line(tradetrail("archive", "--dir", log, "--keep", keep), 2)


def test_what_was_closed_later_is_kept(loaded: Path, dsn: str) -> None:
    before = raw(loaded)
    assert archive(loaded, dsn, keep=timedelta(days=30)).removed == 0
    assert raw(loaded) == before
    later = datetime.now(UTC) + timedelta(days=31)
    assert archive(loaded, dsn, keep=timedelta(days=32), now=later).removed == 0
    assert archive(loaded, dsn, keep=timedelta(days=30), now=later).removed == len(before)


def test_what_is_not_loaded_is_neither_archived_nor_removed(loaded: Path, dsn: str) -> None:
    known = raw(loaded)
    make(loaded, 1)
    new = raw(loaded).keys() - known.keys()
    part = sorted(known)[0]
    run_sql(dsn, f"UPDATE monitoring.audit_segments SET closed_at = NULL WHERE file = '{part}'")
    done = archive(loaded, dsn, keep=NOTHING)
    assert done.waiting == {NOT_LOADED: len(new) + 1}
    assert raw(loaded).keys() == new | {part}
    assert packed(loaded).keys() == known.keys() - {part}


def test_what_a_database_lost_meanwhile_is_not_removed(loaded: Path, dsn: str) -> None:
    archive(loaded, dsn)
    before = raw(loaded)
    gone = sorted(before)[1]
    run_sql(dsn, f"DELETE FROM monitoring.audit_segments WHERE file = '{gone}'")
    assert archive(loaded, dsn, keep=NOTHING).removed == len(before) - 1
    assert raw(loaded) == {gone: before[gone]}


def test_the_newest_of_a_living_stream_stay(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    with AuditLog(log, service="fox-bot", segment_max_bytes=2000) as audit:
        for number in range(30):
            audit.event("bot.noted", number=number, text="x" * 100)
            audit.flush()
        load(log, dsn)
        names = sorted(raw(log))
        done = archive(log, dsn, keep=NOTHING)
        assert done.waiting[IN_USE] >= 2
        left = sorted(raw(log))
        assert left == names[-len(left) :]
        assert len(left) < len(names)
        assert load(log, dsn).problems == {}
        for number in range(30):
            audit.event("bot.noted", number=number, text="x" * 100)
    assert load(log, dsn).problems == {}
    assert len(asked(log)["records"]) == 60
    assert rules(verify(log, dsn)) == []


def test_a_stream_whose_bot_died_waits_for_the_next_load(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, service="fox-bot", segment_max_bytes=2000)
        for _ in range(30):
            seq = audit.event("bot.noted", text="x" * 100)
            audit.flush()
            say(seq)
        signal.pause()

    bot = Bot(work)
    bot.wait_for(30)
    load(log, dsn)
    os.kill(bot.pid, signal.SIGKILL)
    assert ended(bot.pid) == -signal.SIGKILL
    names = raw(log).keys()
    done = archive(log, dsn, keep=NOTHING)
    assert (done.waiting, done.archived) == ({UNFINISHED: len(names)}, 0)
    load(log, dsn)
    assert archive(log, dsn, keep=NOTHING).removed == len(names)
    assert len(asked(log)["records"]) == 30


def test_bytes_that_a_failed_sync_made_void_stay(tmp_path: Path, dsn: str) -> None:
    first = segment(tmp_path / "a", [line(1, "bot.noted", {}), line(2, "bot.void", {})])
    offset = first.stat().st_size
    segment(tmp_path / "a", [line(2, "bot.noted", {})], number=2, replaces=(Void(1, offset),))
    segment(tmp_path / "a", [line(3, "bot.noted", {})], number=3)
    load(tmp_path / "a", dsn)
    done = archive(tmp_path / "a", dsn, keep=NOTHING)
    assert (done.waiting, done.archived) == ({REPLACED: 2}, 1)
    assert len(raw(tmp_path / "a")) == 2


def test_a_segment_that_was_changed_is_not_archived(loaded: Path, dsn: str) -> None:
    before = sorted(raw(loaded))
    flip(loaded / before[1])
    shorter = loaded / before[2]
    shorter.write_bytes(shorter.read_bytes()[:-1])
    found = answer("archive", "--dir", loaded, "--dsn", dsn, "--keep", "0s", code=1)
    assert found["removed"] == found["archived"] == len(before) - 2
    assert "bytes are not those" in found["problems"][before[1]]
    assert sorted(raw(loaded)) == [before[1], before[2]]
    assert before[1] not in packed(loaded)
    assert not list((loaded / "archive").glob("*.new*"))


def test_a_segment_whose_archive_is_damaged_is_not_removed(loaded: Path, dsn: str) -> None:
    archive(loaded, dsn)
    before = raw(loaded)
    names = sorted(before)
    cut = loaded / "archive" / f"{names[0]}.zst"
    cut.write_bytes(cut.read_bytes()[:-9])
    other = loaded / "archive" / f"{names[1]}.zst"
    other.write_bytes(zstandard.ZstdCompressor().compress(before[names[1]].replace(b"94.7", b"84.7")))
    done = archive(loaded, dsn, keep=NOTHING)
    assert done.problems.keys() == {f"{names[0]}.zst", names[1]}
    assert raw(loaded) == {name: before[name] for name in names[:2]}


# -- what verify says --


def test_a_tampered_archive_is_found(loaded: Path, dsn: str) -> None:
    before = raw(loaded)
    archive(loaded, dsn, keep=NOTHING)
    names = sorted(before)
    changed, cut = (loaded / "archive" / f"{name}.zst" for name in names[:2])
    changed.write_bytes(zstandard.ZstdCompressor().compress(before[names[0]].replace(b"94.7", b"84.7")))
    cut.write_bytes(cut.read_bytes()[:-9])
    found = {(f.rule, f.segment) for f in verify(loaded, dsn).findings.kept if f.severity == "error"}
    assert {("segment_changed", 1), ("segment_unreadable", 2)} <= found
    changed.unlink()
    assert ("segment_archived", 1) in {(f.rule, f.segment) for f in verify(loaded, dsn).findings.kept}
    assert ("segment_missing", 1) in {(f.rule, f.segment) for f in verify(loaded, None).findings.kept}


def test_a_database_from_a_backup_is_loaded_again_from_archives(loaded: Path, dsn: str, cluster: Cluster) -> None:
    wanted, segments = asyncio.run(contents(dsn)), raw(loaded)
    archive(loaded, dsn, keep=NOTHING)
    first = sorted(segments)[0]
    with cluster.database(cluster.template(existing=False, migrated=True)) as backup:
        assert answer("archive", "restore", first, "--dir", loaded)["segments"] == 1
        load(loaded, backup)
        (loaded / first).unlink()
        found = [f for f in verify(loaded, backup).findings.kept if f.rule == "archived_not_loaded"]
        assert [f.segment for f in found] == list(range(2, len(segments) + 1))
        assert "do not agree" in verify(loaded, backup).proved
        done = answer("archive", "restore", "--unloaded", "--dir", loaded, "--dsn", backup)
        assert done == {
            "segments": len(segments) - 1, "bytes": sum(map(len, segments.values())) - len(segments[first]),
            "problems": {},
        }  # fmt: skip
        load(loaded, backup)
        assert_same(asyncio.run(contents(backup)), wanted)
        assert rules(verify(loaded, backup)) == []


def test_what_is_restored_is_what_was_there(loaded: Path, dsn: str) -> None:
    before = raw(loaded)
    archive(loaded, dsn, keep=NOTHING)
    names = sorted(before)
    (loaded / names[0]).write_bytes(b"mine")
    cut = loaded / "archive" / f"{names[1]}.zst"
    cut.write_bytes(cut.read_bytes()[:-9])
    changed = loaded / "archive" / f"{names[2]}.zst"
    changed.write_bytes(zstandard.ZstdCompressor().compress(before[names[2]].replace(b"94.7", b"84.7")))
    found = answer("archive", "restore", "--all", "--dir", loaded, code=1)
    assert found["problems"].keys() == {cut.name, changed.name}
    assert raw(loaded) == {name: before[name] for name in names[3:]} | {names[0]: b"mine"}
    assert {path.stat().st_mode & 0o777 for path in loaded.glob("*.jsonl") if path.name in names[3:]} == {0o600}
    assert packed(loaded).keys() >= set(names[3:])


@pytest.mark.parametrize("words", [(), ("--all", "--unloaded"), ("x.jsonl",), ("x", "--all")])
def test_a_restore_of_nothing_known_is_one_line(loaded: Path, words: tuple[str, ...]) -> None:
    one_line(tradetrail("archive", "restore", *words, "--dir", loaded), 2)


# -- Parquet --


EXACT = "12345678901234567890.123456789012345678"


def odd_log(log: Path) -> None:
    """Values at the edges of their types, on several days."""
    fees = [{"currency": "USDT", "cost": "0.1"}, {"currency": "BNB", "cost": -1e-7}]
    prices = [
        EXACT,
        "1e-19",
        "1" * 21,
        "NaN",
        "-Infinity",
        "1e20",
        0.1,
        -0.0,
        1e-7,
        "1.500000000000000000000",
        "1e400",
        2,
    ]
    lines = [
        line(n, "trade.executed", trade(trade_id=f"t{n}", price=price, fees=fees, note="\N{GRINNING FACE} \\ \""),
             timestamp=f"2026-11-{20 + n % 3}T23:59:59.9999{n:02d}Z", trace_id="a" * 32)
        for n, price in enumerate(prices, 1)
    ]  # fmt: skip
    more: list[tuple[str, dict[str, Any]]] = [
        ("trade.executed", trade(trade_id="t1", price=9)),  # again
        ("trade.executed", trade(trade_id=None, fee={"cost": None, "currency": None}, signal_id="unknown")),
        ("trade.executed", {}),  # rejected
        ("order.created", order(price=None, size=EXACT, fee="1e-30", created_at=1763812656)),
        ("order.updated", update(status="FILLED", filled="94.70", average_price="0." + "1" * 30)),
        ("bot.noted", {"deep": {"a": [1.50, None, "\t"]}, "symbol": ""}),
        ("bot.noted", {}),
    ]
    lines += [line(20 + n, name, attributes) for n, (name, attributes) in enumerate(more)]
    lines.append(b'{"stream":"no record"}\n')
    segment(log, lines)
    segment(log, [], stream=OTHER_STREAM)
    segment(log, [line(1, "bot.noted", {"of": "another"}, stream=OTHER_STREAM)], stream=OTHER_STREAM, number=2)


def test_parquet_has_the_values_of_the_raw_files(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    odd_log(log)
    load(log, dsn)
    done = archive(log, dsn)
    assert same_in_parquet(log) == {"orders": 1, "trades": 13, "order_updates": 1, "events": 3, "round_trips": 0}
    assert done.parquet_rows == 13 + 1 + 1 + 1 + 3
    with parquet(log) as duck:
        found = dict(duck.execute("SELECT seq, price FROM trades").fetchall())
        assert str(found[1]) == EXACT
        inexact = {seq: json.loads(text) for seq, text in duck.execute(
            "SELECT seq, inexact FROM trades WHERE inexact IS NOT NULL"
        ).fetchall()}  # fmt: skip
        assert inexact == {
            2: {"price": "1e-19"}, 3: {"price": "1" * 21}, 4: {"price": "NaN"}, 5: {"price": "-Infinity"},
            6: {"price": "1e20"}, 11: {"price": "1e400"},
        }  # fmt: skip
        assert duck.execute("SELECT inexact FROM order_updates").fetchall() == [
            ('{"average_price":"0.' + "1" * 30 + '"}',)
        ]
        assert duck.execute("SELECT inexact FROM raw.orders_created").fetchall() == [('{"fee":"1e-30"}',)]
        assert duck.execute("SELECT DISTINCT trace_id FROM trades WHERE seq < 13").fetchall() == [("a" * 32,)]


def test_parquet_is_typed_sorted_and_split_by_day(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    odd_log(log)
    load(log, dsn)
    archive(log, dsn)
    folder = log / "archive" / "parquet"
    entries = read_manifest(folder)
    assert {e.kind for e in entries} == {"order", "order_update", "trade", "event"}
    assert {e.date for e in entries if e.kind == "trade"} == {"2026-11-20", "2026-11-21", "2026-11-22"}
    assert {e.file for e in entries} == {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}
    with duckdb.connect() as duck:
        for entry in entries:
            path = folder / entry.file
            assert entry.file.startswith(f"{entry.kind}/date={entry.date}/")
            assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            rows = duck.execute(f"SELECT epoch_us(timestamp), stream, seq FROM '{path}'").fetchall()
            assert rows == sorted(rows)
            assert {datetime.fromtimestamp(at / 1e6, UTC).date().isoformat() for at, *_ in rows} == {entry.date}
            assert (len(rows), path.stat().st_size) == (entry.rows, entry.bytes)
        types = {name: type_ for name, type_, *_ in duck.execute(
            f"DESCRIBE FROM '{folder}/trade/*/*.parquet'"
        ).fetchall()}  # fmt: skip
    assert types["price"] == types["fee"] == "DECIMAL(38,18)"
    assert types["timestamp"] == types["executed_at"] == "TIMESTAMP WITH TIME ZONE"
    assert (types["seq"], types["signal_id"], types["estimated"]) == ("BIGINT", "BIGINT", "BOOLEAN")


def test_a_later_run_adds_files_and_changes_none(loaded: Path, dsn: str) -> None:
    archive(loaded, dsn)
    folder = loaded / "archive" / "parquet"
    files = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    lines = (folder / "manifest.jsonl").read_bytes()
    assert archive(loaded, dsn).parquet_files == 0
    make(loaded)
    load(loaded, dsn)
    done = archive(loaded, dsn, keep=NOTHING)
    assert (done.parquet_files, done.parquet_rows) == (4, 60)
    assert {path: path.read_bytes() for path in files} == files
    assert (folder / "manifest.jsonl").read_bytes().startswith(lines)
    assert same_in_parquet(loaded)["trades"] == 24


def test_parquet_can_come_later_and_anew_from_the_archives(loaded: Path, dsn: str) -> None:
    assert archive(loaded, dsn, keep=NOTHING, parquet=False).parquet_files == 0
    assert not (loaded / "archive" / "parquet").exists()
    assert archive(loaded, dsn).parquet_rows == 60
    stray = loaded / "archive" / "parquet" / "trade" / "date=2026-01-01"
    stray.mkdir()
    (stray / f"{'0' * 32}.parquet.new").write_bytes(b"half")
    (loaded / "archive" / "parquet" / "manifest.jsonl").write_bytes(b"{")
    assert "is damaged" in one_line(tradetrail("archive", "--dir", loaded, "--dsn", dsn), 3)
    (loaded / "archive" / "parquet" / "manifest.jsonl").unlink()
    assert archive(loaded, dsn).parquet_rows == 60
    assert same_in_parquet(loaded)["order_updates"] == 12
    assert len(list((loaded / "archive" / "parquet").rglob("*.parquet*"))) == 4


def test_an_archive_that_was_changed_gives_no_parquet(loaded: Path, dsn: str) -> None:
    before = raw(loaded)
    archive(loaded, dsn, keep=NOTHING, parquet=False)
    name = sorted(before)[0]
    changed = loaded / "archive" / f"{name}.zst"
    changed.write_bytes(zstandard.ZstdCompressor().compress(before[name].replace(b"94.7", b"84.7")))
    done = archive(loaded, dsn)
    assert done.problems.keys() == {changed.name}
    assert name not in {
        segment for entry in read_manifest(loaded / "archive" / "parquet") for segment in entry.segments
    }


# -- places and others at work --


def test_archives_may_lie_on_another_disk(loaded: Path, dsn: str, tmp_path: Path) -> None:
    views, before, other = asked(loaded), raw(loaded), tmp_path / "large"
    found = answer("archive", "--dir", loaded, "--dsn", dsn, "--to", other, "--keep", "0s")
    assert found["removed"] == len(before) == len(list(other.glob("*.zst")))
    assert (loaded / "archive").readlink() == other
    assert asked(loaded) == views
    assert archive(loaded, dsn).problems == {}
    words = one_line(tradetrail("archive", "--dir", loaded, "--dsn", dsn, "--to", tmp_path / "third"), 2)
    assert str(other) in words
    other.rename(tmp_path / "away")
    assert "is not there" in one_line(tradetrail("archive", "--dir", loaded, "--dsn", dsn), 3)
    assert "what is archived is not seen" in tradetrail("query", "--dir", loaded, "SELECT 1").stderr
    assert "segment_unreadable" in {f.rule for f in verify(loaded, dsn).findings.kept}


def test_only_one_archives_at_a_time(loaded: Path, dsn: str) -> None:
    archive(loaded, dsn)
    with archiving(loaded / "archive"):
        for words in ((), ("restore", "--all")):
            done = tradetrail("archive", *words, "--dir", loaded, *(() if words else ("--dsn", dsn)))
            assert "another tradetrail archive is at work" in one_line(done, 3)
    assert archive(loaded, dsn).problems == {}


def test_nothing_is_removed_while_somebody_reads(loaded: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.archive.locks._REMOVER_WAITS_S", 0.05)
    before = raw(loaded)
    with RawLog(loaded) as opened:
        done = archive(loaded, dsn, keep=NOTHING)
        assert (done.removed, done.waiting) == (0, {READ: len(before)})
        assert list(opened.query("SELECT count(*) FROM records").rows) == [(60,)]
    with reading(loaded), removing(loaded) as free:
        assert not free
    with removing(loaded) as free:
        assert free
    assert archive(loaded, dsn, keep=NOTHING).removed == len(before)


def test_people_are_told_in_a_few_lines(loaded: Path, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["archive", "--dir", str(loaded), "--dsn", dsn, "--keep", "0s"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert "archived" in said[0]
    assert "60 records in 4 Parquet files" in said[1]
    assert "removed" in said[2]
    assert run(["archive", "restore", "--dir", str(loaded), "--all"]) == 0
    assert "restored" in capsys.readouterr().out
