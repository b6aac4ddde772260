"""What lies in a log directory, read cheaply: of each segment its first line and its end."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from emitter.segments import Footer, Header, SegmentName, list_segments, read_footer, read_header

from .errors import EnvironmentFault, UsageError

_SEQ = re.compile(rb'\n\{"stream":"[0-9a-f]{32}","seq":([0-9]{1,18}),[^\n]*(?=\n)')
_TAIL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment: ``whole_bytes`` ends with its last line end, ``last_seq`` is that of its last record."""

    name: SegmentName
    path: Path
    bytes: int
    whole_bytes: int
    header: Header
    footer: Footer | None
    last_seq: int | None


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


def take_inventory(directory: Path) -> Inventory:
    """Look at every segment of a directory."""
    found = Inventory()
    for name in segments_in(directory):
        try:
            problem = _look(directory / str(name), name, found)
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        if problem:
            found.problems[str(name)] = problem
    for (stream, number), offset in found.voids.items():
        if offset == 0:  # the disk lost all of it, and a later segment has it
            for file in [file for file in found.problems if f".{stream}.{number:06d}." in file]:
                del found.problems[file]
    return found


def _look(path: Path, name: SegmentName, found: Inventory) -> str | None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file, though it has the name of a segment"
    header = read_header(path)
    if header is None:
        # While it is written the first line is not whole; later it must be a header.
        with path.open("rb") as file:
            return "its first line is no segment header" if b"\n" in file.read(_TAIL_BYTES) else None
    if (header.stream, header.segment) != (name.stream, name.number):
        return "its first line belongs to another segment than its name says"
    whole, last_seq = _end(path, status.st_size)
    footer = read_footer(path)
    found.files.append(SegmentFile(name, path, status.st_size, whole, header, footer, last_seq))
    for void in header.replaces:
        key = (name.stream, void.segment)
        found.voids[key] = min(void.offset, found.voids.get(key, void.offset))
    return None


def _end(path: Path, size: int) -> tuple[int, int | None]:
    """(bytes up to the last line end, seq of the last whole record), looking back as far as it takes."""
    wanted = _TAIL_BYTES
    with path.open("rb") as file:
        while True:
            start = max(0, size - wanted)
            file.seek(start)
            tail = b"\n" * (start == 0) + file.read(size - start)
            offset = start - (start == 0)
            end = tail.rfind(b"\n") + 1
            last = None
            for last in _SEQ.finditer(tail, 0, end):  # noqa: B007  the last one is wanted
                pass
            if (last and end) or start == 0:
                return offset + end, int(last[1]) if last else None
            wanted *= 4


def is_living(path: Path) -> bool:
    """Whether its writer lives, which holds the file's lock; asked without getting in anyone's way."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
