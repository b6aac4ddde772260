"""PostgreSQL looked at again and again, over one connection; beside it the files, for what is not loaded yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import statements
from ..database import Database
from ..errors import DatabaseError, TransientError
from ..report.health import Digest
from .logs import LogFeed
from .looks import MOST_ROWS, Seen, Stream

# Rows that are looked at for the newest of them, by id: the loader may bring older ones later.
_ROWS = 1000
_DEADLINE_S = 10.0


class DatabaseFeed:
    """A database, and the log directory's files where there is one.

    A database that is away is said in :attr:`~loader.live.Seen.away`, and tried again at the next look. Errors:
    :class:`~loader.errors.TerminalError` where it says no at the first look.
    """

    def __init__(self, dsn: str, files: LogFeed | None) -> None:
        self._dsn = dsn
        self._files = files
        self._database: Database | None = None
        self._last: Seen | None = None

    async def look(self) -> Seen:
        of_files = await self._files.look() if self._files else Seen()
        try:
            found = await self._ask(of_files)
        except DatabaseError as error:
            if self._last is None and not isinstance(error, TransientError):
                raise
            await self.close()
            if self._last is None:
                return replace(of_files, away=str(error))
            return replace(self._last, last_at=of_files.last_at, problems=of_files.problems, away=str(error))
        self._last = found
        return found

    async def close(self) -> None:
        if self._database is not None:
            await self._database.close()
            self._database = None

    async def _ask(self, of_files: Seen) -> Seen:
        if self._database is None:
            self._database = await Database.connect(self._dsn, deadline_s=_DEADLINE_S)
        ask, sql = self._database, statements.load("live/postgres.sql")
        if not await ask.fetchval(statements.load("views/ledger.sql")["is_there"]):
            return replace(of_files, orders=(), trades=())
        streams = {row["stream"]: row for row in await ask.fetch(sql["streams"])}
        newest = await ask.fetch(statements.load("report/postgres.sql")["newest_digest"])
        return Seen(
            streams=self._streams(streams, of_files),
            segments=max(of_files.segments, sum(row["segments"] for row in streams.values())),
            newest=Digest(**newest[0]) if newest else None,
            last_at=of_files.last_at,
            loaded_at=max((row["loaded_at"] for row in streams.values()), default=None),
            orders=await ask.fetch(sql["orders"], _ROWS, MOST_ROWS),
            trades=await ask.fetch(sql["trades"], _ROWS, MOST_ROWS),
            problems=of_files.problems,
        )

    def _streams(self, ledger: Mapping[str, Mapping[str, Any]], of_files: Seen) -> list[Stream]:
        """The newest first; those of which only files are there are not loaded at all."""
        files = {stream.stream: stream for stream in of_files.streams}
        emitted = self._files.last_seqs() if self._files else {}
        return [
            self._stream(stream, ledger.get(stream), files.get(stream), emitted.get(stream, 0))
            for stream in sorted({*ledger, *files}, reverse=True)
        ]

    def _stream(self, stream: str, row: Mapping[str, Any] | None, of_files: Stream | None, emitted: int) -> Stream:
        last = row["last_seq"] if row else 0
        behind = max(0, emitted - last) if self._files else None
        if row is None:
            assert of_files is not None  # noqa: S101  for the type checker
            return replace(of_files, records=0, missing=0, rejected=0, behind=behind)
        if of_files:
            state = of_files.state
        elif self._files:
            state = "archived" if stream in self._files.archived else "no files"
        else:
            state = "closed" if row["closed"] else "open"
        return Stream(
            stream,
            row["service"],
            state,
            row["records"],
            row["lost"] + max(0, last - row["records"] - row["lost"]),
            row["rejected"],
            behind,
        )
