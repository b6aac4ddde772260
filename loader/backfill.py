"""Backfill: files of ccxt orders and trades, written into the audit log as if the bot had said them.

A file is JSON lines, a JSON array or one JSON object. An entry is an order or one's own trade in ccxt's
unified structure, or ``{exchange, method, unified}`` around one or a list of them. Numbers are read exactly:
a fraction as ``Decimal``, an integer as ``int`` of any size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Literal, Protocol

from emitter.ccxt import order_fields, trade_fields

from .errors import EnvironmentFault, UsageError
from .place import Place

KIB = 1024
MIB = 1024 * KIB

_MAX_LINE_BYTES = 16 * MIB
_PEEK_BYTES = 8 * KIB
_COMPRESSED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF8_BOM = b"\xef\xbb\xbf"

# What only an order says, and what only a trade says (docs.ccxt.com, "Order Structure", "Trade Structure").
_OF_ORDER = ("status", "filled", "remaining", "lastTradeTimestamp", "lastUpdateTimestamp")
_OF_TRADE = ("order", "takerOrMaker")

# Between two looks at the ring at most this many records: lines of the greatest length then fill half of the
# usual ring of 32 MiB; a smaller one is looked at more often. Waiting begins at a quarter, because a part of the
# ring is kept for declaring losses: half of the smallest ring.
_RECORDS_PER_LOOK = 256
_LINE_BYTES = 64 * KIB
_FLUSH_SECONDS = 30.0
_UNREADABLE_KEPT = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One order or trade of a file; ``line`` is its line, or its place in an array, from 1."""

    line: int
    kind: Literal["order", "trade"]
    exchange: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands at a line (or place in an array, from 1) and is no entry, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class BackfillSummary:
    """What a backfill did. ``unreadable`` holds the first 20 as (path, line, reason)."""

    files: int
    orders: int
    trades: int
    unreadable_total: int
    unreadable: tuple[tuple[Path, int, str], ...]


class RingStats(Protocol):
    """The part of ``AuditLog.stats()`` that is looked at here."""

    @property
    def ring_used_bytes(self) -> int: ...
    @property
    def ring_bytes(self) -> int: ...


class Audit(Protocol):
    """The part of ``AuditLog`` that a backfill uses; a record's seq is 0 where the log takes none."""

    def order(self, **fields: Any) -> int: ...
    def trade(self, **fields: Any) -> int: ...
    def stats(self) -> RingStats: ...
    def flush(self, timeout: float) -> bool: ...


def backfill(
    paths: Sequence[Path],
    audit: Audit,
    *,
    exchange: str | None = None,
    progress: Callable[[int], None] | None = None,
    place: Place | None = None,
) -> BackfillSummary:
    """Write every order and trade of the files into ``audit``, in their order, with ``source="backfill"``.

    All readable entries are emitted, also those that lack a needed field: the loader rejects them and says
    why. A record's ``timestamp`` is the exchange's time of last change; an entry without any time gets none.
    ``exchange`` is for entries that do not name theirs. ``progress`` is called with the number of records
    emitted so far; ``place`` knows how far the files are read by then. A backfill is faster than a disk: whenever
    more than a quarter of the ring is used, it waits.

    Raises ``UsageError`` for a path that is missing or a directory (before anything is emitted) or is binary,
    ``EnvironmentFault`` where a file cannot be read, the log is closed or disabled, or its disk takes nothing
    for 30 seconds.
    """
    for path in paths:
        _check_path(path)
    pace = _Pace(audit, progress)
    orders = trades = unreadable_total = 0
    unreadable: list[tuple[Path, int, str]] = []
    for path in paths:
        for item in read_entries(path, place):
            if isinstance(item, Unreadable):
                unreadable_total += 1
                if len(unreadable) < _UNREADABLE_KEPT:
                    unreadable.append((path, item.line, item.reason))
                continue
            named = item.exchange or exchange
            if item.kind == "order":
                seq = audit.order(**order_fields(item.data, exchange=named), source="backfill")
                orders += 1
            else:
                seq = audit.trade(**trade_fields(item.data, exchange=named), source="backfill")
                trades += 1
            if not seq:
                raise EnvironmentFault("the audit log takes no records: it is closed, or disabled by a setting")
            pace.emitted(orders + trades)
    pace.look(orders + trades)
    return BackfillSummary(len(paths), orders, trades, unreadable_total, tuple(unreadable))


class _Pace:
    """Keeps the ring from overflowing: the bot's own calls never wait, a backfill's do."""

    def __init__(self, audit: Audit, progress: Callable[[int], None] | None) -> None:
        self._audit = audit
        self._progress = progress
        lines_in_half_a_ring = audit.stats().ring_bytes // (2 * _LINE_BYTES)
        self._every = max(1, min(_RECORDS_PER_LOOK, lines_in_half_a_ring))

    def emitted(self, records: int) -> None:
        if records % self._every == 0:
            self.look(records)

    def look(self, records: int) -> None:
        stats = self._audit.stats()
        if 4 * stats.ring_used_bytes > stats.ring_bytes and not self._audit.flush(timeout=_FLUSH_SECONDS):
            raise EnvironmentFault(
                f"the audit log's disk took nothing for {_FLUSH_SECONDS:.0f} seconds; stopped after {records}"
                " records: mend the disk and run the backfill again"
            )
        if self._progress is not None:
            self._progress(records)


