"""What a call returned for outlives the kill of its process, once and whole."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import emitter.recovery
import emitter.segments
import emitter.writer
from emitter import AuditLog
from emitter.memory import HEAD, SYNC_BEGUN, SYNCED
from emitter.recovery import Recovered, recover
from emitter.segments import SegmentName, header_line, list_segments
from emitter.shared import list_rings, open_shared

from ..bots import Bot, Snapshot, dying, ended, failing, forked, recovered, tmpfs_folder
from ..trail import Trail, mode, only, read

NEVER = 3_600_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def ring_dir() -> Iterator[Path]:
    with tmpfs_folder() as folder:
        yield folder


@pytest.fixture
def settings(ring_dir: Path) -> dict[str, Any]:
    return {"ring_dir": ring_dir, "ring_bytes": 64 * 1024, "service": "fox-bot"}


def bot(log: Path, settings: dict[str, Any], *, count: int = 2**62, size: int = 50) -> Callable[..., None]:
    """Logs ``count`` records, saying each; then waits to be killed."""

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **settings)
        for number in range(count):
            say(audit.event("x", number=number, text="y" * size))
        signal.pause()

    return work


def held(log: Path, acked: list[int]) -> Trail:
    """The stream as it must be: finished, whole, and with each seq that was said."""
    trail = only(log).check()
    assert set(acked) <= set(trail.seqs) | set(trail.lost)
    for record in trail.records:
        assert record["attributes"]["number"] == record["seq"] - 1
    return trail


def footers(trail: Trail) -> list[bool]:
    return [bool(s.footer["recovered"]) for s in trail.segments if s.footer]


# -- kill -9 --


@pytest.mark.parametrize(("flush", "fsync"), [(NEVER, NEVER), (1, NEVER), (1, 1)])
def test_what_a_call_returned_for_is_there_once(
    log: Path, ring_dir: Path, settings: dict[str, Any], flush: int, fsync: int
) -> None:
    """E2: also while the writer never had its turn."""
    for count in (1, 20):
        process = Bot(bot(log, {**settings, "flush_interval_ms": flush, "fsync_interval_ms": fsync}, count=count))
        process.wait_for(count)
        assert process.kill() == list(range(1, count + 1))
        (stream,) = recovered(log, ring_dir).streams
        trail = read(log)[stream].check()
        assert trail.seqs == list(range(1, count + 1))
        assert footers(trail)[-1]
        assert list_rings(ring_dir) == []
        assert not recovered(log, ring_dir).streams, "nothing is left to do"


def test_random_kills(log: Path, ring_dir: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """E1: what was returned for is there, or declared; nothing else is."""
    chance = random.Random(20261122)
    segments = 0
    for turn in range(30):
        directory = tmp_path / f"log{turn}"
        small = {"segment_max_bytes": 4096, "ring_bytes": 32 * 1024, "flush_interval_ms": 1, "fsync_interval_ms": 5}
        process = Bot(bot(directory, {**settings, **small}, size=chance.choice([10, 200, 1500])))
        process.wait_for(chance.choice([1, 10, 200, 1000]))
        acked = process.kill()
        recovered(directory, ring_dir)
        trail = held(directory, acked)
        assert acked == list(range(1, len(acked) + 1))
        segments += len(trail.segments)
        assert list_rings(ring_dir) == []
    assert segments > 100


def test_the_next_start_recovers(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    for turn in range(3):
        process = Bot(bot(log, {**settings, "flush_interval_ms": NEVER}, count=5))
        process.wait_for(5)
        process.kill()
        assert len(list_rings(ring_dir)) == 1, f"start {turn} finished the one before it"
    with AuditLog(log, **settings) as audit:
        audit.event("x", number=0)
    trails = [trail.check() for trail in read(log).values()]
    assert sorted(len(trail.seqs) for trail in trails) == [1, 5, 5, 5]
    assert list_rings(ring_dir) == []


def test_losses_that_stand_in_no_line_yet_are_declared(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    process = Bot(
        bot(log, {**settings, "ring_bytes": 16 * 1024, "flush_interval_ms": NEVER, "on_loss": block}, count=90)
    )
    process.wait_for(90)
    process.kill()
    recovered(log, ring_dir)
    trail = held(log, list(range(1, 91)))
    assert trail.losses
    assert {reason for _, _, reason in trail.losses} == {"ring full"}
    declared = [line for s in trail.segments for _, line in s.lines if line["event_name"] == "audit.lost"]
    assert len(declared) == 1


def block(_: object) -> None:
    signal.pause()  # the writer gets no further


@pytest.mark.parametrize("torn", [False, True])
def test_a_kill_at_each_call_of_the_writer(
    log: Path, ring_dir: Path, settings: dict[str, Any], torn: bool, tmp_path: Path
) -> None:
    """F1: the N-th call that changes a file or the ring's header kills the bot, for each N."""
    small = {
        **settings,
        "segment_max_bytes": 900,
        "ring_bytes": 16 * 1024,
        "flush_interval_ms": 1,
        "fsync_interval_ms": 1,
    }

    def work(directory: Path, at: int) -> Callable[..., None]:
        def run(say: Callable[[int], None]) -> None:
            dying(at, torn=torn)
            with AuditLog(directory, **small) as audit:
                for number in range(6):
                    say(audit.event("x", number=number, text="y" * 150))
                    audit.flush()

        return run

    status, at, streams = -signal.SIGKILL, 0, 0
    while status:
        at += 1
        directory = tmp_path / f"log{at}"
        status, acked = Bot(work(directory, at)).end()
        if not directory.exists():
            assert acked == []
            continue
        recovered(directory, ring_dir)
        if read(directory):
            held(directory, acked)
            streams += 1
        assert list(ring_dir.glob("*.ring")) == []
    assert at > 50
    assert streams > 40


