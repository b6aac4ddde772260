"""The tail: which bytes of which segment files are new, cut to whole lines and brought together as one batch.

A batch is a file of lines (the spool) made of parts: ranges of segments. Lines that would disturb a reader of text (not
UTF-8, control characters, too long) are kept aside, whole, and an empty line stands in for them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emitter.records import SCHEMA_VERSION
from emitter.segments import Header, SegmentName, list_segments, read_header

# Longer lines are rejected whole. The emitter's own limit is 64 KiB unless its settings say more.
MAX_LINE_BYTES = 1024 * 1024
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """What the ledger says of a segment."""

    bytes: int
    closed: bool
    last_seq: int | None


@dataclass(frozen=True, slots=True)
class Pending:
    """New bytes of a segment: from ``start`` up to ``size`` (a torn last line included)."""

    name: SegmentName
    path: Path
    start: int
    size: int
    last_seq: int | None
    header: Header


@dataclass(frozen=True, slots=True)
class OddLine:
    """A line that is not in the spool: its number in the batch, what it was, and the rule it breaks (if any)."""

    n: int
    raw: str
    raw_hex: str | None
    length: int
    why: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Part:
    """A range of whole lines of one segment, and its place in the batch."""

    name: SegmentName
    header: Header
    start: int
    stop: int
    first_line: int
    lines: int
    batch_offset: int
    last_seq: int | None


@dataclass(slots=True)
class Spooled:
    """A batch on disk."""

    path: Path
    parts: list[Part] = field(default_factory=list)
    odd: list[OddLine] = field(default_factory=list)
    bytes: int = 0
    lines: int = 0


@dataclass(slots=True)
class Scan:
    """What a look at the directory found: new bytes in order, and what a person should know, by file."""

    pending: list[Pending] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    voids: dict[tuple[str, int], int] = field(default_factory=dict)


class Tail:
    """Looks at a directory again and again; remembers headers, so that a loaded segment is not opened again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._headers: dict[SegmentName, Header] = {}

    def scan(self, ledger: Mapping[tuple[str, int], Progress]) -> Scan:
        """New bytes of every segment beyond what the ledger has, streams by age, segments by number."""
        found = Scan()
        names = list_segments(self.directory)
        for name in names:
            done = ledger.get((name.stream, name.number))
            try:
                self._look(name, done, found)
            except OSError as error:
                found.problems[str(name)] = f"cannot be read: {error.strerror}"
        found.pending = [p for p in (_without_void(p, found.voids) for p in found.pending) if p is not None]
        for name in names:
            if found.voids.get((name.stream, name.number)) == 0:
                found.problems.pop(str(name), None)  # the disk lost all of it; nothing of it counts
        return found

    def _look(self, name: SegmentName, done: Progress | None, found: Scan) -> None:
        path = self.directory / str(name)
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            found.problems[str(name)] = "is no regular file, though it has the name of a segment"
            return
        if done is not None and status.st_size < done.bytes:
            found.problems[str(name)] = f"has shrunk to {status.st_size} bytes, {done.bytes} were loaded"
            return
        if done is not None and status.st_size == done.bytes:
            return
        header = self._headers.get(name) or read_header(path)
        if header is None:
            if status.st_size:
                problem = self._no_header(path)
                if problem:
                    found.problems[str(name)] = problem
            return
        self._headers[name] = header
        if header.schema_version != SCHEMA_VERSION:
            found.problems[str(name)] = (
                f"has format {header.schema_version}, this program reads {SCHEMA_VERSION}: upgrade tradetrail"
            )
            return
        if (header.stream, header.segment) != (name.stream, name.number):
            found.problems[str(name)] = "its first line belongs to another segment than its name says"
            return
        for void in header.replaces:
            key = (name.stream, void.segment)
            found.voids[key] = min(void.offset, found.voids.get(key, void.offset))
        start = done.bytes if done else 0
        found.pending.append(Pending(name, path, start, status.st_size, done.last_seq if done else None, header))

    def _no_header(self, path: Path) -> str | None:
        """What is wrong with a file whose first line is no header; None while that line may still be written."""
        with path.open("rb") as file:
            return "its first line is no segment header" if b"\n" in file.read(_READ_BYTES) else None


