"""The segment files of a log as an audit finds them: fixed at one moment, with their first and last lines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from emitter.segments import Footer, Header, SegmentName, open_regular, parse_footer

from .inventory import is_living, segments_in
from .tail import Key, Pending, Tail

_TAIL_BYTES = 64 * 1024
_READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """One segment. ``size`` is what it had when it was looked at; from ``void`` on it does not count.

    ``body_end`` is where the footer begins, or else where the last whole line ends.
    """

    name: SegmentName
    path: Path
    size: int
    header: Header
    footer: Footer | None
    body_end: int
    void: int | None

    @property
    def key(self) -> Key:
        return self.name.stream, self.name.number

    @property
    def end(self) -> int:
        """The end of what is vouched for by others than the footer."""
        return self.body_end if self.void is None else min(self.void, self.body_end)


@dataclass(slots=True)
class Files:
    """All segments. ``present`` are those that are there at all, readable or not; ``pending`` what counts of them."""

    files: dict[Key, File] = field(default_factory=dict)
    present: set[Key] = field(default_factory=set)
    pending: list[Pending] = field(default_factory=list)
    voids: dict[Key, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    living: dict[str, bool] = field(default_factory=dict)

    def streams(self) -> dict[str, list[int]]:
        """The numbers that are there, by stream, sorted."""
        found: dict[str, list[int]] = {}
        for stream, number in sorted(self.present):
            found.setdefault(stream, []).append(number)
        return found


def take_files(directory: Path) -> Files:
    """Look at every segment of a directory; one that is missing is a :class:`~loader.errors.UsageError`."""
    # Who lives is asked first: a bot that ends meanwhile is taken for one that still writes, and nothing is amiss.
    living = _living(directory, segments_in(directory))
    scan = Tail(directory).scan({})
    found = Files(pending=scan.pending, voids=scan.voids)
    there = segments_in(directory)
    found.present = {(name.stream, name.number) for name in there}
    found.living = {name.stream: living.get(name.stream, True) for name in there}
    names = {str(name) for name in there}
    found.problems = {file: problem for file, problem in scan.problems.items() if file in names}
    for item in scan.pending:
        key = (item.name.stream, item.name.number)
        void = scan.voids.get(key)
        try:
            size = item.size if void is None else max(item.size, item.path.stat().st_size)
            footer, end = _last_line(item.path, size)
        except OSError as error:
            found.problems[str(item.name)] = f"cannot be read: {error.strerror}"
            continue
        found.files[key] = File(item.name, item.path, size, item.header, footer, end, void)
    return found


def _living(directory: Path, names: Iterable[SegmentName]) -> dict[str, bool]:
    last: dict[str, list[SegmentName]] = {}
    for name in names:
        last.setdefault(name.stream, []).append(name)
    # While it rotates, a writer holds two.
    return {stream: any(is_living(directory / str(name)) for name in sorted(of)[-2:]) for stream, of in last.items()}


def _last_line(path: Path, size: int) -> tuple[Footer | None, int]:
    """The footer within the first ``size`` bytes, where the last line is one; and the end of the body."""
    wanted = _TAIL_BYTES
    with open_regular(path) as file:
        while True:
            start = max(0, size - wanted)
            tail = os.pread(file.fileno(), size - start, start)
            end = tail.rfind(b"\n") + 1
            begin = tail.rfind(b"\n", 0, max(0, end - 1)) + 1
            if (end and begin) or start == 0:
                break
            wanted *= 4
    footer = parse_footer(tail[begin:end]) if end == len(tail) else None
    return footer, start + (begin if footer else end)


def digests(path: Path, ends: Iterable[int], progress: Callable[[int], None]) -> dict[int, str]:
    """SHA-256 of the first so many bytes of a file, for each of ``ends``; none for those that it does not have."""
    found: dict[int, str] = {}
    digest, at = hashlib.sha256(), 0
    with open_regular(path) as file:
        for end in sorted(set(ends)):
            while at < end and (piece := file.read(min(_READ_BYTES, end - at))):
                digest.update(piece)
                at += len(piece)
                progress(len(piece))
            if at < end:
                break
            found[end] = digest.hexdigest()
    return found
