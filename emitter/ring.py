"""The ring: where a record is safe the moment its call returns.

A circular byte buffer in memory that outlives the process (a file on tmpfs, mapped), with one writer thread that
reads it and any number of producers that append whole lines under one lock. Positions only ever grow; a byte's
place is its position modulo the capacity. ``freed <= synced <= written <= head``; bytes from ``freed`` to ``head``
are in the ring. Every number in the header is changed by one aligned 8-byte store, so that a kill between any two
instructions leaves a state that recovery can read. The layout is described in ``docs/format.md``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import threading
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .errors import RingDamaged
from .segments import control_line, try_lock

HEADER_BYTES = 4096
MAGIC = int.from_bytes(b"TRAILRNG", "little")
VERSION = 1
OPEN = 2**64 - 1

# Indexes of the header's 64-bit words.
_MAGIC, _VERSION, _CAPACITY, HEAD, WRITTEN, SYNCED, SYNC_BEGUN, SYNC_DONE, _SLOT = range(9)
_SLOTS = (10, 14)  # segment, offset F of the first ring byte, ring position R of that byte, end E or OPEN
_LOSS_AT, _LOSS_COUNT, _LOSSES = 18, 19, 20
MAX_LOSSES = 64
# Byte offsets of the texts.
_STREAM_AT, _DIRECTORY_AT, _DIRECTORY_MAX = 2016, 2048, 2048

# Space that records may not take, so that the line that declares a loss always fits:
# 64 ranges of two 20-digit numbers and a reason, in one control line.
RESERVE = 8 * 1024

REASONS = ("ring full", "closed", "not encodable", "interrupted")
RING_FULL, CLOSED, NOT_ENCODABLE, INTERRUPTED = range(4)

_MADV_POPULATE_WRITE = 23  # Linux 5.14: fault all pages in now, with an error instead of a SIGBUS
_SUFFIX = ".ring"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the bytes of the ring go: to ``segment``, whose byte ``offset`` is the ring's byte ``position``."""

    segment: int
    offset: int
    position: int
    end: int | None


