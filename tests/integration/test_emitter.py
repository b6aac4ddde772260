"""The emitter as a bot meets it: calls, contexts, rotation, threads, signals, forks and the end of a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog

from emitter import AuditLog, Stats

from ..descriptors import descriptors
from ..trail import mode, only, read

SMALL: dict[str, Any] = {"ring_bytes": 64 * 1024, "service": "fox bot", "flush_interval_ms": 2}
ORDER: dict[str, Any] = {
    "exchange": "bybit", "symbol": "MNTUSDT", "order_id": "7", "type": "MARKET", "side": "sell", "status": "FILLED",
}  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def audit(log: Path) -> Iterator[AuditLog]:
    with AuditLog(log, **SMALL) as opened:
        yield opened


def run(
    code: str, *args: object, env: dict[str, str] | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """A bot of a few lines in a process of its own; it prints nothing but what it means to."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == status, done.stderr
    return done


def conserved(stats: Stats) -> Stats:
    assert stats.emitted == stats.written + stats.lost
    assert stats.lost == sum(stats.lost_by_reason.values())
    return stats


# -- calls --


def test_each_call_is_a_record_with_what_it_was_given(audit: AuditLog, log: Path) -> None:
    assert audit.order(**ORDER, size=94.7, price=Decimal("2.1118"), fee=None) == 1
    assert audit.update_order(exchange="bybit", symbol="MNTUSDT", order_id="7", status="CANCELED") == 2
    assert audit.trade(exchange="bybit", symbol="MNTUSDT", side="sell", price=2, executed_qty=Decimal("94.70")) == 3
    assert audit.event("position.closed", position_id=55, severity="warning", reason="take profit") == 4
    assert audit.event("named", name="x", self="y") == 5
    assert audit.order(self=1) == 6
    assert audit.flush()
    records = only(log).check(finished=False).records
    assert [r["event_name"] for r in records] == [
        "order.created", "order.updated", "trade.executed", "position.closed", "named", "order.created",
    ]  # fmt: skip
    assert [r["attributes"] for r in records] == [
        {**ORDER, "size": 94.7, "price": "2.1118"},
        {"exchange": "bybit", "symbol": "MNTUSDT", "order_id": "7", "status": "CANCELED"},
        {"exchange": "bybit", "symbol": "MNTUSDT", "side": "sell", "price": 2, "executed_qty": "94.70"},
        {"position_id": 55, "reason": "take profit"},
        {"name": "x", "self": "y"},
        {"self": 1},
    ]
    assert [(r["severity_text"], r["severity_number"]) for r in records][2:4] == [("INFO", 9), ("WARN", 13)]
    now = datetime.now(UTC)
    for record in records:
        assert abs((now - datetime.fromisoformat(record["timestamp"])).total_seconds()) < 60
        assert "observed_timestamp" not in record


def test_bound_fields_are_added_and_taken_away(audit: AuditLog, log: Path) -> None:
    scoped = audit.bind(position_id=55, signal_id=1)
    deeper = scoped.bind(signal_id=2, side="buy")
    for bound in (scoped, deeper, deeper.unbind("side", "none"), deeper.new(only=1), audit):
        bound.event("x", side="given")
    assert scoped.flush()
    assert [r["attributes"] for r in only(log).records] == [
        {"position_id": 55, "signal_id": 1, "side": "given"},
        {"position_id": 55, "signal_id": 2, "side": "given"},
        {"position_id": 55, "signal_id": 2, "side": "given"},
        {"only": 1, "side": "given"},
        {"side": "given"},
    ]


def test_structlogs_context_is_the_widest(audit: AuditLog, log: Path) -> None:
    with structlog.contextvars.bound_contextvars(position_id=1, strategy="s", a=1):
        audit.bind(a=2, b=2).event("x", b=3)
        structlog.contextvars.unbind_contextvars("strategy")
        audit.event("y")
    audit.event("z")
    assert audit.flush()
    assert [r["attributes"] for r in only(log).records] == [
        {"position_id": 1, "strategy": "s", "a": 2, "b": 3},
        {"position_id": 1, "a": 1},
        {},
    ]


