"""What a process has open, as Linux tells it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def descriptors(pid: int | str = "self") -> list[str]:
    """What a process's file descriptors point to, without those that are closed while this looks."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found