class Memory:
    """The mapped bytes of a ring and the meaning of its header; the same for producer and recovery."""

    def __init__(self, mapped: mmap.mmap, fd: int | None, path: Path | None) -> None:
        self.path = path
        self.fd = fd
        self._mapped = mapped
        self._whole = memoryview(mapped)
        self.header = self._whole[:HEADER_BYTES].cast("Q")
        self.data = self._whole[HEADER_BYTES:]
        self.capacity = len(self.data)

    def initialise(self, stream: str, directory: Path) -> None:
        text = os.fsencode(directory)
        if len(text) > _DIRECTORY_MAX:
            raise OSError(f"the log directory's path is longer than {_DIRECTORY_MAX} bytes")
        self._whole[_STREAM_AT : _STREAM_AT + 32] = stream.encode()
        self._whole[_DIRECTORY_AT : _DIRECTORY_AT + len(text)] = text
        header = self.header
        header[_VERSION], header[_CAPACITY], header[_LOSS_AT] = VERSION, self.capacity, OPEN
        header[_MAGIC] = MAGIC  # last: a ring without it was never used

    @property
    def stream(self) -> str:
        return bytes(self._whole[_STREAM_AT : _STREAM_AT + 32]).decode("ascii", "replace")

    @property
    def directory(self) -> Path:
        text = bytes(self._whole[_DIRECTORY_AT : _DIRECTORY_AT + _DIRECTORY_MAX])
        return Path(os.fsdecode(text.rstrip(b"\0")))

    @property
    def used(self) -> bool:
        """Whether an emitter got as far as making it its own."""
        return self.header[_MAGIC] == MAGIC

    @property
    def slot(self) -> Slot:
        segment, offset, position, end = self.header[(at := _SLOTS[self.header[_SLOT] & 1]) : at + 4].tolist()
        return Slot(segment, offset, position, None if end == OPEN else end)

    def next_slot(self, slot: Slot) -> None:
        """Direct the bytes from ``slot.position`` on elsewhere: one store switches."""
        other = 1 - (self.header[_SLOT] & 1)
        at = _SLOTS[other]
        words = self.header
        words[at], words[at + 1], words[at + 2] = slot.segment, slot.offset, slot.position
        words[at + 3] = OPEN if slot.end is None else slot.end
        words[_SLOT] = other

    def end_slot(self, end: int) -> None:
        """From position ``end`` on, bytes do not go to the present segment any more."""
        self.header[_SLOTS[self.header[_SLOT] & 1] + 3] = end

    def views(self, start: int, stop: int) -> list[memoryview]:
        """The bytes from one position to another: one piece, or two where they wrap."""
        at, count = start % self.capacity, stop - start
        first = min(count, self.capacity - at)
        pieces = [self.data[at : at + first]]
        if first < count:
            pieces.append(self.data[: count - first])
        return pieces

    def line_end(self, start: int, stop: int) -> int:
        """The position behind the last line end between two positions; ``start`` where there is none."""
        offset = stop - start
        for piece in reversed(self.views(start, stop)):
            offset -= len(piece)
            first = HEADER_BYTES + (start + offset) % self.capacity
            found = self._mapped.rfind(b"\n", first, first + len(piece))
            if found >= 0:
                return start + offset + found - first + 1
        return start

    def first_line_end(self, start: int, stop: int) -> int:
        """The position behind the first line end between two positions; ``stop`` where there is none."""
        offset = 0
        for piece in self.views(start, stop):
            first = HEADER_BYTES + (start + offset) % self.capacity
            found = self._mapped.find(b"\n", first, first + len(piece))
            if found >= 0:
                return start + offset + found - first + 1
            offset += len(piece)
        return stop

    def read(self, start: int, stop: int) -> bytes:
        return b"".join(bytes(piece) for piece in self.views(start, stop))

    def pending_losses(self) -> list[tuple[int, int, int]]:
        """(first seq, last seq, reason) of losses that stand in no line yet."""
        words = self.header
        if words[_LOSS_AT] != OPEN and words[HEAD] > words[_LOSS_AT]:
            return []
        count = words[_LOSS_COUNT]
        flat = words[_LOSSES : _LOSSES + 3 * count].tolist()
        return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))

    def add_loss(self, first: int, last: int, reason: int) -> bool:
        """Note a loss; whether the table is now full (then nothing may be accepted until it is written)."""
        words = self.header
        if words[_LOSS_AT] != OPEN:
            if words[HEAD] > words[_LOSS_AT]:
                words[_LOSS_COUNT] = 0
            words[_LOSS_AT] = OPEN
        count = words[_LOSS_COUNT]
        at = _LOSSES + 3 * count
        if count and words[at - 2] + 1 == first and (words[at - 1] == reason or count == MAX_LOSSES):
            words[at - 2] = last
        else:
            words[at], words[at + 1], words[at + 2] = first, last, reason
            count += 1
            words[_LOSS_COUNT] = count
        return count == MAX_LOSSES

    def write_losses(self) -> bool:
        """Put the line that declares the pending losses into the ring, where there is room; whether it is there.

        The position it starts at is noted before the head moves: whoever finds the head behind that position
        knows that the losses are declared.
        """
        losses = self.pending_losses()
        if not losses:
            return True
        ranges = [{"first": a, "last": b, "reason": REASONS[c]} for a, b, c in losses]
        count = sum(last - first + 1 for first, last, _ in losses)
        line = control_line(self.stream, "audit.lost", {"count": count, "ranges": ranges}, "ERROR")
        words = self.header
        head = words[HEAD]
        if head + len(line) > words[SYNCED] + self.capacity:
            return False
        self.store(head, line)
        words[_LOSS_AT] = head
        words[HEAD] = head + len(line)
        return True

    def store(self, position: int, line: bytes) -> None:
        at, count = position % self.capacity, len(line)
        if at + count <= self.capacity:
            self.data[at : at + count] = line
        else:
            first = self.capacity - at
            self.data[at:] = line[:first]
            self.data[: count - first] = line[first:]

    def check(self, size: int) -> None:
        """Raise :class:`RingDamaged` where the header contradicts itself."""
        words = self.header
        head, written, synced = words[HEAD], words[WRITTEN], words[SYNCED]
        slot = self.slot
        sound = (
            words[_VERSION] == VERSION
            and words[_CAPACITY] == self.capacity == size - HEADER_BYTES
            and synced <= written <= head <= synced + self.capacity
            and slot.position <= head
            and (slot.end is None or slot.position <= slot.end <= head)
            and words[_LOSS_COUNT] <= MAX_LOSSES
            and re.fullmatch(r"[0-9a-f]{32}", self.stream)
        )
        if not sound:
            raise RingDamaged(f"{self.path}: the ring's header contradicts itself; it is kept as it is")

    def close(self) -> None:
        """Let go of the memory; the file stays. A mapping still in use elsewhere goes with its last user."""
        for view in (self.header, self.data, self._whole):
            view.release()
        with contextlib.suppress(BufferError):
            self._mapped.close()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Ring:
    """The producers' side: append a line, take a number, never wait for anything but each other."""

    def __init__(self, memory: Memory, stream: str) -> None:
        self.memory = memory
        self.shared = memory.path is not None
        self.lost: Counter[str] = Counter()
        self.last_seq = 0
        self.closed = False
        # The writer sleeps on it: released to wake it early. A bare lock because releasing is one step that a
        # signal handler cannot cut in two.
        self.bell = threading.Lock()
        self.bell.acquire()
        self._lock = threading.RLock()
        self._busy = False
        self._losses_full = False
        self._side: list[tuple[int, bytes]] = []
        self._holes: deque[tuple[int, int]] = deque()
        self._prefix = b'{"stream":"%b","seq":' % stream.encode()
        self._header = memory.header
        self._data = memory.data
        self._capacity = memory.capacity
        self._limit = memory.capacity - RESERVE
        self._wake_at = memory.capacity // 2

    def append(self, body: bytes) -> int:
        """Number a record, complete its line and put it into the ring; its seq.

        ``body`` is all that follows the seq, with the line end. A record that finds no room has a seq all the
        same: it is declared as lost. After :meth:`close` the answer is 0.

        A signal handler or a finaliser that interrupts a call of its own thread passes the re-entrant lock, finds
        ``_busy`` and leaves its line to the interrupted call, so that file order is seq order even then.
        """
        with self._lock:
            if self.closed:
                self.lost[REASONS[CLOSED]] += 1
                return 0
            if self._busy:
                seq = self.last_seq = self.last_seq + 1
                self._side.append((seq, body))
                return seq
            self._busy = True
            seq = 0
            try:
                seq = self.last_seq = self.last_seq + 1
                if self._side:
                    self._empty_side(seq)
                self._put(seq, body)
            except BaseException:  # KeyboardInterrupt from the bot's own handler, MemoryError
                self._forgo(seq)
                raise
            finally:
                self._busy = False
                while self._side:
                    self._empty_side(OPEN)
            return seq

    def forgo(self, reason: int) -> int:
        """Take a number for a record that cannot be written at all, and declare it lost."""
        with self._lock:
            if self.closed:
                self.lost[REASONS[CLOSED]] += 1
                return 0
            seq = self.last_seq = self.last_seq + 1
            self._lose(seq, reason)
            return seq

    def _put(self, seq: int, body: bytes) -> None:
        line = b"%b%d%b" % (self._prefix, seq, body)
        header = self._header
        head = header[HEAD]
        count = len(line)
        end = head + count
        if end > self._limit or self._losses_full:
            self._limit = header[SYNCED] + self._capacity - RESERVE
            if end > self._limit or self._losses_full:
                self._lose(seq, RING_FULL)
                return
        at = head % self._capacity
        if at + count <= self._capacity:
            self._data[at : at + count] = line
        else:
            self.memory.store(head, line)
        header[HEAD] = end  # last: what the head has passed is there
        if end > self._wake_at:
            self.wake(end)

    def _forgo(self, seq: int) -> None:
        """An exception came out of ``_put``: where the line is not in the ring, declare it lost."""
        tail = self._prefix + str(seq).encode() + b","
        head = self._header[HEAD]
        start = self.memory.line_end(max(self._header[SYNCED], head - self._capacity), max(head - 1, 0))
        if self.memory.read(start, min(start + len(tail), head)) != tail:
            self._lose(seq, INTERRUPTED)

    def _empty_side(self, before: int) -> None:
        """Put the lines that interrupting calls of this thread left, those numbered ``before`` another."""
        self._busy = True
        try:
            waiting, self._side = sorted(self._side), []
            for entry in waiting:
                if entry[0] < before:
                    self._put(*entry)
                else:
                    self._side.append(entry)
        finally:
            self._busy = before != OPEN

    def numbers(self, start: int, stop: int) -> tuple[int, int | None, int | None]:
        """Of the lines between two positions: how many are records, the first seq and the last (for the writer).

        Counted from the seqs and the known holes, not line by line: only the first and the last line are read.
        """
        first = self._seq_from(start, stop)
        if first is None:
            return 0, None, None
        last = first
        end = stop
        while end > start:
            begin = self.memory.line_end(start, end - 1)
            seq = self._seq_in(begin, end)
            if seq is not None:
                last = seq
                break
            end = begin  # a declaration of losses
        holes = 0
        for hole_first, hole_last in list(self._holes):
            holes += max(0, min(hole_last, last) - max(hole_first, first) + 1)
        return last - first + 1 - holes, first, last

    def forget_holes(self, before: int) -> None:
        """Holes below a seq that is synced are counted for good."""
        while self._holes and self._holes[0][1] < before:
            self._holes.popleft()

    def _seq_from(self, start: int, stop: int) -> int | None:
        while start < stop:
            end = self.memory.first_line_end(start, stop)
            seq = self._seq_in(start, end)
            if seq is not None:
                return seq
            start = end
        return None

    def _seq_in(self, start: int, end: int) -> int | None:
        """The seq of the line between two positions, or None for a line without one."""
        text = self.memory.read(start, min(end, start + len(self._prefix) + 21))
        if not text.startswith(self._prefix):
            return None
        return int(text[len(self._prefix) : text.index(b",", len(self._prefix))])

    def _lose(self, seq: int, reason: int) -> None:
        self.lost[REASONS[reason]] += 1
        if self._holes and self._holes[-1][1] + 1 == seq:
            self._holes[-1] = (self._holes[-1][0], seq)
        else:
            self._holes.append((seq, seq))
        self._losses_full = self.memory.add_loss(seq, seq, reason)
        self.wake(self._header[HEAD])

    def wake(self, end: int) -> None:
        """Wake the writer before its interval is over."""
        self._wake_at = end + self._capacity // 2
        with contextlib.suppress(RuntimeError):  # awake already
            self.bell.release()

    def write_losses(self, *, at_once: bool = False) -> None:
        """Declare pending losses, once there is room for more than the declaration (called by the writer)."""
        with self._lock:
            header = self._header
            if not at_once and header[HEAD] - header[SYNCED] > self._capacity // 2:
                return
            if self.memory.write_losses():
                self._losses_full = False

    def close(self) -> None:
        """Accept nothing more; what comes is counted as lost for the reason ``closed``."""
        with self._lock:
            self.closed = True

    @property
    def used_bytes(self) -> int:
        return int(self._header[HEAD] - self._header[SYNCED])

    @property
    def lost_by_reason(self) -> MappingProxyType[str, int]:
        return MappingProxyType(dict(self.lost))

    @property
    def unlinked(self) -> bool:
        """Whether somebody removed the ring's file: then a kill can cost what was not yet written."""
        fd = self.memory.fd
        return fd is not None and os.fstat(fd).st_nlink == 0


