"""What commands print: tables for people, JSON for machines."""

from __future__ import annotations

import base64
import datetime
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .text import count, one_line, size, visible
from .totals import Totals

# Off a terminal nothing is cut: who reads the file wants the whole.
_WIDE = 10_000


def console(width: int = _WIDE) -> Console:
    """For the answer, on stdout; ``width`` is for where there is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def errors_console() -> Console:
    """For progress, on stderr."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """One JSON value on one line."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """The value in JSON's types: decimals as strings without needless zeros, times as ISO 8601 in UTC."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
            return value.isoformat(timespec="microseconds") + "Z"
        return value.isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return str(value)


def decimal_text(value: Decimal) -> str:
    """A decimal without exponent and without zeros at its end."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def table(columns: Sequence[str], *, right: Iterable[str] = (), wrapped: Iterable[str] = ()) -> Table:
    """A table with columns aligned to the ``right``, cut where they are too long, or ``wrapped``."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(
            visible(name),
            justify="right" if name in right else "left",
            overflow="fold" if name in wrapped else "ellipsis",
            no_wrap=name not in wrapped,
        )
    return made


def cell(value: Any) -> Text:
    """A value in a table: never markup, never control signs."""
    if value is None:
        return Text("NULL", style="dim")
    known = plain(value)
    return Text(visible(known if isinstance(known, str) else json.dumps(known, ensure_ascii=False)))


def moment(value: datetime.datetime | None) -> str:
    """A time in UTC, to the second."""
    return f"{value.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S}" if value else ""


def print_findings(to: Console, totals: Totals) -> None:
    """Findings by rule, and what is wrong with files."""
    if totals.reasons:
        found = table(("", "rule", "lines", "example"), right=("lines",), wrapped=("example",))
        for (severity, rule), lines in totals.reasons.items():
            word = Text("rejected", style="red") if severity == "reject" else Text("repaired", style="yellow")
            found.add_row(word, rule, f"{lines:,}", cell(totals.examples.get((severity, rule), "")))
        to.print(found)
    print_problems(to, totals.problems)


def print_problems(to: Console, problems: Mapping[str, str]) -> None:
    """What is wrong with files, each on its line; what recovery says of a file that has a word already is left out."""
    for file, problem in problems.items():
        words = f"{file}: {problem}"
        if file.startswith("recovery "):
            if problem.partition(": ")[0] in problems:
                continue
            words = problem
        to.print(Text.assemble(("problem ", "red"), one_line(words)), soft_wrap=True)


def print_totals(to: Console, totals: Totals) -> None:
    """What a load did."""
    made = {
        "orders": totals.orders,
        "trades": totals.trades,
        "order_updates": totals.order_updates,
        "events": totals.events,
        "rejected": totals.rejected,
        "repaired": totals.repaired,
        "duplicates": totals.duplicates,
        "lost": totals.lost,
    }
    rate = f", {totals.records / totals.seconds:,.0f} records/s" if totals.records and totals.seconds else ""
    to.print(
        f"[bold]{count(totals.records, 'new record')}[/bold] from {count(totals.segments, 'segment')} "
        f"({size(totals.bytes)}) in {totals.seconds:.1f} s{rate}"
    )
    if totals.records or totals.lost:
        rows = table(("into", "records"), right=("records",))
        for name, number in made.items():
            if number or name in ("orders", "trades", "order_updates", "events"):
                style = {"rejected": "red", "lost": "red", "repaired": "yellow"}.get(name, "")
                rows.add_row(Text(name, style=style), f"{number:,}")
        to.print(rows)
    print_findings(to, totals)
