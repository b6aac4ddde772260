"""Recovery: finish the streams whose owner is dead.

Called by ``AuditLog`` when it starts and by the loader before it reads. A stream is dead when its locks are free.
Where its ring is there, the ring decides: what it holds beyond the file is appended, nothing is doubled. Where it is
gone (another boot, another container, anonymous memory), the files alone are finished and a torn last line is set
aside.

Each step can be cut by a kill and done again, by this process or another, with the same result: the files' sizes and
the ring's header say how far it came.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from .errors import RingDamaged, SegmentDamaged
from .memory import HEAD, SYNC_BEGUN, SYNC_DONE, SYNCED, WRITTEN, Memory, Slot
from .records import SCHEMA_VERSION
from .seal import Seal
from .segments import (
    Header,
    SegmentName,
    Void,
    boot_id,
    create_segment,
    footer_line,
    header_line,
    list_segments,
    read_footer,
    read_header,
    sync_directory,
    try_lock,
)
from .shared import open_shared, remove_unused

# A first file without a header this old has no maker: between the two lie microseconds.
_MAKING_S = 10.0


@dataclass(slots=True)
class Recovered:
    """What a recovery did: streams finished, torn lines set aside, and what a person should know."""

    streams: list[str] = field(default_factory=list)
    torn: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def recover(
    directory: Path, *, ring_dir: Path | None = None, finished: set[str] | None = None, seal: Seal | None = None
) -> Recovered:
    """Finish all dead streams of a directory. Living ones, and those that another finishes just now, are left alone.

    ``ring_dir``, where given, is also searched for rings of this directory that never got a segment. ``finished``
    remembers for the next time which streams have reached their end, so that they are not looked at again. ``seal``:
    the footers written here are sealed with it.
    """
    result = Recovered()
    streams: dict[str, list[SegmentName]] = {}
    for name in list_segments(directory):
        streams.setdefault(name.stream, []).append(name)
    for stream, names in streams.items():
        if finished is not None and stream in finished:
            continue
        try:
            found = _Stream(directory, names, result, seal)
            if found.recover():
                result.streams.append(stream)
            elif finished is not None and found.is_finished():
                finished.add(stream)
        except (RingDamaged, SegmentDamaged) as error:
            result.problems.append(str(error))
        except PermissionError as error:  # a loader under another user may read and not finish
            if not _living(directory / str(names[-1])):
                result.problems.append(f"{names[-1]}: its emitter must finish it, here: {error}")
        except Exception as error:  # noqa: BLE001  one old stream must not keep a bot from its start, nor the others
            result.problems.append(f"{names[-1]}: cannot be finished now: {error}")
    if ring_dir is not None:
        result.problems += remove_unused(directory, ring_dir, streams.keys())
    return result


def _living(path: Path) -> bool:
    """Whether somebody holds a segment's lock, asked without a right to write; no, where it may not be read either."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not try_lock(fd)
    finally:
        os.close(fd)


