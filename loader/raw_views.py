"""The views over raw files, put together from the parts in ``sql/``: for the program's own engine, and as one script.

``sql/views/records.sql`` has the views. The checks that they share with the loader, the rules of each kind of record
and the steps to round trips come from where these are defined. ``sql/views/raw.sql`` is all of it in one file, for
people who use ``duckdb`` itself; ``make views`` writes it anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

from emitter.records import CONTROL_EVENTS, KINDS, Kind

from . import statements
from .round_trips import round_trips

VIEWS = ("records", "orders", "trades", "order_updates", "events", "segments", "round_trips")
_HEAD = """\
-- The log of a bot as views in DuckDB: records, orders, trades, order_updates, events, segments, round_trips.
--
--   duckdb
--   D SET VARIABLE audit_dir = '/var/lib/bot/audit';   -- var/audit without this
--   D .read sql/views/raw.sql
--   D SELECT symbol, count(*) FROM trades GROUP BY ALL;
--
-- Lines that the bot writes later are seen by the next query, files that it begins later once this is read again.
-- docs/querying.md has more. Made by `make views` from the files beside it: change those.
"""


def common_setup() -> list[str]:
    """What has to be there before the lines: macros, and the schema of what the views are made of."""
    sql = statements.load("views/records.sql")
    return [statements.load("load/checks.sql")["setup"], sql["setup"], sql["read_lines"]]


def views() -> Iterator[tuple[str, str]]:
    """Each view over ``raw.lines``, ``raw.paths`` and ``raw.files``, with its name, in the order they are made."""
    sql = statements.load("views/records.sql")
    yield "records", sql["records"]
    for kind in KINDS:
        name = "orders_created" if kind.table == "orders" else kind.table
        yield name, sql[name].replace("FROM accepted", f"FROM (\n{accepted(kind)}\n) AS accepted")
    yield "orders", sql["orders"]
    yield "segments", sql["segments"]
    yield "metrics", statements.load("metrics/duckdb.sql")["setup"]
    yield "round_trips", sql["round_trips"].replace("FROM trips", f"FROM (\n{round_trips('duckdb')}\n)")


def accepted(kind: Kind, *also: str) -> str:
    """The records of a kind that break none of the loader's rules (but those about a database's columns).

    ``also``: columns of the view of records that are wanted too.
    """
    columns = ", ".join(("event_name", "severity_text", "attributes", *also))
    shape = json.dumps({f.name: "JSON" if f.type in ("fee", "fees") else "VARCHAR" for f in kind.fields})
    values = ",\n    ".join(
        f'a."{f.name}" AS "{f.name}"' if f.type in ("fee", "fees") else f'nullif(a."{f.name}", \'\') AS "{f.name}"'
        for f in kind.fields
    )
    source = (
        f'SELECT\n    stream, seq, "timestamp", {columns},\n    {values}\n'  # noqa: S608
        f"FROM (\n    SELECT *, CASE WHEN random() < 2 THEN json_transform(attributes, '{shape}') END AS a\n"
        f"    FROM records\n    WHERE {_is_kind(kind)}\n)"
    )
    if any(f.name == "fees" for f in kind.fields):
        fees = statements.load("load/checks.sql")["fees"].rstrip(";")
        source = fees.replace("FROM source", f"FROM (\n{source}\n)")
    conditions = "\n    AND ".join(_conditions(kind))
    return f"SELECT *\nFROM (\n{source}\n)\nWHERE\n    {conditions}"


def _is_kind(kind: Kind) -> str:
    if kind.event_name:
        return f"event_name = '{kind.event_name}'"
    others = (*CONTROL_EVENTS, *(other.event_name for other in KINDS if other.event_name))
    return f"event_name NOT IN ({', '.join(quoted(name) for name in others)})"


def _conditions(kind: Kind) -> Iterator[str]:
    yield "true"
    for f in kind.fields:
        if f.required:
            yield f'"{f.name}" IS NOT NULL'
        if f.type in ("number", "fee"):
            yield f'("{f.name}" IS NULL OR is_number("{f.name}") OR is_infinite_or_nan("{f.name}"))'
        if f.type == "time":
            yield f'("{f.name}" IS NULL OR is_moment("{f.name}"))'
    if kind.name == "order_update":
        yield "(order_id IS NOT NULL OR client_order_id IS NOT NULL)"


def quoted(text: str) -> str:
    """As a text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def script() -> str:
    """The text of ``sql/views/raw.sql``: everything, to be read any number of times in a session."""
    own = statements.load("views/script.sql")
    before = [own["folder"], own["files"], *common_setup(), own["reading"], own["control"]]
    lines = [own["segments_read"], own["chosen"], own["lines"], own["described"]]
    parts = [*before, *lines, *(sql for _, sql in views()), own["nothing_found"]]
    text = "\n\n".join(part if part.endswith(";") else part + ";" for part in parts)
    again = re.sub(r"^CREATE (MACRO|TABLE|VIEW)", r"CREATE OR REPLACE \1", text, flags=re.MULTILINE)
    return f"{_HEAD}\n{again}\n"


if __name__ == "__main__":
    sys.stdout.write(script())
