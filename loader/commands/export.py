"""``export``: the trail for other people's tools."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..export import FORMATS, Exported, export_otlp
from ..new_file import new_file
from ..options import DEFAULT_DIRECTORY, Directory, Json, chosen, completing, example, moment_of
from ..progress import progress
from ..show import console, print_json
from ..text import count, size, visible

_STDOUT = Path("-")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail export --format otlp --since 1d -o trail.jsonl"))(export)


def export(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="otlp: OpenTelemetry's JSON, for a Collector.",
            autocompletion=completing(FORMATS),
        ),
    ],
    file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A file to be made; '-': the standard output.")
    ] = _STDOUT,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only what was written since: 30m, 2h, 7d, or an ISO 8601 time (UTC)."),
    ] = None,
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only what this bot wrote; may be given again.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
    json: Json = False,
) -> int:
    """Write the trail as it stands in the raw log, for other tools; no database is needed.

    otlp: each line is one OTLP/JSON object with some hundred log records, as
    the otlpjsonfile receiver of OpenTelemetry's Collector reads them. Exit
    code 1: a file, or a line that is no record, had to be left out.
    """
    chosen("--format", form, FORMATS)
    moment, services = moment_of("--since", since), frozenset(service or ())
    if file == _STDOUT:
        if json:
            raise UsageError("--json tells what is in a file: name one with -o")
        done = export_otlp(directory, sys.stdout.buffer, since=moment, services=services)
    else:
        with new_file(file, force=force) as to, progress("exporting", "bytes") as bar:
            done = export_otlp(directory, to, since=moment, services=services, progress=bar.update)
        if json:
            print_json(_as_json(file, done))
        else:
            _print(file, done)
    _warn(directory, done)
    return 1 if done.problems or done.left_out else 0


def _as_json(file: Path, done: Exported) -> dict[str, object]:
    return {
        "file": str(file),
        "records": done.records,
        "losses": done.losses,
        "lines": done.lines,
        "bytes": done.bytes,
        "segments": done.segments,
        "left_out": done.left_out,
    }


def _print(file: Path, done: Exported) -> None:
    losses = f" and {count(done.losses, 'declared loss', 'declared losses')}" if done.losses else ""
    console().print(
        f"{count(done.records, 'record')}{losses} in {visible(str(file))} "
        f"({count(done.lines, 'line')}, {size(done.bytes)})",
        markup=False,
        soft_wrap=True,
    )


def _warn(directory: Path, done: Exported) -> None:
    for name, problem in done.problems.items():
        warnings.warn(f"{name}: {problem}", stacklevel=1)
    if done.left_out:
        lines = count(done.left_out, "line is no record and was", "lines are no records and were")
        warnings.warn(f"{lines} left out; see: tradetrail validate --dir {directory}", stacklevel=1)
