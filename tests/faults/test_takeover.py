"""Two ``watch`` on one directory: what becomes of the work of one that is killed, or sleeps, in the other's hands."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loader.database import Database

from ..contents import agreement
from ..plugins.figures import Figures
from ..processes import Command
from .oracle import hold_tables, write_by_hand
from .test_loader import held, until, until_it_waits

EACH = 240


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_by_hand(tmp_path / "log", range(EACH))
    return tmp_path / "log"


@pytest.fixture
async def watcher(dsn: str) -> AsyncIterator[Database]:
    async with await Database.connect(dsn, application_name="watcher") as database:
        yield database


def watch(log: Path, dsn: str) -> Command:
    return Command(log.parent, "watch", "--dir", log, "--dsn", dsn, "--rescan", "0.1")


async def until_loaded(watcher: Database, records: int) -> None:
    async def loaded() -> bool:
        return await agreement(watcher) == records

    await until(loaded, f"{records} records")


async def end(*running: Command) -> None:
    for one in running:
        one.signal(signal.SIGTERM)
        assert await asyncio.to_thread(one.end) == 0, one.said()
        assert "Traceback" not in one.said()


async def test_a_watch_that_waits_takes_over_the_batch_of_one_that_is_killed(
    dsn: str, watcher: Database, log: Path, figures: Figures
) -> None:
    """L12: at once, since a stream is let go with the session that has it."""
    async with held(dsn):
        first = watch(log, dsn)
        leader = await until_it_waits(watcher)
        second = watch(log, dsn)
        await until_it_waits(watcher, 2)
        first.signal(signal.SIGKILL)
        assert await asyncio.to_thread(first.end) == -signal.SIGKILL
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1"
        await until(lambda: watcher.fetchval(gone, leader), "the end of its session, though the lock is still held")
    await until_loaded(watcher, EACH)
    await end(second)
    assert "trying again" not in second.said()
    assert await hold_tables(dsn, log) == EACH
    figures.add(kills=1, records=EACH)


async def test_a_watch_that_slept_between_two_batches_while_another_loaded_goes_on_from_the_ledger(
    dsn: str, watcher: Database, log: Path, figures: Figures
) -> None:
    """L13: what it knows of the ledger is old when it wakes, and its session is as it was."""
    sleeper = watch(log, dsn)
    await until_loaded(watcher, EACH)
    sleeper.signal(signal.SIGSTOP)
    try:
        other = watch(log, dsn)
        write_by_hand(log, range(EACH, 2 * EACH))
        await until_loaded(watcher, 2 * EACH)
        await end(other)
    finally:
        sleeper.signal(signal.SIGCONT)
    write_by_hand(log, range(2 * EACH, 3 * EACH))
    await until_loaded(watcher, 3 * EACH)
    await end(sleeper)
    assert f"stopped after {2 * EACH} records, 0 rejected" in sleeper.said(), sleeper.said()
    assert await hold_tables(dsn, log) == 3 * EACH
    figures.add(faults=1, records=3 * EACH)
