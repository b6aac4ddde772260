"""What is known of each record, as a plain list; and files and tables held against it, by content."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from loader.database import Database

from ..faults.oracle import hold_rows, payload
from ..trail import Trail, read
from .puppet import is_spoilt, told

# A user's rule of what is not to be loaded; it is taken away later.
PICKY = "-- rule: picky\n-- for: record\n-- severity: reject\n-- says: not this one\nseq_number % 5 = 3\n"
_PLACED = """
SELECT stream, seq FROM monitoring.orders WHERE stream IS NOT NULL
UNION ALL SELECT stream, seq FROM monitoring.trades WHERE stream IS NOT NULL
UNION ALL SELECT stream, seq FROM monitoring.events WHERE stream IS NOT NULL
UNION ALL SELECT stream, seq FROM monitoring.order_updates
"""
_WAITING = """
SELECT stream, seq, raw FROM monitoring.audit_rejects WHERE severity = 'rejected' AND retried_at IS NULL
"""
_LEDGER = """
SELECT stream, sum(records)::bigint AS records, sum(rejected)::bigint AS rejected
FROM monitoring.audit_segments GROUP BY stream
"""
Place = tuple[str, int]


@dataclass
class Said:
    """A record whose call returned. ``place``: where the tables have it; ``waiting``: how often it is rejected."""

    stream: str
    seq: int
    number: int
    disk_was_full: bool  # so that it may be declared lost
    synced: bool = False
    unsure: bool = False  # the power was cut before it was synced
    gone: bool = False
    place: str = ""  # "", "row", "rejected"
    waiting: int = 0

    @property
    def key(self) -> Place:
        return self.stream, self.seq

    def record(self) -> dict[str, Any]:
        """It as a trail has it once nothing of it is spoilt."""
        kind, fields = payload(self.number)
        return {"seq": self.seq, "event_name": kind, "attributes": fields}


@dataclass
class PlainList:
    """All records, in the order in which their calls returned.

    ``lost``: how many of a stream, as its bot said. ``told_again``: streams that a failed sync made write records anew.
    """

    said: list[Said] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    told_again: set[str] = field(default_factory=set)

    def of(self, streams: Collection[str]) -> Iterator[Said]:
        return (one for one in self.said if one.stream in streams)

    def returned(self, stream: str, seqs: Iterable[int], numbers: Iterable[int], lost: int, *, full: bool) -> None:
        """A bot's calls returned these seqs: each is the one behind the last."""
        last = sum(one.stream == stream for one in self.said)
        for seq, number in zip(seqs, numbers, strict=False):
            last += 1
            assert seq == last, f"the call for record {number} returned {seq}, not {last}"
            self.said.append(Said(stream, seq, number, full))
        self.lost[stream] = lost

    def are_synced(self, streams: Collection[str]) -> None:
        for one in self.of(streams):
            one.synced = True

    def unsynced(self, stream: str) -> int:
        return sum(not one.synced for one in self.of([stream]))

    def power_is_cut(self) -> None:
        """What was not synced may be gone."""
        for one in self.said:
            one.unsure |= not one.synced

    @property
    def rejected(self) -> bool:
        """Whether any is waiting among the rejects that passes the loader's own rules."""
        return any(one.waiting and not _fails(one, picky=False) for one in self.said)

    def retried(self, *, picky: bool) -> int:
        """Rejected lines were tried again by today's rules; how many pass them."""
        taken = 0
        for one in self.said:
            if one.waiting and not _fails(one, picky=picky):
                taken += one.waiting
                one.place, one.waiting = "row", 0
        return taken

    def mended(self, keys: Iterable[Place]) -> None:
        """Lines of these records were mended, and taken."""
        known = {one.key: one for one in self.said}
        for key in keys:
            known[key].place = "row"
            known[key].waiting -= 1

    # -- files --

    def hold_files(self, log: Path, finished: Collection[str]) -> set[Place]:
        """Each record is in a file of a ``finished`` stream, or declared lost; those of others are as they were given.

        Which records are in files.
        """
        with _whole(log) as directory:
            trails = read(directory)
        known = {one.key: one for one in self.said}
        for trail in trails.values():
            self.told_again |= {trail.stream} if trail.void else set()
            for record in trail.records:
                kind, fields = told(known[trail.stream, record["seq"]].number)
                assert (record["event_name"], record["attributes"]) == (kind, fields), record
        for stream in finished:
            self._hold_stream(stream, trails.get(stream))
        return {(trail.stream, record["seq"]) for trail in trails.values() for record in trail.records}

    def _hold_stream(self, stream: str, trail: Trail | None) -> None:
        seqs, lost = (set(trail.check().seqs), set(trail.lost)) if trail else (set(), set())
        for one in self.of([stream]):
            one.gone |= one.unsure and one.seq not in seqs | lost
            one.unsure = False
            one.synced = True
            assert one.gone or one.seq in seqs | lost, f"{one} is neither there nor declared lost"
            assert one.seq not in lost or one.disk_was_full, f"{one} is declared lost without need"
        rest = [one.gone for one in self.of([stream])]
        assert rest == sorted(rest), f"{stream}: what a power cut left is no prefix"
        assert any(rest) or len(lost) == self.lost[stream], (stream, lost, self.lost)

    # -- tables --

    async def hold_tables(self, database: Database, in_files: set[Place] | None, *, picky: bool) -> int:
        """Each record is in the tables once, as it was given; how many came since they were last looked at.

        ``in_files``: what a load that came to its end should have found; ``picky``: whether :data:`PICKY` was its rule.
        """
        rows, waiting = await _rows(database), await _waiting(database)
        found = rows | waiting.keys()
        before = {one.key for one in self.said if one.place}
        assert before <= found, f"gone from the tables: {before - found}"
        assert in_files is None or found == before | in_files, (found - before - in_files, in_files - found)
        for one in self.said:
            if one.key in found - before:
                one.place = "rejected" if _fails(one, picky=picky) else "row"
            one.waiting = int(one.place == "rejected")
            if one.stream in self.told_again:  # by other rules, maybe
                one.waiting = len(waiting[one.key])
                one.place = "row" if one.key in rows else one.place
        assert found == {one.key for one in self.said if one.place}
        await self.hold_places(database)
        return len(found - before)

    async def hold_places(self, database: Database) -> None:
        """What is a row is one by content, and what is rejected waits as the bot wrote it; the ledger counts both."""
        for stream in self.lost:
            records = [one.record() for one in self.of([stream]) if one.place == "row"]
            await hold_rows(database, Trail(stream, [], {}, records))
        waiting = await _waiting(database)
        assert {key: len(lines) for key, lines in waiting.items()} == {o.key: o.waiting for o in self.said if o.waiting}
        for one in self.said:
            assert all(line["attributes"] == told(one.number)[1] for line in waiting[one.key]), one
        for row in await database.fetch(_LEDGER):
            records = [one for one in self.of([row["stream"]]) if one.place]
            more = row["records"] > len(records) and row["stream"] in self.told_again
            assert row["records"] == len(records) or more, row
            assert row["rejected"] == sum(one.waiting for one in records), row


