"""Checks ahead of PostgreSQL: what each batch is held to, whichever engine it is checked in."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from loader import checking
from loader.checking import Checking
from loader.rules import read_rules
from loader.spool import Spooled, batches
from loader.tail import Tail

from ..lines import STREAM, line, order, segment
from ..watching import until

BATCHES = 12


async def test_a_new_engine_takes_nothing_from_checks_that_are_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X4: the engine before it is held by nobody but its own checks, which answer as if it were the only one."""
    opened: list[weakref.ref[duckdb.DuckDBPyConnection]] = []
    open_engine = checking.open_engine

    def counted(temporary: Path) -> duckdb.DuckDBPyConnection:
        opened.append(weakref.ref(engine := open_engine(temporary)))
        return engine

    monkeypatch.setattr(checking, "open_engine", counted)
    monkeypatch.setattr(checking, "_CHECKS_OF_AN_ENGINE", 1)
    trail, temporary = tmp_path / "audit", tmp_path / "temporary"
    trail.mkdir()
    temporary.mkdir()
    for number in range(1, BATCHES + 1):
        lines = [line(number * 10 + n, "order.created", order(order_id=f"o{number}-{n}")) for n in (1, 2, 4, 5)]
        segment(trail, [*lines, b"broken %d\n" % number], number=number)

    def spooled() -> Iterator[Spooled]:
        for pending in Tail(trail).scan({}).pending:
            yield from batches([pending], temporary, 1024 * 1024)

    held = Checking(temporary, read_rules())
    number = 0
    async for prepared in held.prepared(spooled(), {}, ahead=2, settle=lambda: True):
        # The next check has begun, in an engine that is newer; now this one is asked all that a transaction may ask.
        number += 1
        newer = min(number + 1, BATCHES)
        await asyncio.to_thread(until, lambda newer=newer: len(opened) >= newer)
        first = number * 10 + 1
        assert sorted(prepared.check.runs()) == [(STREAM, first, first + 1), (STREAM, first + 3, first + 4)]
        assert prepared.rejects
        assert f"broken {number}" in prepared.rejects.path.read_text()
        prepared.mark([(STREAM, first, "refused_by_database", "no")])
        prepared.unsettle()
        (rows,) = prepared.rows
        seqs = [int(row.split(",")[1]) for row in rows.path.read_text().splitlines()]
        assert seqs == [first + 1, first + 3, first + 4]
        assert sum(engine() is not None for engine in opened) <= held.at_once + 2
    assert number == len(opened) == BATCHES
    held.close()
    assert not list(temporary.iterdir())
