"""The tail: which bytes of which segment files are new, cut to whole lines and brought together as one batch.

A batch is a file of lines (the spool) made of parts: ranges of segments. Lines that would disturb a reader of text (not
UTF-8, control characters, too long) are kept aside, whole, and an empty line stands in for them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from emitter.records import SCHEMA_VERSION
from emitter.segments import Header, SegmentName, open_regular, read_header

# Longer lines are rejected whole. The emitter's own limit is 64 KiB unless its settings say more.
MAX_LINE_BYTES = 1024 * 1024
_READ_BYTES = 1024 * 1024

Key = tuple[str, int]  # stream and number of a segment


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
    voids: dict[Key, int] = field(default_factory=dict)


class Tail:
    """Looks at a directory again and again, for new bytes beyond what the ledger has.

    Remembers headers and what is wrong with which file, so that a loaded segment is not opened again, and that a look
    at those files that changed costs the same however many others lie there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._names: dict[str, SegmentName] = {}  # by file name
        self._files: dict[Key, str] = {}
        self._headers: dict[str, Header] = {}
        self._voids: dict[Key, int] = {}
        self._problems: dict[str, str] = {}
        self._settled: set[str] = set()  # closed, and loaded to the end

    def scan(
        self, ledger: Mapping[Key, Progress], changed: Iterable[str] | None = None, *, all_again: bool = True
    ) -> Scan:
        """New bytes, streams by age and segments by number.

        ``changed``: only these files are looked at. Without ``all_again`` a file that was closed and loaded to its end
        at the last look is taken to be so still.
        """
        found = Scan(problems=self._problems, voids=self._voids)
        sizes = self._listed(ledger, found, all_again) if changed is None else self._stated(changed)
        new = [file for file in sizes if not self._is_loaded(file, sizes[file], ledger)]
        for file in new:
            self._claim(file)
        for file in sorted(new, key=self._place):
            name, status = self._names[file], sizes[file]
            self._problems.pop(file, None)
            try:
                problem = self._look(file, status, ledger.get(_key(name)), found)
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
            if problem:
                self._problems[file] = problem
        self._read_later_headers(found.pending)
        for key, offset in self._voids.items():
            if offset == 0:  # the disk lost all of it; nothing of it counts
                self._problems.pop(self._files.get(key, ""), None)
        found.pending = [p for p in map(self._without_void, found.pending) if p is not None]
        return found

    def _is_loaded(self, file: str, status: os.stat_result, ledger: Mapping[Key, Progress]) -> bool:
        """Whether nothing is new in a file; most are such, so that this is asked first."""
        key = _key(self._names[file])
        done = ledger.get(key)
        if done is None or status.st_size != done.bytes or not stat.S_ISREG(status.st_mode):
            return False
        if self._files.setdefault(key, file) != file:
            return False
        self._problems.pop(file, None)
        if done.closed:
            self._settled.add(file)
        return True

    def _place(self, file: str) -> tuple[str, int, str]:
        name = self._names[file]
        return name.stream, name.number, name.service

    def _listed(self, ledger: Mapping[Key, Progress], found: Scan, all_again: bool) -> dict[str, os.stat_result]:
        """All segments that may have something new; notes which are gone."""
        there, sizes = set(), {}
        with os.scandir(self.directory) as entries:
            for entry in entries:
                file = entry.name
                if file not in self._names and not self._is_segment(file):
                    continue
                there.add(file)
                if all_again or file not in self._settled:
                    with contextlib.suppress(FileNotFoundError):  # gone just now
                        sizes[file] = entry.stat(follow_symlinks=False)
        for file in self._names.keys() - there:
            name = self._names.pop(file)
            self._headers.pop(file, None)
            self._settled.discard(file)
            if self._files.get(_key(name)) == file:
                del self._files[_key(name)]
        self._problems = found.problems = {file: self._problems[file] for file in self._problems if file in there}
        self._note_missing(ledger)
        return sizes

    def _stated(self, files: Iterable[str]) -> dict[str, os.stat_result]:
        sizes = {}
        for file in files:
            if file in self._names or self._is_segment(file):
                with contextlib.suppress(FileNotFoundError):
                    sizes[file] = os.lstat(self.directory / file)
        return sizes

    def _claim(self, file: str) -> None:
        """Of two files that say to be the same segment, the one whose name its emitter gave it is that."""
        key = _key(self._names[file])
        first = self._files.setdefault(key, file)
        if first != file and self._is_original(file) and not self._is_original(first):
            self._files[key] = file
            self._settled.discard(first)

    def _is_original(self, file: str) -> bool:
        try:
            header = read_header(self.directory / file)
        except OSError:
            return False
        name = self._names[file]
        return header is not None and name == SegmentName.of(header.service, header.stream, header.segment)

    def _is_segment(self, file: str) -> bool:
        name = SegmentName.parse(file)
        if name is not None:
            self._names[file] = name
        return name is not None

    def _note_missing(self, ledger: Mapping[Key, Progress]) -> None:
        """A number that is neither here nor loaded, though a later one of its stream is here."""
        last: dict[str, SegmentName] = {}
        numbers: dict[str, set[int]] = {}
        for name in self._names.values():
            numbers.setdefault(name.stream, set()).add(name.number)
            if name.stream not in last or name.number > last[name.stream].number:
                last[name.stream] = name
        for stream, name in last.items():
            if len(numbers[stream]) < name.number:
                for number in range(1, name.number):
                    done = ledger.get((stream, number))
                    if number not in numbers[stream] and (done is None or not done.closed):
                        part = "it was loaded in part" if done else "its records are not loaded"
                        file = str(SegmentName(stream, number, name.service))
                        self._problems[file] = f"is missing, though a later segment of its stream is there; {part}"

    def _look(self, file: str, status: os.stat_result, done: Progress | None, found: Scan) -> str | None:
        """What is new in a file, added to ``found``; what is wrong with it."""
        name, path = self._names[file], self.directory / file
        if not stat.S_ISREG(status.st_mode):
            return "is no regular file, though it has the name of a segment"
        if self._files[_key(name)] != file:
            return f"is a second file of the segment {self._files[_key(name)]}, which is taken"
        start = done.bytes if done else 0
        if status.st_size < start:
            return f"has shrunk to {status.st_size} bytes, {start} were loaded"
        header = self._headers.get(file) or read_header(path)
        if header is None:
            return self._no_header(path) if status.st_size else None
        self._headers[file] = header
        if header.schema_version != SCHEMA_VERSION:
            return f"has format {header.schema_version}, this program reads {SCHEMA_VERSION}: upgrade tradetrail"
        if (header.stream, header.segment) != _key(name):
            return "its first line belongs to another segment than its name says"
        self._note_voids(header)
        if not _continues(path, start):
            return f"was changed before byte {start}, up to which it is loaded; what follows is not"
        found.pending.append(Pending(name, path, start, status.st_size, done.last_seq if done else None, header))
        return f"has grown behind its footer, by {status.st_size - start} bytes" if done and done.closed else None

    def _note_voids(self, header: Header) -> None:
        for void in header.replaces:
            key = (header.stream, void.segment)
            self._voids[key] = min(void.offset, self._voids.get(key, void.offset))

    def _read_later_headers(self, pending: Iterable[Pending]) -> None:
        """Segments that are loaded already, and were never read here, may say that bytes before them are void."""
        lowest: dict[str, int] = {}
        for item in pending:
            lowest.setdefault(item.name.stream, item.name.number)
        for stream, number in lowest.items():
            while (file := self._files.get((stream, number := number + 1))) is not None:
                if file not in self._headers:
                    with contextlib.suppress(OSError):
                        header = read_header(self.directory / file)
                        if header is not None:
                            self._headers[file] = header
                            self._note_voids(header)

    def _no_header(self, path: Path) -> str | None:
        """What is wrong with a file whose first line is no header; None while that line may still be written."""
        with open_regular(path) as file:
            return "its first line is no segment header" if b"\n" in file.read(_READ_BYTES) else None

    def _without_void(self, pending: Pending) -> Pending | None:
        limit = self._voids.get(_key(pending.name))
        if limit is None or limit >= pending.size:
            return pending
        return replace(pending, size=limit) if limit > pending.start else None


def _key(name: SegmentName) -> Key:
    return name.stream, name.number


def _continues(path: Path, start: int) -> bool:
    """Whether the bytes before an offset end a line, as they did when they were loaded."""
    if start == 0:
        return True
    with open_regular(path) as file:
        return os.pread(file.fileno(), 1, start - 1) == b"\n"


def batches(
    pending: list[Pending], folder: Path, batch_bytes: int, problems: dict[str, str] | None = None
) -> Iterator[Spooled]:
    """Bring the pending bytes into batches of about ``batch_bytes``, each a file in ``folder``.

    A file that can no longer be read is left out, and ``problems`` says so.
    """
    batch: Spooled | None = None
    number = 0
    for item in pending:
        start, last_seq = item.start, item.last_seq
        while start < item.size:
            room = batch_bytes - (batch.bytes if batch else 0)
            try:
                data = _whole_lines(item, start, room)
            except OSError as error:
                if problems is not None:
                    problems[str(item.name)] = f"could not be read from byte {start} on: {error.strerror}"
                break
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
