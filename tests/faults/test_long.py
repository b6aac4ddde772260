"""What takes minutes or a root's means: ``make test-faults``. Each test says aloud where its means are missing."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import emitter.writer
from emitter import AuditLog
from emitter.recovery import recover
from emitter.shared import list_rings
from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings

from ..bots import Bot, ended, forked, recovered, tmpfs_folder
from ..disks import grow, small_tmpfs, thin_disk
from ..plugins.figures import Figures
from ..plugins.postgres import Cluster
from ..plugins.server import Server
from ..trail import only
from .siege import besiege, summed
from .test_disk import conserved, emit

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ROUNDS = 300


@pytest.fixture
def ring_dir() -> Iterator[Path]:
    with tmpfs_folder() as folder:
        yield folder


@contextmanager
def killed_after(seconds: float, pid: int) -> Iterator[None]:
    """A child of ours is killed after some time, if it has not ended by then; never who may have its number later."""
    child = os.pidfd_open(pid)

    def kill() -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        os.close(child)


# -- kill -9 --


def test_hundreds_of_kills_at_any_instant(tmp_path: Path, ring_dir: Path, figures: Figures) -> None:
    """E1: rotation every few KB; the recovery of every third round is killed as well, up to three times."""
    seed = int(os.environ.get("TRADETRAIL_TEST_SEED", time.time_ns() % 2**32))
    print(f"seed {seed}")
    chance = random.Random(seed)
    said = kept = lost = segments = killed_recoveries = 0
    for turn in range(ROUNDS):
        log = tmp_path / f"log{turn}"
        settings: dict[str, Any] = {
            "service": "fox-bot", "ring_dir": ring_dir, "ring_bytes": 64 * 1024 if turn % 5 == 0 else 64 * 1024 * 1024,
            "segment_max_bytes": chance.choice([900, 2048, 4096, 8192]),
            "flush_interval_ms": chance.choice([1, 2, 20]), "fsync_interval_ms": chance.choice([1, 5, 50]),
        }  # fmt: skip
        size = chance.choice([10, 200, 1500])

        def bot(
            say: Callable[[int], None], log: Path = log, settings: dict[str, Any] = settings, size: int = size
        ) -> None:
            audit = AuditLog(log, **settings)
            number = 0
            while True:
                say(audit.event("x", number=number, text="y" * size))
                number += 1

        process = Bot(bot)
        process.wait_for(1)
        with killed_after(chance.choice([0.0, 0.002, 0.03, 0.15]) * chance.random(), process.pid):
            status, acked = process.end()
        assert status == -signal.SIGKILL
        for _ in range(chance.randrange(4) if turn % 3 == 0 else 0):
            pid = forked(lambda log=log: recover(log, ring_dir=ring_dir))
            with killed_after(0.003 * chance.random(), pid):
                killed_recoveries += ended(pid) == -signal.SIGKILL
        recovered(log, ring_dir)
        trail = only(log).check()
        assert acked == list(range(1, len(acked) + 1))
        assert Counter(trail.seqs + trail.lost) == Counter(range(1, len(trail.seqs) + len(trail.lost) + 1))
        assert set(acked) <= set(trail.seqs) | set(trail.lost)
        assert turn % 5 == 0 or not trail.lost, "only the small ring fills"
        for record in trail.records:
            assert record["attributes"]["number"] == record["seq"] - 1
        assert list_rings(ring_dir) == []
        said, kept, lost = said + len(acked), kept + len(trail.seqs), lost + len(trail.lost)
        segments += len(trail.segments)
        shutil.rmtree(log)
    print(f"{ROUNDS} kills of bots, {killed_recoveries} of recoveries")
    print(f"{said} seqs said, {kept} records in {segments} segments")
    print(f"{lost} declared lost in the {ROUNDS // 5} rounds with a small ring")
    figures.add(kills=ROUNDS + killed_recoveries, records=kept)
    assert segments > 10 * ROUNDS
    assert killed_recoveries > 10


@pytest.mark.parametrize(("loaders", "rounds"), [(1, 120), (2, 100), (4, 80)])
def test_hundreds_of_kills_of_loaders_while_bots_write(
    server: Server, own_cluster: Cluster, tmp_path: Path, ring_dir: Path, figures: Figures, loaders: int, rounds: int
) -> None:
    """L8, L6: and of their connections, of the server, and of the bots."""
    directory = tmp_path / "audit"
    directory.mkdir(mode=0o700)
    counts = besiege(server, own_cluster, directory, ring_dir, loaders=loaders, rounds=rounds, existing=loaders == 2)
    figures.add(**summed(counts))
    assert counts["killed"] == rounds
    assert counts["looks"] > rounds // 40
    for fault in ("server crashed", "server restarted", "loaders stopped", "asked to end", "bots killed", "proxy: cut"):
        assert counts[fault] > 0, fault
    assert counts["commits"] > rounds // 4


# -- many threads --


def test_eight_threads_flat_out(tmp_path: Path) -> None:
    threads, each = 8, 50_000
    audit = AuditLog(tmp_path / "log", service="fox-bot", ring_bytes=256 * 1024 * 1024)
    seqs: list[list[int]] = [[] for _ in range(threads)]

    def bot(number: int) -> None:
        mine = seqs[number]
        for turn in range(each):
            mine.append(audit.order(thread=number, turn=turn, exchange="bybit", symbol="MNTUSDT", status="NEW"))

    workers = [threading.Thread(target=bot, args=(number,)) for number in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - began
    assert audit.close(60)
    stats = audit.stats()
    print(f"{threads * each / took:,.0f} records/s; ring at most {stats.ring_high_water_bytes:,} bytes")
    assert (stats.emitted, stats.written, stats.lost) == (threads * each, threads * each, 0)
    trail = only(tmp_path / "log").check()
    assert trail.seqs == list(range(1, threads * each + 1))
    by_seq = {r["seq"]: (r["attributes"]["thread"], r["attributes"]["turn"]) for r in trail.records}
    for number, mine in enumerate(seqs):
        assert [by_seq[seq] for seq in mine] == [(number, turn) for turn in range(each)]


# -- disks --


def test_a_small_disk_that_fills_and_is_freed_again_and_again(
    tmp_path: Path, ring_dir: Path, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F4: every other time the ring fills as well: then what did not fit is declared, and nothing else is missing."""
    monkeypatch.setattr(emitter.writer, "_BACKOFF_MOST_S", 0.02)
    with small_tmpfs(tmp_path / "disk", "1m") as disk:
        log = disk / "log"
        audit = AuditLog(
            log, service="fox-bot", ring_dir=ring_dir, ring_bytes=256 * 1024, segment_max_bytes=64 * 1024,
            flush_interval_ms=1, fsync_interval_ms=5,
        )  # fmt: skip
        emitted, worst, lossy = 0, 0.0, 0
        for cycle in range(1, 13):
            while audit.flush(0.3):
                worst = max(worst, emit(audit, 100, emitted + 1))
                emitted += 100
            assert "No space left on device" in str(audit.stats().last_error)
            lost = audit.stats().lost
            more = 100 if cycle % 2 else 1500
            worst = max(worst, emit(audit, more, emitted + 1))
            emitted += more
            only(log).check(finished=False)
            assert (audit.stats().lost > lost) == (cycle % 2 == 0)
            lossy += audit.stats().lost > lost
            lost = audit.stats().lost
            grow(disk, f"{cycle + 1}m")
            assert audit.flush(30), "it heals alone"
            assert audit.stats().lost == lost
        assert audit.close()
        stats = conserved(audit, log, emitted)
        assert set(stats.lost_by_reason) == {"ring full"}
        assert lossy == 6
        print(f"{emitted} records, {stats.lost} declared lost, {len(only(log).segments)} segments, worst call {worst}")
        figures.add(faults=12, records=emitted)


