"""What may befall a bot's own process: stalls, storms, no memory, no room, clocks that jump, ends at bad moments."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog
from emitter.memory import Memory
from emitter.ring import Ring
from emitter.writer import Writer

from ..bots import Bot, recovered
from ..disks import small_tmpfs
from ..trail import only
from .interposer import DELAY, EVER, OPEN, Fault, Interposer
from .test_disk import SLOW_S, conserved, emit, until

SMALL: dict[str, Any] = {
    "service": "fox-bot", "ring_bytes": 64 * 1024, "flush_interval_ms": 1, "fsync_interval_ms": 5,
    "segment_max_bytes": 32 * 1024,
}  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


class Gate:
    """``os.<name>`` waits on segment files while the gate is shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real, self._open = getattr(os, name), threading.Event()
        self._open.set()

        def call(fd: int, *args: Any) -> Any:
            if ".jsonl" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                assert self._open.wait(60)
            return real(fd, *args)

        monkeypatch.setattr(os, name, call)

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


def script(text: str, *args: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """A bot of a few lines in an interpreter of its own."""
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)


# -- stalls and storms --


def test_a_writer_that_stands_still_for_less_than_the_ring_holds_costs_nothing(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E5: the ring takes it all, and says how much it holds; then it is drained."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    gate = Gate(monkeypatch, "write")
    gate.shut()
    worst = emit(audit, 100)
    held = audit.stats().ring_used_bytes
    assert 100 * 200 < held < 64 * 1024
    assert not audit.flush(0.05)
    gate.open()
    assert audit.flush(10)
    assert audit.stats().ring_used_bytes == 0
    assert audit.stats().ring_high_water_bytes >= held
    assert audit.close()
    assert conserved(audit, log, 100).lost == 0
    assert worst < SLOW_S


def test_each_burst_that_does_not_fit_the_ring_is_declared_in_few_lines(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E6: far more than the ring holds, three times; the newest are dropped, their numbers are exact and in order."""
    told: list[int] = []
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir, on_loss=lambda stats: told.append(stats.lost))
    gate, emitted, worst = Gate(monkeypatch, "write"), 0, 0.0
    for _ in range(3):
        gate.shut()
        worst = max(worst, emit(audit, 1500, emitted + 1))
        emitted += 1500
        gate.open()
        assert audit.flush(10)
    assert audit.close()
    stats = conserved(audit, log, emitted)
    trail = only(log)
    assert told
    # One range a burst, or few: what was given back just as the gate shut lets single records in.
    assert {(first - 1) // 1500 for first, _, _ in trail.losses} == {0, 1, 2}
    assert len(trail.losses) < 12
    assert sum(last - first + 1 for first, last, _ in trail.losses) == stats.lost > 3000
    assert {last for _, last, _ in trail.losses} >= {1500, 3000, 4500}, "the newest of each burst"
    assert {reason for *_, reason in trail.losses} == {"ring full"}
    assert worst < SLOW_S


def test_records_logged_by_finalisers_weakrefs_and_the_collector_in_the_midst_of_a_call_stand_once(log: Path) -> None:
    """E8: the collector runs at nearly every allocation, also those of the log's own calls."""
    audit = AuditLog(log, **{**SMALL, "ring_bytes": 4 * 1024 * 1024})
    seqs: list[int] = []
    busy = False

    def say(kind: str) -> None:
        nonlocal busy
        if not busy and len(seqs) < 3000:
            busy = True
            try:
                seqs.append(audit.event(kind))
            finally:
                busy = False

    class Doomed:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            say("finaliser")

    def collected(phase: str, _: object) -> None:
        say(f"collector.{phase}")

    before = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(2, 1, 1)
    try:
        for number in range(300):
            weakref.finalize(Doomed(), say, "weakref")
            seqs.append(audit.event("bot", text={"number": number, "list": [[], {}, []]}))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(collected)
    gc.collect()
    assert audit.close()
    trail = only(log).check()
    assert sorted(seqs) == trail.seqs == list(range(1, len(seqs) + 1))
    assert {r["event_name"] for r in trail.records} >= {"bot", "finaliser", "weakref", "collector.start"}
    assert len(seqs) > 600


@pytest.mark.parametrize("stored", ["half", "whole"])
def test_a_record_whose_copy_into_the_ring_was_cut_by_a_kill_is_not_there(
    log: Path, ring_dir: Path, stored: str
) -> None:
    """E4: its bytes are in the ring, in half or whole, and the head has not moved."""

    class Deadly:
        def __init__(self, data: Any) -> None:
            self._data = data

        def __setitem__(self, at: slice, line: bytes) -> None:
            part = line[: len(line) // 2] if stored == "half" else line
            self._data[at.start : at.start + len(part)] = part
            os.kill(os.getpid(), signal.SIGKILL)

    def bot(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
        for number in range(1, 21):
            say(audit.event("x", number=number))
        ring = audit._core._ring
        assert ring is not None
        ring._data = Deadly(ring._data)  # type: ignore[assignment]
        audit.event("x", number=21)

    status, acked = Bot(bot).end()
    assert status == -signal.SIGKILL
    recovered(log, ring_dir)
    assert only(log).check().seqs == acked == list(range(1, 21))


def test_a_starved_bot_loses_and_doubles_nothing(log: Path, ring_dir: Path) -> None:
    """E23: it is stopped and let go on in turns, with all its threads, at any instant; then killed."""

    def bot(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **{**SMALL, "ring_bytes": 8 * 1024 * 1024}, ring_dir=ring_dir)
        while True:
            say(audit.event("x", text="y" * 100))

    process = Bot(bot)
    chance = random.Random(23)
    for _ in range(40):
        process.wait_for(len(process.acked) + chance.randrange(1, 50))
        os.kill(process.pid, signal.SIGSTOP)
        threading.Event().wait(0.009 * chance.random())
        os.kill(process.pid, signal.SIGCONT)
    acked = process.kill()
    recovered(log, ring_dir)
    trail = only(log).check()
    assert acked == list(range(1, len(acked) + 1))
    assert set(acked) <= set(trail.seqs + trail.lost)


# -- no memory, and what else breaks a thread --


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, SystemExit])
@pytest.mark.parametrize(
    ("owner", "name"), [(Ring, "numbers"), (Memory, "views"), (Writer, "_sync"), (Writer, "_reached")]
)
def test_an_exception_that_nobody_expected_ends_neither_of_the_writers_threads(
    log: Path, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], owner: type, name: str
) -> None:
    """E19, E20: what the ring holds is written all the same, ``stats()`` says what it was."""
    audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
    emit(audit, 10)
    assert audit.flush()
    real, raised = getattr(owner, name), threading.Event()

    def once(*args: Any) -> Any:
        if not raised.is_set() and threading.current_thread().name.startswith("tradetrail"):
            raised.set()
            raise error("of nobody's doing")
        return real(*args)

    monkeypatch.setattr(owner, name, once)
    emit(audit, 10, 11)
    assert raised.wait(10)
    assert audit.flush(10), audit.stats()
    emit(audit, 10, 21)
    assert audit.flush(10), audit.stats()
    assert audit.close()
    stats = conserved(audit, log, 30)
    assert stats.lost == 0
    assert error.__name__ in str(stats.last_error)


def test_a_bot_without_memory_goes_on_and_what_it_could_not_say_is_declared(log: Path, ring_dir: Path) -> None:
    """E19: the address space is used up, for real; calls with large values fail inside, and raise nothing."""

    def bot(say: Callable[[int], None]) -> None:
        audit = AuditLog(log, **SMALL, ring_dir=ring_dir)
        say(audit.event("x", number=1))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        large = ["y" * 1_000_000] * 40
        resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, resource.RLIM_INFINITY))
        for number in range(2, 12):
            say(audit.event("x", number=number, large=large))
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(audit.event("x", number=12))
        assert audit.close()

    status, acked = Bot(bot).end()
    assert status == 0
    trail = only(log).check()
    assert acked == sorted(trail.seqs + trail.lost) == list(range(1, 13))
    assert {1, 12} <= set(trail.seqs)


