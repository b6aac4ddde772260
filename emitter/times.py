"""Times as other people send them, made into one form: an aware ``datetime`` in UTC.

Exchanges and bots give times in seconds, milliseconds, microseconds or nanoseconds since 1970, as numbers
or as text, or in ISO 8601 with or without an offset; and they mix up the units. The size tells the unit.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from math import isfinite

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)
_SECONDS_BELOW = 10**11  # as seconds the year 5138, as milliseconds 1973: no trade stands beyond either
_MILLISECONDS_BELOW = 10**14
_MICROSECONDS_BELOW = 10**17
_NANOSECONDS_BELOW = 10**21  # beyond the year 9999
# The bot's own decimal context may hold few digits, or traps.
_EXACT = Context(prec=60, traps=[])


def time_from(value: object) -> datetime | None:
    """The moment that ``value`` means, in UTC, or None where it means none.

    ``value`` is a ``datetime``, an ISO 8601 text, or a number (also as text or ``Decimal``) since 1970 whose
    size tells the unit: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else
    nanoseconds. No offset means UTC. Digits below the microsecond are cut off: neither ``datetime`` nor
    PostgreSQL holds them.

    The start of 1970 and all before it (0, -1, Go's year 1) is what senders write for "not said": None. So is
    whatever cannot be read; nothing is raised.
    """
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return _since_epoch(Decimal(text))
        return _from_iso(text)
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        return _since_epoch(Decimal(value))
    if isinstance(value, float) and isfinite(value):
        return _since_epoch(Decimal(float.__repr__(value)))
    return None


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC with ``Z``: three decimals, or six where the time is known to the microsecond."""
    timespec = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def text_from(value: object) -> str | None:
    """:func:`time_text` of :func:`time_from`, or None where ``value`` means no moment."""
    if type(value) is int and _SECONDS_BELOW <= value < _MILLISECONDS_BELOW:  # what nearly all exchanges send
        return (_EPOCH + timedelta(milliseconds=value)).isoformat(timespec="milliseconds")[:-6] + "Z"
    moment = time_from(value)
    return None if moment is None else time_text(moment)


def text_from_iso_of_milliseconds(value: object) -> str | None:
    """As :func:`text_from`, for a text that somebody made of a number in milliseconds, as ccxt makes ``datetime``.

    Where the number was one of seconds, that text says January 1970; its milliseconds are the seconds.
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value.strip()):
        return text_from(value)
    moment = _from_iso(value.strip())
    if moment is None:
        return None
    milliseconds = (moment - _EPOCH) // _MILLISECOND
    return time_text(moment) if milliseconds >= _SECONDS_BELOW else text_from(milliseconds)


def _since_epoch(number: Decimal) -> datetime | None:
    if not number.is_finite() or not 0 < number < _NANOSECONDS_BELOW:
        return None
    if number < _SECONDS_BELOW:
        microseconds = int(_EXACT.multiply(number, 1_000_000))
    elif number < _MILLISECONDS_BELOW:
        microseconds = int(_EXACT.multiply(number, 1_000))
    elif number < _MICROSECONDS_BELOW:
        microseconds = int(number)
    else:
        microseconds = int(number) // 1_000
    try:
        return _said(_EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        return None


def _from_iso(text: str) -> datetime | None:
    try:
        return _in_utc(datetime.fromisoformat(text.upper()))
    except ValueError:
        return None


def _in_utc(moment: datetime) -> datetime | None:
    if moment.utcoffset() is None:
        return _said(moment.replace(tzinfo=UTC))
    try:
        return _said(moment.astimezone(UTC))
    except OverflowError:
        return None


def _said(moment: datetime) -> datetime | None:
    return moment if moment > _EPOCH else None
