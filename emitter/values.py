"""The long way: a value of any kind, as what JSON can hold, and what had to be changed for that.

It ends with something readable for any value, though it be cyclic, endless or raise when it is looked at, and masks
what stands under a secret name at any depth.
"""

from __future__ import annotations

import math
from collections import UserList, deque
from collections.abc import Mapping, MappingView
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

from .redaction import MASK, Secrets

_MAX_DEPTH = 60
_MAX_REPR = 2000
_MAX_PATH = 200  # of a name in it
# What is looked at inside the containers of one record, in bytes of JSON at the least: what has more does not fit a
# line anyway, and a list that holds itself twice over thirty levels would be a billion.
_LEAST_WORK = 64 * 1024
_MOST_DIGITS_BITS = 14_000  # about 4,200 digits; beyond, Python takes a time that grows with the square
_LISTS = (list, tuple, set, frozenset, deque, UserList, MappingView)
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


class Values:
    """What a record's fields are written as; ``most`` is the size of a line (bytes)."""

    def __init__(self, secrets: Secrets, most: int) -> None:
        self._secrets = secrets
        self._work = max(_LEAST_WORK, most)

    def shown(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], Changes]:
        """The fields as JSON can hold them, without those that say nothing (None)."""
        changes = Changes(self._work)
        shown: dict[str, Any] = {}
        for name, value in fields.items():
            if value is not None:
                self._item(name, value, shown, "", changes, 0, ())
        return shown, changes

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
        shown[key] = MASK if secret else self._value(item, path + key[:_MAX_PATH], changes, depth, above)


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


def _int_text(value: int) -> str:
    if value.bit_length() < _MOST_DIGITS_BITS:
        return str(value)
    beyond = 4 * (value.bit_length() // 4 - _MAX_REPR)  # of the rest only the first digits are shown
    return hex(abs(value) >> max(0, beyond))[:_MAX_REPR] if value > 0 else "-" + _int_text(-value)[: _MAX_REPR - 1]


def safe_text(value: object) -> str:
    """A value as text where text is needed; for what is no text its repr, and never an exception."""
    if type(value) is str:
        return value
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
