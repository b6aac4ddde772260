"""A machine whose power can be cut: which of its bytes were synced, and what is left of the others.

Every process of the machine notes its syncs in a journal; the power is never really cut, so what stands there is what
the disk holds. A sync that fails drops what it should have synced, and a later one does not bring it back, as with the
kernel's own.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from emitter.segments import SegmentName
from loader.archive.pack import MAKING


@dataclass
class Machine:
    """A log directory and its rings on one machine. ``boots``: how often it was started."""

    log: Path
    ring_dir: Path
    journal: Path
    boots: int = 1

    @contextmanager
    def running(self) -> Iterator[Disk]:
        """While this lasts, this process runs on the machine: its syncs are noted, and its boot is this one."""
        with pytest.MonkeyPatch.context() as patch:
            boot = f"00000000-0000-4000-8000-{self.boots:012d}"
            for module in list(sys.modules.values()):
                if module.__name__.startswith(("emitter.", "loader.")) and hasattr(module, "boot_id"):
                    patch.setattr(module, "boot_id", lambda: boot)
            disk = Disk(self)
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, disk.noting(getattr(os, name)))
            patch.setattr(os, "write", disk.writing(os.write))
            yield disk

    def note(self, **entry: Any) -> None:
        fd = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.writev(fd, [json.dumps(entry).encode() + b"\n"])  # os.write may be that of a full disk
        os.close(fd)

    def cut_power(self, keep: float, *, later_is_gone: bool) -> int:
        """Rings are gone, and unsynced bytes but for a part (``keep``, 0 to 1) of each stream's; how many are gone.

        What is left of a stream is a prefix. A file of which nothing is left is gone, or empty.
        """
        for ring in self.ring_dir.iterdir():
            ring.unlink()
        kept = _Kept.read(self.journal)
        names = sorted(filter(None, (SegmentName.parse(path.name) for path in self.log.iterdir())), key=_place)
        gone = 0
        for _, of_stream in groupby(names, key=lambda name: name.stream):
            paths = [self.log / str(name) for name in of_stream]
            gone += _cut(paths, kept, keep, later_is_gone=later_is_gone)
        for path in (self.log / "archive").glob("*.zst"):
            gone += _cut([path], kept, 0, later_is_gone=True)
        self.boots += 1
        self.journal.unlink(missing_ok=True)
        self._note_all()
        return gone

    def _note_all(self) -> None:
        """What is there after a start of the machine is on its disk."""
        for folder in (self.log, self.log / "archive"):
            if folder.is_dir():
                self.note(folder=str(folder), names=_names(folder))
                for path in filter(Path.is_file, folder.iterdir()):
                    self.note(file=str(path), inode=path.stat().st_ino, size=path.stat().st_size)


class Disk:
    """The machine's disk as one process meets it. ``room``: bytes that segments may still take, None for many."""

    def __init__(self, machine: Machine) -> None:
        self.room: int | None = None
        self.failing_syncs = 0
        self._machine = machine

    def noting(self, real: Callable[[int], None]) -> Callable[[int], None]:
        """A sync that is noted, or fails. Nothing is done: what is noted stands for the disk."""

        def sync(fd: int) -> None:
            path = Path(f"/proc/self/fd/{fd}").readlink()
            status = os.fstat(fd)
            if not path.is_relative_to(self._machine.log):
                real(fd)
            elif path.is_dir():
                self._machine.note(folder=str(path), names=_names(path))
            elif self.failing_syncs and path.suffix == ".jsonl":
                self.failing_syncs -= 1
                self._machine.note(file=str(path), inode=status.st_ino, dropped=status.st_size)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            else:
                self._machine.note(file=str(path), inode=status.st_ino, size=status.st_size)

        return sync

    def writing(self, real: Callable[..., int]) -> Callable[..., int]:
        """A write that a full disk cuts short, or refuses."""

        def write(fd: int, data: Any) -> int:
            if self.room is None or Path(f"/proc/self/fd/{fd}").readlink().suffix != ".jsonl":
                return real(fd, data)
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            count = real(fd, bytes(data)[: self.room])
            self.room -= count
            return count

        return write


@dataclass
class _Kept:
    """What the journal says: how much of each file is synced, by path and by inode; which names; what was dropped.

    An archive, and a segment that came back from one, is synced before it has its name.
    """

    sizes: dict[str | tuple[int, str], int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    dropped: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, journal: Path) -> _Kept:
        self = cls()
        for line in journal.read_text().splitlines() if journal.exists() else ():
            entry = json.loads(line)
            if "folder" in entry:
                self._list(entry["folder"], {f"{entry['folder']}/{name}" for name in entry["names"]})
            elif "dropped" in entry:
                synced = self.sizes.get(entry["file"], 0)
                self.dropped.setdefault(entry["file"], []).append((synced, entry["dropped"]))
            else:
                by_inode = entry["inode"], Path(entry["file"]).name.replace(MAKING, "")
                self.sizes[entry["file"]] = self.sizes[by_inode] = entry["size"]
        return self

    def _list(self, folder: str, names: set[str]) -> None:
        for name in {name for name in self.names if name.rpartition("/")[0] == folder} - names:
            self.names.remove(name)
            self.sizes.pop(name, None)  # one that comes back is another file
        self.names |= names

    def synced(self, path: Path) -> int:
        """How many bytes of a file are there by all means: none where its name is not."""
        if str(path) not in self.names:
            return 0
        status = path.stat()
        synced = max(self.sizes.get(str(path), 0), self.sizes.get((status.st_ino, path.name), 0))
        return min(synced, status.st_size)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _place(name: SegmentName) -> tuple[str, int]:
    return name.stream, name.number


def _cut(paths: list[Path], kept: _Kept, keep: float, *, later_is_gone: bool) -> int:
    files = []
    for path in paths:
        size, synced = path.stat().st_size, kept.synced(path)
        dropped = kept.dropped.get(str(path), [])
        files.append((path, size, synced, synced if any(stop > synced for _, stop in dropped) else size))
        for start, stop in dropped:
            _zero(path, start, min(stop, synced))
    left = int(keep * sum(most - synced for _, _, synced, most in files))
    gone = 0
    for path, size, synced, most in files:
        stays = synced + min(left, most - synced)
        left -= stays - synced
        gone += size - stays
        if stays == 0 and later_is_gone and str(path) not in kept.names:
            path.unlink()
        else:
            os.truncate(path, stays)
    return gone


def _zero(path: Path, start: int, stop: int) -> None:
    if start < stop:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(bytes(stop - start))
