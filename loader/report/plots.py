"""The plots of the page, as Vega-Lite specifications (vega.github.io/vega-lite/docs) for the page's script to draw.

Colours are the style sheet's variables, so that a plot follows light, dark and paper. JSON numbers are doubles: what
is exact stands in the tables.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import vl_convert

from .bars import Bars
from .numbers import amount
from .report import Curve

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_VERSION = "6.4"
_AXES = {
    "domainColor": "var(--line)",
    "gridColor": "var(--grid)",
    "labelColor": "var(--soft)",
    "tickColor": "var(--line)",
    "titleColor": "var(--soft)",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "labelOverlap": True,
}
_LOOK: dict[str, Any] = {
    "font": "system-ui, sans-serif",
    "background": None,
    "view": {"stroke": None},
    "axis": _AXES,
    "aria": True,
    "axisQuantitative": {"tickCount": 5},
}
_SHORT = "format(datum.value, abs(datum.value) < 1000 ? ',.6~g' : '~s')"
_TIMES = {
    "year": "%Y",
    "quarter": "%b %Y",
    "month": "%b %Y",
    "week": "%d %b",
    "date": "%d %b",
    "hours": "%H:%M",
    "minutes": "%H:%M",
    "seconds": "%H:%M:%S",
    "milliseconds": "%H:%M:%S.%L",
}
# Both plots of a curve begin at the same place.
_ROOM = {"minExtent": 58, "maxExtent": 58, "labelExpr": _SHORT}
_WIDTH = 800  # until the page's script knows how much room there is


@cache
def script() -> str:
    """The library that draws: Vega-Lite, Vega and vega-embed in one piece, which asks nothing of the network."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VERSION)


def curve(shown: Curve, quote: str) -> dict[str, Any]:
    """The equity curve with the drawdown below it; a range that is drawn over the drawdown is looked at above."""
    start = [(ms, Decimal(0), Decimal(0)) for ms, *_ in shown.points[:1]]
    points = [*start, *shown.points]
    values = [{"t": ms, "e": _double(equity), "d": -_double(drawdown)} for ms, equity, drawdown in points]
    time = {"field": "t", "type": "temporal", "scale": {"type": "utc"}}
    tip = [
        {"field": "t", "type": "temporal", "title": "closed (UTC)", "format": "%Y-%m-%d %H:%M:%S", "formatType": "utc"},
        {"field": "e", "type": "quantitative", "title": "equity", "format": ",.8~f"},
        {"field": "d", "type": "quantitative", "title": "drawdown", "format": ",.8~f"},
    ]
    equity = {"field": "e", "type": "quantitative", "title": f"equity, {quote}", "axis": _ROOM}
    near = {"name": "near", "select": {"type": "point", "on": "pointermove", "nearest": True, "clear": "pointerout"}}
    step = {"interpolate": "step-after", "aria": False, "clip": True}
    above = {
        "height": 260,
        "width": _WIDTH,
        "encoding": {
            "x": {
                **time,
                "scale": {"type": "utc", "domain": {"param": "range"}},
                "axis": {"title": None, "grid": False, "format": _TIMES},
            },
            "y": equity,
        },
        "layer": [
            {"mark": {"type": "line", "color": "var(--equity)", "strokeWidth": 1.75, **step}},
            {
                "params": [near],
                "mark": {"type": "point", "color": "var(--equity)", "filled": True, "aria": False, "clip": True},
                "encoding": {
                    "opacity": {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0},
                    "size": {"value": 60},
                    "tooltip": tip,
                },
            },
        ],
    }
    below = {
        "height": 90,
        "width": _WIDTH,
        "params": [
            {
                "name": "range",
                "select": {
                    "type": "interval",
                    "encodings": ["x"],
                    "mark": {"fill": "var(--equity)", "stroke": "var(--soft)"},
                },
            }
        ],
        "mark": {"type": "area", "color": "var(--loss)", "fillOpacity": 0.35, "line": {"color": "var(--loss)"}, **step},
        "encoding": {
            "x": {**time, "axis": {"title": "time of closing, UTC", "format": _TIMES}},
            "y": {
                "field": "d",
                "type": "quantitative",
                "stack": None,
                "title": "drawdown",
                "axis": {**_ROOM, "tickCount": 3},
            },
        },
    }
    says = f"Equity in {quote} after each closed round trip, and below it the drawdown from its peak."
    return _plot(says, values, {"vconcat": [above, below], "spacing": 12})


def distribution(bars: Bars, quote: str) -> dict[str, Any]:
    """How many round trips ended with how much."""
    values = []
    for bar, trips in bars.counts:
        low, high = bar * bars.step, (bar + 1) * bars.step
        words = f"{amount(low)} to {amount(high)} {quote}"
        if bar == bars.first:
            words = f"below {amount(high)} {quote}"
        elif bar == bars.last:
            words = f"{amount(low)} {quote} and more"
        kind = "loss" if bar < 0 else "win"
        values.append({"from": _double(low), "to": _double(high), "n": trips, "kind": kind, "range": words})
    scale = {"domain": ["win", "loss"], "range": ["var(--win)", "var(--loss)"]}
    return _plot(
        f"Number of round trips by net profit in {quote}.",
        values,
        {
            "height": 220,
            "width": _WIDTH,
            "mark": {"type": "bar", "tooltip": True, "binSpacing": 1},
            "encoding": {
                "x": {
                    "field": "from",
                    "bin": "binned",
                    "type": "quantitative",
                    "title": f"net profit, {quote}",
                    "axis": {"labelExpr": _SHORT, "grid": False},
                    "scale": {
                        "domain": [_double(bars.first * bars.step), _double((bars.last + 1) * bars.step)],
                        "nice": False,
                    },
                },
                "x2": {"field": "to"},
                "y": {
                    "field": "n",
                    "type": "quantitative",
                    "title": "round trips",
                    "axis": {**_ROOM, "tickMinStep": 1},
                },
                "color": {"field": "kind", "type": "nominal", "scale": scale, "legend": None},
                "tooltip": [
                    {"field": "range", "type": "nominal", "title": "net profit"},
                    {"field": "n", "type": "quantitative", "title": "round trips", "format": ","},
                ],
            },
        },
    )


def _plot(says: str, values: list[dict[str, Any]], what: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": _SCHEMA, "description": says, "data": {"values": values}, **what, "config": _LOOK}


def _double(value: Decimal) -> float:
    """In as few digits as a plot can show."""
    return float(f"{value:.9g}")
