"""``archive``: closed segments that are loaded, packed, as Parquet, and out of the way."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..archive.archiving import Done
from ..archive.archiving import archive as archive_log
from ..archive.choice import names_of, read_loaded
from ..archive.files import FOLDER, archives_in
from ..archive.restore import Restored, asked_of
from ..archive.restore import restore as restore_segments
from ..archive.views import script
from ..ending import run
from ..errors import UsageError
from ..options import DEFAULT_DIRECTORY, EMBEDDED, Directory, Dsn, Json, database_at, example
from ..progress import progress
from ..show import console, print_json, print_problems
from ..text import count, size, visible

_KEEP = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode="rich", subcommand_metavar="[restore ...]")
    group.callback(epilog=example("tradetrail archive --keep 30d"))(archive)
    group.command("restore", epilog=example("tradetrail archive restore --unloaded"))(restore)
    app.add_typer(group, name="archive")


def archive(
    context: typer.Context,
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="DIR", help="Where archives lie from now on: 'archive' in the log directory leads there."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Remove segments that were closed longer ago, as 30d, once they are proved."),
    ] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet/--no-parquet", help="Add the records to the Parquet data set, too.")
    ] = True,
    as_script: Annotated[
        bool, typer.Option("--script", help="Print views over the Parquet data set for duckdb itself, and end.")
    ] = False,
    json: Json = False,
) -> int:
    """Pack closed segments that are loaded, byte for byte, and as Parquet.

    A segment is archived when the database has it to its last byte, and its
    digest is the one that footer, next segment and database have. Archives
    are read in its place by query, metrics, report, export and verify.
    Nothing is removed without --keep. Exit code 1: a file is not what it
    should be, and was left as it is.
    """
    if context.invoked_subcommand is not None:
        return 0
    if as_script:
        sys.stdout.write(script((directory / FOLDER).absolute()))
        return 0
    age = _age(keep)
    _require_database(dsn)
    with database_at(dsn) as there, progress("archiving", "bytes") as bar:
        done = archive_log(directory, there, to=to, keep=age, parquet=parquet, progress=bar.update)
    if json:
        print_json(done.as_json())
    else:
        _print(done, removing=age is not None)
    return 1 if done.problems else 0


def restore(
    segments: Annotated[
        list[str] | None, typer.Argument(metavar="[SEGMENTS]...", help="Names of segments or of their archives.")
    ] = None,
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are archived.")] = False,
    unloaded: Annotated[
        bool, typer.Option("--unloaded", help="Those that the database lacks, as after its restore from a backup.")
    ] = False,
    json: Json = False,
) -> int:
    """Bring archived segments back, byte for byte, so that they can be loaded.

    The archives stay. Exit code 1: an archive is damaged.
    """
    if sum((bool(segments), everything, unloaded)) != 1:
        raise UsageError("restore what? Name segments, or give --all, or --unloaded")
    names = asked_of(directory, segments or ()) if segments else None
    if unloaded:
        _require_database(dsn)
        with database_at(dsn) as there:
            has = names_of(run(read_loaded(there)))
        names = [name for name in archives_in(directory) if name not in has]
    with progress("restoring", "entries") as bar:
        done = restore_segments(directory, names, bar.update)
    if json:
        print_json(done.as_json())
    else:
        _print_restored(done)
    return 1 if done.problems else 0


def _age(keep: str | None) -> timedelta | None:
    if keep is None:
        return None
    match = _KEEP.fullmatch(keep.strip())
    try:
        if match:
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        pass
    raise UsageError(f"--keep: {keep!r} is no age; write 12h, 30d or 8w")


def _require_database(dsn: str | None) -> None:
    if not dsn and not EMBEDDED.exists():
        raise UsageError("archive has to know what is loaded, and there is no database here: name it with --dsn")


def _print(done: Done, *, removing: bool) -> None:
    to = console()
    if done.archived:
        sizes = (
            f"{size(done.bytes)} as {size(done.archived_bytes)}, {done.bytes / done.archived_bytes:.1f} times smaller"
        )
        segments = count(done.archived, "segment")
        to.print(f"[bold]{segments} archived[/bold] ({sizes}) in {done.seconds:.1f} s", soft_wrap=True)
    else:
        to.print("[bold]nothing new to archive[/bold]")
    if done.parquet_files:
        to.print(
            f"{count(done.parquet_rows, 'record')} in {count(done.parquet_files, 'Parquet file')} "
            f"({size(done.parquet_bytes)})"
        )
    if removing:
        to.print(f"{count(done.removed, 'segment')} removed ({size(done.removed_bytes)})")
    for reason, number in done.waiting.items():
        to.print(Text(f"{count(number, 'segment')} left: {reason}", style="dim"), soft_wrap=True)
    if done.archived or done.parquet_files:
        to.print(f"in {visible(str(done.folder))}", style="dim", markup=False, soft_wrap=True)
    print_problems(to, done.problems)


def _print_restored(done: Restored) -> None:
    to = console()
    to.print(f"[bold]{count(done.segments, 'segment')} restored[/bold] ({size(done.bytes)})")
    print_problems(to, done.problems)