# -- the recovery itself is killed, raced and repeated --


def dead_in_a_sync(log: Path, settings: dict[str, Any]) -> list[int]:
    """Several segments, some of them not synced, a sync under way, records in the ring, a loss that is pending."""

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **{**settings, "segment_max_bytes": 700, "flush_interval_ms": 1, "fsync_interval_ms": 1})
        for number in range(6):
            say(audit.event("x", number=number, text="y" * 150))
            assert audit.flush()
        real = os.fdatasync
        os.fdatasync = lambda fd: signal.pause() or real(fd)  # type: ignore[assignment]
        for number in range(6, 12):
            say(audit.event("x", number=number, text="y" * 150))
        while audit.stats().written < 12:
            pass
        ring = audit._core._ring
        assert ring is not None
        while ring.memory.header[SYNC_BEGUN] == ring.memory.header[SYNC_BEGUN + 1]:
            pass
        os.write = lambda *_: signal.pause()  # type: ignore[assignment]
        for number in range(12, 15):
            say(audit.event("x", number=number, text="y" * 150))
        say(ring.forgo(2))
        say(audit.event("x", number=16))
        signal.pause()

    process = Bot(work)
    process.wait_for(17)
    return process.kill()


def dead_in_a_rotation(log: Path, settings: dict[str, Any]) -> list[int]:
    """The next segment has a torn header, the ring's slot still names the one before it."""

    def work(say: Callable[[int], None]) -> None:
        real = os.write

        def write(fd: int, data: bytes) -> int:
            if b"segment.opened" in bytes(data) and ".000003." in str(Path(f"/proc/self/fd/{fd}").readlink()):
                real(fd, bytes(data)[:100])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(fd, data)

        os.write = write
        audit = AuditLog(log, **{**settings, "segment_max_bytes": 900, "fsync_interval_ms": NEVER})
        for number in range(30):
            say(audit.event("x", number=number, text="y" * 150))
        audit.flush()

    status, acked = Bot(work).end()
    assert status == -signal.SIGKILL
    return acked


