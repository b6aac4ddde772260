"""Convergence: a set of order records gives the same ``orders``, in whatever streams, batches and order it comes.

``test_fold`` holds one way of loading against the definition; here ways of loading are held against each other, with
all columns, with records dealt to other streams, with loaders at once, and with what exchanges really send.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emitter.ccxt import order_fields
from loader.backfill import Entry, read_entries
from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings

from ..lines import line, order, segment, update
from ..processes import Command

REAL_ORDERS = Path(__file__).parents[3] / "shared" / "data" / "exchange_orders.jsonl"
STREAMS = [f"0199e3c6a7b27c0e8d41c2f1a0b3d4{n:02x}" for n in range(4)]
_EMPTY = (
    "TRUNCATE monitoring.orders, monitoring.order_updates, monitoring.audit_rejects, monitoring.audit_segments "
    "RESTART IDENTITY"
)
# Where the records of an order lie is no part of what is known of it.
_STATES = """
SELECT to_jsonb(o) - 'id' - 'stream' - 'seq' AS state FROM monitoring.orders AS o
ORDER BY exchange, symbol, order_id, client_order_id, recorded_at, side
"""
_ROWS = "SELECT to_jsonb(o) - 'id' AS state FROM monitoring.orders AS o ORDER BY stream, seq"

# Who has loaded from this stream waits at the end of its transaction for as long as another session likes.
_GATE = """
CREATE FUNCTION monitoring.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
CREATE TRIGGER gate BEFORE INSERT ON monitoring.audit_segments FOR EACH ROW WHEN (NEW.stream = '{stream}')
EXECUTE FUNCTION monitoring.gate();
"""
_WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database
WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
"""


@dataclass(frozen=True)
class Said:
    """What was said of an order at a moment (microseconds); ``stream`` and ``seq`` are where it was written."""

    event_name: str
    fields: dict[str, Any]
    moment: int
    stream: str = STREAMS[0]
    seq: int = 0

    def line(self) -> bytes:
        timestamp = f"2026-11-22T13:{self.moment // 60_000_000:02d}:{self.moment / 1_000_000 % 60:09.6f}Z"
        return line(self.seq, self.event_name, self.fields, stream=self.stream, timestamp=timestamp)


def numbered(records: Sequence[Said], streams: Sequence[str]) -> list[Said]:
    """The records as these streams would number them, each in the order given."""
    seqs = dict.fromkeys(STREAMS, 0)
    made = []
    for record, stream in zip(records, streams, strict=True):
        seqs[stream] += 1
        made.append(replace(record, stream=stream, seq=seqs[stream]))
    return made


def spread(records: Sequence[Said], loads: int, seed: int) -> list[list[Said]]:
    """The records, mixed, for so many loads.

    Each file is in the order of its seqs, as an emitter writes it: a line elsewhere may be taken for a damaged one.
    """
    mixed = random.Random(seed).sample(records, len(records))
    return [sorted(mixed[n::loads], key=lambda record: (record.stream, record.seq)) for n in range(loads)]


@contextmanager
def folder() -> Any:
    made = Path(tempfile.mkdtemp())
    try:
        yield made
    finally:
        shutil.rmtree(made)


def write(directory: Path, records: Sequence[Said], number: int) -> None:
    """A segment for each stream, in the order given."""
    for stream in STREAMS:
        lines = [record.line() for record in records if record.stream == stream]
        if lines:
            segment(directory, lines, stream=stream, number=number)


async def loaded(dsn: str, loads: Sequence[Sequence[Said]], *, batch_bytes: int, ask: str = _STATES) -> list[Any]:
    """What ``ask`` finds after these loads, one after the other, into empty tables."""
    with folder() as directory:
        async with await Database.connect(dsn, deadline_s=60) as database:
            await database.execute(_EMPTY)
            async with Loader(LoadSettings(directory=directory, dsn=dsn, batch_bytes=batch_bytes)) as loader:
                for number, records in enumerate(loads, 1):
                    write(directory, records, number)
                    await loader.take()
            return [row["state"] for row in await database.fetch(ask)]


