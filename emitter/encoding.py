"""From a bot's values to the bytes of a line. The only module that knows orjson.

The short way is one ``orjson.dumps``. Whatever it cannot do, or would do wrongly (NaN as null), goes the long way,
value by value: it ends with something readable for any value, and says in the line what it had to change.
"""

from __future__ import annotations

import math
import time
from collections import UserList, deque
from collections.abc import Mapping, MappingView
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from gc import is_tracked
from itertools import islice
from typing import Any
from uuid import UUID

import orjson

from .records import SEVERITY_NUMBERS
from .redaction import MASK, Secrets

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_SERIALIZE_NUMPY
_MAX_DEPTH = 60
_BRACKET, _BACKSLASH = b"["[0], b"\\"[0]
_MAX_REPR = 2000
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
# What is looked at inside the containers of one record, in bytes of JSON at the least: what has more does not fit a
# line anyway, and a list that holds itself twice over thirty levels would be a billion.
_LEAST_WORK = 64 * 1024
_MOST_DIGITS_BITS = 14_000  # about 4,200 digits; beyond, Python takes a time that grows with the square
_LISTS = (list, tuple, set, frozenset, deque, UserList, MappingView)
# Python's names for OpenTelemetry's.
_SEVERITY_ALIASES = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1


class Changes:
    """What the long way had to change in one record, for the line itself to say."""

    def __init__(self, work: int) -> None:
        self.unencodable: list[str] = []
        self.truncated: dict[str, int] = {}
        self.left = work
        self.field = ""  # the one that is looked at
        self.stopped: set[str] = set()  # fields that were not looked at to their end

    def unreadable(self, path: str, shown: str) -> str:
        self.unencodable.append(path)
        self.left -= len(path) + len(shown)
        return shown

    def spend(self, work: int) -> bool:
        """Whether there is so much left."""
        self.left -= work
        if self.left < 0:
            self.stopped.add(self.field)
        return self.left >= 0

    def tail(self) -> bytes:
        text = b""
        if self.unencodable:
            text += b',"unencodable":' + orjson.dumps(self.unencodable)
        if self.truncated:
            text += b',"truncated":' + orjson.dumps(self.truncated)
        return text


def _default(value: object) -> object:
    """What orjson asks for while it goes the short way."""
    if isinstance(value, Decimal):
        return number_text(value)
    raise TypeError


def number_text(value: Decimal | float) -> str:
    """A number as the text that stands in a line; NaN and infinities as JavaScript spells them."""
    if isinstance(value, Decimal):
        nan, infinite = value.is_nan(), value.is_infinite()
    else:
        nan, infinite = math.isnan(value), math.isinf(value)
    if nan:
        return "NaN"
    if infinite:
        return "Infinity" if value > 0 else "-Infinity"
    return str(value)


