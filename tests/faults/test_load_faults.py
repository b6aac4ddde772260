"""What may befall a load: poison, files that are others than they were, a server with its own idea of time and text."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emitter import AuditLog
from emitter.segments import new_stream
from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings
from loader.spool import MAX_KEPT_BYTES
from loader.totals import Totals

from ..bots import Bot, recovered
from ..command import environment, tradetrail
from ..contents import agreement, all_loaded, assert_same, contents
from ..disks import small_tmpfs
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.figures import Figures
from ..plugins.postgres import Cluster
from ..trail import only
from .oracle import payload
from .test_disk import SLOW_S, until


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def take(dsn: str, directory: Path) -> Totals:
    async with Loader(LoadSettings(directory=directory, dsn=dsn)) as loader:
        return await loader.take()


async def test_a_poisoned_line_among_ten_thousand_costs_itself(dsn: str, log: Path) -> None:
    """L14: one record of each poison that is valid JSON; it is kept whole with its place, all others are rows."""
    poison = {
        2_000: {"text": "a\u0000b"},
        4_000: {"n": 10**400},
        6_000: json.loads("[" * 400 + "]" * 400),
        8_000: {"text": "\ud800"},
    }
    lines = [line(seq, "ping", {"n": seq}) for seq in range(1, 10_001)]
    for seq, value in poison.items():
        lines[seq - 1] = json.dumps(json.loads(lines[seq - 1]) | {"attributes": {"poison": value}}).encode() + b"\n"
    lines[9_000] = line(9_001, "order.created", order(price="1e200000"))
    path = segment(log, lines)
    totals = await take(dsn, log)
    assert totals.records == 10_000
    async with await Database.connect(dsn) as database:
        kept = await database.fetch("SELECT seq, byte_offset, raw FROM monitoring.audit_rejects ORDER BY seq")
        there = {row["seq"] for row in await database.fetch("SELECT seq FROM monitoring.events")}
        assert await agreement(database) == 10_000
    data = path.read_bytes()
    for row in kept:
        assert data[row["byte_offset"] :].startswith(lines[row["seq"] - 1])
    lost = set(range(1, 10_001)) - there
    assert lost <= {row["seq"] for row in kept} <= {*poison, 9_001}
    assert 9_001 in lost


async def test_a_file_of_poison_only_is_rejected_to_its_end_and_the_next_one_loads(dsn: str, log: Path) -> None:
    """L15: the ledger moves behind it; nothing of it is tried again by itself."""
    segment(log, [b"\xff\xfe poison %d\n" % n for n in range(500)])
    segment(log, [line(seq, "ping", {"n": seq}, stream=OTHER_STREAM) for seq in range(1, 21)], stream=OTHER_STREAM)
    totals = await take(dsn, log)
    assert (totals.records, totals.rejected, totals.events) == (520, 500, 20)
    again = await take(dsn, log)
    assert (again.records, again.rejected) == (0, 0)
    assert await all_loaded(dsn, log) == 520


async def test_a_file_made_anew_with_the_same_inode_and_name_is_not_taken_for_the_old_one(dsn: str, log: Path) -> None:
    """L17: whose it is stands in its header and in what the ledger knows of its bytes; the old one's rows stay."""
    old = segment(log, [line(seq, "ping", {"n": seq}) for seq in range(1, 11)], closed=False)
    assert (await take(dsn, log)).records == 10
    before = await contents(dsn)
    inode = old.stat().st_ino
    fresh = [line(seq, "ping", {"n": 100 + seq}, timestamp="2026-11-23T00:00:00.000000Z") for seq in range(1, 21)]
    with old.open("r+b") as file:  # as a file system does that gives an inode again at once
        file.truncate(0)
    segment(log, fresh, closed=False)
    assert old.stat().st_ino == inode
    totals = await take(dsn, log)
    assert (totals.records, list(totals.problems)) == (0, [old.name])
    assert_same(await contents(dsn), before)
    # Under a name of its own the same inode is another file, and the one that is gone is said to be missing.
    stream = new_stream()
    other = old.rename(old.with_name(old.name.replace(STREAM, stream)))
    other.write_bytes(other.read_bytes().replace(STREAM.encode(), stream.encode()))
    assert other.stat().st_ino == inode
    assert (await take(dsn, log)).records == 20


