"""The writer: brings the ring's bytes into segment files, and makes them outlive a loss of power.

Two daemon threads. *Write* drains the ring with ``os.write``, rotates segments and retries for as long as the disk
fails; it does next to nothing per record. *Sync* calls ``fdatasync`` and only then gives ring space back, because
it may hang with the disk while writes go on.

Invariant 5 of ``docs/format.md``: between header and footer a segment holds nothing but ring bytes, in order.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .memory import HEAD, SYNC_BEGUN, SYNC_DONE, SYNCED, WRITTEN, Slot
from .ring import Ring
from .seal import Seal
from .segments import (
    SegmentName,
    Void,
    create_segment,
    footer_line,
    header_line,
    make_directory,
    open_directory,
    sync_entries,
)

# Writing and hashing give up the interpreter's lock; beside a busy thread each costs a switch interval (5 ms) to get
# it back, so that small pieces would be slower than the bot.
_PIECE_BYTES = 4 * 1024 * 1024
_BACKOFF_FIRST_S = 0.01
_BACKOFF_MOST_S = 1.0
_ROTATE_AGAIN_S = 1.0
_FLUSH_LOOK_S = 0.005
# After a failed sync all since the last good one is written again: not every second for as long as the disk is broken.
_SYNC_BACKOFF_MOST_S = 30.0
# Segments that wait for a sync hold a descriptor each, and the bot needs its own.
_RETIRED_MOST = 64
# A write that fails this often for another reason than a full disk will not recover on that file.
_GIVE_UP_AFTER = 8
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class _Stopped(Exception):
    """The writer was told to end and its time is up; what is left stays in the ring for recovery."""


class _GivenUp(Exception):
    """The present segment cannot be trusted or written any more."""


@dataclass(slots=True, eq=False)
class OpenSegment:
    """A segment being written, and what its footer will say."""

    name: SegmentName
    fd: int
    size: int = 0
    records: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    opened: float = field(default_factory=time.monotonic)
    in_directory: bool = False

    def footer(self, seal: Seal | None) -> bytes:
        sha256 = self.digest.hexdigest()
        return footer_line(
            self.name,
            records=self.records,
            first_seq=self.first_seq,
            last_seq=self.last_seq,
            sha256=sha256,
            hmac=seal.of(self.name, sha256) if seal else None,
        )


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a sync reaches: to ``position`` in the ring, to ``size`` bytes of ``segment``."""

    position: int
    segment: int
    size: int
    sha256: str | None
    records_total: int
    last_seq: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSettings:
    directory: Path
    service: str
    resource: dict[str, str]
    segment_max_bytes: int
    segment_max_age_s: float
    flush_interval_s: float
    fsync_interval_s: float
    file_mode: int = 0o600
    gid: int = -1
    seal: Seal | None = None


