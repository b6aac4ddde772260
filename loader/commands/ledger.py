"""``status``: what PostgreSQL has of the log."""

from __future__ import annotations

import typer
from rich.text import Text

from ..ending import run
from ..errors import EnvironmentFault
from ..options import DEFAULT_DIRECTORY, EMBEDDED, Directory, Dsn, Json, database_at, example
from ..partitions import hint
from ..show import cell, console, moment, print_json, print_problems, table
from ..status import Ledger, Status, read_ledger, take_status
from ..text import count, size


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=example("tradetrail status --dir var/audit --json"))(status)


def status(*, directory: Directory = DEFAULT_DIRECTORY, dsn: Dsn = None, json: Json = False) -> int:
    """Show each stream: what its files hold, what is loaded, how far the load is behind.

    Exit code 1: a file has a problem. With the database away the files' side
    is still shown, exit code 3.
    """
    away: EnvironmentFault | None = None
    ledger: Ledger | None = None
    try:
        ledger = _ledger(dsn)
    except EnvironmentFault as error:
        away = error
    found = take_status(directory, ledger)
    if away is not None:
        found.database = str(away)
    if json:
        print_json(found.as_json())
    else:
        _print_status(found)
    if away is not None:
        raise away
    return 1 if found.problems else 0


def _ledger(dsn: str | None) -> Ledger:
    if not dsn and not EMBEDDED.exists():
        return Ledger()  # nothing was ever loaded; no server has to be made to say so
    with database_at(dsn) as there:
        return run(read_ledger(there))


def _print_status(found: Status) -> None:
    to = console()
    numbers = ("emitted", "loaded", "rejected", "lost", "behind")
    shown = table(("service", "stream", "state", *numbers), right=numbers, wrapped=("service",))
    # The start of a stream's id is its time: streams of one minute differ behind it.
    for one in found.streams:
        style = {"live": "green", "unfinished": "red"}.get(one.state, "")
        figures = [_figure(getattr(one, name)) for name in numbers]
        shown.add_row(cell(one.service), f"..{one.stream[-6:]}", Text(one.state, style=style), *figures)
    if len(found.streams) > 1:
        shown.add_section()
        shown.add_row("[bold]all[/bold]", "", "", *(_figure(found.total(name)) for name in numbers))
    if found.streams:
        to.print(shown)
        started = min((s.started_at for s in found.streams if s.started_at), default=None)
        loaded = max((s.loaded_at for s in found.streams if s.loaded_at), default=None)
        behind = found.total("behind_bytes")
        words = [f"first start {moment(started)} UTC"] if started else []
        if loaded:
            words.append(f"last loaded {moment(loaded)} UTC")
        elif found.database == "ok":
            words.append("nothing is loaded yet")
        if behind:
            words.append(f"{size(behind)} behind")
        if archived := found.total("archived"):
            words.append(f"{count(archived, 'segment')} archived ({size(found.total('archived_bytes') or 0)})")
        to.print("; ".join(words), style="dim")
    else:
        to.print("no streams yet: no emitter has written here")
    if found.in_default:
        to.print(hint(found.in_default), style="dim")
    print_problems(to, found.problems)


def _figure(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
