"""The segment files of a log as an audit finds them: fixed at one moment, with their first and last lines.

An archive stands in for a segment that is not there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from emitter.records import SCHEMA_VERSION
from emitter.segments import Footer, Header, SegmentName, open_regular, parse_footer

from ..archive.files import FOLDER, archives_in, blocks, lost_folder
from ..inventory import Inventory, add_archives, is_living, segments_in
from ..tail import Key, Pending, Tail

_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """One segment. ``size`` is what it (unpacked) had when it was looked at; from ``void`` on it does not count.

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
    def archived(self) -> bool:
        """Whether it is an archive that is read, because the segment itself is not there."""
        return self.path.name != str(self.name)

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
    _add_archives(directory, found)
    return found


def _add_archives(directory: Path, found: Files) -> None:
    archives = {n: path for n, path in archives_in(directory).items() if (n.stream, n.number) not in found.present}
    inventory = Inventory(voids=found.voids)
    add_archives(archives, inventory)
    found.problems |= inventory.problems
    if problem := lost_folder(directory):
        found.problems[FOLDER] = problem
    for name in archives:
        found.present.add((name.stream, name.number))
        found.living.setdefault(name.stream, False)
    for file in inventory.files:
        key = (file.name.stream, file.name.number)
        if file.header.schema_version != SCHEMA_VERSION:
            found.problems[file.path.name] = (
                f"has format {file.header.schema_version}, this program reads {SCHEMA_VERSION}: upgrade tradetrail"
            )
            continue
        void, end = found.voids.get(key), file.body_end or 0
        found.files[key] = File(file.name, file.path, file.bytes, file.header, file.footer, end, void)
        counts = file.bytes if void is None else min(void, file.bytes)
        if counts:
            found.pending.append(Pending(file.name, file.path, 0, counts, None, file.header))
    found.pending.sort(key=lambda item: (item.name.stream, item.name.number))


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
    """SHA-256 of the first so many bytes of a segment, for each of ``ends``; none for those that it does not have."""
    found: dict[int, str] = {}
    left = sorted(set(ends), reverse=True)
    digest, at = hashlib.sha256(), 0
    for block in blocks(path):
        view = memoryview(block)
        while left and left[-1] <= at + len(view):
            digest.update(view[: left[-1] - at])
            view, at = view[left[-1] - at :], left[-1]
            found[left.pop()] = digest.hexdigest()
        if not left:
            break
        digest.update(view)
        at += len(view)
        progress(len(block))
    return found
