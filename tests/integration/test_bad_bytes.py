"""Bad bytes between good lines: each bad line is one reject at its place, and no line ever changes its neighbour."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emitter.segments import control_line
from loader.database import Database
from loader.judge import judge
from loader.query import RawLog
from loader.rules import read_rules
from tests.command import tradetrail
from tests.contents import agreement
from tests.lines import STREAM, line, order, segment, trade, update
from tests.torture import EITHER, INVALID, VALID

from .test_load import rows, take

GOOD = {"payload": {"text": 'a,"b"\\\r\n\u00e9\u202e', "number": 0.1, "list": [1, None, {}]}}
# JSON numbers with a fraction go through a double; exact ones are written as text (docs/format.md, 2).
ROUNDED = {
    "fraction of many digits": Decimal("0.12345678901234568"),
    "far below double": Decimal("0.0"),
    "below numeric": Decimal("0.0"),
}
_EVENTS = "SELECT seq, event_data::text AS said FROM monitoring.events WHERE stream = $1 ORDER BY seq"
_EVENTS_OF_NOTED = "SELECT seq, event_data FROM monitoring.events WHERE event_type = 'bot.noted'"
_REJECTS = "SELECT * FROM monitoring.audit_rejects WHERE stream = $1 ORDER BY byte_offset"


@dataclass(slots=True)
class Between:
    """A segment in which every other line is good: odd numbers; what stands between them has the even ones."""

    directory: Path
    odd: list[bytes] = field(default_factory=list)
    path: Path = Path()
    places: list[int] = field(default_factory=list)

    def write(self) -> None:
        lines = [good(1)]
        for n, text in enumerate(self.odd, 1):
            lines += [text + b"\n", good(2 * n + 1)]
        self.path = segment(self.directory, [], closed=False)
        start = self.path.stat().st_size
        with self.path.open("ab") as file:
            file.writelines(lines)
        for at, text in enumerate(lines):
            if at % 2:
                self.places.append(start)
            start += len(text)

    def good_seqs(self) -> list[int]:
        return list(range(1, 2 * len(self.odd) + 2, 2))


def good(seq: int) -> bytes:
    return line(seq, "bot.noted", {"n": seq, **GOOD})


def with_attributes(seq: int, value: bytes) -> bytes:
    return line(seq, "bot.odd", {}).rstrip(b"\n").replace(b'"attributes":{}', b'"attributes":' + value)


def with_field(seq: int, value: bytes) -> bytes:
    return with_attributes(seq, b'{"before":1,"payload":' + value + b',"after":2}')


async def load_between(dsn: str, between: Between, taken: Iterable[bool]) -> dict[int, Any]:
    """Load it; assert who is taken and who is a reject, byte for byte and at its place; what was taken, by seq."""
    between.write()
    await take(dsn, between.directory)
    wanted = {2 * n: yes for n, yes in enumerate(taken, 1)}
    events = {row["seq"]: json.loads(row["said"], parse_float=Decimal) for row in await rows(dsn, _EVENTS, STREAM)}
    for seq in between.good_seqs():
        assert events.pop(seq) == json.loads(json.dumps({"n": seq, **GOOD}), parse_float=Decimal), seq
    assert sorted(events) == [seq for seq, yes in wanted.items() if yes]
    rejects = await rows(dsn, _REJECTS, STREAM)
    refused = [n for n, yes in enumerate(wanted.values()) if not yes]
    assert [row["byte_offset"] for row in rejects] == [between.places[n] for n in refused]
    for row, n in zip(rejects, refused, strict=True):
        assert row["severity"] == "rejected"
        assert (row["raw_bytes"] if row["raw_bytes"] is not None else row["raw"].encode()) == between.odd[n]
        assert row["seq"] == 2 * (n + 1), row["reasons"]
    return events


# -- the torture set --


def _cases() -> Iterator[tuple[str, bytes, bool]]:
    yield from ((name, value, True) for name, value in VALID.items())
    yield from ((name, value, False) for name, value in INVALID.items())
    yield from ((name, value, yes) for name, (value, yes) in EITHER.items())


def test_there_are_enough_cases_and_python_agrees() -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    assert len(list(_cases())) >= 150
    for value in VALID.values():
        json.loads(value.decode(), parse_constant=refuse)
    for name, value in INVALID.items():
        with pytest.raises((ValueError, RecursionError)):
            pytest.fail(f"{name}: {json.loads(value.decode(), parse_constant=refuse)}")


async def test_each_value_as_a_field_is_taken_as_it_is_or_rejected_alone(dsn: str, tmp_path: Path) -> None:
    cases = list(_cases())
    between = Between(tmp_path, [with_field(2 * n, value) for n, (_, value, _) in enumerate(cases, 1)])
    taken = await load_between(dsn, between, [yes for _, _, yes in cases])
    for n, (name, value, yes) in enumerate(cases, 1):
        if yes:
            said = json.loads(value, parse_float=Decimal)
            assert taken[2 * n] == {"before": 1, "payload": ROUNDED.get(name, said), "after": 2}, name
    with RawLog(tmp_path) as log:  # the views over the file see the same good lines
        found = log.query("SELECT seq, attributes->>'n' FROM records WHERE event_name = 'bot.noted' ORDER BY seq")
        assert [tuple(row) for row in found.rows] == [(seq, str(seq)) for seq in between.good_seqs()]


async def test_each_value_as_attributes_is_taken_where_it_is_an_object(dsn: str, tmp_path: Path) -> None:
    cases = list(_cases())
    between = Between(tmp_path, [with_attributes(2 * n, value) for n, (_, value, _) in enumerate(cases, 1)])
    await load_between(dsn, between, [yes and value.startswith(b"{") for _, value, yes in cases])


async def test_each_value_as_a_whole_line_is_one_reject(dsn: str, tmp_path: Path) -> None:
    cases = list(_cases())
    between = Between(tmp_path, [value for _, value, _ in cases])
    await load_between(dsn, between, [False] * len(cases))


# -- damage to a line that was good --

# One of each kind of record, with what the loader reads of it.
GOOD_LINES = [
    line(2, "order.created", order(order_id="o2", fee={"cost": "0.1", "currency": "BNB"})),
    line(2, "order.updated", update(order_id="o2", filled=1.5, reason="why")),
    line(2, "trade.executed", trade(trade_id="t2", signal_id=7, executed_at="2026-11-22T13:10:00Z", estimated=True)),
    line(2, "bot.noted", {"payload": {"a": [1, "\u00e9", None]}, "error_message": "x"}),
]
_NEIGHBOURS = "SELECT stream, seq, event_data FROM monitoring.events WHERE event_type = 'bot.neighbour'"


async def damaged(dsn: str, directory: Path, texts: Iterable[bytes]) -> None:
    """Each text as line 2 of a segment of its own, between two good lines; assert that both are as they should be."""
    wanted, lines_in = [], {}
    for n, text in enumerate(texts, 1):
        stream = f"{n:032x}"
        around = [line(seq, "bot.neighbour", {"n": seq, **GOOD}, stream=stream) for seq in (1, 3)]
        made = text.replace(STREAM.encode(), stream.encode())
        path = segment(directory, [], stream=stream, closed=False)
        with path.open("ab") as file:
            file.writelines([around[0], made + b"\n", around[1]])
        wanted += [(stream, seq, {"n": seq, **GOOD}) for seq in (1, 3)]
        lines_in[stream] = 3 + made.count(b"\n")
    totals = await take(dsn, directory)
    assert (totals.records, totals.problems) == (sum(lines_in.values()), {})
    found = await rows(dsn, _NEIGHBOURS)
    assert sorted(((row["stream"], row["seq"], row["event_data"]) for row in found), key=lambda one: one[:2]) == wanted
    async with await Database.connect(dsn) as database:
        assert await agreement(database) == totals.records
        ledger = await database.fetch("SELECT stream, records FROM monitoring.audit_segments")
    assert {row["stream"]: row["records"] for row in ledger} == lines_in


@pytest.mark.parametrize("text", GOOD_LINES, ids=["order", "update", "trade", "event"])
async def test_every_truncation_of_a_line_is_one_reject(dsn: str, tmp_path: Path, text: bytes) -> None:
    text = text.rstrip(b"\n")
    cuts = [text[:end] for end in range(len(text))]
    between = Between(tmp_path, [_renumbered(cut, 2 * n) for n, cut in enumerate(cuts, 1)])
    await load_between(dsn, between, [False] * len(cuts))


def _renumbered(text: bytes, seq: int) -> bytes:
    return text.replace(b'"seq":2,', b'"seq":%d,' % seq)


@pytest.mark.parametrize("text", GOOD_LINES, ids=["order", "update", "trade", "event"])
async def test_every_flipped_bit_of_a_line_leaves_its_neighbours_alone(dsn: str, tmp_path: Path, text: bytes) -> None:
    text = text.rstrip(b"\n")
    bits = range(len(text) * 8) if text is GOOD_LINES[3] else range(0, len(text) * 8, 3)
    await damaged(dsn, tmp_path, (_flipped(text, bit) for bit in bits))


def _flipped(text: bytes, bit: int) -> bytes:
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _small(stream: str) -> list[bytes]:
    """A whole segment, as its lines: header, three records, a declared loss, footer."""
    body = [line(seq, "bot.neighbour", {"n": seq, **GOOD}, stream=stream) for seq in (1, 2, 3)]
    lost = {"count": 2, "ranges": [{"first": 4, "last": 5, "reason": "ring full"}]}
    with TemporaryDirectory() as folder:
        path = segment(Path(folder), [*body, control_line(stream, "audit.lost", lost, "ERROR")], stream=stream)
        return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("which", [0, 4, 5], ids=["header", "loss", "footer"])
async def test_every_flipped_byte_of_a_control_line_leaves_the_records_alone(
    dsn: str, tmp_path: Path, which: int
) -> None:
    log = tmp_path / "audit"
    log.mkdir()
    length = len(_small("0" * 32)[which])
    for at in range(length):
        stream = f"{at + 1:032x}"
        lines = _small(stream)
        lines[which] = _flipped(lines[which], at * 8 + at % 7)
        (log / f"hand.{stream}.000001.jsonl").write_bytes(b"".join(lines))
    first, second = await take(dsn, log), await take(dsn, log)
    assert second.records == 0
    found: dict[str, list[object]] = {}
    for row in await rows(dsn, _NEIGHBOURS + " ORDER BY stream, seq"):
        found.setdefault(row["stream"], []).append((row["seq"], row["event_data"]))
    withheld = {file.split(".")[1] for file in first.problems}
    assert withheld.isdisjoint(found)  # its header is none: nothing of it is taken, and that is said
    assert len(found) + len(withheld) == length
    assert which == 0 or not withheld
    assert all(said == [(seq, {"n": seq, **GOOD}) for seq in (1, 2, 3)] for said in found.values())
    for args in (["status", "--json"], ["verify", "--json"], ["query", "--json", "FROM segments"]):
        done = await asyncio.to_thread(tradetrail, *args, "--dir", log, *(["--dsn", dsn] if args[0] != "query" else []))
        assert done.returncode in (0, 1), done
        assert "a fault of this program" not in done.stderr


# -- bytes that nobody thought of --

_PIECES = st.sampled_from(
    [b'{"stream":"', b'","seq":', b'"attributes":{', b"}", b'"', b"\\u0000", b"\r", b"\0", b"[", b","]
)
_ODD = st.one_of(st.binary(max_size=200), st.lists(_PIECES | st.binary(max_size=6), max_size=12).map(b"".join))


@given(st.lists(_ODD.map(lambda text: text.replace(b"\n", b"")), max_size=8))
@example([b"\xef\xbb\xbf{}", b"\r", b"\x00" * 100, b"\\"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_between_good_lines_are_one_reject_each(odd: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        between = Between(Path(folder), odd)
        between.write()
        found = judge([], Path(folder), read_rules())
        assert (found.totals.records, found.totals.rejected) == (2 * len(odd) + 1, len(odd))
        with RawLog(Path(folder)) as log:
            assert [row[0] for row in log.query("SELECT seq FROM records ORDER BY seq").rows] == between.good_seqs()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(20))
async def test_random_damage_anywhere_in_many_lines(dsn: str, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    odd = []
    for n in range(1, 2001):
        text = bytearray(_renumbered(rng.choice(GOOD_LINES).rstrip(b"\n"), 2 * n))
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(60, len(text))] = rng.choice([0, 1, 9, 13, 34, 44, 92, 125, 255, rng.randrange(256)])
        odd.append(bytes(text).replace(b"\n", b"?"))
    between = Between(tmp_path, odd)
    between.write()
    totals = await take(dsn, tmp_path)
    assert totals.records == 4001
    found = {row["seq"]: row["event_data"] for row in await rows(dsn, _EVENTS_OF_NOTED)}
    assert {seq: found.get(seq) for seq in between.good_seqs()} == {
        seq: {"n": seq, **GOOD} for seq in between.good_seqs()
    }
    async with await Database.connect(dsn) as database:
        assert await agreement(database) == 4001