async def test_tasks_keep_their_contexts_apart(log: Path) -> None:
    audit = AuditLog(log, **{**SMALL, "ring_bytes": 1024 * 1024})

    async def trade(number: int) -> list[int]:
        structlog.contextvars.bind_contextvars(task=number)
        seqs = []
        for _ in range(20):
            seqs.append(audit.event("x", number=number))
            await asyncio.sleep(0)
        return seqs

    seqs = await asyncio.gather(*(trade(number) for number in range(20)))
    assert audit.close()
    trail = only(log).check()
    by_seq = {r["seq"]: r["attributes"] for r in trail.records}
    assert sorted(by_seq) == list(range(1, 401))
    for number, mine in enumerate(seqs):
        assert [by_seq[seq] for seq in mine] == [{"task": number, "number": number}] * 20


@pytest.mark.parametrize("moment", [1_600_000_000, 1_600_000_000_000, "2020-09-13T12:26:40Z", "1600000000000000"])
def test_a_record_of_the_past_has_both_times(audit: AuditLog, log: Path, moment: object) -> None:
    audit.bind(timestamp=moment).order(size=1)
    audit.order(size=2, timestamp="yesterday")
    audit.order(size=3, timestamp=None)
    assert audit.flush()
    past, unread, now = only(log).records
    assert past["timestamp"] == "2020-09-13T12:26:40.000Z"
    assert datetime.fromisoformat(past["observed_timestamp"]) > datetime(2026, 1, 1, tzinfo=UTC)
    assert past["attributes"] == {"size": 1}
    assert unread["attributes"] == {"size": 2, "timestamp": "yesterday"}
    assert now["attributes"] == {"size": 3}


