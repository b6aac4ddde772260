"""How much of the log waits to be loaded, and since when: looks at the directory held against the ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .tail import Pending, Progress, Tail

Key = tuple[str, int]
_BLOCK_BYTES = 4096
# More looks than that are remembered two as one, so that a database that is away for days costs no memory.
_MOST_MARKS = 64


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits: bytes of whole lines (None: nobody could say yet what is loaded), and since when, in monotonic
    seconds (None: nothing waits).
    """

    bytes: int | None = 0
    since: float | None = None


class Lag:
    """Remembers when which bytes were first seen; :attr:`waiting` is replaced, never changed.

    Per segment it keeps marks, (when, offset): up to there whole lines were seen by then.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: dict[Key, list[tuple[float, int]]] = {}
        self.waiting = Waiting()

    @property
    def seconds(self) -> float:
        """How long the oldest bytes that are not loaded are known to wait; 0 where none do."""
        since = self.waiting.since
        return 0.0 if since is None else max(0.0, self._clock() - since)

    def look(self, ends: Mapping[Key, int], ledger: Mapping[Key, Progress] | None) -> None:
        """Take in how far the whole lines of each segment go that has more than is loaded; others do not wait."""
        now = self._clock()
        marks: dict[Key, list[tuple[float, int]]] = {}
        for key, end in ends.items():
            kept = [mark for mark in self._marks.get(key, ()) if mark[1] <= end]
            if not kept or kept[-1][1] < end:
                kept.append((now, end))
            if len(kept) > _MOST_MARKS:
                # Of two the earlier time: it may say a little too much, never too little.
                kept = [(kept[n][0], kept[min(n + 1, len(kept) - 1)][1]) for n in range(0, len(kept), 2)]
            marks[key] = kept
        self._marks = marks
        self.settle(ledger)

    def settle(self, ledger: Mapping[Key, Progress] | None) -> None:
        """Strike out what the ledger has; None: it could not be asked yet."""
        waiting, since = 0, None
        for key, marks in list(self._marks.items()):
            loaded = ledger[key].bytes if ledger is not None and key in ledger else 0
            left = [mark for mark in marks if mark[1] > loaded]
            if not left:
                del self._marks[key]
                continue
            self._marks[key] = left
            waiting += left[-1][1] - loaded
            since = left[0][0] if since is None else min(since, left[0][0])
        self.waiting = Waiting(None if ledger is None and waiting else waiting, since)


def whole_lines(tail: Tail, ledger: Mapping[Key, Progress]) -> dict[Key, int]:
    """Where the last whole line of each segment ends that has bytes beyond the ledger."""
    return {(item.name.stream, item.name.number): _end(item) for item in tail.scan(ledger).pending}


def _end(item: Pending) -> int:
    """The offset behind the last line end of the new bytes; where they begin if there is none, or none to be read."""
    try:
        fd = os.open(item.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return item.start
    try:
        end = item.size
        while end > item.start:
            begin = max(item.start, end - _BLOCK_BYTES)
            found = os.pread(fd, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    except OSError:
        pass
    finally:
        os.close(fd)
    return item.start
