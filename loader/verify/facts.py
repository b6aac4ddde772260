"""One reading of all that counts in a log: every line goes through the loader's own checks once, and what an audit asks
of it is kept in DuckDB, which spills to disk what memory does not hold.

What is read is fixed before it begins: a bot may write meanwhile, and all answers are about the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import duckdb

from emitter.records import EVENT, KINDS, ORDER, ORDER_UPDATE, Kind
from emitter.segments import open_regular, parse_footer

from .. import statements
from ..archive.files import is_archive, unpack
from ..errors import EnvironmentFault
from ..rules import Columns, read_rules
from ..settings import MIB
from ..spool import Spooled, batches
from ..staging import filled
from ..tail import Key, Pending
from ..totals import declared_loss
from ..validate import Check, open_engine
from ..workspace import workspace
from .canonical import jsonb_text

_BATCH_BYTES = 16 * MIB
_PIECE_BYTES = MIB
_MEMORY_LIMIT = "256MB"
_VIEW = re.compile(r"\s*CREATE VIEW \S+ AS\s")


class RowText(NamedTuple):
    """A row as one text, in DuckDB's SQL: where all numbers are plain as they stand, and any row; its single values.

    ``unusual`` asks whether a row has numbers that are not plain. ``t`` is the row, ``j.text`` its JSON.
    """

    usual: str
    any: str
    unusual: str
    cells: str


@dataclass(slots=True)
class SegmentFacts:
    """What stands between the first and the last byte of a segment that counts.

    ``unread``: how many of the records have no number that could be read; ``footers``: how many lines are a footer.
    """

    records: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    unread: int = 0
    footers: int = 0


@dataclass(slots=True)
class Facts:
    """What was read. Ranges of seqs are (first, last); ``breaks`` are (segment, seq, highest before) in file order."""

    segments: dict[Key, SegmentFacts] = field(default_factory=dict)
    losses: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    breaks: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    not_loaded: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    records: int = 0
    rejected: int = 0
    bytes: int = 0


class Reading:
    """The engine and what was read with it. Use as a context manager; :meth:`read` once, then :meth:`ask`."""

    def __init__(self, columns: Columns, row: Callable[[Kind], RowText] | None = None) -> None:
        """``columns`` are those of the database, if any; ``row`` makes the text of a kind's row, for its digest."""
        self.facts = Facts()
        self._columns, self._row = columns, row
        self._rules = read_rules()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(workspace())
        self.engine = open_engine(self._folder)
        self._stack.callback(self.engine.close)
        self.engine.execute(f"SET memory_limit = '{_MEMORY_LIMIT}'")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(
        self,
        pending: Sequence[Pending],
        loaded: Mapping[Key, int],
        living: Mapping[str, bool],
        progress: Callable[[int], None],
        problems: dict[str, str],
    ) -> None:
        """Read it all. ``loaded``: the bytes of a segment that the database has; ``living``: whether a bot runs.

        ``progress`` is told the bytes done. A file that can no longer be read is named in ``problems``.
        """
        try:
            self._prepare(living)
            for spooled in batches(self._in_turn(pending, loaded), self._folder, _BATCH_BYTES, problems):
                self._take(spooled, loaded)
                spooled.path.unlink()
                progress(self.facts.bytes)
            for stream, segment, unread in self.ask(statements.load("checks/facts.sql")["count_unread"]):
                self.facts.segments[stream, segment].unread = unread
            self._make_orders()
        except OSError as error:
            raise EnvironmentFault(f"{error.filename or self._folder}: {error.strerror}") from error
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise EnvironmentFault(f"DuckDB: {' '.join(str(error).split())}") from error

    def cells(self, item: Pending, kind: Kind, text: RowText, numbers: Sequence[int]) -> dict[int, list[str | None]]:
        """Read a segment again, for the values of some of its records."""
        found: dict[int, list[str | None]] = {}
        for spooled in batches(self._in_turn([item], {}), self._folder, _BATCH_BYTES):
            with _Listener(self.engine, spooled, self._folder, self._rules, self._columns) as check:
                check.run()
                found |= check.cells(kind, text, item.name.stream, numbers)
            spooled.path.unlink()
        return found

    def _in_turn(self, pending: Iterable[Pending], loaded: Mapping[Key, int]) -> Iterator[Pending]:
        """One after the other, cut where the database's part ends; an archive is unpacked for as long as it is read."""
        for item in pending:
            if not is_archive(item.path):
                yield from _split(item, loaded)
                continue
            path = unpack(item.path, self._folder / str(item.name))
            try:
                yield from _split(replace(item, path=path), loaded)
            finally:
                path.unlink()

    def ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query over what was read."""
        return self.engine.execute(sql, list(parameters) or None).fetchall()

    def _prepare(self, living: Mapping[str, bool]) -> None:
        run, sql = self.engine.execute, statements.load("checks/facts.sql")
        listed = ", ".join(f"'{stream}'" for stream in sorted(living)) or "''"
        run(f"CREATE TYPE stream_id AS ENUM ({listed})")
        run(statements.load("checks/canonical.sql")["setup"])
        run(_of_raw("setup"))  # its first statement: a macro
        run(sql["setup"])
        run(sql["trades"])
        for name in ("orders_created", "order_updates"):
            run(f"CREATE TABLE {_table(name)} AS {_of_raw(name, _no_records())} WITH NO DATA")
        if living:
            run("INSERT INTO facts.streams SELECT unnest(?), unnest(?)", [list(living), list(living.values())])

    def _make_orders(self) -> None:
        """The view ``orders`` of ``tradetrail query``, over what was read, made once."""
        self.engine.execute("SET search_path = 'facts,main'")
        orders = statements.load("checks/facts.sql")["orders"]
        orders = filled(orders, orders=_of_raw("orders"))
        self.engine.execute(orders)

    def _take(self, spooled: Spooled, loaded: Mapping[Key, int]) -> None:
        facts = self.facts
        spooled.parts = [
            replace(part, last_seq=facts.highest.get(part.name.stream)) if part.last_seq is None else part
            for part in spooled.parts
        ]
        with _Listener(self.engine, spooled, self._folder, self._rules, self._columns) as check:
            check.run()
            check.listen(facts, loaded, self._row)
        facts.bytes += spooled.bytes


class _Listener(Check):
    """A batch under the loader's checks, of which more is kept than rows."""

    def listen(self, facts: Facts, loaded: Mapping[Key, int], row: Callable[[Kind], RowText] | None) -> None:
        """Keep what there is to know of this batch."""
        sql = statements.load("checks/facts.sql")
        parts = self._spooled.parts
        are = [part.stop <= loaded.get((part.name.stream, part.name.number), 0) for part in parts]
        self._duck.execute(sql["parts"], [list(range(len(parts))), are])
        self._duck.execute(sql["rejected"])
        self._count(facts)
        self._follow(facts, sql)
        for name in ("records", "clock", "fills"):
            self._duck.execute(sql[name])
        for kind, name in ((ORDER, "orders_created"), (ORDER_UPDATE, "order_updates")):
            source = filled(sql["accepted"], kind=kind.name)
            self._duck.execute(f"INSERT INTO {_table(name)} BY NAME {_of_raw(name, source)}")
        if not self._clean:
            self._duck.execute(self._sql["locate"])
            self._duck.execute(self._sql["infer_seqs"])
            self._duck.execute(sql["unread"])
        if row is not None and any(are):
            for kind in KINDS:
                self._digest(kind, row(kind), all_loaded=all(are))
        if not all(are) and loaded:
            facts.not_loaded += self._duck.execute(sql["not_loaded"]).fetchall()

    def _count(self, facts: Facts) -> None:
        parts = self._spooled.parts
        for count in self.parts():
            found = facts.segments.setdefault(_key(parts[count.part]), SegmentFacts())
            found.records += count.records
            found.first_seq = count.first_seq if found.first_seq is None else found.first_seq
            found.last_seq = count.last_seq if count.last_seq is not None else found.last_seq
            facts.records += count.records
            facts.rejected += count.rejected
        for control in self.control():
            key = _key(parts[control.part])
            facts.losses.setdefault(key[0], []).extend(
                (int(lost["first"]), int(lost["last"]), str(lost.get("reason")))
                for lost in declared_loss(control.line)[1]
            )
            if parse_footer(control.line.encode()) is not None:
                facts.segments[key].footers += 1

    def _follow(self, facts: Facts, sql: Mapping[str, str]) -> None:
        known = [list(facts.highest), list(facts.highest.values())]
        for stream, segment, seq, before in self._duck.execute(sql["breaks"], known).fetchall():
            facts.breaks.setdefault(stream, []).append((segment, seq, before))
        for stream, seq in self._duck.execute(sql["highest"]).fetchall():
            facts.highest[stream] = max(seq or 0, facts.highest.get(stream, 0))

    def _digest(self, kind: Kind, text: RowText, *, all_loaded: bool) -> None:
        sql = statements.load("checks/facts.sql")
        self._make_rows(kind, text)
        if not all_loaded:
            self._duck.execute(sql["loaded_rows"])
        for row, condition in ((text.usual, "NOT t.unusual"), (text.any, "t.unusual")):
            if row is text.any and self._duck.execute("SELECT NOT EXISTS (FROM rows WHERE unusual)").fetchone() == (
                True,
            ):
                continue  # only to plan it takes longer than all else
            self._duck.execute(filled(sql["row_digests"], tbl=kind.table, row=row, condition=condition))

    def _make_rows(self, kind: Kind, text: RowText) -> None:
        """The rows of a kind as the database has them; their JSON, as PostgreSQL writes it, in ``texts``."""
        if f"fitted_{kind.table}" in self._rows:
            self._duck.execute(self._of_fitted(kind, f"fitted_{kind.table}"))
        source = self._of_fitted(kind, kind.table)
        sql = statements.load("checks/facts.sql")
        self._duck.execute(filled(sql["rows"], unusual=text.unusual, source=source))
        self._duck.execute("CREATE OR REPLACE TEMP TABLE texts (stream VARCHAR, seq BIGINT, text VARCHAR)")
        column = "event_data" if kind is EVENT else "fees"
        texts = self._duck.execute(
            f"SELECT stream, seq, CAST({column} AS VARCHAR) FROM rows WHERE {column} IS NOT NULL"  # noqa: S608
        ).fetchall()
        if texts:
            streams, numbers, written = (list(values) for values in zip(*texts, strict=True))
            columns = [streams, numbers, [jsonb_text(text) for text in written]]
            self._duck.execute("INSERT INTO texts SELECT unnest(?), unnest(?), unnest(?)", columns)

    def cells(self, kind: Kind, text: RowText, stream: str, numbers: Sequence[int]) -> dict[int, list[str | None]]:
        """The values of some rows, as their digests take them."""
        self._make_rows(kind, text)
        asked = filled(statements.load("checks/facts.sql")["cells"], cells=text.cells)
        return dict(self._duck.execute(asked, [stream, list(numbers)]).fetchall())