def test_nothing_it_is_given_is_raised_or_lost(audit: AuditLog, log: Path) -> None:
    """E17: it is written as what can be said of it."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

        __str__ = __repr__

    class OddTime(datetime):
        def utcoffset(self) -> None:
            raise RuntimeError

        astimezone = utcoffset  # type: ignore[assignment]

    calls: list[Callable[[], int]] = [
        lambda: audit.order(odd=Odd()),
        lambda: audit.event(Odd()),  # type: ignore[arg-type]
        lambda: audit.event("x", severity=Odd()),  # type: ignore[arg-type]
        lambda: audit.event(["unhashable"]),  # type: ignore[arg-type]
        lambda: audit.event(None, severity=None),  # type: ignore[arg-type]
        lambda: audit.order(timestamp=OddTime(2026, 1, 1, tzinfo=UTC)),
        lambda: audit.order(trace_id=Odd(), **{"\ud800": 1, "": 2}),
        lambda: audit.order(big="x" * 1_000_000),
    ]
    assert [call() for call in calls] == list(range(1, len(calls) + 1))
    assert audit.flush()
    trail = only(log).check(finished=False)
    assert trail.seqs == list(range(1, len(calls) + 1))
    assert trail.records[1]["event_name"] == "<Odd: cannot be read>"
    assert trail.records[7]["truncated"] == {"big": 1_000_002}


def test_a_name_that_raises_costs_its_record_and_the_bot_nothing(audit: AuditLog, log: Path) -> None:
    """What nobody expected ends in the log's own last_error, and the record's number is declared."""

    class Name(str):
        sulks = False

        def __hash__(self) -> int:
            if self.sulks:
                raise RuntimeError
            return str.__hash__(self)

    name = Name("side")
    bound = audit.bind(**{name: "sell"})
    name.sulks = True
    assert [bound.order(size=1), audit.order(size=1)] == [1, 2]
    assert audit.flush()
    assert audit.stats().last_error == "RuntimeError in a call of the log"
    trail = only(log).check(finished=False)
    assert (trail.seqs, trail.losses) == ([2], [(1, 1, "not encodable")])


# -- life --


def test_stats_say_what_happened(log: Path) -> None:
    audit = AuditLog(log, **SMALL)
    assert conserved(audit.stats()).emitted == 0
    for _ in range(10):
        audit.order(**ORDER)
    assert audit.flush()
    stats = conserved(audit.stats())
    assert (stats.emitted, stats.written, stats.lost, stats.ring_used_bytes) == (10, 10, 0, 0)
    assert stats.ring_shared
    assert not stats.ring_unlinked
    assert stats.ring_bytes == 64 * 1024
    assert stats.ring_high_water_bytes > 0
    assert stats.last_error is None
    assert stats.last_sync_age_s == 0
    assert stats.segment == f"fox-bot.{stats.stream}.000001.jsonl"
    assert audit.close()
    assert audit.close()
    assert audit.order(**ORDER) == 0
    assert audit.event("x") == 0
    after = conserved(audit.stats())
    assert (after.emitted, after.written, after.lost_by_reason) == (12, 10, {"closed": 2})
    assert after.stream == stats.stream
    assert audit.flush()


def test_leaving_the_block_closes_what_it_opened_and_no_more(log: Path) -> None:
    with AuditLog(log, **SMALL) as audit:
        with audit.bind(position_id=55) as scoped:
            scoped.event("x")
        assert audit.event("y") == 2
    assert audit.event("z") == 0
    assert only(log).check().seqs == [1, 2]


def test_closing_a_bound_log_closes_the_stream(log: Path) -> None:
    scoped = AuditLog(log, **SMALL).bind(a=1)
    scoped.event("x")
    assert scoped.close()
    assert only(log).check().seqs == [1]


def test_closing_from_many_threads_at_once(log: Path) -> None:
    audit = AuditLog(log, **SMALL)
    audit.event("x")
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(audit.close())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert only(log).check().seqs == [1]


def test_disabled_by_opentelemetrys_switch_it_does_nothing(log: Path) -> None:
    audit = AuditLog.from_env({"OTEL_SDK_DISABLED": "true", "TRADETRAIL_DIR": str(log)})
    assert audit.order(**ORDER) == 0
    assert audit.bind(a=1).event("x") == 0
    assert audit.flush()
    assert audit.stats().emitted == 0
    assert audit.close()
    assert not log.exists()


def test_importing_opens_nothing_and_starts_nothing() -> None:
    run(
        """
        import os, sys, threading
        before = sorted(os.listdir("/proc/self/fd"))
        import emitter
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert threading.active_count() == 1
        heavy = {"duckdb", "asyncpg", "loader", "pandas", "numpy"} & set(sys.modules)
        assert not heavy, heavy
        """
    )


def test_descriptors_and_threads_are_given_back(log: Path) -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = held()
    for _ in range(3):
        with AuditLog(log, **SMALL, segment_max_bytes=500) as audit:
            for _ in range(20):
                audit.order(**ORDER)
    assert held() == before
    rings = [path for path in Path("/dev/shm").glob("tradetrail.*") if any(s in path.name for s in read(log))]
    assert rings == []


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        audit = AuditLog(tmp_path / "a" / "log", **SMALL, segment_max_bytes=500)
    finally:
        os.umask(umask)
    for _ in range(10):
        audit.order(**ORDER)
    ring = Path(f"/dev/shm/tradetrail.{audit.stats().stream}.ring")
    assert mode(ring) == 0o600
    assert audit.close()
    assert mode(tmp_path / "a") == 0o755
    assert mode(tmp_path / "a" / "log") == 0o700
    files = list((tmp_path / "a" / "log").iterdir())
    assert len(files) > 2
    assert {mode(path) for path in files} == {0o600}


# -- segments --


def test_rotation_by_size_leaves_a_chain(log: Path) -> None:
    with AuditLog(log, **{**SMALL, "segment_max_bytes": 1500}) as audit:
        for number in range(100):
            audit.order(**ORDER, number=number)
            if number % 10 == 9:
                assert audit.flush()
    trail = only(log).check()
    assert trail.seqs == list(range(1, 101))
    assert [r["attributes"]["number"] for r in trail.records] == list(range(100))
    assert len(trail.segments) > 10
    assert all(len(s.body) <= 1500 for s in trail.segments)
    headers = [s.header for s in trail.segments]
    assert {h["service"] for h in headers} == {"fox bot"}
    assert {h["resource"]["service.name"] for h in headers} == {"fox bot"}
    assert {h["pid"] for h in headers} == {os.getpid()}
    assert not any(s.footer and s.footer["recovered"] for s in trail.segments)


def test_lines_that_wrap_around_the_rings_end_are_in_their_segments_digest(log: Path) -> None:
    with AuditLog(log, **{**SMALL, "ring_bytes": 64 * 1024, "flush_interval_ms": 1000}) as audit:
        for number in range(1000):
            audit.event("x", text="y" * 200)
            if number % 50 == 49:
                assert audit.flush()
    trail = only(log).check()
    assert trail.seqs == list(range(1, 1001))
    assert sum(len(segment.body) for segment in trail.segments) > 4 * 64 * 1024


def test_a_record_longer_than_a_segment_has_one_to_itself(log: Path) -> None:
    with AuditLog(log, **{**SMALL, "segment_max_bytes": 200}) as audit:
        for _ in range(5):
            audit.event("x", text="y" * 1000)
    trail = only(log).check()
    assert trail.seqs == [1, 2, 3, 4, 5]
    assert [s.footer["records"] for s in trail.segments if s.footer] == [1] * 5


def test_rotation_by_age_needs_a_record(log: Path) -> None:
    with AuditLog(log, **SMALL, segment_max_age_s=0.02) as audit:
        assert audit.flush()
        first = audit.stats().segment
        for seq in range(1, 4):
            assert audit.event("x") == seq
            rotated(audit, f".{seq + 1:06d}.")
        last = audit.stats().segment
    assert first.endswith(".000001.jsonl")
    assert last.endswith(".000004.jsonl"), "an empty segment does not age"
    trail = only(log).check()
    assert [s.footer["records"] for s in trail.segments if s.footer] == [1, 1, 1, 0]


def rotated(audit: AuditLog, number: str) -> None:
    deadline = time.monotonic() + 10
    while number not in audit.stats().segment:
        assert time.monotonic() < deadline, audit.stats()
        audit.flush()


def test_without_descriptors_it_goes_on_in_the_old_segment(log: Path) -> None:
    """E22: and rotates once it can."""
    run(
        """
        import os, resource, sys
        from emitter import AuditLog
        audit = AuditLog(sys.argv[1], segment_max_bytes=1000, ring_bytes=65536, flush_interval_ms=2)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        for _ in range(50):
            assert audit.order(exchange="bybit")
        assert audit.flush()
        stats = audit.stats()
        assert stats.segment.endswith(".000001.jsonl"), stats
        assert "Too many open files" in stats.last_error, stats
        assert stats.written == 50 and stats.lost == 0, stats
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 100, hard))
        while audit.stats().segment.endswith(".000001.jsonl"):
            assert audit.order(exchange="bybit")
            assert audit.flush()
        """,
        log,
    )
    trail = only(log).check()
    assert len(trail.segments) > 1
    assert trail.lost == []


# -- threads and signals --


def test_many_threads_leave_whole_lines_in_the_order_of_their_seqs(log: Path) -> None:
    audit = AuditLog(log, service="x", ring_bytes=16 * 1024 * 1024, segment_max_bytes=400_000)
    seqs: list[list[int]] = [[] for _ in range(8)]

    def bot(number: int) -> None:
        for turn in range(2000):
            seqs[number].append(audit.order(thread=number, turn=turn))

    threads = [threading.Thread(target=bot, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audit.close()
    trail = only(log).check()
    assert trail.seqs == list(range(1, 16_001))
    assert len(trail.segments) > 3
    by_seq = {r["seq"]: (r["attributes"]["thread"], r["attributes"]["turn"]) for r in trail.records}
    for number, mine in enumerate(seqs):
        assert [by_seq[seq] for seq in mine] == [(number, turn) for turn in range(2000)]
    assert conserved(audit.stats()).written == 16_000


def test_a_storm_of_signals_whose_handler_logs(log: Path) -> None:
    """E7: no deadlock, nothing lost, no number twice."""
    handled: list[int] = []
    with AuditLog(log, **{**SMALL, "ring_bytes": 1024 * 1024}) as audit:
        before = signal.signal(signal.SIGALRM, lambda *_: handled.append(audit.event("signal")))
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        mine = []
        try:
            while len(handled) < 1000:
                mine.append(audit.event("main"))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    trail = only(log).check()
    assert sorted(trail.seqs + trail.lost) == sorted(mine + handled)
    names = {r["seq"]: r["event_name"] for r in trail.records}
    assert all(names.get(seq, "signal") == "signal" for seq in handled)
    assert all(names.get(seq, "main") == "main" for seq in mine)
    conserved(audit.stats())


def test_a_handler_that_closes_and_exits_while_the_bot_logs(log: Path) -> None:
    for _ in range(5):
        run(
            """
            import signal, sys, threading
            from emitter import AuditLog
            audit = AuditLog(sys.argv[1], ring_bytes=32 << 20)
            def stop(*_):
                assert audit.close(10.0)
                stats = audit.stats()
                print(stats.written)
                sys.exit(0)
            signal.signal(signal.SIGALRM, stop)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            while True:
                assert audit.order(exchange="bybit"), "closed"
            """,
            log,
        )
    for trail in read(log).values():
        assert trail.check().seqs


def test_a_loss_is_told_once_an_episode_and_declared(log: Path) -> None:
    told: list[Stats] = []
    waiting, go_on = threading.Event(), threading.Event()

    def on_loss(stats: Stats) -> None:
        told.append(stats)
        waiting.set()
        go_on.wait(10)  # the writer's own thread: meanwhile nothing is written
        raise SystemExit("the bot's own mistake")

    audit = AuditLog(log, **{**SMALL, "ring_bytes": 16 * 1024, "fsync_interval_ms": 2, "on_loss": on_loss})
    emitted = 0
    while not waiting.is_set():
        emitted += 1
        assert audit.event("x", text="y" * 200) == emitted
    for _ in range(100):
        emitted += 1
        assert audit.event("x", text="y" * 200) == emitted
    go_on.set()
    assert audit.flush()
    assert audit.close()
    trail = only(log).check()
    assert len(trail.seqs) + len(trail.lost) == emitted
    assert {reason for _, _, reason in trail.losses} == {"ring full"}
    stats = conserved(audit.stats())
    assert stats.lost_by_reason == {"ring full": len(trail.lost)}
    assert stats.last_error == "on_loss raised SystemExit: the bot's own mistake"
    declarations = [line for s in trail.segments for _, line in s.lines if line["event_name"] == "audit.lost"]
    assert 1 <= len(told) <= len(declarations)
    assert told[0].lost >= 1


def test_a_callback_that_flushes_or_closes_does_not_hang_the_writer(log: Path) -> None:
    answers: list[bool] = []

    def on_loss(_: Stats) -> None:
        answers.extend((audit.flush(5), audit.close(5)))

    audit = AuditLog(log, **{**SMALL, "ring_bytes": 16 * 1024, "on_loss": on_loss})
    began = time.monotonic()
    while not answers:
        audit.event("x", text="y" * 200)
    assert audit.close()
    assert time.monotonic() - began < 5
    assert answers == [False, False]
    only(log).check()
    conserved(audit.stats())


def test_losses_that_no_longer_fit_are_declared_at_the_end(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), os.fdatasync

    def fdatasync(fd: int) -> None:
        gate.wait(10)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    audit = AuditLog(log, **{**SMALL, "ring_bytes": 16 * 1024, "fsync_interval_ms": 1})
    ring = audit._core._ring
    assert ring is not None
    while not audit.stats().lost:
        audit.event("x", text="y" * 200)
    for _ in range(6):
        for number in range(60):
            ring.forgo(2 + number % 2)
        ring.write_losses(at_once=True)
    assert ring.memory.pending_losses(), "the last declaration finds no room before a sync"
    gate.set()
    assert audit.close()
    trail = only(log).check()
    assert conserved(audit.stats()).lost == len(trail.lost)
    assert len(trail.lost) > 360


# -- two at once --


def test_two_logs_in_one_process_and_two_in_another(log: Path) -> None:
    """F21: in one directory, under one name."""
    first, second = AuditLog(log, **SMALL), AuditLog(log, **SMALL)
    code = """
        import sys
        from emitter import AuditLog
        with AuditLog(sys.argv[1], service="other") as audit:
            for number in range(100):
                audit.event("x", number=number)
        """
    for number in range(100):
        first.event("first", number=number)
        second.event("second", number=number)
    run(code, log)
    first.event("after")
    assert first.close()
    assert second.close()
    trails = read(log)
    found = {trail.segments[0].path.name.split(".")[0]: trail.check() for trail in trails.values()}
    assert set(found) == {"fox-bot", "other"}
    names = {trail.records[0]["event_name"]: trail for trail in trails.values()}
    assert {name: len(trail.seqs) for name, trail in names.items()} == {"first": 101, "second": 100, "x": 100}
    assert not any(s.footer["recovered"] for t in trails.values() for s in t.segments if s.footer)


# -- forks --


def wait(pid: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def in_child(work: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: a fork beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def test_a_forked_child_has_a_stream_of_its_own(log: Path) -> None:
    """E9: and the parent's records are not written twice."""
    audit = AuditLog(log, **{**SMALL, "flush_interval_ms": 200, "fsync_interval_ms": 10_000})
    for _ in range(10):
        audit.event("parent")  # still in the ring when it forks

    def child() -> None:
        assert audit.stats().emitted == 0
        assert [audit.event("child") for _ in range(5)] == [1, 2, 3, 4, 5]
        assert audit.close()

    wait(in_child(child))
    audit.event("parent")
    assert audit.close()
    by_name = {t.records[0]["event_name"]: t.check() for t in read(log).values()}
    assert {name: t.seqs for name, t in by_name.items()} == {"parent": list(range(1, 12)), "child": [1, 2, 3, 4, 5]}


