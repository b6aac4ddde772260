"""Where the archives of a log lie: in its folder ``archive``, which may be a link to a larger disk."""

from __future__ import annotations

import os
from pathlib import Path

from emitter.segments import sync_directory

from ..errors import EnvironmentFault, UsageError
from ..inventory import segments_in
from .files import FOLDER, lost_folder


def archive_of(directory: Path, to: Path | None = None) -> Path:
    """The folder of a log's archives, made where there is none; ``to``: it is to be there, and ``archive`` leads to it.

    Errors: :class:`~loader.errors.UsageError` where the archives are elsewhere already;
    :class:`~loader.errors.EnvironmentFault`.
    """
    segments_in(directory)  # says what is wrong with the directory
    place = directory / FOLDER
    if problem := lost_folder(directory):
        raise EnvironmentFault(f"{place}: {problem}; mount it, or remove the link")
    try:
        if to is None or to.resolve() == place.resolve():
            _make(place, directory)
        elif os.path.lexists(place):
            raise UsageError(
                f"--to: the archives of {directory} are in {place.resolve()}; to have them elsewhere, move that folder "
                f"there, and make {place} a link to it"
            )
        else:
            _make(to, directory)
            place.symlink_to(to.resolve(), target_is_directory=True)
            sync_directory(directory)
    except OSError as error:
        raise EnvironmentFault(f"{error.filename or place}: {error.strerror}") from error
    return place


def _make(folder: Path, directory: Path) -> None:
    """As private as the log directory."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise UsageError(f"{folder}: is no directory") from None
        return
    status = directory.stat()
    try:
        os.chown(folder, -1, status.st_gid)
    except PermissionError:  # of a group that is not ours: then it is for nobody else
        folder.chmod(0o700)
    else:
        folder.chmod(status.st_mode & 0o7777)
    sync_directory(folder.parent)
