"""What ``tradetrail live`` shows: one look as lines and tables that fill a terminal of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..show import cell, decimal_text, fitting, moment
from ..text import count, one_line, visible
from .looks import Row, Seen, Stream

_ORDER = ("orders", "exchange", "symbol", "type", "side", "size", "price", "filled", "status")
_ORDER_SPARE = ("filled", "exchange", "type", "size")
_TRADE = ("trades", "exchange", "symbol", "side", "quantity", "price", "fee", "position")
_TRADE_SPARE = ("position", "exchange", "fee")
_STREAM = ("streams", "id", "state", "records", "lost", "rejected", "behind")
_STREAM_SPARE = ("id", "rejected", "behind")
_RIGHT = ("size", "price", "filled", "quantity", "records", "lost", "rejected", "behind")
_STYLES = {"buy": "green", "sell": "red", "FILLED": "green", "REJECTED": "red", "live": "green", "unfinished": "red"}
_MOST_PROBLEMS = 3
_DIGEST_SIGNS = 16


def frame(seen: Seen, where: str, to: Console, lines: int, *, rate: float | None = None, help_: str = "") -> Group:
    """One look, as wide as the console and at most ``lines`` high. ``rate``: records a second since the one before."""
    now = datetime.now(UTC)
    head = [_head(where, now, to.width, help_), *_verdict(seen), *_figures(seen, now, rate)]
    left = lines - len(head) - 1
    parts: list[Text | Table] = [*head]
    if seen.streams:
        shown = max(1, min(len(seen.streams), left // 4 - 1))
        parts += [Text(), _streams(seen.streams[:shown], to)]
        left -= shown + 2
    half = max(1, (left - 3) // 2)
    # What one of them does not need is the other's.
    orders = min(len(seen.orders), max(half, left - 3 - max(1, len(seen.trades))))
    trades = min(len(seen.trades), max(1, left - 3 - max(1, orders)))
    parts += [Text(), _table(seen.orders[:orders], _ORDER, _ORDER_SPARE, _of_order, now, to)]
    parts += [Text(), _table(seen.trades[:trades], _TRADE, _TRADE_SPARE, _of_trade, now, to)]
    return Group(*parts)


def _head(where: str, now: datetime, width: int, help_: str) -> Text:
    left = Text.assemble(("tradetrail live", "bold"), "  ", visible(where), no_wrap=True, overflow="ellipsis")
    right = "  ".join(filter(None, (help_, f"{moment(now)} UTC")))
    if width <= 200:  # a terminal; off one the time follows
        left.truncate(max(1, width - len(right) - 2), overflow="ellipsis", pad=True)
    return left.append(f"  {right}", "dim")


def _verdict(seen: Seen) -> list[Text]:
    """What needs somebody, the worst first; one line that says so where nothing does."""
    found = []
    if seen.away:
        found.append(_line("red bold", f"the database is away: {seen.away}; trying again"))
    if missing := seen.total("missing"):
        found.append(_line("red", f"{count(missing, 'record is', 'records are')} lost: see tradetrail verify"))
    for file, problem in list(seen.problems.items())[:_MOST_PROBLEMS]:
        found.append(_line("red", f"{file}: {problem}"))
    if len(seen.problems) > _MOST_PROBLEMS:
        found.append(_line("red", f"and {count(len(seen.problems) - _MOST_PROBLEMS, 'more problem')}"))
    if dead := sum(stream.state == "unfinished" for stream in seen.streams):
        words = f"{count(dead, 'stream is', 'streams are')} unfinished: the emitter died; the next load finishes it"
        found.append(_line("yellow", words))
    if rejected := seen.total("rejected"):
        found.append(_line("yellow", f"{count(rejected, 'line')} rejected: see tradetrail rejects"))
    if not found and not seen.streams:
        return [_line("", "no streams yet: no emitter has written here")]
    return found or [_line("green", "all well: no record is missing, no file has a problem")]


def _figures(seen: Seen, now: datetime, rate: float | None) -> list[Text]:
    live = sum(stream.state == "live" for stream in seen.streams)
    records = count(seen.total("records") or 0, "record")
    if rate is not None:
        records += f" (+{rate:,.1f}/s)"
    words = [count(len(seen.streams), "stream") + (f", {live:,} live" if live else ""), count(seen.segments, "segment")]
    words.append(records)
    if (behind := seen.total("behind")) is not None and seen.streams:
        words.append(f"{behind:,} behind")
    ages = [f"{what} {_ago(at, now)}" for what, at in (("last record", seen.last_at), ("loaded", seen.loaded_at)) if at]
    if seen.newest:
        newest = seen.newest
        signs = newest.sha256[:_DIGEST_SIGNS]
        ages.append(f"last digest {signs} of {newest.service} ..{newest.stream[-6:]} segment {newest.segment}")
    return [_line("", "; ".join(part)) for part in (words, ages) if part]


def _line(style: str, words: str) -> Text:
    return Text(one_line(words), style=style, no_wrap=True, overflow="ellipsis")


def _ago(at: datetime, now: datetime) -> str:
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit} ago"
    return f"{seconds} s ago"


# -- tables: a heading and a line each, nothing around them --


def _made(columns: Sequence[str]) -> Table:
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        right = name in _RIGHT
        made.add_column(name, justify="right" if right else "left", overflow="ellipsis", no_wrap=True)
    return made


def _streams(streams: Sequence[Stream], to: Console) -> Table:
    def make(names: Sequence[str]) -> Table:
        shown = _made(names)
        for one in streams:
            cells = {
                "streams": cell(one.service),
                "id": Text(f"..{one.stream[-6:]}"),
                "state": _styled(one.state),
                "records": Text(f"{one.records:,}"),
                "lost": Text(f"{one.missing:,}", style="red" if one.missing else ""),
                "rejected": Text("-" if one.rejected is None else f"{one.rejected:,}"),
                "behind": Text("-" if one.behind is None else f"{one.behind:,}"),
            }
            shown.add_row(*(cells[name] for name in names))
        return shown

    known = [name for name in _STREAM if name not in ("rejected", "behind") or getattr(streams[0], name) is not None]
    return fitting(to, known, _STREAM_SPARE, make)


def _table(
    rows: Sequence[Row],
    columns: Sequence[str],
    spare: Sequence[str],
    cells_of: Callable[[Row, datetime], Mapping[str, Text]],
    now: datetime,
    to: Console,
) -> Table:
    all_cells = [cells_of(row, now) for row in rows]

    def make(names: Sequence[str]) -> Table:
        shown = _made(names)
        for cells in all_cells:
            shown.add_row(*(cells[name] for name in names))
        if not rows:
            shown.add_row(Text("none yet", style="dim"))
        return shown

    return fitting(to, columns, spare, make)


def _of_order(row: Row, now: datetime) -> Mapping[str, Text]:
    words = {name: _word(row[name]) for name in ("exchange", "symbol", "type")}
    numbers = {name: _number(row[name]) for name in ("size", "price", "filled")}
    return {"orders": _when(row["at"], now), **words, **numbers, **{n: _styled(row[n]) for n in ("side", "status")}}


def _of_trade(row: Row, now: datetime) -> Mapping[str, Text]:
    words = {name: _word(row[name]) for name in ("exchange", "symbol")}
    numbers = {name: _number(row[name]) for name in ("quantity", "price")}
    more = {"side": _styled(row["side"]), "fee": Text(_fee(row)), "position": _word(row["position_id"])}
    return {"trades": _when(row["at"], now), **words, **numbers, **more}


def _when(at: datetime | None, now: datetime) -> Text:
    if at is None:
        return Text("?")
    at = at.astimezone(UTC)
    return Text(f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}")


def _word(value: Any) -> Text:
    return Text("" if value is None else one_line(str(value)))


def _styled(value: Any) -> Text:
    word = _word(value)
    word.stylize(_STYLES.get(word.plain, _STYLES.get(word.plain.upper(), _STYLES.get(word.plain.lower(), ""))))
    return word


def _number(value: Any) -> Text:
    return Text(_amount(value))


def _amount(value: Any) -> str:
    """A number with the digits it was given with; anything else as it is."""
    if value is None:
        return ""
    try:
        return decimal_text(Decimal(str(value)))
    except InvalidOperation:
        return one_line(str(value))


def _fee(row: Row) -> str:
    """What was paid: each fee with its currency."""
    fees = row["fees"] or row["fee"]
    each = fees if isinstance(fees, list) else [fees]
    said = []
    for one in each:
        cost = one.get("cost") if isinstance(one, Mapping) else one
        currency = one.get("currency") if isinstance(one, Mapping) else row["fee_currency"]
        if cost is not None:
            said.append(f"{_amount(cost)} {one_line(str(currency or ''))}".strip())
    return " + ".join(said)
