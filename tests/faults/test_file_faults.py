"""What may befall the files: cut, garbled, moved, and disks that lie, freeze, or take no new file."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog
from emitter.recovery import recover
from emitter.segments import new_stream
from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings
from loader.totals import Totals

from ..bots import Bot, Snapshot, ended, forked
from ..command import tradetrail
from ..disks import run, small_tmpfs
from ..lines import STREAM, line, segment
from ..plugins.figures import Figures
from ..trail import Trail, only
from .interposer import EVER, FAIL, FILES, KILL, LIE, OPEN, WRITE, Fault, Interposer
from .oracle import hold_rows, payload
from .scenarios import RECORDS
from .test_disk import SLOW_S, conserved, emit

SMALL: dict[str, Any] = {"service": "fox-bot", "ring_bytes": 64 * 1024, "flush_interval_ms": 1, "fsync_interval_ms": 5}
_REJECTED = "SELECT seq, raw, reasons FROM monitoring.audit_rejects WHERE severity = 'rejected'"
_VALUES = """
SELECT seq, filled AS number, reason AS text FROM monitoring.order_updates WHERE stream = $1
UNION ALL SELECT seq, price, order_type FROM monitoring.trades WHERE stream = $1
UNION ALL SELECT seq, price, type FROM monitoring.orders WHERE stream = $1
UNION ALL SELECT
    seq, (event_data ->> 'number')::numeric, event_data ->> 'text' FROM monitoring.events WHERE stream = $1
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def load(directory: Path, dsn: str, **settings: Any) -> Totals:
    async with Loader(LoadSettings(directory=directory, dsn=dsn, **settings)) as loader:
        return await loader.take()


async def values(database: Database, stream: str) -> dict[int, tuple[Decimal, str]]:
    """What the tables hold of each record: its number and its text."""
    return {row["seq"]: (row["number"], row["text"]) for row in await database.fetch(_VALUES, stream)}


def value(number: int) -> tuple[Decimal, str]:
    """What they should hold."""
    fields = payload(number)[1]
    return Decimal(number), next(fields[name] for name in ("type", "reason", "order_type", "text") if name in fields)


def under_another_name(trail: Trail, place: Path) -> str:
    """Copy a stream's files with another id, so that many states of one stream can be loaded at once."""
    stream = new_stream()
    for one in trail.segments:
        name = one.path.name.replace(trail.stream, stream)
        (place / name).write_bytes(one.path.read_bytes().replace(trail.stream.encode(), stream.encode()))
    return stream


# -- cut --


def test_a_line_torn_at_any_byte_costs_itself_and_is_kept_beside(log: Path, ring_dir: Path, tmp_path: Path) -> None:
    """F2: whatever is left of the last line of a file without its ring, all earlier lines are there."""

    def bot(say: Any) -> None:
        audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
        for number in range(1, 6):
            say(audit.event("x", number=number))
        audit.flush()
        signal.pause()

    process = Bot(bot)
    process.wait_for(5)
    while len(only(log).seqs) < 5:
        pass
    process.kill()
    snapshot = Snapshot(log, ring_dir, tmp_path / "snapshot")
    (path,) = log.iterdir()
    data = path.read_bytes()
    last = data.rindex(b"\n", 0, -1) + 1
    for keep in range(len(data) - last + 1):
        snapshot.restore()
        for ring in ring_dir.iterdir():
            ring.unlink()
        os.truncate(path, last + keep)
        found = recover(log, ring_dir=ring_dir)
        torn = 0 < keep < len(data) - last
        assert (len(found.torn), found.problems) == (int(torn), [])
        assert only(log).check().seqs == list(range(1, 6 if keep == len(data) - last else 5)), keep
        if torn:
            assert found.torn[0].read_bytes() == data[last : last + keep]
        after = path.read_bytes()
        assert not recover(log, ring_dir=ring_dir).streams
        assert path.read_bytes() == after


def dead_bot(interposer: Interposer, log: Path, ring_dir: Path, at: int) -> tuple[Any, int, list[tuple[Path, int]]]:
    """Killed at a call; (what it said, where its last synced byte is among all of its bytes, its files)."""
    fault = Fault(FILES, KILL, at=at, where=(str(log), str(ring_dir)))
    outcome = interposer.run("bot", fault, directory=log, ring_dir=ring_dir)
    assert outcome.status == -signal.SIGKILL
    files, floor, before = [], 0, 0
    for one in only(log).segments:
        at_seq = one.data.find(b'"seq":%d,' % outcome.account.synced)
        if at_seq >= 0:
            floor = before + one.data.index(b"\n", at_seq) + 1
        files.append((one.path, len(one.data)))
        before += len(one.data)
    assert floor
    assert outcome.account.synced > 20
    return outcome.account, floor, files