async def test_a_record_told_again_with_other_values_does_not_overwrite_the_first(dsn: str, log: Path) -> None:
    """L21: the same (stream, seq) comes again from a file that others put in the first one's place; verify says so."""
    said = segment(log, [line(seq, *payload(4 * seq + 2)) for seq in range(1, 6)])
    assert (await take(dsn, log)).trades == 5
    before = await contents(dsn)
    said.write_bytes(said.read_bytes().replace(b'"executed_qty":1', b'"executed_qty":7'))
    async with await Database.connect(dsn) as database:
        await database.execute("DELETE FROM monitoring.audit_segments")
    totals = await take(dsn, log)
    assert (totals.records, totals.trades, totals.duplicates) == (5, 0, 5)
    assert (await contents(dsn))["trades"] == before["trades"]
    verdict = await asyncio.to_thread(tradetrail, "verify", "--dir", log, "--dsn", dsn, "--json")
    rules = {found["rule"] for found in json.loads(verdict.stdout)["findings"]}
    assert verdict.returncode == 1
    assert "row_differs" in rules


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
def test_a_server_of_another_time_zone_style_and_encoding_holds_the_same_values(
    cluster: Cluster, dsn: str, log: Path, encoding: str
) -> None:
    """L24: times, numbers and texts are sent as what they are, and not as that server would read them."""
    segment(
        log,
        [
            line(1, "order.created", order(created_at="2026-03-29T01:30:00.123456+02:00", price="0.1")),
            line(2, "order.updated", update(updated_at=1_774_744_200_123, status="FILLED", reason="größer ✓")),
            line(3, "trade.executed", trade(executed_at="2026-10-25T00:30:00Z", executed_qty="1e-8")),
            line(4, "bot.noted", {"text": "\N{GRINNING FACE} \\ ' \" , \t", "at": "1970-01-01T00:00:00Z"}),
        ],
    )  # fmt: skip
    asyncio.run(take(dsn, log))
    name = f"tradetrail_odd_{os.getpid()}_{encoding.lower()}"
    cluster.run(cluster.admin_dsn, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        cluster.run(
            cluster.admin_dsn,
            f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'",
            f"ALTER DATABASE {name} SET datestyle = 'German, DMY'",
            f"ALTER DATABASE {name} SET intervalstyle = 'sql_standard'",
            f"ALTER DATABASE {name} SET extra_float_digits = -10",
            f"ALTER DATABASE {name} SET bytea_output = 'escape'",
        )
        done = tradetrail("migrate", "--dsn", cluster.dsn(name))
        assert done.returncode == 0, done.stderr
        asyncio.run(take(cluster.dsn(name), log))
        assert_same(asyncio.run(contents(cluster.dsn(name))), asyncio.run(contents(dsn)))
    finally:
        cluster.drop(name)


async def test_a_line_of_8_mb_is_one_reject_and_the_others_load(dsn: str, log: Path) -> None:
    """L25: whoever wrote it; it is far beyond what a line may be."""
    lines = [line(seq, "ping", {"n": seq}) for seq in range(1, 102)]
    lines[50] = line(51, "ping", {"text": "x" * 8_000_000})
    segment(log, lines)
    totals = await take(dsn, log)
    assert (totals.events, totals.rejected) == (100, 1)
    async with await Database.connect(dsn) as database:
        assert await agreement(database) == 101


@pytest.mark.long
async def test_of_a_line_longer_than_memory_should_hold_the_beginning_is_kept_and_the_rest_is_pointed_at(
    dsn: str, log: Path
) -> None:
    """L25: 30 MB in one line, in letters of two bytes: one reject that says its length and place; the others load."""
    lines = [line(seq, "ping", {"n": seq}) for seq in range(1, 102)]
    lines[50] = lines[50].replace(b'{"n":51}', b'{"text":"' + "\u00e9".encode() * 15_000_000 + b'"}')
    path = segment(log, lines)
    totals = await take(dsn, log)
    assert (totals.events, totals.rejected) == (100, 1)
    async with await Database.connect(dsn) as database:
        (row,) = await database.fetch("SELECT byte_offset, raw, reasons FROM monitoring.audit_rejects")
        assert await agreement(database) == 101
    kept = row["raw"].encode()
    assert path.read_bytes()[row["byte_offset"] :].startswith(kept)
    assert MAX_KEPT_BYTES - 4 <= len(kept) <= MAX_KEPT_BYTES
    size = len(lines[50]) - 1
    assert row["reasons"] == [
        f"line_too_long: the line is longer than 1048576 bytes: {size}, of which the first {len(kept)} are kept here"
    ]
    for words, said in (
        (("verify", "--dsn", dsn), "logs and database agree"),
        (("archive", "--dsn", dsn), "1 segment archived"),
        (("query", "SELECT count(*) || ' up to ' || max(seq) FROM records"), "100 up to 101"),
    ):
        done = await asyncio.to_thread(tradetrail, *words, "--dir", log)
        assert said in done.stdout, done.stderr


@pytest.mark.long
def test_a_loader_without_the_memory_it_needs_ends_and_the_next_one_completes_it(
    dsn: str, log: Path, figures: Figures
) -> None:
    """L25: a memory cgroup around a load of 110 MB; rows and ledger agree whatever came of it.

    And without one: two batches of long lines at once need more than the checks may have, and take turns.
    """
    group = Path("/sys/fs/cgroup/memory") / f"tradetrail-test-{os.getpid()}"
    if not group.parent.is_dir() or not os.access(group.parent, os.W_OK):
        pytest.skip("no memory cgroup (version 1) may be made here")
    segment(log, (line(seq, "ping", {"n": seq, "text": "y" * 900}) for seq in range(1, 100_001)))
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(160 * 1024 * 1024))
        words = [Path(sys.executable).with_name("tradetrail"), "load", "--dir", log, "--dsn", dsn]
        within = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
        done = subprocess.run([*within, *words], capture_output=True, text=True, env=environment(), timeout=100)
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    print(f"within 160 MB: exit {done.returncode} {done.stderr[-200:]}")
    assert "Traceback" not in done.stderr

    async def complete() -> None:
        async with await Database.connect(dsn) as database:
            before = await agreement(database)
        totals = await take(dsn, log)
        assert before + totals.records == 100_000
        assert await all_loaded(dsn, log) == 100_000

    asyncio.run(complete())
    figures.add(faults=1, records=100_000)


