"""The steps of the metrics for Spark: the shared SQL, translated, and what Spark does in its own way.

The shared steps are read as PostgreSQL's and written as Spark's by sqlglot. What it would translate into something of
another meaning is put into Spark's words here first, or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlglot import ErrorLevel, exp, parse_one
from sqlglot.errors import SqlglotError

from .. import statements
from ..errors import EnvironmentFault
from ..round_trips import period, summary_steps, trip_steps
from ..staging import filled

_FILE = "metrics/spark.sql"
_PARAMETERS = {"product_of": ("a", "b"), "ratio_of": ("a", "b"), "quote_of": ("symbol",)}
# Steps that several others read, with what a person is told meanwhile: Spark would work them out anew for each.
KEPT: Mapping[str, str] = {
    "listed_fees": "reading fees",
    "countable": "reading fills",
    "numbered": "walking through positions",
    "parts": "matching entries and exits",
    "portions": "sharing out fees",
    "round_trips": "making round trips",
    "chosen_parts": "choosing the period",
}


def steps(by: str | None, since: datetime | None, until: datetime | None) -> dict[str, str]:
    """The steps from ``archived_trades`` to ``figures``, by name, in order; see :func:`loader.round_trips.figures`."""
    own = statements.load(_FILE)
    chosen = [f"grouped <= {int(by is not None)}", *period(since, until)]
    found = trip_steps("spark") | summary_steps(by, chosen)
    found["figures"] = statements.load("metrics/summary.sql")["figures"]
    return {name: sql if name in own else translated(sql) for name, sql in found.items()}


def translated(sql: str) -> str:
    """A SELECT of PostgreSQL's as Spark's. An :class:`EnvironmentFault` for what has no equal there."""
    try:
        tree = parse_one(sql, dialect="postgres")
        for kind, in_words_of_spark in _OTHERWISE.items():
            for node in reversed(list(tree.find_all(kind))):  # the innermost first
                node.replace(in_words_of_spark(node))
        for kind in (exp.ArrayAgg, exp.Array, exp.AtTimeZone, exp.Dot):
            if (left := tree.find(kind)) is not None:
                raise EnvironmentFault(f"no words of Spark are known for {left.sql(dialect='postgres')}")
        return str(tree.sql(dialect="spark", unsupported_level=ErrorLevel.RAISE))
    except SqlglotError as error:
        raise EnvironmentFault(f"the SQL of the metrics cannot be translated: {error}") from error


def _function(node: exp.Expression) -> exp.Expression:
    """``monitoring.product_of(x, y)``: what Spark's file says it is, of x and y."""
    call = node.expression
    if node.this.name != "monitoring" or call.name not in _PARAMETERS:
        return node
    given = [argument.sql(dialect="spark", unsupported_level=ErrorLevel.RAISE) for argument in call.expressions]
    words = dict(zip(_PARAMETERS[call.name], given, strict=True))
    return exp.Var(this=filled(statements.load(_FILE)[call.name], **words))


def _cast(node: exp.Expression) -> exp.Expression:
    """``CAST(NULL AS bigint)``: NULL takes the type of what it stands for, of n, which is no number here."""
    return node.this if isinstance(node.this, exp.Null) else node


def _at_zone(node: exp.Expression) -> exp.Expression:
    """``AT TIME ZONE 'UTC'`` is the session's zone."""
    return node.this if node.args["zone"].name == "UTC" else node


def _over(node: exp.Expression) -> exp.Expression:
    """``sum(x) OVER w - y``: Spark would take w - y for the name of the window."""
    return exp.Paren(this=node.copy()) if node.alias else node


def _first_of(node: exp.Expression) -> exp.Expression:
    """``(array_agg(x ORDER BY n DESC) FILTER (WHERE y))[1]``: x of the greatest n; sqlglot would lose the order."""
    filtered = node.this.unnest()
    aggregate = filtered.this if isinstance(filtered, exp.Filter) else None
    order = aggregate.this if isinstance(aggregate, exp.ArrayAgg) else None
    if not isinstance(order, exp.Order) or len(order.expressions) != 1:
        return node
    by = order.expressions[0]
    name = "MAX_BY" if by.args.get("desc") else "MIN_BY"
    filtered.set("this", exp.Anonymous(this=name, expressions=[order.this, by.this]))
    return filtered


_OTHERWISE: Mapping[type[exp.Expression], Callable[[exp.Expression], exp.Expression]] = {
    exp.Dot: _function,
    exp.Cast: _cast,
    exp.AtTimeZone: _at_zone,
    exp.Window: _over,
    exp.Bracket: _first_of,
}