@pytest.mark.parametrize("at", [58, 85, 101])
@pytest.mark.parametrize("step", [61, pytest.param(3, marks=pytest.mark.long)], ids=["sample", "all"])
def test_a_power_cut_costs_nothing_that_was_said_to_be_synced(
    interposer: Interposer, ring_dir: Path, tmp_path: Path, dsn: str, figures: Figures, at: int, step: int
) -> None:
    """F17, F18: ring and unsynced bytes are gone, from any byte on; files begun since are gone, or empty."""
    log = tmp_path / "log"
    account, floor, files = dead_bot(interposer, log, ring_dir, at)
    snapshot = Snapshot(log, ring_dir, tmp_path / "snapshot")
    end, cuts = sum(size for _, size in files), 0
    for cut in sorted({floor, end, *range(floor, end, step)}, reverse=True):
        for later in ("gone", "empty"):
            snapshot.restore()
            cut_power(files, cut, ring_dir, later_is_gone=later == "gone")
            assert recover(log, ring_dir=ring_dir).problems == []
            trail = account.hold(log, power_cut=True)
            assert trail is not None
            assert set(range(1, account.synced + 1)) <= set(trail.seqs)
            figures.add(records=len(trail.records))
            cuts += 1
    figures.add(kills=1, faults=cuts)
    assert cuts >= 4

    async def held(trail: Trail) -> None:
        assert (await load(log, dsn)).rejected == 0
        async with await Database.connect(dsn) as database:
            await hold_rows(database, trail)

    asyncio.run(held(trail))


def cut_power(files: list[tuple[Path, int]], cut: int, ring_dir: Path, *, later_is_gone: bool) -> None:
    """Of all bytes of the files, one after the other, ``cut`` are left; of a ring, none."""
    for ring in ring_dir.iterdir():
        ring.unlink()
    for path, size in files:
        if cut <= 0 and later_is_gone:
            path.unlink()
        else:
            os.truncate(path, max(0, min(cut, size)))
        cut -= size


@pytest.mark.parametrize("at", [61, 97])
def test_of_garbled_unsynced_bytes_no_wrong_value_is_loaded(
    interposer: Interposer, ring_dir: Path, tmp_path: Path, dsn: str, at: int
) -> None:
    """F19: blocks of what was not synced are zeros or noise; each line that is whole loads as it was written."""
    log, together = tmp_path / "log", tmp_path / "together"
    together.mkdir(mode=0o700)
    account, floor, files = dead_bot(interposer, log, ring_dir, at)
    chance = random.Random(at)
    whole = only(log)
    streams = []
    for _ in range(12):
        stream = new_stream()
        streams.append(stream)
        before = 0
        for path, size in files:
            data = bytearray(path.read_bytes().replace(whole.stream.encode(), stream.encode()))
            for start in range(max(0, floor - before), size, 64):
                if chance.random() < 0.2:
                    data[start : start + 64] = chance.choice([bytes, chance.randbytes])(len(data[start : start + 64]))
            (together / path.name.replace(whole.stream, stream)).write_bytes(data)
            before += size
    asyncio.run(only_right_values(together, dsn, streams, set(range(1, account.synced + 1))))


async def only_right_values(together: Path, dsn: str, streams: list[str], needed: set[int]) -> None:
    await load(together, dsn)
    async with await Database.connect(dsn) as database:
        for stream in streams:
            found = await values(database, stream)
            # The same orders and fills in all streams: the first to tell them has their rows.
            own = {seq: got for seq, got in found.items() if got[0] is not None}
            assert all(got == value(int(got[0])) and got[0] == seq - 1 for seq, got in own.items()), stream
            told = await database.fetch(
                "SELECT seq FROM monitoring.audit_rejects WHERE stream = $1 AND reasons[1] LIKE 'repeated%'", stream
            )
            assert needed <= set(found) | {row["seq"] for row in told}, stream


# -- bits --


