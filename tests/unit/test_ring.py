"""The ring alone: what producers put in is what the writer finds, and what finds no room is declared."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from emitter import AuditLog, RingDamaged
from emitter.memory import (
    CLOSED,
    HEAD,
    HEADER_BYTES,
    INTERRUPTED,
    MAX_LOSSES,
    NOT_ENCODABLE,
    OPEN,
    REASONS,
    RESERVE,
    RING_FULL,
    SYNCED,
    WRITTEN,
    Memory,
    Slot,
)  # fmt: skip
from emitter.ring import Ring
from emitter.segments import new_stream
from emitter.shared import anonymous, create_shared, list_rings, open_shared, remove_unused, ring_path

from ..trail import mode, strict

CAPACITY = 16 * 1024


@pytest.fixture
def ring() -> Ring:
    stream = new_stream()
    memory = anonymous(CAPACITY)
    memory.initialise(stream, Path("/log"))
    return Ring(memory, stream)


@pytest.fixture
def ring_dir() -> Iterator[Path]:
    """A folder on tmpfs."""
    import tempfile

    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm to make a ring in")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def body(size: int = 40) -> bytes:
    return b',"x":"%b"}\n' % (b"x" * (size - 9))


class Reader:
    """The writer's part: takes what is there and gives the space back."""

    def __init__(self, ring: Ring) -> None:
        self.memory = ring.memory
        self.text = b""

    def drain(self, *, sync: bool = True) -> bytes:
        words = self.memory.header
        head = words[HEAD]
        part = self.memory.read(words[WRITTEN], head)
        words[WRITTEN] = head
        if sync:
            words[SYNCED] = head
        self.text += part
        return part

    @property
    def lines(self) -> list[dict]:  # type: ignore[type-arg]
        assert not self.text or self.text.endswith(b"\n")
        return [strict(line) for line in self.text.splitlines()]

    @property
    def seqs(self) -> list[int]:
        return [line["seq"] for line in self.lines if "seq" in line]

    @property
    def losses(self) -> list[tuple[int, int, str]]:
        found = [line["attributes"] for line in self.lines if line.get("event_name") == "audit.lost"]
        for attributes in found:
            assert attributes["count"] == sum(r["last"] - r["first"] + 1 for r in attributes["ranges"])
        return [(r["first"], r["last"], r["reason"]) for attributes in found for r in attributes["ranges"]]


# -- room --


def test_lines_wrap_around_and_stay_whole(ring: Ring) -> None:
    reader = Reader(ring)
    sizes = [40 + n * 37 % 900 for n in range(1, 301)]
    counted = 0
    for number, size in enumerate(sizes, 1):
        assert ring.append(body(size)) == number
        if number % 7 == 0:
            start = reader.memory.header[WRITTEN]
            counted += ring.numbers(start, reader.memory.header[HEAD])[0]
            reader.drain()
    reader.drain()
    assert reader.memory.header[HEAD] > 5 * CAPACITY
    assert reader.seqs == list(range(1, 301))
    assert [len(line["x"]) + 9 for line in reader.lines] == sizes
    assert counted == 294


def test_a_full_ring_drops_the_newest_and_declares_them(ring: Ring) -> None:
    reader = Reader(ring)
    while not ring.lost_by_reason:
        last = ring.append(body())
    fits = last - 1
    for _ in range(9):
        ring.append(body())
    assert ring.used_bytes <= CAPACITY - RESERVE
    assert ring.lost_by_reason == {"ring full": 10}
    ring.write_losses()
    assert reader.memory.pending_losses() == [(last, last + 9, RING_FULL)], "there is room for little more than it"
    reader.drain()
    ring.write_losses()
    assert ring.append(body()) == last + 10
    reader.drain()
    assert reader.seqs == [*range(1, fits + 1), last + 10]
    assert reader.losses == [(last, last + 9, "ring full")]
    assert reader.memory.pending_losses() == []


def test_the_declaration_fits_where_records_do_not(ring: Ring) -> None:
    reader = Reader(ring)
    reasons = (NOT_ENCODABLE, INTERRUPTED)
    big = 10**18  # twenty digits less two
    ring.last_seq = ring._settled = big
    for number in range(MAX_LOSSES - 1):
        ring.forgo(reasons[number % 2])
    while REASONS[RING_FULL] not in ring.lost_by_reason:
        ring.append(body())
    assert len(reader.memory.pending_losses()) == MAX_LOSSES
    ring.write_losses(at_once=True)
    assert reader.memory.pending_losses() == []
    reader.drain()
    assert len(reader.losses) == MAX_LOSSES
    assert len(reader.text) <= CAPACITY