class Writer:
    """Owns the segment files of one stream."""

    def __init__(self, ring: Ring, stream: str, settings: WriterSettings) -> None:
        self._ring = ring
        self._memory = ring.memory
        self._words = ring.memory.header
        self._settings = settings
        self.records_total = 0
        self.high_water = 0
        self.last_error: str | None = None
        self.synced_at = time.monotonic()
        self.closed = False
        self.on_loss: Callable[[], None] = lambda: None
        self._loss_told = False
        self._stop_at: float | None = None
        self._stopping = threading.Event()
        self._rotate_after = 0.0
        # Guards what the two threads share: the segments and how far each has come. Never held across I/O.
        self._shared = threading.Condition()
        self._sync_bell = threading.Semaphore(0)
        self._distrusted = False
        self._sync_failures = 0
        self._sync_after = 0.0
        self._epoch = 0  # changes when segments are given up: a sync begun before says nothing
        self._retired: list[OpenSegment] = []
        self._given_up: list[int] = []
        self._begun = False
        self._directory = open_directory(settings.directory)
        try:
            self._segment = self._create_first(SegmentName.of(settings.service, stream, 1))
        except BaseException:
            os.close(self._directory)
            raise
        self._begun = True
        self._last_number = 1
        self._memory.next_slot(Slot(1, self._segment.size, 0, None))
        self._synced = Reached(0, 1, 0, None, 0, None)  # not even the first header
        self._writing = threading.Thread(target=self._write_loop, name="tradetrail-writer", daemon=True)
        self._syncing = threading.Thread(target=self._sync_loop, name="tradetrail-sync", daemon=True)

    def start(self) -> None:
        self._syncing.start()
        self._writing.start()

    @property
    def segment_name(self) -> str:
        return str(self._segment.name)

    @property
    def unsynced_bytes(self) -> int:
        return int(self._words[HEAD] - self._words[SYNCED])

    # -- called by other threads --

    def flush(self, timeout: float) -> bool:
        """Wait until all that was accepted before, or declared lost, is written and synced; whether it was in time."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(ValueError), self._shared:  # ValueError: closed meanwhile, and its memory given back
            pending, target = True, 0
            while True:
                if pending:  # asked before the head: their declaration moves it
                    pending, target = bool(self._memory.pending_losses()), self._words[HEAD]
                if not pending and self._words[SYNCED] >= target:
                    return True
                left = deadline - time.monotonic()
                if left <= 0 or self.closed or threading.current_thread() is self._writing:
                    return self.closed
                self._wake()
                self._shared.wait(min(left, _FLUSH_LOOK_S))
        return self.closed

    def stop(self, timeout: float) -> bool:
        """Write what the ring holds, close the segment and end; whether all of it was done in time.

        Where it was not, nothing is lost: ring and open segment are left to recovery.
        """
        self._stop_at = time.monotonic() + timeout
        self._stopping.set()
        self._wake()
        if self._writing.is_alive() and threading.current_thread() is not self._writing:
            self._writing.join(timeout)
        return self.closed

    def abandon(self) -> None:
        """It could not be started: let go of the first segment, which has no record, and remove it."""
        self._stop_at = time.monotonic()
        self._sync_bell.release()
        if self._syncing.is_alive():  # it was the other thread that could not be started; there is nothing to sync
            self._syncing.join()
        self._remove(self._segment)
        os.close(self._directory)

    def _remove(self, segment: OpenSegment) -> None:
        os.close(segment.fd)
        with contextlib.suppress(OSError):
            (self._settings.directory / str(segment.name)).unlink()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # awake already
            self._ring.bell.release()
        self._sync_bell.release()

    # -- write thread --

    def _write_loop(self) -> None:
        pause = _BACKOFF_FIRST_S
        while True:
            self._ring.bell.acquire(timeout=self._settings.flush_interval_s)
            try:
                self._turn()
                pause = _BACKOFF_FIRST_S
                if self._stop_at is not None:
                    self._finish()
                    return
            except _Stopped:
                return
            except _GivenUp:
                self._distrusted = True
                pause = self._wait(pause)
            except BaseException as error:  # noqa: BLE001  whatever it is, the records wait in the ring
                self._note(error)
                self._distrusted = True
                pause = self._wait(pause)
            if self._out_of_time():
                return

    def _wait(self, pause: float) -> float:
        """Wait after a failure, not beyond the deadline of ``stop``; how long to wait after the next."""
        if self._stop_at is None:
            self._stopping.wait(pause)
        else:
            time.sleep(min(pause, self._left()))
        return min(2 * pause, _BACKOFF_MOST_S)

    def _turn(self) -> None:
        ring = self._ring
        self.high_water = max(self.high_water, ring.used_bytes)
        if self._distrusted:
            self._start_anew()
        if self._memory.pending_losses():
            if not self._loss_told:
                self._loss_told = True
                self.on_loss()
            ring.write_losses(at_once=self._stop_at is not None)
        else:
            self._loss_told = False
        self._drain(self._words[HEAD])
        if self.unsynced_bytes > ring.half:
            self._sync_bell.release()
        segment = self._segment
        if segment.records and time.monotonic() - segment.opened >= self._settings.segment_max_age_s:
            self._rotate()

    def _drain(self, head: int) -> None:
        """Write all lines up to ``head``, a piece at a time, and rotate where a segment is full."""
        words, half = self._words, self._ring.half
        while (start := words[WRITTEN]) < head:
            if self._distrusted:
                raise _GivenUp
            stop = min(head, start + _PIECE_BYTES)
            room = max(0, self._settings.segment_max_bytes - self._segment.size)
            if stop - start > room:
                end = self._memory.line_end(start, start + room)
                if end == start and self._segment.records and self._rotate():
                    continue
                # An empty segment takes one line, though it be longer than a segment.
                stop = end if end > start else stop if self._segment.records else start + 1
            end = self._memory.line_end(start, stop)
            if end == start:
                end = self._memory.first_line_end(start, head)
            self._write_lines(start, end)
            if words[HEAD] - words[SYNCED] > half:
                self._sync_bell.release()

    def _write_lines(self, start: int, stop: int) -> None:
        segment = self._segment
        pieces = self._memory.views(start, stop)
        for piece in pieces:
            self._write_all(segment.fd, piece)
        records, first, last = self._ring.numbers(start, stop)
        with self._shared:
            for piece in pieces:
                segment.digest.update(piece)
            segment.size += stop - start
            segment.records += records
            segment.first_seq = segment.first_seq or first
            segment.last_seq = last or segment.last_seq
            self.records_total += records
            self._words[WRITTEN] = stop

    def _write_all(self, fd: int, data: memoryview | bytes, *, anew: bool = False) -> None:
        """Write every byte, going on where a short or failed write stopped, for as long as it takes.

        Not on a segment that is given up meanwhile, unless the file is that which replaces it (``anew``).
        """
        view = memoryview(data)
        pause, failures = _BACKOFF_FIRST_S, 0
        while len(view):
            try:
                count = os.write(fd, view)
            except OSError as error:
                self._note(error)
                # A bot that starts is not kept waiting for room on the disk.
                failures += error.errno not in _DISK_FULL or not self._begun
                if self._out_of_time():
                    raise _Stopped from error
                if (self._distrusted and not anew) or failures >= _GIVE_UP_AFTER:
                    raise _GivenUp from error
                pause = self._wait(pause)
            else:
                view = view[count:]

    def _create(self, name: SegmentName) -> OpenSegment:
        settings = self._settings
        path = settings.directory / str(name)
        try:
            fd = create_segment(path, mode=settings.file_mode, gid=settings.gid)
        except FileNotFoundError:  # somebody removed the directory under a bot that goes on
            make_directory(settings.directory, gid=settings.gid)
            fd = create_segment(path, mode=settings.file_mode, gid=settings.gid)
        with contextlib.suppress(OSError):  # where it was replaced and no descriptor is left, the old one must do
            if not os.path.samestat(settings.directory.stat(), os.fstat(self._directory)):
                old, self._directory = self._directory, open_directory(settings.directory)
                self._given_up.append(old)
        return OpenSegment(name, fd)

    def _create_first(self, name: SegmentName) -> OpenSegment:
        """The first header is in its file before the first call is accepted; an OSError where that cannot be."""
        segment = self._create(name)
        try:
            self._write_header(segment, None, ())
        except BaseException as error:
            self._remove(segment)
            if isinstance(error, _GivenUp) and isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise
        return segment

    def _write_header(self, segment: OpenSegment, previous: str | None, replaces: tuple[Void, ...]) -> None:
        path = self._memory.path
        line = header_line(
            segment.name,
            service=self._settings.service,
            resource=self._settings.resource,
            pid=os.getpid(),
            ring=str(path) if path else None,
            previous_sha256=previous,
            replaces=replaces,
        )
        self._write_all(segment.fd, line, anew=bool(replaces))
        segment.digest.update(line)
        segment.size = len(line)

    def _rotate(self) -> bool:
        """Close the present segment and go on in the next; False where no next one can be made now."""
        if time.monotonic() < self._rotate_after or not self._few_retired():
            return False
        old, end = self._segment, self._words[WRITTEN]
        try:
            new = self._create(old.name.next())
        except OSError as error:  # no descriptors, no inodes, no directory: go on with the old one
            self._note(error)
            self._rotate_after = time.monotonic() + _ROTATE_AGAIN_S
            return False
        self._last_number = new.name.number
        try:
            self._memory.end_slot(end)
            self._write_all(old.fd, old.footer(self._settings.seal))
            self._write_header(new, old.digest.hexdigest(), ())
        except BaseException:
            self._given_up.append(new.fd)
            raise
        with self._shared:
            self._retired.append(old)
            self._segment = new
        self._memory.next_slot(Slot(new.name.number, new.size, end, None))
        return True

    def _few_retired(self) -> bool:
        """Whether few enough segments wait for their sync; a disk that hangs is not waited for long."""
        if len(self._retired) < _RETIRED_MOST:
            return True
        if not self._syncing.is_alive():  # the writer is ending, and has taken over
            self._sync_now()
            return True
        self._sync_bell.release()
        with self._shared:
            self._shared.wait_for(lambda: len(self._retired) < _RETIRED_MOST or self._distrusted, _ROTATE_AGAIN_S)
        if len(self._retired) >= _RETIRED_MOST:
            self._rotate_after = time.monotonic() + _ROTATE_AGAIN_S
            return False
        return True

    def _start_anew(self) -> None:
        """After a failed sync or write: everything since the last good sync goes to a new segment.

        A sync that failed once is never believed again for that file: the kernel may have dropped the pages and
        would report success next time. The new header names what it replaces.
        """
        synced = self._synced  # what the disk has; of segments begun since, not even the headers need be there
        behind = range(synced.segment + 1, self._last_number + 1)
        voids = (Void(synced.segment, synced.size), *(Void(number, 0) for number in behind))
        name = SegmentName(self._segment.name.stream, self._last_number + 1, self._segment.name.service)
        try:
            new = self._create(name)
        except OSError as error:
            self._note(error)
            raise _GivenUp from error
        self._last_number += 1
        try:
            self._write_header(new, synced.sha256, voids)
        except BaseException:
            self._given_up.append(new.fd)
            raise
        with self._shared:
            self._given_up += [segment.fd for segment in (*self._retired, self._segment)]
            self._retired, self._segment = [], new
            self._epoch += 1
            self._memory.next_slot(Slot(name.number, new.size, synced.position, None))
            self._words[WRITTEN] = synced.position
            self.records_total = synced.records_total
            self._words[SYNC_DONE] = self._words[SYNC_BEGUN]
            self._distrusted = False

    def _finish(self) -> None:
        """Nothing more will come: footer, sync, close."""
        self._sync_bell.release()
        self._syncing.join(self._left())
        if self._syncing.is_alive():
            raise _Stopped
        self._write_rest()
        while self._memory.pending_losses():  # the ring was too full for their line: what is synced gives space
            self._sync_now()
            self._write_rest()
        self._memory.end_slot(self._words[WRITTEN])
        self._write_all(self._segment.fd, self._segment.footer(self._settings.seal))
        self._sync_now()
        self._given_up += [self._segment.fd, self._directory]
        self._close_given_up()
        with self._shared:
            self.closed = True
            self._shared.notify_all()

    def _write_rest(self) -> None:
        self._ring.write_losses(at_once=True)
        self._drain(self._words[HEAD])
        if self._distrusted:
            raise _GivenUp

    def _sync_now(self) -> None:
        """What the sync thread does, once it has ended."""
        with self._shared:
            reached, segments = self._reached(), [*self._retired, self._segment]
        self._words[SYNC_BEGUN] += 1
        try:
            self._sync(segments)
        except OSError as error:
            self._note(error)
            raise _GivenUp from error
        self._sync_done(reached, self._epoch, segments[:-1])

    def _left(self) -> float:
        return max(0.0, (self._stop_at or 0.0) - time.monotonic())

    def _out_of_time(self) -> bool:
        return self._stop_at is not None and not self._left()

    def _note(self, error: BaseException) -> None:
        self.last_error = f"{type(error).__name__}: {error}"

    # -- sync thread --

    def _sync_loop(self) -> None:
        while self._stop_at is None:
            self._sync_bell.acquire(timeout=self._settings.fsync_interval_s)
            while self._sync_bell.acquire(blocking=False):
                pass  # many calls for a sync are one
            try:
                self._sync_turn()
            except BaseException as error:  # noqa: BLE001  without this thread no space would be given back ever again
                self._sync_failed(error)

    def _sync_turn(self) -> None:
        self._close_given_up()
        with self._shared:
            reached, epoch = self._reached(), self._epoch
            segments = [*self._retired, self._segment]
        idle = reached.position == self._words[SYNCED]
        if idle or self._distrusted or time.monotonic() < self._sync_after:
            return
        self._words[SYNC_BEGUN] += 1
        self._sync(segments)
        self._sync_failures = 0
        self._sync_done(reached, epoch, segments[:-1])

    def _sync_failed(self, error: BaseException) -> None:
        self._note(error)
        if self._sync_failures:
            backoff = min(2.0 ** (self._sync_failures - 1), _SYNC_BACKOFF_MOST_S)
            self._sync_after = time.monotonic() + backoff
        self._sync_failures += 1
        self._distrusted = True
        self._wake()

    def _sync_done(self, reached: Reached, epoch: int, retired: list[OpenSegment]) -> None:
        with self._shared:
            if epoch != self._epoch or self._distrusted:
                return
            self._words[SYNC_DONE] = self._words[SYNC_BEGUN]
            self._words[SYNCED] = reached.position
            self._synced = reached
            self._retired = [segment for segment in self._retired if segment not in retired]
            self.synced_at = time.monotonic()
            self._ring.forget_holes(reached.last_seq or 0)
            self._shared.notify_all()
        for segment in retired:
            os.close(segment.fd)

    def _sync(self, segments: Sequence[OpenSegment]) -> None:
        for segment in segments:
            if not segment.in_directory:
                sync_entries(self._directory)
                segment.in_directory = True
            os.fdatasync(segment.fd)
        last = os.fstat(segments[-1].fd)
        if last.st_nlink == 0 and self.unsynced_bytes:
            raise FileNotFoundError(errno.ENOENT, "removed while it was written", str(segments[-1].name))

    def _reached(self) -> Reached:
        """How far the writer has come (under ``_shared``): always at a line's end."""
        segment = self._segment
        return Reached(
            self._words[WRITTEN],
            segment.name.number,
            segment.size,
            segment.digest.hexdigest(),
            self.records_total,
            segment.last_seq,
        )

    def _close_given_up(self) -> None:
        while self._given_up:
            os.close(self._given_up.pop())
