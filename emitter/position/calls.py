"""``Position``: what a bot calls, one method for each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..values import safe_text
from .answers import read
from .figures import magnitude
from .holding import ENTRY, EXIT, STOP_LOSS, TAKE_PROFIT, Holding, Order, Role, entry_side
from .lifecycle import Lifecycle

if TYPE_CHECKING:
    from ..audit import AuditLog

_MOST_TEXT = 500  # of an error


class Position:
    """One position of a bot, from its entry to its exit; made by ``AuditLog.position``.

    Each call takes what the bot has at that point: a ccxt order, a mapping or an object with such names, one fill of
    the order, its id alone, or nothing; and plain fields, which win over it. It returns the seq of its first record,
    or 0, as the calls of the log do. None raises, and none waits.

    A position remembers its orders, so that a fill that is told again makes no second trade, and an order is not opened
    twice. It is no place for the bot to look things up, and it is not meant to be used by two threads at once.
    """

    __slots__ = ("_audit", "_life")

    def __init__(self, audit: AuditLog, life: Lifecycle) -> None:
        self._audit = audit
        self._life = life

    # -- the position itself --

    def entry_placed(self, order: Any = None, /, **fields: Any) -> int:
        """The order that opens the position waits at the exchange: the order, NEW."""
        return self._safely(self._life.report, ENTRY, order, fields, "NEW")

    def entry_filled(self, order: Any = None, /, **fields: Any) -> int:
        """It is filled, in part or whole: the order, FILLED unless it says otherwise, and its new fills."""
        return self._safely(self._life.report, ENTRY, order, fields, "FILLED")

    def entry_cancelled(self, order: Any = None, /, *, reason: str | None = None, **fields: Any) -> int:
        """What is left of it is cancelled: its update, and what it had filled."""
        return self._safely(self._life.cancel, ENTRY, order, fields, reason)

    def exit_placed(self, order: Any = None, /, **fields: Any) -> int:
        """An order that closes the position waits at the exchange: the order on the other side, NEW."""
        return self._safely(self._life.report, EXIT, order, fields, "NEW")

    def exit_cancelled(self, order: Any = None, /, *, reason: str | None = None, **fields: Any) -> int:
        """What is left of it is cancelled: its update, and what it had filled."""
        return self._safely(self._life.cancel, EXIT, order, fields, reason)

    def exit_filled(
        self, order: Any = None, /, *, reason: str | None = None, closes: bool | None = None, **fields: Any
    ) -> int:
        """It is filled: the order on the other side and its new fills, with the reason.

        An order that is known as the stop-loss or take-profit order is that one's fill. Where nothing is left of the
        position (less than a hundredth; ``closes`` says it outright), what still protects it is written as canceled.
        """
        return self._safely(self._life.report, EXIT, order, fields, "FILLED", reason, closes)

    def closed_by_sync(self, order: Any = None, /, *, reason: str = "sync", **fields: Any) -> int:
        """The position turned out to be closed: a trade for what was left of it, marked ``estimated``, and no order.

        With the id of an order that is known, it is that order's fill. Else what protected the position stays as it is,
        until the bot says ``stop_loss_cancelled``: which order closed it is not known.
        """
        return self._safely(self._life.end_unseen, order, fields, reason)

    def closed(self, *, reason: str | None = None, **fields: Any) -> int:
        """The bot is done with the position: the event ``position.closed``."""
        return self._safely(self._life.end, {"reason": reason, **fields})

    # -- what protects it --

    def stop_loss_placed(self, order: Any = None, /, **fields: Any) -> int:
        """A stop-loss order waits: the order on the other side, STOP_MARKET, NEW, at ``price``, which triggers it."""
        return self._safely(self._life.report, STOP_LOSS, order, fields, "NEW")

    def stop_loss_moved(self, order: Any = None, /, *, reason: str | None = None, **fields: Any) -> int:
        """It has another price. By the same id, or none: its update; by a new one: its cancel, and the new order."""
        return self._safely(self._life.move, STOP_LOSS, order, fields, reason)

    def stop_loss_triggered(self, order: Any = None, /, *, reason: str = "stop_loss", **fields: Any) -> int:
        """It was executed: its update, FILLED, and its fills. ``price`` is what it was filled at."""
        return self._safely(self._life.trigger, STOP_LOSS, order, fields, reason)

    def stop_loss_cancelled(self, order: Any = None, /, *, reason: str | None = None, **fields: Any) -> int:
        """It is cancelled: its update. Without an id it is the one that waits longest."""
        return self._safely(self._life.cancel, STOP_LOSS, order, fields, reason)

    def take_profit_placed(self, order: Any = None, /, **fields: Any) -> int:
        """A take-profit order waits: the order on the other side, TAKE_PROFIT_MARKET (or LIMIT), NEW, at ``price``."""
        return self._safely(self._life.report, TAKE_PROFIT, order, fields, "NEW")

    def take_profit_moved(self, order: Any = None, /, *, reason: str | None = None, **fields: Any) -> int:
        """As ``stop_loss_moved``."""
        return self._safely(self._life.move, TAKE_PROFIT, order, fields, reason)

    def take_profit_triggered(self, order: Any = None, /, *, reason: str = "take_profit", **fields: Any) -> int:
        """As ``stop_loss_triggered``."""
        return self._safely(self._life.trigger, TAKE_PROFIT, order, fields, reason)

    def take_profit_cancelled(self, order: Any = None, /, *, reason: str | None = None, **fields: Any) -> int:
        """As ``stop_loss_cancelled``."""
        return self._safely(self._life.cancel, TAKE_PROFIT, order, fields, reason)

    def _safely(self, step: Callable[..., int], *told: Any) -> int:
        """Whatever a value of the bot's own kind does while it is looked at, the bot goes on, and the trail says so."""
        try:
            return step(*told)
        except Exception as error:  # noqa: BLE001
            message = safe_text(error)[:_MOST_TEXT]
            said = {**self._life.link, "step": step.__name__, "error_message": message, "severity": "ERROR"}
            return self._audit.event("position.not_written", **said)


def position_of(
    audit: AuditLog,
    link: Mapping[str, Any],
    of_trades: dict[str, Any],
    *,
    side: Any,
    quantity: Any,
    price: Any,
    protecting: Mapping[Role, Any],
) -> Position:
    """A position with what is known of it; ``protecting``: ids of orders that wait already, from before a restart."""
    holding = Holding(side=entry_side(side), quantity=magnitude(quantity), price=price)
    for role, waiting in protecting.items():
        with suppress(Exception):  # what cannot be read is not known
            order_id = None if waiting is None else read(waiting, {}).fields.get("order_id")
            if order_id is not None:
                holding.add(Order(role, order_id=order_id, type=role.type))
    known = {name: value for name, value in link.items() if value is not None}
    return Position(audit, Lifecycle(audit, holding, known, of_trades))