def test_a_full_table_of_losses_stops_all_until_it_is_written(ring: Ring) -> None:
    reader = Reader(ring)
    for _ in range(MAX_LOSSES):
        assert ring.append(body())
        ring.forgo(NOT_ENCODABLE)
        reader.drain()
    full = ring.last_seq
    assert ring.append(body()) == full + 1, "lost as well: the last range grows"
    assert ring.append(body()) == full + 2
    assert len(reader.memory.pending_losses()) == MAX_LOSSES
    assert reader.memory.pending_losses()[-1] == (full, full + 2, NOT_ENCODABLE)
    ring.write_losses(at_once=True)
    assert ring.append(body()) == full + 3
    reader.drain()
    lost = [seq for first, last, _ in reader.losses for seq in range(first, last + 1)]
    assert sorted(reader.seqs + lost) == list(range(1, full + 4))
    assert sum(ring.lost_by_reason.values()) == len(lost)


def test_holes_are_left_out_of_the_counts(ring: Ring) -> None:
    reader = Reader(ring)
    for _ in range(3):
        ring.append(body())
        ring.forgo(NOT_ENCODABLE)
    ring.write_losses(at_once=True)
    ring.append(body())
    head = reader.memory.header[HEAD]
    assert ring.numbers(0, head) == (4, 1, 7)
    ring.forget_holes(6)
    assert ring.numbers(0, head)[1:] == (1, 7)
    assert ring.numbers(head, head) == (0, None, None)
    ring.forgo(NOT_ENCODABLE)
    ring.write_losses(at_once=True)
    assert ring.numbers(head, reader.memory.header[HEAD]) == (0, None, None), "a declaration is no record"


