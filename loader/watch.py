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
from functools import partial
from pathlib import Path
from typing import Self

import watchfiles
from rich.console import Console
from rich.live import Live
from rich.text import Text

from emitter.segments import SegmentName

from .errors import TransientError
from .lag import whole_lines
from .load import Loader
from .rules import read_rules
from .settings import LoadSettings
from .show import errors_console, print_json
from .standing import Standing
from .tail import Tail
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
# One take goes on for so long with what comes meanwhile: that is checked while PostgreSQL takes what came before.
_FOLLOW_S = 1.0
# How often files that were closed and loaded are looked at again, in case somebody touched them.
_ALL_AGAIN_S = 60.0
# A load that takes longer than this (a backlog, a database away) is looked at from outside: how much waits, and how
# long. Each such look costs at most one part of its pause.
_LOOK_AFTER_S = 0.2
_LOOK_EVERY_S = 1.0
_LOOK_PARTS = 20
# A rescan that finds nothing uses the processor for at most one part of the pause behind it, beside however many files.
_RESCAN_PARTS = 200
_LONGEST_RESCAN_S = 30.0


async def watch(settings: LoadSettings, *, json: bool = False) -> None:
    """Load until SIGTERM or SIGINT. Words go to the log ``tradetrail`` on stderr, with ``json`` batches to stdout."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    standing = Standing(read_rules() + (read_rules(settings.rules) if settings.rules else []))
    with contextlib.ExitStack() as stack:
        where = None
        if settings.metrics_port is not None:
            from .prometheus import serve  # takes its time, and nothing else needs it

            where = stack.enter_context(serve(standing, settings.metrics_host, settings.metrics_port))
        teller = stack.enter_context(_Teller(standing, json=json))
        if where:
            _log.info("metrics for Prometheus at %s", where)
        await _Watch(settings, stop, standing, teller).run()


class _Watch:
    def __init__(self, settings: LoadSettings, stop: asyncio.Event, standing: Standing, teller: _Teller) -> None:
        self._settings = settings
        self._stop = stop
        self._standing = standing
        self._teller = teller
        self._changed = asyncio.Event()
        self._files: set[str] = set()  # that changed, by name
        self._tail = Tail(settings.directory)
        self._ledger_known = False

    async def run(self) -> None:
        await self._appears(self._settings.directory)
        if self._stop.is_set():
            return
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.sleep(0)  # it listens from here on, so that nothing falls between it and the first look
            async with Loader(self._settings, lambda done, _: self._progressed(loader, done)) as loader:
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
            async for some in changes:
                self._files |= {Path(path).name for _, path in some}
                self._changed.set()
        except (OSError, RuntimeError) as error:  # no inotify, or no more of it
            _log.warning("changes are not told (%s); looking every %g s", error, self._settings.rescan_s)

    async def _go_on(self, loader: Loader) -> None:
        rescan_at = all_again_at = 0.0
        while not self._stop.is_set():
            self._changed.clear()
            changed, self._files = self._files, set()
            now = time.monotonic()
            rescan, all_again = now >= rescan_at, now >= all_again_at
            connected, cpu = loader.connected, time.process_time()
            totals = await self._take(loader, None if rescan else changed, all_again=all_again)
            if totals is None:
                return
            if rescan:
                only_looked = connected and not totals.bytes
                spent = time.process_time() - cpu if only_looked else 0.0
                pause = min(_RESCAN_PARTS * spent, _LONGEST_RESCAN_S)
                rescan_at = time.monotonic() + max(self._settings.rescan_s, pause)
                all_again_at = all_again_at if not all_again else time.monotonic() + _ALL_AGAIN_S
            self._teller.took(totals, recovered=rescan)
            if self._standing.lag.waiting.bytes != 0:
                await self._look(loader)  # came meanwhile; or a file is no longer there, and nothing will come of it
            await self._sleep(max(0.0, rescan_at - time.monotonic()), self._changed)

    async def _take(self, loader: Loader, changed: set[str] | None, *, all_again: bool) -> Totals | None:
        """One look and what it brings; None where the end came first and the batch in flight was rolled back."""
        until = time.monotonic() + _FOLLOW_S
        follow = partial(self._follows, until)
        work = asyncio.create_task(
            loader.take(finish_dead=changed is None, changed=changed, all_again=all_again, follow=follow)
        )
        stopped = asyncio.create_task(self._stop.wait())
        looking = asyncio.create_task(self._keep_looking(loader))
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=_GRACE_S)
            return await work if work.done() else None
        finally:
            stopped.cancel()
            looking.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                if not work.cancelled():
                    work.exception()  # what the end broke off says nothing new

    def _follows(self, until: float) -> bool:
        return not self._stop.is_set() and time.monotonic() < until

    def _progressed(self, loader: Loader, done: int) -> None:
        """The loader has looked at the directory (nothing is ``done`` yet), or committed one more batch."""
        self._ledger_known = True
        self._standing.connected = loader.connected
        self._standing.progressed(loader.totals, committed=done > 0)
        self._standing.lag.settle(loader.ledger)
        self._teller.refresh()

    async def _keep_looking(self, loader: Loader) -> None:
        """Tell how much waits for as long as a take lasts."""
        pause = _LOOK_AFTER_S
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            await self._look(loader)
            pause = max(_LOOK_EVERY_S, _LOOK_PARTS * (time.monotonic() - began))

    async def _look(self, loader: Loader) -> None:
        self._standing.connected = loader.connected
        with contextlib.suppress(OSError):  # the loader says what is wrong with the directory
            ends = await asyncio.to_thread(whole_lines, self._tail, dict(loader.ledger))
            self._standing.lag.look(ends, loader.ledger if self._ledger_known else None)
        self._teller.refresh()

    async def _sleep(self, seconds: float, *events: asyncio.Event) -> None:
        """Until one of the events, the end, or the time is up."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._stop, *events)]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