def dead_on_the_way_anew(log: Path, settings: dict[str, Any]) -> list[int]:
    """A file was given up; the segment that replaces it has its header, the ring's slot does not name it yet."""

    def work(say: Callable[[int], None]) -> None:
        from emitter.memory import Memory

        real = Memory.next_slot

        def next_slot(self: Memory, slot: Any) -> None:
            if slot.segment > 1:
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, slot)

        Memory.next_slot = next_slot  # type: ignore[method-assign]
        emitter.writer._BACKOFF_MOST_S = 0.001
        audit = AuditLog(log, **{**settings, "flush_interval_ms": 1, "fsync_interval_ms": NEVER})
        say(audit.event("x", number=0))
        assert audit.flush()
        for number in range(1, 10):
            say(audit.event("x", number=number))
        while audit.stats().written < 10:  # in the file, and not synced
            pass
        failing("write", errno.EIO, times=8)
        for number in range(10, 20):
            say(audit.event("x", number=number))
        audit.flush(60)

    status, acked = Bot(work).end()
    assert status == -signal.SIGKILL
    return acked


DEATHS = [dead_in_a_sync, dead_in_a_rotation, dead_on_the_way_anew]


@pytest.mark.parametrize("death", DEATHS)
def test_a_recovery_killed_at_each_of_its_calls_is_done_again(
    log: Path, ring_dir: Path, settings: dict[str, Any], death: Callable[..., list[int]], tmp_path: Path
) -> None:
    """F23: from each state in which a bot may have died."""
    acked = death(log, settings)
    snapshot = Snapshot(log, ring_dir, tmp_path / "snapshot")
    for torn in (False, True):
        status, at = -signal.SIGKILL, 0
        while status:
            at += 1
            snapshot.restore()

            def once(at: int = at, torn: bool = torn) -> None:
                dying(at, torn=torn)
                assert recover(log, ring_dir=ring_dir).problems == []

            status = ended(forked(once))
            recovered(log, ring_dir)
            held(log, acked)
            assert list_rings(ring_dir) == []
        assert at > 10


@pytest.mark.parametrize("death", DEATHS)
def test_recoveries_killed_again_and_again_get_through(
    log: Path, ring_dir: Path, settings: dict[str, Any], death: Callable[..., list[int]]
) -> None:
    acked = death(log, settings)
    chance = random.Random(7)
    for _ in range(12):
        at = chance.randrange(3, 25)
        ended(forked(lambda at=at: (dying(at, torn=at % 2 == 0), recover(log, ring_dir=ring_dir))))
    recovered(log, ring_dir)
    held(log, acked)


@pytest.mark.parametrize("death", DEATHS)
def test_recoveries_at_the_same_time_do_it_once(
    log: Path, ring_dir: Path, settings: dict[str, Any], death: Callable[..., list[int]], tmp_path: Path
) -> None:
    acked = death(log, settings)
    snapshot = Snapshot(log, ring_dir, tmp_path / "snapshot")
    for _ in range(10):
        snapshot.restore()
        reading, writing = os.pipe()

        def once(reading: int = reading, writing: int = writing) -> None:
            os.close(writing)
            os.read(reading, 1)  # all begin when the pipe is closed
            assert recover(log, ring_dir=ring_dir).problems == []

        pids = [forked(once) for _ in range(3)]
        os.close(writing)
        assert [ended(pid) for pid in pids] == [0, 0, 0]
        os.close(reading)
        before = {path.name: path.read_bytes() for path in log.iterdir()}
        recovered(log, ring_dir)
        assert {path.name: path.read_bytes() for path in log.iterdir()} == before
        held(log, acked)


def test_a_footer_that_is_there_is_not_written_again(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    """Its bot died between it and the removal of its ring, and a loader may have read it since."""

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **settings)
        say(audit.event("x", number=0))
        os.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        audit.close()

    status, acked = Bot(work).end()
    assert (status, acked) == (-signal.SIGKILL, [1])
    (path,) = log.iterdir()
    before = path.read_bytes()
    recovered(log, ring_dir)
    assert footers(held(log, acked)) == [False]
    assert path.read_bytes() == before
    assert list_rings(ring_dir) == []


# -- after a failed sync --


