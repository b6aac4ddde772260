"""The oracle: what a bot said of each record while it lived, held against files and tables by content.

A bot under test says, through a pipe that survives its death, that a call begins, what it returned and how long it
took, and how far the emitter says it has come. The parent that reads it knows what each record must hold, since that
follows from the record's number, and asserts the invariants of ``docs/faults.md`` once the fault is over:

I1 no call waits, I2 nothing is raised or printed, I3 what was issued is there, or declared, or was never returned for,
I4 files are well-formed, I5 tables hold each record once, I6 a fresh record gets through in time, I7 faults are told.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from emitter import AuditLog, Stats
from emitter.segments import new_stream
from loader.database import Database

from ..contents import agreement
from ..lines import line, segment
from ..trail import Trail, only, read

# A call's own time on a machine that does other things as well: the usual one, and the worst of a hundred.
USUAL_S = 0.0005
WORST_S = 0.25
# How soon after a fault is over a fresh record is synced, and how soon a fault is told.
HEALED_S = 10.0
TOLD_S = 1.0

_KINDS = ("order.created", "order.updated", "trade.executed", "bot.noted")
_MESSAGE = struct.Struct("<c4q")  # far below PIPE_BUF: never torn
_ROWS = """
SELECT seq, 'order.created' AS kind, price AS number, type AS text FROM monitoring.orders WHERE stream = $1
UNION ALL SELECT seq, 'order.updated', filled, reason FROM monitoring.order_updates WHERE stream = $1
UNION ALL SELECT seq, 'trade.executed', price, order_type FROM monitoring.trades WHERE stream = $1
UNION ALL SELECT
    seq, event_type, (event_data ->> 'number')::numeric, event_data ->> 'text'
FROM monitoring.events WHERE stream = $1
"""


def payload(number: int) -> tuple[str, dict[str, Any]]:
    """(event name, fields) of the record with this number, 0, 1, 2, ...; its number and a text in each kind of row."""
    kind, text = _KINDS[number % 4], f"{number} {'xyz'[number % 3] * (number * 37 % 200)}"
    place: dict[str, Any] = {"exchange": "bybit", "symbol": "MNTUSDT", "number": number}
    if kind == "order.created":
        own = {"order_id": f"o{number}", "type": text, "side": "sell", "status": "NEW", "price": number}
    elif kind == "order.updated":
        own = {"order_id": f"u{number}", "reason": text, "filled": number}
    elif kind == "trade.executed":
        own = {"order_type": text, "side": "sell", "price": number, "executed_qty": 1, "trade_id": f"t{number}"}
    else:
        own = {"text": text}
    return kind, place | own


def emit(audit: AuditLog, number: int) -> int:
    """Log the record with this number; its seq, or 0."""
    kind, fields = payload(number)
    if kind == "order.created":
        return audit.order(**fields)
    if kind == "order.updated":
        return audit.update_order(**fields)
    if kind == "trade.executed":
        return audit.trade(**fields)
    return audit.event(kind, **fields)


class Witness:
    """In the bot: says through a pipe what it does and what it sees."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def emit(self, audit: AuditLog, number: int) -> int:
        self._say(b"i", number)
        began = time.perf_counter_ns()
        seq = emit(audit, number)
        self._say(b"r", number, seq, time.perf_counter_ns() - began)
        return seq

    def look(self, audit: AuditLog) -> Stats:
        """How far the emitter says it has come: written to a file, and, where the ring is empty, synced."""
        stats = audit.stats()
        synced = stats.emitted if not stats.ring_used_bytes else 0
        self._say(b"l", stats.written, stats.lost, synced, int(stats.last_error is not None))
        return stats

    def healed(self, seconds: float) -> None:
        self._say(b"h", int(seconds * 1e9))

    def told(self, seconds: float) -> None:
        self._say(b"t", int(seconds * 1e9))

    def _say(self, kind: bytes, *values: int) -> None:
        os.write(self._pipe, _MESSAGE.pack(kind, *values, *[0] * (4 - len(values))))