class _Teller(logging.Handler):
    """Tells what happens: a line that lives on a terminal, else log lines; with ``json`` each batch on stdout."""

    def __init__(self, standing: Standing, *, json: bool) -> None:
        super().__init__(logging.INFO)
        self._standing = standing
        self._json = json
        self._last_error = ""
        self._recent: deque[tuple[float, int]] = deque()
        self._console: Console = errors_console()
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
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
        totals = self._standing.totals
        _log.info("stopped after %s, %s rejected", count(totals.records, "record"), f"{totals.rejected:,}")
        _log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        for error in record.args if isinstance(record.args, tuple) else ():
            if isinstance(error, TransientError):  # the loader says so before it tries again
                self._standing.failed(error)
        words = one_line(record.getMessage())
        if record.levelno >= logging.WARNING:
            self._last_error = words
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = Text(f"{stamp} {record.levelname.lower()} {words}")
        self._console.print(line, soft_wrap=True)
        self.refresh()

    def took(self, totals: Totals, *, recovered: bool) -> None:
        """What one take brought; ``recovered``: it looked for dead streams too."""
        known = self._standing.problems
        self._standing.took(totals, recovered=recovered)
        for file, problem in self._standing.problems.items():
            if known.get(file) != problem:
                _log.warning("%s: %s", file, problem)
        if totals.bytes:
            self._tell(totals)
        self.refresh()

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

    def refresh(self) -> None:
        """Show how it stands, where there is a terminal."""
        if self._live is None:
            return
        now, totals, waiting = time.monotonic(), self._standing.totals, self._standing.lag.waiting.bytes
        self._recent.append((now, totals.records))
        while self._recent[0][0] < now - _RATE_OVER_S:
            self._recent.popleft()
        rate = (totals.records - self._recent[0][1]) / _RATE_OVER_S
        behind = "? behind" if waiting is None else f"{size(waiting)} behind"
        words = f"{count(totals.records, 'record')}  {rate:,.0f}/s  {totals.rejected:,} rejected  {behind}"
        if self._last_error:
            words += f"  last error: {self._last_error}"
        self._live.update(Text(words, no_wrap=True, overflow="ellipsis"), refresh=True)