def test_many_threads_number_in_the_order_of_the_lines(ring: Ring) -> None:
    reader = Reader(ring)
    done = threading.Event()

    def produce() -> None:
        for _ in range(500):
            ring.append(body(60))

    def consume() -> None:
        while not done.is_set():
            reader.drain()
            ring.write_losses()

    threads = [threading.Thread(target=produce) for _ in range(4)]
    consumer = threading.Thread(target=consume)
    for thread in (consumer, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    consumer.join()
    ring.write_losses(at_once=True)
    reader.drain()
    lost = [seq for first, last, _ in reader.losses for seq in range(first, last + 1)]
    assert reader.seqs == sorted(reader.seqs)
    assert sorted(reader.seqs + lost) == list(range(1, 2001))


# -- calls that interrupt calls --


class Interrupting(Ring):
    """Runs something in the middle of a call, where a signal handler or a finaliser would."""

    def __init__(self, memory: Memory, stream: str) -> None:
        super().__init__(memory, stream)
        self.before = self.after = lambda: None
        self.memory.store = self._store  # type: ignore[method-assign]

    def _put(self, seq: int, body: bytes) -> None:
        before, self.before = self.before, lambda: None
        before()
        super()._put(seq, body)

    def wake(self, end: int) -> None:
        super().wake(end)
        after, self.after = self.after, lambda: None
        after()

    def _store(self, position: int, line: bytes) -> None:
        Memory.store(self.memory, position, line)


@pytest.fixture
def interrupting() -> Interrupting:
    stream = new_stream()
    memory = anonymous(CAPACITY)
    memory.initialise(stream, Path("/log"))
    return Interrupting(memory, stream)


def test_a_call_in_the_middle_of_a_call_waits_at_its_side(interrupting: Interrupting) -> None:
    ring, reader = interrupting, Reader(interrupting)
    seen = []

    def handler() -> None:
        seen.append(ring.append(body()))
        seen.append(ring.forgo(NOT_ENCODABLE))
        seen.append(ring.append(body()))

    ring.before = handler
    assert ring.append(body()) == 1
    assert seen == [2, 3, 4]
    assert ring.append(body()) == 5
    ring.write_losses(at_once=True)
    reader.drain()
    assert reader.seqs == [1, 2, 4, 5]
    assert reader.losses == [(3, 3, "not encodable")]


def test_what_interrupting_calls_left_is_in_the_ring_once_the_interrupted_one_returns(
    interrupting: Interrupting,
) -> None:
    """A kill right behind it costs nothing that was said in a handler."""
    ring, reader = interrupting, Reader(interrupting)
    ring.before = lambda: [ring.append(body()) for _ in range(3)]
    assert ring.append(body()) == 1
    reader.drain()
    assert reader.seqs == [1, 2, 3, 4]


def test_a_call_beside_another_threads_returns_once_its_line_is_in(interrupting: Interrupting) -> None:
    ring, reader = interrupting, Reader(interrupting)
    amid, go_on = threading.Event(), threading.Event()
    heads = []

    def stand_still() -> None:
        amid.set()
        assert go_on.wait(30)

    def call() -> None:
        ring.append(body())
        heads.append(ring.memory.header[HEAD])

    ring.before = stand_still
    threads = [threading.Thread(target=call) for _ in range(2)]
    threads[0].start()
    assert amid.wait(30)
    threads[1].start()
    threads[1].join(0.1)  # as it should not; one that returns here would have left its line to the other thread
    go_on.set()
    for thread in threads:
        thread.join()
    reader.drain()
    assert reader.seqs == [1, 2]
    assert 0 < min(heads) < max(heads) == ring.memory.header[HEAD]


def test_an_exception_before_the_line_is_in_declares_it(interrupting: Interrupting) -> None:
    ring, reader = interrupting, Reader(interrupting)

    def handler() -> None:
        assert ring.append(body()) == 3
        raise KeyboardInterrupt

    ring.append(body())
    ring.before = handler
    with pytest.raises(KeyboardInterrupt):
        ring.append(body())
    assert ring.append(body()) == 4
    ring.write_losses(at_once=True)
    reader.drain()
    assert reader.seqs == [1, 3, 4]
    assert reader.losses == [(2, 2, "interrupted")]
    assert ring.lost_by_reason == {"interrupted": 1}


def test_an_exception_after_the_line_is_in_declares_nothing(interrupting: Interrupting) -> None:
    ring, reader = interrupting, Reader(interrupting)

    def interrupt() -> None:
        raise KeyboardInterrupt

    ring.after = interrupt
    ring.append(body(3800))
    with pytest.raises(KeyboardInterrupt):
        ring.append(body(3800))
    last = ring.append(body())
    ring.write_losses(at_once=True)
    reader.drain()
    assert reader.seqs == list(range(1, last + 1))
    assert (reader.losses, ring.lost_by_reason) == ([], {})


def test_no_memory_in_a_call_is_a_declared_loss_and_no_exception(interrupting: Interrupting) -> None:
    """E19: it has its number."""
    ring, reader = interrupting, Reader(interrupting)

    def fail() -> None:
        raise MemoryError

    ring.before = fail
    assert ring.append(body()) == 1
    assert ring.append(body()) == 2
    ring.write_losses(at_once=True)
    reader.drain()
    assert (reader.seqs, reader.losses) == ([2], [(1, 1, "interrupted")])


def test_signal_handlers_that_log_and_raise(ring: Ring) -> None:
    """E7: a timer fires some thousand times a second into a thread that logs without pause."""
    reader = Reader(ring)
    signals, armed = 0, False

    class Stop(BaseException):
        pass

    def handler(*_: object) -> None:
        nonlocal signals, armed
        signals += 1
        ring.append(body())
        if signals % 50 == 0 and armed:
            armed = False
            raise Stop

    def log() -> None:  # a function, so that whatever is raised in it comes out at the one place that expects it
        nonlocal armed
        armed = True
        while signals < 1000:
            ring.append(body())
            if ring.used_bytes > 4000:
                reader.drain()
        armed = False

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        while signals < 1000:
            try:
                log()
            except Stop:  # wherever it came, also between two steps of the reader: take what is there again
                reader.text += reader.memory.read(len(reader.text), reader.memory.header[HEAD])
                reader.memory.header[WRITTEN] = reader.memory.header[SYNCED] = len(reader.text)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    ring.append(body())
    reader.drain()
    ring.write_losses(at_once=True)
    reader.drain()
    lost = [seq for first, last, _ in reader.losses for seq in range(first, last + 1)]
    assert reader.seqs == sorted(reader.seqs)
    assert sorted(reader.seqs + lost) == list(range(1, ring.last_seq + 1))
    assert len(lost) == sum(ring.lost_by_reason.values())


def test_a_call_in_the_middle_of_a_declaration_waits_at_its_side(ring: Ring) -> None:
    reader = Reader(ring)
    store = ring.memory.store

    def interrupted(position: int, line: bytes) -> None:
        assert ring.append(body()) == 3
        store(position, line)

    ring.append(body())
    ring.forgo(NOT_ENCODABLE)
    ring.memory.store = interrupted  # type: ignore[method-assign]
    ring.write_losses(at_once=True)
    reader.drain()
    assert reader.seqs == [1, 3]
    assert reader.losses == [(2, 2, "not encodable")]


def test_a_finaliser_that_logs_while_the_writer_declares_losses(ring: Ring) -> None:
    """E8: it waits for nobody."""
    reader = Reader(ring)

    class Logs:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            ring.append(body())

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(200):
            Logs()
            ring.append(body())
            ring.forgo(NOT_ENCODABLE)
            ring.write_losses(at_once=True)
            reader.drain()
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    ring.write_losses(at_once=True)
    reader.drain()
    lost = [seq for first, last, _ in reader.losses for seq in range(first, last + 1)]
    assert reader.seqs == sorted(reader.seqs)
    assert len(reader.seqs) == 400
    assert sorted(reader.seqs + lost) == list(range(1, 601))


# -- the end --


def test_a_closed_ring_counts_and_takes_nothing(ring: Ring) -> None:
    ring.append(body())
    ring.close()
    assert ring.append(body()) == 0
    assert ring.forgo(NOT_ENCODABLE) == 0
    assert ring.lost_by_reason == {REASONS[CLOSED]: 2}
    ring.memory.close()
    assert ring.append(body()) == 0
    assert ring.used_bytes == 0


def test_a_handler_that_closes_in_the_middle_of_a_call(interrupting: Interrupting) -> None:
    ring, reader = interrupting, Reader(interrupting)
    assert ring.append(body()) == 1

    def close() -> None:
        ring.append(body())
        ring.close()
        reader.drain()
        ring.memory.close()
        raise SystemExit

    ring.before = close
    with pytest.raises(SystemExit):
        ring.append(body())
    assert reader.seqs == [1]
    assert ring.last_seq == 3
    assert ring.lost_by_reason == {"closed": 2}


# -- the header --


def test_slots_switch_by_one_store() -> None:
    memory = anonymous(CAPACITY)
    memory.initialise(new_stream(), Path("/log"))
    memory.next_slot(Slot(1, 300, 0, None))
    memory.end_slot(500)
    assert memory.slot == Slot(1, 300, 0, 500)
    memory.next_slot(Slot(2, 320, 500, None))
    assert memory.slot == Slot(2, 320, 500, None)
    memory.next_slot(Slot(3, 330, 700, 800))
    assert memory.slot == Slot(3, 330, 700, 800)


def test_losses_declared_by_a_line_are_not_pending_before_the_head_has_passed_it() -> None:
    memory = anonymous(CAPACITY)
    memory.initialise(new_stream(), Path("/log"))
    memory.add_loss(1, 1, RING_FULL)
    memory.add_loss(1, 1, RING_FULL)
    memory.add_loss(2, 2, RING_FULL)
    memory.add_loss(4, 4, RING_FULL)
    losses = [(1, 2, RING_FULL), (4, 4, RING_FULL)]
    assert memory.pending_losses() == losses
    memory.header[18] = memory.header[HEAD]  # killed between the two stores of write_losses
    assert memory.pending_losses() == losses
    assert memory.write_losses()
    assert memory.pending_losses() == []
    memory.add_loss(9, 9, CLOSED)
    assert memory.pending_losses() == [(9, 9, CLOSED)]


def shared(ring_dir: Path) -> Memory:
    return create_shared(ring_dir, CAPACITY, new_stream(), Path("/log"))


def test_a_ring_file_is_private_named_and_locked(ring_dir: Path) -> None:
    umask = os.umask(0)
    try:
        memory = shared(ring_dir)
    finally:
        os.umask(umask)
    path = ring_path(ring_dir, memory.stream)
    assert list_rings(ring_dir) == [path] == list(ring_dir.iterdir())
    assert mode(path) == 0o600
    assert path.stat().st_size == HEADER_BYTES + CAPACITY
    assert memory.directory == Path("/log")
    assert open_shared(path) is None, "its owner lives"
    stream = memory.stream
    memory.close()
    again = open_shared(path)
    assert again is not None
    assert again.stream == stream
    again.close()
    path.unlink()
    assert open_shared(path) is None


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (0, 0),  # magic
        (1, 2),  # version
        (2, CAPACITY + 1),
        (3, CAPACITY + 100),  # head beyond the capacity
        (4, 60),  # written beyond the head
        (5, 50),  # synced beyond written
        (12, 60),  # the slot's position beyond the head
        (13, 60),  # its end beyond the head
        (19, MAX_LOSSES + 1),
        (252, 0),  # the stream's name
    ],
)
def test_a_header_that_contradicts_itself_is_damaged_and_kept(ring_dir: Path, word: int, value: int) -> None:
    memory = shared(ring_dir)
    path = memory.path
    assert path is not None
    words = memory.header
    words[HEAD], words[WRITTEN], words[SYNCED] = 50, 40, 30
    words[10], words[11], words[12], words[13] = 1, 300, 0, OPEN
    memory.check(HEADER_BYTES + CAPACITY)
    words[word] = value
    memory.close()
    with pytest.raises(RingDamaged, match="kept as it is"):
        open_shared(path)
    assert path.exists()
    with pytest.raises(RingDamaged):
        open_shared(path)


