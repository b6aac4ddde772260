"""Options that many commands have, and the database they mean."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from .embedded import embedded
from .errors import UsageError
from .show import errors_console

EMBEDDED = Path("var/postgres")
SOURCES = ("logs", "db")


def completing(known: Iterable[str]) -> Callable[[str], list[str]]:
    """What a shell may complete a value to."""
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]  # typer knows it by that name


Directory = Annotated[
    Path,
    # Not checked by typer: a directory without permission is a fault of the surroundings, not of the usage.
    typer.Option(
        "--dir",
        envvar="TRADETRAIL_DIR",
        readable=False,
        metavar="DIR",
        help="Log directory, where the segment files are.",
    ),
]
AnyDirectory = Annotated[
    Path,
    typer.Option(
        "--dir",
        envvar="TRADETRAIL_DIR",
        readable=False,
        metavar="DIR",
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
    typer.Option(
        min=1024,
        envvar="TRADETRAIL_BATCH_BYTES",
        metavar="BYTES",
        help="How much is loaded in one transaction.",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="logs|db",
        help="What is read. By default db where --dsn names one, else logs.",
        autocompletion=completing(SOURCES),
    ),
]
DEFAULT_DIRECTORY = Path("var/audit")
_AGO = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def chosen(option: str, value: str, known: Iterable[str]) -> str:
    """The value of an option that has only some; another is a :class:`UsageError` that says which is meant."""
    known = list(known)
    if value not in known:
        raise UsageError(f"{option} is one of {', '.join(known)}, not {value!r}{meant(value, known)}")
    return value


def meant(wrong: str, known: Iterable[str]) -> str:
    """Which of the known names may be meant, as the end of a message; nothing where none is near."""
    near = get_close_matches(wrong.lower(), list(known), n=1)
    return f". Did you mean {near[0]}?" if near else ""


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


def moment_of(option: str, text: str | None) -> datetime | None:
    """The time that an option means: ``30m``, ``2h``, ``7d``, ``4w`` ago, or an ISO 8601 time (UTC without zone)."""
    if text is None:
        return None
    try:
        if match := _AGO.fullmatch(text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(f"{option}: {text!r} is no time; write 30m, 2h, 7d, or 2026-11-22T13:00:00Z") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def source_of(source: str | None, dsn: str | None) -> str:
    """Where a command reads the trail, ``logs`` or ``db``: as it is told, else db where --dsn names one, else logs."""
    if source is None:
        return "db" if dsn else "logs"
    if chosen("--source", source, SOURCES) == "db" and not dsn and not EMBEDDED.exists():
        raise UsageError("--source db: there is no database yet; name one with --dsn, or load the log first")
    return source