def test_a_bit_flipped_anywhere_in_a_sealed_file_changes_no_other_line_and_verify_names_the_file(
    tmp_path: Path, dsn: str
) -> None:
    """F20: every third byte of a file, each in a stream of its own, all loaded at once."""
    together, flips = tmp_path / "log", {}
    chance = random.Random(20)
    for at in range(0, 100_000, 3):
        stream = new_stream()
        numbers = [1000 * at + 2 * n + 1 for n in range(4)]  # updates and events: rows that no other stream shares
        lines = [line(seq, *payload(number), stream=stream) for seq, number in enumerate(numbers, 1)]
        path = segment(together, lines, stream=stream)
        data = bytearray(path.read_bytes())
        if at >= len(data) - len(bytes(data).splitlines()[-1]) - 1:
            path.unlink()
            break
        hit = bytes(data[:at]).count(b"\n")  # 0: the header
        data[at] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        flips[stream] = (hit, numbers, bytes(data[at : at + 1]))
    assert len(flips) > 200
    asyncio.run(others_are_right(together, dsn, flips))
    said = tradetrail("verify", "--dir", together, "--json")
    findings = json.loads(said.stdout)["findings"]
    assert said.returncode == 1
    unseen = set(flips) - {found["stream"] for found in findings if found["severity"] != "info"}
    assert not unseen


