"""The bots' side of the model: what they, their disk and their machine can be made to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

from hypothesis import currently_in_test_context, event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ..faults.proxy import Proxy
from .loading import Loading
from .plain_list import PICKY, PlainList
from .power import Machine
from .puppet import MOST_UNSYNCED, Puppet

WHICH = st.integers(0, 1)


@dataclass
class Surroundings:
    """What all examples of a test share. ``traffic``: how often what was done."""

    folder: Path
    ring_dir: Path
    dsn: str
    proxied: str
    proxy: Proxy
    traffic: Counter[str] = field(default_factory=Counter)


class BotSteps(RuleBasedStateMachine):
    """At most two bots at once on one machine, and a database elsewhere."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__()
        self._around = around
        folder = Path(tempfile.mkdtemp(dir=around.folder))
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, folder)
        rings = Path(tempfile.mkdtemp(dir=around.ring_dir))
        self._stack.callback(shutil.rmtree, rings)
        self.machine = Machine(folder / "log", rings, folder / "journal")
        self._power = self._stack.enter_context(ExitStack())
        self._power.enter_context(self.machine.running())
        (folder / "picky.sql").write_text(PICKY)
        self.records = PlainList()
        self.loading = Loading(self.machine.log, around.dsn, folder / "picky.sql", self.records)
        self.bots: list[Puppet] = []
        self.full: set[str] = set()  # streams whose disk is full
        self.dead: set[str] = set()  # streams whose bots have ended
        self._numbers = count()
        asyncio.run(self.loading.begin())

    def _count(self, what: str, times: int = 1) -> None:
        """Note that something was really done, so that a run can be judged by its traffic."""
        if times:
            self._around.traffic[what] += 1
            if currently_in_test_context():
                event(what)

    # -- bots --

    @initialize()
    def a_bot_begins(self) -> None:
        self.start()
        self.emit(0, 6)

    @precondition(lambda self: len(self.bots) < 2)
    @rule()
    def start(self) -> None:
        """A start finishes the dead streams first."""
        self._age_unbegun()
        bot = Puppet(self.machine)
        self.bots.append(bot)
        self.records.lost[bot.stream] = 0
        self.loading.finished |= self.dead
        self._count("start")

    @rule(which=WHICH, many=st.integers(1, 8))
    def emit(self, which: int, many: int) -> None:
        bot = self._bot(which)
        if bot.stream not in self.full and self.records.unsynced(bot.stream) + many > MOST_UNSYNCED:
            self.sync(which)
        self._returned(bot, "emit", list(islice(self._numbers, many)))

    @rule(which=WHICH)
    def write(self, which: int) -> None:
        bot = self._bot(which)
        assert bot.do("write") or bot.stream in self.full
        self._count("write")

    @rule(which=WHICH)
    def sync(self, which: int) -> None:
        bot = self._bot(which)
        done = bot.do("sync")
        assert done or bot.stream in self.full, "a sync takes for ever"
        if done:
            self.records.are_synced([bot.stream])
            self._count("sync")

    @rule(which=WHICH)
    def rotate(self, which: int) -> None:
        bot = self._bot(which)
        if bot.stream not in self.full:
            self.sync(which)
            self._returned(bot, "rotate", list(islice(self._numbers, 12)))

    @rule(which=WHICH, times=st.integers(1, 2))
    def sync_fails(self, which: int, times: int) -> None:
        """What it covered is gone from the disk's memory, and is written anew."""
        bot = self._bot(which)
        if bot.stream not in self.full:
            self._has_unsynced(which)
            bot.do("fail_syncs", times)
            self.sync(which)
            bot.do("fail_syncs", 0)
            self._count("sync fails")

    @rule(which=WHICH, room=st.integers(0, 1500), many=st.integers(0, 80))
    def disk_fills(self, which: int, room: int, many: int) -> None:
        bot = self._bot(which)
        bot.do("fill_disk", room)
        self.full.add(bot.stream)
        bot.do("write")
        before = self.records.lost[bot.stream]
        self._returned(bot, "emit", list(islice(self._numbers, many)))
        self._count("disk fills")
        self._count("records are lost", self.records.lost[bot.stream] - before)

    @rule()
    def disk_is_freed(self) -> None:
        if not self.full:
            self.disk_fills(0, room=0, many=8)
        for which, bot in enumerate(self.bots):
            if bot.stream in self.full:
                bot.do("free_disk")
                self.full.remove(bot.stream)
                self.sync(which)
        self._count("disk is freed")

    @precondition(lambda self: self.bots)
    @rule(which=WHICH)
    def closes(self, which: int) -> None:
        bot = self._bot(which)
        if bot.do("close"):
            self.records.are_synced([bot.stream])
        bot.ended()
        self._has_ended(bot)
        self._count("close")

    @precondition(lambda self: self.bots)
    @rule(which=WHICH)
    def is_killed(self, which: int) -> None:
        bot = self._bot(which)
        bot.kill()
        self._has_ended(bot)
        self._count("kill")

    @precondition(lambda self: self.bots)
    @rule(which=WHICH, call=st.integers(1, 30), torn=st.booleans())
    def is_killed_at_a_call(self, which: int, call: int, torn: bool) -> None:
        """While it writes, syncs, rotates and closes."""
        bot = self._bot(which)
        bot.die_at(call, torn=torn)
        self._has_ended(bot)
        self._count("kill at a call")

    @rule(keep=st.floats(0, 1), later_is_gone=st.booleans())
    def power_is_cut(self, keep: float, later_is_gone: bool) -> None:
        self._has_unsynced(0)
        for bot in list(self.bots):
            bot.kill()
            self._has_ended(bot)
        self._power.close()
        self.records.power_is_cut()
        gone = self.machine.cut_power(keep, later_is_gone=later_is_gone)
        self._power.enter_context(self.machine.running())
        self.loading.cut |= self.dead - self.loading.finished
        self.loading.finished.clear()
        self._count("power is cut")
        self._count("power cut takes bytes", gone)

    def _bot(self, which: int) -> Puppet:
        if not self.bots:
            self.start()
        return self.bots[which % len(self.bots)]

    def _has_unsynced(self, which: int) -> None:
        """There is something to lose."""
        if not self.records.unsynced(self._bot(which).stream):
            self.emit(which, 3)
            self.write(which)

    def _returned(self, bot: Puppet, how: str, numbers: list[int]) -> None:
        seqs, lost = bot.do(how, numbers)
        self.records.returned(bot.stream, seqs, numbers, lost, full=bot.stream in self.full)
        self._count(how)

    def _has_ended(self, bot: Puppet) -> None:
        self.bots.remove(bot)
        self.full.discard(bot.stream)
        self.dead.add(bot.stream)

    def _age_unbegun(self) -> None:
        """Segments without a header are left alone while their bot may be about to write it."""
        for path in self.machine.log.glob("*.jsonl"):
            if path.name.endswith(".000001.jsonl") or not path.stat().st_size:
                os.utime(path, (1, 1))
