"""The manifest of the Parquet data set: which files are in it. What it does not list is not there.

``manifest.jsonl`` has one JSON object a line, one for each file, and is replaced as a whole::

    {"file": "trade/date=2026-11-22/<run>.parquet", "kind": "trade", "date": "2026-11-22", "rows": 120,
     "bytes": 8123, "sha256": "...", "segments": ["fox-bot.<stream>.000001.jsonl"]}
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from emitter.segments import sync_directory

from ..errors import EnvironmentFault
from .pack import MAKING

NAME = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the data set: rows of one kind and one day (UTC), of these segments. ``file`` is relative to it."""

    file: str
    kind: str
    date: str
    rows: int
    bytes: int
    sha256: str
    segments: tuple[str, ...]


def read_manifest(folder: Path) -> list[Entry]:
    """The files of a data set; none where there is none yet. One that is damaged is an :class:`EnvironmentFault`."""
    path = folder / NAME
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read: {error.strerror}") from error
    try:
        found = map(orjson.loads, lines)
        return [Entry(**{**entry, "segments": tuple(entry["segments"])}) for entry in found]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise EnvironmentFault(
            f"{path}: is damaged. Move {folder} away: the next archive makes it anew from the archived segments"
        ) from error


def write_manifest(folder: Path, entries: Sequence[Entry], mode: int) -> None:
    """Replace the manifest, which is on the disk when this returns. ``mode``: of its file."""
    path = folder / NAME
    made = path.with_name(path.name + MAKING)
    fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.writelines(orjson.dumps(asdict(entry)) + b"\n" for entry in entries)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
    sync_directory(folder)
