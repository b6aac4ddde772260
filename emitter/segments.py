"""Segment files: their names, their first and last line, and how one is made.

A name is an identity: ``<service>.<stream>.<number, 6 digits>.jsonl``. A segment is opened with O_EXCL, locked
for as long as its writer lives, appended, and never renamed. The loader reads by this module what the emitter
wrote by it; ``docs/format.md`` is the normative text.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from .records import SCHEMA_VERSION, SEGMENT_CLOSED, SEGMENT_OPENED

_NAME = re.compile(r"(?P<service>.+)\.(?P<stream>[0-9a-f]{32})\.(?P<number>[0-9]{6,9})\.jsonl")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}
# A footer is far shorter; a longer last line is none.
_FOOTER_MAX_BYTES = 4096
_HEADER_MAX_BYTES = 64 * 1024


def new_stream() -> str:
    """A UUIDv7 in hex: 48 bits of milliseconds since 1970, then version, variant and 74 random bits (RFC 9562)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


@cache
def boot_id() -> str | None:
    """What tells one boot of this machine from another, where the kernel says so."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def timestamp(ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC with microseconds."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1000 % 1_000_000:06d}Z"


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """The identity of a segment; ``str()`` gives the file's name. Sorts by stream, then number."""

    stream: str
    number: int
    service: str

    def __str__(self) -> str:
        return f"{self.service}.{self.stream}.{self.number:06d}.jsonl"

    @classmethod
    def of(cls, service: str, stream: str, number: int) -> SegmentName:
        """The name for a service of any spelling: what is unsafe in a file name becomes a dash."""
        return cls(stream, number, _UNSAFE.sub("-", service)[:80])

    @classmethod
    @lru_cache(maxsize=1 << 16)  # a directory of thousands is listed again and again
    def parse(cls, name: str) -> SegmentName | None:
        """The identity in a file's name, or None where it is no segment's name."""
        match = _NAME.fullmatch(name)
        return cls(match["stream"], int(match["number"]), match["service"]) if match else None

    def next(self) -> SegmentName:
        return SegmentName(self.stream, self.number + 1, self.service)


@dataclass(frozen=True, slots=True)
class Void:
    """Bytes of an earlier segment, from ``offset`` on, that a failed sync made void; they were written anew."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a segment (``segment.opened``)."""

    stream: str
    segment: int
    service: str
    schema_version: int
    timestamp: str
    pid: int | None
    boot_id: str | None
    ring: str | None
    previous_sha256: str | None
    replaces: tuple[Void, ...]
    resource: dict[str, str]


@dataclass(frozen=True, slots=True)
class Footer:
    """The last line of a closed segment (``segment.closed``). ``sha256`` is that of all bytes before this line."""

    stream: str
    segment: int
    timestamp: str
    records: int
    first_seq: int | None
    last_seq: int | None
    sha256: str
    recovered: bool
    hmac: str | None = None


def control_line(stream: str, event_name: str, attributes: dict[str, Any], severity: str = "INFO") -> bytes:
    """A line without seq: it tells of the trail, not of the bot."""
    number = {"INFO": 9, "WARN": 13, "ERROR": 17}[severity]
    line = {
        "stream": stream,
        "timestamp": timestamp(time.time_ns()),
        "severity_text": severity,
        "severity_number": number,
        "event_name": event_name,
        "attributes": attributes,
    }
    return orjson.dumps(line) + b"\n"


def header_line(
    name: SegmentName,
    *,
    service: str,
    resource: dict[str, str],
    pid: int,
    ring: str | None,
    previous_sha256: str | None,
    replaces: tuple[Void, ...] = (),
    boot: str | None = "",
) -> bytes:
    """The header of a segment. ``boot``: that of its emitter, where another process writes it; else the present one."""
    attributes: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "service": service,
        "segment": name.number,
        "pid": pid,
        "boot_id": boot_id() if boot == "" else boot,
        "ring": ring,
        "previous_sha256": previous_sha256,
        "resource": resource,
    }
    if replaces:
        attributes["replaces"] = [{"segment": void.segment, "offset": void.offset} for void in replaces]
    return control_line(name.stream, SEGMENT_OPENED, attributes)


def footer_line(
    name: SegmentName,
    *,
    records: int,
    first_seq: int | None,
    last_seq: int | None,
    sha256: str,
    recovered: bool = False,
    hmac: str | None = None,
) -> bytes:
    attributes: dict[str, Any] = {
        "segment": name.number,
        "records": records,
        "first_seq": first_seq,
        "last_seq": last_seq,
        "sha256": sha256,
        "recovered": recovered,
    }
    if hmac is not None:
        attributes["hmac"] = hmac
    return control_line(name.stream, SEGMENT_CLOSED, attributes)


