"""The trades of the archive's Parquet data set (``archive.parquet``), for engines that read such files themselves."""

from __future__ import annotations

from pathlib import Path

from emitter.records import TRADE

from ..archive.files import FOLDER
from ..archive.manifest import read_manifest
from ..archive.parquet import FOLDER as PARQUET
from ..errors import UsageError
from ..inventory import segments_in


def trade_files(directory: Path) -> list[Path]:
    """The files with the trades of a log directory's archive, by date. None: nothing was traded by then.

    A :class:`~loader.errors.UsageError` where there is no data set, or no such directory.
    """
    segments_in(directory)  # one that is not there is said in its usual words
    folder = directory / FOLDER / PARQUET
    entries = read_manifest(folder)
    if not entries:
        raise UsageError(f"{folder}: there is no data set yet; tradetrail archive makes it of what is loaded")
    files = sorted((entry.date, entry.file) for entry in entries if entry.kind == TRADE.name)
    return [(folder / file).resolve() for _, file in files]
