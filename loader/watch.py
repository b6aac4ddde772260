"""``tradetrail watch``: load what is new as it comes. The only module that knows watchfiles.

The files' changes wake it; a slow rescan is for file systems that tell nothing, and finishes the streams of emitters
that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections import deque
from pathlib import Path

import watchfiles
from rich.console import Console
from rich.live import Live
from rich.text import Text

from emitter.segments import SegmentName

from .load import Loader
from .settings import LoadSettings
from .show import errors_console, print_json
from .text import count, one_line, size
from .totals import Totals

_log = logging.getLogger("tradetrail")
# A change is told after one or two steps; each step is a wake-up.
_STEP_MS = 10
_DEBOUNCE_MS = 50
# A batch in flight has this long to end after SIGTERM; then it is rolled back.
_GRACE_S = 2.0
_APPEARS_S = 0.5
_RATE_OVER_S = 10.0


async def watch(settings: LoadSettings, *, json: bool = False) -> None:
    """Load until SIGTERM or SIGINT. Words go to the log ``tradetrail`` on stderr, with ``json`` batches to stdout."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    with _Teller(json=json) as teller:
        await _Watch(settings, stop, teller).run()


class _Watch:
    def __init__(self, settings: LoadSettings, stop: asyncio.Event, teller: _Teller) -> None:
        self._settings = settings
        self._stop = stop
        self._teller = teller
        self._changed = asyncio.Event()

    async def run(self) -> None:
        await self._appears(self._settings.directory)
        if self._stop.is_set():
            return
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.sleep(0)  # it listens from here on, so that nothing falls between it and the first look
            async with Loader(self._settings, self._teller.progress) as loader:
                await self._go_on(loader)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _appears(self, directory: Path) -> None:
        if not await asyncio.to_thread(directory.is_dir):
            _log.info("%s is not there yet; waiting for it", directory)
        while not await asyncio.to_thread(directory.is_dir) and not self._stop.is_set():
            await self._sleep(_APPEARS_S)

    async def _listen(self) -> None:
        changes = watchfiles.awatch(
            self._settings.directory,
            watch_filter=lambda _, path: SegmentName.parse(Path(path).name) is not None,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            stop_event=self._stop,
            recursive=False,
            ignore_permission_denied=True,
        )
        try:
            async for _ in changes:
                self._changed.set()
        except (OSError, RuntimeError) as error:  # no inotify, or no more of it
            _log.warning("changes are not told (%s); looking every %g s", error, self._settings.rescan_s)

    async def _go_on(self, loader: Loader) -> None:
        rescan_at = 0.0
        while not self._stop.is_set():
            self._changed.clear()
            rescan = time.monotonic() >= rescan_at
            totals = await self._take(loader, rescan=rescan)
            if totals is None:
                return
            if rescan:
                rescan_at = time.monotonic() + self._settings.rescan_s
            self._teller.took(totals)
            await self._sleep(max(0.0, rescan_at - time.monotonic()), self._changed)

    async def _take(self, loader: Loader, *, rescan: bool) -> Totals | None:
        """One look and what it brings; None where the end came first and the batch in flight was rolled back."""
        work = asyncio.create_task(loader.take(finish_dead=rescan))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=_GRACE_S)
            return await work if work.done() else None
        finally:
            stopped.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                if not work.cancelled():
                    work.exception()  # what the end broke off says nothing new

    async def _sleep(self, seconds: float, *events: asyncio.Event) -> None:
        """Until one of the events, the end, or the time is up."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._stop, *events)]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


class _Teller(logging.Handler):
    """Tells what happens: a line that lives on a terminal, else log lines; with ``json`` each batch on stdout."""

    def __init__(self, *, json: bool) -> None:
        super().__init__(logging.INFO)
        self._json = json
        self._all = Totals()
        self._behind = 0
        self._last_error = ""
        self._problems: dict[str, str] = {}
        self._recent: deque[tuple[float, int]] = deque()
        self._console: Console = errors_console()
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> _Teller:
        _log.addHandler(self)
        _log.setLevel(logging.INFO)
        _log.propagate = False
        if self._live:
            self._live.start()
        _log.info("watching; stop with Ctrl-C or SIGTERM")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        _log.info("stopped after %s, %s rejected", count(self._all.records, "record"), f"{self._all.rejected:,}")
        _log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        words = one_line(record.getMessage())
        if record.levelno >= logging.WARNING:
            self._last_error = words
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = Text(f"{stamp} {record.levelname.lower()} {words}")
        self._console.print(line, soft_wrap=True)
        self._refresh()

    def progress(self, done: int, total: int) -> None:
        """What the loader has before it."""
        self._behind = total - done
        self._refresh()

    def took(self, totals: Totals) -> None:
        """What one look brought."""
        for file, problem in totals.problems.items():
            if self._problems.get(file) != problem:
                _log.warning("%s: %s", file, problem)
        self._problems = totals.problems
        self._all.add(totals)
        self._recent.append((time.monotonic(), totals.records))
        if totals.bytes:
            self._tell(totals)
        self._refresh()

    def _tell(self, totals: Totals) -> None:
        if self._json:
            print_json(totals.as_json())
        elif not self._live and totals.records:
            _log.info("%s in %.3f s", count(totals.records, "record"), totals.seconds)
        for (severity, rule), lines in totals.reasons.items():
            level = logging.WARNING if severity == "reject" else logging.INFO
            word = "rejected" if severity == "reject" else "repaired"
            example = totals.examples.get((severity, rule), "")
            _log.log(level, "%s %s, %s: %s", count(lines, "record"), word, rule, example)
        if totals.lost:
            _log.warning("the log declares %s lost", count(totals.lost, "record"))

    def _refresh(self) -> None:
        if self._live is None:
            return
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - _RATE_OVER_S:
            self._recent.popleft()
        rate = sum(records for _, records in self._recent) / _RATE_OVER_S
        words = (
            f"{count(self._all.records, 'record')}  {rate:,.0f}/s  {self._all.rejected:,} rejected  "
            f"{size(self._behind)} behind"
        )
        if self._last_error:
            words += f"  last error: {self._last_error}"
        self._live.update(Text(words, no_wrap=True, overflow="ellipsis"), refresh=True)