# -- room for the ring --


def test_a_place_for_rings_that_is_full_before_the_start_is_said_and_done_without(log: Path, tmp_path: Path) -> None:
    """E24: no SIGBUS, and no bot that does not start."""
    with small_tmpfs(tmp_path / "shm", "1m") as shm:
        (shm / "ballast").write_bytes(bytes(900 * 1024))
        with pytest.warns(UserWarning, match="no ring that outlives the process"):
            audit = AuditLog(log, **{**SMALL, "ring_bytes": 512 * 1024}, ring_dir=shm)
        assert list(shm.iterdir()) == [shm / "ballast"]
        assert not audit.stats().ring_shared
        emit(audit, 100)
        assert audit.close()
    assert conserved(audit, log, 100).lost == 0


def test_a_place_for_rings_that_others_fill_after_the_start_takes_nothing_away(log: Path, tmp_path: Path) -> None:
    """E25: every page of the ring was there from the start."""
    with small_tmpfs(tmp_path / "shm", "1m") as shm:
        audit = AuditLog(log, **{**SMALL, "ring_bytes": 512 * 1024}, ring_dir=shm)
        assert audit.stats().ring_shared
        with pytest.raises(OSError, match="No space left"):
            (shm / "ballast").write_bytes(bytes(1024 * 1024))
        for turn in range(5):
            emit(audit, 1000, turn * 1000 + 1)
            assert audit.flush(10)
        assert audit.close()
    assert conserved(audit, log, 5000).lost == 0