def clean_text(text: str) -> str:
    """Text that UTF-8, JSON and PostgreSQL can hold: lone surrogates and NUL become U+FFFD."""
    plain = str.__str__(text)
    return plain.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _bounded(text: str, most: int) -> bytes:
    """A text as JSON of at most ``most`` bytes between its quotes."""
    shown = orjson.dumps(clean_text(text[:most]))
    # An escaped control sign takes six bytes.
    return shown if len(shown) <= most + 2 else orjson.dumps(clean_text(text[: most // 6]))


class Encoder:
    """Makes all of a line that follows the seq: ``,"timestamp":...,"attributes":{...}}`` and the line end."""

    def __init__(self, secrets: Secrets, max_line_bytes: int) -> None:
        self._secrets = secrets
        self._most = max_line_bytes - _BEFORE_BODY
        self._second = (-1_000_000, b"")  # microseconds since 1970 of a second, and its text
        self._heads: dict[tuple[str, str], bytes] = {}

    def head(self, event_name: str, severity: str) -> bytes:
        """The constant part of a record between its timestamp and its attributes."""
        key = (event_name, severity)
        found = self._heads.get(key)
        if found is None:
            level = severity.upper()
            level = _SEVERITY_ALIASES.get(level, level)
            found = b'","severity_text":%b,"severity_number":%d,"event_name":%b' % (
                _bounded(level, _MAX_SEVERITY),
                SEVERITY_NUMBERS.get(level, SEVERITY_NUMBERS["INFO"]),
                _bounded(event_name, _MAX_NAME),
            )
            if len(self._heads) < 1024 and len(event_name) + len(severity) <= _MAX_NAME:
                self._heads[key] = found
        return found

    def now(self) -> bytes:
        """The time in UTC with microseconds; the part down to the second is made once a second."""
        microseconds = time.time_ns() // 1000
        cached = self._second  # one object: another thread may put the next second there meanwhile
        rest = microseconds - cached[0]
        if not 0 <= rest < 1_000_000:
            second = microseconds // 1_000_000
            text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
            cached = self._second = (second * 1_000_000, text)
            rest = microseconds - cached[0]
        return b"%b%06dZ" % (cached[1], rest)

    def body(self, head: bytes, fields: Mapping[str, Any], timestamp: str | None = None) -> bytes:
        """The bytes of a record behind its seq. Never raises but for lack of memory."""
        now = self.now()
        extra = b""
        if timestamp is not None:
            extra, now = b',"observed_timestamp":"%b"' % now, timestamp.encode()
        changes = None
        if not self._secrets.all_harmless(fields):
            fields = self._secrets.masked(fields)
        if "trace_id" in fields or "span_id" in fields:
            fields, lifted = self._lift(fields)
            extra += lifted
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
                    text, changes = self._long(fields)
            # Nested values may hold secrets; a backslash may be NUL, poison to PostgreSQL.
            if not tracked and _BRACKET in text and changes is None and self._secrets.nested(fields):
                text, changes = self._long(fields)
            if _BACKSLASH in text and b"\\u0000" in text:
                text, changes = self._long(fields)
        except Exception:  # noqa: BLE001  orjson's own, and whatever a bot's object raises while it is read
            text, changes = self._long(fields)
        tail = changes.tail() if changes is not None else b""
        body = b',"timestamp":"%b%b,"attributes":%b%b%b}\n' % (now, head, text, extra, tail)
        if len(body) > self._most or (changes is not None and changes.stopped):
            text, changes = (text, changes) if changes is not None else self._long(fields)
            body = self._cut(now, head, text, changes, extra)
        return body

    def _lift(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """trace_id and span_id stand beside the attributes, as in OpenTelemetry's data model."""
        rest = dict(fields)
        lifted = b""
        for name in ("trace_id", "span_id"):
            value = rest.pop(name, None)
            if value is not None:
                lifted += b',"%b":%b' % (name.encode(), _bounded(safe_text(value), _MAX_ID))
        return rest, lifted

    def _long(self, fields: Mapping[str, Any]) -> tuple[bytes, Changes]:
        changes = Changes(max(_LEAST_WORK, self._most))
        shown: dict[str, Any] = {}
        for name, value in fields.items():
            if value is not None:
                self._item(name, value, shown, "", changes, 0, ())
        return orjson.dumps(shown), changes

    def _value(self, value: object, path: str, changes: Changes, depth: int, above: tuple[int, ...]) -> Any:
        """What orjson can write for a value of any kind."""
        try:
            if value is None or value is True or value is False:
                return value
            if isinstance(value, Enum):
                return self._value(value.value, path, changes, depth + 1, above) if depth < _MAX_DEPTH else str(value)
            if isinstance(value, str):
                return self._text(value, path, changes, depth)
            if isinstance(value, float):
                return float.__float__(value) if math.isfinite(value) else number_text(float.__float__(value))
            if isinstance(value, Decimal):
                return clean_text(number_text(value))
            if isinstance(value, int):
                exact = int.__int__(value)
                return exact if _INT64_MIN <= exact <= _UINT64_MAX else _int_text(exact)
            if isinstance(value, datetime) and value.tzinfo is None:
                return clean_text(value.isoformat()) + "Z"
            if isinstance(value, (datetime, date, time_of_day)):
                return clean_text(value.isoformat()).replace("+00:00", "Z")
            if isinstance(value, UUID):
                return clean_text(str(value))
            if isinstance(value, (Mapping, *_LISTS)) or is_dataclass(value):
                if depth < _MAX_DEPTH and id(value) not in above and not isinstance(value, type):
                    return self._container(value, path, changes, depth + 1, (*above, id(value)))
                # Not its repr: that would show what is masked elsewhere.
                return changes.unreadable(path, f"<{type(value).__name__}>")
            if type(value).__module__ == "numpy" and depth < _MAX_DEPTH:
                return self._numpy(value, path, changes, depth + 1, above)
        except Exception:  # noqa: BLE001  a value that raises while it is read
            return changes.unreadable(path, _described(value))
        return changes.unreadable(path, _safe_repr(value))

    def _text(self, text: str, path: str, changes: Changes, depth: int) -> str:
        plain = str.__str__(text)
        if depth:
            most = max(0, changes.left)
            if not changes.spend(len(plain)):
                plain = plain[:most]
        clean = clean_text(plain)
        return clean if clean == plain else changes.unreadable(path, clean)

    def _numpy(self, value: Any, path: str, changes: Changes, depth: int, above: tuple[int, ...]) -> Any:
        most = max(0, changes.left) // 2 + 1
        if value.size > most:
            value = value.flat[:most]
        return self._value(value.tolist(), path, changes, depth, above)

    def _container(
        self, value: Any, path: str, changes: Changes, depth: int, above: tuple[int, ...]
    ) -> dict[str, Any] | list[Any] | str:
        # Each item costs two at the least, so that what lies behind these is never reached.
        most = max(0, changes.left) // 2 + 2
        if isinstance(value, Mapping):
            return self._mapping(dict(islice(value.items(), most)), path + ".", changes, depth, above)
        if is_dataclass(value):
            shallow = {f.name: getattr(value, f.name) for f in dataclass_fields(value)}
            return self._mapping(shallow, path + ".", changes, depth, above)
        items = list(islice(value, most))
        if len(items) == 2 and isinstance(value, (list, tuple)) and self._secrets.secret(items[0]):
            items[1] = MASK  # headers as pairs
        shown = []
        for item in items:
            if not changes.spend(2):
                break
            shown.append(self._value(item, path, changes, depth, above))
        return shown

    def _mapping(
        self, items: Mapping[Any, Any], path: str, changes: Changes, depth: int, above: tuple[int, ...]
    ) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for name, item in items.items():
            if not changes.spend(4):
                break
            self._item(name, item, shown, path, changes, depth, above)
        return shown

    def _item(
        self,
        name: object,
        item: object,
        shown: dict[str, Any],
        path: str,
        changes: Changes,
        depth: int,
        above: tuple[int, ...],
    ) -> None:
        """One name and its value; of two names that are written alike (1 and "1"), the second gets a sign behind it."""
        key = clean_text(name if isinstance(name, str) and not isinstance(name, Enum) else safe_text(name))
        if not depth:
            changes.field = key
        elif not changes.spend(len(key)):
            return
        while key in shown:
            key += "'"
            if not changes.spend(len(key)):
                return
        secret = self._secrets.secret(name)
        shown[key] = MASK if secret else self._value(item, path + key[:_MAX_NAME], changes, depth, above)

    def _cut(self, now: bytes, head: bytes, text: bytes, changes: Changes, extra: bytes) -> bytes:
        """A record over the limit: its largest values are cut until it fits, and named with their lengths."""
        plain = orjson.loads(text)
        stopped = changes.stopped & plain.keys()
        line = b',"timestamp":"%b%b,"attributes":%b%b%b}\n'
        size = len(line) + len(now) + len(head) + len(text) + len(extra) + len(changes.tail())
        sizes = {name: len(orjson.dumps(value)) for name, value in plain.items()}
        for name in sorted(sizes, key=lambda name: (name in stopped, sizes[name]), reverse=True):
            if name not in stopped and (size <= self._most or sizes[name] <= _CUT_OVER):
                break
            shown = _bounded(_as_text(plain[name]), _CUT_TO)
            plain[name] = orjson.loads(shown)
            changes.truncated[name] = sizes[name]
            size += len(shown) - sizes[name] + len(orjson.dumps(name)) + 22
        body = line % (now, head, orjson.dumps(plain), extra, changes.tail())
        if len(body) <= self._most:
            return body
        # Thousands of small fields, or names without end: what identifies an order stays, as far as there is room.
        note = b',"truncated":{"attributes":%d}' % len(text)
        body = line % (now, head, b"{}", extra, note)
        if len(body) > self._most:
            extra = b""
            body = line % (now, head, b"{}", extra, note)
        few: dict[str, Any] = {}
        for name in _KEPT:
            if name in plain:
                longer = {**few, name: _as_text(plain[name])[:_KEPT_CHARACTERS]}
                tried = line % (now, head, orjson.dumps(longer), extra, note)
                if len(tried) <= self._most:
                    few, body = longer, tried
        return body


def _as_text(value: object) -> str:
    """What was read back from JSON, as the text that stands for it once it is cut."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _int_text(value: int) -> str:
    if value.bit_length() < _MOST_DIGITS_BITS:
        return str(value)
    beyond = 4 * (value.bit_length() // 4 - _MAX_REPR)  # of the rest only the first digits are shown
    return hex(abs(value) >> max(0, beyond))[:_MAX_REPR] if value > 0 else "-" + _int_text(-value)[: _MAX_REPR - 1]


def safe_text(value: object) -> str:
    """A value as text where text is needed; for what is no text its repr, and never an exception."""
    try:
        if isinstance(value, Enum):
            value = value.value
        return str.__str__(value) if isinstance(value, str) else _safe_repr(value)
    except Exception:  # noqa: BLE001
        return _described(value)


def _safe_repr(value: object) -> str:
    try:
        return clean_text(str.__str__(repr(value))[:_MAX_REPR])
    except Exception:  # noqa: BLE001
        return _described(value)


def _described(value: object) -> str:
    """A value that raised when it was read or shown."""
    name = type.__getattribute__(type(value), "__name__")
    return clean_text(f"<{name}: cannot be read>")
