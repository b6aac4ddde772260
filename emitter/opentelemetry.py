"""OpenTelemetry's log records into the trail: an exporter for the Python SDK.

A bot that logs through OpenTelemetry sets ``OTEL_LOGS_EXPORTER=tradetrail``, or hands an
:class:`AuditLogRecordExporter` to a log record processor. ``docs/opentelemetry.md`` says what becomes what. Nothing
else in this package imports OpenTelemetry.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .audit import AuditLog
from .core import CLOSE_TIMEOUT_S
from .records import KINDS, SEVERITY_NUMBERS
from .values import safe_text

try:
    try:
        from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
    except ImportError:  # their names in older ones
        from opentelemetry.sdk._logs.export import LogExporter as LogRecordExporter
        from opentelemetry.sdk._logs.export import LogExportResult as LogRecordExportResult  # type: ignore[assignment]
except ImportError as error:
    raise ImportError("emitter.opentelemetry needs OpenTelemetry's SDK: pip install opentelemetry-sdk") from error

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

# A record that has no event name, as those of the logging module have none.
UNNAMED = "log.message"
_KINDS = frozenset(kind.event_name for kind in KINDS if kind.event_name)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The attributes of an exception, by the names that have columns in ``events``.
_RENAMED = {"exception.message": "error_message", "exception.stacktrace": "stack_trace"}
_SEVERITIES = tuple(SEVERITY_NUMBERS)  # four numbers each: 1 to 4 are TRACE, 5 to 8 DEBUG, ...


class AuditLogRecordExporter(LogRecordExporter):
    """Writes each log record that the SDK hands over as one record of the trail.

    Without an argument the log is ``AuditLog.from_env()``, as the SDK's own configuration by environment wants it, and
    is closed by :meth:`shutdown`. A log that is given stays open: who opened it closes it.

    No method raises. What a record's value logs while it is read is refused, or it would feed itself.
    """

    def __init__(self, audit: AuditLog | None = None) -> None:
        self._own = audit is None
        self._audit = AuditLog.from_env() if audit is None else audit
        self._lost = self._losses()
        self._within = threading.local()
        self._down = False

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write these records; SUCCESS where all of them were taken, and none was lost meanwhile."""
        if self._down or getattr(self._within, "export", False):
            return LogRecordExportResult.FAILURE
        self._within.export = True
        try:
            taken = [self._write(item) for item in batch]
            before, self._lost = self._lost, self._losses()
        except Exception:  # noqa: BLE001  whatever it is, the bot goes on
            return LogRecordExportResult.FAILURE
        finally:
            self._within.export = False
        return LogRecordExportResult.SUCCESS if all(taken) and self._lost <= before else LogRecordExportResult.FAILURE

    def _write(self, item: ReadableLogRecord) -> bool:
        """One record; whether it has a number in the trail."""
        core = self._audit._core  # noqa: SLF001  of the same package
        try:
            name, severity, fields = translated(item)
        except Exception as error:  # noqa: BLE001  a value of the bot's own kind
            core.note(f"{type(error).__name__} in a log record of OpenTelemetry")
            return False
        # In a context of its own: the span and what is bound are the record's, not those of the thread that exports.
        return Context().run(core.event, name, severity, self._audit._context, fields) > 0  # noqa: SLF001

    def _losses(self) -> int:
        """What the stream has lost so far; ``stats()`` would ask the file system, too, each time."""
        ring = self._audit._core._ring  # noqa: SLF001  of the same package
        return sum(ring.lost_by_reason.values()) if ring is not None else 0

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all that was exported is on the disk; whether that was reached in time."""
        return self._audit.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = CLOSE_TIMEOUT_S * 1000) -> None:
        """Take no more. The log is closed where the exporter opened it, else flushed."""
        if not self._down:
            self._down = True
            if self._own:
                self._audit.close(timeout_millis / 1000)
            else:
                self._audit.flush(timeout_millis / 1000)


def translated(item: ReadableLogRecord) -> tuple[str, str, dict[str, Any]]:
    """The event name, the severity and the fields that a log record of the SDK means."""
    record = item.log_record
    fields: dict[str, Any] = {}
    for key, value in (record.attributes or {}).items():
        _put(fields, _RENAMED.get(key, key), value)
    name = getattr(record, "event_name", None) or fields.pop("event.name", None)
    body = record.body
    if not name and type(body) is str and body in _KINDS:  # logging.info("order.created", extra=...)
        name, body = body, None
    severity = _severity(record.severity_text, record.severity_number, fields)
    if isinstance(body, Mapping):
        for key, value in body.items():
            _put(fields, safe_text(key), value)
    elif body is not None and body != name:
        _put(fields, "body", body)
    scope = item.instrumentation_scope
    if scope is not None and scope.name:
        _put(fields, "otel.scope.name", scope.name)
    if dropped := getattr(item, "dropped_attributes", 0):
        _put(fields, "otel.dropped_attributes_count", dropped)
    _identify(fields, record)
    return safe_text(name or UNNAMED), severity, fields


def _identify(fields: dict[str, Any], record: Any) -> None:
    """The time and the ids, under the names that stand beside the fields; fields of these names make room."""
    beside: dict[str, Any] = {}
    if happened := record.timestamp or record.observed_timestamp:  # nanoseconds since 1970
        beside["timestamp"] = _moment(happened)
    if record.trace_id:
        beside["trace_id"] = f"{record.trace_id:032x}"
    if record.span_id:
        beside["span_id"] = f"{record.span_id:016x}"
    if record.trace_flags:
        beside["trace_flags"] = int(record.trace_flags)
    for name, value in beside.items():
        if name in fields:
            _put(fields, f"{name}'", fields.pop(name))
        fields[name] = value


def _moment(nanoseconds: int) -> datetime | int:
    """The time since 1970; where no datetime holds it the number, which then stays a field."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return nanoseconds


def _severity(text: Any, number: Any, fields: dict[str, Any]) -> str:
    """One of OpenTelemetry's six words; what is said beyond it stays in the fields."""
    level = int(getattr(number, "value", number) or 0)
    word = safe_text(text).upper() if text else ""
    word = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(word, word)
    if not 1 <= level <= 24:
        return word or "INFO"
    known = _SEVERITIES[(level - 1) // 4]
    if word and word != known:
        _put(fields, "severity_text", text)
    if level != SEVERITY_NUMBERS[known]:
        _put(fields, "severity_number", level)
    return known


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    """Of two fields of one name the later gets ``'`` behind it, as everywhere in the trail."""
    while name in fields:
        name += "'"
    fields[name] = value
