"""The SQL of the report, for an engine: what is worked out once as temporary tables, then questions to these.

The steps are those of the metrics (``sql/metrics``), so that a report says what ``tradetrail metrics`` says; what only
a report asks is in ``sql/report``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from .. import statements
from ..metrics import Asked
from ..round_trips import Engine, period, summary_steps, trip_steps, with_steps
from ..staging import filled

# As verify's rules take them; what an exchange calls otherwise is not final.
FINAL = "('FILLED', 'CANCELED', 'CANCELLED', 'REJECTED', 'EXPIRED', 'EXPIRED_IN_MATCH')"
# Up to so many points a curve is whole; beyond, of so many stretches of time each its extremes.
WHOLE_CURVE = 2000
CURVE_BINS = 500
MOST_ROWS = 50
MOST_UNPROTECTED = 20
# What makes the fills count, and the round trips of them.
_OF_FILLS = ("recorded", "trade_rows", "judged", "valued")
_OF_PORTIONS = ("fills", "paid", "walked", "numbered", "pieces", "cuts", "parts", "shares")
# In the place of steps that go over all fills, where only round trips are asked for.
_TRIPS_ALONE = {
    "fill_figures": (
        "SELECT grouped, label, count(*) AS fills, 0 AS fills_without_fee, 0 AS open_quantity, 0 AS open_symbols, "
        "min(quote) AS quote, count(DISTINCT quote) AS quotes FROM chosen_trips GROUP BY grouped, label"
    ),
    "fee_figures": "SELECT 0 AS grouped, '' AS label, '' AS fees_by_currency FROM chosen_trips WHERE false",
}
_NEEDLESS = ("chosen_parts", "fees_paid")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is asked of: a period, and of a profit in several currencies one (``''``: the unknown one)."""

    since: datetime | None = None
    until: datetime | None = None
    quote: str | None = None

    @property
    def asked(self) -> Asked:
        return Asked(None, self.since, self.until)

    def conditions(self) -> list[str]:
        """On ``counted_at`` and ``quote``."""
        quote = {None: [], "": ["quote IS NULL"]}.get(self.quote, [f"quote = {_literal(self.quote or '')}"])
        return [*period(self.since, self.until), *quote]


def tables(engine: Engine) -> list[tuple[str, str]]:
    """What is made first, as (what a person is told, statement), in order. Later ones read earlier ones by name."""
    steps = trip_steps(engine)
    own = statements.load(f"report/{engine}.sql")
    seconds = filled(statements.load(f"metrics/{engine}.sql")["seconds"], **{"from": "created_at", "to": "updated_at"})
    of_fills = {name: steps[name] for name in _OF_FILLS if name in steps and name != "recorded"}
    made = [("reading fills", _table("recorded", steps["recorded"]))] if "recorded" in steps else []
    made += [
        ("reading fees", _table("listed_fees", steps["listed_fees"])),
        ("reading fills", _table("countable", f"{with_steps(of_fills)}\n{steps['countable']}")),
        ("reading fills", "CREATE TEMPORARY VIEW fills AS SELECT * FROM countable WHERE counts"),
        (
            "finding round trips",
            _table("portions", f"{with_steps({name: steps[name] for name in _OF_PORTIONS})}\n{steps['portions']}"),
        ),
        (
            "finding round trips",
            _table("round_trips", f"{with_steps({'trips': steps['trips']})}\n{steps['round_trips']}"),
        ),
        ("reading orders", _table("order_rows", filled(own["order_rows"], seconds=seconds, final=FINAL))),
    ]
    if engine == "postgres":  # which does not look at temporary tables by itself
        made.append(("reading orders", "ANALYZE countable, listed_fees, portions, round_trips, order_rows"))
    return made


def figures(scope: Scope) -> str:
    """The figures of all that is in scope, as ``tradetrail metrics`` has them."""
    return _summary(None, ["grouped = 0", *scope.conditions()], {})


def figures_by(scope: Scope, by: str) -> str:
    """The figures of the round trips of each label; those of fills, fees by currency and what is open are not."""
    return _summary(by, ["grouped = 1", *scope.conditions()], _TRIPS_ALONE)


def curve_tables(scope: Scope) -> list[str]:
    """Statements that make the equity curve, in the place of one that was made before, for :func:`of_curve`."""
    steps = summary_steps(None, ["grouped = 0", *scope.conditions()])
    before = with_steps({key: steps[key] for key in ("chosen_trips", "equity")})
    name = "curve_in_question"
    return [
        f"DROP TABLE IF EXISTS {name}",
        _table(name, f"{before}\n{statements.load('report/report.sql')[name]}"),
    ]


def of_curve(engine: Engine, name: str, **words: object) -> str:
    """A statement of ``report.sql`` that reads the equity curve."""
    return _asking(engine, name, {}, **words)


def part_tables(engine: Engine, scope: Scope) -> list[str]:
    """Statements that make the parts of fills in scope, and the positions entered by them, for :func:`of_parts`."""
    sql = statements.load("report/report.sql")
    known = _words(engine) | {"chosen": _all(period(scope.since, scope.until))}
    return [_table(name, filled(sql[name], **known)) for name in ("parts_in_question", "entered")]


def of_parts(engine: Engine, name: str, *before: str, **words: object) -> str:
    """A statement of ``report.sql`` that reads the parts of fills, or steps ``before`` it that do."""
    sql, known = statements.load("report/report.sql"), _words(engine)
    return _asking(engine, name, {key: filled(sql[key], **known) for key in before}, **words)


def of_orders(engine: Engine, name: str, scope: Scope, **words: object) -> str:
    """A statement of ``report.sql`` that reads the orders."""
    sql = statements.load("report/report.sql")
    chosen = _all(period(scope.since, scope.until))
    return _asking(engine, name, {"orders_in_question": filled(sql["orders_in_question"], chosen=chosen)}, **words)


def _summary(by: str | None, conditions: list[str], instead: Mapping[str, str]) -> str:
    steps = {**summary_steps(by, conditions), **instead}
    kept = {name: sql for name, sql in steps.items() if not (instead and name in _NEEDLESS)}
    return f"{with_steps(kept)}\n{statements.load('metrics/summary.sql')['figures']}"


def _asking(engine: Engine, name: str, steps: Mapping[str, str], **words: object) -> str:
    sql = statements.load("report/report.sql")[name]
    known = _words(engine) | {key: str(word) for key, word in words.items()}
    before = f"{with_steps(steps)}\n" if steps else ""
    return before + filled(sql, **known)


def _words(engine: Engine) -> dict[str, str]:
    milliseconds = statements.load(f"report/{engine}.sql")["milliseconds"]
    return {
        "closed_ms": filled(milliseconds, at="closed_at"),
        "opened_ms": filled(milliseconds, at="min(executed_at)"),
        "entered_ms": filled(milliseconds, at="min(executed_at)"),
        "whole": str(WHOLE_CURVE),
        "bins": str(CURVE_BINS),
        "most": str(MOST_ROWS),
    }


def _table(name: str, select: str) -> str:
    return f"CREATE TEMPORARY TABLE {name} AS {select}"


def _all(conditions: list[str]) -> str:
    return " AND ".join(conditions) or "true"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
