"""Numbers and times as the page shows them: rounded for people, with thousands apart, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from ..text import visible

NOTHING = "\u2013"  # a dash: not known, not defined
_MINUS = "\u2212"
_LONGEST = 200


def amount(value: Decimal | int | None) -> str:
    """Two decimals from 1000 on, four from 0.01 on, else eight; without needless zeros, with a true minus."""
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}".replace("-", _MINUS)
    places = 2 if abs(value) >= 1000 else 4 if abs(value) >= Decimal("0.01") else 8
    text = f"{value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN):,f}"
    text = text.rstrip("0").rstrip(".") if "." in text and places > 2 else text
    return "0" if text in ("-0", "0") else text.replace("-", _MINUS)


def ratio(value: Decimal | None) -> str:
    """A number without unit, to four decimals."""
    return NOTHING if value is None else f"{value:,.4f}".rstrip("0").rstrip(".").replace("-", _MINUS)


def number(value: int | None) -> str:
    """A count."""
    return NOTHING if value is None else f"{value:,}"


def percent(value: Decimal | None) -> str:
    """A share of 1."""
    return NOTHING if value is None else f"{value * 100:.1f}\u00a0%"


def duration(seconds: Decimal | float | None) -> str:
    """A span of time by its two greatest units."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return _MINUS + duration(-seconds)
    if seconds < 10:
        return f"{float(seconds):.3g}\u00a0s"
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    parts = [(days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s")]
    return " ".join([f"{value}\u00a0{unit}" for value, unit in parts if value][:2])


def minute(milliseconds: int | None) -> str:
    """A time since 1970 in UTC, to the minute."""
    return NOTHING if milliseconds is None else _time(milliseconds, "%Y-%m-%d %H:%M")


def machine_time(milliseconds: int) -> str:
    """The same as ISO 8601."""
    return _time(milliseconds, "%Y-%m-%dT%H:%M:%SZ")


def moment(value: datetime | None) -> str:
    """A time in UTC, to the second."""
    return NOTHING if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def word(value: Any) -> str:
    """Text of others: what does not print is written as an escape, what is long is cut; a dash for none."""
    if value is None or value == "":
        return NOTHING
    text = str(value)
    return visible(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")


def _time(milliseconds: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return f"{milliseconds} ms since 1970"
