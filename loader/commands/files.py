"""``validate`` and ``query``: the raw files, without a database."""

from __future__ import annotations

import csv
import itertools
import json as json_text
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..errors import UsageError
from ..judge import Verdict, judge
from ..options import DEFAULT_DIRECTORY, Directory, Json, example
from ..query import Answer, RawLog
from ..rules import Rule, read_rules
from ..show import cell, console, plain, print_findings, print_json, table
from ..text import count, size, visible

# More rows help nobody on a terminal.
_SHOWN_ROWS = 500
_PROSE = 100
# A column that is narrower shows nothing.
_LEAST_WIDTH = 9


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=example("tradetrail validate var/audit/*.jsonl"))(validate)
    app.command(epilog=example('tradetrail query "SELECT symbol, count(*) FROM trades GROUP BY ALL"'))(query)


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILES]...", help="Segment files; all of --dir without.")
    ] = None,
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="[FILE]", help="Rules of your own, added to the built-in ones; no FILE: list."),
    ] = None,
    list_rules: Annotated[
        bool, typer.Option("--list-rules", help="List the rules, those of --rules FILE too, and end.")
    ] = False,
    json: Json = False,
) -> int:
    """Check segment files as the loader would, without a database. Nothing is written.

    Rules about a database's own columns (lengths, precision) are not among these. Exit code 1: the loader would reject
    a line, or a file has a problem.
    """
    known = read_rules() + (read_rules(rules) if rules else [])
    if list_rules:
        _print_rules(known, json=json)
        return 0
    verdict = judge(files or [], directory, known)
    if json:
        print_json(verdict.as_json())
    else:
        _print_verdict(verdict)
    return 1 if verdict.totals.rejected or verdict.totals.problems else 0


def _print_rules(rules: list[Rule], *, json: bool) -> None:
    if json:
        print_json([{"rule": r.name, "severity": r.severity, "applies_to": _applies(r), "says": r.says} for r in rules])
        return
    listed = table(("rule", "severity", "applies to", "says"), wrapped=("applies to", "says"))
    for rule in rules:
        style = "red" if rule.severity == "reject" else "yellow"
        listed.add_row(cell(rule.name), Text(rule.severity, style=style), cell(_applies(rule)), cell(rule.says))
    console(_PROSE).print(listed)


def _applies(rule: Rule) -> str:
    return f"each {rule.each} field" if rule.each else ", ".join(rule.applies_to)


def _print_verdict(verdict: Verdict) -> None:
    totals, to = verdict.totals, console()
    to.print(
        f"[bold]{count(totals.records, 'record')}[/bold] in {count(totals.segments, 'segment')} "
        f"({size(totals.bytes)}): {totals.rejected:,} to reject, {totals.repaired:,} to repair, "
        f"{totals.lost:,} declared lost"
    )
    print_findings(to, totals)
    if verdict.torn:
        to.print(f"{count(len(verdict.torn), 'file')} with a line that has no end yet, and does not count")


def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help="One SELECT, in DuckDB's SQL; without it the views are listed."),
    ] = None,
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header.")] = False,
) -> None:
    """Ask DuckDB over the raw files; no database is needed.

    Views: records, orders, trades, order_updates, events, segments. Numbers are DECIMAL(38,18), exact to 18 decimals;
    in a product write price::DOUBLE or a smaller DECIMAL. Times are TIMESTAMPTZ in UTC. The texts as they were written
    are in attributes. The log directory is all that can be read, and nothing can be written.
    """
    if json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    with RawLog(directory) as log:
        if sql is None:
            _print_views(log, json=json)
            return
        for file, problem in log.problems.items():
            warnings.warn(f"{file}: {problem}; it is left out", stacklevel=1)
        answer = log.query(sql)
        if json:
            _print_rows_json(answer)
        elif as_csv:
            _print_rows_csv(answer)
        else:
            _print_rows(answer)


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


_NUMERIC = ("DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "UBIGINT", "UINTEGER")


def _print_rows_json(answer: Answer) -> None:
    """One list, written as the rows come; what is JSON in the log stays as it was written."""
    names = [json_text.dumps(name, ensure_ascii=False) for name, _ in answer.columns]
    is_json = [type_ == "JSON" for _, type_ in answer.columns]
    out, before = sys.stdout, "["
    for row in answer.rows:
        fields = (
            f"{name}: {_as_written(value) if raw and isinstance(value, str) else _dumped(value)}"
            for name, raw, value in zip(names, is_json, row, strict=True)
        )
        out.write(f"{before}{{{', '.join(fields)}}}")
        before = ",\n "
    out.write("[]\n" if before == "[" else "]\n")


def _dumped(value: Any) -> str:
    return json_text.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def _as_written(text: str) -> str:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json_text.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return _dumped(text)
    return text


def _print_rows_csv(answer: Answer) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([name for name, _ in answer.columns])
    for row in answer.rows:
        writer.writerow(list(_csv_values(row)))


def _csv_values(row: tuple[Any, ...]) -> Iterator[Any]:
    for value in row:
        known = plain(value)
        yield json_text.dumps(known, ensure_ascii=False) if isinstance(known, dict | list) else known
