"""Records in OpenTelemetry's form: the JSON of one log record, and of the line that many of them make.

OTLP/JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"): names in lowerCamelCase, 64-bit integers as
strings, ids in hex, enums as numbers. ``docs/opentelemetry.md`` has the table of what becomes what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from emitter import __version__
from emitter.segments import Header
from emitter.times import time_from

from .exact import Literal

Json = dict[str, Any]

# OpenTelemetry's name for what tells one record from all others.
UID = "log.record.uid"
# What has no place in the data model stands in attributes of such names; a bot's own field of one is renamed.
OURS = "tradetrail."
RENAMED = OURS + "field."
_TAKEN = (OURS, UID)

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_IDS = {
    "trace_id": ("traceId", re.compile(r"(?!0+$)[0-9a-fA-F]{32}")),
    "span_id": ("spanId", re.compile(r"(?!0+$)[0-9a-fA-F]{16}")),
}
# Members that are not copied as they are.
_READ = frozenset({"stream", "seq", "timestamp", "observed_timestamp", "event_name", "attributes"})
_NANOSECONDS = range(1, 1 << 64)  # fixed64, where 0 is "unknown"
_SEVERITIES = range(1, 25)
_TRACE_FLAGS = range(1, 256)
_PID = re.compile(r"[1-9][0-9]{0,9}")
_SECONDS_REMEMBERED = 1024

CLOSING = b"]}]}]}\n"


def opening(header: Header) -> bytes:
    """How a line with records of this segment begins: the resource and the scope. :data:`CLOSING` ends it."""
    attributes = {name: str(value) for name, value in header.resource.items()}
    resource: Json = {
        "service.name": header.service,
        "service.instance.id": str(UUID(header.stream)),
        **attributes,
        OURS + "stream": header.stream,
    }
    if _PID.fullmatch(pid := attributes.get("process.pid", "")):  # a number by the semantic conventions
        resource["process.pid"] = int(pid)
    scope = {"name": "tradetrail", "version": __version__}
    return b'{"resourceLogs":[{"resource":{"attributes":%b},"scopeLogs":[{"scope":%b,"logRecords":[' % (
        orjson.dumps(_key_values(resource.items())),
        orjson.dumps(scope),
    )


def log_record(line: Json, literals: list[str]) -> Json:
    """A record's line as an OTLP LogRecord; ``literals`` are the places of numbers that travel as text.

    What the data model has no place for, or not in the form in which it was written, stands in ``tradetrail.*``.
    """
    found: Json = {}
    ours: Json = {}
    if "seq" in line:
        ours[UID] = f"{line['stream']}:{line['seq']}"
        ours[OURS + "seq"] = line["seq"]
    happened = _moment("timestamp", line, ours)
    observed = _moment("observed_timestamp", line, ours) if "observed_timestamp" in line else happened
    if happened is not None:
        found["timeUnixNano"] = str(happened)
    if observed is not None:
        found["observedTimeUnixNano"] = str(observed)
    for name, value in line.items():
        if name in _READ:
            continue
        if name == "severity_text" and type(value) is str:
            found["severityText"] = value
        elif name == "severity_number" and type(value) is int and value in _SEVERITIES:
            found["severityNumber"] = value
        elif name in _IDS and type(value) is str and _IDS[name][1].fullmatch(value):
            found[_IDS[name][0]] = value.lower()
        else:
            ours[OURS + name] = value
    found["eventName"] = line["event_name"]
    fields = _lifted(line["attributes"], found)
    if literals:
        ours[OURS + "numbers"] = literals
    found["attributes"] = _key_values(ours.items()) + _key_values(
        (RENAMED + name if name.startswith(_TAKEN) else name, value) for name, value in fields.items()
    )
    return found


def _lifted(fields: Json, found: Json) -> Json:
    """The fields without those that the data model has a place for."""
    if "body" in fields or "trace_flags" in fields:
        fields = dict(fields)
        if "body" in fields:
            found["body"] = _any_value(fields.pop("body"))
        if type(flags := fields.get("trace_flags")) is int and flags in _TRACE_FLAGS:
            found["flags"] = fields.pop("trace_flags")
    return fields


def _key_values(pairs: Iterable[tuple[str, Any]]) -> list[Json]:
    return [  # most are texts: a call for each would cost as much as all the rest
        {"key": name, "value": {"stringValue": value} if type(value) is str else _any_value(value)}
        for name, value in pairs
    ]


def _any_value(value: Any) -> Json:
    """A value as AnyValue, its type kept; null is the one that holds nothing."""
    kind = type(value)
    if kind is str or kind is Literal:
        return {"stringValue": value}
    if kind is float:
        return {"doubleValue": value}
    if kind is bool:
        return {"boolValue": value}
    if kind is int:
        return {"intValue": str(value)}
    if kind is list:
        return {"arrayValue": {"values": [_any_value(item) for item in value]}}
    if kind is dict:
        return {"kvlistValue": {"values": _key_values(value.items())}}
    return {}


def _moment(name: str, line: Json, ours: Json) -> int | None:
    """A member's time in nanoseconds since 1970; where that is not all that was written, that goes along as it is."""
    written = line.get(name)
    found = _nanoseconds(written) if type(written) is str else None
    if found is None and name in line:
        ours[OURS + name] = written
        about = time_from(written)
        found = None if about is None else _nanoseconds(f"{about:%Y-%m-%dT%H:%M:%S.%f}Z")
    return found


def _nanoseconds(text: str) -> int | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        found = _second(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
    except ValueError:  # a thirteenth month
        return None
    return found if found in _NANOSECONDS else None


@lru_cache(maxsize=_SECONDS_REMEMBERED)
def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
