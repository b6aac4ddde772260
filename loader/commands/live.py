"""``live``: how the trail is and what was traded last, for a second screen."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..dsn import describe
from ..ending import run
from ..errors import TransientError, UsageError
from ..live.database import DatabaseFeed
from ..live.frame import frame
from ..live.logs import LogFeed
from ..live.looks import Feed
from ..live.screen import keep_showing
from ..options import DEFAULT_DIRECTORY, EMBEDDED, Directory, Dsn, Source, database_at, example, source_of
from ..show import console

# Off a terminal: enough to see what goes on.
_LINES_ONCE = 60


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail live --dir var/audit --every 5"))(live)


def live(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    source: Source = None,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="How often to look.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print how it is now, and end.")] = False,
) -> None:
    """Show the trail's health and the last orders and trades, refreshed, until q is pressed.

    From the raw files alone, of which only what is new is read; or from
    PostgreSQL, with the files beside it for what is not loaded yet. A database
    that goes away is said and tried again.
    """
    to = console()
    if not once and (not to.is_terminal or to.is_dumb_terminal):
        raise UsageError("live needs a terminal to draw on; --once prints how it is now")
    with contextlib.ExitStack() as stack:
        if source_of(source, dsn) == "logs":
            feed: Feed = LogFeed(directory)
            where = str(directory)
        else:
            there = stack.enter_context(database_at(dsn))
            feed = DatabaseFeed(there, _files(directory))
            where = describe(dsn) if dsn else f"the embedded database in {EMBEDDED}"
        run(_print_once(feed, where, to) if once else keep_showing(feed, where, every, to))


def _files(directory: Path) -> LogFeed | None:
    return LogFeed(directory) if directory.is_dir() else None


async def _print_once(feed: Feed, where: str, to: Console) -> None:
    try:
        seen = await feed.look()
        to.print(frame(seen, where, to, max(to.height - 1, 1) if to.is_terminal else _LINES_ONCE))
    finally:
        await feed.close()
    if seen.away:
        raise TransientError(seen.away)
