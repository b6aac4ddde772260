"""The Parquet data set of what is archived: one folder a kind, one a day in it, sorted and typed.

It has each record once that the loader accepts, by the rules of the views over raw files (``loader.raw_views``), and
with their columns. A fill that is reported again stands there again: which of them counts is decided over all of them,
when they are read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from emitter.records import KINDS, Kind
from emitter.segments import new_stream, sync_directory

from .. import statements
from ..engine import insert, opened
from ..errors import EnvironmentFault
from ..inventory import SegmentFile
from ..query import readable
from ..raw_views import accepted, common_setup, quoted
from ..settings import MIB
from ..staging import filled
from ..workspace import workspace
from .manifest import Entry, read_manifest, write_manifest
from .pack import MAKING

FOLDER = "parquet"
# So much is sorted at once; a day of a busy bot is far less.
_BATCH_BYTES = 256 * MIB
_MEMORY_LIMIT = "512MB"
_VIEW = re.compile(r"\s*CREATE VIEW \S+ AS\s")
_ALSO = ("observed_timestamp", "severity_number", "trace_id", "span_id", "segment")
_READ_BYTES = 4 * MIB
_OURS = re.compile(r"[0-9a-f]{32}\.parquet")


@dataclass(frozen=True, slots=True)
class Added:
    """What a batch added."""

    files: int
    rows: int
    bytes: int


class Dataset:
    """The data set in a folder, for the one that adds to it."""

    def __init__(self, folder: Path) -> None:
        """One that was not there is made. A damaged manifest is an :class:`EnvironmentFault`."""
        self.folder = folder
        self.entries = read_manifest(folder)
        self._mode = folder.parent.stat().st_mode & 0o7777
        _make(folder, self._mode)
        self._remove_unlisted()

    def has(self) -> set[str]:
        """The names of the segments whose records are in it."""
        return {segment for entry in self.entries for segment in entry.segments}

    def add(self, files: Sequence[SegmentFile]) -> Added:
        """The records of these segments, all at once: when this returns they are listed, and on the disk.

        Errors: ``EnvironmentFault``, ``OSError``; nothing of them is listed then.
        """
        try:
            written = self._written(files)
            for made, entry in written:
                made.replace(self.folder / entry.file)
            for folder in sorted({(self.folder / entry.file).parent for _, entry in written}):
                sync_directory(folder)
            entries = [entry for _, entry in written]
            if entries:
                write_manifest(self.folder, [*self.entries, *entries], self._mode & 0o666)
                self.entries += entries
        except BaseException:
            with suppress(OSError):
                self.entries = read_manifest(self.folder)
                self._remove_unlisted()
            raise
        return Added(len(entries), sum(e.rows for e in entries), sum(e.bytes for e in entries))

    def _written(self, files: Sequence[SegmentFile]) -> list[tuple[Path, Entry]]:
        with workspace() as temporary, _Batch(temporary) as batch:
            batch.read(files, temporary)
            run = new_stream()
            return [made for kind in KINDS for made in self._write(kind, run, batch)]

    def _write(self, kind: Kind, run: str, batch: _Batch) -> Iterator[tuple[Path, Entry]]:
        for date, rows, segments in batch.rows_of(kind):
            folder = self.folder / kind.name / f"date={date}"
            for made in (folder.parent, folder):
                _make(made, self._mode)
            path = folder / f"{run}.parquet"
            new = path.with_name(path.name + MAKING)
            batch.write(date, new)
            size, sha256 = _synced(new, self._mode & 0o666)
            file = str(path.relative_to(self.folder))
            yield new, Entry(file, kind.name, date, rows, size, sha256, tuple(segments))

    def _remove_unlisted(self) -> None:
        """What a run that was killed wrote, and did not come to list."""
        listed = {entry.file for entry in self.entries}
        for path in self.folder.rglob("*.parquet*"):
            name = path.name.removesuffix(MAKING)
            if _OURS.fullmatch(name) and str(path.relative_to(self.folder)) not in listed:
                path.unlink(missing_ok=True)


class _Batch:
    """The records of some segments in an engine of their own, which reads and writes what it is told."""

    def __init__(self, temporary: Path) -> None:
        spill = temporary / "spill"
        spill.mkdir()
        self._duck = opened(spill, _MEMORY_LIMIT)
        self._names: dict[tuple[str, int], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._duck.close()
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
            raise EnvironmentFault(f"DuckDB: {' '.join(str(error).split())}") from error

    def read(self, files: Iterable[SegmentFile], temporary: Path) -> None:
        """Read all records into a table."""
        run, sql = self._duck.execute, statements.load("archive/parquet.sql")
        for statement in (*common_setup(), sql["paths"]):
            run(statement)
        paths: list[tuple[str, str, int]] = []
        for file in files:
            stream, number = file.name.stream, file.name.number
            self._names[stream, number] = str(file.name)
            paths += [(str(path), stream, number) for path in readable(file, file.whole_bytes, temporary)]
        insert(self._duck, "raw.paths", paths)
        views = statements.load("views/records.sql")
        listed = ", ".join(quoted(path) for path, *_ in paths)
        run(views["lines"].replace("(listed)", f"([{listed}])"))
        run(f"CREATE TABLE records AS {of_view(views['records'])}")

    def rows_of(self, kind: Kind) -> list[tuple[str, int, list[str]]]:
        """Make the rows of a kind; its days, with how many rows, and the segments that they are of."""
        sql = statements.load("archive/parquet.sql")
        self._duck.execute(filled(sql["rows"], selected=selected(kind)))
        found = self._duck.execute(sql["dates"]).fetchall()
        return [(date, rows, [self._names[place] for place in places]) for date, rows, places in found]

    def write(self, date: str, to: Path) -> None:
        """Write the rows of a day."""
        write = statements.load("archive/parquet.sql")["write"]
        self._duck.execute(filled(write, date=date, file=quoted(str(to))))


def batched(files: Iterable[SegmentFile]) -> Iterator[list[SegmentFile]]:
    """Segments in portions that are added at once."""
    batch: list[SegmentFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.bytes
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def selected(kind: Kind) -> str:
    """The rows of a kind from a table or view of records: the columns of the raw view, and those of the data set."""
    sql = statements.load("archive/parquet.sql")
    name = "orders_created" if kind.table == "orders" else kind.table
    view = of_view(statements.load("views/records.sql")[name]).partition("\nQUALIFY")[0]
    numbers = [field.name for field in kind.fields if field.type in ("number", "fee")]
    inexact = "NULL::VARCHAR"
    if numbers:
        cases = ", ".join(filled(sql["inexact"], name=number) for number in numbers)
        found = f"list_filter([{cases}], lambda one: one IS NOT NULL)"
        inexact = f"CASE WHEN len({found}) > 0 THEN CAST(to_json(map_from_entries({found})) AS VARCHAR) END"
    more = filled(sql["more"], inexact=inexact)
    return view.replace("FROM accepted", f", {more}\nFROM (\n{accepted(kind, *_ALSO)}\n) AS accepted")


def of_view(text: str) -> str:
    """The query of a view of ``sql/views/records.sql``."""
    return _VIEW.sub("", text, count=1).partition(";")[0]  # a comment on it follows


def _make(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    folder.chmod(mode)
    sync_directory(folder.parent)


def _synced(path: Path, mode: int) -> tuple[int, str]:
    """Bring a file to the disk; its bytes and their digest."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        while data := file.read(_READ_BYTES):
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()
