"""``AuditLog``: what a bot calls. No call waits for a disk, a socket or a database, and none raises."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .context import AuditContext
from .core import CLOSE_TIMEOUT_S, Core, Stats
from .encoding import heading
from .errors import SettingError
from .exceptions import with_error
from .position import STOP_LOSS, TAKE_PROFIT, Position, position_of
from .processors import ProcessedCore, tee
from .records import ORDER, ORDER_UPDATE, TRADE
from .settings import EmitterSettings, settings_from_arguments, settings_from_environment

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from .fields import Id, Number, PositionSide, Text
    from .typed import TypedCalls
else:
    TypedCalls = object

__all__ = ["AuditLog", "Stats"]


class AuditLog(TypedCalls):
    """The trail of one bot process.

    ``AuditLog("var/audit", service="fox-bot")`` opens a new stream in a directory and finishes those of dead
    processes. Keyword arguments are the fields of :class:`~emitter.settings.EmitterSettings`. The constructor may
    raise :class:`~emitter.errors.SettingError` or :class:`~emitter.errors.DirectoryError`; nothing after it raises.

    ``processors`` are structlog's: each record goes through them, with its name as ``event``, before it is written.
    One that raises ``DropEvent`` drops the record, which then has no seq; one that fails otherwise is left out, for
    that record, and ``stats().last_error`` says so.

    Each call returns the seq of its record (1, 2, 3, ...), or 0 where it was dropped, or the log is closed or
    disabled. All take ``timestamp=`` for records of the past (a datetime, ISO 8601, or a number since 1970).
    """

    __slots__ = ("__weakref__", "_bound", "_core", "_opened")

    def __init__(
        self, directory: str | os.PathLike[str] = "var/audit", *, processors: Iterable[Processor] = (), **settings: Any
    ) -> None:
        self._open(settings_from_arguments(directory=directory, **settings), processors)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, processors: Iterable[Processor] = (), **settings: Any
    ) -> AuditLog:
        """An audit log by ``TRADETRAIL_*`` and OpenTelemetry's variables; arguments given win."""
        log = cls.__new__(cls)
        log._open(settings_from_environment(environ, **settings), processors)  # noqa: SLF001  its own constructor
        return log

    def _open(self, settings: EmitterSettings, processors: Iterable[Processor]) -> None:
        chain = _checked(processors)
        self._core = ProcessedCore(settings, chain) if chain else Core(settings)
        self._bound: dict[str, Any] = {}
        self._opened = True

    def _with(self, bound: dict[str, Any]) -> AuditLog:
        log = type(self).__new__(type(self))
        log._core, log._bound, log._opened = self._core, bound, False  # noqa: SLF001  its own constructor
        return log

    if not TYPE_CHECKING:  # type checkers read these in TypedCalls, where each field has its name and type

        def order(self, /, **fields: Any) -> int:
            """An order was made (``order.created``): exchange, symbol, type, side, status and what else is known."""
            return self._core.emit(_ORDER_CREATED, self._bound, fields)

        def update_order(self, /, **fields: Any) -> int:
            """An order changed (``order.updated``): exchange, symbol, order_id or client_order_id, and what changed."""
            return self._core.emit(_ORDER_UPDATED, self._bound, fields)

        def trade(self, /, **fields: Any) -> int:
            """A fill (``trade.executed``): exchange, symbol, side, price, executed_qty and what else is known."""
            return self._core.emit(_TRADE_EXECUTED, self._bound, fields)

        def event(self, name: str, /, *, severity: str = "INFO", exc_info: Any = None, **fields: Any) -> int:
            """Anything else worth a line, under a name in the past tense such as ``position.closed``.

            ``exc_info``, as in ``logging``: an exception, or True for the one that is being handled, becomes
            ``error_message`` and ``stack_trace``.
            """
            if exc_info is not None:
                fields = with_error(fields, exc_info)
            return self._core.event(name, severity, self._bound, fields)

    def position(
        self,
        /,
        *,
        position_id: Id = None,
        exchange: Text = None,
        symbol: Text = None,
        side: PositionSide = None,
        quantity: Number = None,
        signal_id: Id = None,
        price: Number = None,
        contract_size: Number = None,
        stop_loss_order_id: Id = None,
        take_profit_order_id: Id = None,
        **fields: Any,
    ) -> Position:
        """What happens to one position, each step with the records that belong to it.

        ``side`` is that of the entry: buy or long, sell or short. ``quantity`` and ``price`` are what is planned: they
        stand in where no order says what was really filled. ``contract_size``: units in one of ``quantity``. The ids
        of orders that wait already are for a bot that starts again. Other fields are on every record, as with ``bind``.
        The links that a :meth:`context` gives stay the position's, wherever its later steps are called.
        """
        links = {"position_id": position_id, "exchange": exchange, "symbol": symbol}
        inherited = self._inherited()
        known = {**inherited, **self._bound}
        bound = {name: known[name] for name in links if name in known}
        if signal_id is None and "signal_id" not in self._bound:
            signal_id = inherited.get("signal_id")
        said = {name: value for name, value in links.items() if value is not None}
        return position_of(
            self,
            {**bound, **said, **fields},
            {"signal_id": signal_id, "contract_size": contract_size},
            side=side,
            quantity=quantity,
            price=price,
            protecting={STOP_LOSS: stop_loss_order_id, TAKE_PROFIT: take_profit_order_id},
        )

    def bind(self, /, **fields: Any) -> AuditLog:
        """The same trail with fields that are added to every record made through it."""
        return self._with({**self._bound, **fields})

    def context(self, /, **fields: Any) -> AuditContext:
        """Fields for all that is logged to this trail within a block, also by calls and tasks that begin in it.

        ``with audit.context(position_id=55, signal_id=4711): ...``, or ``async with``. The inner block's fields win
        over the outer's, what is bound over both, and what a call gives over all.
        """
        return AuditContext(self, self._core.contexts, fields)

    def unbind(self, /, *names: str) -> AuditLog:
        """The same trail without these bound fields; a name that is not bound is no error, as it is in structlog."""
        return self._with({name: value for name, value in self._bound.items() if name not in names})

    try_unbind = unbind

    def new(self, /, **fields: Any) -> AuditLog:
        """The same trail with these bound fields only."""
        return self._with(fields)

    def processor(self, logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:  # noqa: ARG002
        """A structlog processor for the bot's own chain: what is an event for the trail goes there as well.

        That is an event named ``order.created``, ``order.updated`` or ``trade.executed``, and any with ``audit=True``;
        not one with ``audit=False``. The chain goes on with the same ``event_dict``, as if nothing stood here, and
        nothing is ever raised into it. It belongs before what renders or drops events, best at the very front.
        """
        tee(self._core, self._bound, method_name, event_dict)
        return event_dict

    @property
    def _context(self) -> dict[str, Any]:
        """What is bound, under the name that ``structlog.get_context`` asks for."""
        return self._bound

    def _inherited(self) -> dict[str, Any]:
        """What the contexts say that are entered here."""
        return {name: value for fields in self._core.contexts.get(()) for name, value in fields.items()}

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was logged before is on the disk; whether that was reached in time (seconds)."""
        return self._core.flush(timeout)

    def stats(self) -> Stats:
        """What happened so far."""
        return self._core.stats()

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> bool:
        """Write what is left and close the stream; whether it was done in time. What was not is recovered later.

        The stream is one: closing a bound log closes it for all.
        """
        return self._core.close(timeout)

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened:  # ``with audit.bind(...)`` is a scope for its fields, and the stream goes on
            self.close()


def _checked(processors: Iterable[Processor]) -> tuple[Processor, ...]:
    try:
        chain = tuple(processors)
    except TypeError as error:
        raise SettingError(f"processors: {processors!r} is not a list of structlog processors") from error
    for processor in chain:
        if not callable(processor):
            raise SettingError(f"processors: {processor!r} cannot be called")
    return chain


_ORDER_CREATED = heading(str(ORDER.event_name), "INFO")
_ORDER_UPDATED = heading(str(ORDER_UPDATE.event_name), "INFO")
_TRADE_EXECUTED = heading(str(TRADE.event_name), "INFO")
