"""The memory of a ring: what each word of its header means, and where its bytes lie.

A circular byte buffer with a header, the same for the emitter that fills it and for the recovery that finds it.
Positions only ever grow; a byte's place is its position modulo the capacity.
``freed = synced <= written <= head``; bytes from ``synced`` to ``head`` are in the ring. Every number in the header
is changed by one aligned 8-byte store, so that a kill between any two instructions leaves a state that recovery can
read. ``docs/format.md`` is the normative text.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import RingDamaged
from .segments import control_line

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
_STREAM_AT, DIRECTORY_AT, DIRECTORY_MAX = 2016, 2048, 2048

# Space that records may not take, so that the line that declares a loss always fits:
# 64 ranges of two 20-digit numbers and a reason, in one control line.
RESERVE = 8 * 1024

REASONS = ("ring full", "closed", "not encodable", "interrupted")
RING_FULL, CLOSED, NOT_ENCODABLE, INTERRUPTED = range(4)


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
        self.alive = True

    def initialise(self, stream: str, directory: Path) -> None:
        text = os.fsencode(directory)
        if len(text) > DIRECTORY_MAX:
            raise OSError(f"the log directory's path is longer than {DIRECTORY_MAX} bytes")
        self._whole[_STREAM_AT : _STREAM_AT + 32] = stream.encode()
        self._whole[DIRECTORY_AT : DIRECTORY_AT + len(text)] = text
        header = self.header
        header[_VERSION], header[_CAPACITY], header[_LOSS_AT] = VERSION, self.capacity, OPEN
        header[_MAGIC] = MAGIC

    @property
    def stream(self) -> str:
        return bytes(self._whole[_STREAM_AT : _STREAM_AT + 32]).decode("ascii", "replace")

    @property
    def directory(self) -> Path:
        text = bytes(self._whole[DIRECTORY_AT : DIRECTORY_AT + DIRECTORY_MAX])
        return Path(os.fsdecode(text.rstrip(b"\0")))

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
        if count and words[at - 2] >= first:
            pass  # noted before: the call was interrupted and came again
        elif count and words[at - 2] + 1 == first and (words[at - 1] == reason or count == MAX_LOSSES):
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
        end = head + len(line)
        if end > words[SYNCED] + self.capacity:
            return False
        self.store(head, line)
        words[_LOSS_AT] = head  # nothing can come between these two stores but a kill
        words[HEAD] = end
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
            words[_MAGIC] == MAGIC
            and words[_VERSION] == VERSION
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
        self.alive = False
        for view in (self.header, self.data, self._whole):
            view.release()
        with contextlib.suppress(BufferError):
            self._mapped.close()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
