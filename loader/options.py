"""Options that many commands have, and the database they mean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .embedded import embedded
from .show import errors_console

EMBEDDED = Path("var/postgres")

Directory = Annotated[
    Path,
    # Not checked by typer: a directory without permission is a fault of the surroundings, not of the usage.
    typer.Option("--dir", envvar="TRADETRAIL_DIR", readable=False, help="Log directory, where the segment files are."),
]
AnyDirectory = Annotated[
    Path,
    typer.Option(
        "--dir",
        envvar="TRADETRAIL_DIR",
        readable=False,
        help="Log directory; taken as by all commands, not needed here.",
    ),
]
Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="TRADETRAIL_DSN",
        metavar="URL",
        help="PostgreSQL, as postgresql://user@host/database. Without it: an embedded one in var/postgres.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
Rules = Annotated[
    Path | None,
    typer.Option("--rules", metavar="FILE", help="Rules of your own, added to the built-in ones."),
]
BatchBytes = Annotated[
    int,
    typer.Option(min=1024, envvar="TRADETRAIL_BATCH_BYTES", help="How much is loaded in one transaction."),
]
DEFAULT_DIRECTORY = Path("var/audit")


def example(text: str) -> str:
    """The last part of a command's help."""
    return f"Example: [bold]{text}[/bold]"


@contextmanager
def database_at(dsn: str | None) -> Iterator[str]:
    """The DSN that was given, or that of the embedded PostgreSQL, which runs for as long as this lasts."""
    if dsn:
        yield dsn
        return
    if not sys.stderr.isatty():
        with embedded(EMBEDDED) as own:
            yield own
        return
    waiting = errors_console().status("Starting the embedded PostgreSQL ...")
    waiting.start()
    try:
        with embedded(EMBEDDED) as own:
            waiting.stop()
            yield own
    finally:
        waiting.stop()
