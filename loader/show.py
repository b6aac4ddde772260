"""What commands print: tables for people, JSON for machines."""

from __future__ import annotations

import base64
import datetime
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from .text import count, json_escaped, one_line, size, visible
from .totals import Totals

# Off a terminal nothing is cut: who reads the file wants the whole.
_WIDE = 10_000


def console(width: int = _WIDE) -> Console:
    """For the answer, on stdout; ``width`` is for where there is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def errors_console() -> Console:
    """For progress, on stderr."""
    return Console(stderr=True, highlight=False)


class Lines:
    """Where lines of CSV are written: the standard output, as they are, unless it is a terminal."""

    def write(self, text: str) -> int:
        if sys.stdout.isatty():
            text = "\n".join(map(visible, text.split("\n")))
        return sys.stdout.write(text)


def print_json(value: object) -> None:
    """One JSON value on one line."""
    sys.stdout.write(json_escaped(json.dumps(plain(value), ensure_ascii=False, allow_nan=False)) + "\n")
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
    """A table with columns aligned to the ``right``, cut where they are too long, or ``wrapped``.

    Where it is too wide, first those that are not aligned to the right give way: a number that is cut is another one.
    """
    made = _Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(
            visible(name),
            justify="right" if name in right else "left",
            overflow="fold" if name in wrapped else "ellipsis",
            no_wrap=name in right and name not in wrapped,  # rich takes from these last
        )
    return made


class _Table(Table):
    """A table whose texts stay on one line, also where rich may make their column narrower; a blank line around it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text()
        yield from super().__rich_console__(console, options)
        yield Text()

    def add_row(self, *cells: RenderableType | None, **how: Any) -> None:
        super().add_row(*map(self._on_one_line, self.columns, cells), **how)

    @staticmethod
    def _on_one_line(column: Column, cell: RenderableType | None) -> RenderableType | None:
        if column.overflow == "fold" or not isinstance(cell, str | Text):
            return cell
        text = Text.from_markup(cell) if isinstance(cell, str) else cell
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


def stacked(shown: Table) -> Table:
    """The same table with each word of its headings on a line of its own, for narrow figures."""
    for column in shown.columns:
        column.header = str(column.header).replace(" ", "\n")
        column.no_wrap = False
    return shown


def fitting(to: Console, columns: Sequence[str], spare: Sequence[str], make: Callable[[Sequence[str]], Table]) -> Table:
    """The widest table that ``make`` can make on this console: of all columns, else without the first ones to spare."""
    for left_out in range(len(spare) + 1):
        shown = make([name for name in columns if name not in spare[:left_out]])
        if Measurement.get(to, to.options.update(max_width=_WIDE), shown).maximum <= to.width:
            break
    return shown


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
