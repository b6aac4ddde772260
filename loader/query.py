"""DuckDB over the raw files: the views of ``sql/views/records.sql``, in an engine that reads the log and no more.

A torn last line, an empty file, a line that is no record are left out; bytes that a later segment replaces too.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb

from . import statements
from .archive.files import FOLDER, unpack
from .archive.locks import reading
from .engine import insert, opened
from .errors import EnvironmentFault, UsageError
from .inventory import Inventory, SegmentFile, is_living, take_inventory
from .raw_views import VIEWS, common_setup, quoted, views
from .select_sql import in_order, selected
from .settings import MIB
from .spool import MAX_LINE_BYTES, batches, harmless
from .tail import Pending
from .workspace import workspace

T = TypeVar("T")

_MEMORY_LIMIT = "512MB"
_SCAN_BYTES = 16 * MIB
_GRACE_S = 1.0
_LOOK_S = 0.2
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

    def __init__(self, directory: Path, progress: Callable[[float], None] | None = None) -> None:
        """``progress`` is told DuckDB's percent of a query while it works; less than 0: it does not know."""
        self._directory = directory
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self._done: threading.Event | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self._stack.enter_context(reading(self._directory))
            inventory = take_inventory(self._directory, archived=True)
            self.problems = inventory.problems
            try:
                self._temporary = self._stack.enter_context(workspace())
                self._open(inventory, self._temporary)
            except OSError as error:
                raise EnvironmentFault(f"{error.filename or 'a temporary folder'}: {error.strerror}") from error
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self, inventory: Inventory, temporary: Path) -> None:
        sql = statements.load("views/records.sql")
        spill = temporary / "spill"
        spill.mkdir()
        self._duck = opened(spill, _MEMORY_LIMIT)
        self._stack.callback(self._close)
        run = self._duck.execute
        if self._progress is not None:
            run("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
        for statement in (*common_setup(), sql["tables"]):
            run(statement)
        paths = [
            (str(path), file.name.stream, file.name.number)
            for file in inventory.files
            for path in readable(file, inventory.end(file), temporary)
        ]
        insert(self._duck, "raw.files", [_described(file, inventory) for file in inventory.files])
        insert(self._duck, "raw.paths", paths)
        listed = ", ".join(quoted(path) for path, *_ in paths)
        run(sql["lines"].replace("(listed)", f"([{listed}])") if paths else sql["no_lines"])
        for _, statement in views():
            run(statement)
        # From here on it reads this directory and the copies, and nothing can be set any more.
        folders = (self._directory.resolve(), (self._directory / FOLDER).resolve(), temporary)
        run(f"SET allowed_directories = [{', '.join(quoted(str(folder)) for folder in folders)}]")
        run("SET enable_external_access = false")
        run("SET lock_configuration = true")

    def views(self) -> list[View]:
        """The views and their columns."""
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        listed = self._duck.execute(statements.load("views/records.sql")["list_views"]).fetchall()
        for name, says, column, type_ in listed:
            found.setdefault((name, says), []).append((column, type_))
        return [View(name, says, tuple(columns)) for (name, says), columns in found.items()]

    def query(self, sql: str, *, ordered: bool = False) -> Answer:
        """Run one SELECT; times come as ISO 8601 text in UTC. A :class:`UsageError` says what DuckDB has against it.

        ``ordered``: where it does not say an order itself, rows come by their columns from left to right.
        """
        try:
            source, columns = self._described(sql, ordered)
            outer = ", ".join(_as_fetched(at, type_) for at, (_, type_) in enumerate(columns, 1))
            text = f"SELECT {outer} FROM {source}"  # noqa: S608
            return Answer(columns, self._fetched(self._interruptible(lambda: self._duck.execute(text))))
        except duckdb.Error as error:
            raise _fault(error) from error

    def parquet(self, sql: str) -> tuple[Path, int]:
        """Run one SELECT, in order, into a Parquet file that lasts as long as this does; the file and its rows."""
        path = self._temporary / "answer.parquet"
        try:
            source, columns = self._described(sql, ordered=True)
            outer = ", ".join(_as_stored(at, type_) for at, (_, type_) in enumerate(columns, 1))
            names = ", ".join('"' + name.replace('"', '""') + '"' for name, _ in columns)
            text = f"COPY (SELECT * FROM (SELECT {outer} FROM {source}) AS answer({names})) TO {quoted(str(path))}"  # noqa: S608
            done = self._interruptible(lambda: self._duck.execute(f"{text} (FORMAT parquet, COMPRESSION zstd)"))
            return path, int((done.fetchone() or (0,))[0])
        except duckdb.Error as error:
            raise _fault(error) from error

    def _described(self, sql: str, ordered: bool) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What to read the rows of a SELECT from, and its columns."""
        source = selected(self._duck, sql, _HINT)
        if ordered:
            source = in_order(self._duck, sql, source)
        described = self._duck.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
        return source, tuple((str(row[0]), str(row[1])) for row in described)

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
            while not done.wait(None if self._progress is None else _LOOK_S):
                if self._progress is not None:
                    self._progress(self._duck.query_progress())
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


def _described(file: SegmentFile, inventory: Inventory) -> tuple[object, ...]:
    """The row of ``raw.files`` for a segment."""
    footer = file.footer
    if inventory.end(file) < file.whole_bytes:
        state = "replaced"
    else:
        state = "closed" if footer else "open" if not file.archived and is_living(file.path) else "unfinished"
    return (
        file.path.name,
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


def readable(file: SegmentFile, end: int, temporary: Path) -> list[Path]:
    """The file itself, or copies of what counts in it where DuckDB would stumble."""
    if end == file.bytes and (_is_plain(file.path) if file.plain is None else file.plain):
        return [file.path.resolve()]
    folder = Path(tempfile.mkdtemp(dir=temporary))
    path = unpack(file.path, folder / "segment") if file.archived else file.path
    pending = Pending(file.name, path, 0, end, None, file.header)
    return [part.path for part in batches([pending], folder, _SCAN_BYTES)]


def _is_plain(path: Path) -> bool:
    """Whether DuckDB can read the file as it is."""
    with path.open("rb") as file:
        while lines := file.read(_SCAN_BYTES):
            lines += file.readline(MAX_LINE_BYTES + 1)
            if not harmless(lines):
                return False
    return True


def _as_fetched(at: int, type_: str) -> str:
    """A column of the answer; DuckDB's client would need pytz to hand out a time with a zone."""
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"strftime(#{at} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    return f"to_json(#{at})" if "TIMESTAMP WITH TIME ZONE" in type_ else f"#{at}"


def _as_stored(at: int, type_: str) -> str:
    """A column of a Parquet file, which has no integer so large, and would make it a double."""
    if '"' in type_ or "HUGEINT" not in type_:
        return f"#{at}"
    return f"CAST(#{at} AS {re.sub(r'U?HUGEINT', 'DECIMAL(38,0)', type_)})"


def _fault(error: duckdb.Error) -> UsageError | EnvironmentFault:
    said = " ".join(str(error).partition("\nLINE ")[0].split())
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
        return EnvironmentFault(f"DuckDB: {said}")
    if "Overflow in multiplication of DECIMAL" in said:
        return UsageError("the product has too many digits for exact decimals; write price::DOUBLE * executed_qty")
    return UsageError(f"DuckDB: {said}; {_HINT}")
