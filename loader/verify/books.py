"""What the database has, as of one moment, and what it alone shows to be wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from emitter.records import KINDS

from .. import statements
from ..database import Database
from ..migrate import require_current
from ..staging import filled
from ..tail import Key
from .findings import Findings
from .row_text import Columns, Layout

# Of a rule so many are fetched; who has more knows enough.
_MOST = 100_000
_ORDERS_AT_ONCE = 20_000
_FOLDED = (
    "position_id", "client_order_id", "size", "price", "status", "filled", "remaining", "fee", "fee_currency", "fees",
    "updated_at", "type", "side", "created_at", "recorded_at", "stream", "seq",
)  # fmt: skip


class LedgerRow(NamedTuple):
    """What the database says it has of a segment."""

    file: str
    bytes: int
    records: int
    lost: int
    first_seq: int | None
    last_seq: int | None
    sha256: str | None
    void_from: int | None
    closed: bool


@dataclass(slots=True)
class Books:
    """What the database has, as of one moment."""

    layout: Layout
    columns: Columns
    ledger: dict[Key, LedgerRow] = field(default_factory=dict)
    losses: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    buckets: list[tuple[str, str, int, int, str]] = field(default_factory=list)  # table, stream, bucket, rows, digest
    noted: dict[tuple[str, int], str] = field(default_factory=dict)
    nameless: list[tuple[str, int, int]] = field(default_factory=list)
    holes: list[tuple[str, int, int]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def loaded(self) -> dict[Key, int]:
        """Up to which byte each segment is loaded."""
        return {key: row.bytes for key, row in self.ledger.items()}


async def open_books(database: Database) -> Books | None:
    """The ledger and what the tables are like; None where nothing was ever loaded. Inside a transaction."""
    sql = statements.load("checks/agreement.sql")
    if not await database.fetchval(statements.load("views/ledger.sql")["is_there"]):
        return None
    await require_current(database)
    tables = [kind.table for kind in KINDS]
    columns = {table: await database.columns(table) for table in (*tables, "audit_rejects", "positions")}
    triggers = [table for table in tables if await database.fetchval(sql["has_trigger"], table)]
    books = Books(Layout(columns, triggers), columns)
    for row in await database.fetch(sql["ledger"]):
        key = (row.pop("stream"), row.pop("segment"))
        books.losses.setdefault(key[0], []).extend((lost["first"], lost["last"]) for lost in row.pop("losses"))
        books.ledger[key] = LedgerRow(**row)
    return books


async def fill_books(database: Database, books: Books, present: Collection[Key], findings: Findings) -> None:
    """Ask for the rest, in the same transaction. ``present``: segments whose files are there.

    What the database alone shows to be wrong goes to ``findings``.
    """
    sql = statements.load("checks/agreement.sql")
    first: dict[str, int] = {}  # of each stream, the first record whose file is here
    for stream, number in sorted(present):
        known = books.ledger.get((stream, number))
        first.setdefault(stream, (known.first_seq or 1) if known and number > 1 else 1)
    words = {"noted": sql["noted"], "most": str(_MOST)}
    for kind in KINDS:
        asked = filled(sql["buckets"], **books.layout.of_database(kind.table))
        for row in await database.fetch(asked, list(first), list(first.values())):
            books.buckets.append((kind.table, row["stream"], row["bucket"], row["rows"], row["digest"]))
    for row in await database.fetch(filled(sql["noted_records"], **words)):
        books.noted[row["stream"], row["seq"]] = row["state"]
    books.nameless = [
        (row["stream"], row["segment"], row["byte_offset"]) for row in await database.fetch(sql["nameless"])
    ]
    books.holes = [(row["stream"], row["first"], row["last"]) for row in await database.fetch(sql["holes"])]
    gone = sorted({stream for stream, _ in books.ledger} - set(first))
    books.counts = {row["stream"]: row["records"] for row in await database.fetch(sql["counts"], gone)}
    for row in await database.fetch(_strangers(sql)):
        if row["stream"] not in first:
            what = "the database has rows of this stream, and neither its ledger nor the log knows it"
            findings.add("row_unknown", "error", what, stream=row["stream"])
    for row in await database.fetch(filled(sql["taken_without_row"], **words)):
        what = "its line was rejected, and taken after all; its row is gone"
        findings.add("row_missing", "error", what, stream=row["stream"], seq=row["seq"])
    for row in await database.fetch(filled(sql["orders_without_row"], **words)):
        findings.add("row_missing", "error", "its order has no row in orders", stream=row["stream"], seq=row["seq"])
    await _hold_folds(database, books, findings)


async def _hold_folds(database: Database, books: Books, findings: Findings) -> None:
    """The rows of orders against their records: the loader's own fold, asked instead of written."""
    sql, merge = statements.load("checks/agreement.sql"), statements.load("load/merge.sql")
    folded = merge["fold"].partition("\nUPDATE ")[0].removeprefix("WITH ")
    names = [name for name in _FOLDED if name not in books.layout.left_out.get("orders", ())]
    words = {
        "names": ", ".join(f"CASE WHEN o.{name} IS DISTINCT FROM f.{name} THEN '{name}' END" for name in names),
        "of_row": ", ".join(f"o.{name}" for name in names),
        "of_fold": ", ".join(f"f.{name}" for name in names),
    }
    asked = f"WITH {sql['these_orders']}, {folded} {filled(sql['not_the_fold'], **words)}"
    after = 0
    while (last := await database.fetchval(sql["next_orders"], after, _ORDERS_AT_ONCE)) is not None:
        for row in await database.fetch(asked, after, last):
            what = f"the row in orders is not what the order's records come to: {', '.join(row['columns'])}"
            findings.add("row_differs", "error", what, stream=row["stream"], seq=row["seq"])
        after = last


def _strangers(sql: Mapping[str, str]) -> str:
    tables = [kind.table for kind in KINDS]
    parts = ", ".join(filled(sql["streams_of"], table=table) for table in tables)
    streams = " UNION ALL ".join(f"SELECT stream FROM {table}_streams" for table in tables)  # noqa: S608  our own names
    return filled(sql["strangers"], tables=parts, streams=streams)
