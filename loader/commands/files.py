"""``validate``: the raw files by the loader's rules, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..judge import Verdict, judge
from ..options import DEFAULT_DIRECTORY, Directory, Json, example
from ..progress import progress
from ..rules import Rule, read_rules
from ..show import cell, console, print_findings, print_json, table
from ..text import count, size

_PROSE = 100


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail validate var/audit/*.jsonl"))(validate)


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

    Rules about a database's own columns (lengths, precision) are not among
    these. Exit code 1: the loader would reject a line, or a file has a
    problem.
    """
    known = read_rules() + (read_rules(rules) if rules else [])
    if list_rules:
        _print_rules(known, json=json)
        return 0
    with progress("checking", "bytes") as bar:
        verdict = judge(files or [], directory, known, bar.update)
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
