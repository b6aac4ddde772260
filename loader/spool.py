"""The spool: new bytes of segments, cut to whole lines and brought together as batches.

A batch is a file of lines made of parts: ranges of segments. Lines that would disturb a reader of text (not UTF-8,
control characters, too long) are kept aside, and an empty line stands in for them. They are kept whole, up to
``MAX_KEPT_BYTES``: memory is bounded whatever lies in the directory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emitter.segments import Header, SegmentName

from .tail import Pending

# Longer lines are rejected whole. The emitter's own limit is 64 KiB unless its settings say more.
MAX_LINE_BYTES = 1024 * 1024
# Of a rejected line that is longer, its beginning is kept, and its length is said: all of it stands in its segment.
MAX_KEPT_BYTES = 8 * 1024 * 1024
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OddLine:
    """A line that is not in the spool: its number in the batch, what it was, and the rule it breaks (if any).

    ``length`` is that of the line in its segment, in bytes; ``raw`` holds at most ``MAX_KEPT_BYTES`` of it.
    """

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


def batches(
    pending: Iterable[Pending], folder: Path, batch_bytes: int, problems: dict[str, str] | None = None
) -> Iterator[Spooled]:
    """Bring the pending bytes into batches of about ``batch_bytes``, each a file in ``folder``.

    A file that can no longer be read is left out, and ``problems`` says so.
    """
    batch: Spooled | None = None
    for item in pending:
        start, last_seq = item.start, item.last_seq
        while start < item.size:
            room = batch_bytes - (batch.bytes if batch else 0)
            try:
                data, stop = _whole_lines(item, start, room)
            except OSError as error:
                if problems is not None:
                    problems[str(item.name)] = f"could not be read from byte {start} on: {error.strerror}"
                break
            if not data:
                break  # only a torn last line is left, for later
            if batch is None:
                fd, path = tempfile.mkstemp(".jsonl", "batch-", folder)
                os.close(fd)
                batch = Spooled(Path(path))
            _add(batch, item, start, stop, data, last_seq)
            start = stop
            last_seq = None  # the batch before this one knows it
            # At most one part of a segment in a batch: its row in the ledger is one step.
            if start < item.size or batch.bytes >= batch_bytes * 3 // 4:
                yield batch
                batch = None
    if batch is not None:
        yield batch


def _whole_lines(item: Pending, start: int, room: int) -> tuple[bytes, int]:
    """Whole lines from ``start`` on, about ``room`` bytes, or the one line that is longer; and where they end.

    Of a line that is far longer, its beginning and its line end.
    """
    fd = os.open(item.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        data = _read(fd, start, min(room, item.size - start) if room > 0 else 1)
        if end := data.rfind(b"\n") + 1:
            return data[:end], start + end
        line, stop = bytearray(data), start + len(data)
        while more := _read(fd, stop, min(_READ_BYTES, item.size - stop)):
            end = more.find(b"\n") + 1
            stop += end or len(more)
            if len(line) <= MAX_KEPT_BYTES:
                line += more[: end or len(more)]
            if end:
                return bytes(line) if line.endswith(b"\n") else bytes(line) + b"\n", stop
        return b"", start
    finally:
        os.close(fd)


def _read(fd: int, offset: int, count: int) -> bytes:
    parts = []
    while count > 0 and (data := os.pread(fd, count, offset)):
        parts.append(data)
        offset += len(data)
        count -= len(data)
    return b"".join(parts)


def _add(batch: Spooled, item: Pending, start: int, stop: int, data: bytes, last_seq: int | None) -> None:
    lines = data.count(b"\n")
    first_line = batch.lines + 1
    batch.parts.append(Part(item.name, item.header, start, stop, first_line, lines, batch.bytes, last_seq))
    cut = stop - start - len(data)
    text = data if harmless(data) else _set_odd_aside(data, first_line, batch.odd, cut)
    with batch.path.open("ab") as file:
        file.write(text)
    batch.bytes += stop - start
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


def _set_odd_aside(data: bytes, first_line: int, odd: list[OddLine], cut: int) -> bytes:
    """Lines with an empty one for each odd one, which goes to ``odd``; ``cut`` bytes of the only one are not here."""
    kept = []
    for n, line in enumerate(data.split(b"\n")[:-1], first_line):
        if len(line) <= MAX_LINE_BYTES and harmless(line):
            kept.append(line)
            continue
        length = len(line) + cut
        stand_in, found = _odd_line(n, line if length <= MAX_KEPT_BYTES else _beginning(line), length)
        odd.append(found)
        kept.append(stand_in)
    return b"\n".join(kept) + b"\n"


def _odd_line(n: int, line: bytes, length: int) -> tuple[bytes, OddLine]:
    """What stands in for a line, and the line."""
    why, detail, stand_in = None, "", b""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        why = "not_utf8"
    else:
        if length > len(line):
            why = "line_too_long"
            detail = f"{MAX_LINE_BYTES} bytes: {length}, of which the first {len(line)} are kept here"
        elif length > MAX_LINE_BYTES:
            why, detail = "line_too_long", f"{MAX_LINE_BYTES} bytes"
        elif harmless(line[:-1]) and line.endswith(b"\r"):
            stand_in = line[:-1]  # a line end of another system: no fault
        else:
            why = "not_json"
    exact = why is None or (why != "not_utf8" and b"\0" not in line)
    raw = text if exact else line.decode("utf-8", "replace").replace("\0", "\ufffd")
    return stand_in, OddLine(n, raw, None if exact else r"\x" + line.hex(), length, why, detail)


def _beginning(line: bytes) -> bytes:
    """The first ``MAX_KEPT_BYTES`` of a line, without a last character, which might be cut in two."""
    line = line[:MAX_KEPT_BYTES]
    return line[: next(-at for at in range(1, 5) if line[-at] & 0xC0 != 0x80 or at == 4)]
