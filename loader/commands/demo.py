"""``demo``: the example bot, the loader beside it, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import example


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail demo --seconds 20"))(demo)


def demo(
    *,
    # Not TRADETRAIL_DIR, which names a log: the demo makes its folder anew.
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="A folder of the demo's own.")] = Path(
        "var/demo"
    ),
    seconds: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How long the bot trades.")] = 8.0,
    rate: Annotated[float, typer.Option(min=0.1, metavar="NUMBER", help="Positions it opens a second.")] = 12.0,
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            envvar="TRADETRAIL_DSN",
            metavar="URL",
            help="An empty PostgreSQL database. Without it: an embedded one in the demo's folder.",
        ),
    ] = None,
) -> None:
    """Run an example bot, load beside it, and show what came of it."""
    from ..demo import demo as play

    play(directory, seconds=seconds, rate=rate, dsn=dsn)
