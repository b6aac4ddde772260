"""``backfill``: orders and trades from an exchange's files into the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emitter import AuditLog

from ..backfill import BackfillSummary
from ..backfill import backfill as emit_files
from ..errors import EnvironmentFault
from ..options import DEFAULT_DIRECTORY, Directory, Json, example
from ..place import Place
from ..progress import progress
from ..show import cell, console, print_json, table
from ..text import count


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail backfill --exchange bybit orders.jsonl"))(backfill)


def backfill(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="ccxt orders and trades: JSON lines, or a JSON array.")
    ],
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    exchange: Annotated[str | None, typer.Option(metavar="NAME", help="For entries that do not name theirs.")] = None,
    service: Annotated[str, typer.Option(metavar="NAME", help="The service that the log names for them.")] = "backfill",
    json: Json = False,
) -> int:
    """Write orders and trades of the past into the log; tradetrail load takes them from there.

    Exit code 1: a line could not be read.
    """
    summary, stream, lost = _emit(files, directory, exchange, service)
    if json:
        unreadable = [{"file": str(path), "line": line, "reason": reason} for path, line, reason in summary.unreadable]
        print_json(
            {
                "files": summary.files,
                "orders": summary.orders,
                "trades": summary.trades,
                "unreadable": summary.unreadable_total,
                "unreadable_first": unreadable,
                "lost": lost,
                "stream": stream,
            }
        )
    else:
        _print_summary(summary, lost)
    return 1 if summary.unreadable_total or lost else 0


def _emit(files: list[Path], directory: Path, exchange: str | None, service: str) -> tuple[BackfillSummary, str, int]:
    place = Place(files)
    with progress("writing", "bytes") as bar, AuditLog(directory, service=service) as audit:
        summary = emit_files(
            files,
            audit,
            exchange=exchange,
            progress=lambda _: bar.update(place.done, place.total),
            place=place,
        )
        if not audit.close(timeout=60.0):
            raise EnvironmentFault(f"{directory}: the disk does not take what was read; the next load will finish it")
        stats = audit.stats()
    return summary, stats.stream, stats.lost


def _print_summary(summary: BackfillSummary, lost: int) -> None:
    to = console()
    to.print(
        f"[bold]{count(summary.orders, 'order')} and {count(summary.trades, 'trade')}[/bold] from "
        f"{count(summary.files, 'file')} are in the log; load them with: tradetrail load"
    )
    if lost:
        to.print(f"{count(lost, 'record')} lost: the disk took them too slowly", style="red")
    if summary.unreadable_total:
        shown = table(("file", "line", "why it cannot be read"), right=("line",), wrapped=("why it cannot be read",))
        for path, line, reason in summary.unreadable:
            shown.add_row(cell(str(path)), f"{line:,}", cell(reason))
        to.print(shown)
        hidden = summary.unreadable_total - len(summary.unreadable)
        more = f", {hidden:,} more than shown" if hidden else ""
        to.print(f"{count(summary.unreadable_total, 'line')} unreadable{more}")