async def test_a_file_of_a_later_version_is_refused_by_name_and_taken_by_who_knows_it(dsn: str, log: Path) -> None:
    """X3: an old loader beside a new emitter; its ledger does not move, and the files of this version load."""
    old = segment(log, [line(seq, "ping", {"n": seq}) for seq in range(1, 6)])
    lines = [line(seq, "ping", {"n": seq}, stream=OTHER_STREAM) for seq in range(1, 8)]
    new = segment(log, lines, stream=OTHER_STREAM, closed=False)
    data = new.read_bytes()
    new.write_bytes(data.replace(b'"schema_version":1', b'"schema_version":2', 1))
    totals = await take(dsn, log)
    assert (totals.events, list(totals.problems)) == (5, [new.name])
    assert "2" in totals.problems[new.name]
    async with await Database.connect(dsn) as database:
        assert await database.fetchval("SELECT count(*) FROM monitoring.audit_segments") == 1
    new.write_bytes(data)  # to the loader of that version it is one like others
    assert (await take(dsn, log)).events == 7
    assert old.exists()


def test_a_full_disk_an_absent_database_and_a_sigterm_at_once_cost_declared_losses_only(
    tmp_path: Path, ring_dir: Path, dsn: str
) -> None:
    """X2: for root; the bot ends in its time, ``watch`` waits; in the end everything is accounted for."""
    with small_tmpfs(tmp_path / "disk", "1m") as disk:
        log = disk / "log"

        def bot(say: object) -> None:
            audit = AuditLog(log, service="fox-bot", ring_dir=ring_dir, ring_bytes=64 * 1024, flush_interval_ms=1)
            ended = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: ended.set())
            while not ended.is_set():
                say(audit.event("x", text="y" * 200))  # type: ignore[operator]
            began = time.monotonic()
            audit.close(0.3)
            assert time.monotonic() - began < 0.3 + SLOW_S

        (disk / "ballast").write_bytes(bytes(512 * 1024))
        process = Bot(bot)
        process.wait_for(1)
        away = dsn.replace("host=", "host=/nowhere")
        watch = subprocess.Popen(
            [Path(sys.executable).with_name("tradetrail"), "watch", "--dir", log, "--dsn", away],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        try:
            assert watch.stderr is not None
            while "trying again" not in watch.stderr.readline():
                assert watch.poll() is None
            while os.statvfs(disk).f_bavail:
                process.wait_for(len(process.acked) + 100)
            os.kill(process.pid, signal.SIGTERM)
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(20) == 0
        finally:
            watch.kill()
            watch.wait(20)
            watch.stderr.close()
        status, acked = process.end()
        assert status == 0
        (disk / "ballast").unlink()
        recovered(log, ring_dir)
        trail = only(log).check()
        assert acked == sorted(trail.seqs + trail.lost) == list(range(1, len(acked) + 1))
        assert {reason for _, _, reason in trail.losses} == {"ring full"}
        totals = asyncio.run(take(dsn, log))
        assert (totals.records, totals.lost) == (len(trail.seqs), len(trail.lost))
