"""The two sides that are held against each other, each as a CSV file of the same columns.

What the exchange says comes from files of ccxt orders and trades, as a backfill reads them. What the trail has comes
from the raw log or from PostgreSQL.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from emitter.ccxt import order_fields, trade_fields
from emitter.values import clean_text

from .. import statements
from ..backfill import Entry, Unreadable, read_entries
from ..database import Database
from ..errors import EnvironmentFault, UsageError
from ..migrate import require_current
from ..place import Place
from ..query import RawLog

UNREADABLE_KEPT = 20
_LOOK_EVERY = 1000
_SIZES = {"order": "size", "trade": "executed_qty"}
_NUMBERS = {"order": ("price", "size", "filled", "remaining", "fee"), "trade": ("price", "executed_qty", "fee")}
_OWN_NAMES = {
    "order": ("order_id", "type", "size", "created_at"),
    "trade": ("trade_id", "order_type", "executed_qty", "executed_at"),
}
# What the raw views' DECIMAL(38,18) cannot hold, and so cannot be compared.
_TOO_LARGE = 10**20
_TABLES = {"order": "orders", "trade": "trades"}
# (exchange in lower case, symbol in the trail, symbol in the files)
Name = tuple[str, str, str]
# A spot or a perpetual market of ccxt; a bot may know it by the exchange's own name, which is this without signs.
_UNIFIED = re.compile(r"([^/:]+)/([^/:-]+)(?::[^/:-]+)?")


@dataclass(slots=True)
class Said:
    """What was read of the files: how much, in which markets, and what cannot be held against anything, and why."""

    orders: int = 0
    trades: int = 0
    markets: set[tuple[str, str]] = field(default_factory=set)
    unreadable_total: int = 0
    unreadable: list[tuple[Path, int, str]] = field(default_factory=list)

    def leave_out(self, path: Path, line: int, reason: str) -> None:
        self.unreadable_total += 1
        if len(self.unreadable) < UNREADABLE_KEPT:
            self.unreadable.append((path, line, reason))


def write_said(paths: Sequence[Path], to: Path, exchange: str | None, progress: Callable[[int, int], None]) -> Said:
    """Write what files say to ``to``, numbered by their entries; ``exchange`` is for entries that do not name theirs.

    ``progress`` is told bytes done and in all. Errors: those of :func:`~loader.backfill.read_entries`, and
    ``UsageError`` for an entry without exchange.
    """
    said, number, place = Said(), 0, Place(paths)
    with _writer(to) as write:
        for path in paths:
            for item in read_entries(path, place):
                if isinstance(item, Unreadable):
                    said.leave_out(path, item.line, item.reason)
                    continue
                number += 1
                fields = _fields(item, exchange)
                if not isinstance(fields.get("exchange"), str):
                    raise UsageError(f"{path}, line {item.line}: does not name its exchange; name it with --exchange")
                if reason := _cannot_be_found(item.kind, fields):
                    said.leave_out(path, item.line, reason)
                    continue
                market = _text(fields["exchange"]).lower(), _text(fields["symbol"])
                said.markets.add(market)
                said.orders += item.kind == "order"
                said.trades += item.kind == "trade"
                write([number, path, item.line, item.kind, *market, *_values(item.kind, fields)])
                if number % _LOOK_EVERY == 0:
                    progress(place.done, place.total)
    return said


def names_of(markets: Iterable[tuple[str, str]]) -> list[Name]:
    """Under which names the trail may have these markets: the same, or the exchange's own where that is clear."""
    known = set(markets)
    own: dict[tuple[str, str], list[str]] = {}
    for exchange, symbol in sorted(known):
        if match := _UNIFIED.fullmatch(symbol):
            own.setdefault((exchange, match[1] + match[2]), []).append(symbol)
    found = [(exchange, symbol, symbol) for exchange, symbol in sorted(known)]
    return found + [(*market, of[0]) for market, of in own.items() if len(of) == 1 and market not in known]