def test_bytes_given_up_after_a_failed_sync_are_void(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    acked = dead_in_a_sync(log, settings)
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    recovered(log, ring_dir)
    trail = held(log, acked)
    assert trail.void
    assert (12 in trail.seqs, trail.losses) == (True, [(16, 16, "not encodable")])
    first_void = min(trail.void)
    for segment in trail.segments:
        if segment.number in trail.void:
            assert segment.data == before[segment.path.name], "abandoned bytes stay as they are"
        if segment.number > max(trail.void):
            assert segment.footer is not None
    assert trail.void[first_void] > 0


def test_a_kill_in_the_midst_of_a_sync_counts_as_its_failure(
    log: Path, ring_dir: Path, settings: dict[str, Any]
) -> None:
    """Nobody knows what the kernel told the dead: its bytes are written anew from the ring."""

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **{**settings, "fsync_interval_ms": NEVER})
        say(audit.event("x", number=0))
        assert audit.flush()
        os.fdatasync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        say(audit.event("x", number=1))
        audit.flush(60)

    status, acked = Bot(work).end()
    assert (status, acked) == (-signal.SIGKILL, [1, 2])
    recovered(log, ring_dir)
    trail = held(log, acked)
    assert trail.seqs == acked
    assert list(trail.void) == [1]
    assert [segment.number for segment in trail.segments] == [1, 2]


def test_a_kill_on_the_way_to_the_replacing_segment_loses_nothing(
    log: Path, ring_dir: Path, settings: dict[str, Any]
) -> None:
    acked = dead_on_the_way_anew(log, settings)
    recovered(log, ring_dir)
    assert held(log, acked).seqs == acked


def test_the_word_on_what_was_replaced_before_is_kept(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    """Two syncs fail, no good one lies between: the recovery's header must name both, the second may be unsynced."""

    def work(say: Callable[[int], None]) -> None:
        emitter.writer._SYNC_BACKOFF_MOST_S = 0.0
        real, numbers = os.fdatasync, itertools.count(1)

        def fdatasync(fd: int) -> None:
            number = next(numbers)
            if number in {2, 3}:
                raise OSError(errno.EIO, "no disk")
            if number == 4:
                say(3)
                signal.pause()
            real(fd)

        os.fdatasync = fdatasync  # type: ignore[assignment]
        audit = AuditLog(log, **{**settings, "flush_interval_ms": 1, "fsync_interval_ms": 1})
        say(audit.event("x", number=0))
        assert audit.flush()
        say(audit.event("x", number=1))
        audit.flush(60)

    process = Bot(work)
    process.wait_for(3)
    assert process.kill() == [1, 2, 3]
    recovered(log, ring_dir)
    trail = held(log, [1, 2])
    assert [segment.number for segment in trail.segments] == [1, 2, 3, 4]
    assert [void["segment"] for void in trail.segments[-1].header["replaces"]] == [1, 2, 3]


def test_a_segment_begun_where_the_last_good_sync_ended_is_void_with_its_header(
    log: Path, ring_dir: Path, settings: dict[str, Any]
) -> None:
    """Nobody synced that header; a loss of power after the recovery may take it."""

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **{**settings, "fsync_interval_ms": NEVER, "segment_max_bytes": 900})
        say(audit.event("x", number=0))
        assert audit.flush()
        os.fdatasync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        say(audit.event("x", number=1, text="y" * 900))
        audit.flush(60)

    status, acked = Bot(work).end()
    assert (status, acked) == (-signal.SIGKILL, [1, 2])
    first, second = sorted(log.iterdir())
    recovered(log, ring_dir)
    trail = held(log, acked)
    assert trail.segments[0].footer is not None
    assert trail.void == {1: trail.segments[0].footer["offset"], 2: 0}
    assert trail.segments[2].header["previous_sha256"] == trail.segments[0].footer["sha256"]
    os.truncate(second, 0)
    os.truncate(first, trail.void[1])
    assert held(log, acked).seqs == acked
    assert not recovered(log, ring_dir).streams, "nothing is left to do"


def test_a_recovery_that_looked_before_another_finished_changes_nothing(
    log: Path, ring_dir: Path, settings: dict[str, Any]
) -> None:
    dead_in_a_sync(log, settings)
    late = emitter.recovery._Stream(log, list_segments(log), Recovered())
    recovered(log, ring_dir)
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    assert not late.recover()
    assert {path.name: path.read_bytes() for path in log.iterdir()} == before


