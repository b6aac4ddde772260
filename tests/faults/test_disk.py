"""Disks that fill, fail and hang: no call notices, and each record is in a file or declared."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import emitter.writer
from emitter import AuditLog, DirectoryError, Stats

from ..bots import tmpfs_folder
from ..trail import only

SMALL: dict[str, Any] = {
    "service": "fox-bot", "ring_bytes": 64 * 1024, "flush_interval_ms": 1, "fsync_interval_ms": 5,
    "segment_max_bytes": 32 * 1024,
}  # fmt: skip
# A call's own time, on a machine that does other things as well.
SLOW_S = 0.25


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def ring_dir() -> Iterator[Path]:
    with tmpfs_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-offs that suit a test."""
    monkeypatch.setattr(emitter.writer, "_BACKOFF_MOST_S", 0.02)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here to make a small disk with")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", place], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


class Failing:
    """``os.<name>`` fails on segment files, for the calls that ``when`` says yes to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, code: int, when: Callable[[int], bool]) -> None:
        real = getattr(os, name)
        self.calls = self.failures = 0

        def call(fd: int, *args: Any) -> Any:
            if ".jsonl" not in str(Path(f"/proc/self/fd/{fd}").readlink()):
                return real(fd, *args)
            self.calls += 1
            if when(self.calls):
                self.failures += 1
                raise OSError(code, os.strerror(code))
            return real(fd, *args)

        monkeypatch.setattr(os, name, call)


def emit(audit: AuditLog, count: int, first: int = 1, size: int = 200) -> float:
    """``count`` records; the longest that a call took."""
    worst = 0.0
    for seq in range(first, first + count):
        began = time.perf_counter()
        assert audit.event("x", number=seq, text="y" * size) == seq
        worst = max(worst, time.perf_counter() - began)
    return worst


def conserved(audit: AuditLog, log: Path, emitted: int) -> Stats:
    """After the end: all that was emitted is written or declared, and the files are as they should be."""
    stats = audit.stats()
    trail = only(log).check()
    assert stats.emitted == emitted == stats.written + stats.lost
    assert (len(trail.seqs), len(trail.lost)) == (stats.written, stats.lost)
    for record in trail.records:
        assert record["attributes"]["number"] == record["seq"]
    return stats


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def free_blocks(disk: Path) -> int:
    return os.statvfs(disk).f_bavail


# -- full --


def test_a_disk_that_fills_and_is_freed(small_disk: Path, ring_dir: Path) -> None:
    """F4, F5: for root; a real file system, which fills in the middle of a line."""
    log = small_disk / "log"
    told: list[Stats] = []
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir, on_loss=told.append)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 700 * 1024)
    emitted, worst = 0, 0.0
    while audit.flush(0.3):
        worst = max(worst, emit(audit, 50, emitted + 1))
        emitted += 50
        only_whole_lines(log)
    assert (audit.stats().lost, emitted > 500) == (0, True)
    assert "No space left on device" in str(audit.stats().last_error)
    worst = max(worst, emit(audit, 500, emitted + 1))
    emitted += 500
    assert not audit.flush(0.1)
    only_whole_lines(log)
    lost = audit.stats().lost
    ballast.unlink()
    assert audit.flush(30), "it heals alone"
    assert audit.stats().lost == lost
    emit(audit, 50, emitted + 1)
    emitted += 50
    assert audit.close()
    stats = conserved(audit, log, emitted)
    assert stats.lost_by_reason == {"ring full": lost}
    assert len(told) >= 1
    assert worst < SLOW_S


def only_whole_lines(log: Path) -> None:
    """Whatever the disk does: every whole line is good, and at most the last one is torn."""
    only(log).check(finished=False)


def test_a_disk_that_stays_full_does_not_hold_up_the_end(small_disk: Path, ring_dir: Path) -> None:
    log = small_disk / "log"
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    ballast = small_disk / "ballast"
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    while free_blocks(small_disk):
        os.write(fd, b"x" * 4096)
    os.close(fd)
    emit(audit, 100)
    began = time.monotonic()
    assert not audit.close(0.3)
    assert time.monotonic() - began < 0.3 + SLOW_S
    assert audit.event("late") == 0
    ballast.unlink()
    stream = audit.stats().stream
    assert (ring_dir / f"tradetrail.{stream}.ring").exists(), "what was not written is left to recovery"


# -- failing --


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EAGAIN])
@pytest.mark.parametrize("times", [1, 3])
def test_writes_that_fail_are_gone_on_with(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, code: int, times: int
) -> None:
    """F3, F7: where they stopped, in the same file."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    failing = Failing(monkeypatch, "write", code, lambda call: 2 <= call < 2 + times)
    for turn in range(4):
        emit(audit, 10, turn * 10 + 1)
        assert audit.flush()
    assert audit.close()
    assert failing.failures == times
    stats = conserved(audit, log, 40)
    assert stats.lost == 0
    assert os.strerror(code) in str(stats.last_error)
    assert not only(log).void


