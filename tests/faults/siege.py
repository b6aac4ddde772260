"""Loaders besieged: killed, stopped, cut off and their server crashed at random instants, while bots write on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from loader.database import Database
from loader.errors import TransientError

from ..contents import agreement, all_loaded, assert_same, contents
from ..plugins.postgres import Cluster
from ..plugins.server import Server
from ..processes import Bot, Command
from .proxy import FAULTS, Proxy

_TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'tradetrail' AND pid <> pg_backend_pid()
"""


def seed() -> int:
    """Said when a test fails; ``TRADETRAIL_TEST_SEED`` brings the same choices again."""
    chosen = int(os.environ.get("TRADETRAIL_TEST_SEED", time.time_ns() % 2**32))
    print(f"TRADETRAIL_TEST_SEED={chosen}")
    return chosen


class Siege:
    """``loaders`` at once over one directory that two bots write. What came of it is in :attr:`counts`."""

    def __init__(self, server: Server, dsn: str, directory: Path, ring_dir: Path, *, loaders: int) -> None:
        self.counts: Counter[str] = Counter()
        self._server = server
        self._dsn = dsn
        self._directory = directory
        self._ring_dir = ring_dir
        self._folder = directory.parent
        self._chance = random.Random(seed())
        self._slots: list[Command | None] = [None] * loaders
        self._bots: list[Bot] = []
        self._proxy = Proxy(server.port)

    def run(self, rounds: int) -> None:
        """So many kills of a loader; then everything is loaded."""
        with ExitStack() as stack:
            stack.callback(self._end_all)
            stack.enter_context(self._proxy)
            self._bots = [self._new_bot(), self._new_bot()]
            while self.counts["killed"] < rounds:
                self._round()
            for bot in self._bots:
                bot.stop()
        self.counts["commits"] = self._proxy.commits
        self.counts.update({f"proxy: {fault}": count for fault, count in self._proxy.struck.items()})
        # A first run takes what is left, and finishes the streams of killed bots; a second one finds nothing to do.
        for _ in range(2):
            command = Command(self._folder, "load", "--dir", self._directory, "--dsn", self._dsn, "--json")
            assert command.end() in (0, 1), command.said()
        assert '"records":0,' in command.said().replace(" ", ""), command.said()

    def _round(self) -> None:
        chance = self._chance
        for at, slot in enumerate(self._slots):
            if slot is None or not slot.running:
                self._slots[at] = self._next(slot)
        faults: list[Callable[[], None]] = [self._terminate, self._crash, self._restart, self._stop, self._ask_to_end]
        if chance.random() < 0.6:
            self._let_pass(commits=chance.choice([0, 1]), seconds=0.1 * chance.random())
            chance.choice([*faults, *[self._cut] * 3])()
        self._let_pass(commits=chance.choice([0, 0, 0, 1, 2]), seconds=0.2 * chance.random())
        victim = chance.choice(self._slots)
        assert victim is not None
        if victim.signal(signal.SIGKILL):
            self.counts["killed"] += victim.end() == -signal.SIGKILL
        self._proxy.arm()
        if chance.random() < 0.1:
            self._look()
        if chance.random() < 0.05:
            at = chance.randrange(len(self._bots))
            self._bots[at].kill()
            self._bots[at] = self._new_bot()
            self.counts["bots killed"] += 1

    def _let_pass(self, commits: int, seconds: float) -> None:
        """So many commits, unless that takes long, and then some time: kills hit a start as well as a batch."""
        wanted, limit = self._proxy.commits + commits, time.monotonic() + 1.5
        while self._proxy.commits < wanted and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(seconds)

    def _next(self, before: Command | None) -> Command:
        if before is not None:
            code = before.end()
            said = before.said()
            # Nothing that was done to them is a reason to give up, or to break.
            assert code in (0, 1, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM), (code, said)
            assert "Traceback" not in said, said
            assert "fault of" not in said, said
            self.counts["ended by themselves"] += code in (0, 1)
        chance = self._chance
        dsn = self._dsn.replace(f":{self._server.port}/", f":{self._proxy.port}/")
        size = str(chance.choice([4_000, 64_000, 1_000_000]))
        common = ("--dir", self._directory, "--dsn", dsn, "--batch-bytes", size)
        if chance.random() < 0.5:
            return Command(self._folder, "watch", *common, "--rescan", "0.2")
        return Command(self._folder, "load", *common, "--timeout", "60", "--json")

    def _new_bot(self) -> Bot:
        return Bot(self._directory, self._ring_dir, self._chance.randrange(2**32))

    # -- faults --

    def _cut(self) -> None:
        fault = self._chance.choice(FAULTS)
        time.sleep(0.1 * self._chance.random())
        self._proxy.arm(fault)

    def _terminate(self) -> None:
        async def terminate() -> int:
            async with await Database.connect(self._dsn, application_name="axe") as axe:
                return int(await axe.fetchval(_TERMINATE))

        self.counts["sessions terminated"] += asyncio.run(_until_it_answers(terminate))

    def _crash(self) -> None:
        self._server.kill(self._chance.choice(self._server.processes()))
        self.counts["server crashed"] += 1

    def _restart(self) -> None:
        self._server.stop("immediate")
        self._server.start()
        self.counts["server restarted"] += 1

    def _stop(self) -> None:
        """Another loader goes on meanwhile, where there is one."""
        slot = self._chance.choice(self._slots)
        assert slot is not None
        if slot.signal(signal.SIGSTOP):
            time.sleep(0.5 * self._chance.random())
            slot.signal(signal.SIGCONT)
            self.counts["loaders stopped"] += 1

    def _ask_to_end(self) -> None:
        slot = self._chance.choice(self._slots)
        assert slot is not None
        # Before it is up, Ctrl-C is Python's own affair.
        self.counts["asked to end"] += slot.signal(signal.SIGINT if "watching" in slot.said() else signal.SIGTERM)

    def _look(self) -> None:
        async def look() -> int:
            async with await Database.connect(self._dsn) as database:
                return await agreement(database, self._directory)

        self.counts["records at last look"] = asyncio.run(_until_it_answers(look))
        self.counts["looks"] += 1

    def _end_all(self) -> None:
        for slot in self._slots:
            if slot is not None:
                slot.process.kill()
                slot.process.join()
        for bot in self._bots:
            if bot.process.is_alive():
                bot.kill()


