"""The loader's errors: each is one line for people, and carries its data as attributes.

::

    TradetrailError                 exit_code 3
    |-- UsageError                  exit_code 2: a wrong option, setting or DSN
    `-- EnvironmentFault            exit_code 3: disk full, no permission, a program missing
        `-- DatabaseError           what PostgreSQL or the way to it said; carries sqlstate
            |-- TransientError      may pass: try again
            |   `-- UnknownOutcome  an error at COMMIT: reconnect and ask the ledger
            |-- TerminalError       will not pass by itself: stop
            |-- UniqueViolation     a key that is there already
            `-- BadRow              one row was refused; carries line, column, reason

No asyncpg, duckdb or OSError type leaves the package, and no message holds a password.
"""

from __future__ import annotations

import re
from typing import ClassVar

# Connection failure, rollback, resources, object in use, operator intervention, system error.
_TRANSIENT_CLASSES = ("08", "40", "53", "55", "57", "58")
# Words about a row: data, constraints, limits. P0 and the classes that the standard leaves to users (5 to 9, I to Z)
# are raised by triggers. A regular expression that Python and PostgreSQL read alike.
REFUSALS = "^(2[237]|44|5[0-2469]|[6-9I-WYZ])"
# Read-only: a standby that is about to be promoted, or a server that protects its full disk.
_TRANSIENT_STATES = ("25006",)
_WHAT_TO_DO = {
    "25006": "it is a standby, or was set read-only",
    "3F000": "run: tradetrail migrate",
    "42501": "give the role its rights with sql/roles.sql",
    "42703": "a column that tradetrail migrate had made was removed or renamed: put it back",
    "42P01": "a table that tradetrail migrate had made was removed or renamed: put it back",
    "53100": "make room on the server's disk",
    "53300": "free a connection, or raise max_connections or the limit of the role or database",
    "55P03": "another session holds a lock, see pg_locks",
    "57014": "if the role or database has a statement_timeout, raise it",
}
# "COPY orders, line 3, column price: ..."; the words between are in the server's language.
_COPY_CONTEXT = re.compile(r'^COPY (?:"[^"]+"|[^,\n]+), [^\d,\n]*(\d+)(?:, [^\s,:]+ ([^:,\n]+))?', re.MULTILINE)


class TradetrailError(Exception):
    """What the loader reports and ends with: ``str()`` is one line, ``exit_code`` that of the command."""

    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        """The message as it was given, on one line (a KeyError among the bases would quote it)."""
        return " ".join(str(self.args[0]).split()) if self.args else type(self).__name__


class UsageError(TradetrailError):
    """The command was called or configured wrongly."""

    exit_code = 2


class EnvironmentFault(TradetrailError):
    """Something around the loader is missing, full, forbidden or away."""

    exit_code = 3


class DatabaseError(EnvironmentFault):
    """An error at the database's door; ``sqlstate`` is None where PostgreSQL itself did not speak."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class TransientError(DatabaseError):
    """May pass by itself (lost connection, deadlock, lock timeout, disk full, restart): try again."""


class UnknownOutcome(TransientError):
    """COMMIT did not answer with success: the transaction may or may not stand. The ledger knows."""


class TerminalError(DatabaseError):
    """Stays as it is until a person changes something."""


class UniqueViolation(DatabaseError):
    """A row with that key is there already (SQLSTATE 23505)."""


class BadRow(DatabaseError):
    """PostgreSQL refused a row, or a statement for the sake of one.

    ``line`` is the 1-based line of the COPY, ``column`` the column that was refused: both None where
    PostgreSQL did not say. ``reason`` is PostgreSQL's own message and may quote the refused value.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        line: int | None = None,
        column: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.line = line
        self.column = column
        self.reason = reason


def from_sqlstate(state: str, reason: str, context: str = "", column: str | None = None) -> DatabaseError:
    """What an error that PostgreSQL reported means.

    ``reason`` is its message, ``context`` its CONTEXT (which names the line of a COPY), ``column`` the column
    that it names itself. SQLSTATE classes: postgresql.org/docs/current/errcodes-appendix.html.
    """
    hint = _WHAT_TO_DO.get(state)
    said = f"PostgreSQL says: {reason} (SQLSTATE {state})" + (f"; {hint}" if hint else "")
    if state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES:
        return TransientError(said, sqlstate=state)
    if state == "23505":
        return UniqueViolation(said, sqlstate=state)
    if not re.match(REFUSALS, state):
        return TerminalError(said, sqlstate=state)
    place = _COPY_CONTEXT.search(context)
    line = int(place[1]) if place else None
    column = (place[2] if place else None) or column
    where = (f", line {line}" if line else "") + (f", column {column}" if column else "")
    message = f"PostgreSQL refused a row{where}: {reason} (SQLSTATE {state})"
    return BadRow(message, reason=reason, line=line, column=column, sqlstate=state)