def test_a_child_that_never_logs_leaves_no_file_and_closes_no_file_of_others(log: Path, tmp_path: Path) -> None:
    """E10: however it ends."""
    closed = AuditLog(log, **SMALL)
    closed.event("x")
    assert closed.close()
    audit = AuditLog(log, **SMALL)
    audit.event("parent")
    files = [(tmp_path / f"mine{n}").open("w") for n in range(8)]  # with the numbers that the closed log had
    parents = audit.stats().stream

    def child() -> None:
        for file in files:
            os.fstat(file.fileno())
        assert not any(parents in name for name in links())
        assert audit.close()

    wait(in_child(child))
    for file in files:
        file.close()
    assert audit.close()
    assert len(read(log)) == 2
    assert [t.check().seqs for t in read(log).values()] == [[1], [1]]


def links() -> list[str]:
    return [name for name in descriptors() if name.endswith(".jsonl")]


def test_forks_while_other_threads_log(log: Path) -> None:
    """E9: no child inherits a lock that nobody will let go of."""
    audit = AuditLog(log, **{**SMALL, "ring_bytes": 1024 * 1024, "segment_max_bytes": 2000})
    stop = threading.Event()
    counts = [0, 0]

    def bot(number: int) -> None:
        while not stop.is_set():
            audit.event("parent", thread=number)
            counts[number] += 1

    threads = [threading.Thread(target=bot, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()

    def child() -> None:
        assert audit.event("child") == 1
        assert audit.close(timeout=60)

    for _ in range(15):
        wait(in_child(child))
    stop.set()
    for thread in threads:
        thread.join()
    assert audit.close(timeout=60)
    trails = [t.check() for t in read(log).values()]
    children = [t for t in trails if t.records[0]["event_name"] == "child"]
    (parent,) = [t for t in trails if t not in children]
    assert [t.seqs for t in children] == [[1]] * 15
    assert len(parent.seqs) + len(parent.lost) == sum(counts)


def test_multiprocessing_closes_its_workers_streams(log: Path, tmp_path: Path) -> None:
    """E11: forked, spawned, and by a fork server."""
    script = tmp_path / "bot.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            from emitter import AuditLog

            def forked(number):
                for _ in range(10):
                    audit.event("forked", number=number)

            def spawned(directory):
                with AuditLog(directory) as own:
                    for _ in range(10):
                        own.event("spawned")

            if __name__ == "__main__":
                audit = AuditLog(sys.argv[1])
                audit.event("main")
                work = [multiprocessing.get_context("fork").Process(target=forked, args=(n,)) for n in range(2)]
                work += [multiprocessing.get_context("spawn").Process(target=spawned, args=(sys.argv[1],))]
                for process in work:
                    process.start()
                for process in work:
                    process.join()
                    assert process.exitcode == 0
            """
        )
    )
    subprocess.run([sys.executable, script, log], check=True, timeout=60)
    found = sorted((t.check().records[0]["event_name"], len(t.seqs)) for t in read(log).values())
    assert found == [("forked", 10), ("forked", 10), ("main", 1), ("spawned", 10)]
    assert not any(s.footer["recovered"] for t in read(log).values() for s in t.segments if s.footer)


# -- the end of the process --

ENDS = {
    "normal exit": ("", 0),
    "unhandled exception": ("raise RuntimeError('the bot')", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "sys.exit in a thread": ("import threading; t = threading.Thread(target=sys.exit); t.start(); t.join()", 0),
    "keyboard interrupt": ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -2),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_close_writes_everything(log: Path, end: str) -> None:
    """E12, E15: two thousand records that wait, and each way to end that Python sees."""
    code, status = ENDS[end]
    done = run(
        f"""
        import sys
        from emitter import AuditLog
        audit = AuditLog(sys.argv[1], flush_interval_ms=3600000, fsync_interval_ms=3600000)
        for number in range(2000):
            audit.order(number=number)
        {code}
        """,
        log,
        status=status,
    )
    trail = only(log).check()
    assert trail.seqs == list(range(1, 2001))
    assert not trail.segments[-1].footer["recovered"]  # type: ignore[index]
    if status == 0:
        assert done.stderr == ""


def test_calls_after_the_end_are_counted_and_say_nothing(log: Path) -> None:
    """E13, E28: an atexit handler registered before the emitter was imported runs after it closed; threads run on."""
    done = run(
        """
        import atexit, sys, threading
        def late():
            assert audit.order(exchange="bybit") == 0
            stats = audit.stats()
            assert stats.lost_by_reason["closed"] >= 1, stats
            assert stats.emitted == stats.written + stats.lost, stats
            print("late")
        atexit.register(late)
        from emitter import AuditLog
        audit = AuditLog(sys.argv[1])
        assert audit.order(exchange="bybit") == 1
        started = threading.Event()
        class Logs:
            def __del__(self):
                audit.order(exchange="bybit")
        keep = Logs()
        def bot():
            while True:
                audit.event("x")
                started.set()
        threading.Thread(target=bot, daemon=True).start()
        started.wait()
        """,
        log,
    )
    assert (done.stdout, done.stderr) == ("late\n", "")
    assert only(log).check().seqs[0] == 1


def test_a_log_that_was_dropped_is_closed_at_the_end(log: Path) -> None:
    run(
        """
        import gc, sys
        from emitter import AuditLog
        AuditLog(sys.argv[1], flush_interval_ms=3600000).order(exchange="bybit")
        gc.collect()
        """,
        log,
    )
    assert only(log).check().seqs == [1]


# -- the ring's and the directory's fate --


def test_a_ring_that_others_removed_is_told(log: Path) -> None:
    """E27: by ``stats()``; what is logged goes on into the file."""
    with AuditLog(log, **SMALL) as audit:
        Path(f"/dev/shm/tradetrail.{audit.stats().stream}.ring").unlink()
        assert audit.stats().ring_unlinked
        audit.event("x")
    assert not audit.stats().ring_unlinked
    assert only(log).check().seqs == [1]


def test_a_directory_removed_under_the_writer_is_made_again(log: Path) -> None:
    """F14: what was not synced is written there anew."""
    audit = AuditLog(log, **{**SMALL, "fsync_interval_ms": 60_000, "flush_interval_ms": 1000})
    for path in log.iterdir():
        path.unlink()
    log.rmdir()
    for seq in range(1, 51):
        assert audit.event("x") == seq
    assert audit.flush()
    for seq in range(51, 101):
        assert audit.event("x") == seq
    assert audit.close()
    stats = conserved(audit.stats())
    assert (stats.written, stats.lost) == (100, 0)
    assert "removed while it was written" in str(stats.last_error)
    assert mode(log) == 0o700
    (segment,) = next(iter(read(log).values())).segments
    assert [line["seq"] for _, line in segment.lines if "seq" in line] == list(range(1, 101))


def test_a_directory_that_cannot_be_made_again_costs_declared_losses_only(log: Path) -> None:
    """F14: for as long as that lasts."""
    audit = AuditLog(log, **{**SMALL, "ring_bytes": 16 * 1024, "fsync_interval_ms": 2})
    for path in log.iterdir():
        path.unlink()
    log.rmdir()
    log.touch()  # a file in its place
    worst = 0.0
    for seq in range(1, 1001):
        began = time.perf_counter()
        assert audit.event("x") == seq
        worst = max(worst, time.perf_counter() - began)
    assert not audit.flush(0.2)
    assert audit.stats().lost > 0
    log.unlink()
    assert audit.flush()
    assert audit.close()
    conserved(audit.stats())
    assert worst < 0.25
    ((segment,),) = [t.segments for t in read(log).values()]
    seqs = [line["seq"] for _, line in segment.lines if "seq" in line]
    lost = sum(line["attributes"]["count"] for _, line in segment.lines if line["event_name"] == "audit.lost")
    assert len(seqs) + lost == 1000
