"""``tradetrail live``: how a trail is and what was traded last, looked at again and again.

What is looked at is a :class:`Feed`: the files of a log directory (``logs``), or PostgreSQL (``database``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ..report.health import Digest

# An order has at, exchange, symbol, type, side, size, price, status, filled; a trade has at, exchange, symbol, side,
# quantity, price, fee, fee_currency, fees, position_id. ``at`` is an aware datetime or None, the rest as it was found.
Row = Mapping[str, Any]
# More than a tall terminal shows.
MOST_ROWS = 100


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream. ``state`` is as ``tradetrail status`` has it; ``missing`` counts numbers that no record has.

    ``rejected`` and ``behind`` are None where no database was asked, or no files lie there.
    """

    stream: str
    service: str
    state: str
    records: int
    missing: int
    rejected: int | None = None
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. ``away``: why the database could not be asked; the rest is then what it was when it last could be."""

    streams: Sequence[Stream] = ()
    segments: int = 0
    newest: Digest | None = None
    last_at: datetime | None = None
    loaded_at: datetime | None = None
    orders: Sequence[Row] = ()
    trades: Sequence[Row] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    away: str | None = None

    def total(self, name: str) -> int | None:
        """The sum of a figure over all streams; None where it is not known of one."""
        values = [getattr(stream, name) for stream in self.streams]
        return None if None in values else sum(values)


class Feed(Protocol):
    """Something that can be looked at, cheaply, every few seconds."""

    async def look(self) -> Seen:
        """How it is now."""

    async def close(self) -> None:
        """Hang up."""