def _key(part: Any) -> Key:
    return part.name.stream, part.name.number


def _table(name: str) -> str:
    return "raw.orders_created" if name == "orders_created" else f"facts.{name}"


def _of_raw(name: str, source: str | None = None) -> str:
    """The query of a view of ``sql/views/records.sql``, over these records."""
    text = _VIEW.sub("", statements.load("views/records.sql")[name], count=1).partition(";")[0]  # a comment follows
    return text if source is None else re.sub(r"\bFROM accepted\b", lambda _: f"FROM ({source}) AS accepted", text)


def _no_records() -> str:
    """What gives the tables of orders their columns before there is a record."""
    names = sorted({f.name for kind in (ORDER, ORDER_UPDATE) for f in kind.fields})
    fields = ", ".join(f'NULL::{"JSON" if name == "fees" else "VARCHAR"} AS "{name}"' for name in names)
    return (
        'SELECT NULL::VARCHAR AS stream, NULL::BIGINT AS seq, NULL::TIMESTAMPTZ AS "timestamp", '
        f"NULL::JSON AS attributes, {fields}"
    )


def _split(item: Pending, loaded: Mapping[Key, int]) -> list[Pending]:
    """A file up to where the database has it, and from there on: no part of a batch is both."""
    done = loaded.get((item.name.stream, item.name.number), 0)
    if 0 < done < item.size and (done := _line_end(item.path, done)):
        return [replace(item, size=done), replace(item, start=done)]
    return [item]


def _line_end(path: Path, size: int) -> int:
    """The last line end in so many bytes; not at their end where lines were lost and a footer stands in their place."""
    try:
        with open_regular(path) as file:
            for start in range((size - 1) // _PIECE_BYTES * _PIECE_BYTES, -1, -_PIECE_BYTES):
                file.seek(start)
                found = file.read(min(_PIECE_BYTES, size - start)).rfind(b"\n")
                if found >= 0:
                    return start + found + 1
    except OSError:
        pass
    return 0
