"""``tradetrail verify``: finds what was done to a trail, by its name and place; says nothing where nothing was."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitter import AuditLog
from emitter.recovery import body_size
from emitter.seal import read_seal
from emitter.segments import SegmentName, Void, footer_line, parse_header, read_footer, read_header
from loader import statements
from loader.cli import run
from loader.database import Database
from loader.errors import UsageError
from loader.load import Loader
from loader.settings import LoadSettings
from loader.statements import sql_dir
from loader.verify.canonical import jsonb_text
from loader.verify.files import take_files
from loader.verify.findings import Finding
from loader.verify.head import Head, take_head
from loader.verify.rule_book import BUILT_IN, described
from loader.verify.verify import Verdict, verify

from ..bots import Bot, failing, recovered, tmpfs_folder
from ..command import one_line, tradetrail
from ..command import segment as open_segment
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.postgres import Cluster
from .test_versions import _records as all_sorts_of_records

Command = Callable[..., tuple[int, str]]


def position(audit: AuditLog, number: int) -> None:
    """A whole life: entry with a fill, a stop that moves, an exit, and what closes it; nine records."""
    trail = audit.bind(position_id=number, exchange="bybit", symbol="MNT/USDT:USDT")
    size, entry, stop, leaving = 94.7, f"e{number}", f"s{number}", f"x{number}"
    trail.order(order_id=entry, type="MARKET", side="buy", size=size, price=2.1118, status="FILLED", filled=size)
    trail.trade(order_id=entry, trade_id=f"t{entry}", side="buy", price=2.1118, executed_qty=size, fee=0.1)
    trail.order(
        order_id=stop, client_order_id=f"c{stop}", type="STOP_MARKET", side="sell", size=size, price=2, status="NEW"
    )
    trail.update_order(order_id=stop, price=2.05, reason="trailing stop")
    trail.order(
        order_id=leaving, type="MARKET", side="sell", size=size, price="2.2000", status="FILLED", filled="94.70"
    )
    trail.trade(
        order_id=leaving, trade_id=f"t{leaving}", side="sell", price=2.2, executed_qty=94.7,
        fees=[{"currency": "USDT", "cost": 0.1}, {"currency": "MNT", "cost": "1e-7"}], cost=208.34,
    )  # fmt: skip
    trail.update_order(client_order_id=f"c{stop}", status="CANCELED", reason="position closed")
    trail.event("position.closed", reason="take profit", deep={"Größe": [1.50, 1e-7, None, 'a"\n'], "b": -0.0})
    trail.event("position.checked")


def make(log: Path, positions: int = 20, **more: Any) -> str:
    """A closed stream of a few segments; its id."""
    with AuditLog(log, service="fox-bot", **{"segment_max_bytes": 8000, **more}) as audit:
        for number in range(1, positions + 1):
            position(audit, number)
            if number % 5 == 0:
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
    """A trail of 180 records in some segments, for each test anew."""
    return Path(shutil.copytree(made, tmp_path / "audit"))


def load(log: Path, dsn: str, **more: Any) -> None:
    async def work() -> None:
        async with Loader(LoadSettings(directory=log, dsn=dsn, **more)) as loader:
            await loader.take()

    asyncio.run(work())


def run_sql(dsn: str, *statements: str) -> None:
    async def work() -> None:
        async with await Database.connect(dsn) as database:
            for statement in statements:
                assert await database.execute(statement)

    asyncio.run(work())


def run_script(dsn: str, script: str) -> None:
    async def work() -> None:
        async with await Database.connect(dsn) as database:
            await database.execute(script)

    asyncio.run(work())


def said(verdict: Verdict) -> list[tuple[str, str]]:
    """(severity, rule) of all but information."""
    return [(f.severity, f.rule) for f in verdict.findings.kept if f.severity != "information"]


def rules(verdict: Verdict) -> set[str]:
    return {finding.rule for finding in verdict.findings.kept if finding.severity != "information"}


def only(verdict: Verdict) -> Finding:
    (finding,) = [finding for finding in verdict.findings.kept if finding.severity != "information"]
    return finding


def segments(log: Path) -> list[Path]:
    return sorted(log.glob("*.jsonl"))


def rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]], *, footer: bool = False) -> None:
    """Change the lines of a segment; with ``footer`` it gets one that is right for what it holds then."""
    lines = change(path.read_bytes().splitlines(keepends=True))
    if footer:
        old, body = read_footer(path), b"".join(lines[:-1])
        assert old
        seqs = [
            int(found[1]) for text in lines if (found := re.match(rb'\{"stream":"[0-9a-f]{32}","seq":(\d+),', text))
        ]
        name = next(iter(take_files(path.parent).files.values())).name
        digest = hashlib.sha256(body).hexdigest()
        name = type(name)(name.stream, old.segment, name.service)
        lines[-1] = footer_line(name, records=len(seqs), first_seq=seqs[0], last_seq=seqs[-1], sha256=digest)
    path.write_bytes(b"".join(lines))


def changed_byte(lines: list[bytes]) -> list[bytes]:
    """The last digit of the second record's time is another."""
    digit = lines[2].index(b'Z","severity_text"') - 1
    other = b"0" if lines[2][digit : digit + 1] != b"0" else b"1"
    return [*lines[:2], lines[2][:digit] + other + lines[2][digit + 1 :], *lines[3:]]


