"""From a bot's values to the bytes of a line. The only module that knows orjson.

The short way is one ``orjson.dumps``. Whatever it cannot do, or would do wrongly (NaN as null), goes the long way,
value by value: it ends with something readable for any value, and says in the line what it had to change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

from .records import SEVERITY_NUMBERS

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_SERIALIZE_NUMPY
_MAX_DEPTH = 60
_MAX_REPR = 2000
_MAX_NAME = 200
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
MASK = "***"

# Compared without case, dashes and underscores. Exact names, so that a field such as quote_token stays.
SECRET_NAMES = frozenset(
    """
    apikey apisecret apipassphrase accesskey accesstoken refreshtoken secret secretkey clientsecret privatekey
    password passwd pwd passphrase token authtoken bearertoken jwt signature sign authorization cookie setcookie
    xmbxapikey okaccesskey okaccesssign okaccesspassphrase xbapiapikey xbapisign mnemonic seedphrase
    """.split()  # noqa: SIM905  a list of words is read more easily than one of literals
)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


class Secrets:
    """Which field names are masked; remembers the names it has judged, so that a name is judged once."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = SECRET_NAMES | {_plain(name) for name in more}
        self._harmless: set[str] = set()
        self.all_harmless: Callable[[Iterable[object]], bool] = self._harmless.issuperset

    def secret(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if _plain(name) in self._names:
            return True
        if len(self._harmless) < 4096:
            self._harmless.add(name)
        return False

    def masked(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with the values of secret names replaced; nested values are looked at where they are written."""
        return {name: MASK if self.secret(name) else value for name, value in fields.items()}


class Changes:
    """What the long way had to change in one record, for the line itself to say."""

    def __init__(self) -> None:
        self.unencodable: list[str] = []
        self.truncated: dict[str, int] = {}

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
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(value)


class Encoder:
    """Makes all of a line that follows the seq: ``,"timestamp":...,"attributes":{...}}`` and the line end."""

    def __init__(self, secrets: Secrets, max_line_bytes: int) -> None:
        self._secrets = secrets
        self._max = max_line_bytes
        self._second = (-1, "")
        self._heads: dict[tuple[str, str], bytes] = {}

    def head(self, event_name: str, severity: str) -> bytes:
        """The constant part of a record between its timestamp and its attributes."""
        key = (event_name, severity)
        found = self._heads.get(key)
        if found is None:
            found = b'","severity_text":%b,"severity_number":%d,"event_name":%b' % (
                self._text(severity),
                SEVERITY_NUMBERS.get(severity, 9),
                self._text(event_name[:_MAX_NAME]),
            )
            if len(self._heads) < 1024:
                self._heads[key] = found
        return found

    def _text(self, text: str) -> bytes:
        return orjson.dumps(self._long_text(text, "", Changes()))

    def now(self) -> str:
        """The time in UTC with microseconds; the part down to the second is made once a second."""
        microseconds = time.time_ns() // 1000
        second, rest = divmod(microseconds, 1_000_000)
        cached = self._second  # one object: another thread may put the next second there meanwhile
        if second != cached[0]:
            cached = self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)))
        return f"{cached[1]}{rest:06d}Z"

    def body(self, head: bytes, fields: Mapping[str, Any], timestamp: str | None = None) -> bytes:
        """The bytes of a record behind its seq. Never raises but for lack of memory."""
        now = self.now()
        extra = b""
        if timestamp is not None:
            extra, now = b',"observed_timestamp":"%b"' % now.encode(), timestamp
        changes = None
        if not self._secrets.all_harmless(fields):
            fields = self._secrets.masked(fields)
        if "trace_id" in fields or "span_id" in fields:
            fields, lifted = self._lift(fields)
            extra += lifted
        try:
            text = orjson.dumps(fields, _default, _OPTIONS)
            if b"null" in text:  # None is "not said"; what is null beyond that may have been NaN
                fields = {name: value for name, value in fields.items() if value is not None}
                text = orjson.dumps(fields, _default, _OPTIONS)
            # Nested values may hold secrets, NUL is poison to PostgreSQL.
            if text.count(b"{") > 1 or b"[" in text or b"null" in text or b"\\u0000" in text:
                text, changes = self._long(fields)
        except (TypeError, ValueError, RecursionError):
            text, changes = self._long(fields)
        tail = changes.tail() if changes is not None else b""
        body = b',"timestamp":"%b%b,"attributes":%b%b%b}\n' % (now.encode(), head, text, extra, tail)
        if len(body) > self._max - 80:  # 80: the stream and the seq before it
            body = self._cut(now.encode(), head, fields, extra)
        return body

    def _lift(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """trace_id and span_id stand beside the attributes, as in OpenTelemetry's data model."""
        rest = dict(fields)
        lifted = b""
        for name in ("trace_id", "span_id"):
            value = rest.pop(name, None)
            if value is not None:
                lifted += b',"%b":%b' % (name.encode(), self._text(str(value)))
        return rest, lifted

    def _long(self, fields: Mapping[str, Any]) -> tuple[bytes, Changes]:
        changes = Changes()
        plain = {
            self._key(name): self._value(value, str(name), changes, 0, ())
            for name, value in fields.items()
            if value is not None
        }
        return orjson.dumps(plain, option=_OPTIONS), changes

    def _key(self, name: object) -> str:
        return self._long_text(name if isinstance(name, str) else _safe_repr(name), "", Changes())

    def _long_text(self, text: str, path: str, changes: Changes) -> str:
        """Text that UTF-8, JSON and PostgreSQL can hold; lone surrogates and NUL become U+FFFD, and are named."""
        clean = str(text).replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if clean != text:
            changes.unencodable.append(path)
        return clean

    def _value(self, value: object, path: str, changes: Changes, depth: int, above: tuple[int, ...]) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str) and not isinstance(value, Enum):
            return self._long_text(value, path, changes)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else number_text(value)
        if isinstance(value, Decimal):
            return number_text(value)
        if isinstance(value, int) and not isinstance(value, Enum):
            return int(value) if _INT64_MIN <= value <= _UINT64_MAX else _int_text(value)
        if isinstance(value, (datetime, date, time_of_day, UUID)):
            return value
        try:
            if isinstance(value, Enum):
                return self._value(value.value, path, changes, depth + 1, above)
            if isinstance(value, (Mapping, list, tuple, set, frozenset)):
                if depth < _MAX_DEPTH and id(value) not in above:
                    return self._container(value, path, changes, depth + 1, (*above, id(value)))
            elif is_dataclass(value) and not isinstance(value, type):
                shallow = {f.name: getattr(value, f.name) for f in dataclass_fields(value)}
                return self._value(shallow, path, changes, depth, (*above, id(value)) if depth < _MAX_DEPTH else above)
            elif type(value).__module__ == "numpy":
                return self._value(value.tolist(), path, changes, depth + 1, above)  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001, S110  a container that raises while it is read is shown by its repr
            pass
        changes.unencodable.append(path)
        return self._long_text(_safe_repr(value), path, Changes())

    def _container(
        self, value: Any, path: str, changes: Changes, depth: int, above: tuple[int, ...]
    ) -> dict[str, Any] | list[Any]:
        if isinstance(value, Mapping):
            return {
                self._key(name): MASK
                if self._secrets.secret(name)
                else self._value(item, f"{path}.{name}", changes, depth, above)
                for name, item in list(value.items())
            }
        return [self._value(item, path, changes, depth, above) for item in list(value)]

    def _cut(self, now: bytes, head: bytes, fields: Mapping[str, Any], extra: bytes) -> bytes:
        """A record over the limit: its largest values are cut until it fits, and named with their lengths."""
        text, changes = self._long(fields)
        plain = orjson.loads(text)
        sizes = {name: len(orjson.dumps(value)) for name, value in plain.items()}
        for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
            value = plain[name]
            shown = value if isinstance(value, str) else orjson.dumps(value).decode()
            plain[name] = shown[:256] if sizes[name] > 512 else value
            if sizes[name] > 512:
                changes.truncated[name] = sizes[name]
            body = b',"timestamp":"%b%b,"attributes":%b%b}\n' % (
                now,
                head,
                orjson.dumps(plain),
                extra + changes.tail(),
            )
            if len(body) <= self._max - 80:
                return body
        # Thousands of small fields, or names without end: what identifies an order stays.
        kept = (
            "exchange",
            "symbol",
            "order_id",
            "client_order_id",
            "trade_id",
            "position_id",
            "status",
            "side",
        )
        few = {name: str(plain[name])[:32] for name in kept if name in plain}
        note = b',"truncated":{"attributes":%d}' % len(text)
        return b',"timestamp":"%b%b,"attributes":%b%b}\n' % (now, head, orjson.dumps(few), note)


def _int_text(value: int) -> str:
    try:
        return str(int(value))
    except ValueError:  # more digits than Python turns into text
        return hex(value)[:_MAX_REPR]


def _safe_repr(value: object) -> str:
    try:
        return repr(value)[:_MAX_REPR]
    except Exception:  # noqa: BLE001
        return f"<{type(value).__name__}: its repr raised>"