async def _until_it_answers(ask: Callable[[], object], deadline_s: float = 30.0) -> int:
    limit = time.monotonic() + deadline_s
    while True:
        try:
            return await ask()  # type: ignore[no-any-return, misc]
        except TransientError:
            assert time.monotonic() < limit, "the server does not come back"
            await asyncio.sleep(0.02)


def besiege(
    server: Server,
    cluster: Cluster,
    directory: Path,
    ring_dir: Path,
    *,
    loaders: int,
    rounds: int,
    existing: bool = False,
) -> Counter[str]:
    """A siege, and that its tables are those of one undisturbed load; what was done. ``existing``: a bot's tables."""
    template = cluster.template(existing=existing, migrated=True)
    with cluster.database(template) as dsn, cluster.database(template) as other:
        siege = Siege(server, dsn, directory, ring_dir, loaders=loaders)
        siege.run(rounds)
        siege.counts["records"] = asyncio.run(all_loaded(dsn, directory))
        calm = Command(directory.parent, "load", "--dir", directory, "--dsn", other)
        assert calm.end() in (0, 1), calm.said()
        # Bots that were killed within a sync made bytes void, which only one of the two may have loaded.
        assert_same(asyncio.run(contents(dsn, directory)), asyncio.run(contents(other, directory)))
    print(dict(siege.counts))
    return siege.counts


def summed(counts: Counter[str]) -> dict[str, int]:
    """Kills, other faults, and records that are in the tables as after an undisturbed load."""
    kills = sum(counts[name] for name in ("killed", "bots killed", "server crashed"))
    others = ("sessions terminated", "server restarted", "loaders stopped", "asked to end")
    faults = sum(count for name, count in counts.items() if name in others or name.startswith("proxy: "))
    return {"kills": kills, "faults": faults, "records": counts["records"]}
