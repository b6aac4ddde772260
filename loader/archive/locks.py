"""Locks between ``archive`` and others: while somebody reads a log no segment is removed, and only one archives.

They are ``flock``s, so that whoever is killed holds none. On a log directory whose file system has none, nobody waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from emitter.segments import open_directory, try_lock

from ..errors import EnvironmentFault
from .files import FOLDER

_LOCK = ".lock"
# To remove a few names takes no longer; who still holds the lock then was stopped.
_READER_WAITS_S = 10.0
_REMOVER_WAITS_S = 10.0
_STEP_S = 0.005


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """While this lasts no segment of a log directory is removed: one that was listed is there to be read."""
    with _opened(directory) as log:
        with _opened(directory / FOLDER) as gate:  # so that who is about to remove has its turn
            _lock(gate, fcntl.LOCK_SH, _READER_WAITS_S)
            _lock(log, fcntl.LOCK_SH, _READER_WAITS_S)
        yield


@contextlib.contextmanager
def removing(directory: Path) -> Iterator[bool]:
    """Whether nobody reads the log; while this lasts nobody begins to. Who reads is waited for, but not for ever."""
    with _opened(directory / FOLDER) as gate, _opened(directory) as log:
        yield _lock(gate, fcntl.LOCK_EX, _REMOVER_WAITS_S) and _lock(log, fcntl.LOCK_EX, _REMOVER_WAITS_S)


@contextlib.contextmanager
def archiving(folder: Path) -> Iterator[None]:
    """While this lasts nobody else writes to a folder of archives; an :class:`EnvironmentFault` where somebody does."""
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be written to: {error.strerror}") from error
    try:
        if not try_lock(fd):
            raise EnvironmentFault(f"{folder}: another tradetrail archive is at work there; run it again later")
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int | None]:
    try:
        fd = open_directory(directory)
    except OSError:
        yield None  # there is none, or what is wrong with it is said by who reads it
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int | None, how: int, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while fd is not None:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_STEP_S)
        except OSError:
            break  # no locks on this file system
        else:
            break
    return True