def test_a_clean_trail_has_no_finding_with_or_without_a_database(log: Path, dsn: str) -> None:
    alone = verify(log, None)
    assert (alone.findings.kept, alone.streams, alone.records) == ([], 1, 180)
    assert alone.proved == "1 stream, 180 records: complete, unchanged, consistent"
    load(log, dsn)
    both = verify(log, dsn)
    assert both.findings.kept == []
    assert both.proved == alone.proved + "; logs and database agree"


def test_and_none_in_the_narrow_columns_of_a_bot(log: Path, migrated_existing_dsn: str) -> None:
    run_sql(migrated_existing_dsn, "DELETE FROM monitoring.positions")
    load(log, migrated_existing_dsn)
    verdict = verify(log, migrated_existing_dsn)
    assert verdict.findings.kept == []
    assert verdict.compared


@pytest.mark.parametrize("at", [0, 2, -1], ids=["first", "middle", "last"])
def test_one_byte_changed(log: Path, at: int) -> None:
    path = segments(log)[at]
    rewrite(path, changed_byte)
    verdict = verify(log, None)
    header = read_header(path)
    assert header
    assert (only(verdict).rule, only(verdict).segment) == ("segment_changed", header.segment)
    witnesses = "its footer and the next segment's header vouch for" if at != -1 else "its footer vouches for"
    assert only(verdict).what == f"its bytes are not those that {witnesses}"
    assert verdict.proved.endswith(": complete, not unchanged, consistent")


def test_one_byte_changed_with_a_database(log: Path, dsn: str) -> None:
    load(log, dsn)
    rewrite(segments(log)[0], changed_byte)
    changed, row = verify(log, dsn).findings.kept
    assert (changed.rule, changed.segment) == ("segment_changed", 1)
    assert "the next segment's header and the database vouch for" in changed.what
    assert (row.rule, row.seq) == ("row_differs", 2)
    assert "executed_at is 20" in row.what


def test_one_line_removed(log: Path) -> None:
    rewrite(segments(log)[1], lambda lines: [*lines[:4], *lines[5:]])
    verdict = verify(log, None)
    assert {"segment_changed", "hole"} <= rules(verdict)
    (hole,) = [finding for finding in verdict.findings.kept if finding.rule == "hole"]
    footer = read_footer(segments(log)[1])
    assert footer
    assert (hole.seq, hole.segment) == ((footer.first_seq or 0) + 3, 2)
    assert "not complete, not unchanged" in verdict.proved


def test_two_lines_swapped(log: Path) -> None:
    rewrite(segments(log)[1], lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]])
    verdict = verify(log, None)
    assert {"segment_changed", "out_of_order"} <= rules(verdict)
    assert "hole" not in rules(verdict)


def test_a_line_that_is_there_twice(log: Path) -> None:
    rewrite(segments(log)[1], lambda lines: [*lines[:5], *lines[4:]], footer=True)
    assert {"seq_twice", "segment_changed"} <= rules(verify(log, None))


def test_a_file_removed(log: Path) -> None:
    for number in (1, 3):
        path = segments(log)[number - 1]
        footer, kept = read_footer(path), path.read_bytes()
        assert footer
        path.unlink()
        found = {finding.rule: finding for finding in verify(log, None).findings.kept}
        assert (found["segment_missing"].severity, found["segment_missing"].segment) == ("error", number)
        assert found["hole"].seq == footer.first_seq
        path.write_bytes(kept)


def test_a_file_removed_that_the_database_has(log: Path, dsn: str) -> None:
    load(log, dsn)
    head = take_head(take_files(log))
    for at, expected in (
        (0, ("information", "segment_archived")),
        (2, ("warning", "segment_missing")),
        (-1, ("warning", "segment_missing")),
    ):
        path = segments(log)[at]
        kept = path.read_bytes()
        path.unlink()
        verdict = verify(log, dsn)
        assert [(finding.severity, finding.rule) for finding in verdict.findings.kept] == [expected]
        assert "position_without_stop" in verdict.left_out
        if at == -1:
            assert said(verify(log, None, head=head)) == [("error", "head_missing")]
        path.write_bytes(kept)


def test_all_files_of_a_stream_archived_and_a_row_of_it_removed(log: Path, dsn: str) -> None:
    load(log, dsn)
    for path in segments(log):
        path.unlink()
    verdict = verify(log, dsn)
    assert [(f.severity, f.rule) for f in verdict.findings.kept] == [("information", "segment_archived")]
    run_sql(dsn, "DELETE FROM monitoring.events WHERE seq = 9", "DELETE FROM monitoring.trades WHERE seq = 2")
    verdict = verify(log, dsn)
    assert said(verdict) == [("error", "hole_in_database")] * 2 + [("error", "count_differs")]
    assert [finding.seq for finding in verdict.findings.kept if finding.rule == "hole_in_database"] == [2, 9]


@pytest.mark.parametrize("whole_line", [True, False])
def test_the_last_file_cut(log: Path, dsn: str, whole_line: bool) -> None:
    line_ = str(take_head(take_files(log)))
    load(log, dsn)
    path = segments(log)[-1]
    if whole_line:
        rewrite(path, lambda lines: lines[:-3])
    else:
        os.truncate(path, path.stat().st_size - 700)
    assert said(verify(log, None)) == [("warning", "unfinished")], "nobody can tell it from a bot that died"
    assert ("error", "segment_cut") in said(verify(log, dsn))
    assert ("error", "head_cut") in said(verify(log, None, head=Head.parse(line_)))


