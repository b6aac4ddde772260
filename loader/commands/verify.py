"""``verify``: is it complete, and unchanged?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from emitter.seal import Seal, read_seal

from ..archive.locks import reading
from ..errors import EnvironmentFault, UsageError
from ..options import DEFAULT_DIRECTORY, EMBEDDED, Directory, Dsn, Json, completing, database_at, example, meant
from ..progress import progress
from ..show import cell, console, print_json, table
from ..verify.files import take_files
from ..verify.findings import Finding
from ..verify.head import Head, take_head
from ..verify.rule_book import described
from ..verify.verify import Verdict
from ..verify.verify import verify as run_checks

_SHOWN_OF_A_RULE = 3
_PROSE = 100
_LISTED = "; 'tradetrail verify --rules' lists them"
_STYLES = {"error": "red", "warning": "yellow", "information": "dim"}
_WORDS = {"error": "error", "warning": "warning", "information": "info"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail verify --dir var/audit --json"))(verify)


def verify(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    no_database: Annotated[
        bool, typer.Option("--no-database", help="Look at the files alone, whatever database there is.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The bot's seal key: check the seal of every closed segment."),
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Only print the newest digests, in one line to be kept elsewhere.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="LINE", help="Hold the log against such a line; @FILE reads it from a file, - from stdin."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Pass over what this rule finds; may be given again.",
            autocompletion=lambda incomplete: completing(name for name, _, _ in described())(incomplete),
        ),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules, and end.")] = False,
    json: Json = False,
) -> int:
    """Check that the trail is complete, unchanged and consistent, and that the database has what it says.

    Nothing is written. Without --dsn, and without an embedded database in
    var/postgres, the files are looked at alone. Exit code 1: there is an error
    or a warning; what is only information is explained by the trail itself.
    """
    if rules:
        _print_rules(json=json)
        return 0
    if head:
        with reading(directory):
            line = str(take_head(take_files(directory)))
        if json:
            print_json({"head": line})
        else:
            typer.echo(line)
        return 0
    ignored = _known_rules(ignore or [])
    seal = read_seal(key) if key else None
    kept = Head.parse(_text_of(against)) if against is not None else None
    verdict, away = _checked(directory, None if no_database else dsn, no_database, seal, kept, ignored)
    if json:
        print_json(verdict.as_json())
    else:
        _print_verdict(verdict, ends_known=kept is not None)
    if away is not None:
        raise away
    return 1 if verdict.findings.grave else 0


def _checked(
    directory: Path, dsn: str | None, no_database: bool, seal: Seal | None, head: Head | None, ignored: list[str]
) -> tuple[Verdict, EnvironmentFault | None]:
    """The verdict; with the database away that on the files, and what is wrong with the database."""

    def work(there: str | None) -> Verdict:
        with progress("verifying", "bytes") as bar:
            return run_checks(directory, there, seal=seal, head=head, ignored=ignored, progress=bar.update)

    if no_database or (not dsn and not EMBEDDED.exists()):
        verdict = work(None)
        verdict.database = "left out" if no_database else "none given, and none in var/postgres"
        return verdict, None
    try:
        with database_at(dsn) as there:
            return work(there), None
    except EnvironmentFault as error:
        verdict = work(None)
        verdict.database = str(error)
        return verdict, error


def _known_rules(names: list[str]) -> list[str]:
    known = {name for name, _, _ in described()}
    for name in names:
        if name not in known:
            raise UsageError(f"--ignore: there is no rule {name}{meant(name, known) or _LISTED}")
    return names


def _text_of(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"--against: {given[1:]} cannot be read: {why}") from error


def _print_rules(*, json: bool) -> None:
    if json:
        print_json([{"rule": name, "severity": severity, "says": says} for name, severity, says in described()])
        return
    listed = table(("rule", "severity", "says"), wrapped=("says",))
    for name, severity, says in described():
        listed.add_row(Text(name), Text(severity, style=_STYLES.get(severity, "")), cell(says))
    console(_PROSE).print(listed)


def _print_verdict(verdict: Verdict, *, ends_known: bool) -> None:
    to = console(_PROSE)
    shown = table(("", "rule", "what", "where"), wrapped=("what", "where"))
    for severity, rule, number, kept in verdict.findings.grouped():
        style = _STYLES[severity]
        for at, finding in enumerate(kept[:_SHOWN_OF_A_RULE]):
            words = (_WORDS[severity], rule) if at == 0 else ("", "")
            shown.add_row(*(Text(word, style=style) for word in words), cell(finding.what), cell(_where(finding)))
        if number > _SHOWN_OF_A_RULE:
            has = "all" if number == len(kept) else f"the first {len(kept):,}"
            shown.add_row("", "", Text(f"and {number - _SHOWN_OF_A_RULE:,} more; --json has {has}", style="dim"), "")
    if shown.row_count:
        to.print(shown)
    if verdict.left_out:
        to.print(f"Left out, because not all files are here: {', '.join(verdict.left_out)}", style="dim")
    if not verdict.compared:
        to.print(f"Not held against a database: {verdict.database}", style="dim", markup=False, soft_wrap=True)
        if not ends_known:
            to.print(
                "Without one, only --against can tell whether the end of a stream was cut off at a line", style="dim"
            )
    counts = [
        f"{number:,} {severity}{'s' * (number != 1 and severity != 'information')}"
        for severity, number in _counts(verdict)
    ]
    to.print(f"[bold]{verdict.proved}[/bold]" + (f" ({', '.join(counts)})" if counts else ""), soft_wrap=True)


def _counts(verdict: Verdict) -> list[tuple[str, int]]:
    return [(severity, number) for severity in _STYLES if (number := verdict.findings.count(severity))]


def _where(finding: Finding) -> str:
    """The place for people: the end of a stream's id tells those of one minute apart."""
    words = []
    if finding.stream:
        words.append(f"..{finding.stream[-6:]}")
    if finding.segment is not None:
        words.append(f"segment {finding.segment}")
    if finding.seq is not None:
        words.append(f"seq {finding.seq}")
    return " ".join(words)
