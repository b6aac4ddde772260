"""The SQL of the metrics, put together for an engine: DuckDB over the raw views, PostgreSQL, or Spark.

``sql/metrics/round_trips.sql`` and ``summary.sql`` run unchanged on the first two; ``spark_sql`` translates them. What
an engine does in its own way, reading fills and fees and counting seconds, stands in ``duckdb.sql``, ``postgres.sql``
and ``spark.sql``; its arithmetic in macros there, and in functions that a migration makes. Each statement is a step
that reads the ones before by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

from . import statements

Engine = Literal["duckdb", "postgres", "spark"]

_TRIP_STEPS = (
    *("judged", "valued", "countable", "fills", "paid", "walked", "numbered", "pieces"),
    *("cuts", "parts", "shares", "portions", "trips", "round_trips"),
)
_SUMMARY_STEPS = ("chosen_trips", "chosen_parts", "equity", "trip_figures", "fill_figures", "fees_paid", "fee_figures")
_INPUT_STEPS = {
    "duckdb": ("recorded", "trade_rows", "listed_fees"),
    "postgres": ("trade_rows", "listed_fees"),
    "spark": ("trade_rows", "listed_fees"),
}
# Steps that several others read, or whose arithmetic an engine would repeat for each mention of a column.
_COMPUTED_ONCE = (
    *("recorded", "countable", "fills", "numbered", "parts", "shares", "portions", "round_trips"),
    *("chosen_parts", "equity", "fees_paid"),
)

# What figures can be grouped by. Days, weeks (by their Monday) and months are those of UTC.
LABELS: Mapping[str, str] = {
    "day": "CAST(CAST(counted_at AT TIME ZONE 'UTC' AS date) AS text)",
    "week": "CAST(CAST(date_trunc('week', counted_at AT TIME ZONE 'UTC') AS date) AS text)",
    "month": "substr(CAST(CAST(counted_at AT TIME ZONE 'UTC' AS date) AS text), 1, 7)",
    "exchange": "exchange",
    "symbol": "symbol",
    "side": "side",
    "signal": "signal_id",
    "quote": "quote",
    "reason": "exit_reason",
}


def round_trips(engine: Engine) -> str:
    """A SELECT of all round trips, a row each."""
    steps = trip_steps(engine)
    trips = steps.pop("round_trips")
    return f"{with_steps(steps)}\n{trips}"


def figures(engine: Engine, by: str | None, since: datetime | None, until: datetime | None) -> str:
    """A SELECT of the figures: a row with ``grouped`` 0 for the total, and one with 1 for each label of ``by``."""
    chosen = [f"grouped <= {int(by is not None)}", *period(since, until)]
    steps = trip_steps(engine) | summary_steps(by, chosen)
    return f"{with_steps(steps)}\n{statements.load('metrics/summary.sql')['figures']}"


def summary_steps(by: str | None, chosen: Iterable[str]) -> dict[str, str]:
    """The steps from round trips to figures, by name, for those that meet all conditions of ``chosen``."""
    sql = statements.load("metrics/summary.sql")
    words = {"label": LABELS[by] if by else "NULL", "chosen": " AND ".join(chosen)}
    return {name: _filled(sql[name], words) for name in _SUMMARY_STEPS}


def period(since: datetime | None, until: datetime | None) -> list[str]:
    """The conditions that a time lies from ``since`` until before ``until``."""
    return [f"counted_at {sign} {_moment(at)}" for sign, at in ((">=", since), ("<", until)) if at is not None]


def trip_steps(engine: Engine) -> dict[str, str]:
    """The steps from fills to round trips, by name, in order; a step that an engine's file has is its own."""
    own, shared = statements.load(f"metrics/{engine}.sql"), statements.load("metrics/round_trips.sql")
    seconds = _filled(own["seconds"], {"from": "opened_at", "to": "closed_at"})
    steps = {name: own[name] for name in _INPUT_STEPS[engine]}
    return steps | {name: own.get(name) or _filled(shared[name], {"seconds": seconds}) for name in _TRIP_STEPS}


def with_steps(steps: Mapping[str, str]) -> str:
    """The WITH clause of some steps."""
    return "WITH " + ", ".join(
        f"{name} AS {'MATERIALIZED' if name in _COMPUTED_ONCE else 'NOT MATERIALIZED'} (\n{sql}\n)"
        for name, sql in steps.items()
    )


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, replacement in words.items():
        text = text.replace("{" + word + "}", replacement)
    return text


def _moment(at: datetime) -> str:
    return f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat(timespec='microseconds')}'"
