"""Checks of a batch with DuckDB: lines in, rows and rejects out as CSV files. The only module that knows duckdb's
loading side; Python looks only at lines that are odd, one by one.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from emitter.records import CONTROL_EVENTS, KINDS, ORDER, ORDER_UPDATE, Kind

from . import statements
from .engine import insert, opened
from .rules import Columns, Rule, column_of, decimal_type, integer_type, judgement
from .spool import MAX_LINE_BYTES, Spooled

OutOfMemory = duckdb.OutOfMemoryException

_MEMORY_LIMIT = "192MB"
_MAX_DEPTH = 200

# DuckDB's structure of a line: every field as text. Fees may be objects or lists.
_NAMES = sorted({f.name for kind in KINDS for f in kind.fields})
_JSON_FIELDS = ("fee", "fees")
_SHAPE = json.dumps(
    {
        **dict.fromkeys(("stream", "seq", "timestamp", "severity_text", "event_name"), "VARCHAR"),
        "attributes": {name: "JSON" if name in _JSON_FIELDS else "VARCHAR" for name in _NAMES},
    }
)

# The columns that statements of sql/load answer with, by their names there.
_columns: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table, ready for COPY: ``columns`` in the order of the CSV file at ``path``.

    ``count`` is the number of records they are made of. With ``settled`` the file holds orders that are folded already,
    or the records that were folded; ``more`` is the number of its lines beyond ``count`` (orders' own values).
    """

    kind: Kind
    count: int
    columns: tuple[str, ...]
    path: Path
    settled: bool = False
    more: int = 0


@dataclass(frozen=True, slots=True)
class Rejects:
    """Lines with findings, ready for COPY."""

    rejected: int
    repaired: int
    columns: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class PartCount:
    """What one part of a batch holds."""

    part: int
    lines: int
    records: int
    rejected: int
    first_seq: int | None
    last_seq: int | None
    closed: bool


@dataclass(frozen=True, slots=True)
class Control:
    """A control line and the part of the batch it stands in."""

    part: int
    line: str


def open_engine(temporary: Path, threads: int = 2) -> duckdb.DuckDBPyConnection:
    """An engine with the macros of the checks, which spills into the given folder."""
    engine = opened(temporary, _MEMORY_LIMIT, threads=threads)
    engine.execute(statements.load("load/checks.sql")["setup"])
    return engine


