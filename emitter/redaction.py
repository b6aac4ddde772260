"""Which fields are never written: keys, signatures, passwords, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any

MASK = "***"
_SCALARS = frozenset({str, int, float, bool, NoneType, Decimal, datetime})
# Longer names are not remembered.
_MAX_NAME = 200
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
    """Which field names are masked; remembers the names it has judged, so that a name is judged once."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = SECRET_NAMES | {_plain(name) for name in more}
        self._harmless: set[str] = set()
        self.all_harmless: Callable[[Iterable[object]], bool] = self._harmless.issuperset

    def secret(self, name: object) -> bool:
        """Whether what stands under this name is masked."""
        if isinstance(name, bytes):  # headers, as some HTTP clients hold them
            name = name[:_MAX_NAME].decode("latin-1")
        if not isinstance(name, str):
            return False
        name = str.__str__(name.value if isinstance(name, Enum) else name)
        if name in self._harmless:
            return False
        plain = _plain(name)
        if plain in self._names or plain.endswith(SECRET_ENDINGS):
            return True
        if len(self._harmless) < _REMEMBERED and len(name) <= _MAX_NAME:
            self._harmless.add(name)
        return False

    def nested(self, fields: Mapping[str, Any]) -> bool:
        """Whether nested values need a closer look: a secret name among them, or a container of another kind."""
        waiting = [value for value in fields.values() if type(value) not in _SCALARS]
        while waiting:
            value = waiting.pop()
            kind = type(value)
            if kind is dict:
                if not self.all_harmless(value) and any(map(self.secret, value)):
                    return True
                inner = value.values()
            elif kind is list or kind is tuple:
                if len(value) == 2 and self.secret(value[0]):  # a header as a pair
                    return True
                inner = value
            else:
                return True
            waiting += [item for item in inner if type(item) not in _SCALARS]
        return False

    def masked(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with the values of secret names replaced; nested values are looked at where they are written."""
        return {name: MASK if self.secret(name) else value for name, value in fields.items()}
