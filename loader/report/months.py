"""The net profit by month as a table of years."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

from ..metrics import Figures

NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EXACT = Context(prec=60)
_MOST_YEARS = 50


@dataclass(frozen=True, slots=True)
class Year:
    """A year: its twelve months (None: nothing was closed), and their sum."""

    name: str
    months: tuple[Figures | None, ...]
    net_pnl: Decimal


def years_of(months: Sequence[Figures]) -> list[Year]:
    """The years in which something was closed, the last ones; ``months`` are figures by month."""
    known = {figures["month"]: figures for figures in months}
    names = sorted({month[:4] for month in known})[-_MOST_YEARS:]
    years = []
    for name in names:
        row = tuple(known.get(f"{name}-{month:02}") for month in range(1, 13))
        total = Decimal(0)
        for figures in row:
            if figures is not None:
                total = _EXACT.add(total, figures["net_pnl"])
        years.append(Year(name, row, total))
    return years
