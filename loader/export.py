"""The trail in other people's forms, straight from the raw log: as a stream, whatever its size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import orjson

from emitter.records import AUDIT_LOST, CONTROL_EVENTS

from . import otlp
from .archive.files import blocks
from .archive.locks import reading
from .errors import UsageError
from .exact import parse
from .inventory import Inventory, SegmentFile, take_inventory
from .options import meant
from .settings import MIB
from .spool import MAX_LINE_BYTES

FORMATS = ("otlp",)

# A Collector cuts lines at 1 MiB (max_log_size) unless told otherwise; one record alone may be longer.
_RECORDS_A_LINE = 500
_BYTES_A_LINE = 512 * 1024
# A segment that was closed before the time asked for holds nothing since; the clock may have been set back meanwhile.
_GRACE = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Exported:
    """What was written: ``losses`` are declarations of losses, ``left_out`` lines that are no records."""

    records: int = 0
    losses: int = 0
    lines: int = 0
    bytes: int = 0
    segments: int = 0
    left_out: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def export_otlp(
    directory: Path,
    to: BinaryIO,
    *,
    since: datetime | None = None,
    services: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Exported:
    """Write the records and declared losses of a log as OTLP/JSON lines.

    ``since``: only what was written to the log since. ``services``: only what these wrote; one that has no segment is
    a :class:`~loader.errors.UsageError`. ``progress`` is told the bytes that are read, of how many.
    """
    with reading(directory):
        return _export(directory, to, since, services, progress)


def _export(
    directory: Path,
    to: BinaryIO,
    since: datetime | None,
    services: Collection[str],
    progress: Callable[[int, int], None],
) -> Exported:
    inventory = take_inventory(directory, archived=True)
    files = [file for file in _of(inventory, services) if since is None or not _closed_before(file, since)]
    done = Exported(problems=dict(inventory.problems))
    total = sum(inventory.end(file) for file in files)
    least = 0 if since is None else (since - _EPOCH) // timedelta(microseconds=1) * 1000
    before = 0
    for file in files:
        line = _Line(to, otlp.opening(file.header), done)
        end, read, told = inventory.end(file), 0, 0
        for raw in _lines(file, end, done.problems):
            if found := _converted(raw, file.name.stream, least, done):
                line.add(found)
            read += len(raw) + 1
            if read >= told:
                progress(before + read, total)
                told = read + MIB
        line.end()
        done.segments += 1
        before += end
        progress(before, total)
    return done


def _of(inventory: Inventory, services: Collection[str]) -> list[SegmentFile]:
    known = sorted({file.header.service for file in inventory.files})
    for name in services:
        if name not in known:
            said = f"is none of those that wrote here: {', '.join(known)}" if known else "has written nothing here"
            raise UsageError(f"--service: {name!r} {said}{meant(name, known)}")
    return [file for file in inventory.files if not services or file.header.service in services]


def _closed_before(file: SegmentFile, since: datetime) -> bool:
    try:
        return file.footer is not None and datetime.fromisoformat(file.footer.timestamp) + _GRACE < since
    except (ValueError, TypeError, OverflowError):  # not as we write it
        return False


def _lines(file: SegmentFile, end: int, problems: dict[str, str]) -> Iterator[bytes]:
    """The lines up to ``end``, without their ends; an empty one for what is longer than any record may be."""
    at, rest, too_long = 0, b"", False
    try:
        for block in blocks(file.path):
            lines = (rest + block[: end - at]).split(b"\n")
            rest = lines.pop()
            if lines and too_long:
                lines[0], too_long = b"", False
            for line in lines:
                yield line if len(line) <= MAX_LINE_BYTES else b""
            if len(rest) > MAX_LINE_BYTES:
                rest, too_long = b"", True
            at += len(block)
            if at >= end:
                break
    except OSError as error:  # removed meanwhile, or an archive that is damaged
        problems[file.path.name] = f"cannot be read to its end: {error.strerror}"


def _converted(raw: bytes, stream: str, least: int, done: Exported) -> bytes | None:
    """A line as an OTLP LogRecord, counted; None for what is not to be written."""
    try:
        line, literals = parse(raw)
        if not _is_ours(line, stream):
            raise ValueError("no line of this stream")
        if "seq" not in line and line["event_name"] != AUDIT_LOST:
            return None  # the header is in the resource, and the footer vouches for the file, not for an export
        found = otlp.log_record(line, literals)
        # One whose time cannot be read is not withheld.
        if least and int(found.get("observedTimeUnixNano", least)) < least:
            return None
        text = orjson.dumps(found)
    except (ValueError, TypeError, RecursionError):  # TypeError: orjson's, of a lone surrogate
        done.left_out += 1
        return None
    if "seq" in line:
        done.records += 1
    else:
        done.losses += 1
    return text


def _is_ours(line: object, stream: str) -> bool:
    """Whether a line's JSON is a record or a control line of this stream."""
    if type(line) is not dict or line.get("stream") != stream or type(line.get("attributes")) is not dict:
        return False
    name = line.get("event_name")
    if "seq" in line:
        return type(name) is str and name != "" and type(line["seq"]) is int and line["seq"] > 0
    return name in CONTROL_EVENTS


class _Line:
    """The line that is being filled: records of one segment."""

    def __init__(self, to: BinaryIO, opening: bytes, done: Exported) -> None:
        self._to, self._opening, self._done = to, opening, done
        self._records: list[bytes] = []
        self._size = 0

    def add(self, record: bytes) -> None:
        """Take a record; what is full is written before."""
        if len(self._records) == _RECORDS_A_LINE or self._size + len(record) > _BYTES_A_LINE:
            self.end()
        self._records.append(record)
        self._size += len(record) + 1

    def end(self) -> None:
        """Write what there is."""
        if self._records:
            text = b"%b%b%b" % (self._opening, b",".join(self._records), otlp.CLOSING)
            self._to.write(text)
            self._done.lines += 1
            self._done.bytes += len(text)
            self._records, self._size = [], 0