def test_a_file_of_another_size_is_no_ring(ring_dir: Path) -> None:
    path = ring_path(ring_dir, new_stream())
    path.write_bytes(b"x" * 5000)
    with pytest.raises(RingDamaged, match="5000 bytes"):
        open_shared(path)


# -- where there is none --


def test_rings_left_by_dead_emitters_of_the_directory(ring_dir: Path, tmp_path: Path) -> None:
    def left(directory: Path, *, records: int = 0) -> Path:
        memory = create_shared(ring_dir, CAPACITY, new_stream(), directory)
        ring, path = Ring(memory, memory.stream), memory.path
        assert path is not None
        for _ in range(records):
            ring.append(body())
        memory.close()
        return path

    empty, full, other = left(tmp_path), left(tmp_path, records=1), left(tmp_path / "other")
    living = create_shared(ring_dir, CAPACITY, new_stream(), tmp_path)
    fresh, old = ring_dir / "tradetrail.a.new", ring_dir / "tradetrail.b.new"
    for path in (fresh, old):
        path.touch()
    os.utime(old, (1, 1))
    problems = remove_unused(tmp_path, ring_dir, ())
    assert [str(full) in problem for problem in problems] == [True]
    assert not empty.exists()
    assert not old.exists()
    assert all(path.exists() for path in (full, other, fresh, living.path) if path)
    living.close()


