"""The row of an order is a fold over its records, whatever order they are loaded in: held against a plain list.

The definition is the design's; this reference knows nothing of SQL.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loader.database import Database
from loader.load import Loader
from loader.query import RawLog
from loader.settings import LoadSettings

from ..lines import OTHER_STREAM, STREAM, line, segment

FINAL = {"FILLED", "CANCELED", "REJECTED", "EXPIRED"}
FOLDED = ("position_id", "client_order_id", "size", "price", "status", "filled", "remaining")


@dataclass(frozen=True)
class Record:
    """One order record; ``moment`` in seconds, equal ones on purpose."""

    created: bool
    moment: int
    stream: str
    order_id: str | None
    client_order_id: str | None
    status: str | None
    price: int | None
    filled: int | None
    side: str
    seq: int = 0

    @property
    def place(self) -> tuple[int, str, int]:
        return (self.moment, self.stream, self.seq)

    def values(self) -> dict[str, Any]:
        return {
            "position_id": None,
            "client_order_id": self.client_order_id,
            "size": None,
            "price": self.price,
            "status": self.status,
            "filled": self.filled,
            "remaining": None,
        }

    def line(self) -> bytes:
        fields = {"exchange": "x", "symbol": "S", "order_id": self.order_id, **self.values()}
        if self.created:
            fields |= {"type": "LIMIT", "side": self.side}
        fields = {name: value for name, value in fields.items() if value is not None}
        timestamp = f"2026-11-22T13:00:{self.moment:02d}Z"
        name = "order.created" if self.created else "order.updated"
        return line(self.seq, name, fields, stream=self.stream, timestamp=timestamp)


def counting(members: Sequence[Record]) -> list[Record]:
    ordered = sorted(members, key=lambda record: record.place)
    first_final = next((n for n, record in enumerate(ordered) if record.status in FINAL), len(ordered))
    return [
        record
        for n, record in enumerate(ordered)
        if n <= first_final or record.status is None or record.status in FINAL
    ]


def fold(members: Sequence[Record]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(FOLDED)
    for record in counting(members):
        row |= {name: value for name, value in record.values().items() if value is not None}
    first = min((record for record in members if record.created), key=lambda record: record.place)
    return row | {"side": first.side, "stream": first.stream, "seq": first.seq, "order_id": first.order_id}


def expected(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Every order's row, by the definition: direct records first, then those that name the client_order_id."""
    groups: dict[object, list[Record]] = {}
    for record in records:
        if record.order_id is not None:
            groups.setdefault(record.order_id, []).append(record)
        elif record.created:
            groups[record] = [record]
    rows = []
    for members in groups.values():
        if not any(record.created for record in members):
            continue
        named = [r.client_order_id for r in counting(members) if r.client_order_id]
        if named:
            members = members + [
                r for r in records if r.order_id is None and not r.created and r.client_order_id == named[-1]
            ]
        rows.append(fold(members))
    return sorted(rows, key=lambda row: (row["stream"], row["seq"]))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Record], list[int]]:
    """Records of a few orders in two streams, and how they are split over loads."""
    # A client_order_id belongs to one order, as at every exchange.
    names = [("o1", "c1"), ("o2", "c2"), ("o3", None)]
    records: list[Record] = []
    seqs = {STREAM: 0, OTHER_STREAM: 0}
    for _ in range(draw(st.integers(2, 12))):
        order_id, client_order_id = draw(st.sampled_from(names))
        created = draw(st.booleans())
        if client_order_id and draw(st.integers(0, 3)) == 0:
            order_id = None  # type: ignore[assignment]
        elif draw(st.booleans()):
            client_order_id = None
        stream = draw(st.sampled_from([STREAM, OTHER_STREAM]))
        seqs[stream] += 1
        records.append(
            Record(
                created=created,
                moment=draw(st.integers(0, 6)),
                stream=stream,
                order_id=order_id,
                client_order_id=client_order_id,
                status=draw(st.sampled_from(["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED"]))
                if created
                else draw(st.sampled_from([None, "NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED"])),
                price=draw(st.sampled_from([None, 0, 1, 2, 3])),
                filled=draw(st.sampled_from([None, 0, 4, 5])),
                side=draw(st.sampled_from(["buy", "sell"])),
                seq=seqs[stream],
            )
        )
    loads = draw(st.lists(st.integers(0, 3), min_size=len(records), max_size=len(records)))
    return records, loads


async def _load(dsn: str, records: Sequence[Record], loads: Sequence[int]) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp())
    try:
        async with await Database.connect(dsn) as database:
            await database.execute(
                "TRUNCATE monitoring.orders, monitoring.order_updates, monitoring.audit_rejects, "
                "monitoring.audit_segments"
            )
            async with Loader(LoadSettings(directory=folder, dsn=dsn)) as loader:
                for number in sorted(set(loads)):
                    for stream in (STREAM, OTHER_STREAM):
                        lines = [
                            r.line()
                            for r, load in zip(records, loads, strict=True)
                            if load == number and r.stream == stream
                        ]
                        segment(folder, lines, stream=stream, number=number + 1)
                    totals = await loader.take()
                    assert totals.rejected == 0
            columns = f"SELECT {', '.join(FOLDED)}, side, stream, seq, order_id"
            found = await database.fetch(f"{columns} FROM monitoring.orders ORDER BY stream, seq")
            with RawLog(folder) as raw:  # the view over the files folds alike
                assert raw.ask(f"{columns} FROM orders ORDER BY stream, seq") == found
            kept = await database.fetchval(
                "SELECT count(*) FROM (SELECT stream, seq FROM monitoring.orders UNION "
                "SELECT stream, seq FROM monitoring.order_updates) AS all_records"
            )
            assert kept == len(records)
            return found
    finally:
        shutil.rmtree(folder)


EARLY_FINAL = [
    Record(True, 1, STREAM, "o1", "c1", "NEW", 1, None, "buy", 1),
    Record(False, 3, STREAM, "o1", None, "NEW", 2, None, "buy", 2),
    Record(False, 2, OTHER_STREAM, None, "c1", "CANCELED", None, 4, "buy", 1),
]


# A client_order_id that is said after the end does not count, so that nothing is found by it.
NAMED_LATE = [
    Record(True, 1, STREAM, "o1", "c1", "FILLED", 1, None, "buy", 1),
    Record(False, 2, STREAM, "o1", "c2", "NEW", None, None, "buy", 2),
    Record(False, 3, STREAM, None, "c2", "FILLED", 5, None, "buy", 3),
]


@pytest.mark.parametrize(
    "examples", [6, pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(600)])], ids=["few", "many"]
)
def test_an_orders_row_is_the_same_whatever_the_order_of_loading(dsn: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(histories())
    @example((EARLY_FINAL, [0, 1, 2]))
    @example((EARLY_FINAL, [2, 1, 0]))
    @example((EARLY_FINAL, [0, 0, 0]))
    @example((NAMED_LATE, [0, 0, 0]))
    def hold(history: tuple[list[Record], list[int]]) -> None:
        records, loads = history
        found = asyncio.run(_load(dsn, records, loads))
        assert found == [
            {k: Decimal(v) if k in ("price", "filled") and v is not None else v for k, v in row.items()}
            for row in expected(records)
        ]

    hold()
