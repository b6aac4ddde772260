"""DuckDB in memory, as each part of the loader has one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb


def opened(spill: Path, memory_limit: str, **more: str | int) -> duckdb.DuckDBPyConnection:
    """An engine that is bounded, spills into a folder, and loads no extension from anywhere; ``more`` settings of it.

    Its times are in UTC.
    """
    engine = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory_limit,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            **more,
        },
    )
    engine.execute("SET GLOBAL TimeZone = 'UTC'")
    return engine


def insert(engine: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Put rows into a table, a list for each column: DuckDB takes a millisecond for each statement that brings one."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        engine.execute(f"INSERT INTO {table} SELECT {', '.join(['unnest(?)'] * len(columns))}", columns)
