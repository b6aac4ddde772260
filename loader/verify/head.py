"""The head of a log: its newest digests in one line, to be kept where whoever can change the log cannot reach.

Held against the log later, the line shows an end that was cut off since, a file that was removed, or one that was made
anew. It names every open stream and the newest finished ones; of those before, it has one digest, so that it stays one
line however many there are::

    tradetrail-head:1 <time> <stream>:<segment>:<bytes>:<sha256> ... older:<count>:<stream>:<sha256>

An entry has the digest of the first so many bytes of a stream's last segment, whose header vouches for those before.
``older`` are the finished streams that began before <stream>: the digest of their ``<stream>:<segment>:<sha256>``, a
line each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from emitter.segments import boot_id

from ..errors import UsageError
from ..tail import Key
from ..text import count
from .books import LedgerRow
from .files import File, Files, digests
from .findings import Findings

_MARK = "tradetrail-head:1"
_LISTED = 32
_ENTRY = re.compile(r"([0-9a-f]{32}):([0-9]+):([0-9]+):([0-9a-f]{64})")
_OLDER = re.compile(r"older:([0-9]+):([0-9a-f]{32}|-):([0-9a-f]{64}|-)")


@dataclass(frozen=True, slots=True)
class Entry:
    """How far a stream was: so many bytes of a segment, and their digest."""

    stream: str
    segment: int
    bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.stream}:{self.segment}:{self.bytes}:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Head:
    """A line that was kept. ``before`` is the first stream that is not among the older ones."""

    time: str
    entries: tuple[Entry, ...]
    older: int = 0
    before: str = "-"
    older_sha256: str = "-"

    def __str__(self) -> str:
        older = f"older:{self.older}:{self.before}:{self.older_sha256}"
        return " ".join([_MARK, self.time, *map(str, self.entries), older])

    @classmethod
    def parse(cls, text: str) -> Head:
        """The head in a line; a :class:`UsageError` where it is none."""
        words = text.split()
        entries = [_ENTRY.fullmatch(word) for word in words[2:-1]]
        older = _OLDER.fullmatch(words[-1]) if words else None
        if words[:1] != [_MARK] or older is None or len(words) < 3 or None in entries:
            raise UsageError("--against: this is no whole line of 'tradetrail verify --head'")
        found = (Entry(m[1], int(m[2]), int(m[3]), m[4]) for m in entries if m)
        return cls(words[1], tuple(found), int(older[1]), older[2], older[3])


def take_head(files: Files) -> Head:
    """The head of a log as it is now."""
    newest: dict[str, File] = {}
    for file in files.files.values():
        if file.end and (file.name.stream not in newest or file.name.number > newest[file.name.stream].name.number):
            newest[file.name.stream] = file
    finished = [stream for stream, file in sorted(newest.items()) if file.footer is not None and file.void is None]
    listed = {*finished[-_LISTED:], *(newest.keys() - set(finished))}
    entries = [_entry(newest[stream]) for stream in sorted(listed)]
    older = {stream: (newest[stream].name.number, _closed_sha256(newest[stream])) for stream in finished[:-_LISTED]}
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if not older:
        return Head(now, tuple(entries))
    return Head(now, tuple(entries), len(older), finished[-_LISTED], _together(older))


def _entry(file: File) -> Entry:
    sha256 = _closed_sha256(file) or digests(file.path, [file.end], lambda _: None).get(file.end, "")
    return Entry(file.name.stream, file.name.number, file.end, sha256)


def _closed_sha256(file: File) -> str:
    return file.footer.sha256 if file.footer is not None and file.void is None else ""


def _together(streams: Mapping[str, tuple[int, str]]) -> str:
    lines = "".join(f"{stream}:{segment}:{sha256}\n" for stream, (segment, sha256) in sorted(streams.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_head(head: Head, files: Files, ledger: Mapping[Key, LedgerRow], findings: Findings) -> None:
    """Hold the log against a head of its past. Segments that are archived are known by the ledger."""
    for entry in head.entries:
        file = files.files.get((entry.stream, entry.segment))
        if file is None:
            _check_missing(head, entry, ledger.get((entry.stream, entry.segment)), findings)
        else:
            _check_entry(head, entry, file, findings)
    if head.older:
        _check_older(head, files, ledger, findings)


def _check_missing(head: Head, entry: Entry, row: LedgerRow | None, findings: Findings) -> None:
    if row is not None and row.closed:
        if row.sha256 != entry.sha256 and row.bytes <= entry.bytes:
            what = f"the database has it with another end than it had at {head.time}"
            findings.add("head_changed", "error", what, stream=entry.stream, segment=entry.segment)
        return
    what = f"is not here; at {head.time} it had {entry.bytes:,} bytes"
    findings.add("head_missing", "error", what, stream=entry.stream, segment=entry.segment)


def _check_entry(head: Head, entry: Entry, file: File, findings: Findings) -> None:
    if file.void is not None and file.void < entry.bytes:
        return  # what was there beyond was written anew, and the disk may have lost it
    if file.body_end < entry.bytes:
        # What was not on the disk yet is gone with a loss of power; who knows the file's boot can tell.
        restarted = file.header.boot_id not in (None, boot_id()) and (file.footer is None or file.footer.recovered)
        what = (
            f"has {file.body_end:,} bytes before its end, and had {entry.bytes:,} at {head.time}: its end was cut off"
        )
        if restarted:
            what += ", or lost when the machine was restarted"
        severity = "warning" if restarted else "error"
        findings.add("head_cut", severity, what, stream=entry.stream, segment=entry.segment)
    elif digests(file.path, [entry.bytes], lambda _: None).get(entry.bytes) != entry.sha256:
        what = f"its first {entry.bytes:,} bytes are not those that it had at {head.time}"
        findings.add("head_changed", "error", what, stream=entry.stream, segment=entry.segment)


def _check_older(head: Head, files: Files, ledger: Mapping[Key, LedgerRow], findings: Findings) -> None:
    listed = {entry.stream for entry in head.entries}
    now: dict[str, tuple[int, str]] = {}
    known = [(key, row.sha256 or "") for key, row in ledger.items() if row.closed]
    here = [(key, _closed_sha256(file)) for key, file in files.files.items() if file.void is None]
    for (stream, number), sha256 in [*known, *here]:  # of one segment, what lies here is asked
        if stream < head.before and stream not in listed and number >= now.get(stream, (0, ""))[0]:
            now[stream] = (number, sha256)
    if len(now) != head.older:
        what = f"of the {count(head.older, 'finished stream')} that the line does not name, {len(now)} are here"
        findings.add("head_missing", "error", what)
    elif _together(now) != head.older_sha256:
        streams = count(head.older, "finished stream")
        what = f"the {streams} that the line does not name are not as they were at {head.time}"
        findings.add("head_changed", "error", what)
