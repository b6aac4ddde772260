"""The terminal of ``tradetrail live``: a screen of its own, drawn anew at each look and when its size changes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live

from .frame import frame
from .looks import Feed, Seen

_HELP = "q ends"
# Places in what tcgetattr answers.
_LOCAL, _CONTROL_CHARACTERS = 3, 6


async def keep_showing(feed: Feed, where: str, every_s: float, to: Console) -> None:
    """Look and show until q is pressed; a cancellation ends it too. The terminal is then as it was before."""
    screen = _Screen(feed, where, every_s, to)
    try:
        with _keys(screen.pressed), Live(console=to, screen=True, auto_refresh=False) as live:
            await screen.run(live)
    finally:
        await feed.close()


class _Screen:
    def __init__(self, feed: Feed, where: str, every_s: float, to: Console) -> None:
        self._feed = feed
        self._where = where
        self._every_s = every_s
        self._console = to
        self._wake = asyncio.Event()
        self._ended = False
        self._seen: Seen | None = None
        self._rate: float | None = None

    def pressed(self, keys: bytes) -> None:
        """Keys came from the terminal."""
        if b"q" in keys.lower():
            self._ended = True
            self._wake.set()

    async def run(self, live: Live) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._wake.set)
        looking = asyncio.create_task(self._keep_looking())
        looking.add_done_callback(lambda _: self._wake.set())
        try:
            while not self._ended:
                self._draw(live)
                await self._wake.wait()
                self._wake.clear()
                if looking.done():
                    looking.result()
        finally:
            self._console.clear()  # a terminal that was resized meanwhile may keep what it shows of this screen
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    def _draw(self, live: Live) -> None:
        if self._seen is not None:
            shown = frame(self._seen, self._where, self._console, self._console.height, rate=self._rate, help_=_HELP)
            live.update(shown, refresh=True)

    async def _keep_looking(self) -> None:
        before: tuple[float, int] | None = None
        while True:
            began = time.monotonic()
            self._seen = await self._feed.look()
            records = self._seen.total("records") or 0
            if before is not None:
                self._rate = max(0, records - before[1]) / (began - before[0])
            before = began, records
            self._wake.set()
            # A look that takes long, over a slow disk or connection, is not followed by the next at once.
            took = time.monotonic() - began
            await asyncio.sleep(max(self._every_s - took, took))


@contextlib.contextmanager
def _keys(pressed: Callable[[bytes], None]) -> Iterator[None]:
    """Each key as it is pressed, without an echo; without effect where nobody sits at the other end of stdin.

    Ctrl-C is a signal as ever. Ctrl-Z is not: the shell would come back to a screen that is not its own.
    """
    if not sys.stdin.isatty():
        yield
        return
    fd, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(fd)
    quiet = termios.tcgetattr(fd)
    quiet[_LOCAL] &= ~(termios.ECHO | termios.ICANON)
    quiet[_CONTROL_CHARACTERS][termios.VSUSP] = b"\0"
    # Ctrl-C takes keys away that nobody has read yet: a read that waited for them would never hear of the signal.
    quiet[_CONTROL_CHARACTERS][termios.VMIN] = quiet[_CONTROL_CHARACTERS][termios.VTIME] = 0

    def read() -> None:
        try:
            data = os.read(fd, 1024)
        except OSError:  # the terminal is gone
            loop.remove_reader(fd)
            return
        if data:
            pressed(data)
        elif _hung_up(fd):
            loop.remove_reader(fd)

    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, quiet)
        loop.add_reader(fd, read)
        yield
    finally:
        loop.remove_reader(fd)
        with contextlib.suppress(termios.error):  # a terminal that is gone has no settings
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _hung_up(fd: int) -> bool:
    """Whether nobody is at the terminal's other end any more."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
