"""A log directory looked at again and again: each look reads only the bytes that are new."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emitter.segments import Footer, open_regular, parse_footer, read_footer

from ..archive.files import archives_in
from ..inventory import is_living, segments_in
from ..report.health import Digest
from ..tail import Key, Pending, Progress, Tail
from .looks import Seen, Stream
from .recent import Recent

# Enough lines for the orders and trades that are shown.
_RECENT_BYTES = 256 * 1024
_MOST_RECENT_FILES = 16
_READ_BYTES = 4 * 1024 * 1024
# All closed files are looked at again in every so many looks.
_ALL_AGAIN = 30
_SEQ = re.compile(rb'^\{"stream":"[0-9a-f]{32}","seq":([0-9]{1,18}),', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Segment:
    """What was read of one: its records, from ``first`` to ``last`` seq, and its footer if it has one."""

    path: Path
    number: int
    service: str
    records: int = 0
    first: int | None = None
    last: int | None = None
    footer: Footer | None = None


class LogFeed:
    """The files alone. A directory that is not there is a :class:`~loader.errors.UsageError` at the first look."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tail = Tail(directory)
        self._read: dict[Key, Progress] = {}
        self._segments: dict[Key, _Segment] = {}
        self._recent = Recent()
        self._looks = 0
        self.archived: set[str] = set()  # streams that archives are there of

    async def look(self) -> Seen:
        return await asyncio.to_thread(self.seen)

    async def close(self) -> None:
        pass

    def seen(self) -> Seen:
        """As :meth:`look`, in this thread."""
        if self._looks == 0:
            segments_in(self._directory)
        try:
            if self._looks % _ALL_AGAIN == 0:
                self.archived = {name.stream for name in archives_in(self._directory)}
            problems = self._follow()
        except OSError as error:
            problems = {str(self._directory): f"cannot be read: {error.strerror}"}
        self._looks += 1
        return Seen(
            streams=self._streams(),
            segments=len(self._segments),
            newest=self._newest(),
            last_at=self._recent.last_at,
            orders=self._recent.orders(),
            trades=self._recent.trades(),
            problems=problems,
        )

    def last_seqs(self) -> dict[str, int]:
        """The highest seq of each stream."""
        found: dict[str, int] = {}
        for (stream, _), segment in self._segments.items():
            found[stream] = max(found.get(stream, 0), segment.last or 0)
        return found

    # -- reading --

    def _follow(self) -> dict[str, str]:
        """Take in what is new; what is wrong with which file."""
        scan = self._tail.scan(self._read, all_again=self._looks % _ALL_AGAIN == 0)
        spoilt = [key for key, at in scan.voids.items() if key in self._read and self._read[key].bytes > at]
        if spoilt:  # bytes that were read count no more: they were written anew to a later segment
            for key in spoilt:
                del self._read[key], self._segments[key]
            scan = self._tail.scan(self._read)
        problems = dict(scan.problems)
        # The newest first: of those that lie there already, the last lines of some are enough.
        newest = sorted(scan.pending, key=lambda item: _changed_at(item.path), reverse=True)
        for number, item in enumerate(newest):
            try:
                start, end = self._take(item, void=_key(item) in scan.voids)
                if self._looks or (number < _MOST_RECENT_FILES and not self._recent.full):
                    self._recent.take(_last_lines(item.path, start, end))
            except OSError as error:
                problems[str(item.name)] = f"cannot be read: {error.strerror}"
        return self._without_archived(problems)

    def _take(self, item: Pending, *, void: bool) -> tuple[int, int]:
        """Count the records of new bytes; from where to where whole lines were new."""
        key = _key(item)
        segment = self._segments.get(key) or _Segment(item.path, item.name.number, item.header.service)
        end = item.size
        footer = read_footer(item.path) if item.start == 0 and not void else None
        if footer is not None:
            segment = replace(segment, records=footer.records, first=footer.first_seq, last=footer.last_seq)
            segment = replace(segment, footer=footer)
        else:
            segment, end = _counted(item, segment)
        self._segments[key] = segment
        if end > item.start:
            self._read[key] = Progress(end, segment.footer is not None, segment.last)
        return item.start, end

    def _without_archived(self, problems: dict[str, str]) -> dict[str, str]:
        """A segment that is there as an archive is not missing."""
        if not any(problem.startswith("is missing") for problem in problems.values()):
            return problems
        archived = {str(name) for name in archives_in(self._directory)}
        return {file: problem for file, problem in problems.items() if file not in archived}

    # -- what it amounts to --

    def _streams(self) -> list[Stream]:
        """The newest first."""
        found: dict[str, list[_Segment]] = {}
        for stream, number in sorted(self._segments):
            found.setdefault(stream, []).append(self._segments[stream, number])
        return [
            Stream(stream, of[-1].service, _state(of[-1]), sum(one.records for one in of), _missing(of))
            for stream, of in sorted(found.items(), reverse=True)
        ]

    def _newest(self) -> Digest | None:
        closed = [(one.footer.timestamp, key, one) for key, one in self._segments.items() if one.footer]
        if not closed:
            return None
        closed_at, (stream, number), segment = max(closed, key=lambda found: found[:2])
        assert segment.footer is not None  # noqa: S101  for the type checker
        return Digest(segment.service, stream, number, segment.footer.sha256, closed_at)


def _missing(segments: Sequence[_Segment]) -> int:
    """How many numbers before the last no record has: within segments, and between such that lie side by side."""
    missing, number, last = 0, 0, 0
    for segment in segments:
        if segment.first is not None and segment.last is not None:
            missing += segment.last - segment.first + 1 - segment.records
            if segment.number == number + 1:
                missing += segment.first - last - 1
            last = segment.last
        elif segment.number != number + 1:
            continue  # nothing is known of what lies before it
        number = segment.number
    return max(0, missing)


def _counted(item: Pending, known: _Segment) -> tuple[_Segment, int]:
    """The segment with the whole lines of the new bytes counted in, and where these end."""
    at, found = item.start, known
    last_line = b""
    with open_regular(item.path) as file:
        file.seek(at)
        rest = b""
        while at + len(rest) < item.size and (data := file.read(min(_READ_BYTES, item.size - at - len(rest)))):
            data = rest + data
            end = data.rfind(b"\n") + 1
            lines, rest = data[:end], data[end:]
            seqs = [int(match) for match in _SEQ.findall(lines)]
            if seqs:
                first = seqs[0] if found.first is None else found.first
                found = replace(found, records=found.records + len(seqs), first=first, last=seqs[-1])
            at += end
            last_line = lines[lines.rfind(b"\n", 0, -1) + 1 :] or last_line
    return replace(found, footer=parse_footer(last_line)), at


def _last_lines(path: Path, start: int, end: int) -> bytes:
    """The last whole lines of these bytes."""
    begin = max(start, end - _RECENT_BYTES)
    with open_regular(path) as file:
        data = os.pread(file.fileno(), end - begin, begin)
    return data if begin == start else data[data.find(b"\n") + 1 :]


def _state(last: _Segment) -> str:
    if last.footer:
        return "closed"
    return "live" if is_living(last.path) else "unfinished"


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _key(item: Pending) -> Key:
    return item.name.stream, item.name.number
