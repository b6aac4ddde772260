"""A disk that stands still: a file system of its own that is frozen, or where that is not allowed, a FIFO.

Freezing needs root: an ext4 in a file, mounted, and ``fsfreeze``; every write to it waits until it is thawed. Without
root, those that write to a path are given a FIFO that nobody reads for a while (it takes 64 KiB); ours writes to a
directory and has no such row then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from .contestants import LINES

DISK: str = "file system frozen"
FIFO: str = "FIFO that nobody reads"
_DISK_BYTES = 512 * 1024 * 1024
_TOOLS = ("mkfs.ext4", "mount", "umount", "fsfreeze")

Stall = Callable[[float], AbstractContextManager[None]]


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Path, Stall] | None]:
    """A file system's folder and what stalls it; None where this user or this machine cannot have one."""
    image, place = folder / "disk.img", folder / "disk"
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in _TOOLS):
        yield None
        return
    place.mkdir()
    try:
        with image.open("wb") as file:
            file.truncate(_DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", image)
        _run("mount", "-o", "loop", image, place)
    except (subprocess.CalledProcessError, OSError):
        yield None
        return
    try:
        yield place, lambda seconds: frozen(place, seconds)
    finally:
        _run("umount", place)


@contextmanager
def frozen(place: Path, seconds: float) -> Iterator[None]:
    """Frozen on entry and thawed ``seconds`` later by a process of its own, whatever becomes of this one."""
    _run("fsfreeze", "-f", place)
    thawing = subprocess.Popen(["sh", "-c", f'trap "" INT TERM HUP; sleep {seconds}; fsfreeze -u "$1"', "sh", place])
    try:
        yield
    finally:
        thawing.wait()


class Fifo:
    """Stands where a contestant's file would; read all the time but for the stalls."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        os.mkfifo(folder / LINES)
        self._file = os.open(folder / LINES, os.O_RDWR | os.O_NONBLOCK)
        self._reading, self._ended = threading.Event(), threading.Event()
        self._reading.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            self._reading.wait()
            try:
                os.read(self._file, 1 << 20)
            except BlockingIOError:
                time.sleep(0.001)

    @contextmanager
    def stalled(self, seconds: float) -> Iterator[None]:
        self._reading.clear()
        again = threading.Timer(seconds, self._reading.set)
        again.start()
        try:
            yield
        finally:
            again.join()

    def close(self) -> None:
        self._ended.set()
        self._reading.set()
        self._thread.join()
        os.close(self._file)