def write_logs(log: RawLog, to: Path, names: Sequence[Name], statement: str = "logs_trail") -> None:
    """Write what the raw views have of these markets."""
    if not names:
        to.touch()
        return
    lists = {
        "{exchanges}": _listed(exchange for exchange, _, _ in names),
        "{symbols}": _listed(symbol for _, symbol, _ in names),
    }
    sql = statements.load("reconcile/sides.sql")[statement]
    for word, texts in lists.items():
        sql = sql.replace(word, texts)
    with _writer(to) as write:
        for row in log.query(sql).rows:
            write(row)


async def write_database(dsn: str, to: Path, names: Sequence[Name]) -> list[tuple[str | int | None, ...]]:
    """Write what PostgreSQL has of these markets; for each kind the decimals that its columns keep.

    Errors: those of the database's door; ``TerminalError`` where its tables are not those of this program.
    """
    async with await Database.connect(dsn) as database:
        await require_current(database)
        with _writer(to) as write:
            async for row in _database_rows(database, names):
                write(row.values())
        return [(kind, *await _scales(database, kind)) for kind in _TABLES]


async def _database_rows(database: Database, names: Sequence[Name]) -> AsyncGenerator[dict[str, Any]]:
    sql = statements.load("reconcile/sides.sql")
    exchanges, symbols = ({name[at] for name in names} for at in (0, 1))
    async with database.transaction():  # a cursor sees one instant
        await database.execute(sql["database_trail"], list(exchanges), list(symbols))
        while rows := await database.fetch(sql["database_trail_next"]):
            for row in rows:
                yield row


async def _scales(database: Database, kind: str) -> list[int | None]:
    """For price, size, filled, remaining and fee."""
    columns = await database.columns(_TABLES[kind])
    names = [_SIZES[kind] if name == "size" else name for name in ("price", "size", "filled", "remaining", "fee")]
    return [columns[name].scale if name in columns else None for name in names]


def _fields(entry: Entry, exchange: str | None) -> dict[str, Any]:
    make = order_fields if entry.kind == "order" else trade_fields
    return make(entry.data, exchange=entry.exchange or exchange)


def _cannot_be_found(kind: str, fields: dict[str, Any]) -> str | None:
    if not isinstance(fields.get("symbol"), str):
        return f"{'an order' if kind == 'order' else 'a trade'} without symbol"
    if kind == "order" and not (fields.get("order_id") or fields.get("client_order_id")):
        return "an order without id"
    if kind == "trade" and not fields.get("trade_id") and not (fields.get("price") and fields.get("executed_qty")):
        return "a trade without id, price or amount"
    for name in _NUMBERS[kind]:
        value = fields.get(name)
        if isinstance(value, int | Decimal) and abs(Decimal(value)) >= _TOO_LARGE:
            return f"{name} has more than 20 digits before its point"
    return None


def _values(kind: str, fields: dict[str, Any]) -> list[str]:
    id_, type_, size, at = _OWN_NAMES[kind]
    names = (id_, "order_id", "client_order_id", "side", type_, "status", "price", size, "filled", "remaining")
    more = ("fee", "fee_currency", "fees", at if at in fields else "timestamp", "timestamp")
    return [_text(fields.get(name)) for name in (*names, *more)]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.isascii() and "\0" not in value else clean_text(value)  # as the log would have it
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, default=str)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join("'" + text.replace("'", "''") + "'" for text in sorted(set(texts)))


@contextmanager
def _writer(path: Path) -> Iterator[Callable[[Iterable[Any]], Any]]:
    """Rows into a CSV file; a full disk is an ``EnvironmentFault``."""
    try:
        with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            yield csv.writer(file, lineterminator="\n").writerow
    except OSError as error:
        if error.filename not in (None, str(path)):
            raise
        raise EnvironmentFault(f"{path.parent}: cannot be written: {error.strerror}; free some space there") from error