def test_a_middle_file_cut_or_emptied(log: Path) -> None:
    path = segments(log)[1]
    rewrite(path, lambda lines: lines[:-1])
    verdict = verify(log, None)
    assert only(verdict).rule == "segment_cut"
    path.write_bytes(b"")
    assert {"segment_cut", "hole"} <= rules(verify(log, None))
    path.write_bytes(b"no header\n")
    assert "segment_unreadable" in rules(verify(log, None))


def test_lines_behind_a_footer(log: Path) -> None:
    path = segments(log)[-1]
    rewrite(path, lambda lines: [*lines, lines[-2]])
    assert "bytes_behind_footer" in rules(verify(log, None))


def test_a_whole_file_made_anew_with_a_right_looking_footer(log: Path, dsn: str) -> None:
    load(log, dsn)
    last, middle = segments(log)[-1], segments(log)[1]
    kept = last.read_bytes()
    head = take_head(take_files(log))
    rewrite(last, changed_byte, footer=True)
    assert said(verify(log, None)) == [], "the last one has its footer alone"
    changed = [finding for finding in verify(log, dsn).findings.kept if finding.rule == "segment_changed"]
    assert changed[0].what == "its bytes are not those that the database vouches for"
    assert said(verify(log, None, head=head)) == [("error", "head_changed")]
    last.write_bytes(kept)
    rewrite(middle, changed_byte, footer=True)
    assert only(verify(log, None)).what == "its bytes are not those that the next segment's header vouches for"


def test_a_footer_that_counts_wrong(log: Path) -> None:
    path = segments(log)[-1]
    rewrite(path, lambda lines: [*lines[:-1], lines[-1].replace(b'"records":', b'"records":1')])
    assert only(verify(log, None)).rule == "footer_wrong"


# -- the key --


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "seal.key"
    path.write_text("0123456789abcdef" * 4 + "\n")
    path.chmod(0o600)
    return path


def test_with_a_key_every_segment_is_sealed_and_no_footer_fits_another(tmp_path: Path, key: Path) -> None:
    log = tmp_path / "sealed"
    make(log, seal_key=key)
    seal = read_seal(key)
    assert verify(log, None, seal=seal).findings.kept == []
    last = segments(log)[-1]
    kept = last.read_bytes()
    rewrite(last, changed_byte, footer=True)
    assert only(verify(log, None, seal=seal)).rule == "unsealed"
    forged = last.read_bytes().replace(b'"recovered":false}', b'"recovered":false,"hmac":"%b"}' % (b"0" * 64))
    last.write_bytes(forged)
    assert only(verify(log, None, seal=seal)).rule == "seal_broken"
    last.write_bytes(kept)
    other = key.with_name("other")
    other.write_text("f" * 64)
    other.chmod(0o600)
    verdict = verify(log, None, seal=read_seal(other))
    assert [finding.rule for finding in verdict.findings.kept] == ["seal_broken"] * len(segments(log))


def test_what_is_recovered_without_the_key_is_not_sealed_and_with_it_is(tmp_path: Path, key: Path) -> None:
    for seal in (None, read_seal(key)):
        with tmpfs_folder() as ring_dir:
            log = tmp_path / f"audit-{bool(seal)}"

            def work(say: Callable[[int], None], log: Path = log, ring_dir: Path = ring_dir) -> None:
                audit = AuditLog(log, service="bot", ring_dir=ring_dir, ring_bytes=65536, seal_key=key)
                for number in range(1, 4):
                    position(audit, number)
                    say(number)
                os.kill(os.getpid(), 9)

            Bot(work).end()
            died = verify(log, None)
            assert [(f.severity, f.rule) for f in died.findings.kept] == [("information", "unfinished")]
            if seal:
                AuditLog(log, service="bot", ring_dir=ring_dir, ring_bytes=65536, seal_key=key).close()
            else:
                recovered(log, ring_dir)
        verdict = verify(log, None, seal=read_seal(key))
        assert verdict.records == 27
        if seal:
            assert said(verdict) == []
        else:
            assert only(verdict).rule == "unsealed"
            assert "recovered by a process without the key" in only(verdict).what


# -- the database --


def test_rows_changed(log: Path, dsn: str) -> None:
    load(log, dsn)
    run_sql(
        dsn,
        "UPDATE monitoring.trades SET price = 2.1119 WHERE seq = 2",
        "UPDATE monitoring.trades SET fee_currency = '' WHERE seq = 11",
        "UPDATE monitoring.trades SET executed_at = executed_at + interval '1 microsecond' WHERE seq = 20",
        "UPDATE monitoring.trades SET fees = '[]' WHERE seq = 6",
        "UPDATE monitoring.events SET event_data = event_data || '{\"x\": 1}' WHERE seq = 8",
        "UPDATE monitoring.order_updates SET price = 7 WHERE seq = 4",
        "UPDATE monitoring.orders SET size = 1 WHERE seq = 10",
        "UPDATE monitoring.orders SET status = 'FILLED' WHERE seq = 12",  # a fold
    )
    found = [(finding.rule, finding.seq, finding.what) for finding in verify(log, dsn).findings.kept]
    assert {rule for rule, *_ in found} == {"row_differs"}
    words = {
        2: "the row in trades is not what the log says: price is 2.1119, and 2.1118 in the log",
        11: "fee_currency is , and NULL in the log",
        20: "executed_at is 20",
        6: "fees is [], and [{",
        8: '"x": 1',
        4: "price is 7, and 2.05 in the log",
        10: "size is 1, and 94.7 in the log",
        12: "not what the order's records come to: status",
        3: "not what the order's records come to: price",
    }
    assert {seq for _, seq, _ in found} == set(words)
    assert all(words[seq or 0] in what for _, seq, what in found)