def ring_path(ring_dir: Path, stream: str) -> Path:
    return ring_dir / f"tradetrail.{stream}{_SUFFIX}"


def list_rings(ring_dir: Path) -> list[Path]:
    """The rings in a directory, oldest first (a stream's name begins with its time)."""
    return sorted(ring_dir.glob(f"tradetrail.*{_SUFFIX}"))


def anonymous(ring_bytes: int) -> Memory:
    """A ring that dies with the process, for where there is no tmpfs."""
    return Memory(mmap.mmap(-1, HEADER_BYTES + _whole_pages(ring_bytes)), None, None)


def create_shared(ring_dir: Path, ring_bytes: int, stream: str, directory: Path) -> Memory:
    """A ring in a file on tmpfs, locked by this process, every page there; OSError where that cannot be."""
    size = HEADER_BYTES + _whole_pages(ring_bytes)
    _check_room(ring_dir, size)
    path = ring_path(ring_dir, stream)
    # Made under another name, so that nobody finds it before it is locked.
    making = path.with_suffix(".new")
    fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock(fd):
            raise OSError(f"{making} cannot be locked")
        os.posix_fallocate(fd, 0, size)
        mapped = mmap.mmap(fd, size)
        with contextlib.suppress(OSError):  # an older kernel: the pages come when they are touched
            mapped.madvise(_MADV_POPULATE_WRITE)
        memory = Memory(mapped, fd, path)
        memory.initialise(stream, directory)
        making.rename(path)
    except BaseException:
        os.close(fd)
        making.unlink(missing_ok=True)
        raise
    return memory