# -- any permutation, any partition into batches and streams --


_VALUES = {
    "position_id": st.sampled_from(["55", "pending"]),
    "size": st.sampled_from([1, "2.50"]),
    "price": st.sampled_from([0, -1.5, "2.1118"]),
    "filled": st.integers(0, 3),
    "remaining": st.integers(0, 3),
    "fee": st.sampled_from([0.1, {"cost": "-0.2", "currency": "BNB"}]),
    "fees": st.just([{"cost": 1, "currency": "USDT"}, {"cost": 2, "currency": "BNB"}]),
    "updated_at": st.sampled_from(["2026-11-22T12:00:00Z", "2026-11-22T12:00:01Z"]),
}
_ORDERS = [("o1", "c1"), ("o2", "c2"), (None, "c3"), ("o4", None)]
_STATUSES = ["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED", "closed", "TRIGGERED"]


@st.composite
def said(draw: st.DrawFn, moment: int) -> Said:
    order_id, client_order_id = draw(st.sampled_from(_ORDERS))
    created = draw(st.booleans())
    names: dict[str, Any] = {"order_id": order_id, "client_order_id": client_order_id}
    if not created and client_order_id and draw(st.booleans()):
        names["order_id"] = None
    fields = {name: draw(values) for name, values in _VALUES.items() if draw(st.booleans())}
    if not created:
        return Said(
            "order.updated", update(status=draw(st.sampled_from([None, *_STATUSES])), **names, **fields), moment
        )
    fields = {"size": None, "price": None, "position_id": None, "type": "LIMIT", **names, **fields}
    side, status = draw(st.sampled_from(["buy", "sell"])), draw(st.sampled_from(_STATUSES))
    return Said("order.created", order(**fields, side=side, status=status), moment)


@st.composite
def dealt(draw: st.DrawFn) -> tuple[list[Said], list[list[Said]], int]:
    """Records at moments of their own in one stream; the same dealt to streams and loads; bytes of a batch."""
    records = [draw(said(moment)) for moment in range(draw(st.integers(3, 14)))]
    shuffled = draw(st.permutations(records))
    deal = numbered(shuffled, [draw(st.sampled_from(STREAMS)) for _ in shuffled])
    loads: list[list[Said]] = [[] for _ in range(draw(st.integers(1, 3)))]
    for record in deal:
        draw(st.sampled_from(loads)).append(record)
    return numbered(records, [STREAMS[0]] * len(records)), loads, draw(st.sampled_from([1024, 2048, 1 << 24]))


@pytest.mark.timeout(300)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dealt())
def test_the_same_records_make_the_same_orders_however_they_are_dealt(
    dsn: str, deal: tuple[list[Said], list[list[Said]], int]
) -> None:
    in_order, loads, batch_bytes = deal
    wanted = asyncio.run(loaded(dsn, [in_order], batch_bytes=1 << 24))
    assert asyncio.run(loaded(dsn, loads, batch_bytes=batch_bytes)) == wanted


async def test_a_record_that_was_loaded_before_from_between_those_of_a_batch_counts(dsn: str) -> None:
    """Found by the one above: the orders of a batch were folded without it."""
    created, filled, commented = numbered(
        [
            Said("order.created", order(status="NEW"), 0),
            Said("order.updated", update(status="FILLED", filled=1), 1),
            Said("order.updated", update(reason="paid", fee=0.5), 2),
        ],
        [STREAMS[0]] * 3,
    )
    (state,) = wanted = await loaded(dsn, [[created, filled, commented]], batch_bytes=1 << 24)
    assert (state["status"], state["filled"], state["fee"]) == ("FILLED", 1, 0.5)
    assert await loaded(dsn, [[filled], [created, commented]], batch_bytes=1 << 24) == wanted


# -- lives of orders --


