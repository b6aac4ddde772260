"""What a person would write with asyncpg and orjson: segments into the same tables, in a process of its own.

    python -m benchmarks.load.rivals copy-records|executemany FOLDER DSN [--known]
    python -m benchmarks.load.rivals csv FILES DSN

Lines that are no JSON are skipped; nothing else is checked, no order is folded, no place is remembered. ``--known``:
rows may be there already and are then left alone. ``csv`` stands in for psql where there is none: FILES is a JSON list
of [table, columns, path].
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson

CSV: Final = "csv"
COPY: Final = "copy-records"
INSERT: Final = "executemany"
# As many lines as are held in memory at once; each batch is a transaction.
BATCH: Final = {COPY: 50_000, INSERT: 10_000}

Row = tuple[Any, ...]
Table = tuple[str, tuple[str, ...], Callable[[dict[str, Any], dict[str, Any], datetime], Row]]


def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _order(record: dict[str, Any], fields: dict[str, Any], at: datetime) -> Row:
    get = fields.get
    return (
        record.get("stream"), record.get("seq"), at, get("position_id"), get("exchange"), get("symbol"),
        get("order_id"), get("client_order_id"), get("type"), get("side"), _number(get("size")), _number(get("price")),
        get("status"), _number(get("filled")), _number(get("remaining")), _number(get("fee")), get("fee_currency"), at,
        at,
    )  # fmt: skip


def _order_update(record: dict[str, Any], fields: dict[str, Any], at: datetime) -> Row:
    get = fields.get
    return (
        record.get("stream"), record.get("seq"), at, "updated", get("position_id"), get("exchange"), get("symbol"),
        get("order_id"), _number(get("price")), get("status"), get("reason"), at,
    )  # fmt: skip


def _trade(record: dict[str, Any], fields: dict[str, Any], at: datetime) -> Row:
    get = fields.get
    return (
        record.get("stream"), record.get("seq"), get("signal_id"), get("position_id"), get("exchange"), get("symbol"),
        get("side"), get("order_type"), _number(get("quantity")), _number(get("price")), _number(get("executed_qty")),
        _number(get("average_price")), get("order_id"), get("client_order_id"), get("trade_id"), get("status"),
        _number(get("fee")), get("fee_currency"), at, at,
    )  # fmt: skip


def _event(record: dict[str, Any], fields: dict[str, Any], at: datetime) -> Row:
    get = fields.get
    return (
        record.get("stream"), record.get("seq"), record.get("event_name"), orjson.dumps(fields).decode(),
        get("position_id"), get("order_id"), get("symbol"), get("exchange"), record.get("severity_text"), at,
    )  # fmt: skip


def _table(name: str, columns: str, row: Callable[[dict[str, Any], dict[str, Any], datetime], Row]) -> Table:
    return name, tuple(columns.split()), row


_TABLES: Final[dict[str | None, Table]] = {
    "order.created": _table(
        "orders",
        "stream seq recorded_at position_id exchange symbol order_id client_order_id type side size price status "
        "filled remaining fee fee_currency created_at updated_at",
        _order,
    ),
    "order.updated": _table(
        "order_updates",
        "stream seq recorded_at kind position_id exchange symbol order_id price status reason updated_at",
        _order_update,
    ),
    "trade.executed": _table(
        "trades",
        "stream seq signal_id position_id exchange symbol side order_type quantity price executed_qty average_price "
        "order_id client_order_id trade_id status fee fee_currency executed_at updated_at",
        _trade,
    ),
}
_EVENTS: Final[Table] = _table(
    "events", "stream seq event_type event_data position_id order_id symbol exchange severity created_at", _event
)


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Records of all segments, control lines left out; what is no JSON is skipped."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                if "seq" in record:
                    yield record


def _rows(batch: list[dict[str, Any]]) -> dict[str, tuple[tuple[str, ...], list[Row]]]:
    """Rows by table."""
    found: dict[str, tuple[tuple[str, ...], list[Row]]] = {}
    for record in batch:
        name, columns, row = _TABLES.get(record.get("event_name"), _EVENTS)
        try:
            made = row(record, record["attributes"], datetime.fromisoformat(record["timestamp"]))
        except (ArithmeticError, KeyError, ValueError):
            continue  # a number or a time that is none
        found.setdefault(name, (columns, []))[1].append(made)
    return found


async def _copy(connection: Any, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    await connection.copy_records_to_table(table, records=rows, columns=columns, schema_name="monitoring")


async def _copy_known(connection: Any, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    listed = ", ".join(columns)
    await connection.execute(
        f"CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {listed} FROM monitoring.{table} WITH NO DATA"
    )
    await connection.copy_records_to_table("incoming", records=rows, columns=columns)
    await connection.execute(
        f"INSERT INTO monitoring.{table} ({listed}) SELECT {listed} FROM incoming ON CONFLICT DO NOTHING"
    )
    await connection.execute("DROP TABLE incoming")


async def _insert(connection: Any, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    given = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    await connection.executemany(
        f"INSERT INTO monitoring.{table} ({', '.join(columns)}) VALUES ({given}) ON CONFLICT DO NOTHING", rows
    )


async def _copy_csv(files: str, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for table, columns, path in orjson.loads(files):
            await connection.copy_to_table(table, source=path, columns=columns, schema_name="monitoring", format="csv")
    finally:
        await connection.close()


async def _load(name: str, folder: Path, dsn: str, known: bool) -> None:
    put = _insert if name == INSERT else _copy_known if known else _copy
    connection = await asyncpg.connect(dsn)
    try:
        source = records(folder)
        while batch := list(islice(source, BATCH[name])):
            async with connection.transaction():
                for table, (columns, rows) in _rows(batch).items():
                    await put(connection, table, columns, rows)
    finally:
        await connection.close()


def main() -> None:
    name, source, dsn = sys.argv[1:4]
    known = "--known" in sys.argv[4:]
    if name == CSV and known:
        raise SystemExit("needs psql, and there is none")
    asyncio.run(_copy_csv(source, dsn) if name == CSV else _load(name, Path(source), dsn, known))


if __name__ == "__main__":
    main()