def read_entries(path: Path, place: Place | None = None) -> Iterator[Entry | Unreadable]:
    """The orders and trades of a file, and what of it cannot be read, in the file's order.

    JSON lines are read one at a time, whatever the file's size; an array, or one object over several lines,
    is loaded whole. An order is told from a trade by ``method`` where the line has one (``...Trades`` gives
    trades), else by what is said: ``status``, ``filled``, ``remaining`` or a time of change make an order,
    else ``order`` or ``takerOrMaker`` a trade. Where none of them is said, the mere presence of these keys
    decides the same way; else it is an order, which the loader will reject.

    Raises, when first advanced, ``UsageError`` (missing, a directory, binary or compressed) or
    ``EnvironmentFault`` (no permission, or the disk fails).
    """
    _check_path(path)
    place = place or Place()
    with _opened(path) as file, place.within(file):
        start = file.peek(_PEEK_BYTES)[:_PEEK_BYTES]
        _check_text(path, start)
        if start.removeprefix(_UTF8_BOM).lstrip().startswith(b"["):
            yield from _from_document(1, file.read(), place)
            return
        lines = _lines(file)
        head = list(islice(lines, 2))
        if _is_one_object(head):
            yield from _from_document(head[0][0], b"".join(line for _, line in chain(head, lines)), place)
            return
        for number, line in chain(head, lines):
            yield from _from_line(number, line)


def _check_path(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise EnvironmentFault(f"{path}: no permission to look at it") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if S_ISDIR(mode):
        raise UsageError(f"{path}: a directory; name the files in it")


def _check_text(path: Path, start: bytes) -> None:
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise UsageError(f"{path}: {name} data; unpack it first")
    if b"\0" in start:
        raise UsageError(f"{path}: binary data; a backfill reads JSON in UTF-8")


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read: {error.strerror or error}") from error


def _lines(file: BufferedReader) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; one that is too long is cut behind the limit."""
    number = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
        number += 1
        part = line
        while part and not part.endswith(b"\n"):
            part = file.readline(_MAX_LINE_BYTES)
        if number == 1:
            line = line.removeprefix(_UTF8_BOM)
        if not line.isspace():
            yield number, line


def _is_one_object(head: list[tuple[int, bytes]]) -> bool:
    """Whether a file begins like one object over several lines, not like JSON lines with a broken one."""
    if len(head) < 2:
        return False
    first, second = (line.strip() for _, line in head)
    return (
        first.startswith(b"{") and first.endswith((b"{", b"[", b",")) and not isinstance(_parsed_or_none(second), dict)
    )


def _from_line(number: int, line: bytes) -> Iterator[Entry | Unreadable]:
    if len(line) > _MAX_LINE_BYTES:
        yield Unreadable(number, f"a line longer than {_MAX_LINE_BYTES // MIB} MiB")
        return
    try:
        value = _parsed(line.rstrip())
    except ValueError as error:
        yield Unreadable(number, str(error))
        return
    yield from _entries(number, value)


def _from_document(number: int, text: bytes, place: Place) -> Iterator[Entry | Unreadable]:
    try:
        value = _parsed(text.removeprefix(_UTF8_BOM))
    except ValueError as error:
        yield Unreadable(number, str(error))
        return
    if not isinstance(value, list):
        yield from _entries(number, value)
        return
    for nth, item in enumerate(value, 1):
        place.share = nth / len(value)
        yield from _entries(nth, item)


def _parsed(text: bytes) -> Any:
    """JSON with exact numbers; ``ValueError`` with one line for people."""
    try:
        return json.loads(text.decode(), parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise ValueError(f"not JSON: {error.msg.removesuffix(' at')} at {place}") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except (ArithmeticError, ValueError) as error:
        raise ValueError("a number too long to be read") from error


def _parsed_or_none(text: bytes) -> Any:
    try:
        return _parsed(text)
    except ValueError:
        return None


def _entries(number: int, value: Any) -> Iterator[Entry | Unreadable]:
    if not isinstance(value, dict):
        yield Unreadable(number, "not an object")
        return
    named = value.get("exchange")
    exchange = named if isinstance(named, str) and named else None
    if "unified" not in value:
        yield Entry(number, _kind(value), exchange, value)
        return
    unified = value["unified"]
    for item in unified if isinstance(unified, list) else [unified]:
        if isinstance(item, dict):
            yield Entry(number, _kind(item, value.get("method")), exchange, item)
        else:
            yield Unreadable(number, "'unified' is neither an object nor a list of objects")


def _kind(data: dict[str, Any], method: object = None) -> Literal["order", "trade"]:
    name = method.lower() if isinstance(method, str) else ""
    if "trades" in name:
        return "trade"
    if "order" in name:
        return "order"
    said = {key for key, value in data.items() if value is not None}
    for keys in (said, data.keys()):
        if not keys.isdisjoint(_OF_ORDER):
            return "order"
        if not keys.isdisjoint(_OF_TRADE):
            return "trade"
    return "order"
