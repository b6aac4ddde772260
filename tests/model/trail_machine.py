"""The whole path as a state machine: emit, write, sync, rotate, crash, recover, load, retry, archive, in any order.

The bots are processes, the disk is one whose power can be cut, PostgreSQL is a real one behind a proxy that cuts
connections. What must be there is a plain list.
"""

from __future__ import annotations

import sys

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from ..bots import recovered
from .bot_steps import BotSteps
from .steps import archive_and_die, recover_and_die

# What a run must have done to count.
TRAFFIC = (
    "start", "emit", "write", "sync", "rotate", "sync fails", "disk fills", "records are lost", "disk is freed",
    "close", "kill", "kill at a call", "power is cut", "power cut takes bytes", "recover", "recovery is killed", "load",
    "load twice", "two loaders", "cut before commit", "cut after commit", "retry rejects", "mend rejects", "archive",
    "archive removes", "archive is killed", "restore", "end",
)  # fmt: skip
_BATCH_BYTES = st.sampled_from([8192, 1 << 24])


class TrailMachine(BotSteps):
    """At most two bots at once on one machine, and a database elsewhere."""

    # -- recovery --

    @rule()
    def recover(self) -> None:
        self._age_unbegun()
        done = recovered(self.machine.log, self.machine.ring_dir)
        self.loading.finished |= self.dead
        self._count("recover", len(done.streams))

    @rule(call=st.integers(1, 25), torn=st.booleans())
    def recovery_is_killed(self, call: int, torn: bool) -> None:
        self._has_dead()
        self._age_unbegun()
        if recover_and_die(self.machine, call, torn=torn):
            self._count("recovery is killed")
        else:
            self.loading.finished |= self.dead

    def _has_dead(self) -> None:
        """There is something to finish."""
        if not self.dead - self.loading.finished:
            self._has_unsynced(0)
            self.is_killed(0)

    # -- loader, rejects, archive --

    @rule(picky=st.booleans(), batch_bytes=_BATCH_BYTES)
    def load(self, picky: bool, batch_bytes: int) -> None:
        self._has_news()
        self._count("load", self.loading.load(picky=picky, batch_bytes=batch_bytes))

    @rule(picky=st.booleans(), batch_bytes=_BATCH_BYTES)
    def load_twice(self, picky: bool, batch_bytes: int) -> None:
        self._has_news()
        self._count("load twice", self.loading.load_twice(picky=picky, batch_bytes=batch_bytes))

    @rule(picky=st.booleans())
    def two_loaders(self, picky: bool) -> None:
        self._has_news()
        self._count("two loaders", self.loading.two_loaders(picky=picky))

    @rule(patient=st.booleans(), picky=st.booleans(), batch_bytes=_BATCH_BYTES)
    def cut_before_commit(self, patient: bool, picky: bool, batch_bytes: int) -> None:
        self._load_while("before commit", patient=patient, picky=picky, batch_bytes=batch_bytes)

    @rule(patient=st.booleans(), picky=st.booleans(), batch_bytes=_BATCH_BYTES)
    def cut_after_commit(self, patient: bool, picky: bool, batch_bytes: int) -> None:
        self._load_while("after commit", patient=patient, picky=picky, batch_bytes=batch_bytes)

    def _load_while(self, fault: str, *, patient: bool, picky: bool, batch_bytes: int) -> None:
        """The connection is cut around a COMMIT. A loader without patience ends there, as one that is killed does."""
        self._has_news()
        before = self._around.proxy.struck[fault]
        self._around.proxy.arm(fault)
        self.loading.load_over(self._around.proxied, patient=patient, picky=picky, batch_bytes=batch_bytes)
        self._around.proxy.arm()
        self._count(f"cut {fault}", self._around.proxy.struck[fault] - before)

    @rule(picky=st.sampled_from([False, False, True]))
    def retry_rejects(self, picky: bool) -> None:
        self._has_rejects()
        self._count("retry rejects", self.loading.retry(picky=picky))

    @rule(every=st.integers(1, 2))
    def mend_rejects(self, every: int) -> None:
        self._has_rejects()
        self._count("mend rejects", self.loading.mend(every=every))

    @rule(keep=st.booleans(), parquet=st.booleans())
    def archive(self, keep: bool, parquet: bool) -> None:
        self._has_whole_segments()
        done = self.loading.archive(keep=keep, parquet=parquet)
        self._count("archive", done.archived)
        self._count("archive removes", done.removed)

    @rule(step=st.integers(1, 40))
    def archive_is_killed(self, step: int) -> None:
        self._has_whole_segments()
        if archive_and_die(self.machine, self._around.dsn, step):
            self._count("archive is killed")

    @rule()
    def restore(self) -> None:
        if not self.loading.removed:
            self.archive(keep=False, parquet=False)
        self._count("restore", self.loading.restore())

    def _has_news(self) -> None:
        """There is something to load, and dead streams, which a load finishes before it reads."""
        self.emit(0, 2)
        self.write(0)
        self._age_unbegun()
        self.loading.finished |= self.dead

    def _has_rejects(self) -> None:
        """There is something to try again."""
        if not self.records.rejected:
            self.emit(0, 8)
            self.load(picky=True, batch_bytes=8192)

    def _has_whole_segments(self) -> None:
        """There is something to archive."""
        self._has_unsynced(0)
        self.closes(0)
        self.load(picky=False, batch_bytes=8192)

    # -- what must hold --

    @invariant()
    def files_hold_the_list(self) -> None:
        self.records.hold_files(self.machine.log, self.loading.finished)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._ends()
        finally:
            for bot in self.bots:
                bot.kill()
            self._stack.close()

    def _ends(self) -> None:
        """Bots end, one of two by a kill; then all is finished, loaded, mended, and proved."""
        for which, bot in enumerate(list(self.bots)):
            (self.is_killed if which else self.closes)(self.bots.index(bot))
        self.recover()
        self.files_hold_the_list()
        self.loading.load_twice(picky=False, batch_bytes=4096)
        self.loading.retry(picky=False)
        self.loading.mend(every=1)
        self.loading.prove()
        self._around.traffic["records"] += len(self.records.said)
        self._count("end")