def life(steps: int) -> list[Said]:
    """An order that is changed so often, by streams in turn; after every third step nothing moves the clock."""
    made = [Said("order.created", order(status="NEW", price="1"), 0)]
    made += [
        Said("order.updated", update(price=n, filled=n, reason=f"step {n}"), n - n % 3) for n in range(1, steps + 1)
    ]
    return numbered(made, [STREAMS[n % 4] for n in range(len(made))])


def last_of(records: Sequence[Said]) -> Said:
    return max(records, key=lambda record: (record.moment, record.stream, record.seq))


@pytest.mark.parametrize("loads", [1, pytest.param(20, marks=pytest.mark.long)])
async def test_an_order_of_ten_thousand_steps(dsn: str, loads: int) -> None:
    records = life(10_000)
    (state,) = await loaded(dsn, spread(records, loads, seed=7), batch_bytes=1 << 24)
    last = last_of(records)
    assert (state["price"], state["filled"], state["status"]) == (last.fields["price"], last.fields["filled"], "NEW")
    async with await Database.connect(dsn) as database:
        kept = "SELECT count(*), count(DISTINCT (stream, seq)) AS different FROM monitoring.order_updates"
        assert await database.fetchrow(kept) == {"count": 10_001, "different": 10_001}
        steps = await database.fetch("SELECT stream, seq FROM monitoring.order_history('bybit', 'MNTUSDT', 'o1')")
        in_order = sorted(records, key=lambda record: (record.moment, record.stream, record.seq))
        assert [(s["stream"], s["seq"]) for s in steps] == [(r.stream, r.seq) for r in in_order]


async def test_the_time_of_a_change_counts_and_not_the_place_of_its_line_in_the_batch(dsn: str) -> None:
    records = [
        Said("order.created", order(status="NEW", price=1, filled=None), 0, STREAMS[0], 1),
        Said("order.updated", update(price=3), 5, STREAMS[0], 2),
        Said("order.updated", update(price=2, filled=1), 3, STREAMS[1], 1),
    ]
    (state,) = await loaded(dsn, [records], batch_bytes=1 << 24)
    assert (state["price"], state["filled"]) == (3, 1)


async def test_what_comes_after_a_final_status_counts_only_if_it_is_final_or_says_none(dsn: str) -> None:
    """In every order of loading; two records at the same instant stand by stream and seq."""
    records = numbered(
        [
            Said("order.created", order(status="NEW", price=1, size=None, position_id=None), 0),
            Said("order.updated", update(status="CANCELED", price=2), 5),
            Said("order.updated", update(status="PARTIALLY_FILLED", price=3, filled=9), 5),
            Said("order.updated", update(fee=0.5), 6),
            Said("order.updated", update(status="NEW", price=4), 7),
            Said("order.updated", update(status="FILLED", filled=8), 8),
        ],
        [STREAMS[0], STREAMS[0], STREAMS[1], STREAMS[2], STREAMS[0], STREAMS[3]],
    )
    for seed in range(4):
        mixed = random.Random(seed).sample(records, len(records))
        (state,) = await loaded(dsn, [mixed[n : n + 2] for n in (0, 2, 4)], batch_bytes=1024)
        assert {name: state[name] for name in ("status", "price", "filled", "fee")} == {
            "status": "FILLED",
            "price": 2,
            "filled": 8,
            "fee": 0.5,
        }


# -- loaders at once --