def test_a_memory_cgroup_smaller_than_the_ring_is_seen_before_it_kills(log: Path, ring_dir: Path) -> None:
    """E26: whoever touches more than the limit is killed without a word; the ring is not made there."""
    group = Path("/sys/fs/cgroup/memory") / f"tradetrail-test-{os.getpid()}"
    if not group.parent.is_dir() or not os.access(group.parent, os.W_OK):
        pytest.skip("no memory cgroup (version 1) may be made here")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(64 * 1024 * 1024))
        done = script(
            """
            import os, sys, warnings
            open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
            from emitter import AuditLog
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                audit = AuditLog(sys.argv[2], service="fox-bot", ring_dir=sys.argv[3], ring_bytes=128 * 1024 * 1024)
            for number in range(100):
                audit.event("x", number=number)
            print(audit.stats().ring_shared, audit.close(), *[str(word.message)[:40] for word in told])
            """,
            group, log, ring_dir,
        )  # fmt: skip
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.startswith("False True no ring that outlives the process"), done.stdout
    assert len(only(log).check().seqs) == 100


# -- the clock --


def test_a_wall_clock_that_jumps_moves_no_number_and_starts_no_storm_of_segments(
    interposer: Interposer, tmp_path: Path, ring_dir: Path
) -> None:
    """E21: an hour back, three days on, and back again; the order is that of the seqs, rotation goes by size."""
    counts: list[int] = []
    for steps in ([0] * 6, [0, -3600, 3 * 86400, 0, -86400, 0]):
        log = tmp_path / f"log{len(counts)}"
        fault = Fault(OPEN, DELAY, at=EVER)  # no call is struck; the clock is
        outcome = interposer.run("bot_with_clock", fault, directory=log, ring_dir=ring_dir, steps=steps)
        assert outcome.status == 0, outcome.said
        trail = outcome.account.hold(log, outcome.said)
        assert trail is not None
        assert len(trail.seqs) == len(steps) * 30
        counts.append(len(trail.segments))
    moments = [datetime.fromisoformat(record["timestamp"]) for record in trail.records]
    jumps = [(b - a).total_seconds() for a, b in zip(moments[29::30], moments[30::30], strict=False)]
    wanted = [b - a for a, b in pairwise(steps)]
    assert all(abs(jump - step) < 60 for jump, step in zip(jumps, wanted, strict=True)), jumps
    assert counts[0] == counts[1]


# -- the end --


def test_a_sigterm_that_nobody_handles_ends_the_bot_and_loses_nothing(log: Path, ring_dir: Path) -> None:
    """E14: no handler of ours stands in the way of the bot's; what was not written yet is in the ring."""

    def bot(say: Callable[[int], None]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        audit = AuditLog(log, **{**SMALL, "flush_interval_ms": 3_600_000}, ring_dir=ring_dir)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        for number in range(100):
            say(audit.event("x", number=number))
        signal.pause()

    process = Bot(bot)
    process.wait_for(100)
    os.kill(process.pid, signal.SIGTERM)
    assert process.end() == (-signal.SIGTERM, list(range(1, 101)))
    recovered(log, ring_dir)
    assert only(log).check().seqs == list(range(1, 101))


def test_a_process_whose_disk_hangs_ends_in_its_time_and_loses_nothing(log: Path, ring_dir: Path) -> None:
    """E16: nothing waits for the disk beyond the deadline; what it did not take is in the ring."""
    began = time.monotonic()
    done = script(
        """
        import os, sys, threading, emitter.core
        from emitter import AuditLog
        emitter.core.CLOSE_TIMEOUT_S = 0.5
        audit = AuditLog(sys.argv[1], service="fox-bot", ring_dir=sys.argv[2])
        os.write = os.fdatasync = lambda *_: threading.Event().wait()
        for number in range(100):
            audit.event("x", number=number)
        """,
        log, ring_dir,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 20
    recovered(log, ring_dir)
    assert only(log).check().seqs == list(range(1, 101))
