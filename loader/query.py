"""DuckDB over the raw files: the views of ``sql/views/raw.sql``, in an engine that reads the log and writes nothing.

A torn last line, an empty file, a line that is no record are left out; bytes that a later segment replaces too.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb

from emitter.records import CONTROL_EVENTS, KINDS, Kind

from . import statements
from .errors import EnvironmentFault, UsageError
from .inventory import Inventory, SegmentFile, is_living, take_inventory
from .round_trips import round_trips
from .settings import MIB
from .spool import batches, harmless
from .tail import Pending
from .workspace import workspace

T = TypeVar("T")

VIEWS = ("records", "orders", "trades", "order_updates", "events", "segments", "round_trips")
_MEMORY_LIMIT = "512MB"
_SCAN_BYTES = 16 * MIB
_GRACE_S = 1.0
_HINT = f"the views are {', '.join(VIEWS)}; 'tradetrail query' alone lists their columns"


@dataclass(frozen=True, slots=True)
class View:
    """A view: what it is, and its columns as (name, type)."""

    name: str
    says: str
    columns: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Answer:
    """The answer to a query: columns as (name, type), and rows as they come."""

    columns: tuple[tuple[str, str], ...]
    rows: Iterator[tuple[Any, ...]]


class RawLog:
    """The views over one log directory as it is now. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._done: threading.Event | None = None

    def __enter__(self) -> Self:
        inventory = take_inventory(self._directory)
        self.problems = inventory.problems
        try:
            temporary = self._stack.enter_context(workspace())
            self._open(inventory, temporary)
        except OSError as error:
            self._stack.close()
            raise EnvironmentFault(f"{error.filename or 'a temporary folder'}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self, inventory: Inventory, temporary: Path) -> None:
        sql = statements.load("views/raw.sql")
        spill = temporary / "spill"
        spill.mkdir()
        self._duck = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY_LIMIT,
                "temp_directory": str(spill),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        self._stack.callback(self._close)
        run = self._duck.execute
        run("SET TimeZone = 'UTC'")
        run(statements.load("load/checks.sql")["setup"])
        run(sql["setup"])
        paths = [
            (str(path), file.name.stream, file.name.number)
            for file in inventory.files
            for path in _readable(file, inventory.end(file), temporary)
        ]
        self._insert("raw.files", [_described(file, inventory) for file in inventory.files])
        self._insert("raw.paths", paths)
        listed = ", ".join(_quoted(path) for path, *_ in paths)
        run(sql["lines"].replace("getvariable('segment_files')", f"[{listed}]") if paths else sql["no_lines"])
        run(sql["records"])
        for kind in KINDS:
            name = "orders_created" if kind.table == "orders" else kind.table
            run(sql[name].replace("FROM accepted", f"FROM ({accepted(kind)}) AS accepted"))
        run(sql["orders"])
        run(sql["segments"])
        run(statements.load("metrics/duckdb.sql")["setup"])
        run(f"CREATE VIEW round_trips AS {round_trips('duckdb')}")
        run("COMMENT ON VIEW round_trips IS 'what was opened and closed, by FIFO: one row for each round trip'")
        # From here on it reads this directory and the copies, and nothing can be set any more.
        run(f"SET allowed_directories = [{_quoted(str(self._directory.resolve()))}, {_quoted(str(temporary))}]")
        run("SET enable_external_access = false")
        run("SET lock_configuration = true")

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._duck.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608

    def views(self) -> list[View]:
        """The views and their columns."""
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        listed = self._duck.execute(statements.load("views/raw.sql")["list_views"]).fetchall()
        for name, says, column, type_ in listed:
            found.setdefault((name, says), []).append((column, type_))
        return [View(name, says, tuple(columns)) for (name, says), columns in found.items()]

    def query(self, sql: str) -> Answer:
        """Run one SELECT; times come as ISO 8601 text in UTC. A :class:`UsageError` says what DuckDB has against it."""
        try:
            asked = self._duck.extract_statements(sql)
            if len(asked) != 1 or asked[0].type != duckdb.StatementType.SELECT:
                raise UsageError(f"one SELECT, and nothing else, can be asked; {_HINT}")
            # A SELECT may write files by a COPY in its WITH clause; DuckDB refuses that inside another query.
            inner = f"FROM (\n{sql.strip().rstrip(';')}\n)"
            described = self._duck.execute(f"DESCRIBE SELECT * {inner}").fetchall()
            columns = tuple((str(row[0]), str(row[1])) for row in described)
            outer = ", ".join(_as_fetched(at, type_) for at, (_, type_) in enumerate(columns, 1))
            text = f"SELECT {outer} {inner}"
            return Answer(columns, self._fetched(self._interruptible(lambda: self._duck.execute(text))))
        except duckdb.Error as error:
            raise _fault(error) from error

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a statement of the program's own, which selects no times."""
        try:
            done = self._interruptible(lambda: self._duck.execute(sql))
            names = [str(column[0]) for column in done.description or ()]
            return [dict(zip(names, row, strict=True)) for row in self._fetched(done)]
        except duckdb.Error as error:
            raise _fault(error) from error

    def _interruptible(self, work: Callable[[], T]) -> T:
        """Do it in a thread: DuckDB would not see a signal before it is through."""
        done = self._done = threading.Event()
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                found.append(work())
            except BaseException as error:  # noqa: BLE001  raised again where it belongs
                failed.append(error)
            finally:
                done.set()

        threading.Thread(target=run, daemon=True).start()
        try:
            done.wait()
        except BaseException:
            self._duck.interrupt()
            done.wait(_GRACE_S)
            raise
        if failed:
            raise failed[0]
        return found[0]

    def _close(self) -> None:
        if self._done is None or self._done.is_set():
            self._duck.close()

    def _fetched(self, done: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
        try:
            while rows := self._interruptible(lambda: done.fetchmany(1000)):
                yield from rows
        except duckdb.Error as error:
            raise _fault(error) from error


def accepted(kind: Kind) -> str:
    """The records of a kind that break none of the loader's rules (but those about a database's columns)."""
    names = [f.name for f in kind.fields]
    shape = json.dumps({f.name: "JSON" if f.type in ("fee", "fees") else "VARCHAR" for f in kind.fields})
    values = ", ".join(
        f'a."{f.name}" AS "{f.name}"' if f.type in ("fee", "fees") else f'nullif(a."{f.name}", \'\') AS "{f.name}"'
        for f in kind.fields
    )
    if kind.event_name:
        is_kind = f"event_name = '{kind.event_name}'"
    else:
        others = (*CONTROL_EVENTS, *(other.event_name for other in KINDS if other.event_name))
        listed = ", ".join(_quoted(name) for name in others)
        is_kind = f"event_name NOT IN ({listed})"
    source = (
        f'SELECT stream, seq, "timestamp", event_name, severity_text, attributes, {values} '  # noqa: S608
        f"FROM (SELECT *, CASE WHEN random() < 2 THEN json_transform(attributes, '{shape}') END AS a "
        f"FROM records WHERE {is_kind})"
    )
    if "fees" in names:
        fees = statements.load("load/checks.sql")["fees"].rstrip(";")
        source = fees.replace("FROM source", f"FROM ({source})")
    conditions = ["true"]
    for f in kind.fields:
        if f.required:
            conditions.append(f'"{f.name}" IS NOT NULL')
        if f.type in ("number", "fee"):
            conditions.append(f'("{f.name}" IS NULL OR is_number("{f.name}") OR is_infinite_or_nan("{f.name}"))')
        if f.type == "time":
            conditions.append(f'("{f.name}" IS NULL OR is_moment("{f.name}"))')
    if kind.name == "order_update":
        conditions.append("(order_id IS NOT NULL OR client_order_id IS NOT NULL)")
    return f"SELECT * FROM ({source}) WHERE {' AND '.join(conditions)}"  # noqa: S608


def _described(file: SegmentFile, inventory: Inventory) -> tuple[object, ...]:
    """The row of ``raw.files`` for a segment."""
    footer = file.footer
    if inventory.end(file) < file.whole_bytes:
        state = "replaced"
    else:
        state = "closed" if footer else "open" if is_living(file.path) else "unfinished"
    return (
        str(file.name),
        file.name.stream,
        file.name.number,
        file.header.service,
        file.header.timestamp,
        footer.timestamp if footer else None,
        file.bytes,
        footer.records if footer else None,
        footer.first_seq if footer else None,
        footer.last_seq if footer else file.last_seq,
        footer.sha256 if footer else None,
        footer.recovered if footer else None,
        state,
    )


def _readable(file: SegmentFile, end: int, temporary: Path) -> list[Path]:
    """The file itself, or copies of what counts in it where DuckDB would stumble."""
    if end == file.bytes and _is_plain(file.path):
        return [file.path.resolve()]
    folder = Path(tempfile.mkdtemp(dir=temporary))
    pending = Pending(file.name, file.path, 0, end, None, file.header)
    return [part.path for part in batches([pending], folder, _SCAN_BYTES)]


def _is_plain(path: Path) -> bool:
    """Whether DuckDB can read the file as it is."""
    with path.open("rb") as file:
        while lines := file.read(_SCAN_BYTES):
            lines += file.readline()
            if not harmless(lines):
                return False
    return True


def _as_fetched(at: int, type_: str) -> str:
    """A column of the answer; DuckDB's client would need pytz to hand out a time with a zone."""
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"strftime(#{at} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    return f"to_json(#{at})" if "TIMESTAMP WITH TIME ZONE" in type_ else f"#{at}"


def _fault(error: duckdb.Error) -> UsageError | EnvironmentFault:
    said = " ".join(str(error).partition("\nLINE ")[0].split())
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
        return EnvironmentFault(f"DuckDB: {said}")
    if "Overflow in multiplication of DECIMAL" in said:
        return UsageError("the product has too many digits for exact decimals; write price::DOUBLE * executed_qty")
    return UsageError(f"DuckDB: {said}; {_HINT}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
