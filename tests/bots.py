"""Bots in forked processes that are killed, and operating systems that fail them at a chosen call."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emitter.memory import Memory
from emitter.recovery import Recovered, recover

# The calls that change what a kill leaves behind.
CALLS = ("write", "open", "truncate", "fdatasync", "fsync", "unlink", "close", "posix_fallocate", "rename")
POINTS = ("next_slot", "end_slot", "write_losses", "add_loss")


@contextmanager
def tmpfs_folder() -> Iterator[Path]:
    """A folder of its own for rings."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm to make a ring in")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="tradetrail-tests-") as folder:
        yield Path(folder)


def forked(work: Callable[[], object]) -> int:
    """A child that does ``work`` and ends without ceremony; its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: a fork beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            warnings.simplefilter("ignore")
            work()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    """How a child ended: 0, its exit status, or the negative number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Bot:
    """A forked bot that says each seq it was given through a pipe the moment it has it."""

    def __init__(self, work: Callable[[Callable[[int], None]], object]) -> None:
        reading, writing = os.pipe()
        write = os.write  # the real one, whatever the child does to its own

        def child() -> None:
            os.close(reading)
            work(lambda seq: write(writing, seq.to_bytes(8, "little")) and None)

        self.pid = forked(child)
        os.close(writing)
        self._pipe = reading
        self.acked: list[int] = []

    def wait_for(self, count: int) -> None:
        """Until it has said so many seqs."""
        while len(self.acked) < count and (said := os.read(self._pipe, 8)):
            self.acked.append(int.from_bytes(said, "little"))

    def kill(self) -> list[int]:
        os.kill(self.pid, signal.SIGKILL)
        return self.end()[1]

    def end(self) -> tuple[int, list[int]]:
        """How it ended, and all that it said."""
        self.wait_for(2**62)
        os.close(self._pipe)
        return ended(self.pid), self.acked


def dying(at: int, *, torn: bool = False) -> None:
    """From here on, the ``at``-th call that counts kills this process: before it, or in the middle of a write."""
    numbers = itertools.count(1)
    write = os.write

    def deadly(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **named: Any) -> Any:
            if next(numbers) == at:
                if torn and name == "write":
                    write(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        setattr(owner, name, call)

    for name in CALLS:
        deadly(os, name)
    for name in POINTS:
        deadly(Memory, name)


def failing(name: str, code: int, *, at: int = 1, times: int = 1, on: str = ".jsonl") -> None:
    """From here on in this process, calls ``at`` .. ``at + times - 1`` of ``os.name`` on such files fail."""
    real = getattr(os, name)
    numbers = itertools.count(1)

    def call(fd: Any, *args: Any, **named: Any) -> Any:
        path = str(Path(f"/proc/self/fd/{fd}").readlink()) if isinstance(fd, int) else str(fd)
        if on in path and at <= next(numbers) < at + times:
            raise OSError(code, os.strerror(code))
        return real(fd, *args, **named)

    setattr(os, name, call)


def recovered(log: Path, ring_dir: Path) -> Recovered:
    """A recovery that has nothing to complain of."""
    for path in log.glob("*.000001.jsonl"):
        os.utime(path, (1, 1))  # whoever made it is no longer at it
    found = recover(log, ring_dir=ring_dir)
    assert found.problems == [], found.problems
    return found


class Snapshot:
    """A log directory and its rings as a dead bot left them, to be brought back."""

    def __init__(self, log: Path, ring_dir: Path, place: Path) -> None:
        self._pairs = [(log, place / "log"), (ring_dir, place / "rings")]
        for original, copy in self._pairs:
            shutil.copytree(original, copy)

    def restore(self) -> None:
        for original, copy in self._pairs:
            for path in original.iterdir():
                path.unlink()
            for path in copy.iterdir():
                shutil.copy2(path, original / path.name)


__all__ = [
    "Bot", "Snapshot", "dying", "ended", "errno", "failing", "forked", "recovered", "tmpfs_folder",
]  # fmt: skip
