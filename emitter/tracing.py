"""The ids of OpenTelemetry's active span, for records made within it. Imports nothing of OpenTelemetry.

A bot that traces has imported ``opentelemetry.trace`` itself, and an active span is a context variable of its own: so
:mod:`emitter.core` asks only where there are context variables, and this module only where that import is.
"""

from __future__ import annotations

import sys
from typing import Any

_IDS = ("trace_id", "span_id")


def with_span(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with ``trace_id`` and ``span_id`` of the active span; as they are where there is none.

    Where either is bound or given, neither is taken from the span: the two belong together. Never raises.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not fields.keys().isdisjoint(_IDS):
        return fields
    try:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:  # W3C trace context: 16 and 8 bytes in lower-case hex
            fields = {**fields, "trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    except Exception:  # noqa: BLE001, S110  half imported, or another package than the one known
        pass
    return fields
