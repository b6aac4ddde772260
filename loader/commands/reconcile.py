"""``reconcile``: the exchange's own lists, held against the trail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from emitter import AuditLog
from emitter.recovery import recover

from ..errors import EnvironmentFault
from ..inventory import segments_in
from ..options import DEFAULT_DIRECTORY, Directory, Dsn, Json, Source, database_at, example, moment_of, source_of
from ..progress import progress
from ..reconcile.reconcile import Asked, Emitted, Finding, Reconciliation, check_readable_twice
from ..show import cell, console, print_json, table
from ..text import count, visible
from ..workspace import workspace

_SHOWN = 20
_PROSE = 100
_STYLES = {"missing": "red", "unknown": "yellow", "different": "red"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("tradetrail reconcile --exchange bybit trades.json"))(reconcile)


def reconcile(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="ccxt orders and trades: JSON lines, or a JSON array.")
    ],
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    dsn: Dsn = None,
    source: Source = None,
    exchange: Annotated[str | None, typer.Option(metavar="NAME", help="For entries that do not name theirs.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="From then on the files are whole: 7d, or an ISO 8601 time (UTC)."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Until before then the files are whole.")] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="TICKS",
            help="Numbers may differ by so many units of the last decimal place that the files use.",
        ),
    ] = 0.0,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Write what is missing into the log, each once, marked.")
    ] = False,
    json: Json = False,
) -> int:
    """Hold an exchange's lists of orders and trades against the trail.

    missing: the exchange has it, the trail not. unknown: the trail has it,
    and the files, which cover its market and time, do not. different: both
    have it, and say different things. Exit code 1: there is any of these, or
    an entry of the files cannot be read.
    """
    asked = Asked(files, exchange, moment_of("--since", since), moment_of("--until", until), tolerance)
    where = source_of(source, dsn)
    if backfill:
        check_readable_twice(files)
        segments_in(directory)
        recover(directory)  # what a killed run wrote is in the log, too
    with workspace() as folder, Reconciliation(asked, folder) as found:
        with progress("reading the files", "bytes") as bar:
            found.read(bar.update)
        _hold_against(found, where, directory, dsn)
        emitted = _emit(found, directory) if backfill else None
        if json:
            print_json(_as_json(found, where, emitted))
        else:
            _print(found, "the database" if where == "db" else visible(str(directory)), emitted)
        return 1 if found.counts.findings or found.said.unreadable_total else 0


def _hold_against(found: Reconciliation, where: str, directory: Path, dsn: str | None) -> None:
    if where == "logs":
        with progress("comparing") as bar:
            found.hold_against_logs(directory, bar.share)
        return
    with database_at(dsn) as there, progress("comparing"):
        found.hold_against_database(there)


def _emit(found: Reconciliation, directory: Path) -> Emitted:
    with progress("reading the log") as bar:
        wanted = found.not_logged(directory, bar.share)
    if not wanted.entries:
        return wanted
    with progress("writing", "bytes") as bar, AuditLog(directory, service="reconcile") as audit:
        emitted = found.emit(audit, wanted, bar.update)
        if not audit.close(timeout=60.0):
            raise EnvironmentFault(f"{directory}: the disk does not take what is missing; the next load will finish it")
        if lost := audit.stats().lost:
            raise EnvironmentFault(
                f"{directory}: {count(lost, 'record')} lost: the disk took them too slowly; run again"
            )
    return emitted


# -- for machines --


def _as_json(found: Reconciliation, where: str, emitted: Emitted | None) -> dict[str, Any]:
    said = found.said
    known: dict[str, Any] = {
        "source": where,
        "orders": said.orders,
        "trades": said.trades,
        "missing": list(found.missing()),
        "unknown": list(found.unknown()),
        "different": list(found.different()),
        "equal": found.counts.equal,
        "not_said": found.not_said(),
        "covered": found.covered(),
        "unreadable": said.unreadable_total,
        "unreadable_first": [{"file": str(path), "line": line, "reason": why} for path, line, why in said.unreadable],
    }
    if emitted is not None:
        known["backfilled"] = {
            "orders": emitted.orders,
            "trades": emitted.trades,
            "in_log": emitted.in_log,
            "incomplete": emitted.incomplete,
        }
    return known


# -- for people --


def _print(found: Reconciliation, against: str, emitted: Emitted | None) -> None:
    to, said, counts = console(_PROSE), found.said, found.counts
    to.print(
        f"[bold]{count(said.orders, 'order')} and {count(said.trades, 'trade')}[/bold] of the exchange, held against ",
        end="",
    )
    to.print(against, markup=False, soft_wrap=True)
    _print_unreadable(to, found)
    _print_findings(to, found)
    words = [f"{getattr(counts, name):,} {name}" for name in ("missing", "unknown", "different", "equal")]
    to.print(", ".join(words), style="red" if counts.findings else "green")
    for kind, fields in found.not_said().items():
        listed = ", ".join(f"{name} ({times:,})" for name, times in fields.items())
        to.print(f"not said by the trail, {kind}s: {listed}", style="dim")
    if emitted is not None:
        _print_emitted(to, emitted)


def _print_findings(to: Console, found: Reconciliation) -> None:
    shown = table(("", "entry", "what"), wrapped=("entry", "what"))
    lists = {"missing": found.missing, "unknown": found.unknown, "different": found.different}
    for name, findings in lists.items():
        for one in findings(_SHOWN):
            words = _differences(one) if name == "different" else _contents(one)
            shown.add_row(Text(name, style=_STYLES[name]), cell(_entry(one)), cell(f"{words}; {_place(one)}"))
        if (hidden := getattr(found.counts, name) - _SHOWN) > 0:
            shown.add_row(Text(name, style=_STYLES[name]), Text("..."), Text(f"{hidden:,} more; --json lists all"))
    if shown.row_count:
        to.print(shown)


def _entry(one: Finding) -> str:
    id_ = one.get("trade_id") or one.get("order_id") or one.get("client_order_id") or "without id"
    of = "fills of order" if one["kind"] == "trade" and "fields" in one and "trade_id" not in one else one["kind"]
    return f"{of} {id_}, {one['exchange']} {one['symbol']}"


def _contents(one: Finding) -> str:
    words = [one.get("type"), one.get("side"), one.get("size") or one.get("executed_qty")]
    if price := one.get("price"):
        words += ["at", price]
    words += [one.get("status"), one.get("created_at") or one.get("executed_at")]
    return " ".join(word for word in words if word) or "nothing said"


def _differences(one: Finding) -> str:
    pairs = one["fields"].items()
    return "; ".join(f"{name}: {says} at the exchange, {has} in the trail" for name, (says, has) in pairs)


def _place(one: Finding) -> str:
    places = [f"{Path(one['file']).name}:{one['line']}"] if "file" in one else []
    places += [f"..{one['stream'][-6:]} seq {one['seq']}"] if "stream" in one else []
    return ", ".join(places)


def _print_unreadable(to: Console, found: Reconciliation) -> None:
    said = found.said
    if not said.unreadable_total:
        return
    shown = table(("file", "line", "why it is left out"), right=("line",), wrapped=("why it is left out",))
    for path, line, reason in said.unreadable:
        shown.add_row(cell(path.name), f"{line:,}", cell(reason))
    to.print(shown)
    hidden = said.unreadable_total - len(said.unreadable)
    more = f", {hidden:,} more than shown" if hidden else ""
    to.print(f"{count(said.unreadable_total, 'entry', 'entries')} left out{more}")


def _print_emitted(to: Console, emitted: Emitted) -> None:
    to.print(
        f"{count(emitted.orders, 'order')} and {count(emitted.trades, 'trade')} are now in the log; "
        "load them with: tradetrail load"
        if emitted.orders or emitted.trades
        else "nothing was written into the log"
    )
    if emitted.in_log:
        to.print(f"{count(emitted.in_log, 'entry', 'entries')} of the missing are in the log already", style="dim")
    if emitted.incomplete:
        to.print(f"{count(emitted.incomplete, 'entry', 'entries')} say too little for a record", style="yellow")
