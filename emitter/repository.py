"""``AuditRepository``: the trail in the shape of the repository that a bot has, so that its calls stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from .core import joined
from .known_orders import PLACE, KnownOrders, agree
from .records import ORDER, ORDER_UPDATE, TRADE, Kind

if TYPE_CHECKING:
    from .audit import AuditLog
    from .fields import OrderFields, TradeFields

# The greatest number that an INTEGER column takes; no seq gets near.
_STAND_INS_FROM: Final = 2**31 - 1
_IDS: Final = ("order_id", "client_order_id")


class AuditRepository:
    """``create_order``, ``create_trade`` and ``update_order`` of a bot's repository, written to the trail.

    Each is awaitable, returns at once and never raises. It returns a number greater than 0: the seq of its record.
    Where there is none, because the record was dropped or the log is closed or disabled, a number that counts down
    from 2147483647 stands in, and ``audit.stats()`` tells of the loss.

    ``class Repository(AuditRepository, OldRepository)`` takes these three calls from the trail and leaves the others.
    So does ``AuditRepository(audit, inner=old)``, which asks ``old`` for every other attribute.
    """

    __inner: Any = None

    def __init__(self, audit: AuditLog, *, inner: Any = None) -> None:
        # Under names of this class alone, since the repository that it is mixed into has names of its own.
        self.__writer = _Writer(audit)
        self.__inner = inner

    async def create_order(self, order: OrderFields | Mapping[str, Any], /) -> int:
        """An order was made. Its keys are the fields of ``audit.order``, and any other."""
        return self.__writer.safely(self.__writer.order, order)

    async def create_trade(self, trade: TradeFields | Mapping[str, Any], /) -> int:
        """A fill. Its keys are the fields of ``audit.trade``, and any other."""
        return self.__writer.safely(self.__writer.trade, trade)

    async def update_order(self, order_id: Any, **changes: Any) -> int:
        """An order changed: ``changes`` are the fields of ``audit.update_order``, and any other.

        ``order_id`` is the int that ``create_order`` gave back in this process, or the exchange's id: an int that was
        not given back is taken for the exchange's. Exchange and symbol need not be said again for an order that was
        created here (the last 8192 are remembered), nor where they are bound or a context says them. Where nobody
        says them the change is written all the same; the loader keeps it as rejected, to be mended.
        """
        return self.__writer.safely(self.__writer.update, order_id, changes)

    def __getattr__(self, name: str) -> Any:
        if self.__inner is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.__inner, name)


class _Writer:
    """What stands between the three calls and the log."""

    __slots__ = ("_bound", "_core", "_orders", "_stand_ins")

    def __init__(self, audit: AuditLog) -> None:
        self._core, self._bound = audit._core, audit._bound  # noqa: SLF001  dicts are taken with keys of any kind
        self._orders = KnownOrders()
        self._stand_ins = count(_STAND_INS_FROM, -1)

    def safely(self, write: Callable[..., int], *given: Any) -> int:
        try:
            return write(*given)
        except Exception as error:  # noqa: BLE001  whatever it is, the bot goes on
            self._core.note(f"{type(error).__name__} in AuditRepository.{write.__name__}")
            return next(self._stand_ins)

    def order(self, given: object) -> int:
        fields = _fields(given)
        number = self._write(ORDER, fields)
        place = self._placed(fields)
        self._orders.add(number, {name: place.get(name) for name in (*_IDS, *PLACE)})
        return number

    def trade(self, given: object) -> int:
        return self._write(TRADE, _fields(given))

    def update(self, order_id: object, changes: dict[str, Any]) -> int:
        changes = _said(changes)
        number = order_id if type(order_id) is int else 0
        order = self._orders.numbered(number)
        if order is not None and agree(order, changes):
            self._orders.add(number, {**order, **{name: changes[name] for name in _IDS if name in changes}})
            named = {**_said(order), "repository_id": number}
        else:
            place = self._orders.place_of(order_id)
            named = {"order_id": order_id, **(place if agree(place, changes) else {})}
        fields = {**named, **changes}
        if any(self._placed(fields).get(name) is None for name in PLACE):
            self._core.note("AuditRepository.update_order: exchange and symbol of the order are not known")
        return self._write(ORDER_UPDATE, fields)

    def _write(self, kind: Kind, fields: dict[str, Any]) -> int:
        return self._core.event(kind.event_name, "INFO", self._bound, fields) or next(self._stand_ins)

    def _placed(self, fields: dict[str, Any]) -> Mapping[str, Any]:
        """The fields, with what is bound and in the context where they do not say the market themselves."""
        if all(name in fields for name in PLACE):
            return fields
        return joined(copy_context(), self._core.contexts, self._bound, fields)


def _fields(given: object) -> dict[str, Any]:
    """What is said in a dict or its like; what is none is kept whole, for the loader to reject and a person to read."""
    try:
        return _said(dict(given)) if hasattr(given, "keys") else {"given": given}  # type: ignore[call-overload]
    except Exception:  # noqa: BLE001  the bot's own kind of mapping
        return {"given": given}


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without None: bots list every column, and what is not said leaves room for a context's word."""
    return {name: value for name, value in fields.items() if value is not None}
