"""What lies in a log directory, read cheaply: of each segment its first line and its end."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emitter.segments import (
    Footer,
    Header,
    SegmentName,
    list_segments,
    parse_footer,
    parse_header,
    read_footer,
    read_header,
)

from .archive.files import FOLDER, archives_in, lost_folder, whole_lines
from .errors import EnvironmentFault, UsageError
from .spool import MAX_LINE_BYTES, harmless
from .tail import NO_TEXT, is_text

# How a record's line begins.
_HEAD = re.compile(rb'\n\{"stream":"[0-9a-f]{32}","seq":([0-9]{1,18}),')
_MOST_OF_A_HEAD = 80
_TAIL_BYTES = 256 * 1024
_OF_ANOTHER = "its first line belongs to another segment than its name says"


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment: ``whole_bytes`` ends with its last line end, ``last_seq`` is that of its last record.

    ``plain`` and ``body_end`` are for archives, which had to be read for this: whether a reader of text sees all their
    lines, and where the footer begins, or else the last line ends. Their sizes are those of the segment.
    """

    name: SegmentName
    path: Path
    bytes: int
    whole_bytes: int
    header: Header
    footer: Footer | None
    last_seq: int | None
    plain: bool | None = None
    body_end: int | None = None

    @property
    def archived(self) -> bool:
        """Whether it is an archive that is read, because the segment itself is not there."""
        return self.path.name != str(self.name)


@dataclass(slots=True)
class Inventory:
    """The segments of a directory by stream and number, and what is wrong with files that look like some."""

    files: list[SegmentFile] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    voids: dict[tuple[str, int], int] = field(default_factory=dict)

    def end(self, file: SegmentFile) -> int:
        """The offset behind the last byte that counts."""
        void = self.voids.get((file.name.stream, file.name.number))
        return file.whole_bytes if void is None else min(void, file.whole_bytes)


def segments_in(directory: Path) -> list[SegmentName]:
    """The segments of a directory; one that is missing is a :class:`UsageError`."""
    try:
        return list_segments(directory, odd=True)
    except FileNotFoundError as error:
        raise UsageError(f"{directory}: there is no such directory; give the log directory with --dir") from error
    except NotADirectoryError as error:
        raise UsageError(f"{directory}: is no directory; give the log directory with --dir") from error
    except OSError as error:
        raise EnvironmentFault(f"{directory}: cannot be read: {error.strerror}") from error


def take_inventory(directory: Path, *, archived: bool = False) -> Inventory:
    """Look at every segment of a directory; ``archived``: and at the archives of those that are not there."""
    found = Inventory()
    for name in segments_in(directory):
        _note(directory / str(name), name, _look, found)
    if archived:
        there = {file.name for file in found.files}
        add_archives({n: path for n, path in archives_in(directory).items() if n not in there}, found)
        found.files.sort(key=lambda file: (file.name.stream, file.name.number, file.name.service))
        if problem := lost_folder(directory):
            found.problems[FOLDER] = problem
    for (stream, number), offset in found.voids.items():
        if offset == 0:  # the disk lost all of it, and a later segment has it
            for file in [file for file in found.problems if f".{stream}.{number:06d}." in file]:
                del found.problems[file]
    return found


def add_archives(archives: Mapping[SegmentName, Path], found: Inventory) -> None:
    """Look at archives as at the segments that they hold."""
    for name, path in archives.items():
        _note(path, name, _look_archived, found)


def look_at(archive: Path, name: SegmentName) -> Inventory:
    """One archive alone."""
    found = Inventory()
    add_archives({name: archive}, found)
    return found


def _note(path: Path, name: SegmentName, look: Callable[..., str | None], found: Inventory) -> None:
    try:
        problem = look(path, name, found) if is_text(path.name) else NO_TEXT
    except FileNotFoundError:
        return  # it was archived since the directory was listed
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem:
        found.problems[path.name] = problem


def _look(path: Path, name: SegmentName, found: Inventory) -> str | None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file, though it has the name of a segment"
    header = read_header(path)
    if header is None:
        # While it is written the first line is not whole; later it must be a header.
        with path.open("rb") as file:
            return "its first line is no segment header" if b"\n" in file.read(_TAIL_BYTES) else None
    if _is_of_another(header, name):
        return _OF_ANOTHER
    whole, last_seq = _end(path, status.st_size)
    _add(SegmentFile(name, path, status.st_size, whole, header, read_footer(path), last_seq), found)
    return None


def _look_archived(path: Path, name: SegmentName, found: Inventory) -> str | None:
    header, last, last_seq = None, b"", None
    size, whole, plain = 0, 0, True
    for lines in whole_lines(path, MAX_LINE_BYTES):
        if header is None:
            header = parse_header(lines[: lines.find(b"\n") + 1])
            if header is None:
                return "its first line is no segment header"
            if _is_of_another(header, name):
                return _OF_ANOTHER
        inside = size > whole  # behind the beginning of a line that is too long
        size += len(lines)
        if lines.endswith(b"\n"):
            whole, last = size, lines[lines.find(b"\n") + 1 :] if inside else lines
            plain = plain and not inside and harmless(lines)
            seq = _last_seq(lines, len(lines), at_line_start=not inside)
            last_seq = last_seq if seq is None else seq
    if header is None:
        return "its first line is no segment header"
    last = last[last.rfind(b"\n", 0, -1) + 1 :]
    footer = parse_footer(last) if whole == size else None
    body_end = whole - len(last) if footer else whole
    _add(SegmentFile(name, path, size, whole, header, footer, last_seq, plain, body_end), found)
    return None


def _is_of_another(header: Header, name: SegmentName) -> bool:
    return (header.stream, header.segment) != (name.stream, name.number)


def _add(file: SegmentFile, found: Inventory) -> None:
    found.files.append(file)
    for void in file.header.replaces:
        key = (file.name.stream, void.segment)
        found.voids[key] = min(void.offset, found.voids.get(key, void.offset))


def _end(path: Path, size: int) -> tuple[int, int | None]:
    """(bytes up to the last line end, seq of the last whole record), looking back as far as it takes."""
    whole, stop = 0, size
    with path.open("rb") as file:
        while stop > 0:
            start = max(0, stop - _TAIL_BYTES)
            file.seek(start)
            tail = file.read(min(stop + _MOST_OF_A_HEAD, size) - start)  # a head may reach into what was read before
            whole = whole or (start + tail.rfind(b"\n") + 1 if b"\n" in tail else 0)
            if (seq := _last_seq(tail, whole - start, at_line_start=start == 0)) is not None:
                return whole, seq
            stop = start
    return whole, None


def _last_seq(data: bytes, end: int, *, at_line_start: bool) -> int | None:
    """The seq of the last record that begins before ``end``, where a line ends."""
    seq = None
    for head in _HEAD.finditer(b"\n" * at_line_start + data):
        if head.start() - at_line_start < end - 1:
            seq = int(head[1])
    return seq


def is_living(path: Path) -> bool:
    """Whether its writer lives, which holds the file's lock; asked without getting in anyone's way."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
