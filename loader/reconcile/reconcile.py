"""``tradetrail reconcile``: what the exchange says, held against the trail.

Both sides go into DuckDB as they are; ``sql/reconcile/compare.sql`` says which entries are the same, and how they
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import duckdb

from .. import statements
from ..backfill import Audit, RingStats, backfill
from ..ending import run
from ..errors import EnvironmentFault, UsageError
from ..place import Place
from ..query import RawLog
from ..validate import open_engine
from .sides import Said, names_of, write_database, write_logs, write_said

SOURCE = "reconcile"
_ALL = 2**62
_TABLES = ("paired", "gathered", "slack", "pairs", "differences", "missing", "unknown")
# What a column of both kinds is called in a record of this one.
_NAMES: dict[str, dict[str, str | None]] = {
    "order": {"id": None, "happened_at": "created_at"},
    "trade": {"id": "trade_id", "size": "executed_qty", "type": "order_type", "happened_at": "executed_at"},
}

Finding = dict[str, Any]
Progress = Callable[[int, int], None]
Share = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is compared: files, and of their time only from ``since`` until before ``until``.

    ``exchange`` is for entries that do not name theirs; ``tolerance`` is how many ticks numbers may lie apart.
    """

    files: Sequence[Path]
    exchange: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries: missing in the trail, unknown to the exchange, different, and equal."""

    missing: int
    unknown: int
    different: int
    equal: int

    @property
    def findings(self) -> int:
        return self.missing + self.unknown + self.different


@dataclass(frozen=True, slots=True)
class Emitted:
    """What a backfill does with the missing: ``entries`` are written, by their numbers in the files.

    ``in_log`` were in the log before, ``incomplete`` say too little for a row. ``orders`` and ``trades``: written.
    """

    entries: frozenset[int]
    in_log: int
    incomplete: int
    orders: int = 0
    trades: int = 0


class Reconciliation:
    """One comparison. Use as a context manager; ``folder`` is for its files.

    First :meth:`read` the files, then give it the trail by :meth:`hold_against_logs` or :meth:`hold_against_database`;
    then it can be asked.
    """

    def __init__(self, asked: Asked, folder: Path) -> None:
        self._asked = asked
        self._folder = folder
        self._sides = statements.load("reconcile/sides.sql")
        self._compare = statements.load("reconcile/compare.sql")
        self.said = Said()
        self.counts = Counts(0, 0, 0, 0)
        self._names: list[tuple[str, str, str]] = []

    def __enter__(self) -> Self:
        self._duck = open_engine(self._folder)
        for name in ("scales", "names"):
            self._run(self._sides[name])
        self._run(self._compare["setup"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._duck.close()

    def read(self, progress: Progress) -> None:
        """Read the files; ``progress`` is told bytes done and in all."""
        path = self._folder / "said.csv"
        self.said = write_said(self._asked.files, path, self._asked.exchange, progress)
        self._take("said", path)
        self._names = names_of(self.said.markets)
        self._fill("names", self._names)

    def hold_against_logs(self, directory: Path, progress: Share) -> None:
        """Compare with the raw log as it is now; ``progress`` is told what :class:`~loader.query.RawLog` tells."""
        path = self._folder / "trail.csv"
        with RawLog(directory, progress) as log:
            write_logs(log, path, self._names)
        self._hold_against(path)

    def hold_against_database(self, dsn: str) -> None:
        """Compare with what PostgreSQL has from the log; rows that are the bot's own are no part of the trail."""
        path = self._folder / "trail.csv"
        self._fill("scales", run(write_database(dsn, path, self._names)))
        self._hold_against(path)

    def _hold_against(self, path: Path) -> None:
        self._take("trail", path)
        asked = self._asked
        values = {"since": asked.since, "until": asked.until, "tolerance": asked.tolerance}
        for name in ("said", "trail", "spans", *_TABLES):
            sql = self._compare[name]
            self._run(sql, {key: value for key, value in values.items() if f"${key}" in sql})
        ((missing, unknown, different, equal),) = self._run(self._compare["counts"]).fetchall()
        self.counts = Counts(missing, unknown, different, int(equal))

    # -- answers --

    def missing(self, most: int = _ALL) -> Iterator[Finding]:
        """What the exchange has and the trail not."""
        return self._listed("list_missing", most)

    def unknown(self, most: int = _ALL) -> Iterator[Finding]:
        """What the trail has within the files' time and markets, and the exchange not."""
        return self._listed("list_unknown", most)

    def different(self, most: int = _ALL) -> Iterator[Finding]:
        """What both have; ``fields`` maps names to [what the exchange says, what the trail has]."""
        for found in self._listed("list_different", most):
            fields = {name: [says, has] for name, says, has in found["fields"]}
            yield {**found, "fields": fields}

    def covered(self) -> list[Finding]:
        """By kind and market: from when until when the files were taken to be whole, and their entries."""
        return list(self._rows("list_spans"))

    def not_said(self) -> dict[str, dict[str, int]]:
        """By kind and field: how often the trail does not say what the exchange does."""
        found: dict[str, dict[str, int]] = {}
        for row in self._rows("not_said"):
            name = _NAMES[row["kind"]].get(row["field"]) or row["field"]
            found.setdefault(row["kind"], {})[name] = row["times"]
        return found

    # -- backfill --

    def not_logged(self, directory: Path, progress: Share) -> Emitted:
        """Which of the missing are to be written into the log: it does not name them yet, and they make a row."""
        path = self._folder / "logged.csv"
        with RawLog(directory, progress) as log:
            write_logs(log, path, self._names, "logs_named")
        self._take("logged", path)
        found = self._run(self._compare["to_emit"]).fetchall()
        whats = [what for _, what in found]
        entries = frozenset(n for n, what in found if what == "emit")
        return Emitted(entries, whats.count("in the log"), whats.count("incomplete"))

    def emit(self, audit: Audit, wanted: Emitted, progress: Progress) -> Emitted:
        """Read the files a second time, and write what is wanted of them, marked by ``source``.

        Markets get the names that the trail has for them.
        """
        own = {
            (exchange, symbol): names for exchange, symbol, *names in self._run(self._compare["own_names"]).fetchall()
        }
        chosen = _Chosen(audit, wanted.entries, own)
        place = Place(self._asked.files)
        backfill(
            self._asked.files,
            chosen,
            exchange=self._asked.exchange,
            progress=lambda _: progress(place.done, place.total),
            place=place,
        )
        return replace(wanted, orders=chosen.orders, trades=chosen.trades)

    # -- the engine --

    def _take(self, side: Literal["said", "trail", "logged"], path: Path) -> None:
        self._run(self._sides[side], {"path": str(path)})
        path.unlink()

    def _fill(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            self._run(f"INSERT INTO {table} SELECT {', '.join(['unnest(?)'] * len(columns))}", columns)

    def _run(self, sql: str, values: object = None) -> duckdb.DuckDBPyConnection:
        try:
            return self._duck.execute(sql, values or None)
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise EnvironmentFault(f"DuckDB: {error}") from error

    def _rows(self, name: str, **values: int) -> Iterator[Finding]:
        answer = self._run(self._compare[name], values)
        columns = [str(column[0]) for column in answer.description or ()]
        while rows := answer.fetchmany(1000):
            for row in rows:
                yield dict(zip(columns, row, strict=True))

    def _listed(self, name: str, most: int) -> Iterator[Finding]:
        """Rows under the names of their kind of record, without what nobody says."""
        for row in self._rows(name, most=most):
            names = _NAMES[row["kind"]]
            called = {names.get(column, column): value for column, value in row.items() if value is not None}
            yield {column: value for column, value in called.items() if column is not None}


class _Chosen:
    """A log that takes only entries of some numbers, and marks them; ``own`` has the trail's names of markets."""

    def __init__(self, audit: Audit, wanted: frozenset[int], own: Mapping[tuple[str, str], Sequence[str]]) -> None:
        self._audit = audit
        self._wanted = wanted
        self._own = own
        self._number = 0
        self.orders = self.trades = 0

    def order(self, **fields: Any) -> int:
        if not self._is_wanted():
            return self._number
        self.orders += 1
        return self._audit.order(**self._marked(fields))

    def trade(self, **fields: Any) -> int:
        if not self._is_wanted():
            return self._number
        self.trades += 1
        return self._audit.trade(**self._marked(fields))

    def stats(self) -> RingStats:
        return self._audit.stats()

    def flush(self, timeout: float) -> bool:
        return self._audit.flush(timeout)

    def _is_wanted(self) -> bool:
        self._number += 1
        return self._number in self._wanted

    def _marked(self, fields: dict[str, Any]) -> dict[str, Any]:
        exchange, symbol = fields["exchange"], fields["symbol"]
        exchange, symbol = self._own.get((exchange.lower(), symbol), (exchange, symbol))
        return {**fields, "exchange": exchange, "symbol": symbol, "source": SOURCE}


def check_readable_twice(files: Sequence[Path]) -> None:
    """A backfill reads the files again: a pipe has nothing left then."""
    for path in files:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(f"{path}: is no regular file; --backfill reads it twice: save it to a file first")