def test_rows_deleted(log: Path, dsn: str) -> None:
    load(log, dsn)
    rows = [
        ("trades", 2),
        ("events", 8),
        ("order_updates", 13),
        ("orders", 1),
        ("orders", 21),
    ]  # the last one is a fold
    run_sql(dsn, *(f"DELETE FROM monitoring.{table} WHERE seq = {seq}" for table, seq in rows))
    verdict = verify(log, dsn)
    found = {(finding.rule, finding.seq) for finding in verdict.findings.kept}
    assert found >= {("row_missing", seq) for _, seq in rows}
    # The fold of an order that lost a record is another; no hole is told of what is told as a row.
    assert found - {("row_missing", seq) for _, seq in rows} == {("row_differs", 12)}
    assert verdict.proved.endswith("complete, unchanged, consistent; logs and database do not agree")


def test_rows_that_no_record_made(log: Path, dsn: str) -> None:
    load(log, dsn)
    copy = "INSERT INTO monitoring.events (stream, seq, event_type) SELECT {}, {}, 'x' FROM monitoring.events"
    run_sql(
        dsn,
        copy.format("stream", "100000") + " LIMIT 1",
        copy.format("repeat('0', 32)", "1") + " LIMIT 1",
    )
    verdict = verify(log, dsn)
    found = [(finding.rule, finding.stream, finding.seq) for finding in verdict.findings.kept]
    assert sorted(found, key=str) == sorted(
        [("row_unknown", "0" * 32, None), ("row_unknown", str(read_header(segments(log)[0]).stream), 100000)],  # type: ignore[union-attr]
        key=str,
    )


def test_a_ledger_that_forgot_what_is_loaded(log: Path, dsn: str) -> None:
    load(log, dsn)
    run_sql(dsn, "DELETE FROM monitoring.audit_segments WHERE segment = 1")
    verdict = verify(log, dsn)
    assert rules(verdict) == {"row_unknown"}
    unknown = [finding for finding in verdict.findings.kept if finding.rule == "row_unknown"]
    assert all("though by the ledger it is not loaded" in finding.what for finding in unknown)
    run_sql(dsn, "DELETE FROM monitoring.audit_segments")
    assert rules(verify(log, dsn)) == {"row_unknown"}


def test_a_reader_may_verify(log: Path, dsn: str, cluster: Cluster) -> None:
    load(log, dsn)
    run_script(dsn, (sql_dir() / "roles.sql").read_text())
    name = urlsplit(dsn).path[1:]
    run_script(
        dsn,
        f"ALTER DATABASE {name} SET role = tradetrail_reader;"
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
    )
    assert verify(log, dsn).findings.kept == []


def test_all_rows_of_a_table_gone_are_one_finding_for_those_that_follow_each_other(log: Path, dsn: str) -> None:
    load(log, dsn)
    run_sql(dsn, "DELETE FROM monitoring.events")
    found = [finding for finding in verify(log, dsn).findings.kept if finding.rule == "row_missing"]
    assert len(found) == 20
    assert "(2)" in found[0].what