async def test_a_disk_that_lost_what_it_was_given(
    tmp_path: Path, ring_dir: Path, dsn: str, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F9: a sync fails and the kernel drops the pages; once read anew from the disk, the bytes are zeros.

    All the same each record stands once in what is not void, and once in the tables.
    """
    monkeypatch.setattr(emitter.writer, "_BACKOFF_MOST_S", 0.02)
    monkeypatch.setattr(emitter.writer, "_SYNC_BACKOFF_MOST_S", 0.2)
    with thin_disk(tmp_path, "3m") as disk:
        log = disk.path / "log"
        audit = AuditLog(
            log, service="fox-bot", ring_dir=ring_dir, ring_bytes=16 * 1024 * 1024, segment_max_bytes=300_000,
            flush_interval_ms=1, fsync_interval_ms=20,
        )  # fmt: skip
        emitted = 0

        def batch() -> None:
            nonlocal emitted
            for _ in range(100):
                emitted += 1
                fields = {"exchange": "bybit", "symbol": "MNTUSDT", "order_id": f"o{emitted}", "side": "buy"}
                if emitted % 3 == 0:
                    fields |= {"trade_id": f"t{emitted}", "price": 2, "executed_qty": 1}  # type: ignore[dict-item]
                    assert audit.trade(**fields, number=emitted) == emitted
                elif emitted % 3 == 1:
                    assert audit.order(**fields, type="MARKET", status="NEW", number=emitted) == emitted
                else:
                    assert audit.event("x", number=emitted, text="y" * 200) == emitted

        while audit.stats().last_error is None:
            batch()
            audit.flush(0.2)
            assert emitted < 100_000
        failed = audit.stats().last_error
        for _ in range(20):  # while the disk goes on to fail
            batch()
            audit.flush(0.05)
        disk.heal()
        assert audit.flush(60), audit.stats()
        for _ in range(5):
            batch()
        assert audit.close(30)
        stats = audit.stats()
        assert (stats.emitted, stats.written, stats.lost) == (emitted, emitted, 0)
        before = {path.name: path.read_bytes() for path in log.iterdir()}
        disk.read_anew()
        gone = sum(
            sum(a != b for a, b in zip(data, (log / name).read_bytes().ljust(len(data)), strict=False))
            for name, data in before.items()
        )
        trail = only(log).check()
        figures.add(faults=1, records=emitted)
        print(
            f"{failed}; {emitted} records, {len(trail.void)} of {len(trail.segments)} segments given up, "
            f"{gone} bytes gone"
        )
        assert gone > 0, "the disk lost nothing: the test has shown nothing"
        assert trail.void
        assert trail.seqs == list(range(1, emitted + 1))
        for record in trail.records:
            assert record["attributes"]["number"] == record["seq"]
        async with Loader(LoadSettings(directory=log, dsn=dsn)) as loader:
            totals = await loader.take()
        assert (totals.records, totals.rejected, totals.problems) == (emitted, 0, {})
        async with await Database.connect(dsn) as database:
            rows = await database.fetch(
                "SELECT seq FROM monitoring.orders UNION ALL SELECT seq FROM monitoring.trades"
                " UNION ALL SELECT seq FROM monitoring.events ORDER BY seq"
            )
        assert [row["seq"] for row in rows] == list(range(1, emitted + 1))


# -- a sync of two seconds --

_SLOW_SYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
volatile int sync_takes_ms = 0;
volatile int slow_syncs = 0;
volatile int synced = 0;
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (sync_takes_ms) { slow_syncs++; usleep(1000 * sync_takes_ms); }
    int done = real(fd);
    synced++;
    return done;
}
"""

_PACED = """
import ctypes, json, sys, time
from emitter import AuditLog
shim = ctypes.CDLL(None)
takes, slow, synced = (ctypes.c_int.in_dll(shim, name) for name in ("sync_takes_ms", "slow_syncs", "synced"))
audit = AuditLog(sys.argv[1], service="fox-bot")
fields = dict(position_id=55, exchange="bybit", symbol="MNTUSDT", order_id="d2e5a4a0", client_order_id="fox",
    type="MARKET", side="sell", size=94.7, price=2.1118, status="FILLED", filled=94.7, remaining=0, fee=0.1,
    fee_currency="USDT")

def until(counter, wanted):
    while counter.value < wanted:
        audit.order(**fields)  # so that there is something to sync
        time.sleep(0.01)

blocks, oldest = [], 0.0
for block in range(10):
    takes.value = 2000 * (block % 2)
    if block % 2:
        until(slow, slow.value + 1)  # a slow one has begun
    else:
        until(synced, synced.value + 2)  # the last slow one has ended, and one more
    spent, due = [], time.perf_counter()
    for number in range(12_000):
        due += 0.0002
        while time.perf_counter() < due:
            pass
        began = time.perf_counter_ns()
        audit.order(**fields)
        spent.append(time.perf_counter_ns() - began)
        if number % 1000 == 0:
            oldest = max(oldest, audit.stats().last_sync_age_s)
    spent.sort()
    blocks.append({"slow": block % 2, "p50": spent[6000], "p999": spent[-12], "max": spent[-1]})
takes.value = 0
closed = audit.close(30)
stats = audit.stats()
print(json.dumps({"blocks": blocks, "slow_syncs": slow.value, "oldest": oldest, "closed": closed,
    "emitted": stats.emitted, "written": stats.written, "lost": stats.lost}))
"""


def test_syncs_of_two_seconds_do_not_show_in_a_call(tmp_path: Path) -> None:
    """F10: ``stats()`` tells how old the last sync is."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc here to make a slow fdatasync with")
    source, shim = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(_SLOW_SYNC)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", shim, source, "-ldl"], check=True)
    ratios = []
    for attempt in range(3):  # another program may have been busy in one kind of block and not in the other
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_PACED), tmp_path / f"log{attempt}"],
            env={**os.environ, "LD_PRELOAD": str(shim)}, capture_output=True, text=True, check=True, timeout=200,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert found["slow_syncs"] >= 5
        assert found["oldest"] > 1.5, "no sync was slow"
        assert found["closed"]
        assert (found["emitted"], found["lost"]) == (found["written"], 0)
        assert len(only(tmp_path / f"log{attempt}").check().seqs) == found["emitted"] > 120_000
        kinds = [[b for b in found["blocks"] if b["slow"] == slow] for slow in (0, 1)]
        p50, p999 = ([statistics.median(b[name] for b in kind) for kind in kinds] for name in ("p50", "p999"))
        ratios.append(p999[1] / p999[0])
        print(
            f"syncs of 0 and of 2 s: p50 {p50[0] / 1000:.1f} and {p50[1] / 1000:.1f} us,"
            f" p99.9 {p999[0] / 1000:.1f} and {p999[1] / 1000:.1f} us"
        )
        if ratios[-1] <= 2:
            break
    assert min(ratios) <= 2, ratios
