"""``rejects``: the lines that were rejected or repaired; to read, to mend, to try again."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.text import Text

from .. import statements
from ..database import Database
from ..ending import run
from ..errors import UsageError
from ..new_file import new_file
from ..options import (
    DEFAULT_DIRECTORY,
    EMBEDDED,
    AnyDirectory,
    Dsn,
    Json,
    Rules,
    chosen,
    completing,
    database_at,
    example,
    moment_of,
)
from ..progress import progress
from ..rejects import rejects
from ..rejects.rejects import Asked
from ..rejects.retry import Retry
from ..show import console, moment, print_findings, print_json, table
from ..text import count, one_line, visible
from ..totals import Totals

_SEVERITIES = ("rejected", "repaired")
_ROWS_IN_A_TABLE = 100
_TABLES = ("orders", "trades", "order_updates", "events")

Stream = Annotated[str | None, typer.Option(metavar="ID", help="Only of this stream; a part of its id is enough.")]
Rule = Annotated[str | None, typer.Option(metavar="NAME", help="Only those that break this rule.")]
Since = Annotated[
    str | None, typer.Option(metavar="WHEN", help="Only those noted since: 30m, 2h, 7d, or an ISO 8601 time (UTC).")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(no_args_is_help=True, help="Lines that were rejected, or repaired.", rich_markup_mode="rich")
    group.callback(epilog=example("tradetrail rejects list --since 1d"))(_rejects)
    group.command("list", epilog=example("tradetrail rejects list --rule field_missing --since 2h"))(rejects_list)
    group.command("export", epilog=example("tradetrail rejects export mend.jsonl"))(export)
    group.command("retry", epilog=example("tradetrail rejects retry --from mend.jsonl"))(retry)
    app.add_typer(group, name="rejects")


def _rejects() -> None:
    """Lines that were rejected, or repaired."""


# -- list --


def rejects_list(
    *,
    directory: AnyDirectory = DEFAULT_DIRECTORY,  # noqa: ARG001  a common option
    dsn: Dsn = None,
    stream: Stream = None,
    rule: Rule = None,
    severity: Annotated[
        str | None,
        typer.Option(metavar="rejected|repaired", help="Only of this sort.", autocompletion=completing(_SEVERITIES)),
    ] = None,
    since: Since = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="NUMBER", help="At most so many, the newest. By default 100, with --json all."),
    ] = None,
    json: Json = False,
) -> None:
    """List lines that were rejected or repaired, with the reasons; --json gives them whole."""
    if limit is None and not json:
        limit = _ROWS_IN_A_TABLE
    asked = _asked(stream, severity, rule, since)
    rows: list[dict[str, Any]] = []
    total = 0
    if _is_a_database(dsn):
        with database_at(dsn) as there:
            rows, total = run(_read(there, asked, limit))
    if json:
        print_json(rows)
    else:
        _print_rejects(rows, total)


async def _read(dsn: str, asked: Asked, limit: int | None) -> tuple[list[dict[str, Any]], int]:
    sql = statements.load("views/ledger.sql")
    async with await Database.connect(dsn) as database:
        if not await database.fetchval(sql["is_there"]):
            return [], 0
        rows = await database.fetch(sql["rejects"], *asked.parameters, limit)
        return rows, await database.fetchval(sql["count_rejects"], *asked.parameters)


def _print_rejects(rows: list[dict[str, Any]], total: int) -> None:
    to = console()
    shown = table(("place", "seq", "reasons and line"), right=("seq",), wrapped=("reasons and line",))
    width = 200 if not sys.stdout.isatty() else max(20, to.width - 32)
    for row in rows:
        style = "red" if row["severity"] == "rejected" and row["retried_at"] is None else "yellow"
        seq = "?" if row["seq"] is None else f"{row['seq']}{'?' if row['seq_inferred'] else ''}"
        words = Text()
        for reason in row["reasons"]:
            words.append(visible(reason) + "\n", style=style)
        if row["retried_at"] is not None:
            words.append(f"taken after all, {moment(row['retried_at'])} UTC\n", style="green")
        raw = visible(row["raw"][: width + 1])
        words.append(raw if len(raw) <= width else raw[: width - 1] + "…", style="dim")
        shown.add_row(f"..{row['stream'][-6:]}.{row['segment']:06d} @{row['byte_offset']}", seq, words)
    if rows:
        to.print(shown)
    more = f"the newest {len(rows):,} of {total:,} lines" if total > len(rows) else count(total, "line")
    to.print(more, style="dim")


# -- export --


def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A file to be made; '-' or none: the standard output.")
    ] = None,
    *,
    directory: AnyDirectory = DEFAULT_DIRECTORY,  # noqa: ARG001  a common option
    dsn: Dsn = None,
    stream: Stream = None,
    rule: Rule = None,
    severity: Annotated[
        str,
        typer.Option(
            metavar="rejected|repaired",
            help="Of which sort; repaired ones are loaded already.",
            autocompletion=completing(_SEVERITIES),
        ),
    ] = "rejected",
    since: Since = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
    json: Json = False,
) -> None:
    """Write rejected lines that were not taken yet as JSON Lines, to be mended: one object each.

    Mend what is in "line", and leave stream, segment and byte_offset: they
    name the line to 'rejects retry --from'. A line that is no text has null
    there and its bytes in line_base64; put a text into "line" in its place.
    """
    asked = _asked(stream, severity, rule, since)
    if file is None or file == Path("-"):
        _export(dsn, asked, sys.stdout.buffer)
        return
    with new_file(file, force=force) as to:
        lines = _export(dsn, asked, to)
    if json:
        print_json({"file": str(file), "lines": lines})
    else:
        console().print(f"{count(lines, 'line')} in {visible(str(file))}", markup=False, soft_wrap=True)


def _export(dsn: str | None, asked: Asked, to: BinaryIO) -> int:
    if not _is_a_database(dsn):
        return 0
    with database_at(dsn) as there:
        return run(_write(there, asked, to))


async def _write(dsn: str, asked: Asked, to: BinaryIO) -> int:
    lines = 0
    async with await Database.connect(dsn) as database:
        if await database.fetchval(statements.load("views/ledger.sql")["is_there"]):
            async with contextlib.aclosing(rejects.export(database, asked)) as all_:
                async for line in all_:
                    to.write(line.encode())
                    lines += 1
    return lines


# -- retry --


def retry(
    *,
    directory: AnyDirectory = DEFAULT_DIRECTORY,  # noqa: ARG001  a common option
    dsn: Dsn = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Lines to be judged instead, as 'rejects export' writes them; '-': piped in."
        ),
    ] = None,
    stream: Stream = None,
    rule: Rule = None,
    since: Since = None,
    rules: Rules = None,
    json: Json = False,
) -> int:
    """Judge rejected lines anew, and take those that pass by now into the tables, each once.

    With --from mended lines are judged in place of the kept ones, which stay
    as they are. Exit code 1: a line is still rejected, or one of the file
    cannot be used.
    """
    asked = _asked(stream, "rejected", rule, since)
    if file is not None and (stream or rule or since):
        raise UsageError("--from says itself which lines are meant: --stream, --rule and --since do not go with it")
    unusable = 0

    def say(number: int, words: str, fault: bool) -> None:
        nonlocal unusable
        unusable += fault
        typer.echo(f"tradetrail: {one_line(f'{file}:{number}: {words}')}", err=True)

    totals = Totals()
    with _opened(file) as mended:
        if mended is not None or _is_a_database(dsn):
            with database_at(dsn) as there:
                totals = run(_retry(there, asked, mended, rules, say))
    if json:
        print_json(_as_json(totals))
    else:
        _print_retry(totals, unusable, mended=file is not None)
    return 1 if totals.rejected or unusable else 0


async def _retry(dsn: str, asked: Asked, mended: BinaryIO | None, rules: Path | None, say: Any) -> Totals:
    with progress("trying again", "lines") as bar:
        async with Retry(dsn, rules=rules, progress=bar.update, say=say) as tried:
            if mended is None:
                return await tried.take(asked)
            return await tried.take_mended(rejects.read_entries(mended))


@contextlib.contextmanager
def _opened(file: Path | None) -> Iterator[BinaryIO | None]:
    if file is None:
        yield None
    elif file == Path("-"):
        yield sys.stdin.buffer
    else:
        if not file.exists() or file.is_dir():
            raise UsageError(f"{file}: {'is a directory' if file.is_dir() else 'there is no such file'}")
        with file.open("rb") as opened:
            yield opened


def _as_json(totals: Totals) -> dict[str, Any]:
    known = totals.as_json()
    names = (*_TABLES, "duplicates", "rejected", "repaired", "reasons", "seconds")
    return {"retried": totals.records, "taken": _taken(totals), **{name: known[name] for name in names}}


def _taken(totals: Totals) -> int:
    return totals.records - totals.rejected


def _print_retry(totals: Totals, unusable: int, *, mended: bool) -> None:
    to = console()
    if not totals.records:
        to.print("no line was tried" if mended else "no rejected line is waiting", style="dim")
        return
    to.print(
        f"[bold]{_taken(totals):,} of {count(totals.records, 'rejected line')} taken[/bold] in {totals.seconds:.1f} s"
    )
    rows = table(("into", "lines"), right=("lines",))
    for name in _TABLES:
        rows.add_row(name, f"{getattr(totals, name):,}")
    for name, style in (("duplicates", ""), ("rejected", "red"), ("repaired", "yellow")):
        if number := getattr(totals, name):
            rows.add_row(Text(f"still {name}" if name == "rejected" else name, style=style), f"{number:,}")
    to.print(rows)
    print_findings(to, totals)
    if unusable:
        to.print(f"{count(unusable, 'line')} of the file could not be used", style="red")


# -- options --


def _is_a_database(dsn: str | None) -> bool:
    """Whether there is one; where nothing was ever loaded, no server has to be made to say so."""
    return bool(dsn) or EMBEDDED.exists()


def _asked(stream: str | None, severity: str | None, rule: str | None, since: str | None) -> Asked:
    if severity is not None:
        chosen("--severity", severity, _SEVERITIES)
    return Asked(stream, severity, rule, moment_of("--since", since))