@dataclass
class Account:
    """What the parent heard."""

    issued: list[int] = field(default_factory=list)
    returned: dict[int, int] = field(default_factory=dict)  # number: seq
    took_ns: list[int] = field(default_factory=list)
    written: int = 0
    lost: int = 0
    synced: int = 0  # the highest seq that the emitter said was synced
    newest: int = 0  # the last seq that a call returned
    fault_seen: bool = False
    healed_s: float | None = None
    told_s: float | None = None

    @classmethod
    def read(cls, pipe: int) -> Account:
        """Hear all that is said, until the last who could say something is gone."""
        self = cls()
        self.hear(pipe)
        return self

    def hear(self, pipe: int) -> None:
        """The same, for who looks at it from another thread while it grows."""
        rest = b""
        while data := os.read(pipe, 65536):
            rest += data
            whole = len(rest) // _MESSAGE.size * _MESSAGE.size
            for message in _MESSAGE.iter_unpack(rest[:whole]):
                self._note(*message)
            rest = rest[whole:]
        os.close(pipe)
        assert not rest, "a message through the pipe is torn"

    def _note(self, kind: bytes, a: int, b: int, c: int, d: int) -> None:
        if kind == b"i":
            self.issued.append(a)
        elif kind == b"r":
            self.returned[a] = self.newest = b
            self.took_ns.append(c)
        elif kind == b"l":
            self.written, self.lost, self.synced = a, b, max(self.synced, c)
            self.fault_seen |= bool(d)
        elif kind == b"h":
            self.healed_s = a / 1e9
        elif kind == b"t":
            self.told_s = a / 1e9

    # -- the invariants --

    def hold(self, directory: Path, said: str = "", *, power_cut: bool = False) -> Trail | None:
        """I1 to I4, I6 and I7 over the files; None where the bot died before it had any.

        ``said``: what the bot printed. ``power_cut``: only what was said to be synced must be there.
        """
        self._no_call_waits()
        assert said == "", f"I2: the bot printed {said!r}"
        assert self.healed_s is None or self.healed_s < HEALED_S, f"I6: a fresh record took {self.healed_s} s"
        assert self.told_s is None or self.told_s < TOLD_S, f"I7: the fault was told after {self.told_s} s"
        if not any(path.stat().st_size for path in directory.glob("*.jsonl")):
            assert not self.returned, f"I3: seqs {self.returned} were returned, and there is no file"
            return None
        try:
            trail = only(directory).check()
        except AssertionError as error:
            raise AssertionError(f"I4: {error}") from error
        self.hold_records(trail, power_cut=power_cut)
        return trail

    def _no_call_waits(self) -> None:
        if self.took_ns:
            worst, usual = max(self.took_ns) / 1e9, statistics.median(self.took_ns) / 1e9
            assert worst < WORST_S, f"I1: a call took {worst} s"
            assert usual < USUAL_S, f"I1: calls took {usual} s"

    def hold_records(self, trail: Trail, *, power_cut: bool = False) -> None:
        """I3 over the bot's stream, wherever its files lie."""
        issued = set(self.issued)
        there = {record["seq"]: record for record in trail.records}
        declared = set(trail.lost)
        for number, seq in self.returned.items():
            assert seq, f"I3: record {number} was refused"
            kept = seq in there or seq in declared or (power_cut and seq > self.synced)
            assert kept, f"I3: record {number}, seq {seq}, is neither there nor declared lost"
        for seq, record in there.items():
            number = record["attributes"]["number"]
            known = self.returned.get(number, seq) == seq and number in issued
            assert known, f"I3: seq {seq} holds record {number}, which was given {self.returned.get(number)}"
            assert _same(record, number), f"I3: seq {seq} is not record {number} as it was given: {record}"
        # At most the call in which it died has not returned.
        unknown = issued - set(self.returned)
        assert len(unknown) <= 1, f"I3: {unknown} did not return"
        assert len(there) + len(declared) <= len(self.issued), "I3: more than was issued"
        if not power_cut:
            assert len(there) >= self.written, f"I3: {self.written} were said to be written, {len(there)} are there"


async def hold_rows(database: Database, trail: Trail) -> int:
    """I5: the tables hold each record of the trail once, as it was given; how many that is."""
    found = Counter(
        (row["seq"], row["kind"], row["number"], row["text"]) for row in await database.fetch(_ROWS, trail.stream)
    )
    wanted = Counter(_row(record) for record in trail.records)
    assert found == wanted, f"I5: too many {list(found - wanted)[:3]}, missing {list(wanted - found)[:3]}"
    return len(trail.records)


def write_by_hand(directory: Path, numbers: range, *, segments: int = 3) -> str:
    """A closed stream of the records with these numbers; its id."""
    stream, each = new_stream(), -(-len(numbers) // segments)
    lines = [line(seq, *payload(number), stream=stream) for seq, number in enumerate(numbers, 1)]
    for number in range(segments):
        segment(directory, lines[number * each : (number + 1) * each], stream=stream, number=number + 1)
    return stream


async def hold_tables(dsn: str, directory: Path) -> int:
    """I5: the tables hold each record of the directory once, as it was given, and nothing else; how many."""
    trails = await asyncio.to_thread(read, directory)
    async with await Database.connect(dsn) as database:
        total = sum([await hold_rows(database, trail) for trail in trails.values()])
        assert await agreement(database) == total
    return total


def _same(record: dict[str, Any], number: int) -> bool:
    kind, fields = payload(number)
    return record["event_name"] == kind and record["attributes"] == fields


def _row(record: dict[str, Any]) -> tuple[int, str, Decimal, str]:
    fields = record["attributes"]
    text = next(fields[name] for name in ("type", "reason", "order_type", "text") if name in fields)
    return record["seq"], record["event_name"], Decimal(fields["number"]), text