def open_shared(path: Path) -> Memory | None:
    """A dead emitter's ring, locked by this process; None where its owner lives or it is gone.

    Raises :class:`RingDamaged` where it cannot be trusted.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        # The name is looked at again: another recovery may have finished it between open and lock.
        if not try_lock(fd) or not _still_there(path, fd):
            os.close(fd)
            return None
        if size <= HEADER_BYTES or size % mmap.PAGESIZE:
            raise RingDamaged(f"{path}: {size} bytes are no ring; it is kept as it is")
        memory = Memory(mmap.mmap(fd, size), fd, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    if memory.used:
        try:
            memory.check(size)
        except RingDamaged:
            memory.close()
            raise
    return memory


def _still_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _whole_pages(count: int) -> int:
    return -(-count // mmap.PAGESIZE) * mmap.PAGESIZE


def _check_room(ring_dir: Path, size: int) -> None:
    """OSError where the ring could not be held: no tmpfs, too small, or more than the memory cgroup allows.

    The cgroup is looked at first because fallocate over its limit is answered by the kernel's OOM killer.
    """
    kind = _file_system(ring_dir)
    if kind not in {"tmpfs", "ramfs"}:
        raise OSError(f"{ring_dir} is on {kind or 'an unknown file system'}, not on tmpfs")
    stat = os.statvfs(ring_dir)
    free = stat.f_bavail * stat.f_frsize
    if free < size:
        raise OSError(f"{ring_dir} has {free} bytes free, the ring needs {size}")
    room = _cgroup_room()
    if room is not None and room < size:
        raise OSError(f"the memory cgroup has {room} bytes left, the ring needs {size}")


def _file_system(path: Path) -> str | None:
    """The type of the file system that holds a path, from ``/proc/self/mountinfo`` (proc(5))."""
    best, kind = "", None
    try:
        real = str(path.resolve(strict=True))
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split()[4].encode().decode("unicode_escape")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind


def _cgroup_room() -> int | None:
    """Bytes that this process's memory cgroup still allows, or None where nothing limits it (cgroups(7))."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    rooms = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
        limit, usage = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        )
        folder = root / name.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):
                used = int((group / usage).read_text()) - _reclaimable(group / "memory.stat")
                rooms.append(int((group / limit).read_text()) - used)
    return min(rooms, default=None)


def _reclaimable(stat: Path) -> int:
    """Bytes of file cache that the kernel gives back before it kills anybody."""
    values = dict(line.split() for line in stat.read_text().splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))