def test_short_writes_are_gone_on_with(log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F5: no line is glued to another."""
    real = os.write
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    emit(audit, 20)
    assert audit.close()
    assert conserved(audit, log, 20).lost == 0


def test_a_file_that_cannot_be_written_is_given_up(log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8: what was not synced goes to the next segment, which says so."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush()
    Failing(monkeypatch, "write", errno.EIO, lambda call: 2 <= call < 10)
    emit(audit, 5, 11)
    assert audit.flush()
    emit(audit, 5, 16)
    assert audit.flush()
    assert audit.close()
    assert conserved(audit, log, 20).lost == 0
    trail = only(log)
    assert len(trail.segments) == 2
    assert list(trail.void) == [1]


# -- syncs --


def test_after_a_failed_sync_all_since_the_last_good_one_is_written_anew(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F9: it is not tried again as if it could succeed."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush()
    good = (log / audit.stats().segment).stat().st_size
    failing = Failing(monkeypatch, "fdatasync", errno.EIO, lambda call: call == 1)
    emit(audit, 10, 11)
    assert audit.flush()
    emit(audit, 10, 21)
    assert audit.close()
    assert failing.failures == 1
    assert conserved(audit, log, 30).lost == 0
    trail = only(log)
    first, second = trail.segments
    assert second.header["replaces"] == [{"segment": 1, "offset": good}]
    assert first.footer is None
    assert [line["seq"] for at, line in first.lines if "seq" in line and at < good] == list(range(1, 11))
    assert [line["seq"] for _, line in second.lines if "seq" in line] == list(range(11, 31))


def test_segments_begun_anew_and_never_synced_are_void_from_their_first_byte(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their headers were not synced either: a disk that lost the rest may have lost them."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush()
    good = (log / audit.stats().segment).stat().st_size
    Failing(monkeypatch, "fdatasync", errno.EIO, lambda call: call <= 2)
    emit(audit, 10, 11)
    assert audit.flush(30)
    assert audit.close()
    for path in sorted(log.iterdir())[1:-1]:
        path.write_bytes(bytes(path.stat().st_size))
    assert conserved(audit, log, 20).lost == 0
    assert only(log).void == {1: good, 2: 0}


class Synced:
    """What a loss of power would leave: of each file as many bytes as it had when it was last synced, and of a
    directory the names that it had when it was.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sizes: dict[int, int] = {}
        self._names: set[str] = set()
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, partial(self._sync, getattr(os, name)))

    def _sync(self, real: Callable[[int], None], fd: int) -> None:
        status, names = os.fstat(fd), os.listdir(fd) if stat.S_ISDIR(os.fstat(fd).st_mode) else []
        real(fd)
        self._sizes[status.st_ino] = status.st_size
        self._names.update(names)

    def left(self, log: Path, folder: Path) -> Path:
        """The log as it would be."""
        folder.mkdir()
        for path in log.iterdir():
            if path.name in self._names and (size := self._sizes.get(path.stat().st_ino, 0)):
                (folder / path.name).write_bytes(path.read_bytes()[:size])
        return folder


