"""Who is at work during a soak: bots, ``watch`` and ``archive``, all of them processes of their own."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ...command import SCRIPT, environment
from ..interposer import Fault, Plan, set_plan
from ..oracle import Account

# Numbers of records, and with them ids of orders and fills, are those of one life of one bot.
NUMBERS_OF_A_LIFE = 10_000_000
PATIENCE_S = 30.0
_ROOT = Path(__file__).parents[3]


class Life:
    """One bot process from its start to its end; :attr:`account` is what it said of its records so far."""

    _numbers = itertools.count(1)

    def __init__(self, folder: Path, directory: Path, ring_dir: Path, library: Path, ring_bytes: int) -> None:
        self.number = next(self._numbers)
        self.service = f"fox-{self.number}"
        self.account = Account()
        self._directory = directory
        self._said = folder / f"{self.service}.said"
        file = folder / f"{self.service}.plan"
        file.write_bytes(bytes(ctypes.sizeof(Plan)))
        with file.open("r+b") as opened:
            self._plan = Plan.from_buffer(mmap.mmap(opened.fileno(), 0))
        hearing, saying = os.pipe()
        first = self.number * NUMBERS_OF_A_LIFE
        arguments = (saying, directory, ring_dir, self.service, first, ring_bytes)
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.soak.bot", *map(str, arguments)],
                cwd=_ROOT,
                env=environment(LD_PRELOAD=str(library), INTERPOSER_PLAN=str(file)),
                pass_fds=[saying],
                stdout=said,
                stderr=said,
            )
        os.close(saying)
        self._hearing = threading.Thread(target=self.account.hear, args=(hearing,), daemon=True)
        self._hearing.start()

    @property
    def said(self) -> str:
        """What it printed, which should be nothing."""
        return self._said.read_text(errors="replace")

    def fail_its_disk(self, fault: Fault) -> None:
        """From here on; only the files of its log, and not its ring."""
        self._plan.seen = self._plan.struck = 0
        set_plan(self._plan, self.process.pid, fault)

    def heal_its_disk(self) -> int:
        """How many calls were struck."""
        self._plan.pid = 0
        return int(self._plan.struck)

    def end(self, signum: int) -> int:
        """Its exit status, once all that it said is heard."""
        self.process.send_signal(signum)
        status = self.process.wait(PATIENCE_S)
        self._hearing.join(PATIENCE_S)
        return status


class Watch:
    """``tradetrail watch`` in one process after another."""

    def __init__(self, name: str, folder: Path, directory: Path, dsn: str) -> None:
        self._err = folder / f"{name}.err"
        small = ("--rescan", "1", "--batch-bytes", str(256 * 1024))
        self._arguments = [SCRIPT, "watch", "--dir", directory, "--dsn", dsn, *small]
        self.start()

    def start(self) -> None:
        with self._err.open("ab") as err:
            self.process = subprocess.Popen(
                self._arguments, stdout=subprocess.DEVNULL, stderr=err, env=environment(), start_new_session=True
            )

    @property
    def said(self) -> str:
        return self._err.read_text(errors="replace")

    def end(self, signum: int) -> int:
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE_S)


class Archive:
    """``tradetrail archive --keep`` again and again; what came of it is counted."""

    _PAUSE_S = 1.5

    def __init__(self, folder: Path, directory: Path, dsn: str) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self._err = folder / "archive.err"
        self._arguments = [SCRIPT, "archive", "--dir", directory, "--dsn", dsn, "--keep", "5s", "--json"]
        self._process: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    @property
    def said(self) -> str:
        return self._err.read_text(errors="replace")

    def kill(self) -> bool:
        """Whether there was one to kill just now."""
        running = self._process
        if running is None or running.poll() is not None:
            return False
        running.kill()
        return True

    def end(self) -> None:
        """No more runs; the last one comes to its end."""
        self._ended.set()
        self._thread.join(4 * PATIENCE_S)
        assert not self._thread.is_alive(), "I6: archive does not end"

    def _go_on(self) -> None:
        while not self._ended.wait(self._PAUSE_S):
            with self._err.open("ab") as err:
                self._process = subprocess.Popen(
                    self._arguments, stdout=subprocess.PIPE, stderr=err, env=environment(), text=True
                )
            out, _ = self._process.communicate()
            self._note(self._process.returncode, out)

    def _note(self, code: int, out: str) -> None:
        self.counts[f"archive ended with {code}"] += 1
        if code not in (0, 1):
            return
        done = json.loads(out)
        self.counts["segments archived"] += done["archived"]
        self.counts["segments removed"] += done["removed"]
        self.problems |= done["problems"]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still, and goes on whatever happens; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
