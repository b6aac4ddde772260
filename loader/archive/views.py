"""The views over the Parquet data set, as a script for ``duckdb`` itself: with the names of those over raw files.

Orders are folded, fills taken once and round trips made by the same SQL as there.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from emitter.records import KINDS

from .. import statements
from ..raw_views import common_setup, quoted, views
from ..staging import filled
from .parquet import FOLDER, of_view, selected


def script(folder: Path) -> str:
    """The text of the script for the archives in a folder, to be read any number of times in a session."""
    own = statements.load("archive/views.sql")
    parts = [*common_setup(), filled(own["files"], folder=quoted(str(folder / FOLDER)))]
    with duckdb.connect(":memory:") as engine:
        for statement in common_setup():
            engine.execute(statement)
        engine.execute("SET TimeZone = 'UTC'; CREATE TABLE raw.paths (path VARCHAR, stream VARCHAR, segment BIGINT)")
        engine.execute(statements.load("views/records.sql")["no_lines"])
        engine.execute(f"CREATE TABLE records AS {of_view(statements.load('views/records.sql')['records'])}")
        for kind in KINDS:
            described = engine.execute(f"DESCRIBE {selected(kind)}").fetchall()
            columns = [f'NULL::{type_} AS "{name}"' for name, type_, *_ in described]
            empty = f"SELECT {', '.join([*columns, 'NULL::DATE AS date'])} WHERE false"
            name = "raw.orders_created" if kind.table == "orders" else kind.table
            once = "\n" + own["once"] if kind.name == "trade" else ""
            words = {"kind": kind.name, "view": name, "once": once, "empty": empty.replace("'", "''")}
            parts.append(filled(own["read"], **words))
    parts += [sql for name, sql in views() if name in ("orders", "metrics", "round_trips")]
    text = "\n\n".join(part if part.endswith(";") else part + ";" for part in parts)
    return re.sub(r"^CREATE (MACRO|TABLE|VIEW)", r"CREATE OR REPLACE \1", text, flags=re.MULTILINE) + "\n"
