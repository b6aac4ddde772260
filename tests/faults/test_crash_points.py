"""Every system call of a bot, of a recovery and of a load is the one that fails, or the last: point 1, 2, 3, ...

Until a run comes to its end with no call struck; a scenario of few calls shows nothing, and fails. The quick tier takes
a sample of the points; the long one all of them, and every second or third where a run takes long because the fault
lasts or the connection is made anew. After each point the oracle compares by content.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from emitter.shared import list_rings
from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings

from ..bots import Snapshot, recovered
from ..contents import agreement
from ..plugins.figures import Figures
from ..trail import Trail
from .interposer import (
    END,
    EVER,
    FAIL,
    FILES,
    KILL,
    OPEN,
    RECEIVE,
    SEND,
    SHORT,
    SYNC,
    TEAR,
    WRITE,
    Fault,
    Interposer,
    Outcome,
)  # fmt: skip
from .oracle import hold_rows, hold_tables, write_by_hand
from .scenarios import RECORDS

pytestmark = pytest.mark.timeout(600)

# No points are to be left out only because a scenario makes few calls.
BOT_CALLS, RECOVERY_CALLS, LOAD_CALLS = 80, 10, 25


@dataclass(frozen=True)
class Case:
    """``told``: ``stats()`` must show it. ``rings``: the ring's file system is struck as well as the disk."""

    name: str
    fault: Fault
    told: bool = False
    rings: bool = True


def points(strike: Callable[[int], Outcome], *, step: int, at_least: int) -> int:
    """Strike points 1, 1 + step, ... until none is struck any more; how many there were."""
    for count, at in enumerate(itertools.count(1, step)):
        if not strike(at).struck:
            assert at > at_least, f"{at - step} calls are too few to show anything"
            return count
    raise AssertionError


def deaths(case: Case, points: int) -> int:
    """How many processes were killed: at each point but the last, which struck nothing."""
    return points - 1 if case.fault.action in (KILL, TEAR) else 0


def tiers(cases: list[Case], *, quick: int, long: int = 1) -> list[Any]:
    """Each case with a sample of its points, and with (nearly) all of them."""
    steps = (("quick", quick, ()), ("long", long, pytest.mark.long))
    return [
        pytest.param(case, step, id=f"{case.name}-{tier}", marks=mark) for tier, step, mark in steps for case in cases
    ]


KILLS = [
    Case("killed before a call", Fault(FILES, KILL)),
    Case("killed in the middle of a write", Fault(WRITE, TEAR)),
]
ONCE = [
    Case("disk full once", Fault(FILES, FAIL, code=errno.ENOSPC)),
    Case("error once", Fault(FILES, FAIL, code=errno.EIO)),
    Case("interrupted thrice", Fault(FILES, FAIL, code=errno.EINTR, times=3)),
    Case("short once", Fault(WRITE, SHORT)),
]
AGAIN = [
    Case("disk full 20 times", Fault(WRITE | SYNC | OPEN, FAIL, code=errno.ENOSPC, times=20), told=True, rings=False),
    Case("error 20 times", Fault(WRITE | SYNC | OPEN, FAIL, code=errno.EIO, times=20), told=True, rings=False),
]
EVER_AFTER = [
    Case("disk full for ever", Fault(WRITE | OPEN, FAIL, code=errno.ENOSPC, times=EVER), told=True, rings=False),
    Case("error for ever", Fault(WRITE | SYNC | OPEN, FAIL, code=errno.EIO, times=EVER), told=True, rings=False),
    Case("syncs fail for ever", Fault(SYNC, FAIL, code=errno.EIO, times=EVER), told=True, rings=False),
    Case("short for ever", Fault(WRITE, SHORT, times=EVER)),
]


