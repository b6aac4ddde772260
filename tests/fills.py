"""Fills in plain Python: round trips by FIFO as ``docs/metrics.md`` defines them, and how tests log fills."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from emitter import AuditLog


@dataclass(frozen=True)
class Fill:
    """One fill; ``at`` in seconds, equal ones on purpose. ``fees`` are (currency, cost)."""

    at: int
    side: str
    quantity: str
    price: str
    symbol: str = "AB/USDT"
    position_id: str | None = None
    fees: tuple[tuple[str | None, str], ...] = ()
    contract_size: str | None = None
    signal_id: int | None = None

    @property
    def units(self) -> Fraction:
        return Fraction(self.quantity) * Fraction(self.contract_size or 1)

    @property
    def quote_fee(self) -> Fraction:
        return sum((Fraction(cost) for currency, cost in self.fees if currency == "USDT"), Fraction(0))


@dataclass
class Lot:
    """What is left of an entry."""

    fill: Fill
    units: Fraction


@dataclass
class Trip:
    """What was opened and closed."""

    fill: Fill
    side: str
    closed_at: int = 0
    opened_at: int = 0
    quantity: Fraction = Fraction(0)
    gross: Fraction = Fraction(0)
    fees: Fraction = Fraction(0)

    @property
    def net(self) -> Fraction:
        return self.gross - self.fees


@dataclass
class Lane:
    """The fills of a position, else of a symbol."""

    lots: deque[Lot] = field(default_factory=deque)
    trips: list[Trip] = field(default_factory=list)
    open_trip: Trip | None = None


def round_trips(fills: Iterable[Fill]) -> tuple[list[Trip], Fraction]:
    """The round trips of fills in the order that they were logged in, and the quantity that is still open."""
    lanes: dict[tuple[str, str | None], Lane] = {}
    for fill in sorted(fills, key=lambda fill: fill.at):
        _take(lanes.setdefault((fill.symbol, fill.position_id), Lane()), fill)
    left = sum((lot.units for lane in lanes.values() for lot in lane.lots), Fraction(0))
    return [trip for lane in lanes.values() for trip in lane.trips], left


def _take(lane: Lane, fill: Fill) -> None:
    left = fill.units
    while left and lane.lots and lane.lots[0].fill.side != fill.side:
        lot = lane.lots[0]
        units = min(left, lot.units)
        _close(lane, lot.fill, fill, units)
        left -= units
        lot.units -= units
        if not lot.units:
            lane.lots.popleft()
    if left:
        if not fill.position_id or not lane.lots:
            lane.open_trip = None
        lane.lots.append(Lot(fill, left))
    elif not lane.lots:
        lane.open_trip = None


def _close(lane: Lane, entry: Fill, leave: Fill, units: Fraction) -> None:
    if lane.open_trip is None:
        lane.open_trip = Trip(entry, "long" if entry.side == "buy" else "short", opened_at=entry.at)
        lane.trips.append(lane.open_trip)
    trip = lane.open_trip
    sign = 1 if trip.side == "long" else -1
    trip.quantity += units
    trip.gross += sign * units * (Fraction(leave.price) - Fraction(entry.price))
    trip.fees += sum((fill.quote_fee * units / fill.units for fill in (entry, leave)), Fraction(0))
    trip.closed_at = leave.at


def log(audit: AuditLog, fills: Sequence[Fill]) -> None:
    """Write fills, each of an order of its own."""
    for number, fill in enumerate(fills, 1):
        fields: dict[str, Any] = {"position_id": fill.position_id, "contract_size": fill.contract_size}
        if len(fill.fees) == 1:
            ((fields["fee_currency"], fields["fee"]),) = fill.fees
        elif fill.fees:
            fields["fees"] = [{"currency": currency, "cost": cost} for currency, cost in fill.fees]
        audit.trade(
            exchange="bybit",
            symbol=fill.symbol,
            side=fill.side,
            price=fill.price,
            executed_qty=fill.quantity,
            order_id=f"o{number}",
            trade_id=f"t{fill.at}-{number}",
            order_type="MARKET",
            signal_id=fill.signal_id,
            executed_at=1_700_000_000 + fill.at,
            **fields,
        )
