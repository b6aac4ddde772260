"""A copy of the tree, in which one file at a time is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from .breakage import Breakage

# Compiled files are told from their sources by size and whole seconds of time: no two texts of a file may share both.
_STEP_S = 10


class Copy:
    """The files of a checkout as they are now, and those that are new and not ignored, in a folder of their own."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.folder = folder
        self._turns = count(1)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=checkout,
            capture_output=True,
            check=True,
        )
        for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
            if os.path.lexists(checkout / name):  # a file that is removed and not committed yet is listed as well
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, folder / name, follow_symlinks=False)

    @contextmanager
    def broken(self, breakage: Breakage) -> Iterator[None]:
        """With one breakage. Errors: :class:`~tests.breakages.breakage.Stale`."""
        path = self.folder / breakage.file
        text, times = path.read_text(encoding="utf-8"), path.stat()
        changed = times.st_mtime_ns + next(self._turns) * _STEP_S * 10**9
        path.write_text(breakage.broken(text), encoding="utf-8")
        os.utime(path, ns=(changed, changed))
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
