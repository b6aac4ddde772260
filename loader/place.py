"""How far the reading of a list of files is, in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path


class Place:
    """Where a reader of files is: at byte ``done`` of ``total``, which are 0 where one of them is a pipe.

    ``share`` is how much of what was read of a file was handed on: less than 1 for one that is read whole.
    """

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self.total = _bytes(paths)
        self.share = 1.0
        self._before = 0
        self._file: BufferedReader | None = None

    @property
    def done(self) -> int:
        if not self.total or self._file is None:
            return self._before
        return self._before + int(self._file.tell() * self.share)

    @contextmanager
    def within(self, file: BufferedReader) -> Iterator[None]:
        """While this file is read."""
        self._file, self.share = file, 1.0
        yield
        self.share = 1.0
        self._before, self._file = self.done, None


def _bytes(paths: Sequence[Path]) -> int:
    try:
        return sum(path.stat().st_size for path in paths) if all(path.is_file() for path in paths) else 0
    except OSError:  # who opens it will say it
        return 0
