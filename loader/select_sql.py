"""The one SELECT that a person asks: told from all else that DuckDB would do, and put in an order."""

from __future__ import annotations

import json

import duckdb

from .errors import UsageError

# What these say has an order of its own: DESCRIBE, SUMMARIZE and SHOW; VALUES.
_IN_ORDER = ("SHOW_REF", "EXPRESSION_LIST")


def selected(duck: duckdb.DuckDBPyConnection, sql: str, hint: str) -> str:
    """The SELECT as what another one can read from; anything else is a :class:`UsageError` that ends with ``hint``.

    A SELECT may write files by a COPY in its WITH clause; DuckDB refuses that inside another query.
    """
    asked = duck.extract_statements(sql)
    if len(asked) != 1 or asked[0].type != duckdb.StatementType.SELECT:
        raise UsageError(f"one SELECT, and nothing else, can be asked; {hint}")
    return f"(\n{_without_end(sql)}\n)"


def in_order(duck: duckdb.DuckDBPyConnection, sql: str, select: str) -> str:
    """The same; where it has no order, by its columns from left to right: the same rows are the same text each time."""
    told = duck.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    tree = json.loads(told[0][0])
    if tree["error"]:
        return select
    node = tree["statements"][0]["node"]
    if node.get("from_table", {}).get("type") in _IN_ORDER:
        return select
    if any(modifier["type"] == "ORDER_MODIFIER" for modifier in node["modifiers"]):
        return select
    return f"(SELECT * FROM {select} ORDER BY ALL)"  # noqa: S608


def _without_end(sql: str) -> str:
    """Without the semicolon at its end, and what is said behind it."""
    text = sql.encode()
    end = len(text)
    for at, kind in reversed(duckdb.tokenize(sql)):
        if kind == duckdb.token_type.comment:
            continue
        if text[at : at + 1] != b";":
            break
        end = at
    return text[:end].decode().strip()