def _without_void(pending: Pending, voids: Mapping[tuple[str, int], int]) -> Pending | None:
    limit = voids.get((pending.name.stream, pending.name.number))
    if limit is None or limit >= pending.size:
        return pending
    if limit <= pending.start:
        return None
    return Pending(pending.name, pending.path, pending.start, limit, pending.last_seq, pending.header)


def batches(pending: list[Pending], folder: Path, batch_bytes: int) -> Iterator[Spooled]:
    """Bring the pending bytes into batches of about ``batch_bytes``, each a file in ``folder``."""
    batch: Spooled | None = None
    number = 0
    for item in pending:
        start, last_seq = item.start, item.last_seq
        while start < item.size:
            room = batch_bytes - (batch.bytes if batch else 0)
            data = _whole_lines(item, start, room)
            if not data:
                break  # only a torn last line is left, for later
            if batch is None:
                number += 1
                batch = Spooled(folder / f"batch-{number}.jsonl")
            _add(batch, item, start, data, last_seq)
            start += len(data)
            last_seq = None  # the batch before this one knows it
            # At most one part of a segment in a batch: its row in the ledger is one step.
            if start < item.size or batch.bytes >= batch_bytes * 3 // 4:
                yield batch
                batch = None
    if batch is not None:
        yield batch


def _whole_lines(item: Pending, start: int, room: int) -> bytes:
    """Whole lines from ``start`` on: about ``room`` bytes, or the one line that is longer."""
    fd = os.open(item.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        wanted = min(room, item.size - start) if room > 0 else 1
        data = _read(fd, start, wanted)
        end = data.rfind(b"\n") + 1
        while end == 0 and start + len(data) < item.size:
            more = _read(fd, start + len(data), min(_READ_BYTES, item.size - start - len(data)))
            if not more:
                break
            found = more.find(b"\n") + 1
            end = len(data) + found if found else 0
            data += more
        return data[:end]
    finally:
        os.close(fd)


def _read(fd: int, offset: int, count: int) -> bytes:
    parts = []
    while count > 0 and (data := os.pread(fd, count, offset)):
        parts.append(data)
        offset += len(data)
        count -= len(data)
    return b"".join(parts)


def _add(batch: Spooled, item: Pending, start: int, data: bytes, last_seq: int | None) -> None:
    lines = data.count(b"\n")
    first_line = batch.lines + 1
    batch.parts.append(Part(item.name, item.header, start, start + len(data), first_line, lines, batch.bytes, last_seq))
    text = data if harmless(data) else _set_odd_aside(data, first_line, batch.odd)
    with batch.path.open("ab") as file:
        file.write(text)
    batch.bytes += len(data)
    batch.lines += lines


def harmless(data: bytes) -> bool:
    """Whether a reader of text lines sees in these bytes the lines that are there."""
    if b"\r" in data or b"\x01" in data or b"\0" in data or data.startswith(b"\xef\xbb\xbf"):
        return False
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return False
    at = 0
    while at + MAX_LINE_BYTES < len(data):
        end = data.rfind(b"\n", at, at + MAX_LINE_BYTES + 1)
        if end < at:
            return False
        at = end + 1
    return True


def _set_odd_aside(data: bytes, first_line: int, odd: list[OddLine]) -> bytes:
    kept = []
    for n, line in enumerate(data.split(b"\n")[:-1], first_line):
        if harmless(line) and len(line) <= MAX_LINE_BYTES:
            kept.append(line)
            continue
        why, detail = None, ""
        stand_in = b""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            why = "not_utf8"
        else:
            if len(line) > MAX_LINE_BYTES:
                why, detail = "line_too_long", str(MAX_LINE_BYTES)
            elif harmless(line[:-1]) and line.endswith(b"\r"):
                stand_in = line[:-1]  # a line end of another system: no fault
            else:
                why = "not_json"
        exact = why is None or (why != "not_utf8" and b"\0" not in line)
        raw = text if exact else line.decode("utf-8", "replace").replace("\0", "\ufffd")
        odd.append(OddLine(n, raw, None if exact else r"\x" + line.hex(), len(line), why, detail))
        kept.append(stand_in)
    return b"\n".join(kept) + b"\n"
