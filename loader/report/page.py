"""The report as one page of HTML that needs nothing else: style, script, plots and figures are in it.

Whatever the log says is escaped: jinja2 does it in the text, and the plots' JSON has no sign that ends a script. The
page's own policy (Content-Security-Policy) allows two scripts by their digests, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from emitter import __version__

from ..show import decimal_text
from . import numbers as shown
from . import plots
from .months import NAMES, years_of
from .report import GROUPS, MOST_CURRENCIES, Money, Report
from .sql import MOST_ROWS, MOST_UNPROTECTED

_FILTERS = {
    "amount": shown.amount,
    "number": shown.number,
    "ratio": shown.ratio,
    "percent": shown.percent,
    "duration": shown.duration,
    "minute": shown.minute,
    "machine_time": shown.machine_time,
    "moment": shown.moment,
    "word": shown.word,
}
# The head of every page: by it a report is known as one.
MARK = '<meta name="generator" content="tradetrail report">'


def page(report: Report) -> str:
    """The page."""
    library, own = _harmless(plots.script()), _harmless(_file("report.js"))
    return (
        _template()
        .render(
            report=report,
            mark=Markup(MARK),  # noqa: S704  our own text
            version=__version__,
            style=Markup(_file("report.css")),  # noqa: S704
            scripts=[Markup(library), Markup(own)],  # noqa: S704
            policy=_policy(library, own),
            plots=[_plots_of(number, money) for number, money in enumerate(report.trading.money, 1)],
            years=[years_of(money.months) for money in report.trading.money],
            month_names=NAMES,
            groups=GROUPS,
            most_rows=MOST_ROWS,
            most_unprotected=MOST_UNPROTECTED,
            most_currencies=MOST_CURRENCIES,
            of_groups=_of_groups,
        )
        .lstrip()
    )


def _plots_of(number: int, money: Money) -> dict[str, Any]:
    quote = shown.word(money.figures["quote"])
    made = {}
    if money.curve.points:
        made[f"curve-{number}"] = plots.curve(money.curve, quote)
    if money.bars.counts:
        made[f"distribution-{number}"] = plots.distribution(money.bars, quote)
    return {name: _json(plot) for name, plot in made.items()}


def _of_groups(money: Money, name: str) -> list[Any]:
    """The groups with the most trades, the most profitable first."""
    kept = sorted(money.by[name], key=lambda figures: -figures["trades"])[:MOST_ROWS]
    return sorted(kept, key=lambda figures: (-figures["net_pnl"], str(figures[name])))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_file),
    )
    environment.filters.update(_FILTERS)
    environment.filters["exact"] = _exact
    return environment.get_template("report.html.j2")


def _exact(value: Decimal | int) -> str:
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


@cache
def _file(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _json(value: object) -> Markup:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  no sign of HTML is left in it


def _harmless(script: str) -> str:
    """A script of ours as it may stand in HTML: nothing in it ends it early, or begins a comment."""
    return script.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(*scripts: str) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in digests),
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())