async def _rows(database: Database) -> set[Place]:
    """The records that are rows."""
    rows = [(row["stream"], row["seq"]) for row in await database.fetch(_PLACED)]
    assert len(set(rows)) == len(rows), f"a record is two rows: {Counter(rows).most_common(1)}"
    return set(rows)


async def _waiting(database: Database) -> defaultdict[Place, list[dict[str, Any]]]:
    """The lines that are rejected, by record: more than one, where a failed sync made it be written again."""
    found = defaultdict(list)
    for row in await database.fetch(_WAITING):
        found[row["stream"], row["seq"]].append(json.loads(row["raw"]))
    return found


def _fails(one: Said, *, picky: bool) -> bool:
    """Whether the loader's rules reject it."""
    return is_spoilt(one.number) or (picky and one.seq % 5 == 3)


class _whole:  # noqa: N801  used as a function
    """A log directory as if nothing had been archived: what was removed is there from its archive."""

    def __init__(self, log: Path) -> None:
        self._log, self._made = log, log.with_name("whole")

    def __enter__(self) -> Path:
        self._made.mkdir()
        for path in self._log.iterdir():
            if path.is_file():
                os.link(path, self._made / path.name)
        for path in (self._log / "archive").glob("*.jsonl.zst"):
            segment = self._made / path.stem
            if not segment.exists():
                segment.write_bytes(zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read())
        return self._made

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._made)