@pytest.mark.parametrize("claimed", [5, 15, 35, 4000])
async def test_a_seq_damaged_into_that_of_another_batch_costs_no_other_record(
    tmp_path: Path, dsn: str, claimed: int
) -> None:
    """F20: of 40 records in batches of ten, number 25 claims to be another: before, with it, after, or none."""
    lines = [line(seq, *payload(seq)) for seq in range(1, 41)]
    lines[24] = lines[24].replace(b'"seq":25,', f'"seq":{claimed},'.encode())
    directory = tmp_path / "log"
    segment(directory, lines)
    await load(directory, dsn, batch_bytes=len(b"".join(lines)) // 4)
    async with await Database.connect(dsn) as database:
        found = await values(database, STREAM)
        assert found == {seq: value(seq) for seq in range(1, 41) if seq != 25}
        (reject,) = await database.fetch(_REJECTED)
    assert (reject["seq"], reject["raw"].encode() + b"\n") == (25, lines[24])
    assert reject["reasons"][0].startswith("seq_unreadable")


async def others_are_right(together: Path, dsn: str, flips: dict[str, Any]) -> None:
    await load(together, dsn)
    async with await Database.connect(dsn) as database:
        for stream, (hit, numbers, _) in flips.items():
            found = await values(database, stream)
            if hit == 0:  # a file whose header says something else is refused as a whole, or taken
                assert all(found[seq] == value(numbers[seq - 1]) for seq in found), stream
                continue
            # A line end that is hit costs the line behind it as well.
            others = {seq: value(number) for seq, number in enumerate(numbers, 1) if seq not in (hit, hit + 1)}
            assert {seq: found.get(seq) for seq in others} == others, (stream, hit)


# -- disks that lie, freeze, or take no new file --


def test_a_write_that_lies_about_its_length_is_found(
    interposer: Interposer, ring_dir: Path, log: Path, dsn: str
) -> None:
    """F6: half of a write is missing, and was reported as written; no wrong value is loaded, and verify says so."""
    for at in (5, 9, 20):
        fault = Fault(WRITE, LIE, at=at, where=(str(log),))
        outcome = interposer.run("bot", fault, directory=log, ring_dir=ring_dir, first=at * RECORDS)
        assert (outcome.status, outcome.struck) == (0, 1)
    streams = {path.name.split(".")[1] for path in log.glob("*.jsonl")}
    asyncio.run(load(log, dsn))
    said = tradetrail("verify", "--dir", log, "--json")
    findings = json.loads(said.stdout)["findings"]
    assert said.returncode == 1
    assert {found["stream"] for found in findings if found["severity"] != "info"} == streams

    async def look() -> None:
        async with await Database.connect(dsn) as database:
            rows = await database.fetch("SELECT DISTINCT stream FROM monitoring.audit_segments")
            assert len(rows) == 3
            for row in rows:
                found = await values(database, row["stream"])
                assert len(found) > RECORDS // 2
                for number, text in found.values():
                    assert (number, text) == value(int(number))

    asyncio.run(look())


def test_where_no_new_file_can_be_made_the_old_one_goes_on(interposer: Interposer, ring_dir: Path, log: Path) -> None:
    """F15: the file system was made read-only for new files; nothing is lost, and ``stats()`` says why it is long."""
    fault = Fault(OPEN, FAIL, at=6, times=EVER, code=errno.EROFS, where=(str(log),))
    outcome = interposer.run("bot", fault, directory=log, ring_dir=ring_dir)
    assert outcome.status == 0
    assert outcome.struck
    assert outcome.account.fault_seen
    trail = outcome.account.hold(log, outcome.said)
    assert trail is not None
    assert len(trail.seqs) == RECORDS
    assert len(trail.segments) < 6


def test_without_inodes_the_old_segment_goes_on_and_later_it_rotates(tmp_path: Path, ring_dir: Path) -> None:
    """F16: for root; a real file system with room for a few files."""
    with small_tmpfs(tmp_path / "disk", "8m,nr_inodes=4") as disk:
        log = disk / "log"
        audit = AuditLog(log, **SMALL, ring_dir=ring_dir, segment_max_bytes=2000)
        emit(audit, 60)
        assert audit.flush(10)
        assert "No space left" in str(audit.stats().last_error)
        assert len(list(log.iterdir())) == 2
        subprocess.run(["mount", "-o", "remount,nr_inodes=100", disk], check=True)
        emitted = 60
        while len(list(log.iterdir())) < 4:
            emit(audit, 20, emitted + 1)
            emitted += 20
            assert audit.flush(10)
        assert audit.close()
        assert conserved(audit, log, emitted).lost == 0


@contextmanager
def own_disk(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A file system of 64 MB on a loop device: (where it is, its device)."""
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    run("truncate", "-s", "64m", image)
    run("mkfs.ext4", "-q", "-F", image)
    device = run("losetup", "--find", "--show", image)
    try:
        run("mount", device, place)
        try:
            yield place, device
        finally:
            run("umount", "-l", place, may_fail=True)
    finally:
        run("losetup", "-d", device, may_fail=True)


@pytest.mark.long
def test_a_frozen_file_system_holds_up_no_call_and_heals(tmp_path: Path, ring_dir: Path, figures: Figures) -> None:
    """F12: for root; the writer stands still in the kernel, the ring takes what it can, the rest is declared."""
    if shutil.which("fsfreeze") is None:
        pytest.skip("there is no fsfreeze here; on Debian: apt-get install util-linux")
    with own_disk(tmp_path) as (disk, _):
        log = disk / "log"
        audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
        emit(audit, 50)
        assert audit.flush(10)
        # Another process thaws it: who writes to a frozen disk can do nothing.
        freezer = subprocess.Popen(
            ["sh", "-c", f"fsfreeze -f {disk} && echo frozen && sleep 3; fsfreeze -u {disk}"], stdout=subprocess.PIPE
        )
        try:
            assert freezer.stdout is not None
            if freezer.stdout.readline() != b"frozen\n":
                pytest.skip("a file system may not be frozen here")
            began = time.monotonic()
            worst, emitted = 0.0, 50
            while time.monotonic() - began < 2:
                worst = max(worst, emit(audit, 20, emitted + 1))
                emitted += 20
                threading.Event().wait(0.01)
            assert audit.stats().ring_used_bytes > 0
            assert not audit.flush(0.1)
        finally:
            freezer.wait(30)
        assert audit.flush(30)
        emit(audit, 10, emitted + 1)
        assert audit.close()
        stats = conserved(audit, log, emitted + 10)
        print(f"{emitted} records while frozen, {stats.lost} declared lost, worst call {worst * 1000:.1f} ms")
        figures.add(faults=1, records=emitted + 10)
        assert stats.lost > 0
        assert worst < SLOW_S


@pytest.mark.long
def test_a_throttled_disk_holds_up_no_call(tmp_path: Path, ring_dir: Path, figures: Figures) -> None:
    """F13: for root; the kernel makes who writes to this disk wait, as it does when too much is unwritten."""
    with own_disk(tmp_path) as (disk, device):
        number = Path(device).stat().st_rdev
        bdi = Path("/sys/class/bdi") / f"{os.major(number)}:{os.minor(number)}"
        if not os.access(bdi / "max_bytes", os.W_OK):
            pytest.skip("the kernel lets nobody limit one disk's unwritten pages here")
        try:
            (bdi / "strict_limit").write_text("1")
            (bdi / "max_bytes").write_text("8192")
            audit = AuditLog(disk / "log", **{**SMALL, "ring_bytes": 32 * 1024 * 1024}, ring_dir=ring_dir)
            worst = emit(audit, 20_000)
            assert audit.flush(60)
            assert audit.close()
        finally:
            (bdi / "max_ratio").write_text("100")
            (bdi / "strict_limit").write_text("0")
        assert conserved(audit, disk / "log", 20_000).lost == 0
        print(f"worst call {worst * 1000:.1f} ms")
        figures.add(faults=1, records=20_000)
        assert worst < SLOW_S


# -- moved, cut and packed by others --


def test_a_directory_renamed_under_the_writer_is_made_again_and_all_records_are_in_the_two(
    log: Path, ring_dir: Path, tmp_path: Path
) -> None:
    """F14: the open file goes on where it was moved to, the next one is made where the log belongs."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir, segment_max_bytes=3000)
    emit(audit, 10)
    assert audit.flush(10)
    log.rename(tmp_path / "moved")
    emit(audit, 30, 11)
    assert audit.flush(10)
    assert audit.close()
    for path in (tmp_path / "moved").iterdir():
        path.rename(log / path.name)
    assert conserved(audit, log, 40).lost == 0


def test_a_directory_that_nobody_may_enter_any_more_costs_nothing_and_is_said(ring_dir: Path, tmp_path: Path) -> None:
    """F14: the bot runs as an ordinary user; the open file goes on, and is rotated once that may be."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        if parent.owner() == tmp_path.owner() and parent != Path("/tmp"):
            parent.chmod(0o755)
    log = tmp_path / "home" / "log"
    log.parent.mkdir(mode=0o755)
    ring_dir.chmod(0o777)
    if os.getuid() == 0:
        os.chown(log.parent, 65534, 65534)

    def bot() -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        audit = AuditLog(log, **SMALL, ring_dir=ring_dir, segment_max_bytes=3000)
        emit(audit, 10)
        assert audit.flush(10)
        log.chmod(0)
        emit(audit, 50, 11)
        assert audit.flush(10)
        assert "Permission denied" in str(audit.stats().last_error)
        log.chmod(0o700)
        emit(audit, 10, 61)
        assert audit.close()

    assert ended(forked(bot)) == 0
    assert only(log).check().seqs == list(range(1, 71))


def test_a_file_moved_by_a_log_rotation_goes_on_under_its_new_name(log: Path, ring_dir: Path, dsn: str) -> None:
    """F22: the writer does not notice; moved back, it loads whole."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush(10)
    (path,) = log.iterdir()
    path.rename(path.with_name(path.name + ".1"))
    emit(audit, 10, 11)
    assert audit.flush(10)
    assert audit.close()
    assert list(log.iterdir()) == [path.with_name(path.name + ".1")]
    path.with_name(path.name + ".1").rename(path)
    assert conserved(audit, log, 20).lost == 0
    assert asyncio.run(load(log, dsn)).records == 20


def test_a_file_emptied_by_a_log_rotation_is_said_and_nothing_is_read_again(
    log: Path, ring_dir: Path, dsn: str
) -> None:
    """F22: copytruncate under a writer that appends; what was loaded stays once, what comes into the hole is said."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush(10)
    assert asyncio.run(load(log, dsn)).records == 10
    (path,) = log.iterdir()
    os.truncate(path, 0)
    emit(audit, 5, 11)
    assert audit.flush(10)
    totals = asyncio.run(load(log, dsn))
    assert (totals.records, list(totals.problems)) == (0, [path.name])
    audit.close()
    assert json.loads(tradetrail("verify", "--dir", log, "--json").stdout)["findings"]

    async def look() -> None:
        async with await Database.connect(dsn) as database:
            assert await database.fetchval("SELECT count(*) FROM monitoring.events") == 10

    asyncio.run(look())


def test_a_file_packed_and_removed_under_its_writer_is_written_anew(log: Path, ring_dir: Path) -> None:
    """F22: gzip leaves a file that nobody appends to; what was not synced goes to a new segment, and it is said."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush(10)
    (path,) = log.iterdir()
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    emit(audit, 10, 11)
    assert audit.flush(10)
    assert "removed while it was written" in str(audit.stats().last_error)
    assert audit.close()
    path.write_bytes(gzip.decompress(packed))
    assert conserved(audit, log, 20).lost == 0
