"""A file that a command makes for its user: private, and whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from emitter.segments import SegmentName

from .archive.files import SUFFIXES
from .errors import EnvironmentFault, UsageError


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file of mode 0600 that gets its name when all is written; ``force``: in place of the one that has it.

    Errors: ``UsageError`` where no such file can or may be made, before anything is written; ``EnvironmentFault``.
    """
    _require_free(path, force=force)
    target = path.resolve() if force else path
    made = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if force:
                    made.replace(target)
                else:  # and not over one that came meanwhile
                    os.link(made, target)
                    made.unlink()
            except BaseException:
                made.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise UsageError(f"{path}: came meanwhile; give another name, or --force to replace it") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror}") from error


def _require_free(path: Path, *, force: bool) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: is a directory" if path.is_dir() else f"{path.parent}: there is no such directory")
    if is_segment(path):
        raise UsageError(f"{path}: is the name of a segment of a log; give another")
    if os.path.lexists(path):
        if not path.is_file():
            raise UsageError(f"{path}: is no regular file and cannot be replaced")
        if not force:
            raise UsageError(f"{path}: is there already; give another name, or --force to replace it")


def is_segment(path: Path) -> bool:
    """Whether a file has the name of a segment or of its archive; such names are never written but by their owners."""
    name = path.resolve().name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return SegmentName.parse(name) is not None
