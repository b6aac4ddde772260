"""Where a DSN comes from, and how it is shown to people: never with its password."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from .errors import UsageError

_SECRETS = ("password", "sslpassword", "passfile")
_UNREADABLE = "the given DSN"


def take_from_file(environ: MutableMapping[str, str]) -> None:
    """``TRADETRAIL_DSN_FILE`` names a file with the DSN, as secrets are mounted; ``TRADETRAIL_DSN`` itself wins.

    Errors: :class:`UsageError` where there is none in it.
    """
    path = environ.get("TRADETRAIL_DSN_FILE")
    if not path or environ.get("TRADETRAIL_DSN"):
        return
    try:
        dsn = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"TRADETRAIL_DSN_FILE: {path} cannot be read: {why}") from error
    if not dsn:
        raise UsageError(
            f"TRADETRAIL_DSN_FILE: {path} is empty; one line is needed, as postgresql://user@host/database"
        )
    environ["TRADETRAIL_DSN"] = dsn


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
