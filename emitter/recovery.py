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
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from .errors import RingDamaged
from .ring import HEAD, SYNC_BEGUN, SYNC_DONE, SYNCED, WRITTEN, Memory, Slot, list_rings, open_shared
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


@dataclass(slots=True)
class Recovered:
    """What a recovery did: streams finished, torn lines set aside, and what a person should know."""

    streams: list[str] = field(default_factory=list)
    torn: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def recover(directory: Path, *, ring_dir: Path | None = None) -> Recovered:
    """Finish all dead streams of a directory. Living ones, and those that another finishes just now, are left alone.

    ``ring_dir``, where given, is also searched for rings of this directory that never got a segment.
    """
    result = Recovered()
    streams: dict[str, list[SegmentName]] = {}
    for name in list_segments(directory):
        streams.setdefault(name.stream, []).append(name)
    for stream, names in streams.items():
        try:
            if _Stream(directory, names, result).recover():
                result.streams.append(stream)
        except RingDamaged as error:
            result.problems.append(str(error))
        except OSError as error:
            result.problems.append(f"{names[-1]}: cannot be finished now: {error}")
    if ring_dir is not None:
        _remove_unused_rings(directory, ring_dir, streams.keys())
    return result


class _Stream:
    """The files and the ring of one stream, while they are being finished."""

    def __init__(self, directory: Path, names: list[SegmentName], result: Recovered) -> None:
        self.directory = directory
        self.names = names
        self.result = result
        self.header = next((h for name in reversed(names) if (h := read_header(self.path(name)))), None)

    def path(self, name: SegmentName) -> Path:
        return self.directory / str(name)

    def named(self, number: int) -> SegmentName:
        return SegmentName(self.names[-1].stream, number, self.names[-1].service)

    def recover(self) -> bool:
        """Finish it where its owner is dead; whether anything was to do."""
        header = self.header
        if header is None:
            return False  # it died before its first header was whole: no call was ever accepted
        ring = Path(header.ring) if header.ring and header.boot_id == boot_id() else None
        if ring is not None and not ring.exists():
            ring = None
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
                fd = os.open(self.path(name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                held.callback(os.close, fd)
                if not try_lock(fd):
                    return False
            if memory is None:
                self._finish_from_files(header)
            else:
                self._finish_from_ring(memory, header)
                assert ring is not None  # noqa: S101  for the type checker
                ring.unlink(missing_ok=True)
        return True

    # -- with the ring --

    def _finish_from_ring(self, memory: Memory, header: Header) -> None:
        words = memory.header
        if words[SYNC_BEGUN] != words[SYNC_DONE]:
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
        )
        with _appending(path) as fd:
            _write(fd, line)
            os.fdatasync(fd)

    def _begin(self, name: SegmentName, old: Header, previous: str | None, replaces: tuple[Void, ...]) -> int:
        """See to it that a segment is there with a whole header; the offset behind it."""
        path = self.path(name)
        if not path.exists():
            os.close(create_segment(path, mode=self.path(self.names[0]).stat().st_mode & 0o777))
        if read_header(path) is None:
            os.truncate(path, 0)
            line = header_line(
                name,
                service=old.service,
                resource=old.resource,
                pid=os.getpid(),
                ring=old.ring,
                previous_sha256=previous,
                replaces=replaces,
            )
            with _appending(path) as fd:
                _write(fd, line)
                os.fdatasync(fd)
        with path.open("rb") as file:
            return len(file.readline())

    def _give_up_unsynced(self, memory: Memory, header: Header) -> None:
        """It died while a sync was under way: that one counts as failed, and what it covered is written anew."""
        words = memory.header
        void = self._place(memory, words[SYNCED])
        for number in count(memory.slot.segment + 1):
            name = self.named(number)
            voids = (void, *(Void(n, 0) for n in range(void.segment + 1, number)))
            there = read_header(self.path(name)) if self.path(name).exists() else None
            if there is None or there.replaces == voids:
                break
        digest = read_body(self.path(self.named(void.segment)), void.offset).sha256
        offset = self._begin(name, header, digest, voids)
        memory.next_slot(Slot(name.number, offset, words[SYNCED], None))
        words[SYNC_DONE] = words[SYNC_BEGUN]

    def _place(self, memory: Memory, position: int) -> Void:
        """The segment and offset of a ring position, found by walking back over closed segments' lengths."""
        number, offset, start = memory.slot.segment, memory.slot.offset, memory.slot.position
        while position < start:
            number -= 1
            path = self.path(self.named(number))
            with path.open("rb") as file:
                offset = len(file.readline())
            start -= body_size(path) - offset
        return Void(number, offset + position - start)

    # -- without the ring --

    def _finish_from_files(self, header: Header) -> None:
        """Cut what is torn and write the footers that are missing; bytes given up after a failed sync stay."""
        void = {v.segment for v in header.replaces}
        for name in self.names[-2:]:
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
        fd = os.open(torn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
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


def _remove_unused_rings(directory: Path, ring_dir: Path, streams: object) -> None:
    """Rings of dead emitters of this directory that died before their first segment was there."""
    for path in list_rings(ring_dir):
        with contextlib.suppress(OSError, RingDamaged):
            memory = open_shared(path)
            if memory is None:
                continue
            try:
                ours = memory.directory == directory.resolve() and memory.header[HEAD] == 0
                if ours and memory.stream not in streams:  # type: ignore[operator]
                    path.unlink()
            finally:
                memory.close()


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