def test_what_is_said_to_be_on_the_disk_was_synced_and_so_was_its_name(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = Synced(monkeypatch)
    with AuditLog(log, **{**SMALL, "segment_max_bytes": 2000}, ring_dir=ring_dir) as audit:
        for turn in range(1, 21):
            emit(audit, 7, (turn - 1) * 7 + 1)
            assert audit.flush()
            left = only(disk.left(log, tmp_path / f"left-{turn}"))
            assert left.seqs == list(range(1, turn * 7 + 1))
    assert len(only(log).segments) > 20


def test_what_is_said_to_be_on_the_disk_has_the_declarations_of_what_was_lost_before(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """F17: found by the model: a loss of power right behind a flush left a hole that nothing declared."""
    disk, gate = Synced(monkeypatch), threading.Event()
    synced = os.fdatasync

    def fdatasync(fd: int) -> None:
        gate.wait(60)
        synced(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    emitted = 0
    with AuditLog(log, **SMALL, ring_dir=ring_dir) as audit:
        for turn in range(1, 31):
            gate.clear()
            while sum(audit.stats().lost_by_reason.values()) < turn:
                emitted += 1
                emit(audit, 1, emitted)
            gate.set()
            assert audit.flush(30)
            left = only(disk.left(log, tmp_path / f"left-{turn}"))
            assert sorted(left.seqs + left.lost) == list(range(1, emitted + 1)), f"turn {turn}"


def test_syncs_that_fail_over_several_segments(log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated and not yet synced: those segments are void as a whole, footers and all."""
    audit = AuditLog(log, **{**SMALL, "segment_max_bytes": 1000, "fsync_interval_ms": 3_600_000}, ring_dir=ring_dir)
    emit(audit, 2)
    assert audit.flush()
    Failing(monkeypatch, "fdatasync", errno.EIO, lambda call: call == 2)
    emit(audit, 20, 3)
    assert audit.flush()
    emit(audit, 5, 23)
    assert audit.close()
    assert conserved(audit, log, 27).lost == 0
    trail = only(log)
    assert len(trail.void) > 2
    replacing = [s.header for s in trail.segments if s.header.get("replaces")]
    assert len(replacing) == 1
    assert [void["offset"] for void in replacing[0]["replaces"]][1:] == [0] * (len(trail.void) - 1)


def test_a_sync_that_ends_after_its_bytes_were_given_up_says_nothing(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush()
    real, gate, hanging, calls = os.fdatasync, threading.Event(), threading.Event(), []

    def fdatasync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            hanging.set()
            gate.wait(60)
        if len(calls) == 2:
            raise OSError(errno.EIO, "no disk")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    emit(audit, 10, 11)
    hanging.wait(10)
    until(lambda: audit.stats().written == 20)
    Failing(monkeypatch, "write", errno.EIO, lambda call: call <= 8)
    emit(audit, 10, 21)
    until(lambda: audit.stats().segment.endswith(".000002.jsonl") and audit.stats().written == 30)
    gate.set()
    until(lambda: len(calls) > 2)
    assert audit.close()
    assert conserved(audit, log, 30).lost == 0
    assert set(only(log).void) == {1, 2}


def test_syncs_that_fail_without_end_do_not_fill_the_disk(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush()
    healed = threading.Event()
    failing = Failing(monkeypatch, "fdatasync", errno.EIO, lambda _: not healed.is_set())
    worst = emit(audit, 1000, 11)
    until(lambda: failing.failures >= 2)
    assert not audit.flush(0.3)
    assert failing.failures <= 3, "each costs a segment: it is tried less and less often"
    assert audit.stats().lost > 0
    healed.set()
    assert audit.flush(10)
    assert audit.close()
    conserved(audit, log, 1010)
    assert worst < SLOW_S


def test_syncs_that_fail_at_the_end_stop_at_the_deadline(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    Failing(monkeypatch, "fdatasync", errno.EIO, lambda _: True)
    emit(audit, 10)
    began = time.monotonic()
    assert not audit.close(0.3)
    assert time.monotonic() - began < 0.3 + SLOW_S
    audit._core._writer._writing.join(5)  # type: ignore[union-attr]
    assert not audit._core._writer._writing.is_alive(), "it does not go on making files"  # type: ignore[union-attr]


def test_a_full_disk_whose_syncs_fail_makes_one_new_file(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replacing segment's header waits for space in its one file."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush()
    healed = threading.Event()
    Failing(monkeypatch, "fdatasync", errno.EIO, lambda call: call == 1)
    emit(audit, 10, 11)
    until(lambda: audit.stats().written == 20 or "Input/output" in str(audit.stats().last_error))
    full = Failing(monkeypatch, "write", errno.ENOSPC, lambda _: not healed.is_set())
    emit(audit, 10, 21)
    until(lambda: full.failures > 20)
    assert len(list(log.iterdir())) <= 2
    healed.set()
    assert audit.flush(10)
    assert audit.close()
    assert conserved(audit, log, 30).lost == 0


def no_write(patch: pytest.MonkeyPatch, _log: Path) -> OSError:
    Failing(patch, "write", errno.ENOSPC, lambda _: True)
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_file(patch: pytest.MonkeyPatch, _log: Path) -> OSError:
    return no_open(patch, lambda path: path.endswith(".jsonl"))


def no_directory(patch: pytest.MonkeyPatch, log: Path) -> OSError:
    return no_open(patch, lambda path: path == str(log))


def no_open(patch: pytest.MonkeyPatch, which: Callable[[str], bool]) -> OSError:
    real, error = os.open, OSError(errno.EIO, os.strerror(errno.EIO))

    def opened(path: Any, *args: Any, **more: Any) -> int:
        if which(os.fspath(path)):
            raise error
        return real(path, *args, **more)

    patch.setattr(os, "open", opened)
    return error


def no_thread(name: str, patch: pytest.MonkeyPatch, _log: Path) -> RuntimeError:
    real, error = threading.Thread.start, RuntimeError("can't start new thread")

    def start(thread: threading.Thread) -> None:
        if thread.name == name:
            raise error
        real(thread)

    patch.setattr(threading.Thread, "start", start)
    return error


def no_memory(patch: pytest.MonkeyPatch, _log: Path) -> MemoryError:
    error = MemoryError()

    def header(*_args: Any, **_more: Any) -> bytes:
        raise error

    patch.setattr(emitter.writer, "header_line", header)
    return error


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(no_write, id="write"),
        pytest.param(no_file, id="file"),
        pytest.param(no_directory, id="directory"),
        pytest.param(no_memory, id="memory"),
        pytest.param(partial(no_thread, "tradetrail-sync"), id="sync thread"),
        pytest.param(partial(no_thread, "tradetrail-writer"), id="write thread"),
    ],
)
def test_a_start_that_fails_is_told_and_leaves_nothing_behind(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[[pytest.MonkeyPatch, Path], Exception]
) -> None:
    """F4, F8: a bot may try again for as long as its disk is full: no ring, descriptor or thread of a try is kept."""
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        error = fails(patch, log)
        for _ in range(3):
            with pytest.raises(MemoryError if isinstance(error, MemoryError) else DirectoryError) as caught:
                AuditLog(log, **SMALL, ring_dir=ring_dir)
            if isinstance(caught.value, DirectoryError):
                assert str(caught.value) == f"{log}: no segment can be made: {getattr(error, 'strerror', error)}"
    assert (list(log.iterdir()), list(ring_dir.iterdir())) == ([], [])
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == (threads, descriptors)
    with AuditLog(log, disabled=True) as without:
        assert (without.event("x"), without.stats().emitted) == (0, 0)
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 20)
    assert audit.close()
    assert conserved(audit, log, 20).lost == 0


# -- hanging --


def test_a_hung_disk_holds_up_nobody(log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F11: writes go on while a sync hangs."""
    real, gate, hanging = os.fdatasync, threading.Event(), threading.Event()

    def fdatasync(fd: int) -> None:
        hanging.set()
        gate.wait(60)
        real(fd)

    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    worst = emit(audit, 20)
    hanging.wait(10)
    until(lambda: audit.stats().written == 20)
    worst = max(worst, emit(audit, 20, 21))
    until(lambda: audit.stats().written == 40)  # writes go on
    assert audit.stats().last_sync_age_s > 0
    for call in (audit.flush, audit.close):
        began = time.monotonic()
        assert not call(0.2)
        assert time.monotonic() - began < 0.2 + SLOW_S
    assert worst < SLOW_S
    assert (ring_dir / f"tradetrail.{audit.stats().stream}.ring").exists()
    gate.set()


def test_a_write_that_hangs_fills_the_ring_and_no_more(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E3: the writer stands still; then it goes on where it was."""
    real, gate = os.write, threading.Event()

    def write(fd: int, data: Any) -> int:
        gate.wait(60)
        return real(fd, data)

    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    monkeypatch.setattr(os, "write", write)
    worst = emit(audit, 1000)
    assert audit.stats().lost > 0
    assert not audit.flush(0.1)
    gate.set()
    assert audit.flush(10)
    assert audit.close()
    conserved(audit, log, 1000)
    assert worst < SLOW_S
