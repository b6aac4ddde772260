"""One soak from its start to its verdict."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loader.database import Database
from loader.errors import TransientError

from ...command import SCRIPT, environment
from ...contents import agreement
from ...plugins.postgres import Cluster
from ...plugins.server import Server, embedded_programs, started
from ..interposer import make_library
from ..proxy import Proxy
from . import faults
from .actors import Archive, Life, Watch
from .judge import judge
from .samples import Sampler, Trend
from .schedule import AT_ONCE, Strike, rounds

# How long one fault lasts at most, and how soon after the last one a fresh record of each bot is in the tables.
# A loader that was turned away often waits 12 s before it tries again, and so may a lock's holder be.
LONGEST_S = 6.0
HEALED_S = 60.0
_LOOK_EVERY_ROUNDS = 8
# The ring of the bot that is killed takes three seconds of records: a longer fault of its disk costs declared losses.
_SMALL_RING, _RING = 256 * 1024, 8 * 1024 * 1024
# A run with less than this, in each minute, shows nothing.
_LEAST = {"records": 3000, "commits": 30, "segments": 20, "segments archived": 4, "faults": 9}
# By then each kind of fault has been dealt often enough.
_ALL_STRUCK_S = 600.0
_LOADED = "SELECT service, max(last_seq) AS newest FROM monitoring.audit_segments GROUP BY service"


@dataclass
class Outcome:
    """What came of a soak; ``violation`` is the first invariant that did not hold."""

    seed: int
    seconds: float = 0.0
    violation: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    healed_s: list[float] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)

    @property
    def summed(self) -> dict[str, int]:
        """Kills, other faults, and records that were held by content."""
        kills = sum(count for name, count in self.faults.items() if name.endswith("killed"))
        records = self.counts["records held by content"]
        return {"kills": kills, "faults": self.faults.total() - kills, "records": records}

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "held": self.violation is None,
            "violation": self.violation,
            "counts": dict(self.counts),
            "faults": dict(self.faults),
            "healed_s": {"most": round(max(self.healed_s, default=0.0), 2), "times": len(self.healed_s)},
            "trends": [
                {"process": t.process, "figure": t.figure, "quarters": t.quarters, "most": t.most, "flat": t.flat}
                for t in self.trends
            ],
        }


def soak(
    place: Path,
    ring_dir: Path,
    seed: int,
    seconds: float,
    tell: Callable[[str], None] = print,
    *,
    longest_s: float = LONGEST_S,
) -> Outcome:
    """Rounds of faults for so long, each at most ``longest_s``; then the verdict. ``tell`` is given a line a minute."""
    outcome = Outcome(seed)
    began = time.monotonic()
    try:
        _Soak(place, ring_dir, outcome, tell).run(seconds, longest_s)
    except AssertionError as error:
        outcome.violation = str(error) or repr(error)
    outcome.seconds = time.monotonic() - began
    return outcome


class _Soak:
    def __init__(self, place: Path, ring_dir: Path, outcome: Outcome, tell: Callable[[str], None]) -> None:
        self._place = place
        self._directory = place / "audit"
        self._ring_dir = ring_dir
        self._outcome = outcome
        self._tell = tell
        self._told = time.monotonic()

    def run(self, seconds: float, longest_s: float) -> None:
        self._directory.mkdir(mode=0o700)
        with ExitStack() as stack:
            server = stack.enter_context(started(embedded_programs()))
            cluster = Cluster(server.dsn())
            dsn = cluster.dsn(cluster.template(existing=False, migrated=True))
            proxy = stack.enter_context(Proxy(server.port))
            through = dsn.replace(f":{server.port}/", f":{proxy.port}/")
            world = self._world(stack, server, proxy, dsn, through)
            sampler = Sampler({"bot": world.steady_bot.process.pid, "watch": world.steady_watch.process.pid})
            stack.callback(sampler.end)
            try:
                self._heal(world)
                self._rounds(world, seconds, longest_s)
            finally:
                world.ended.set()
                self._outcome.faults.update(world.counts)
            sampler.end()
            self._outcome.trends = sampler.trends()
            self._end(world)
            self._judge(world, seconds)

    def _world(self, stack: ExitStack, server: Server, proxy: Proxy, dsn: str, through: str) -> faults.World:
        library = make_library(self._place)

        def bot(ring_bytes: int) -> Life:
            life = Life(self._place, self._directory, self._ring_dir, library, ring_bytes)
            stack.callback(_kill, life.process)
            return life

        def watch(name: str) -> Watch:
            started = Watch(name, self._place, self._directory, through)
            stack.callback(lambda: _kill(started.process))
            return started

        steady = bot(_RING)
        lives = [steady, bot(_SMALL_RING)]
        archive = Archive(self._place, self._directory, through)
        stack.callback(archive.end)
        return faults.World(
            server, proxy, dsn, self._directory, steady, watch("watch-steady"), watch("watch-mortal"), archive,
            lambda: bot(_SMALL_RING), lives,
        )  # fmt: skip

    # -- while it lasts --

    def _rounds(self, world: faults.World, seconds: float, longest_s: float) -> None:
        limit = time.monotonic() + seconds
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, strikes in enumerate(rounds(self._outcome.seed, faults.GROUPS, longest_s=longest_s), 1):
                if time.monotonic() > limit:
                    return
                for done in [pool.submit(_strike, world, strike) for strike in strikes]:
                    done.result()
                self._outcome.counts["rounds"] = number
                self._outcome.healed_s.append(self._heal(world))
                if number % _LOOK_EVERY_ROUNDS == 0:
                    self._outcome.counts["rows at the last look"] = asyncio.run(self._look(world))
                self._tell_each_minute(world)

    def _heal(self, world: faults.World) -> float:
        """I6: all that was logged before now, and so a fresh record, is in the tables in time; in how many seconds."""
        self._all_live(world)
        began = time.monotonic()
        marks = {life.service: life.account.newest for life in (world.steady_bot, world.mortal_bot)}
        while behind := self._behind(world, marks):
            assert time.monotonic() - began < HEALED_S, f"I6: not loaded within {HEALED_S:.0f} s: {behind}"
            world.pause(0.1)
        return time.monotonic() - began

    @staticmethod
    def _behind(world: faults.World, marks: dict[str, int]) -> dict[str, str]:
        """The bots whose records are not all in the tables: up to which they are, and should be."""
        rows = asyncio.run(_patiently(world.dsn, lambda database: database.fetch(_LOADED)))
        loaded = {row["service"]: row["newest"] or 0 for row in rows}
        return {
            service: f"{loaded.get(service, 0)} of {mark}"
            for service, mark in marks.items()
            if loaded.get(service, 0) < max(mark, 1)
        }

    @staticmethod
    async def _look(world: faults.World) -> int:
        """I5 at one instant, in the midst of it: how many records the tables hold."""
        return int(await _patiently(world.dsn, lambda database: agreement(database, world.directory)))

    @staticmethod
    def _all_live(world: faults.World) -> None:
        for life in (world.steady_bot, world.mortal_bot):
            assert life.process.poll() is None, f"I2: bot {life.number} ended: {life.said}"
        for watch in (world.steady_watch, world.mortal_watch):
            assert watch.process.poll() is None, f"watch gave up: {watch.said[-1000:]}"

    def _tell_each_minute(self, world: faults.World) -> None:
        now, began = time.monotonic(), self._told
        if now - began < 60:
            return
        self._told = now
        logged = sum(len(life.account.returned) for life in world.lives)
        archived = world.archive.counts
        self._tell(
            f"{logged:>9,} records logged by {len(world.lives)} bots, {world.proxy.commits:,} commits, "
            f"{archived['segments archived']:,} segments archived, {archived['segments removed']:,} removed; "
            f"{sum(world.counts.values())} faults, healed in at most {max(self._outcome.healed_s):.1f} s"
        )

    # -- at the end --

    def _end(self, world: faults.World) -> None:
        """Everybody ends as they should, and what is left is loaded."""
        counts = self._outcome.counts
        for life in (world.steady_bot, world.mortal_bot):
            status = life.end(signal.SIGTERM)
            assert status == 0, f"I2: bot {life.number} ended with {status}: {life.said}"
        world.archive.end()
        for watch in (world.steady_watch, world.mortal_watch):
            status = watch.end(signal.SIGTERM)
            assert status == 0, f"watch ended with {status}: {watch.said[-1000:]}"
        for said in (world.steady_watch.said, world.mortal_watch.said, world.archive.said):
            assert "Traceback" not in said, said[said.index("Traceback") :]
            assert "fault of" not in said, said
        for turn in itertools.count(1):
            done = _run("load", "--dir", self._directory, "--dsn", world.dsn, "--json")
            assert done.returncode in (0, 1), f"load: {done.stderr}"
            if '"records":0,' in done.stdout.replace(" ", ""):
                break
            assert turn < 3, f"load finds something to do again and again: {done.stdout}"
        counts.update(world.archive.counts)
        counts["commits"] = world.proxy.commits
        counts["faults"] = sum(world.counts.values())
        counts["records"] = sum(len(life.account.returned) for life in world.lives)
        counts["bots"] = len(world.lives)

    def _judge(self, world: faults.World, seconds: float) -> None:
        counts = self._outcome.counts
        odd = {name: problem for name, problem in world.archive.problems.items() if not name.startswith("garbage.")}
        assert not odd, f"archive found problems: {odd}"
        counts.update(judge(self._directory, self._place, world.dsn, world.lives))
        for name, least in _LEAST.items():
            wanted = int(least * seconds / 60)
            assert counts[name] >= wanted, f"too little came about to show anything: {counts[name]} {name} of {wanted}"
        never = [name for name in faults.FAULTS if not world.counts[name]]
        assert not never or seconds < _ALL_STRUCK_S, f"too little came about to show anything: never {never}"
        # Caches fill for minutes; descriptors and threads are all there after seconds.
        warm = {"memory": 600.0}
        steep = [t for t in self._outcome.trends if not t.flat and seconds >= warm.get(t.figure, 60.0)]
        assert not steep, f"not flat: {steep}"


def _strike(world: faults.World, strike: Strike) -> None:
    world.pause(strike.after_s)
    faults.strike(world, strike.fault, strike.seed, strike.lasts_s)


def _kill(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *map(str, args)], capture_output=True, text=True, env=environment(), stdin=subprocess.DEVNULL,
        timeout=600,
    )  # fmt: skip


async def _patiently(dsn: str, ask: Callable[[Database], Any]) -> Any:
    """Ask a server that may be starting just now."""
    limit = time.monotonic() + HEALED_S
    while True:
        try:
            async with await Database.connect(dsn, application_name="oracle") as database:
                return await ask(database)
        except TransientError:
            assert time.monotonic() < limit, "the server does not come back"
            await asyncio.sleep(0.1)
