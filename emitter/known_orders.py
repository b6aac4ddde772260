"""The orders that a repository was told of, so that an update can name one by what the bot has at hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from .values import safe_text

MOST: Final = 8192  # orders; those that were not named for the longest time are forgotten first
PLACE: Final = ("exchange", "symbol")
_NOT_SAID: Final[Mapping[str, Any]] = {}
_Key = TypeVar("_Key", int, str)


class KnownOrders:
    """Exchange, symbol and ids of orders, by the number that the bot was given and by the exchange's id.

    An id that orders of several markets have names none of them: it is unique in its market only.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._by_number: OrderedDict[int, Mapping[str, Any]] = OrderedDict()  # a plain dict is slow to lose its first
        self._by_id: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    def add(self, number: int, order: Mapping[str, Any]) -> None:
        """Remember an order under its number and, where it has one, its id."""
        self._put(self._by_number, number, order)
        if order.get("order_id") is not None:
            key = safe_text(order["order_id"])
            place = {name: order[name] for name in PLACE if order.get(name) is not None}
            known = self._by_id.get(key, place)
            self._put(self._by_id, key, place if agree(known, place) else _NOT_SAID)

    def numbered(self, number: int) -> Mapping[str, Any] | None:
        """The order of a number; None for one that was not given out, or is forgotten."""
        return self._by_number.get(number)

    def place_of(self, order_id: object) -> Mapping[str, Any]:
        """Exchange and symbol of an exchange's id, as far as they are known."""
        key = safe_text(order_id)
        place = self._by_id.get(key)
        if place is None:
            return _NOT_SAID
        self._put(self._by_id, key, place)
        return place

    def _put(self, known: OrderedDict[_Key, Mapping[str, Any]], key: _Key, value: Mapping[str, Any]) -> None:
        """As the newest. Without a lock, which a signal handler could find taken by the call that it interrupts."""
        known[key] = value
        with suppress(KeyError):  # another thread was faster
            known.move_to_end(key)
            while len(known) > self._most:
                known.popitem(last=False)


def agree(order: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether nothing that is said is of another market than the order."""
    pairs = [(order.get(name), said.get(name)) for name in PLACE]
    return all(known is None or other is None or safe_text(known) == safe_text(other) for known, other in pairs)
