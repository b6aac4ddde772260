"""``audit.context(...)``: fields for all that is logged within a block, however deep in the calls.

They are kept in a context variable of the stream's own, so that asyncio's tasks inherit them from whoever starts them,
two logs in one process do not mix, and the bot's other logs stay as they are. ``structlog.contextvars`` is for fields
that are to stand in those, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audit import AuditLog

Fields = tuple[Mapping[str, Any], ...]  # of the blocks that are entered, the outermost first


class AuditContext:
    """A block, for ``with`` or ``async with``, whose fields are on each record that is made within it.

    Leaving it takes back these fields and no others, in whatever order and from whichever task blocks are left (a
    generator may be ended elsewhere than it began), and never raises.
    """

    __slots__ = ("_entered", "_fields", "_log", "_variable")

    def __init__(self, log: AuditLog, variable: ContextVar[Fields], fields: Mapping[str, Any]) -> None:
        self._log = log
        self._variable = variable
        self._fields = fields
        self._entered: list[tuple[Fields, Token[Fields]]] = []

    def __enter__(self) -> AuditLog:
        entered = (*self._variable.get(()), self._fields)
        self._entered.append((entered, self._variable.set(entered)))
        return self._log

    def __exit__(self, *error: object) -> None:
        standing = self._variable.get(())
        entered, token = self._entered.pop() if self._entered else (None, None)
        if token is not None and standing is entered:
            with suppress(ValueError, RuntimeError):  # the token is another task's
                self._variable.reset(token)  # and not only emptied: a call that finds no variable at all costs least
                return
        self._variable.set(tuple(fields for fields in standing if fields is not self._fields))

    async def __aenter__(self) -> AuditLog:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)
