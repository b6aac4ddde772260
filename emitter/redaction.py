"""Which fields are never written: keys, signatures, passwords, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

MASK = "***"
# Types whose values hold no others; enums and subclasses of these are added as they come.
_SCALARS = (str, int, float, bool, NoneType, Decimal, datetime, date, time, UUID)
_TYPES_REMEMBERED = 1024
# Longer names are not remembered, and only their ends are looked at.
_MAX_NAME = 200
# What is looked at inside containers, in bytes of JSON at the least; one that holds itself twice has no end.
_MOST_NESTED = 32 * 1024
_REMEMBERED = 4096

# Compared without case and without any sign between the letters. Whole names, so that a field such as quote_token
# stays, and endings that mean nothing else: exchanges put a prefix of their own before them (KC-API-KEY).
SECRET_NAMES = frozenset(
    """
    passwd pwd token bearertoken idtoken jwt sign mnemonic seedphrase accesskeyid listenkey
    """.split()  # noqa: SIM905  a list of words is read more easily than one of literals
)
SECRET_ENDINGS = tuple(
    """
    apikey apisign accesskey accesssign accesstoken authtoken bottoken refreshtoken sessiontoken secretkey privatekey
    secret signature passphrase password authorization cookie
    """.split()  # noqa: SIM905
)


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


class Secrets:
    """Which field names are masked; remembers the names it has judged, so that a name is judged once.

    ``all_plain(fields)`` is one look at the names of a record: whether all are known to be harmless, and none is one
    of ``special``, which mean something of their own to the caller.
    """

    def __init__(self, more: Iterable[str] = (), special: Iterable[str] = ()) -> None:
        self._names = SECRET_NAMES | {_plain(name) for name in more}
        self._special = frozenset(special)
        self._harmless: set[str] = set()
        plain: set[str] = set()
        self._plain = plain
        self.all_plain: Callable[[Iterable[object]], bool] = plain.issuperset
        self._scalars: set[type] = set(_SCALARS)

    def secret(self, name: object) -> bool:
        """Whether what stands under this name is masked."""
        if isinstance(name, bytes):  # headers, as some HTTP clients hold them
            name = name[:_MAX_NAME].decode("latin-1")
        if not isinstance(name, str):
            return False
        name = str.__str__(name.value if isinstance(name, Enum) else name)
        if name in self._harmless:
            return False
        plain = _plain(name[-_MAX_NAME:])
        if plain in self._names or plain.endswith(SECRET_ENDINGS):
            return True
        if len(self._harmless) < _REMEMBERED and len(name) <= _MAX_NAME:
            self._harmless.add(name)
            if name not in self._special:
                self._plain.add(name)
        return False

    def nested(self, fields: Mapping[str, Any]) -> bool:
        """Whether nested values need a closer look: a secret name, a container of another kind, more than a few."""
        scalars, left = self._scalars, _MOST_NESTED
        waiting = [value for value in fields.values() if type(value) not in scalars]
        while waiting:
            value = waiting.pop()
            kind = type(value)
            if kind is dict:
                if not self._harmless.issuperset(value) and any(map(self._odd, value)):
                    return True
                inner = value.values()
            elif kind is list or kind is tuple:
                if len(value) == 2 and self.secret(value[0]):  # a header as a pair
                    return True
                inner = value
            elif self._scalar(kind):
                continue
            else:
                return True
            left -= 4 + 2 * len(value)
            if left < 0:
                return True
            for item in inner:
                inner_kind = type(item)
                if inner_kind is str:
                    left -= len(item)
                elif inner_kind not in scalars:
                    waiting.append(item)
        return left < 0

    def _odd(self, name: object) -> bool:
        """Whether a nested name is secret, or such that nothing is remembered of it."""
        return type(name) is not str or len(name) > _MAX_NAME or self.secret(name)

    def _scalar(self, kind: type) -> bool:
        """Whether values of this type are texts, numbers or moments, or an enum's names for such."""
        if issubclass(kind, Enum):
            plain = all(type(member.value) in _SCALARS for member in kind.__members__.values())
        else:
            plain = issubclass(kind, _SCALARS) and not is_dataclass(kind)
        if plain and len(self._scalars) < _TYPES_REMEMBERED:
            self._scalars.add(kind)
        return plain

    def masked(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with the values of secret names replaced; nested values are looked at where they are written."""
        return {name: MASK if self.secret(name) else value for name, value in fields.items()}
