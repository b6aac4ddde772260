"""How a DSN is shown to people: never with its password."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

_SECRETS = ("password", "sslpassword", "passfile")
_UNREADABLE = "the given DSN"


def describe(dsn: str) -> str:
    """The DSN without its password, for messages; a DSN that cannot be read safely is not shown at all."""
    try:
        parts = urlsplit(dsn)
        query = [(key, value) for key, value in parse_qsl(parts.query) if key not in _SECRETS]
    except ValueError:
        return _UNREADABLE
    # An "@" outside its place means that a sign of the password (/, ?, #) was not escaped.
    if parts.scheme not in ("postgresql", "postgres") or "@" in parts.path + parts.query + parts.fragment:
        return _UNREADABLE
    auth, at, hosts = parts.netloc.rpartition("@")
    if not at and re.search(r":\D", hosts.rpartition("]")[2]):
        return _UNREADABLE
    return parts._replace(netloc=auth.partition(":")[0] + at + hosts, query=urlencode(query, safe="/")).geturl()


def readable(dsn: str) -> bool:
    """Whether a DSN means what it seems to; a password with signs that are not escaped takes another shape."""
    return describe(dsn) != _UNREADABLE


def place(dsn: str) -> str:
    """Where the server should be, as host:port or the folder of its socket."""
    parts = urlsplit(describe(dsn))
    query = dict(parse_qsl(parts.query))
    host = parts.netloc.rpartition("@")[2] or query.get("host") or "the default host"
    has_port = host.startswith("/") or re.search(r":\d+$", host) or host == "the default host"
    return host if has_port else f"{host}:{query.get('port', '5432')}"
