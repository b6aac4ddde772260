"""The tail: which bytes of which segment files are new, and what is wrong with files that look like some."""

from __future__ import annotations

import contextlib
import os
import stat
from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from emitter.records import SCHEMA_VERSION
from emitter.segments import Header, SegmentName, open_regular, read_header

_READ_BYTES = 1024 * 1024
# So many missing numbers of a stream are named; a file's name may claim to be the billionth.
_MOST_MISSING = 100

NO_TEXT = "its name is not UTF-8, no emitter gave it that; it is left alone"

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
        self._numbers: dict[str, list[int]] = {}  # by stream, sorted; of all that were ever there
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
        odd = [self._names[file] for file in self._problems if file in self._names]
        self._read_later_headers([*(item.name for item in found.pending), *odd])
        for key, offset in self._voids.items():
            file, done = self._files.get(key, ""), ledger.get(key)
            # What the disk lost of it does not count.
            if offset == 0 or (done and file in sizes and offset <= sizes[file].st_size < done.bytes):
                self._problems.pop(file, None)
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
            insort(self._numbers.setdefault(name.stream, []), name.number)
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
                noted = 0
                for number in range(1, name.number):
                    done = ledger.get((stream, number))
                    if number not in numbers[stream] and (done is None or not done.closed):
                        part = "it was loaded in part" if done else "its records are not loaded"
                        file = str(SegmentName(stream, number, name.service))
                        self._problems[file] = f"is missing, though a later segment of its stream is there; {part}"
                        noted += 1
                        if noted == _MOST_MISSING:
                            self._problems[file] += (
                                f"; whether others are missing up to {name.number} was not looked at"
                            )
                            break

    def _look(self, file: str, status: os.stat_result, done: Progress | None, found: Scan) -> str | None:
        """What is new in a file, added to ``found``; what is wrong with it."""
        name, path = self._names[file], self.directory / file
        if not stat.S_ISREG(status.st_mode):
            return "is no regular file, though it has the name of a segment"
        if not is_text(file):
            return NO_TEXT
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

    def _read_later_headers(self, names: Iterable[SegmentName]) -> None:
        """Segments that are loaded already, and were never read here, may say that bytes before these are void."""
        lowest: dict[str, int] = {}
        for name in names:
            lowest[name.stream] = min(name.number, lowest.get(name.stream, name.number))
        for stream, number in lowest.items():
            numbers = self._numbers[stream]
            # Some between them may be gone: an archive removes what is whole, and leaves what has void bytes.
            for later in numbers[bisect_right(numbers, number) :]:
                file = self._files.get((stream, later))
                if file is not None and file not in self._headers:
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


def is_text(file: str) -> bool:
    """Whether a file's name can stand in a table and in a query."""
    try:
        file.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(name: SegmentName) -> Key:
    return name.stream, name.number


def _continues(path: Path, start: int) -> bool:
    """Whether the bytes before an offset end a line, as they did when they were loaded."""
    if start == 0:
        return True
    with open_regular(path) as file:
        return os.pread(file.fileno(), 1, start - 1) == b"\n"
