"""Progress: what a command shows on a terminal while it works: how far, how fast, how long yet. Off one, nothing.

It goes to stderr, and is gone when the command has its answer.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Literal

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from .show import errors_console
from .text import one_line, size

# What is through sooner needs no bar.
_AFTER_S = 0.4
_BAR_WIDTH = 24

Unit = Literal["bytes", "lines", "entries", "rows", "share"]


class Shown:
    """The bar of one command; :meth:`update` says how far it is."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def update(self, done: float, total: float | None = None) -> None:
        """``done`` of ``total``; 0 or None: it is not known how much there is."""
        self._bar.update(self._task, completed=done, total=total or None)

    def share(self, percent: float) -> None:
        """DuckDB's word on a query, 0 to 100; less while it does not know."""
        self.update(max(percent, 0.0), 100.0 if percent > 0 else None)

    def next(self, words: str) -> None:
        """Another step, with figures of its own."""
        self._bar.reset(self._task, total=None, description=words)


@contextmanager
def progress(words: str, unit: Unit = "share") -> Iterator[Shown]:
    """A bar for as long as this lasts, which counts in ``unit``; what the loader says meanwhile stands above it."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(_BAR_WIDTH),
        _Amount(unit),
        _Time(),
        console=errors_console(),
        transient=True,
        redirect_stdout=False,
        disable=not on_a_terminal(),
    )
    task = bar.add_task(words, total=None)
    with _words_to(bar), _late(bar):
        yield Shown(bar, task)


def on_a_terminal() -> bool:
    """Whether a line on stderr can be drawn anew."""
    return sys.stderr.isatty() and not errors_console().is_dumb_terminal


@contextmanager
def _late(bar: Progress) -> Iterator[None]:
    starting = Timer(_AFTER_S, bar.start)
    starting.daemon = True
    starting.start()
    try:
        yield
    finally:
        starting.cancel()
        starting.join()
        bar.stop()


@contextmanager
def _words_to(bar: Progress) -> Iterator[None]:
    """What the loader says while it waits is shown above the bar; off a terminal only the outcome counts."""
    log, handler = logging.getLogger("tradetrail"), logging.NullHandler() if bar.disable else _Above(bar)
    before = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before


class _Above(logging.Handler):
    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self._bar = bar

    def emit(self, record: logging.LogRecord) -> None:
        self._bar.console.print(one_line(record.getMessage()), markup=False, soft_wrap=True)


class _Amount(ProgressColumn):
    """How much is done, of how much, and how fast."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        if self._unit == "share":
            return Text(f"{task.percentage:.0f} %" if task.total else "")
        words = self._figure(task.completed)
        if task.total:
            words += f" of {self._figure(task.total)}"
        if self._unit != "bytes":
            words += f" {self._unit}"
        return Text(words + (f", {self._figure(task.speed)}/s" if task.speed else ""))

    def _figure(self, number: float) -> str:
        return size(number) if self._unit == "bytes" else f"{number:,.0f}"


class _Time(ProgressColumn):
    """The time left where it can be known, else the time that went by."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        seconds = task.elapsed or 0.0 if left is None else left
        minutes, rest = divmod(int(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        words = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
        return Text(words if left is None else f"{words} left")
