"""``query``: one SELECT over the raw files, shown as a table, or written as CSV, JSON or Parquet."""

from __future__ import annotations

import itertools
import shutil
import sys
import warnings
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.table import Table
from rich.text import Text

from ..answers import WRITERS
from ..errors import EnvironmentFault, UsageError
from ..new_file import new_file
from ..options import DEFAULT_DIRECTORY, Directory, Json, chosen, completing, example
from ..progress import progress
from ..query import Answer, RawLog
from ..raw_views import quoted, script
from ..show import Lines, cell, console, print_json, table
from ..text import count, size, visible

FORMATS = ("table", *WRITERS, "parquet")
# By the end of a file's name.
_FORMAT_OF = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
# More rows help nobody on a terminal.
_SHOWN_ROWS = 500
_PROSE = 100
# A column that is narrower shows nothing.
_LEAST_WIDTH = 9
_NUMERIC = ("DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "UBIGINT", "UINTEGER")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example('tradetrail query "SELECT symbol, count(*) FROM trades GROUP BY ALL"'))(query)


def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help="One SELECT, in DuckDB's SQL; without it the views are listed."),
    ] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the SELECT from a file; '-': from stdin.")
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write all rows to a new file: .parquet, .csv, .json or .jsonl."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="How rows are written. By default as FILE's name ends, else a table.",
            autocompletion=completing(FORMATS),
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as --format csv.")] = False,
    json: Json = False,
    as_script: Annotated[
        bool, typer.Option("--script", help="Print the views as a script for duckdb itself, over --dir, and end.")
    ] = False,
) -> None:
    """Ask DuckDB over the raw files; no database is needed.

    Views: records, orders, trades, order_updates, events, segments,
    round_trips. Numbers are DECIMAL(38,18), exact to 18 decimals; in a product
    write price::DOUBLE or a smaller DECIMAL. Times are TIMESTAMPTZ in UTC. The
    texts as they were written are in attributes. Archives of segments
    (.jsonl.zst, .jsonl.gz) are read, too. Without ORDER BY, rows come by their
    columns. The log directory is all that can be read, and nothing but --output
    can be written.
    """
    if as_script:
        sys.stdout.write(f"SET VARIABLE audit_dir = {quoted(str(directory.absolute()))};\n\n{script()}")
        return
    form = _format(form, output, json=json, as_csv=as_csv)
    asked = _asked(sql, file)
    if asked is None and output is not None:
        raise UsageError("--output needs a SELECT whose rows it gets")
    with ExitStack() as stack:
        to = stack.enter_context(new_file(output, force=force)) if output is not None else None
        rows, answer = 0, None
        with progress("reading the log") as bar:
            log = stack.enter_context(RawLog(directory, bar.share))
            if asked is not None and to is not None:
                rows = _write(log, asked, form, to)
            elif asked is not None:
                answer = log.query(asked, ordered=True)
        for name, problem in log.problems.items():
            warnings.warn(f"{name}: {problem}; it is left out", stacklevel=1)
        if asked is None:
            _print_views(log, json=json)
        elif answer is not None:
            _print(answer, form)
    if output is not None:
        _say(output, rows, json=json)


def _format(form: str | None, output: Path | None, *, json: bool, as_csv: bool) -> str:
    """Of the rows. With --output, --json is about what is said of the file."""
    short = [name for name, given in (("json", json and output is None), ("csv", as_csv)) if given]
    if len(short) > 1:
        raise UsageError("--json and --csv exclude each other")
    if form is not None and short and chosen("--format", form, FORMATS) != short[0]:
        raise UsageError(f"--format {form} and --{short[0]} exclude each other")
    form = chosen("--format", form, FORMATS) if form is not None else short[0] if short else None
    if output is None:
        if form == "parquet":
            raise UsageError("Parquet is written to a file only; name it with --output")
        return form or "table"
    if form == "table":
        raise UsageError("a table is for people to read; a file is csv, json, jsonl or parquet")
    form = form or _FORMAT_OF.get(output.suffix.lower())
    if form is None:
        raise UsageError(f"{output}: does not end with {', '.join(_FORMAT_OF)}; say what it is with --format")
    return form


def _asked(sql: str | None, file: Path | None) -> str | None:
    if file is None:
        return sql
    if sql is not None:
        raise UsageError("the SELECT is given twice: as an argument, and by --file")
    try:
        return sys.stdin.read() if file == Path("-") else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: is no text") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except OSError as error:
        raise EnvironmentFault(f"{file}: cannot be read: {error.strerror}") from error


def _write(log: RawLog, sql: str, form: str, to: BinaryIO) -> int:
    if form == "parquet":
        path, rows = log.parquet(sql)
        with path.open("rb") as made:
            shutil.copyfileobj(made, to)
        return rows
    text = TextIOWrapper(to, encoding="utf-8", newline="")
    rows = WRITERS[form](log.query(sql, ordered=True), text)
    text.flush()
    text.detach()
    return rows


def _say(output: Path, rows: int, *, json: bool) -> None:
    if json:
        print_json({"file": str(output), "rows": rows})
    else:
        said = f"{count(rows, 'row')} in {visible(str(output))} ({size(output.stat().st_size)})"
        console().print(said, markup=False, soft_wrap=True)


def _print(answer: Answer, form: str) -> None:
    if form == "table":
        _print_rows(answer)
    else:
        WRITERS[form](answer, Lines() if form == "csv" else sys.stdout)


def _print_views(log: RawLog, *, json: bool) -> None:
    views = log.views()
    if json:
        print_json([{"view": v.name, "says": v.says, "columns": dict(v.columns)} for v in views])
        return
    listed = table(("view", "what, and its columns"), wrapped=("what, and its columns",))
    for view in views:
        columns = ", ".join(name for name, _ in view.columns)
        listed.add_row(Text(view.name, style="bold"), Text(view.says))
        listed.add_row("", Text(columns + "\n", style="dim"))
    console(_PROSE).print(listed)


def _print_rows(answer: Answer) -> None:
    to = console()
    rows = list(itertools.islice(answer.rows, _SHOWN_ROWS))
    more = next(answer.rows, None) is not None
    to.print(_as_table(answer, rows) if len(answer.columns) * _LEAST_WIDTH <= to.width else _as_list(answer, rows))
    said = f"the first {len(rows)} rows of more; --csv gives all" if more else count(len(rows), "row")
    to.print(said, style="dim")


def _as_table(answer: Answer, rows: list[tuple[Any, ...]]) -> Table:
    numbers = {name for name, type_ in answer.columns if type_.startswith(_NUMERIC)}
    shown = table([name for name, _ in answer.columns], right=numbers)
    for row in rows:
        shown.add_row(*map(cell, row))
    return shown


def _as_list(answer: Answer, rows: list[tuple[Any, ...]]) -> Table:
    """A line for each value, where there are more columns than a terminal is wide."""
    shown = table(("column", "value"))
    shown.columns[0].min_width = min(40, max(len(name) for name, _ in answer.columns))
    for row in rows:
        for (name, _), value in zip(answer.columns, row, strict=True):
            shown.add_row(Text(visible(name)), cell(value))
        shown.add_section()
    return shown
