"""``tradetrail archive``: closed segments that are loaded become archives and Parquet, and go, once that is proved.

Each step can be cut by a kill and done again: an archive gets its name when it is whole and was read back, a Parquet
file counts once the manifest lists it, and a segment is removed when its archive was read back again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from emitter.segments import SegmentName, sync_directory

from ..ending import run
from ..errors import EnvironmentFault, UsageError
from ..inventory import SegmentFile, look_at, take_inventory
from ..tail import Key
from ..verify.files import digests
from .choice import Loaded, choose, read_loaded
from .files import segment_of
from .locks import archiving, removing
from .pack import MAKING, NotTheSame, pack, prove
from .parquet import FOLDER as PARQUET
from .parquet import Dataset, batched
from .place import archive_of

READ = "being read; the next run removes them"
ARCHIVED_NOT_LOADED = "archived, and not in this database; archive restore --unloaded brings them back"
_PROVED_AT_ONCE = 64


@dataclass(slots=True)
class Done:
    """What a run did. ``waiting``: segments that stay as they are, by reason; ``problems`` by file."""

    folder: Path
    archived: int = 0
    bytes: int = 0
    archived_bytes: int = 0
    parquet_files: int = 0
    parquet_rows: int = 0
    parquet_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        names = ("archived", "bytes", "archived_bytes", "parquet_files", "parquet_rows", "parquet_bytes")
        return {
            "folder": str(self.folder),
            **{name: getattr(self, name) for name in (*names, "removed", "removed_bytes")},
            "waiting": dict(self.waiting),
            "problems": self.problems,
            "seconds": round(self.seconds, 3),
        }


def archive(
    directory: Path,
    dsn: str,
    *,
    to: Path | None = None,
    keep: timedelta | None = None,
    parquet: bool = True,
    now: datetime | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Done:
    """Archive what may be. ``keep``: remove segments that were closed longer ago; None: remove none.

    ``to``: where the archives lie from now on. ``progress`` is told the bytes done, of how many. Errors: ``UsageError``
    and ``EnvironmentFault``.
    """
    started = time.monotonic()
    loaded = run(read_loaded(dsn))
    if not loaded:
        raise UsageError(
            "no segment was ever loaded whole into this database, so none can be archived: tradetrail load"
        )
    folder = archive_of(directory, to)
    done = Done(folder)
    try:
        with archiving(folder):
            _Run(directory, folder, loaded, done, progress).work(parquet=parquet)
            if keep is not None:
                # Asked anew: what a database lost meanwhile is not removed.
                before = (now or datetime.now(UTC)) - keep
                _Removal(directory, folder, done, run(read_loaded(dsn))).work(before)
    except OSError as error:
        raise EnvironmentFault(f"{error.filename or folder}: {error.strerror}") from error
    done.seconds = time.monotonic() - started
    return done


class _Run:
    """Archives and Parquet; nothing is removed."""

    def __init__(
        self,
        directory: Path,
        folder: Path,
        loaded: Mapping[Key, Loaded],
        done: Done,
        progress: Callable[[int, int], None],
    ) -> None:
        self._directory, self._folder, self._loaded, self._done = directory, folder, loaded, done
        self._progress = progress
        self._packed: dict[SegmentName, SegmentFile] = {}
        self._bytes = self._total = 0

    def work(self, *, parquet: bool) -> None:
        for left in self._folder.glob(f"*{MAKING}.*"):  # by a run that was killed
            left.unlink(missing_ok=True)
        choice = choose(take_inventory(self._directory), self._loaded)
        self._done.waiting, self._done.problems = choice.waiting, choice.problems
        new = [file for file in choice.ready if not _archive(self._folder, file.name).exists()]
        self._total = sum(file.bytes for file in new) * (2 if parquet else 1)
        for file in new:
            self._pack(file)
        if new:
            sync_directory(self._folder)
        if parquet:
            self._add_parquet()

    def _pack(self, file: SegmentFile) -> None:
        assert file.footer is not None  # noqa: S101  it was chosen
        try:
            size = pack(file.path, _archive(self._folder, file.name), file.footer.sha256)
        except NotTheSame as error:
            self._done.problems[str(file.name)] = str(error)
        else:
            self._packed[file.name] = file
            self._done.archived += 1
            self._done.bytes += file.bytes
            self._done.archived_bytes += size
        self._advance(file.bytes)

    def _add_parquet(self) -> None:
        """All that is archived, and not in the data set yet."""
        dataset = Dataset(self._folder / PARQUET)
        known = dataset.has()
        archived = sorted(filter(None, (segment_of(path.name) for path in self._folder.glob("*.jsonl.zst"))))
        for files in batched(self._readable(name for name in archived if str(name) not in known)):
            added = dataset.add(files)
            self._done.parquet_files += added.files
            self._done.parquet_rows += added.rows
            self._done.parquet_bytes += added.bytes
            self._advance(sum(file.bytes for file in files))

    def _readable(self, names: Iterable[SegmentName]) -> Iterator[SegmentFile]:
        """Those of the segments that have records; what was packed just now was found unchanged, and is read faster."""
        for name in names:
            file = self._packed.get(name) or self._archived(name)
            if file is not None and (file.footer is None or file.footer.records):
                yield file

    def _archived(self, name: SegmentName) -> SegmentFile | None:
        """A segment as its archive has it; None where that is not what the database has."""
        archive, row = _archive(self._folder, name), self._loaded.get((name.stream, name.number))
        if row is None:
            self._done.waiting[ARCHIVED_NOT_LOADED] += 1
            return None
        found = look_at(archive, name)
        self._done.problems |= found.problems
        for file in found.files:
            if digests(archive, [file.body_end or 0], lambda _: None) == {file.body_end: row.sha256}:
                return file
            self._done.problems[archive.name] = "its bytes are not those that the database vouches for"
        return None

    def _advance(self, size: int) -> None:
        self._bytes += size
        self._progress(self._bytes, self._total)


class _Removal:
    """Segments that were closed long ago, are loaded, and whose archive is proved."""

    def __init__(self, directory: Path, folder: Path, done: Done, loaded: Mapping[Key, Loaded]) -> None:
        self._directory, self._folder, self._done, self._loaded = directory, folder, done, loaded

    def work(self, before: datetime) -> None:
        """Remove what was closed ``before``, the oldest of each stream first."""
        choice = choose(take_inventory(self._directory), self._loaded)
        old = [file for file in choice.ready if self._row(file).closed_at < before]
        old = [file for file in old if _archive(self._folder, file.name).exists()]
        for at in range(0, len(old), _PROVED_AT_ONCE):
            seen = [(file, _seen(file.path)) for file in old[at : at + _PROVED_AT_ONCE]]
            proved = [(file, as_it_was) for file, as_it_was in seen if self._prove(file)]
            sync_directory(self._folder)
            with removing(self._directory) as free:
                if not free:
                    self._done.waiting[READ] += len(old) - at
                    return
                self._remove(proved)

    def _row(self, file: SegmentFile) -> Loaded:
        return self._loaded[file.name.stream, file.name.number]

    def _prove(self, file: SegmentFile) -> bool:
        try:
            prove(file.path, _archive(self._folder, file.name), self._row(file).sha256)
        except NotTheSame as error:
            self._done.problems[str(file.name)] = str(error)
        except OSError as error:
            self._done.problems[f"{file.name}.zst"] = f"{error.strerror}; its segment stays"
        else:
            return True
        return False

    def _remove(self, proved: Iterable[tuple[SegmentFile, tuple[int, ...]]]) -> None:
        for file, as_it_was in proved:
            with contextlib.suppress(FileNotFoundError):
                if _seen(file.path) != as_it_was:
                    self._done.problems[str(file.name)] = "was changed while it was proved; it is not removed"
                    continue
                file.path.unlink()
                self._done.removed += 1
                self._done.removed_bytes += file.bytes
        sync_directory(self._directory)


def _archive(folder: Path, name: SegmentName) -> Path:
    return folder / f"{name}.zst"


def _seen(path: Path) -> tuple[int, ...]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