class Bots:
    """Runs of a bot, each with a stream and numbers of its own; at the end all of them are loaded at once."""

    def __init__(self, interposer: Interposer, place: Path, ring_dir: Path) -> None:
        self.everything = place / "everything"
        self.everything.mkdir()
        self.trails: list[Trail] = []
        self._interposer = interposer
        self._place = place
        self._ring_dir = ring_dir
        self._runs = itertools.count()

    def run(self, case: Case, at: int) -> Outcome:
        run = next(self._runs)
        directory = self._place / f"log{run}"
        where = (str(directory), str(self._ring_dir)) if case.rings else (str(directory),)
        fault = replace(case.fault, at=at, where=where)
        patience = {"flush_s": 0.03, "close_s": 0.15} if fault.times == EVER and fault.action == FAIL else {}
        outcome = self._interposer.run(
            "bot", fault, directory=directory, ring_dir=self._ring_dir, first=run * RECORDS, **patience
        )
        dies = fault.action in (KILL, TEAR) and outcome.struck
        assert outcome.status == (-signal.SIGKILL if dies else 0), f"I2: point {at}: {outcome}"
        if case.told and outcome.struck and outcome.account.returned:
            assert outcome.account.fault_seen, f"I7: point {at}: stats() shows no error"
        self._hold(outcome, directory, f"point {at} of {outcome.seen}")
        return outcome

    def _hold(self, outcome: Outcome, directory: Path, what: str) -> None:
        if not directory.exists():
            assert not outcome.account.returned
            return
        try:
            recovered(directory, self._ring_dir)
            assert list_rings(self._ring_dir) == []
            trail = outcome.account.hold(directory, outcome.said)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error
        if trail is not None:
            self.trails.append(trail)
        for path in directory.glob("*.jsonl"):
            path.rename(self.everything / path.name)

    async def hold_rows(self, dsn: str) -> int:
        """All that was written in all runs, loaded at once, stands in the tables once; how many records."""
        async with Loader(LoadSettings(directory=self.everything, dsn=dsn)) as loader:
            totals = await loader.take()
        assert (totals.rejected, totals.problems) == (0, {})
        async with await Database.connect(dsn) as database:
            total = sum([await hold_rows(database, trail) for trail in self.trails])
            assert await agreement(database) == total == totals.records
        return total


# -- a bot --


@pytest.mark.parametrize(
    ("case", "step"), [*tiers(KILLS + ONCE, quick=31), *tiers(AGAIN + EVER_AFTER, quick=79, long=2)]
)
def test_whichever_call_of_a_bot_fails_what_it_logged_is_loaded_once(
    interposer: Interposer, tmp_path: Path, ring_dir: Path, dsn: str, figures: Figures, case: Case, step: int
) -> None:
    """F1, F3, F7, F8, F9: kills, full disks, errors, interruptions, short writes at every call, once and for ever."""
    bots = Bots(interposer, tmp_path, ring_dir)
    at_least = BOT_CALLS if case.fault.calls == FILES else BOT_CALLS // 8
    count = points(lambda at: bots.run(case, at), step=step, at_least=at_least)
    total = asyncio.run(bots.hold_rows(dsn))
    figures.add(points=count - 1, kills=deaths(case, count), records=total)
    assert total > 10 * count


# -- a recovery --