@pytest.mark.timeout(180)
async def test_four_loaders_at_once_make_the_same_orders(dsn: str, tmp_path: Path) -> None:
    """Each record of the same orders in another stream; small batches, so that the loaders meet."""
    chance = random.Random(11)
    records = []
    for n in range(400):
        which = chance.randrange(40)
        names: dict[str, str | None] = {"order_id": f"o{which}", "client_order_id": f"c{which}"}
        if chance.randrange(4) == 0:
            fields = order(**names, status=chance.choice(_STATUSES), price=n, position_id=None)
            records.append(Said("order.created", fields, n))
        else:
            if chance.randrange(3) == 0:
                names["order_id"] = None
            fields = update(**names, status=chance.choice([None, None, "PARTIALLY_FILLED", "FILLED"]), filled=n)
            records.append(Said("order.updated", fields, n))
    wanted = await loaded(dsn, [numbered(records, [STREAMS[0]] * len(records))], batch_bytes=1 << 24)
    assert len(wanted) > 30
    async with await Database.connect(dsn) as database:
        await database.execute(_EMPTY)
        mixed = chance.sample(records, len(records))
        write(tmp_path / "audit", numbered(mixed, [chance.choice(STREAMS) for _ in mixed]), 1)
        args = ("load", "--dir", tmp_path / "audit", "--dsn", dsn, "--batch-bytes", "16384", "--json")
        commands = [Command(tmp_path, *args) for _ in range(4)]
        taken = []
        for command in commands:
            assert await asyncio.to_thread(command.end) == 0, command.said()
            taken.append(json.loads(command.said())["records"])
        assert sum(taken) == len(records)
        assert [row["state"] for row in await database.fetch(_STATES)] == wanted


async def test_a_loader_that_brings_a_change_of_an_order_waits_for_another_that_folds_it(
    dsn: str, tmp_path: Path
) -> None:
    """The first one stands still before its COMMIT: without a lock neither would see what the other brings."""
    first, second = STREAMS[:2]
    records = [
        Said("order.created", order(status="NEW", price=1), 0, first, 1),
        Said("order.updated", update(filled=1), 1, first, 2),
        Said("order.updated", update(price=2), 2, second, 1),
    ]
    (wanted,) = await loaded(dsn, [records], batch_bytes=1 << 24)
    assert (wanted["price"], wanted["filled"]) == (2, 1)
    async with await Database.connect(dsn) as holder:
        await holder.execute(_EMPTY)
        await holder.execute(_GATE.replace("{stream}", first))
        await holder.execute("SELECT pg_advisory_lock(1)")
        commands = []
        for stream in (first, second):
            write(tmp_path / stream, [record for record in records if record.stream == stream], 1)
            commands.append(Command(tmp_path, "load", "--dir", tmp_path / stream, "--dsn", dsn))
            while commands[-1].running and await holder.fetchval(_WAITING) < len(commands):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await holder.execute("SELECT pg_advisory_unlock(1)")
        for command in commands:
            assert await asyncio.to_thread(command.end) == 0, command.said()
        assert [row["state"] for row in await holder.fetch(_STATES)] == [wanted]


# -- what exchanges really send --


def real() -> list[Said]:
    """Every real order as a record; the same instant for all, so that only stream and seq tell them apart."""
    found = []
    for entry in read_entries(REAL_ORDERS):
        assert isinstance(entry, Entry)
        fields = order_fields(entry.data, exchange=entry.exchange)
        fields.pop("timestamp", None)
        found.append(Said("order.created", json.loads(json.dumps(fields, default=_text)), 0))
    return numbered(found, [STREAMS[n % 4] for n in range(len(found))])


def _text(value: object) -> str:
    assert isinstance(value, Decimal)
    return str(value)


@pytest.mark.skipif(not REAL_ORDERS.exists(), reason=f"no real orders at {REAL_ORDERS}")
async def test_real_orders_that_are_said_again_with_other_statuses(dsn: str) -> None:
    records = real()
    key = ("exchange", "symbol", "order_id")
    known = [r for r in records if all(r.fields.get(name) for name in key)]
    known.sort(key=lambda r: [r.fields[name] for name in key])
    again = [
        (names, len(statuses))
        for names, group in groupby(known, key=lambda r: [r.fields[name] for name in key])
        if len(statuses := {r.fields.get("status") for r in group} - {None}) > 1
    ]
    assert again
    wanted = await loaded(dsn, [records], batch_bytes=1 << 24, ask=_ROWS)
    for seed in range(2):
        found = await loaded(dsn, spread(records, 5, seed), batch_bytes=65536, ask=_ROWS)
        assert found == wanted
    rows = [[row[name] for name in key] for row in wanted if row["order_id"]]
    assert len({*map(tuple, rows)}) == len(rows) > 100
    assert all(names in rows for names, _ in again)
