"""From a bot's values to the bytes of a line. The only module that knows orjson.

The short way is one ``orjson.dumps``. Whatever it cannot do, or would do wrongly (NaN as null), goes the long way
(:mod:`emitter.values`), and the line says what that had to change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from gc import is_tracked
from time import gmtime, strftime, time_ns
from typing import Any

import orjson

from .records import SEVERITY_NUMBERS
from .redaction import Secrets
from .times import time_from, time_text
from .values import Changes, Values, clean_text, number_text, safe_text

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_SERIALIZE_NUMPY
_BRACKET, _BACKSLASH = b"["[0], b"\\"[0]
# Bytes, as JSON: event name, severity, trace_id and span_id. They must fit a line of the least max_line_bytes.
_MAX_NAME = 200
_MAX_SEVERITY = 32
_MAX_ID = 64
# The stream and the seq: 51 bytes and 20 digits.
_BEFORE_BODY = 80
# Of a line over the limit, values longer than this are cut to that.
_CUT_OVER, _CUT_TO = 512, 256
_KEPT = ("exchange", "symbol", "order_id", "client_order_id", "trade_id", "position_id", "status", "side")
_KEPT_CHARACTERS = 32
_TIMESTAMP, _IDS = "timestamp", ("trace_id", "span_id")
# Python's names for OpenTelemetry's.
_SEVERITY_ALIASES = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Heading:
    """What a record is of, and the constant part of its line between timestamp and attributes."""

    event_name: str
    severity: str
    text: bytes


_headings: dict[tuple[str, str], Heading] = {}


def heading(event_name: str, severity: str) -> Heading:
    """The heading of an event name and a severity; made once for each pair."""
    found = _headings.get((event_name, severity))
    if found is None:
        level = severity.upper()
        level = _SEVERITY_ALIASES.get(level, level)
        text = b'","severity_text":%b,"severity_number":%d,"event_name":%b' % (
            _bounded(level, _MAX_SEVERITY),
            SEVERITY_NUMBERS.get(level, SEVERITY_NUMBERS["INFO"]),
            _bounded(event_name, _MAX_NAME),
        )
        found = Heading(event_name, severity, text)
        if len(_headings) < _REMEMBERED and len(event_name) + len(severity) <= _MAX_NAME:
            _headings[event_name, severity] = found
    return found


class Encoder:
    """Makes all of a line that follows the seq: ``,"timestamp":...,"attributes":{...}}`` and the line end."""

    def __init__(self, redact: Iterable[str], max_line_bytes: int) -> None:
        self._secrets = Secrets(redact, special=(_TIMESTAMP, *_IDS))
        self._values = Values(self._secrets, max_line_bytes)
        self._most = max_line_bytes - _BEFORE_BODY
        self._second = (-1_000_000, b"")  # microseconds since 1970 of a second, and its text

    def body(self, head: bytes, fields: dict[str, Any]) -> bytes:
        """The bytes of a record behind its seq. Never raises but for lack of memory."""
        microseconds = time_ns() // 1000
        second, opening = self._second  # read at once: another thread may put the next second there meanwhile
        microseconds -= second
        if not 0 <= microseconds < 1_000_000:
            opening, microseconds = self._next_second(second + microseconds)
        changes, extra, tail = None, b"", b""
        if not self._secrets.all_plain(fields):
            fields, past, extra = _lifted(self._secrets.masked(fields))
            if past is not None:
                opening = b',"timestamp":"%b","observed_%b' % (past, opening[2:])
        try:
            # One look for all fields: CPython's collector does not track a dict that holds no container (but tuples).
            tracked = is_tracked(fields)
            if tracked and self._secrets.nested(fields):
                raise TypeError
            text = orjson.dumps(fields, _default, _OPTIONS)
            # Each look is written in the form that costs least: 30 ns for one byte, 130 ns for a word from the right.
            if text.rfind(b"null") >= 0:  # None is "not said"; what is null beyond that may have been NaN
                fields = {name: value for name, value in fields.items() if value is not None}
                text = orjson.dumps(fields, _default, _OPTIONS)
                if b"null" in text:
                    raise TypeError
            # Nested values may hold secrets; a backslash may be NUL, poison to PostgreSQL.
            if not tracked and _BRACKET in text and self._secrets.nested(fields):
                raise TypeError
            if _BACKSLASH in text and b"\\u0000" in text:
                raise TypeError
        except Exception:  # noqa: BLE001  orjson's own, and whatever a bot's object raises while it is read
            shown, changes = self._values.shown(fields)
            text, tail = orjson.dumps(shown), _tail(changes)
        body = b'%b%06dZ%b,"attributes":%b%b%b}\n' % (opening, microseconds, head, text, extra, tail)
        if len(body) > self._most or (changes is not None and changes.stopped):
            shown, changes = self._values.shown(fields) if changes is None else (shown, changes)
            body = self._cut(b"%b%06dZ%b" % (opening, microseconds, head), extra, shown, changes)
        return body

    def _next_second(self, microseconds: int) -> tuple[bytes, int]:
        """The opening of a line in the second of this time (since 1970), and the time's rest."""
        second, rest = divmod(microseconds, 1_000_000)
        opening = b',"timestamp":"' + strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second)).encode()
        self._second = (second * 1_000_000, opening)
        return opening, rest

    def _cut(self, front: bytes, extra: bytes, shown: dict[str, Any], changes: Changes) -> bytes:
        """A record over the limit: its largest values are cut until it fits, and named with their lengths."""
        line = b'%b,"attributes":%b%b%b}\n'
        text = orjson.dumps(shown)
        plain = orjson.loads(text)
        stopped = changes.stopped & plain.keys()
        size = len(line) + len(front) + len(extra) + len(text) + len(_tail(changes))
        sizes = {name: len(orjson.dumps(value)) for name, value in plain.items()}
        for name in sorted(sizes, key=lambda name: (name in stopped, sizes[name]), reverse=True):
            if name not in stopped and (size <= self._most or sizes[name] <= _CUT_OVER):
                break
            cut = _bounded(_as_text(plain[name]), _CUT_TO)
            plain[name] = orjson.loads(cut)
            changes.truncated[name] = sizes[name]
            size += len(cut) - sizes[name] + len(orjson.dumps(name)) + 22
        body = line % (front, orjson.dumps(plain), extra, _tail(changes))
        if len(body) <= self._most:
            return body
        # Thousands of small fields, or names without end: what identifies an order stays, as far as there is room.
        note = b',"truncated":{"attributes":%d}' % len(text)
        body = line % (front, b"{}", extra, note)
        if len(body) > self._most:
            extra = b""
            body = line % (front, b"{}", extra, note)
        few: dict[str, Any] = {}
        for name in _KEPT:
            if name in plain:
                longer = {**few, name: _as_text(plain[name])[:_KEPT_CHARACTERS]}
                tried = line % (front, orjson.dumps(longer), extra, note)
                if len(tried) <= self._most:
                    few, body = longer, tried
        return body