def test_a_kept_line_that_was_changed(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    segment(log, [line(1, "order.created", order(symbol=None)), line(2, "bot.noted", {})])
    load(log, dsn)
    assert said(verify(log, dsn)) == []
    run_sql(dsn, "UPDATE monitoring.audit_rejects SET raw = replace(raw, 'sell', 'buy')")
    assert only(verify(log, dsn)).rule == "reject_differs"
    run_sql(dsn, "DELETE FROM monitoring.audit_rejects")
    finding = only(verify(log, dsn))
    assert (finding.rule, finding.seq) == ("hole_in_database", 1)


# -- what is no fault --


def odd_lines() -> list[bytes]:
    """Rejected, repaired, repeated, unreadable, lost; and an order that is said again."""
    first = order(order_id="o1", filled=94.7)
    lost = {"count": 2, "ranges": [{"first": 12, "last": 13, "reason": "ring full"}]}
    control = {
        "stream": STREAM,
        "timestamp": "2026-11-22T13:10:00.012Z",
        "event_name": "audit.lost",
        "attributes": lost,
    }
    return [
        line(1, "order.created", first),
        line(2, "trade.executed", trade(executed_qty=94.7, signal_id="unknown")),
        line(3, "trade.executed", trade(executed_qty=94.7)),
        line(4, "order.created", order(symbol=None)),
        line(
            5,
            "order.created",
            order(order_id="o2", type="STOP_MARKET", status="NEW", price="1e-12", size="94.123456789"),
        ),
        line(6, "order.updated", update(order_id="o2", status="ODD")),
        line(7, "order.updated", {"exchange": "bybit", "symbol": "MNTUSDT"}),
        b'{"stream":"%b","seq":8,"timesta\n' % STREAM.encode(),
        b"\xff\xfe\n",
        line(10, "order.created", first),
        line(11, "trade.executed", trade(trade_id="t2", order_id=None, price="NaN", executed_qty=1)),
        json.dumps(control, separators=(",", ":")).encode() + b"\n",
        line(14, "bot.noted", {"a": "b"}),
    ]


@pytest.mark.parametrize("existing", [False, True], ids=["fresh", "existing bot"])
def test_losses_rejects_and_repairs_are_no_findings(
    tmp_path: Path, dsn: str, migrated_existing_dsn: str, existing: bool
) -> None:
    log, there = tmp_path / "audit", migrated_existing_dsn if existing else dsn
    segment(log, odd_lines())
    load(log, there)
    verdict = verify(log, there, ignored=["position_unknown"])
    assert said(verdict) == []
    assert {f.rule for f in verdict.findings.kept} == {"trade_said_again", "order_said_again"}
    assert (verdict.records, verdict.rejected, verdict.lost) == (12, 4, 2)
    assert verdict.proved == (
        "1 stream, 12 records, 2 declared lost, 4 rejected: complete, unchanged, consistent; logs and database agree"
    )


def test_a_mended_line_is_information(tmp_path: Path, dsn: str) -> None:
    log, mend = tmp_path / "audit", tmp_path / "mend.jsonl"
    segment(log, [line(1, "bot.noted", {}), line(2, "order.created", order(symbol=None, type="STOP"))])
    load(log, dsn)
    assert tradetrail("rejects", "export", mend, "--dsn", dsn).returncode == 0
    entry = json.loads(mend.read_text())
    entry["line"] = entry["line"].replace('"exchange"', '"symbol":"MNTUSDT","exchange"')
    mend.write_text(json.dumps(entry) + "\n")
    assert tradetrail("rejects", "retry", "--from", mend, "--dsn", dsn).returncode == 0
    verdict = verify(log, dsn)
    assert [(finding.rule, finding.seq) for finding in verdict.findings.kept] == [("row_mended", 2)]
    run_sql(dsn, "DELETE FROM monitoring.orders")
    assert only(verify(log, dsn)).rule == "row_missing"


def test_a_live_bot_that_is_loaded_in_part(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    with AuditLog(log, service="fox-bot", segment_max_bytes=8000) as audit:
        for number in range(1, 10):
            position(audit, number)
        audit.flush()
        load(log, dsn)
        trail = audit.bind(position_id=10, exchange="bybit", symbol="MNT/USDT:USDT")
        trail.order(order_id="e10", type="MARKET", side="buy", size=5, price=2, status="FILLED", filled=5)
        trail.trade(order_id="e10", trade_id="te10", side="buy", price=2, executed_qty=4)
        audit.flush()
        verdict = verify(log, dsn)
        assert [(f.severity, f.rule) for f in verdict.findings.kept] == [("information", "not_loaded")]
        assert (verdict.records, verdict.not_loaded) == (83, 2)


def test_bytes_that_a_later_segment_replaces(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    first = [line(seq, "bot.noted", {"n": seq}) for seq in range(1, 6)]
    one = open_segment(log, *first, stream=STREAM)
    size = len(b"".join(one.read_bytes().splitlines(keepends=True)[:4]))
    digest = hashlib.sha256(one.read_bytes()[:size]).hexdigest()
    open_segment(log, *first[3:], stream=STREAM, number=2, previous_sha256=digest, replaces=(Void(1, size),))
    load(log, dsn)
    assert verify(log, dsn).findings.kept == []
    one.write_bytes(one.read_bytes().replace(b'"n":2', b'"n":7'))
    assert "segment_changed" in rules(verify(log, None))


@pytest.mark.parametrize("lost", [b"", b"broken\n", b"b\n"], ids=["records", "a rejected line too", "a short one too"])
def test_a_loss_of_power_after_the_load(tmp_path: Path, dsn: str, lost: bytes) -> None:
    """The footer that recovery writes is longer than what was lost: other bytes stand in the place of a kept line."""
    log = tmp_path / "audit"
    records = [line(seq, "bot.noted", {"n": seq}) for seq in range(1, 6 if lost else 9)]
    path = segment(log, [*records[:4], lost, *records[4:]], closed=False)
    header = parse_header(path.read_bytes().splitlines()[0])
    assert header
    old = path.read_bytes().replace(str(header.boot_id).encode(), b"00000000-0000-0000-0000-000000000000", 1)
    path.write_bytes(old)

    async def work() -> None:
        async with Loader(LoadSettings(directory=log, dsn=dsn)) as loader:
            await loader.take(finish_dead=False)

    asyncio.run(work())
    lines = old.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    recovered(log, tmp_path)
    verdict = verify(log, dsn)
    assert [(finding.severity, finding.rule) for finding in verdict.findings.kept] == [
        ("information", "lost_after_load")
    ]


@pytest.mark.parametrize("existing", [False, True], ids=["fresh", "existing bot"])
def test_two_streams_with_all_that_a_loader_meets(tmp_path: Path, cluster: Cluster, existing: bool) -> None:
    """Late updates, orders of two streams, odd numbers and texts, in small batches: the rows are what the log says."""
    log = tmp_path / "audit"
    for stream in (STREAM, OTHER_STREAM):
        lines = all_sorts_of_records(stream)
        for number, part in enumerate((lines[:5], lines[5:13], lines[13:]), 1):
            segment(log, part, stream=stream, number=number)
    with cluster.database(cluster.template(existing=existing, migrated=True)) as dsn:
        load(log, dsn, batch_bytes=1500)
        verdict = verify(log, dsn)
        assert verdict.proved.endswith("logs and database agree")
        assert verdict.proved.startswith(
            "2 streams, 48 records, 14 rejected: complete" if not existing else "2 streams"
        )
        assert {finding.severity for finding in verdict.findings.kept} == {"warning", "information"}


def test_kills_failed_syncs_and_recoveries_are_no_findings(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    # What a kill between two records of a position keeps the bot from saying.
    unsaid = {"position_without_stop", "fills_differ_from_filled"}
    with tmpfs_folder() as ring_dir:
        for life in range(4):

            def work(say: Callable[[int], None], life: int = life, ring_dir: Path = ring_dir) -> None:
                if life % 2:
                    failing("fdatasync", errno.EIO, at=2)
                more: Any = {"ring_dir": ring_dir, "ring_bytes": 65536, "segment_max_bytes": 5000}
                audit = AuditLog(log, service="bot", flush_interval_ms=1, fsync_interval_ms=2, **more)
                for number in range(100 * life, 100 * life + 100):
                    position(audit, number)
                    say(number)

            bot = Bot(work)
            bot.wait_for(8 * (life + 1))
            bot.kill()
            died = verify(log, None)
            assert died.findings.has("unfinished")
            assert rules(died) <= unsaid
        recovered(log, ring_dir)
    load(log, dsn)
    verdict = verify(log, dsn)
    assert "complete, unchanged" in verdict.proved
    assert verdict.proved.endswith("logs and database agree")
    assert rules(verdict) <= unsaid


def test_a_bot_that_writes_meanwhile(tmp_path: Path, dsn: str) -> None:
    log, stop_ = tmp_path / "audit", threading.Event()
    audit = AuditLog(log, service="bot", segment_max_bytes=20_000, flush_interval_ms=1, fsync_interval_ms=5)

    def write() -> None:
        for number in itertools.count(1):
            position(audit, number)
            if stop_.wait(0.001):
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            load(log, dsn)
            assert said(verify(log, dsn)) == []
    finally:
        stop_.set()
        writer.join()
        audit.close()
    load(log, dsn)
    assert verify(log, dsn).findings.kept == []


_TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
    max_leaves=20,
)


def test_json_is_written_as_postgresql_writes_it(dsn: str) -> None:
    texts = [
        '{"a":1,"a":2,"bb":1,"b":{}}',
        "[1e5,1E+2,1.50,-0,-0.0,0e5,1.5e-7,12345678901234567890123]",
        r'" \u00e9\/ \u0001\b"',
    ]

    @settings(max_examples=200, deadline=None, database=None)
    @given(_JSON, st.booleans())
    def collect(value: object, ascii_only: bool) -> None:
        texts.append(json.dumps(value, ensure_ascii=ascii_only))

    async def asked() -> list[str]:
        async with await Database.connect(dsn) as database:
            sql = "SELECT x::jsonb::text AS text FROM unnest($1::text[]) WITH ORDINALITY AS t (x, n) ORDER BY n"
            return [row["text"] for row in await database.fetch(sql, texts)]

    collect()
    assert [jsonb_text(text) for text in texts] == asyncio.run(asked())


NUMBERS = [
    *(
        "0",
        "-0",
        "0.0",
        "-0.00",
        "5.",
        ".5",
        "-.5",
        "+5",
        "007",
        "-007.10",
        "94.7",
        "94.70",
        "100",
        "1e2",
        "1E+2",
        "0e5",
    ),
    *(
        "1.5e-7",
        "-1.25e3",
        "12.5e0",
        "1e-12",
        "1e20",
        "-0e0",
        "123.456e2",
        "123.456e1",
        "0.00012e3",
        "1.10e1",
        "1e-400",
    ),
]


def test_numbers_are_written_as_postgresql_writes_them(dsn: str) -> None:
    async def asked() -> list[str]:
        async with await Database.connect(dsn) as database:
            sql = "SELECT trim_scale(x::numeric)::text AS text FROM unnest($1::text[]) WITH ORDINALITY AS t (x, n)"
            return [row["text"] for row in await database.fetch(sql, NUMBERS)]

    with duckdb.connect() as engine:
        engine.execute(statements.load("checks/canonical.sql")["setup"])
        written = engine.execute("SELECT plain_number(x) FROM (SELECT unnest(?) AS x)", [NUMBERS]).fetchall()
    assert [text for (text,) in written] == asyncio.run(asked())


# -- consistent --


def rule_findings(tmp_path: Path, *lines: bytes) -> list[tuple[str, int | None]]:
    segment(tmp_path / "audit", lines)
    return [(finding.rule, finding.seq) for finding in verify(tmp_path / "audit", None).findings.kept]


def stop(**fields: Any) -> tuple[str, dict[str, Any]]:
    """The order that every position must have."""
    return "order.created", order(order_id="stop", type="STOP_MARKET", status="NEW", price=2, **fields)


def o(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "order.created", order(order_id=name, **fields)


def u(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "order.updated", update(order_id=name, **fields)


def t(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "trade.executed", trade(**{"order_id": name, "trade_id": f"{name}-{len(fields)}", **fields})


def numbered(records: list[tuple[str, dict[str, Any]]]) -> list[bytes]:
    return [line(seq, name, attributes) for seq, (name, attributes) in enumerate(records, 1)]


def test_what_does_not_fit_together(tmp_path: Path) -> None:
    """Each group breaks one rule, at the record that has the rule's name beside it."""
    broken: list[tuple[str, dict[str, Any], str]] = [
        (*stop(), ""),
        (*t("gone"), "trade_without_order"),
        (*o("a", position_id=None), "order_without_position"),
        (*o("b", position_id="pending"), "order_without_position"),
        (*o("c", position_id="7"), ""),
        (*t("c", position_id="7"), "position_without_stop"),
        (*o("d", filled=94.7), "fills_differ_from_filled"),
        (*t("d", executed_qty=94.6), ""),
        (*o("e", filled=94.7), "filled_without_fill"),
        (*o("f", filled=94), "filled_is_not_size"),
        (*t("f", executed_qty=94), ""),
        (*o("g"), ""),
        (*u("g", status="NEW"), "status_step"),
        (*o("h"), ""),
        (*u("h", status="CANCELED"), "status_step"),
        (*o("i", status="PARTIALLY_FILLED"), ""),
        (*u("i", status="OPEN"), "status_step"),
        (*o("j"), ""),
        (*t("j", trade_id="tj"), ""),
        (*t("j", trade_id="tj", price=3), "trade_repeated"),
        (*o("k"), ""),
        (*t("k", trade_id="tk"), ""),
        (*t("k", trade_id="tk"), "trade_said_again"),
        (*o("l"), ""),
        (*o("l"), "order_said_again"),
        (*o("m"), ""),
        (*t("m", cost=300), "cost_differs"),
    ]
    found = rule_findings(tmp_path, *numbered([(name, attributes) for name, attributes, _ in broken]))
    expected = [(rule, seq) for seq, (*_, rule) in enumerate(broken, 1) if rule]
    assert sorted(found) == sorted(expected)


def test_what_does_fit(tmp_path: Path) -> None:
    fitting = [
        stop(),
        # A cancel after a part.
        o("a", status="NEW"),
        u("a", status="PARTIALLY_FILLED", filled=1),
        u("a", status="PENDING_CANCEL"),
        t("a", executed_qty=1),
        u("a", status="CANCELLED"),
        u("a", status="CANCELED"),
        # A fill that is reported once more, without its id.
        o("b", filled=94.7),
        t("b", executed_qty=94.7, cost=199.98746),
        t("b", executed_qty=94.7, trade_id=None),
        # An inverse contract is worth its amount over the price.
        o("c", filled=10, size=10),
        t("c", executed_qty=10, contract_size=100, price=50, cost=20),
    ]
    assert rule_findings(tmp_path, *numbered(fitting)) == []


def test_the_clock(tmp_path: Path) -> None:
    at = "2026-11-22T13:10:{:02d}.000000Z"
    lines = [
        line(1, "bot.noted", {}, timestamp=at.format(10)),
        line(2, "bot.noted", {}, timestamp=at.format(9)),
        line(3, "bot.noted", {}, timestamp="2026-11-01T00:00:00Z", observed_timestamp=at.format(10)),
        line(4, "bot.noted", {}, timestamp=at.format(2)),
    ]
    assert rule_findings(tmp_path, *lines) == [("clock_went_back", 4)]


def test_positions_of_the_bot(tmp_path: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    make(log, positions=3)
    load(log, dsn)
    insert = "INSERT INTO monitoring.positions (id, exchange_order_id) VALUES "
    run_sql(dsn, insert + "(1, 'e1'), (2, 'other'), (4, 'gone')")
    verdict = verify(log, dsn)
    found = {(finding.rule, finding.seq) for finding in verdict.findings.kept}
    assert found == {("position_unknown", 19), ("entry_order_differs", 10)}
    assert verify(log, dsn, ignored=["position_unknown", "entry_order_differs"]).findings.kept == []


# -- the line that is kept elsewhere --


def test_the_head_is_one_line_however_many_streams(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    for n in range(200):
        segment(log, [line(1, "bot.noted", {}, stream=f"{n:032x}")], stream=f"{n:032x}")
    text = str(take_head(take_files(log)))
    assert len(text) < 5000
    head = Head.parse(text)
    assert (str(head), head.older, len(head.entries)) == (text, 168, 32)
    segment(log, [line(1, "bot.noted", {}, stream="f" * 32)], stream="f" * 32)
    assert verify(log, None, head=head).findings.kept == [], "what came since is no finding"
    old = next(log.glob(f"*{7:032x}*"))
    rewrite(old, lambda lines: [*lines[:1], lines[1].replace(b"noted", b"waits"), *lines[2:]], footer=False)
    kept = old.read_bytes()
    body = kept[: body_size(old)]
    old.write_bytes(
        body + footer_line(take_files(log).files[f"{7:032x}", 1].name, records=1, first_seq=1, last_seq=1,
                           sha256=hashlib.sha256(body).hexdigest())
    )  # fmt: skip
    assert only(verify(log, None, head=head)).rule == "head_changed"
    old.unlink()
    assert only(verify(log, None, head=head)).rule == "head_missing"


def test_a_live_stream_may_go_on_after_its_head(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    with AuditLog(log, service="fox-bot", segment_max_bytes=8000) as audit:
        position(audit, 1)
        audit.flush()
        head = take_head(take_files(log))
        for number in range(2, 20):
            position(audit, number)
        audit.flush()
        assert said(verify(log, None, head=head)) == []
    assert said(verify(log, None, head=head)) == []
    rewrite(segments(log)[0], changed_byte, footer=True)
    assert ("error", "head_changed") in said(verify(log, None, head=head))


# -- the command --


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs ``tradetrail verify`` in this process; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TRADETRAIL_")]:
        monkeypatch.delenv(name)

    def verify_command(*args: str | Path) -> tuple[int, str]:
        code = run(["verify", *map(str, args)])
        return code, capsys.readouterr().out

    return verify_command


def test_the_command_says_what_was_proved(log: Path, dsn: str, tmp_path: Path, command: Command) -> None:
    alone = tradetrail("verify", "--dir", log, cwd=tmp_path)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout.splitlines() == [
        "Not held against a database: none given, and none in var/postgres",
        "Without one, only --against can tell whether the end of a stream was cut off at a line",
        "1 stream, 180 records: complete, unchanged, consistent",
    ]
    load(log, dsn)
    code, text = command("--dir", log, "--dsn", dsn, "--json")
    found = json.loads(text)
    assert (code, found["findings"], found["database"]) == (0, [], "ok")
    assert found["proved"].endswith("logs and database agree")
    run_sql(dsn, "UPDATE monitoring.trades SET price = price + 1")
    code, text = command("--dir", log, "--dsn", dsn)
    assert code == 1
    assert "and 37 more; --json has all" in text
    code, text = command("--dir", log, "--dsn", dsn, "--json")
    found = json.loads(text)
    assert (code, found["counts"], len(found["findings"])) == (1, {"row_differs": 40}, 40)
    assert set(found["findings"][0]) == {"rule", "severity", "what", "stream", "seq", "segment"}
    assert command("--dir", log, "--dsn", dsn, "--ignore", "row_differs")[0] == 0
    code, text = command("--dir", log, "--dsn", dsn, "--no-database")
    assert (code, "Not held against a database: left out" in text) == (0, True)


def test_information_alone_is_no_reason_for_an_alarm(log: Path, dsn: str, command: Command) -> None:
    load(log, dsn)
    segments(log)[0].unlink()
    code, text = command("--dir", log, "--dsn", dsn)
    assert code == 0
    assert "segment_archived" in text


def test_head_and_against(log: Path, tmp_path: Path, command: Command) -> None:
    code, text = command("--dir", log, "--head")
    assert (code, len(text.splitlines())) == (0, 1)
    kept = tmp_path / "head"
    kept.write_text(text)
    for way in (text.strip(), f"@{kept}"):
        assert command("--dir", log, "--against", way)[0] == 0
    rewrite(segments(log)[-1], lambda lines: lines[:-2])
    code, text = command("--dir", log, "--against", f"@{kept}")
    assert (code, "head_cut" in text) == (1, True)


def test_wrong_use_is_one_line(log: Path, tmp_path: Path, command: Command) -> None:
    for words, args in (
        ("no whole line", ("--against", "tradetrail-head:1 x")),
        ("cannot be read", ("--against", "@nowhere")),
        ("no rule nonsense", ("--ignore", "nonsense")),
    ):
        with pytest.raises(UsageError, match=words):
            command("--dir", log, *args)
    with pytest.raises(UsageError, match="no such directory"):
        command("--dir", tmp_path / "nowhere")
    assert "cannot be read" in one_line(tradetrail("verify", "--dir", log, "--key", tmp_path / "none"), 2)
    away = tradetrail("verify", "--dir", log, "--dsn", "postgresql://nobody@127.0.0.1:1/none")
    assert (away.returncode, len(away.stderr.splitlines())) == (3, 1)
    assert "complete, unchanged, consistent" in away.stdout


def test_the_rules_are_listed(command: Command) -> None:
    found = json.loads(command("--rules", "--json")[1])
    assert [(rule["rule"], rule["severity"]) for rule in found] == [
        (name, severity) for name, severity, _ in described()
    ]
    assert len({name for name, *_ in described()}) == len(found)
    shown = command("--rules")[1]
    assert all(name in shown for name, *_ in BUILT_IN)


@pytest.mark.parametrize(
    ("first", "last", "fits"), [(1, 3, True), (2, 3, True), (1, 2, True), (3, 3, False), (1, 1, False)]
)
def test_a_footer_may_count_a_line_that_cannot_be_read_as_first_or_last(
    tmp_path: Path, first: int, last: int, fits: bool
) -> None:
    """Recovery counts by the first bytes of a line; a record whose rest a disk spoilt is still the one it was."""
    lines = [line(1, "noted", {})[:60] + b"\n", line(2, "noted", {}), line(3, "noted", {})[:60] + b"\n"]
    path = open_segment(tmp_path, *lines, stream=STREAM)
    body = path.read_bytes()
    name = SegmentName(STREAM, 1, path.name.partition(".")[0])
    digest = hashlib.sha256(body).hexdigest()
    path.write_bytes(body + footer_line(name, records=3, first_seq=first, last_seq=last, sha256=digest))
    assert rules(verify(tmp_path, None)) == (set() if fits else {"footer_wrong"})
