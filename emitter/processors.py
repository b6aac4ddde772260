"""structlog: processors that the trail's records go through, and the trail as a processor of a bot's own chain."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from .core import Core, joined
from .encoding import Heading, heading
from .exceptions import with_error
from .records import KINDS
from .settings import EmitterSettings
from .times import time_from
from .values import safe_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, Processor

# ``audit=True`` marks any event for the trail, ``audit=False`` keeps one out of it.
MARK = "audit"
# What structlog itself puts beside an event's fields.
_ITS_OWN = frozenset({"event", "exc_info", "stack_info", "_record", "_from_structlog", "_logger", "_name"})
_KINDS = frozenset(kind.event_name for kind in KINDS if kind.event_name)
# structlog's method names whose upper case is not the severity meant.
_SEVERITIES = {"exception": "ERROR", "msg": "INFO", "log": "INFO", "notset": "INFO", "err": "ERROR"}
_METHODS = {"WARN": "warning", "FATAL": "critical"}


class ProcessedCore(Core):
    """A core whose records go through structlog processors before they are encoded.

    A class of its own, so that a bot that gives none does not pay for the question.
    """

    def __init__(self, settings: EmitterSettings, processors: Sequence[Processor]) -> None:
        from structlog.exceptions import DropEvent  # it takes longer to import than all of this package

        self._processors = tuple(processors)
        self._drop = DropEvent
        super().__init__(settings)

    def emit(self, head: Heading, bound: Mapping[str, Any], fields: dict[str, Any]) -> int:
        """One record; 0 where a processor dropped it."""
        try:
            event_dict = joined(copy_context(), self.contexts, bound, fields)
            given = {"event": event_dict["event"]} if "event" in event_dict else {}  # a field, not structlog's name
            event_dict["event"] = head.event_name
            method = _METHODS.get(head.severity.upper(), head.severity.lower())
            for processor in self._processors:
                event_dict = self._through(processor, method, event_dict)
            name = event_dict.pop("event", head.event_name)
            head = heading(safe_text(name), head.severity)
            # In an empty context: what a processor took away is not joined a second time.
            return Context().run(super().emit, head, {}, {**event_dict, **given})
        except self._drop:
            return 0
        except Exception as error:  # noqa: BLE001  whatever it is, the bot goes on
            return self._not_emitted(error)

    def _through(self, processor: Processor, method: str, event_dict: dict[str, Any]) -> dict[str, Any]:
        """One processor's answer; where it raises or answers something else, what it was given."""
        try:
            answer = processor(None, method, event_dict.copy())
            if isinstance(answer, Mapping):
                return dict(answer)
            problem = f"answered {type(answer).__name__}, not a mapping"
        except self._drop:
            raise
        except Exception as error:  # noqa: BLE001
            problem = f"raised {type(error).__name__}"
        self.note(f"the processor {safe_text(processor)[:200]} {problem}")
        return event_dict


def tee(core: Core, bound: Mapping[str, Any], method_name: str, event_dict: EventDict) -> None:
    """Put an event of the bot's own logger into the trail, where it is one for it. Changes and raises nothing."""
    try:
        mark = event_dict.get(MARK)
        name = event_dict.get("event")
        if mark is not True and (mark is False or type(name) is not str or name not in _KINDS):
            return
        fields = {key: value for key, value in event_dict.items() if key not in _ITS_OWN}
        if mark is True:
            del fields[MARK]
        _keep_clock(fields)
        fields = with_error(fields, event_dict.get("exc_info"))
        severity = _SEVERITIES.get(method_name, method_name) if type(method_name) is str else "INFO"
        core.event(name, severity, bound, fields)
    except Exception as error:  # noqa: BLE001  a value of the bot's own kind, before it came to the encoder
        core.note(f"{type(error).__name__} in audit.processor")


def _keep_clock(fields: dict[str, Any]) -> None:
    """A ``timestamp`` that does not say its zone is a TimeStamper's in local time: no time of a record.

    Kept beside the record under another name, since it is what the bot's own log shows.
    """
    given = fields.get("timestamp")
    if isinstance(given, str) and time_from(given) is not None and not _says_zone(given):
        fields["logged_at"] = fields.pop("timestamp")


def _says_zone(text: str) -> bool:
    tail = text.strip().upper()
    return tail.endswith("Z") or tail.replace(".", "").isdecimal() or "+" in tail or "-" in tail[10:]
