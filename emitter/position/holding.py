"""What a position knows of itself: its sides, its orders, and how much of it is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

from .executions import Executed
from .figures import ZERO, less, number, product, total

_ENTRY_SIDES = {"buy": "buy", "long": "buy", "sell": "sell", "short": "sell"}
_OTHER_SIDE = {"buy": "sell", "sell": "buy"}
_DUST = Decimal("0.01")  # of what was entered: what fees in the coin itself and steps of sizes leave behind
_ENDED_KEPT = 8


@dataclass(frozen=True, slots=True)
class Role:
    """What an order is for: whether it closes the position, or waits to protect it; its type where none is said."""

    name: str
    type: str
    closes: bool = True
    protects: bool = False


ENTRY = Role("entry", "MARKET", closes=False)
EXIT = Role("exit", "MARKET")
STOP_LOSS = Role("stop_loss", "STOP_MARKET", protects=True)
TAKE_PROFIT = Role("take_profit", "TAKE_PROFIT_MARKET", protects=True)


@dataclass(slots=True, eq=False)
class Order:
    """An order of the position. ``waits``: the exchange may still execute it."""

    role: Role
    order_id: Any = None
    client_order_id: Any = None
    side: Any = None
    type: Any = None
    size: Any = None
    price: Any = None
    waits: bool = True
    executed: Executed = field(default_factory=Executed)

    @property
    def ids(self) -> dict[str, Any]:
        """What names it, in a record."""
        return {"order_id": self.order_id, "client_order_id": self.client_order_id}

    @property
    def filled(self) -> bool:
        """Whether it is known to be filled whole."""
        size = number(self.size)
        return size is not None and ZERO < size.copy_abs() <= self.executed.filled


@dataclass(slots=True)
class Holding:
    """A position as far as it is known: the side of its entry; ``quantity`` and ``price`` as they were planned."""

    side: str | None = None
    quantity: Any = None
    price: Any = None
    orders: list[Order] = field(default_factory=list)

    def find(self, ids: Mapping[str, Any]) -> Order | None:
        """The order of these ids. A client's id names it only as long as no two ``order_id`` contradict each other."""
        order_id, client_order_id = ids.get("order_id"), ids.get("client_order_id")
        for order in reversed(self.orders):
            if order_id is not None and order.order_id == order_id:
                return order
        for order in reversed(self.orders):
            contradicted = order_id is not None and order.order_id is not None
            if client_order_id is not None and order.client_order_id == client_order_id and not contradicted:
                return order
        return None

    def protecting(self) -> list[Order]:
        """The orders that wait to protect the position, the oldest first."""
        return [order for order in self.orders if order.waits and order.role.protects]

    def newest(self, role: Role) -> Order | None:
        """The last order of a role that waits; where none does, the last one."""
        orders = self._of(role)
        return next((order for order in reversed(orders) if order.waits), orders[-1] if orders else None)

    def oldest(self, role: Role) -> Order | None:
        """The first order of a role that waits; where none does, the last one."""
        orders = self._of(role)
        return next((order for order in orders if order.waits), orders[-1] if orders else None)

    def _of(self, role: Role) -> list[Order]:
        return [order for order in self.orders if order.role is role]

    def add(self, order: Order) -> None:
        """Remember an order, and forget most that it took the place of: a stop may be moved ten thousand times.

        Not the last ones: an exchange may execute a stop while it is replaced.
        """
        ended = [o for o in self._of(order.role) if o.role.protects and not o.waits and o.executed.filled == ZERO]
        if len(ended) > _ENDED_KEPT:
            self.orders.remove(ended[0])
        self.orders.append(order)

    def side_of(self, role: Role, said: Any) -> Any:
        """The side of an order: as it says, else by its role. ``long`` and ``short`` are sides of the position."""
        if said in _OTHER_SIDE:
            if self.side is None:
                self.side = _OTHER_SIDE[said] if role.closes else said
            return said
        entry = entry_side(said) or self.side
        if entry is None:
            return said
        self.side = self.side or entry
        return _OTHER_SIDE[entry] if role.closes else entry

    def left(self) -> Decimal | None:
        """How much of the position there is, as far as it is known; below 0 where more was closed than opened."""
        entered = self._entered()
        if entered is None:
            return None
        return less(entered, total(o.executed.filled for o in self.orders if o.role.closes))

    def size_for(self, role: Role) -> Any:
        """How much an order of this role is for, where it does not say; one of the bot's own numbers, if it is one."""
        if not role.closes:
            return None if any(order.role is ENTRY for order in self.orders) else self.quantity
        left = self.left()
        if left is None or left <= 0:
            return None
        figures = [self.quantity, *(o.size for o in self.orders)]
        return next((figure for figure in figures if number(figure) == left), left)

    def is_closed(self, status: Any) -> bool:
        """Whether nothing is left but dust; where sizes are not known, whether an order of this status closed it."""
        left, entered = self.left(), self._entered()
        if left is None or entered is None:
            return bool(status == "FILLED")
        return left <= product(entered, _DUST)

    def _entered(self) -> Decimal | None:
        """What the entries filled; what was planned, as long as none is known to have filled anything."""
        entries = [order for order in self.orders if order.role is ENTRY]
        filled = total(order.executed.filled for order in entries)
        if filled > ZERO or (entries and not any(order.waits for order in entries)):
            return filled
        return number(self.quantity)


def entry_side(said: Any) -> str | None:
    """``buy`` or ``sell``, of words such as ``buy``, ``LONG``, and of enums of those; None of all others."""
    if isinstance(said, Enum):
        said = said.value if isinstance(said.value, str) else said.name
    return _ENTRY_SIDES.get(str.strip(said).lower()) if isinstance(said, str) else None
