"""A bot in a process of its own that does what it is told, one step at a time, and says what came of it.

Its emitter's threads sleep until they are told to write or to sync: what a kill finds is the same each time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import emitter.writer
from emitter import AuditLog
from emitter.memory import HEAD

from ..bots import dying
from ..faults.oracle import payload
from ..processes import _fork
from .power import Disk, Machine

SEGMENT_BYTES = 2500
RING_BYTES = 32 * 1024
# So many records fill less than half of the ring, and wake nobody.
MOST_UNSYNCED = 20
_NEVER_MS = 3_600_000
_PATIENCE_S = 20.0
_STEP_S = 0.0005

# Imported once, before all forks.
_fork.set_forkserver_preload(["tests.processes", "tests.model.steps", __name__])


def is_spoilt(number: int) -> bool:
    """Whether the bot leaves out what the loader needs of the record with this number."""
    return number % 10 == 6  # of these each is an order or a trade


def told(number: int) -> tuple[str, dict[str, Any]]:
    """(event name, fields) as the bot gives them."""
    kind, fields = payload(number)
    if is_spoilt(number):
        del fields["side"]
    return kind, fields


class Puppet:
    """The bot as seen from the test."""

    def __init__(self, machine: Machine) -> None:
        self._pipe, theirs = _fork.Pipe()
        self._process = _fork.Process(target=_live, args=(theirs, machine), daemon=True)
        self._process.start()
        theirs.close()
        self.stream: str = self._hear()

    def do(self, what: str, *args: Any) -> Any:
        """Let it do one of the methods of :class:`_Bot`; what that returned."""
        self._pipe.send((what, args))
        return self._hear()

    def _hear(self) -> Any:
        assert self._pipe.poll(_PATIENCE_S * 2), "the bot does not answer"
        return self._pipe.recv()

    def kill(self) -> None:
        self._process.kill()
        self.ended()

    def die_at(self, call: int, *, torn: bool) -> None:
        """Let it write, sync, rotate and close, and be killed at one of its calls."""
        self._pipe.send(("die_at", (call, torn)))
        assert self.ended() == -signal.SIGKILL

    def ended(self) -> int | None:
        """Wait for its end; how that was."""
        self._process.join(_PATIENCE_S)
        self._pipe.close()
        code = self._process.exitcode
        assert code is not None, "the bot does not end"
        return code


def _live(pipe: Connection, machine: Machine) -> None:
    emitter.writer._BACKOFF_MOST_S = 0.02
    emitter.writer._ROTATE_AGAIN_S = 0.01
    emitter.writer._SYNC_BACKOFF_MOST_S = 0.02
    with machine.running() as disk:
        bot = _Bot(machine, disk)
        pipe.send(bot.audit.stats().stream)
        while True:
            try:
                what, args = pipe.recv()
            except EOFError:
                os._exit(1)
            pipe.send(getattr(bot, what)(*args))
            if what == "close":
                os._exit(0)


class _Bot:
    """In the child: what it can be told to do."""

    def __init__(self, machine: Machine, disk: Disk) -> None:
        self._disk = disk
        self.audit = AuditLog(
            machine.log, service="fox-bot", ring_dir=machine.ring_dir, ring_bytes=RING_BYTES,
            segment_max_bytes=SEGMENT_BYTES, flush_interval_ms=_NEVER_MS, fsync_interval_ms=_NEVER_MS,
        )  # fmt: skip

    def emit(self, numbers: Sequence[int]) -> tuple[list[int], int]:
        """The seqs that the calls returned; how many are lost by now."""
        seqs = []
        for number in numbers:
            kind, fields = told(number)
            seqs.append(_CALLS[kind](self.audit, fields))
        return seqs, self.audit.stats().lost

    def write(self) -> bool:
        """Bring the ring into files, and sync nothing; whether all of it is there (not where the disk is full)."""
        ring = self.audit._core._ring
        assert ring is not None
        until = time.monotonic() + _PATIENCE_S
        while (stats := self.audit.stats()).written + stats.lost < stats.emitted:
            if self._disk.room == 0:
                return False
            assert time.monotonic() < until, stats
            ring.wake(ring.memory.header[HEAD])
            time.sleep(_STEP_S)
        return True

    def sync(self) -> bool:
        """The same, synced."""
        return self.audit.flush(0.05 if self._disk.room is not None else _PATIENCE_S)

    def rotate(self, numbers: Sequence[int]) -> tuple[list[int], int]:
        """Write these one by one until a segment is full; the seqs of those that it took."""
        before, seqs = self.audit.stats().segment, []
        for number in numbers:
            seqs += self.emit([number])[0]
            if not self.write() or self.audit.stats().segment != before:
                break
        return seqs, self.audit.stats().lost

    def fail_syncs(self, times: int) -> None:
        self._disk.failing_syncs = times

    def fill_disk(self, room: int) -> None:
        self._disk.room = room

    def free_disk(self) -> None:
        self._disk.room = None

    def close(self) -> bool:
        return self.audit.close(0.05 if self._disk.room is not None else _PATIENCE_S)

    def die_at(self, call: int, torn: bool) -> None:
        dying(call, torn=torn)
        self._disk.room = None
        self.write()
        self.sync()
        self.close()
        os.kill(os.getpid(), signal.SIGKILL)


_CALLS = {
    "order.created": lambda audit, fields: audit.order(**fields),
    "order.updated": lambda audit, fields: audit.update_order(**fields),
    "trade.executed": lambda audit, fields: audit.trade(**fields),
    "bot.noted": lambda audit, fields: audit.event("bot.noted", **fields),
}
