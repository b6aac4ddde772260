"""Reads a log directory the way ``docs/format.md`` says, without the emitter's own reader.

What the tests of emitter and recovery measure by: records, declared losses, and the chain of digests.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = re.compile(r"([A-Za-z0-9_-]+)\.([0-9a-f]{32})\.([0-9]{6,})\.jsonl")


def strict(line: bytes) -> dict[str, Any]:
    """One line as strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(line.decode("utf-8"), parse_constant=refuse)
    assert isinstance(found, dict)
    return found


@dataclass
class Segment:
    """One file: its lines with their offsets, its first and its last."""

    path: Path
    number: int
    data: bytes
    lines: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)  # offsets of lines that a disk spoilt: allowed where all is void

    @property
    def header(self) -> dict[str, Any]:
        assert self.lines, f"{self.path.name} has no header"
        found = self.lines[0][1]
        assert found["event_name"] == "segment.opened", f"{self.path.name} does not begin with a header"
        return found["attributes"]

    @property
    def footer(self) -> dict[str, Any] | None:
        offset, line = self.lines[-1]
        if line["event_name"] != "segment.closed" or "seq" in line:
            return None
        return {**line["attributes"], "offset": offset}

    @property
    def body(self) -> bytes:
        return self.data[: self.footer["offset"]] if self.footer else self.data


@dataclass
class Trail:
    """One stream, void bytes left out."""

    stream: str
    segments: list[Segment]
    void: dict[int, int]
    records: list[dict[str, Any]] = field(default_factory=list)
    losses: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def seqs(self) -> list[int]:
        return [record["seq"] for record in self.records]

    @property
    def lost(self) -> list[int]:
        return [seq for first, last, _ in self.losses for seq in range(first, last + 1)]

    def check(self, *, finished: bool = True) -> Trail:
        """Assert invariants 2, 3, 4, 6 and 7 of ``docs/format.md``; :func:`read` asserted 1."""
        assert [segment.number for segment in self.segments] == list(range(1, len(self.segments) + 1))
        by_number = {segment.number: segment for segment in self.segments}
        for segment in self.segments:
            if self.void.get(segment.number) == 0:  # nothing in it counts, and the disk may have lost all of it
                continue
            self._check_header(segment, by_number)
            footer = segment.footer
            if footer is None:
                abandoned = segment.number in self.void
                assert abandoned or not finished, f"{segment.path.name} has no footer"
                continue
            assert footer["segment"] == segment.number
            assert footer["sha256"] == hashlib.sha256(segment.body).hexdigest()
            seqs = [line["seq"] for _, line in segment.lines if "seq" in line]
            assert footer["records"] == len(seqs)
            assert footer["first_seq"] == (seqs[0] if seqs else None)
            assert footer["last_seq"] == (seqs[-1] if seqs else None)
        # File order is seq order; each seq stands once, in a record or in a loss; there is no hole.
        assert self.seqs == sorted(self.seqs)
        accounted = sorted(self.seqs + self.lost)
        assert accounted == list(range(1, len(accounted) + 1))
        return self

    def _check_header(self, segment: Segment, by_number: dict[int, Segment]) -> None:
        header = segment.header
        assert header["segment"] == segment.number
        assert header["schema_version"] == 1
        if segment.number == 1:
            assert header["previous_sha256"] is None
        elif header.get("replaces"):
            good = [void for void in header["replaces"] if void["offset"]][-1:]
            kept = [hashlib.sha256(by_number[v["segment"]].data[: v["offset"]]).hexdigest() for v in good]
            assert header["previous_sha256"] == (kept[0] if kept else None)
        elif segment.number not in self.void:
            previous = by_number[segment.number - 1]
            assert header["previous_sha256"] == hashlib.sha256(previous.body).hexdigest()


def read(directory: Path) -> dict[str, Trail]:
    """All streams of a directory. Only whole lines count; every one not void must be strict JSON of its stream."""
    found: dict[str, list[Segment]] = {}
    for path in sorted(directory.iterdir()):
        match = NAME.fullmatch(path.name)
        if match is None:
            assert path.name.endswith(".torn"), f"{path.name} has no business here"
            continue
        segment = Segment(path, int(match[3]), path.read_bytes())
        offset = 0
        for line in segment.data.splitlines(keepends=True):
            if line.endswith(b"\n"):
                try:
                    assert line.startswith(b'{"stream":"%b",' % match[2].encode()), line[:200]
                    segment.lines.append((offset, strict(line)))
                except (AssertionError, ValueError):
                    segment.broken.append(offset)
            offset += len(line)
        found.setdefault(match[2], []).append(segment)
    return {stream: _trail(stream, sorted(segments, key=lambda s: s.number)) for stream, segments in found.items()}


def _trail(stream: str, segments: list[Segment]) -> Trail:
    void: dict[int, int] = {}
    for segment in segments:
        for entry in segment.header.get("replaces", []) if segment.lines and 0 not in segment.broken else []:
            at = entry["segment"]
            void[at] = min(void.get(at, entry["offset"]), entry["offset"])
    trail = Trail(stream, segments, void)
    for segment in segments:
        spoilt = [at for at in segment.broken if at < void.get(segment.number, len(segment.data))]
        assert not spoilt, f"{segment.path.name}: no line of this stream at {spoilt[:3]}"
        for offset, line in segment.lines:
            if offset >= void.get(segment.number, len(segment.data)):
                break
            if "seq" in line:
                trail.records.append(line)
            elif line["event_name"] == "audit.lost":
                ranges = line["attributes"]["ranges"]
                trail.losses += [(r["first"], r["last"], r["reason"]) for r in ranges]
                assert line["attributes"]["count"] == sum(r["last"] - r["first"] + 1 for r in ranges)
    return trail


def only(directory: Path) -> Trail:
    """The one stream of a directory."""
    trails = read(directory)
    assert len(trails) == 1, list(trails)
    return next(iter(trails.values()))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
