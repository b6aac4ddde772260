"""A row as one text, the same from the log (DuckDB) as from the database (PostgreSQL): both have one digest."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from emitter.records import EVENT, KINDS, ORDER, ORDER_UPDATE, TRADE, Kind

from .. import statements
from ..database import Column
from ..staging import filled
from .facts import RowText

# So many numbers of a stream have one digest together.
BUCKET = 4096

Columns = Mapping[str, Mapping[str, Column]]

# Columns that are not fields of the record.
_RECORDED = {
    ORDER: ("recorded_at",),
    ORDER_UPDATE: ("recorded_at",),
    TRADE: ("updated_at",),
    EVENT: ("event_type", "event_data", "severity", "created_at"),
}
_SORTS = {
    "numeric": "number",
    "timestamp with time zone": "time",
    "timestamp without time zone": "time",
    "jsonb": "json",
    "json": "json",
    **dict.fromkeys(("text", "character varying", "character", "integer", "bigint", "smallint", "boolean"), "text"),
}
# How a value becomes text: here in the log (DuckDB), there in the database.
_LOG = {
    "number": 'plain_number(CAST(t."{}" AS VARCHAR))',
    "usual": 'usual_number(CAST(t."{}" AS VARCHAR))',
    "time": 'CAST(epoch_us(t."{}") AS VARCHAR)',
    "json": "j.text",
    "text": 'CAST(t."{}" AS VARCHAR)',
}
_DATABASE = {
    "number": 'trim_scale(t."{}")::text',
    "time": 'trim_scale(extract(epoch FROM t."{}") * 1000000)::text',
    "json": 't."{}"::jsonb::text',
    "text": 't."{}"::text',
}


class Layout:
    """The columns that both sides have, and the text that a row of them is."""

    def __init__(self, columns: Columns, triggers: Collection[str]) -> None:
        self.left_out: dict[str, list[str]] = {}
        self._sorts: dict[str, dict[str, str]] = {}
        for kind in KINDS:
            tables = ("orders", "order_updates") if kind is ORDER else (kind.table,)
            names = dict.fromkeys((*_RECORDED[kind], *(f.name for f in kind.fields)))
            self._sorts[kind.table] = {}
            for name in names:
                types = {columns[table][name].data_type for table in tables if name in columns[table]}
                (type_,) = types if len(types) == 1 else (None,)
                sort = _SORTS.get(type_ or "")
                if sort is None or (name == "updated_at" and kind.table in triggers):
                    self.left_out.setdefault(kind.table, []).append(name)
                else:
                    self._sorts[kind.table][name] = sort

    def names(self, table: str) -> list[str]:
        """The columns that are compared."""
        return list(self._sorts[table])

    def sort(self, table: str, name: str) -> str:
        """What sort of value a column has: number, time, json or text."""
        return self._sorts[table][name]

    def of_log(self, kind: Kind) -> RowText:
        """The text of a row in DuckDB's SQL."""
        sorts = self._sorts[kind.table]
        cells = [_LOG[sort].format(name) for name, sort in sorts.items()]
        usual = [_LOG["usual" if sort == "number" else sort].format(name) for name, sort in sorts.items()]
        numbers = ", ".join(f'CAST("{name}" AS VARCHAR)' for name, sort in sorts.items() if sort == "number")
        return RowText(
            usual=" || ".join(f"cell({cell})" for cell in usual),
            any=" || ".join(f"cell({cell})" for cell in cells),
            unusual=f"unusual_numbers(concat_ws(' ', {numbers}))" if numbers else "false",
            cells=", ".join(cells),
        )

    def of_database(self, table: str) -> dict[str, str]:
        """The words for ``sql/checks/agreement.sql``: the text of a row, its cells, and where the rows are."""
        sql = statements.load("checks/agreement.sql")
        cells = [_DATABASE[sort].format(name) for name, sort in self._sorts[table].items()]
        return {
            "row": " || ".join(f"""coalesce('"' || replace({cell}, '"', '""') || '",', '-,')""" for cell in cells),
            "cells": ", ".join(cells),
            "source": filled(sql[f"{table}_source"], ["stream", "seq", *self._sorts[table]]),
            "noted": sql["noted"],
            "width": str(BUCKET),
        }