class _Stream:
    """The files and the ring of one stream, while they are being finished."""

    def __init__(self, directory: Path, names: list[SegmentName], result: Recovered, seal: Seal | None = None) -> None:
        self.directory = directory
        self.stream = names[0].stream
        self.names = names
        self.result = result
        self.seal = seal
        self.header = self.newest_header()

    def path(self, name: SegmentName) -> Path:
        return self.directory / str(name)

    def newest_header(self) -> Header | None:
        return next((h for name in reversed(self.names) if (h := read_header(self.path(name)))), None)

    def named(self, number: int) -> SegmentName:
        return SegmentName(self.names[-1].stream, number, self.names[-1].service)

    def ring(self) -> Path | None:
        """Its ring, where that is still there."""
        header = self.header
        ring = Path(header.ring) if header and header.ring and header.boot_id == boot_id() else None
        return ring if ring is not None and ring.exists() else None

    def is_finished(self) -> bool:
        """Whether nobody will write to it any more: it has its last footer, and no ring."""
        last = self.names[-1]
        if self.header is None or self.ring() is not None or read_footer(self.path(last)) is None:
            return False
        # A writer that lives makes the next file before it closes one, maybe after this directory was listed.
        return not self.path(last.next()).exists()

    def recover(self) -> bool:
        """Finish it where its owner is dead; whether anything was to do."""
        header, ring = self.header, self.ring()
        if header is None:
            return self._finish_unbegun()
        if ring is None and read_footer(self.path(self.names[-1])):
            return False
        with contextlib.ExitStack() as held:
            memory = None
            if ring is not None:
                memory = open_shared(ring)
                if memory is None:
                    return False  # its owner lives, or another recovery is at it
                held.callback(memory.close)
                if memory.stream != header.stream:
                    raise RingDamaged(f"{ring}: it is the ring of stream {memory.stream}; it is kept as it is")
            for name in self.names[-2:]:  # while it rotates, a writer holds both
                if not self._lock(name, held):
                    return False
            if memory is None:
                # Another recovery may have been faster; only what stands there under the lock counts.
                self.names = [name for name in list_segments(self.directory) if name.stream == self.stream]
                if read_footer(self.path(self.names[-1])):
                    return False
                self._finish_from_files(self.newest_header() or header)
            else:
                self._finish_from_ring(memory, header)
                assert ring is not None  # noqa: S101  for the type checker
                ring.unlink(missing_ok=True)
        return True

    def _lock(self, name: SegmentName, held: contextlib.ExitStack) -> bool:
        fd = os.open(self.path(name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        held.callback(os.close, fd)
        return try_lock(fd)

    def _finish_unbegun(self) -> bool:
        """It died before its first header was whole, or lost power before its first sync: it ends with no record."""
        with contextlib.ExitStack() as held:
            for name in self.names:
                if time.time() - self.path(name).stat().st_mtime < _MAKING_S or not self._lock(name, held):
                    return False
            if self.newest_header():
                return False  # another recovery was faster
            for name in self.names:
                self._require_no_line(name)
            first = self.names[0]
            header = Header(self.stream, 1, first.service, SCHEMA_VERSION, "", None, None, None, None, (), {})
            self._finish_from_files(header)
        return True

    # -- with the ring --

    def _finish_from_ring(self, memory: Memory, header: Header) -> None:
        words = memory.header
        if not memory.slot.segment:  # it died between its first header and the ring's word on it
            memory.next_slot(Slot(1, self._begin(self.named(1), header, None, ()), 0, None))
        if words[SYNC_BEGUN] != words[SYNC_DONE] or self._replaced(memory.slot):
            self._give_up_unsynced(memory, header)
        while True:
            slot = memory.slot
            name = self.named(slot.segment)
            if slot.end is None:
                self._complete(memory, slot, words[HEAD])
                self._sync(memory)
                if memory.pending_losses():
                    memory.write_losses()
                    continue
                memory.end_slot(words[HEAD])
                continue
            self._complete(memory, slot, slot.end)
            body_end = slot.offset + slot.end - slot.position
            self._footer(name, body_end)
            behind = name.next()
            if slot.end == words[HEAD] and not self.path(behind).exists():
                if words[SYNCED] < slot.end:
                    self._sync(memory)
                break
            # It died in a rotation: the next segment is begun, or what the ring holds beyond must go there.
            digest = read_body(self.path(name), body_end).sha256
            offset = self._begin(behind, header, digest, ())
            memory.next_slot(Slot(behind.number, offset, slot.end, None))
        sync_directory(self.directory)

    def _complete(self, memory: Memory, slot: Slot, end: int) -> None:
        """Append to the slot's segment what the ring holds beyond the file's end."""
        path = self.path(self.named(slot.segment))
        size = path.stat().st_size
        position = slot.position + size - slot.offset
        if size < slot.offset or position < memory.header[HEAD] - memory.capacity:
            raise RingDamaged(f"{path.name}: shorter than its ring says; both are kept as they are")
        if position > end and slot.end is None:
            raise RingDamaged(f"{path.name}: longer than its ring says; both are kept as they are")
        if position < end:
            with _appending(path) as fd:
                for piece in memory.views(position, end):
                    _write(fd, piece)

    def _sync(self, memory: Memory) -> None:
        """Make all that the ring still vouches for outlive a loss of power; a failure is noted in the ring."""
        words = memory.header
        first = self._place(memory, words[SYNCED]).segment
        words[SYNC_BEGUN] += 1
        for number in range(first, memory.slot.segment + 1):
            if self.path(self.named(number)).exists():
                with _appending(self.path(self.named(number))) as fd:
                    os.fdatasync(fd)
        words[WRITTEN] = words[HEAD]
        words[SYNCED] = words[HEAD]
        words[SYNC_DONE] = words[SYNC_BEGUN]

    def _footer(self, name: SegmentName, body_end: int) -> None:
        """Keep a whole footer; else cut back to the body's end and write it (again)."""
        path = self.path(name)
        if path.stat().st_size > body_end:
            if read_footer(path):
                with _appending(path) as fd:
                    os.fdatasync(fd)
                return
            os.truncate(path, body_end)
        body = read_body(path, body_end)
        line = footer_line(
            name,
            records=body.records,
            first_seq=body.first_seq,
            last_seq=body.last_seq,
            sha256=body.sha256,
            recovered=True,
            hmac=self.seal.of(name, body.sha256) if self.seal else None,
        )
        with _appending(path) as fd:
            _write(fd, line)
            os.fdatasync(fd)

    def _begin(self, name: SegmentName, old: Header, previous: str | None, replaces: tuple[Void, ...]) -> int:
        """See to it that a segment is there with a whole header; the offset behind it."""
        path = self.path(name)
        if not path.exists():
            model = self.path(self.names[0]).stat()
            shared = model.st_mode & 0o070
            os.close(create_segment(path, mode=model.st_mode & 0o777, gid=model.st_gid if shared else -1))
        if read_header(path) is None:
            self._require_no_line(name)
            os.truncate(path, 0)
            line = header_line(
                name,
                service=old.service,
                resource=old.resource,
                pid=os.getpid(),
                ring=old.ring,
                previous_sha256=previous,
                replaces=replaces,
                boot=old.boot_id,
            )
            with _appending(path) as fd:
                _write(fd, line)
                os.fdatasync(fd)
        return _first_line_bytes(path)

    def _require_no_line(self, name: SegmentName) -> None:
        """A file without a header is begun anew only where nobody ended a line in it."""
        with self.path(name).open("rb") as file:
            if file.readline().endswith(b"\n"):
                raise SegmentDamaged(f"{name}: its first line is no header; it is kept as it is")

    def _replaced(self, slot: Slot) -> bool:
        """Whether its owner died on the way to a segment that makes bytes of the present one void."""
        later = (name for name in list_segments(self.directory) if name.stream == self.stream)
        headers = (read_header(self.path(name)) for name in later if name.number > slot.segment)
        return any(header is not None and header.replaces for header in headers)

    def _give_up_unsynced(self, memory: Memory, header: Header) -> None:
        """It died while a sync was under way: that one counts as failed, and what it covered is written anew."""
        words, slot = memory.header, memory.slot
        void = self._place(memory, words[SYNCED])
        good: Void | None = void
        earlier: tuple[Void, ...] = ()
        path = self.path(self.named(void.segment))
        if void.offset == _first_line_bytes(path):
            # Nothing of it was synced, not even the header and its word on what it replaces.
            first = read_header(path)
            earlier, void = first.replaces if first else (), Void(void.segment, 0)
            good = next((known for known in reversed(earlier) if known.offset), None)
        for number in count(slot.segment + 1):
            name = self.named(number)
            voids = (*earlier, void, *(Void(n, 0) for n in range(void.segment + 1, number)))
            there = read_header(self.path(name)) if self.path(name).exists() else None
            if there is None or there.replaces == voids:
                break
        digest = read_body(self.path(self.named(good.segment)), good.offset).sha256 if good else None
        offset = self._begin(name, header, digest, voids)
        memory.next_slot(Slot(name.number, offset, words[SYNCED], None))
        words[SYNC_DONE] = words[SYNC_BEGUN]

    def _place(self, memory: Memory, position: int) -> Void:
        """The segment and offset of a ring position, found by walking back over closed segments' lengths.

        Between two segments it is the end of the former: that the latter's header was synced nobody knows. A header
        that says what it replaces is no such place.
        """
        number, offset, start = memory.slot.segment, memory.slot.offset, memory.slot.position
        while position < start or (position == start and self._follows(number)):
            number -= 1
            path = self.path(self.named(number))
            offset = _first_line_bytes(path)
            start -= body_size(path) - offset
        return Void(number, offset + position - start)

    def _follows(self, number: int) -> bool:
        """Whether a segment goes on from the end of the one before, which is still there."""
        header = read_header(self.path(self.named(number)))
        return number > 1 and not (header and header.replaces) and self.path(self.named(number - 1)).exists()

    # -- without the ring --

    def _finish_from_files(self, header: Header) -> None:
        """Cut what is torn and write the footers that are missing; bytes given up after a failed sync stay."""
        headers = (read_header(self.path(name)) for name in self.names)
        void = {v.segment for h in headers if h is not None for v in h.replaces}
        for name in self.names:
            path = self.path(name)
            if name.number in void or read_footer(path):
                continue
            self._set_torn_aside(path)
            previous = None
            if name.number > 1 and self.path(self.named(name.number - 1)).exists():
                footer = read_footer(self.path(self.named(name.number - 1)))
                previous = footer.sha256 if footer else None
            self._begin(name, header, previous, ())
            self._footer(name, path.stat().st_size)
        sync_directory(self.directory)

    def _set_torn_aside(self, path: Path) -> None:
        whole = body_size(path, footer=False)
        if path.stat().st_size == whole:
            return
        torn = path.with_name(path.name + ".torn")
        with path.open("rb") as file:
            file.seek(whole)
            rest = file.read()
        fd = os.open(torn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _write(fd, rest)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.truncate(path, whole)
        self.result.torn.append(torn)


@dataclass(frozen=True, slots=True)
class Body:
    """What the first bytes of a segment amount to."""

    records: int
    first_seq: int | None
    last_seq: int | None
    sha256: str


def read_body(path: Path, size: int) -> Body:
    """Count and digest the first ``size`` bytes of a segment (header included, footer not)."""
    digest = hashlib.sha256()
    records, first, last = 0, None, None
    prefix = b'{"stream":"%b","seq":' % path.name.rsplit(".", 3)[-3].encode()
    with path.open("rb") as file:
        left = size
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            digest.update(line)
            if line.startswith(prefix):
                with contextlib.suppress(ValueError):
                    last = int(line[len(prefix) : line.index(b",", len(prefix))])
                    first = first or last
                records += 1
    return Body(records, first, last, digest.hexdigest())


def body_size(path: Path, *, footer: bool = True) -> int:
    """The size of a segment up to its footer, or (``footer=False``) up to its last line end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if footer and read_footer(path):
            end -= 1  # the footer's own line end
        for start in range((end - 1) // 4096 * 4096, -1, -4096):
            file.seek(start)
            found = file.read(min(4096, end - start)).rfind(b"\n")
            if found >= 0:
                return start + found + 1
    return 0


def _first_line_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return len(file.readline())


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def _write(fd: int, data: memoryview | bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]