def told(tmp_path: Path, **settings: object) -> tuple[bool, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audit = AuditLog(tmp_path / "log", **settings)
    audit.order(size=1)
    shared = audit.stats().ring_shared
    assert audit.close()
    assert audit.stats().written == 1
    return shared, [str(warning.message) for warning in caught]


def test_a_disk_is_no_place_for_a_ring(tmp_path: Path) -> None:
    from emitter.shared import _file_system

    if _file_system(tmp_path) in {"tmpfs", "ramfs"}:
        pytest.skip("the tests' own folder is on tmpfs")
    shared, words = told(tmp_path, ring_dir=tmp_path, flush_interval_ms=7)
    assert not shared
    assert len(words) == 1
    assert "not on tmpfs" in words[0]
    assert "a kill can cost what was not yet written, up to 7 ms" in words[0]
    assert list_rings(tmp_path) == []


def test_a_missing_or_small_place_is_said(tmp_path: Path, ring_dir: Path) -> None:
    shared, words = told(tmp_path, ring_dir=ring_dir / "none")
    assert (shared, len(words)) == (False, 1)
    free = os.statvfs(ring_dir)
    too_much = free.f_bavail * free.f_frsize + 2**30
    from emitter.shared import _check_room

    with pytest.raises(OSError, match="bytes free, the ring needs"):
        _check_room(ring_dir, too_much)


def test_the_limit_of_the_memory_cgroup_counts(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E26: beside what the file system has room for."""
    from emitter import shared as module

    monkeypatch.setattr(module, "_cgroup_room", lambda: 4096)
    with pytest.raises(OSError, match="the memory cgroup has 4096 bytes left"):
        shared(ring_dir)
    assert list(ring_dir.iterdir()) == []


def test_a_usable_place_says_nothing(tmp_path: Path, ring_dir: Path) -> None:
    assert told(tmp_path, ring_dir=ring_dir, ring_bytes=CAPACITY) == (True, [])
    assert list(ring_dir.iterdir()) == []