def _default(value: object) -> object:
    """What orjson asks for while it goes the short way."""
    if isinstance(value, Decimal):
        return number_text(value)
    raise TypeError


def _lifted(fields: dict[str, Any]) -> tuple[dict[str, Any], bytes | None, bytes]:
    """What stands beside the attributes, as in OpenTelemetry's data model: fields, a time that was given, the ids."""
    past, ids = None, b""
    if _TIMESTAMP in fields and (past := _past(fields[_TIMESTAMP])) is not None:  # else it stays as it was given
        del fields[_TIMESTAMP]
    for name in _IDS:
        value = fields.pop(name, None)
        if value is not None:
            ids += b',"%b":%b' % (name.encode(), _bounded(safe_text(value), _MAX_ID))
    return fields, past, ids


def _past(given: object) -> bytes | None:
    """A time that a caller gave, as a line has it; None for what cannot be read as one."""
    try:
        moment = time_from(given)
    except Exception:  # noqa: BLE001  a value of the bot's own kind
        return None
    return None if moment is None else time_text(moment).encode()


def _tail(changes: Changes) -> bytes:
    """What the long way had to change, for the line itself to say."""
    text = b""
    if changes.unencodable:
        text += b',"unencodable":' + orjson.dumps(changes.unencodable)
    if changes.truncated:
        text += b',"truncated":' + orjson.dumps(changes.truncated)
    return text


def _bounded(text: str, most: int) -> bytes:
    """A text as JSON of at most ``most`` bytes between its quotes."""
    shown = orjson.dumps(clean_text(text[:most]))
    # An escaped control sign takes six bytes.
    return shown if len(shown) <= most + 2 else orjson.dumps(clean_text(text[: most // 6]))


def _as_text(value: object) -> str:
    """What was read back from JSON, as the text that stands for it once it is cut."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