DEATHS = {
    "between": Fault(FILES, KILL, at=60),
    "in a write": Fault(WRITE, TEAR, at=23),
    "in a sync": Fault(SYNC, KILL, at=9),
}
RECOVERIES = [*KILLS, *ONCE[:2], Case("disk full for ever", Fault(WRITE | OPEN, FAIL, code=errno.ENOSPC, times=EVER)),
              Case("short for ever", Fault(WRITE, SHORT, times=EVER))]  # fmt: skip


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize(("case", "step"), tiers(RECOVERIES, quick=11))
def test_whichever_call_of_a_recovery_fails_the_next_one_finds_all_records(
    interposer: Interposer, tmp_path: Path, ring_dir: Path, figures: Figures, case: Case, step: int, death: str
) -> None:
    """F23: the bot was killed before; its recovery is killed, or its disk fails, at every call."""
    log = tmp_path / "log"
    fault = replace(DEATHS[death], where=(str(log), str(ring_dir)))
    # Nothing is brought to the disk before its time: the ring holds more than the files.
    dead = interposer.run("bot", fault, directory=log, ring_dir=ring_dir, every=RECORDS // 4)
    assert dead.status == -signal.SIGKILL
    snapshot = Snapshot(log, ring_dir, tmp_path / "snapshot")

    def strike(at: int) -> Outcome:
        snapshot.restore()
        again = replace(case.fault, at=at, where=(str(log), str(ring_dir)))
        outcome = interposer.run("recovery", again, directory=log, ring_dir=ring_dir)
        dies = again.action in (KILL, TEAR) and outcome.struck
        assert (outcome.status, outcome.said) == (-signal.SIGKILL if dies else 0, ""), f"point {at}"
        recovered(log, ring_dir)
        trail = dead.account.hold(log)
        assert trail
        figures.add(records=len(trail.records))
        assert list_rings(ring_dir) == [], f"point {at}"
        files = {path.name: path.read_bytes() for path in log.iterdir()}
        assert not recovered(log, ring_dir).streams
        assert files == {path.name: path.read_bytes() for path in log.iterdir()}, f"point {at}: it goes on changing"
        return outcome

    count = points(strike, step=step, at_least=RECOVERY_CALLS if case.fault.calls == FILES else 1)
    figures.add(points=count - 1, kills=1 + deaths(case, count))


# -- a load --

LOADS = [
    Case("killed before a send", Fault(SEND, KILL)),
    Case("killed before an answer", Fault(RECEIVE, KILL)),
    Case("killed at a file", Fault(FILES, KILL)),
    Case("sending fails", Fault(SEND, FAIL, code=errno.EPIPE)),
    Case("connection reset", Fault(RECEIVE, FAIL, code=errno.ECONNRESET)),
    Case("connection ended", Fault(RECEIVE, END)),
]
LOADED = 48


class Loads:
    """Loads into the same tables, each of a directory of its own; at the end one more takes what the others left."""

    def __init__(self, interposer: Interposer, place: Path, dsn: str) -> None:
        self.everything = place / "everything"
        self._interposer = interposer
        self._place = place
        self._dsn = dsn
        self._runs = itertools.count()

    def run(self, case: Case, at: int) -> Outcome:
        run = next(self._runs)
        directory, temporary = self._place / f"log{run}", self._place / f"temporary{run}"
        temporary.mkdir()
        write_by_hand(directory, range(run * LOADED, (run + 1) * LOADED))
        fault = replace(case.fault, at=at, where=(str(directory), str(temporary)))
        outcome = self._interposer.run(
            "load", fault, directory=directory, dsn=self._dsn, temporary=temporary, batch_bytes=12_000, deadline_s=5
        )
        dies = fault.action == KILL and outcome.struck
        assert outcome.status == (-signal.SIGKILL if dies else 0), f"point {at}: {outcome}"
        rows = asyncio.run(self._agree())
        assert dies or rows >= LOADED, f"point {at}: it ended, and not all is loaded"
        directory.rename(self.everything / directory.name)
        return outcome

    async def _agree(self) -> int:
        """Rows and ledger, at one instant."""
        async with await Database.connect(self._dsn) as database:
            return await agreement(database)

    async def complete(self) -> int:
        """Take what is left; how many records there are in all."""
        directories = sorted(self.everything.iterdir())
        together = self._place / "together"
        together.mkdir(mode=0o700)
        for path in self.everything.glob("*/*.jsonl"):
            path.rename(together / path.name)
        async with Loader(LoadSettings(directory=together, dsn=self._dsn)) as loader:
            totals = await loader.take()
        assert (totals.rejected, totals.duplicates, totals.problems) == (0, 0, {})
        total = await hold_tables(self._dsn, together)
        assert total == LOADED * len(directories)
        return total


@pytest.mark.parametrize(("case", "step"), [*tiers(LOADS[:3], quick=61), *tiers(LOADS[3:], quick=43, long=3)])
def test_whichever_call_of_a_load_fails_rows_and_ledger_agree(
    interposer: Interposer, tmp_path: Path, dsn: str, figures: Figures, case: Case, step: int
) -> None:
    """L1, L2, L5: kills, resets and ends of the connection at every send and receive, and kills at every file.

    Who is not killed goes on in the same run; what a kill left is completed by the next.
    """
    loads = Loads(interposer, tmp_path, dsn)
    loads.everything.mkdir()
    count = points(lambda at: loads.run(case, at), step=step, at_least=LOAD_CALLS)
    total = asyncio.run(loads.complete())
    figures.add(points=count - 1, kills=deaths(case, count), records=total)
