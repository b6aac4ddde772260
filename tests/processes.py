"""``tradetrail`` and bots as processes that may be killed at any instant.

They are forked from a process that has imported everything already: hundreds of them would else import for minutes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import loader.cli  # noqa: F401  imported once, before all forks
from emitter import AuditLog
from loader.__main__ import main

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


class Command:
    """``tradetrail`` with these arguments; what it says goes to a file of its own in ``folder``."""

    _numbers = itertools.count(1)

    def __init__(self, folder: Path, *args: str | Path) -> None:
        self.args = list(map(str, args))
        self._said = folder / f"said-{next(self._numbers)}"
        self.process = _fork.Process(target=_command, args=(self.args, str(self._said), str(folder)), daemon=True)
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def signal(self, signum: int) -> bool:
        """Whether it was there to hear it; its number is its own until it is waited for."""
        if not self.running:
            return False
        os.kill(self.pid, signum)
        return True

    def end(self, timeout_s: float = 60.0) -> int:
        """Its exit code; minus the number of the signal that killed it."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, f"{self.args} does not end: {self.said()}"
        return self.process.exitcode

    def said(self) -> str:
        return self._said.read_text() if self._said.exists() else ""


def _command(args: list[str], said: str, temporary: str) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(file, standard)
    for name in [name for name in os.environ if name.startswith(("TRADETRAIL_", "PG"))]:
        del os.environ[name]
    tempfile.tempdir = temporary
    sys.argv = ["tradetrail", *args]
    main()


class Bot:
    """A bot that logs about 150 records a second until it is stopped or killed; orders are shared among bots."""

    def __init__(self, directory: Path, ring_dir: Path, seed: int) -> None:
        self.process = _fork.Process(target=_bot, args=(str(directory), str(ring_dir), seed), daemon=True)
        self.process.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(30)
        assert self.process.exitcode in (0, -signal.SIGTERM)


def _bot(directory: str, ring_dir: str, seed: int) -> None:
    told: list[int] = []  # no Event: its set() may wait for the lock that the wait() it interrupted holds
    signal.signal(signal.SIGTERM, lambda signum, _: told.append(signum))
    chance = random.Random(seed)
    with AuditLog(
        directory, service="fox-bot", ring_dir=ring_dir, ring_bytes=4 * 1024 * 1024, segment_max_bytes=64 * 1024
    ) as audit:
        for records in _records(audit, chance):
            time.sleep(0.006 * records)
            if told:
                break


def _records(audit: AuditLog, chance: random.Random) -> Iterator[int]:
    """All that a bot says; so many records at once."""
    stream = audit.stats().stream
    for number in itertools.count():
        # A window that moves on: orders get records from several bots, in several batches, and then no more.
        key = number // 10 + chance.randrange(20)
        place = {"exchange": "bybit", "symbol": "MNTUSDT"}
        kind = chance.randrange(20)
        if kind < 7:
            audit.order(
                **place if kind else {"exchange": "bybit"}, order_id=f"o{key}", client_order_id=f"c{key}", side="sell",
                type="LIMIT", status="NEW", size=float("nan") if kind == 1 else 94.7, price=number,
                position_id=chance.choice([None, 55, "pending"]),
            )  # fmt: skip
        elif kind < 12:
            named = {"client_order_id": f"c{key}"} if kind == 7 else {"order_id": f"o{key}"}
            status = chance.choice([None, "PARTIALLY_FILLED", "CANCELED", "FILLED"])
            audit.update_order(**place, **named, status=status, filled=number, reason=chance.choice([None, "stop"]))
        elif kind < 16:
            trade_id = f"{stream}-{max(0, number - chance.randrange(30)) if kind == 12 else number}"
            audit.trade(
                **place, side="buy", price="2.1118", executed_qty=number, order_id=f"o{key}", trade_id=trade_id,
                signal_id=chance.choice([4711, "unknown"]), fee={"cost": -0.1, "currency": "USDT"},
            )  # fmt: skip
        else:
            audit.event("bot.noted", number=number, text="\N{GRINNING FACE}\u0000" if kind == 19 else "plain")
        yield 1
