"""Disks of a test's own that are small, or lie: for root, made of tmpfs and loop devices."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


def run(*command: str | Path, may_fail: bool = False) -> str:
    """A program's output; the test is skipped where it is not there or may not do this."""
    name = str(command[0])
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode and not may_fail:
        pytest.skip(f"not allowed here: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def small_tmpfs(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of this size; :func:`grow` frees it."""
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", place)
    try:
        yield place
    finally:
        run("umount", "-l", place, may_fail=True)


def grow(place: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


class ThinDisk:
    """A file system without journal on a loop device whose blocks turn out not to be there when they are synced.

    What happens then is no simulation: the kernel reports an error once, drops the pages' marks, and the bytes are
    gone after :meth:`read_anew`.
    """

    def __init__(self, place: Path, size: str, stack: ExitStack) -> None:
        self.lower = stack.enter_context(small_tmpfs(place / "lower", size))
        self.path = place / "disk"
        self.path.mkdir()
        image = self.lower / "image"
        run("truncate", "-s", "256m", image)
        # All of its own blocks are made now: what fails later is data.
        options = ("-b", "4096", "-N", "512", "-m", "0", "-E", "lazy_itable_init=0,nodiscard")
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal,^resize_inode", *options, image)
        self._device = run("losetup", "--find", "--show", image)
        stack.callback(run, "losetup", "-d", self._device, may_fail=True)
        self._mount()
        stack.callback(run, "umount", "-l", self.path, may_fail=True)

    def _mount(self) -> None:
        run("mount", "-o", "errors=continue,nodiscard", self._device, self.path)

    def heal(self) -> None:
        grow(self.lower, "300m")

    def read_anew(self) -> None:
        """Forget what the kernel holds in memory: from here on only what reached the disk is read."""
        subprocess.run(["umount", self.path], check=True)
        self._mount()


@contextmanager
def thin_disk(place: Path, size: str) -> Iterator[ThinDisk]:
    """A disk that promises 256 MB and has ``size``."""
    with ExitStack() as stack:
        yield ThinDisk(place, size, stack)