# -- without the ring --


def stopped(log: Path, settings: dict[str, Any], count: int = 5, segment: int = 900) -> None:
    """A bot whose records are all in its file, killed."""

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **{**settings, "flush_interval_ms": 1, "segment_max_bytes": segment})
        for number in range(count):
            audit.event("x", number=number, text="y" * 100)
            if number % 20 == 0:
                assert audit.flush()
        assert audit.flush()
        say(1)
        signal.pause()

    process = Bot(work)
    process.wait_for(1)
    process.kill()


def test_where_the_ring_is_gone_the_files_are_finished(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    stopped(log, settings)
    for path in list_rings(ring_dir):
        path.unlink()
    found = recovered(log, ring_dir)
    assert (len(found.streams), found.torn) == (1, [])
    trail = held(log, [1, 2, 3, 4, 5])
    assert footers(trail)[-1]
    assert not any(footers(trail)[:-1])


@pytest.mark.parametrize("keep", [1, 40, -1])
def test_a_torn_line_is_kept_beside_the_file(log: Path, ring_dir: Path, settings: dict[str, Any], keep: int) -> None:
    stopped(log, settings)
    for path in list_rings(ring_dir):
        path.unlink()
    last = max(log.iterdir())
    text = last.read_bytes()
    at = text.rfind(b"\n", 0, -1) + 1
    torn = text[at:][:keep]
    last.write_bytes(text[:at] + torn)
    found = recovered(log, ring_dir)
    aside = last.with_name(last.name + ".torn")
    assert found.torn == [aside]
    assert aside.read_bytes() == torn
    assert mode(aside) == 0o600
    trail = held(log, [])
    assert trail.seqs == [1, 2, 3, 4]
    assert recovered(log, ring_dir).streams == []


def test_several_unfinished_segments_are_finished(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    """A loss of power can take the end of more than one."""
    stopped(log, settings, count=12)
    for path in list_rings(ring_dir):
        path.unlink()
    paths = sorted(log.iterdir())
    assert len(paths) >= 4
    for path in paths:
        text = path.read_bytes()
        if text.count(b"segment.closed"):
            path.write_bytes(text[: text.rfind(b"\n", 0, -1) + 1])
    recovered(log, ring_dir)
    held(log, list(range(1, 13)))


def test_another_boot_looks_at_no_ring(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    def work(say: Callable[[int], None]) -> None:
        emitter.segments.boot_id = lambda: "00000000-another-boot"  # type: ignore[assignment]
        bot(log, {**settings, "flush_interval_ms": NEVER}, count=3)(say)

    process = Bot(work)
    process.wait_for(3)
    process.kill()
    (ring,) = list_rings(ring_dir)
    assert len(recover(log).streams) == 1
    assert only(log).check().seqs == [], "its ring is of a memory that is gone"
    assert ring.exists()


def test_a_ring_that_no_segment_leads_to_is_told(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    process = Bot(bot(log, {**settings, "flush_interval_ms": NEVER}, count=3))
    process.wait_for(3)
    process.kill()
    for path in log.iterdir():
        path.unlink()
    (ring,) = list_rings(ring_dir)
    with pytest.warns(UserWarning, match=f"{ring.name}: holds records, and no segment names it"):
        AuditLog(log, **settings).close()
    assert ring.exists()


def test_a_stream_of_anonymous_memory_ends_with_its_file(log: Path, ring_dir: Path, tmp_path: Path) -> None:
    settings = {"ring_dir": tmp_path / "none", "ring_bytes": 64 * 1024, "service": "fox-bot"}
    stopped(log, settings)
    assert only(log).segments[0].header["ring"] is None
    recovered(log, ring_dir)
    held(log, [1, 2, 3, 4, 5])


# -- what must be left alone --


@pytest.mark.parametrize("ring", [True, False])
def test_a_living_stream_is_left_alone(
    log: Path, ring_dir: Path, settings: dict[str, Any], ring: bool, tmp_path: Path
) -> None:
    if not ring:
        settings = {**settings, "ring_dir": tmp_path / "none"}

    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **{**settings, "segment_max_bytes": 900, "flush_interval_ms": 1})
        for number in range(20):
            audit.event("x", number=number, text="y" * 100)
        assert audit.flush()
        say(1)
        signal.pause()

    process = Bot(work)
    process.wait_for(1)
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    for _ in range(3):
        assert recovered(log, ring_dir).streams == []
    assert {path.name: path.read_bytes() for path in log.iterdir()} == before
    process.kill()
    assert len(recovered(log, ring_dir).streams) == 1
    held(log, list(range(1, 21)))


def test_a_child_that_outlives_its_parent_does_not_keep_it_alive(
    log: Path, ring_dir: Path, settings: dict[str, Any]
) -> None:
    def work(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **{**settings, "flush_interval_ms": NEVER})
        audit.event("x", number=0)
        forked(lambda: (say(os.getpid()), signal.pause()))  # said once it has let go of its parent's files
        signal.pause()

    process = Bot(work)
    process.wait_for(1)
    (child,) = process.acked
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    try:
        assert len(recovered(log, ring_dir).streams) == 1
    finally:
        os.kill(child, signal.SIGKILL)
    held(log, [1])


def test_a_damaged_ring_is_kept_and_told(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    process = Bot(bot(log, {**settings, "flush_interval_ms": NEVER}, count=3))
    process.wait_for(3)
    process.kill()
    (path,) = list_rings(ring_dir)
    memory = open_shared(path)
    assert memory is not None
    memory.header[SYNCED] = memory.header[HEAD] + 1
    memory.close()
    ring, files = path.read_bytes(), {p.name: p.read_bytes() for p in log.iterdir()}
    found = recover(log, ring_dir=ring_dir)
    assert found.streams == []
    assert [str(path) in problem for problem in found.problems] == [True]
    assert path.read_bytes() == ring
    assert {p.name: p.read_bytes() for p in log.iterdir()} == files
    with pytest.warns(UserWarning, match="an earlier stream is not finished: .*the ring's header contradicts itself"):
        AuditLog(log, **settings).close()


def test_a_file_shorter_than_its_ring_says_is_kept_and_told(
    log: Path, ring_dir: Path, settings: dict[str, Any]
) -> None:
    stopped(log, {**settings, "ring_bytes": 16 * 1024}, count=100, segment=10**9)
    (path,) = log.iterdir()
    text = path.read_bytes()
    assert len(text) > 20_000
    os.truncate(path, text.index(b"\n") + 1)
    found = recover(log, ring_dir=ring_dir)
    assert found.streams == []
    assert found.problems == [f"{path.name}: shorter than its ring says; both are kept as they are"]
    assert path.read_bytes() == text[: text.index(b"\n") + 1]
    assert len(list_rings(ring_dir)) == 1


def test_a_first_line_that_is_no_header_is_kept_and_told(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    stopped(log, settings, count=1)
    for path in list_rings(ring_dir):
        path.unlink()
    (path,) = log.iterdir()
    text = path.read_bytes().replace(b"segment.opened", b"segment.opaned", 1)
    path.write_bytes(text)
    os.utime(path, (1, 1))
    found = recover(log, ring_dir=ring_dir)
    assert [path.name in problem for problem in found.problems] == [True]
    assert path.read_bytes() == text


@pytest.mark.parametrize("torn", [b"", b'{"stream":"0199e3c6'])
def test_a_first_file_without_a_header_becomes_a_stream_of_no_records(log: Path, ring_dir: Path, torn: bytes) -> None:
    log.mkdir()
    path = log / "fox-bot.0199e3c6a7b27c0e8d41c2f1a0b3d4e5.000001.jsonl"
    path.write_bytes(torn)
    assert recover(log, ring_dir=ring_dir).streams == [], "its emitter may be at it"
    assert path.read_bytes() == torn
    found = recovered(log, ring_dir)
    assert len(found.streams) == 1
    trail = only(log).check()
    assert (trail.seqs, footers(trail)) == ([], [True])
    assert [p.read_bytes() for p in found.torn] == [torn] * bool(torn)
    assert recovered(log, ring_dir).streams == []


def test_one_bad_stream_does_not_keep_the_others_from_being_finished(
    log: Path, ring_dir: Path, settings: dict[str, Any]
) -> None:
    stopped(log, settings)
    bad = log / "a.0199e3c6a7b27c0e8d41c2f1a0b3d4e5.000001.jsonl"
    name = SegmentName.parse(bad.name)
    assert name is not None
    bad.write_bytes(
        header_line(name, service="a", resource={}, pid=1, ring=str(log), previous_sha256=None, replaces=())
    )
    found = recover(log, ring_dir=ring_dir)
    assert len(found.streams) == 1
    assert [bad.name in problem for problem in found.problems] == [True]
    bad.unlink()
    held(log, [1, 2, 3, 4, 5])


def test_what_is_no_regular_file_is_no_segment(log: Path, ring_dir: Path, settings: dict[str, Any]) -> None:
    stopped(log, settings)
    names = [f"a.0199e3c6a7b27c0e8d41c2f1a0b3d4e{n}.000001.jsonl" for n in range(4)]
    (log / names[0]).mkdir()
    os.mkfifo(log / names[1])  # opening it would wait for somebody who writes
    (log / names[2]).symlink_to("/etc/hostname")
    (log / names[3]).symlink_to("nowhere")
    found = recover(log, ring_dir=ring_dir)
    assert (len(found.streams), found.problems) == (1, [])
    assert not (log / "nowhere").exists()


def test_finished_streams_are_not_looked_at_again(log: Path, settings: dict[str, Any]) -> None:
    finished: set[str] = set()
    stopped(log, settings)
    stream = list_segments(log)[0].stream
    assert recover(log, finished=finished).streams == [stream]
    assert finished == set(), "it was not finished when it was looked at"
    with AuditLog(log, **settings) as living:
        living.event("x")
        assert recover(log, finished=finished).streams == []
        assert finished == {stream}
        for path in log.glob(f"*.{stream}.*"):
            path.chmod(0)  # for all but root: it is not even opened
        assert recover(log, finished=finished).problems == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_a_loader_under_another_user_does_not_complain_of_the_living(ring_dir: Path, settings: dict[str, Any]) -> None:
    ring_dir.chmod(0o755)
    log = ring_dir / "log"  # pytest's own folders are closed to other users
    with AuditLog(log, **settings, group="65534") as audit:
        audit.event("x", number=0)
        assert audit.flush()
        said, saying = os.pipe()

        def loader() -> None:
            os.setgid(65534)
            os.setuid(65534)
            os.write(saying, json.dumps(recover(log).problems).encode())

        assert ended(forked(loader)) == 0
        assert json.loads(os.read(said, 4096)) == []
        assert [mode(path) for path in log.iterdir()] == [0o640]
        assert mode(log) == 0o2750
    for fd in (said, saying):
        os.close(fd)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_segment_that_may_not_be_read_is_said_and_keeps_no_bot_from_starting(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    with AuditLog(log, service="old") as audit:
        audit.event("old")
        old = log / audit.stats().segment
    old.chmod(0)
    assert [problem for problem in recover(log).problems if old.name in problem and "Permission denied" in problem]
    with pytest.warns(UserWarning, match="is not finished"):
        audit = AuditLog(log, service="new")
    assert audit.event("new") == 1
    new = log / audit.stats().segment
    assert audit.close()
    assert b'"event_name":"new"' in new.read_bytes()


def test_of_two_recoveries_of_a_stream_without_headers_the_slower_one_finds_it_finished(tmp_path: Path) -> None:
    """It looked before the faster one had written, and its locks are free after."""
    names = [SegmentName("0199e3c6a7b27c0e8d41c2f1a0b3d4e5", number, "bot") for number in (1, 2)]
    for name in names:
        path = tmp_path / str(name)
        path.touch()
        os.utime(path, (1, 1))
    faster, slower = (emitter.recovery._Stream(tmp_path, names, Recovered()) for _ in range(2))
    assert faster.recover()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        os.utime(path, (1, 1))
    assert not slower.recover()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert [segment.footer is not None for segment in only(tmp_path).check().segments] == [True, True]
