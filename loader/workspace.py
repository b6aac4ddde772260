"""A private folder for the bytes of a batch, removed at the end; what a killed loader left is removed by the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from emitter.segments import try_lock

from .errors import EnvironmentFault

_PREFIX = "tradetrail-load-"


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A folder of mode 0700 under the temporary directory, locked for as long as it is in use."""
    root = Path(tempfile.gettempdir())
    _remove_abandoned(root)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise EnvironmentFault(
            f"{root}: no temporary folder can be made: {error.strerror}; free some space there or set TMPDIR"
        ) from error
    try:
        try_lock(lock)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.geteuid():
                continue
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                # One that is being made is not locked yet, and empty.
                if any(folder.iterdir()) and try_lock(fd):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)
