"""The ring: where a record is safe the moment its call returns.

Memory that outlives the process, with one writer thread that reads it and any number of producers that append whole
lines under one lock. :mod:`emitter.memory` holds the layout, :mod:`emitter.shared` says where the memory comes from.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from types import MappingProxyType

from .memory import CLOSED, HEAD, INTERRUPTED, REASONS, RESERVE, RING_FULL, SYNCED, Memory

__all__ = ["RESERVE", "Ring"]


class Ring:
    """The producers' side: append a line, take a number, never wait for anything but each other."""

    def __init__(self, memory: Memory, stream: str) -> None:
        self.memory = memory
        self.shared = memory.path is not None
        self.last_seq = 0
        self.closed = False
        self.refused = 0  # calls after close(): they have no seq
        # The writer sleeps on it: released to wake it early. A bare lock because releasing is one step that a
        # signal handler cannot cut in two.
        self.bell = threading.Lock()
        self.bell.acquire()
        # Half of what records may take: then the writer is woken, and space is asked back.
        self.half = (memory.capacity - RESERVE) // 2
        self._lost = dict.fromkeys(REASONS, 0)
        self._lock = threading.RLock()
        self._busy = False
        self._held = False
        self._losses_full = False
        self._settled = 0  # the last seq that stands in the ring or among the losses
        # What interrupting calls left, by seq: a body, or the reason why there is none. No tuples: making one may run
        # a finaliser, whose call would come between taking a number and leaving something for it.
        self._side: dict[int, bytes | int] = {}
        self._holes: deque[tuple[int, int]] = deque()
        self._prefix = b'{"stream":"%b","seq":' % stream.encode()
        self._header = memory.header
        self._data = memory.data
        self._capacity = memory.capacity
        self._limit = memory.capacity - RESERVE
        self._wake_at = self.half

    def append(self, body: bytes) -> int:
        """Number a record, complete its line and put it into the ring; its seq.

        ``body`` is all that follows the seq, with the line end. A record that finds no room has a seq all the
        same: it is declared as lost. After :meth:`close` the answer is 0. Only what the bot's own signal handler
        raises comes out of here.

        A signal handler or a finaliser that interrupts a call of its own thread passes the re-entrant lock, finds
        ``_busy`` and leaves its line to the interrupted call, so that file order is seq order even then.
        """
        with self._lock:
            if self.closed:
                self.refused += 1
                return 0
            if self._busy:
                seq = self.last_seq = self.last_seq + 1
                self._side[seq] = body
                return seq
            self._busy = True
            seq = 0
            try:
                seq = self.last_seq = self.last_seq + 1
                if seq != self._settled + 1:
                    self._settle(seq)
                self._put(seq, body)
            except Exception:  # noqa: BLE001, S110  no memory, or closed by a handler in the middle of it: a loss
                pass
            finally:  # also behind KeyboardInterrupt and SystemExit, which are the bot's own
                self._busy = False
                if self._settled != self.last_seq:
                    self._settle()
            return seq

    def forgo(self, reason: int) -> int:
        """Take a number for a record that cannot be written at all, and declare it lost."""
        with self._lock:
            if self.closed:
                self.refused += 1
                return 0
            seq = self.last_seq = self.last_seq + 1
            self._side[seq] = reason
            if not self._busy:
                self._settle()
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
        self._settled = seq  # CPython runs no signal handler between these two stores
        if end > self._wake_at:
            self.wake(end)

    def _lose(self, seq: int, reason: int) -> None:
        self._losses_full = self.memory.add_loss(seq, seq, reason)
        self._lost[REASONS[reason]] += 1
        self._settled = seq
        if self._holes and self._holes[-1][1] + 1 == seq:
            self._holes[-1] = (self._holes[-1][0], seq)
        else:
            self._holes.append((seq, seq))
            self.wake(self._header[HEAD])

    def _settle(self, before: int | None = None) -> None:
        """Find a place for all that is numbered, ``before`` another or at all, in the order of the numbers.

        What an interrupting call of this thread left is put into the ring or declared. A number with nothing left for
        it is that of a call that an exception ended: wherever that struck, the next call comes by here.
        """
        self._busy = True
        try:
            while (seq := self._settled + 1) < (before or self.last_seq + 1):
                what = self._side.get(seq, INTERRUPTED)
                if not self.memory.alive:
                    self._lost[REASONS[CLOSED]] += 1
                    self._settled = seq
                elif isinstance(what, int):
                    self._lose(seq, what)
                else:
                    self._put(seq, what)
                self._side.pop(seq, None)
        finally:
            self._busy = before is not None

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
        lost = sum(max(0, min(b, last) - max(a, first) + 1) for a, b in self._known_holes())
        return last - first + 1 - lost, first, last

    def _known_holes(self) -> list[tuple[int, int]]:
        while True:  # without the lock, which a bot's handler may hold while it waits for the writer
            with contextlib.suppress(RuntimeError):  # a producer added one meanwhile
                return list(self._holes)

    def forget_holes(self, before: int) -> None:
        """Holes below a seq that is synced are counted for good."""
        while len(self._holes) > 1 and self._holes[0][1] < before:  # the last one is the producers'
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

    def wake(self, end: int) -> None:
        """Wake the writer before its interval is over."""
        self._wake_at = end + self.half
        with contextlib.suppress(RuntimeError):  # awake already
            self.bell.release()

    def write_losses(self, *, at_once: bool = False) -> None:
        """Declare pending losses, once there is room for more than the declaration (called by the writer)."""
        if not self.memory.pending_losses():
            return
        with contextlib.nullcontext() if self._held else self._lock:
            header = self._header
            if (self._busy and not self._held) or (not at_once and header[HEAD] - header[SYNCED] > self.half):
                return
            self._busy = True  # a finaliser that runs in here leaves its line as well
            try:
                if self.memory.write_losses():
                    self._losses_full = False
            finally:
                self._busy = self._held
                if self._settled != self.last_seq and not self._held:
                    self._settle()

    def close(self) -> None:
        """Accept nothing more; what comes is counted as lost for the reason ``closed``.

        A handler that closes in the middle of a call of its own thread holds the lock until :meth:`let_go`, and
        waits for the writer meanwhile: then the writer goes without.
        """
        with self._lock:
            self.closed = True
            self._held = self._busy
            if self._settled != self.last_seq and not self._busy:
                self._settle()

    def let_go(self) -> None:
        """The writer is no longer waited for."""
        self._held = False

    @property
    def used_bytes(self) -> int:
        with contextlib.suppress(ValueError):  # closed, and its memory given back
            return int(self._header[HEAD] - self._header[SYNCED])
        return 0

    @property
    def lost_by_reason(self) -> MappingProxyType[str, int]:
        """How many records are lost for each reason that came up."""
        lost = dict(self._lost)
        lost[REASONS[CLOSED]] += self.refused
        return MappingProxyType({reason: number for reason, number in lost.items() if number})

    @property
    def unlinked(self) -> bool:
        """Whether somebody removed the ring's file: then a kill can cost what was not yet written."""
        fd = self.memory.fd
        return fd is not None and os.fstat(fd).st_nlink == 0