class Check:
    """The checks of one batch; tables of its own in the engine, dropped at its end."""

    def __init__(
        self,
        engine: duckdb.DuckDBPyConnection,
        spooled: Spooled,
        folder: Path,
        rules: Sequence[Rule],
        columns: Columns,
    ) -> None:
        self._sql = statements.load("load/checks.sql")
        self._rows = statements.load("load/rows.sql")
        self._duck = engine.cursor()  # temporary tables are a cursor's own
        self._spooled = spooled
        self._folder = folder
        self._columns = columns
        self._judgement = judgement(list(rules), columns)
        self._read = 0  # lines that are records, or control lines
        self._marked = False
        self._clean = False
        self._gaps = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._duck.close()

    def run(self) -> None:
        """Read, parse and judge every line; the answers are then asked for one by one."""
        run, sql = self._duck.execute, self._sql
        run(sql["begin"])
        self._insert("odd_lines", [(o.n, o.raw, o.raw_hex, o.length) for o in self._spooled.odd])
        self._insert("marks", [(o.n, o.why, o.detail) for o in self._spooled.odd if o.why])
        self._insert(
            "parts",
            [
                (at, p.first_line, p.lines, p.name.stream, p.name.number, p.start, p.batch_offset, p.last_seq)
                for at, p in enumerate(self._spooled.parts)
            ],
        )
        run(sql["read_lines"], {"path": str(self._spooled.path), "max_line_size": 2 * MAX_LINE_BYTES})
        self._second_look()
        self._read = self._made(f"CREATE OR REPLACE TEMP TABLE records AS {self._records()}", {"shape": _SHAPE})
        self._gaps = self._duck.execute(sql["seqs_do_not_add_up"]).fetchone() == (True,)
        if self._gaps:
            run(sql["disown_seqs"])
        self._judge()

    def _judge(self) -> None:
        run, rules, sql = self._duck.execute, self._judgement, self._sql
        # Each statement costs about a millisecond, whatever it finds: a small batch is made of such costs.
        every_line_is_a_record = self._read == self._spooled.lines and not self._marked
        lines = 0 if every_line_is_a_record else self._suspect()
        records = self._made(f"CREATE OR REPLACE TEMP TABLE doubtful_records AS {rules.doubtful_records}")
        run(sql["no_findings"])
        self._clean = not lines and not records
        if not self._clean:
            if every_line_is_a_record:
                self._suspect()
            self._clean = not self._made(f"INSERT INTO findings {rules.findings}")

    def _suspect(self) -> int:
        """Look at lines that are no records or are marked; how many break a rule."""
        self._duck.execute(self._sql["suspected_lines"])
        return self._made(f"CREATE OR REPLACE TEMP TABLE doubtful_lines AS {self._judgement.doubtful_lines}")

    def _made(self, sql: str, parameters: object = None) -> int:
        """Run a statement that makes rows; how many."""
        made = self._duck.execute(sql, parameters).fetchone()
        return int(made[0]) if made else 0

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._marked |= table == "marks" and bool(rows)
        insert(self._duck, table, rows)

    def _second_look(self) -> None:
        """DuckDB's JSON is laxer than the standard: lines that might be meant are read strictly, one by one."""
        marks = []
        for n, line in self._duck.execute(self._sql["suspects"]).fetchall():
            problem = strict_problem(line)
            if problem:
                marks.append((n, *problem))
        self._insert("marks", marks)

    def _records(self) -> str:
        """Parsed lines as columns; ``kind`` says which kind of record, or ``control``."""
        kinds = " ".join(f"WHEN '{kind.event_name}' THEN '{kind.name}'" for kind in KINDS if kind.event_name)
        control = ", ".join(f"'{name}'" for name in CONTROL_EVENTS)
        fields = ", ".join(
            f'record.attributes."{name}" AS "{name}"'
            if name in _JSON_FIELDS
            else f'nullif(record.attributes."{name}", \'\') AS "{name}"'
            for name in _NAMES
        )
        source = f"""
            SELECT
                n, line, part, file_stream, record.stream AS stream, record."timestamp" AS "timestamp",
                record.severity_text AS severity_text, nullif(record.event_name, '') AS event_name,
                CASE
                    WHEN regexp_full_match(record.seq, '[0-9]{{1,18}}') THEN CAST(record.seq AS BIGINT)
                END AS seq_number,
                CASE
                    WHEN record.seq IS NULL AND record.event_name IN ({control}) THEN 'control'
                    ELSE CASE record.event_name {kinds} ELSE CASE WHEN record.event_name <> '' THEN 'event' END END
                END AS kind,
                {fields}
            FROM ({self._sql["parsed"].rstrip(";")})
        """
        fees = self._sql["fees"].rstrip(";").replace("FROM source", f"FROM ({source})")
        return f"""
            SELECT
                * EXCLUDE (line),
                moment("timestamp") AS moment,
                CASE WHEN kind = 'event' THEN json_extract(line, '$.attributes') END AS attributes,
                kind = 'event' AND json_type(attributes) IS DISTINCT FROM 'OBJECT' AS attributes_missing
            FROM ({fees})
        """

    def mark(self, marks: Iterable[tuple[str, int, str, str]]) -> None:
        """Note what PostgreSQL said of single records, as (stream, seq, rule, detail), and judge again."""
        for stream, seq, why, detail in marks:
            self._duck.execute(
                "INSERT INTO marks SELECT n, ?, ? FROM records WHERE stream = ? AND seq_number = ? "
                "AND n NOT IN (SELECT n FROM marks)",
                [why, detail, stream, seq],
            )
        self._marked = True
        self._judge()

    def rows(self, *, settle: bool = False) -> list[Rows]:
        """The accepted records of each kind that has any as rows, written as CSV.

        ``settle``: orders whose records are all in this batch are folded, for tables that do not know them yet.
        """
        good = "" if self._clean else "WHERE n NOT IN (SELECT n FROM findings WHERE severity = 'reject')"
        found = dict(self._duck.execute(f"SELECT kind, count(*) FROM records {good} GROUP BY kind").fetchall())
        counts = {kind: found[kind.name] for kind in KINDS if kind.name in found}
        for kind in counts:
            if f"fitted_{kind.table}" in self._rows:
                self._duck.execute(self._of_fitted(kind, f"fitted_{kind.table}"))
        created = made = 0
        if settle and ORDER in counts and ORDER_UPDATE in counts:
            self._duck.execute(self._rows["settled"])
            created, made = self._duck.execute(self._rows["settled_counts"]).fetchall()[0]
        if not made:
            return [self._write_rows(kind, kind.table, count) for kind, count in counts.items()]
        repeated = created - made
        return [
            self._write_rows(kind, f"settled_{kind.table}", count - repeated, settled=True)
            if kind is ORDER
            else self._write_rows(kind, f"settled_{kind.table}", count + repeated, settled=True, more=made)
            if kind is ORDER_UPDATE
            else self._write_rows(kind, kind.table, count)
            for kind, count in counts.items()
        ]

    def _write_rows(self, kind: Kind, name: str, count: int, *, settled: bool = False, more: int = 0) -> Rows:
        path = self._folder / f"{name}.csv"
        return Rows(kind, count, self._write(name, self._of_fitted(kind, name), path), path, settled, more)

    def _of_fitted(self, kind: Kind, name: str) -> str:
        fitted = f"FROM ({self._fitted(kind)}) AS fitted"
        return re.sub(r"\bFROM fitted\b", lambda _: fitted, self._rows[name].rstrip(";"))

    def _write(self, name: str, query: str, path: Path) -> tuple[str, ...]:
        """Write what a statement answers; its columns."""
        if name not in _columns:  # asking takes as long as a small batch
            _columns[name] = tuple(str(row[0]) for row in self._duck.execute(f"DESCRIBE {query}").fetchall())
        self._duck.execute(f"COPY ({query}) TO '{_quoted(path)}' (FORMAT csv, HEADER false)")
        return _columns[name]

    def _fitted(self, kind: Kind) -> str:
        """The accepted records of a kind with each field as its real column can take it.

        Where no rule found anything in the batch, numbers are that as they stand.
        """
        columns = ["n", "stream", "seq_number AS seq", "moment", "event_name", "severity_text", "attributes"]
        for f in kind.fields:
            column, name = column_of(kind, f, self._columns), f'"{f.name}"'
            value = name
            if f.type in ("number", "fee") and not self._clean:
                value = f"number_or_null({name})"
                if column is not None and (decimal := decimal_type(column)):
                    # Only what has to be: any other number keeps the text that it has in a batch without findings.
                    rounded = f"CAST(TRY_CAST({value} AS {decimal}) AS VARCHAR)"
                    value = f"CASE WHEN decimals({name}) > {column.scale} THEN {rounded} ELSE {value} END"
            elif f.type == "integer":
                whole = f"is_number({name}) AND decimals({name}) = 0"
                value = f"CASE WHEN {whole} THEN TRY_CAST({name} AS {integer_type(column)}) END"
            elif f.type == "boolean":
                value = f"true_or_false({name})"
            elif f.type == "time":
                value = f"moment({name})"
            elif f.type == "text" and column is not None and column.data_type in ("integer", "bigint", "smallint"):
                value = f"TRY_CAST({name} AS {integer_type(column)})"
            columns.append(f"{value} AS {name}")
        accepted = f"SELECT {', '.join(columns)} FROM records WHERE kind = '{kind.name}'"
        return (
            accepted if self._clean else f"{accepted} AND n NOT IN (SELECT n FROM findings WHERE severity = 'reject')"
        )

    def unsettled(self) -> list[tuple[str, int, int]]:
        """(stream, first seq, last seq) of changes to orders that ``rows(settle=True)`` did not fold."""
        return self._duck.execute(self._rows["unsettled"]).fetchall()

    def runs(self) -> list[tuple[str, int, int]]:
        """(stream, first seq, last seq) of records that follow each other; none where those of each part all do."""
        return self._duck.execute(self._sql["runs"]).fetchall() if self._gaps else []

    def continue_from(self, last_seqs: Mapping[int, int | None]) -> None:
        """The last seq before each of these parts, where the batch before this one has to say it."""
        for part, last_seq in last_seqs.items():
            if last_seq is not None:
                self._duck.execute("UPDATE parts SET last_seq = ? WHERE part = ?", [last_seq, part])

    def rejects(self) -> Rejects | None:
        """Lines with findings, written as CSV; None where there are none."""
        if self._clean:
            return None
        counts = self._duck.execute(
            "SELECT count(*) FILTER (WHERE rejected), count(*) FILTER (WHERE NOT rejected) FROM "
            "(SELECT bool_or(severity = 'reject') AS rejected FROM findings GROUP BY n)"
        ).fetchone()
        if counts is None or not sum(counts):
            return None
        self._duck.execute(self._sql["locate"])
        self._duck.execute(self._sql["infer_seqs"])
        path = self._folder / "audit_rejects.csv"
        columns = self._write("rejects", self._sql["rejects"].rstrip(";"), path)
        return Rejects(counts[0], counts[1], columns, path)

    def control(self) -> list[Control]:
        """The control lines, in order."""
        return [Control(*row) for row in self._duck.execute(self._sql["control_lines"]).fetchall()]

    def parts(self) -> list[PartCount]:
        """Counts for each part of the batch, in order."""
        return [PartCount(*row) for row in self._duck.execute(self._sql["per_part"]).fetchall()]

    def reasons(self) -> list[tuple[str, str, int, str]]:
        """(severity, rule, lines, an example of what it says), most frequent first."""
        if self._clean:
            return []
        return self._duck.execute(self._sql["reasons"]).fetchall()


def strict_problem(line: str) -> tuple[str, str] | None:
    """(rule, detail) where a line is no JSON by the standard, or holds what PostgreSQL cannot; else None."""

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} without quotes")

    try:
        value = json.loads(line, parse_constant=refuse, parse_int=str, parse_float=str)
    except RecursionError:
        return "not_strict_json", "nested too deeply"
    except ValueError as error:
        return "not_strict_json", str(error).split(": line ")[0]
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            return "not_strict_json", f"nested deeper than {_MAX_DEPTH}"
        if isinstance(item, str) and "\0" in item:
            return "nul_in_text", ""
        if isinstance(item, dict):
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            waiting += [(part, depth + 1) for part in item]
    return None


def key_at_line(rows: Rows, line: int) -> tuple[str, int] | None:
    """(stream, seq) of the record at a line of a CSV file, as COPY counts lines."""
    with rows.path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        for row in reader:
            if reader.line_num >= line:
                return row[0], int(row[1])
    return None


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