def _control(line: bytes, event_name: str) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict) or record.get("event_name") != event_name or "seq" in record:
        return None
    attributes = record.get("attributes")
    return {**record, **attributes} if isinstance(attributes, dict) else None


def _text(value: object) -> str:
    """A text that every reader can take; a TypeError for what is none."""
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{value!r} is no text")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _whole(value: Any) -> int:
    """A number or a place, as 64 bits hold it; a ValueError or TypeError for what is none."""
    number = int(value)
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{number} is out of range")
    return number


def parse_header(line: bytes) -> Header | None:
    """The header in a line, or None where the line is none."""
    found = _control(line, SEGMENT_OPENED)
    if found is None:
        return None
    try:
        return Header(
            stream=_text(found["stream"]),
            segment=_whole(found["segment"]),
            service=_text(found["service"]),
            schema_version=_whole(found["schema_version"]),
            timestamp=_text(found["timestamp"]),
            pid=found.get("pid"),
            boot_id=_text_or_none(found.get("boot_id")),
            ring=_text_or_none(found.get("ring")),
            previous_sha256=_text_or_none(found.get("previous_sha256")),
            replaces=tuple(Void(_whole(v["segment"]), _whole(v["offset"])) for v in found.get("replaces", ())),
            resource=dict(found.get("resource") or {}),
        )
    except (KeyError, TypeError, ValueError):
        return None


def parse_footer(line: bytes) -> Footer | None:
    """The footer in a line, or None where the line is none."""
    found = _control(line, SEGMENT_CLOSED)
    if found is None:
        return None
    try:
        return Footer(
            stream=_text(found["stream"]),
            segment=_whole(found["segment"]),
            timestamp=_text(found["timestamp"]),
            records=_whole(found["records"]),
            first_seq=None if found["first_seq"] is None else _whole(found["first_seq"]),
            last_seq=None if found["last_seq"] is None else _whole(found["last_seq"]),
            sha256=_text(found["sha256"]),
            recovered=bool(found["recovered"]),
            hmac=_text_or_none(found.get("hmac")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; an OSError for what is no regular file: nobody waits for the other end of a FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read_header(path: Path) -> Header | None:
    """The header of a segment file, or None while its first line is not whole (or is not a header)."""
    with open_regular(path) as file:
        line = file.readline(_HEADER_MAX_BYTES)
    return parse_header(line) if line.endswith(b"\n") else None


def read_footer(path: Path) -> Footer | None:
    """The footer of a segment file, or None where its last line is no whole footer."""
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _FOOTER_MAX_BYTES))
        tail = file.read()
    if not tail.endswith(b"\n"):
        return None
    return parse_footer(tail[tail.rfind(b"\n", 0, -1) + 1 :])


def list_segments(directory: Path, *, odd: bool = False) -> list[SegmentName]:
    """The segments in a directory, by stream and number. What has another name is not one.

    ``odd``: with what has such a name and is no regular file.
    """
    with os.scandir(directory) as entries:
        names = (SegmentName.parse(entry.name) for entry in entries if odd or entry.is_file(follow_symlinks=False))
        return sorted((name for name in names if name is not None), key=_place)


def _place(name: SegmentName) -> tuple[str, int, str]:
    return name.stream, name.number, name.service


def create_segment(path: Path, *, mode: int = 0o600, gid: int = -1) -> int:
    """Make a segment file that was not there, locked; the descriptor to append to it. On an error there is no file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)  # whatever the bot's umask
        if gid >= 0:
            os.fchown(fd, -1, gid)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise  # a recovery took it for the file of a dead emitter
        except OSError:
            pass  # a network file system without locks: nobody can tell that a writer is dead, and nobody tries
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return fd


def make_directory(directory: Path, *, gid: int = -1) -> None:
    """Make the log directory where it is not there: 0700, or 2750 for a group; folders above it 0755 at most."""
    missing = [folder for folder in directory.parents if not folder.exists()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o755)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise
        return
    if gid >= 0:
        os.chown(directory, -1, gid)
    directory.chmod(0o700 if gid < 0 else 0o2750)  # whatever the bot's umask


def try_lock(fd: int) -> bool:
    """Whether this process now holds the lock that the living writer of this file would hold."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def open_directory(directory: Path) -> int:
    """A descriptor to sync a directory by, also when no new one can be had."""
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def sync_entries(fd: int) -> None:
    """Make the entries of a directory outlive a loss of power, on a file system that knows how."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_directory(directory: Path) -> None:
    """As :func:`sync_entries`, by name."""
    fd = open_directory(directory)
    try:
        sync_entries(fd)
    finally:
        os.close(fd)
