"""The loader's side of the model: each thing that it can be asked to do, held against files and list at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from loader.archive.archiving import Done, archive
from loader.archive.restore import restore
from loader.database import Database
from loader.errors import TransientError, UsageError
from loader.load import Loader
from loader.rejects import rejects
from loader.rejects.rejects import Asked, read_entries
from loader.rejects.retry import Retry
from loader.settings import LoadSettings
from loader.totals import Totals
from loader.verify.rule_book import BUILT_IN
from loader.verify.verify import verify

from ..contents import contents
from .plain_list import PlainList

_EMPTY = (
    "TRUNCATE monitoring.orders, monitoring.trades, monitoring.order_updates, monitoring.events, "
    "monitoring.audit_rejects, monitoring.audit_segments RESTART IDENTITY"
)
_PATIENCE_S = 30.0
# What verify may say of a stream that lost a whole segment which was loaded in part: nobody knows what became of it.
_AFTER_A_POWER_CUT = {"segment_missing"}
# The others ask whether the bot's trading makes sense.
_OF_THE_TRAIL = {name for name, *_ in BUILT_IN}


@dataclass
class Loading:
    """``finished``: streams that nobody writes to any more. ``cut``: those that a power cut took records from."""

    log: Path
    dsn: str
    picky: Path
    records: PlainList
    finished: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    removed: int = 0  # segments that only an archive has

    async def begin(self) -> None:
        """Empty tables."""
        async with await Database.connect(self.dsn) as database:
            await database.execute(_EMPTY)

    # -- loads --

    def load(self, *, picky: bool, batch_bytes: int) -> int:
        """How many records were new."""
        asyncio.run(self._take(self.dsn, picky=picky, batch_bytes=batch_bytes))
        return self._hold(complete=True, picky=picky)

    def load_twice(self, *, picky: bool, batch_bytes: int) -> int:
        """The second time there is nothing to do, and nothing changes."""
        new = self.load(picky=picky, batch_bytes=batch_bytes)
        before = asyncio.run(contents(self.dsn))
        again = asyncio.run(self._take(self.dsn, picky=picky, batch_bytes=batch_bytes))
        assert (again.records, again.rejected) == (0, 0)
        assert asyncio.run(contents(self.dsn)) == before
        return new

    def two_loaders(self, *, picky: bool) -> int:
        """At once, with batches so small that they meet."""

        async def both() -> None:
            await asyncio.gather(*(self._take(self.dsn, picky=picky, batch_bytes=4096) for _ in range(2)))

        asyncio.run(both())
        return self._hold(complete=True, picky=picky)

    def load_over(self, dsn: str, *, patient: bool, picky: bool, batch_bytes: int) -> int:
        """Over a connection that may be cut; without patience it ends there."""
        try:
            asyncio.run(self._take(dsn, picky=picky, batch_bytes=batch_bytes, timeout_s=_PATIENCE_S if patient else 0))
        except TransientError:
            assert not patient
            return self._hold(complete=False, picky=picky)
        return self._hold(complete=True, picky=picky)

    async def _take(self, dsn: str, *, picky: bool, batch_bytes: int, timeout_s: float = _PATIENCE_S) -> Totals:
        rules = self.picky if picky else None
        settings = LoadSettings(
            directory=self.log, dsn=dsn, batch_bytes=batch_bytes, timeout_s=timeout_s, rules=rules
        )  # fmt: skip
        async with Loader(settings) as loader:
            totals = await loader.take()
        self._only_of_cut(totals.problems)
        return totals

    def _hold(self, *, complete: bool, picky: bool) -> int:
        in_files = self.records.hold_files(self.log, self.finished)

        async def hold() -> int:
            async with await Database.connect(self.dsn) as database:
                return await self.records.hold_tables(database, in_files if complete else None, picky=picky)

        return asyncio.run(hold())

    # -- rejects --

    def retry(self, *, picky: bool) -> int:
        """Today's rules decide; how many lines were taken."""

        async def retry() -> Totals:
            async with Retry(self.dsn, rules=self.picky if picky else None) as tried:
                return await tried.take(Asked(severity="rejected"))

        totals = asyncio.run(retry())
        taken = self.records.retried(picky=picky)
        assert totals.records - totals.rejected == taken
        self._hold_places()
        return taken

    def mend(self, *, every: int) -> int:
        """Each ``every``-th line is mended by hand, as a person would; how many were taken."""

        async def mend() -> Totals:
            async with await Database.connect(self.dsn) as database:
                lines = [json.loads(line) async for line in rejects.export(database, Asked(severity="rejected"))]
            async with Retry(self.dsn, say=lambda *_: None) as tried:
                chosen = lines[::every]
                self.records.mended((line["stream"], line["seq"]) for line in chosen)
                return await tried.take_mended(read_entries(_mended(chosen)))

        totals = asyncio.run(mend())
        assert totals.rejected == 0
        self._hold_places()
        return totals.records

    def _hold_places(self) -> None:
        async def hold() -> None:
            async with await Database.connect(self.dsn) as database:
                await self.records.hold_places(database)

        asyncio.run(hold())

    # -- archive --

    def archive(self, *, keep: bool, parquet: bool) -> Done:
        """Pack what is loaded; without ``keep`` the raw segments go."""
        try:
            done = archive(self.log, self.dsn, keep=None if keep else timedelta(0), parquet=parquet)
        except UsageError:  # nothing is loaded whole
            return Done(self.log)
        self._only_of_cut(done.problems)
        self.removed += done.removed
        return done

    def restore(self) -> int:
        done = restore(self.log)
        assert done.problems == {}
        self.removed = 0
        return done.segments

    # -- proof --

    def prove(self) -> None:
        """All records are rows, and verify finds nothing but what a power cut took after it was loaded."""
        in_files = self.records.hold_files(self.log, self.finished)
        for one in self.records.said:
            assert one.place == "row" or one.key not in in_files, one
        verdict = verify(self.log, self.dsn)
        for found in verdict.findings.kept:
            expected = found.stream in self.cut and found.rule in _AFTER_A_POWER_CUT
            assert expected or found.severity == "information" or found.rule not in _OF_THE_TRAIL, found

    def _only_of_cut(self, problems: dict[str, str]) -> None:
        """Only files that a power cut made shorter than what is loaded of them are complained of."""
        for file, words in problems.items():
            assert any(stream in file for stream in self.cut), (file, words)


def _mended(lines: list[dict[str, Any]]) -> Iterator[bytes]:
    for entry in lines:
        line = json.loads(entry["line"])
        line["attributes"].setdefault("side", "sell")
        yield json.dumps({**entry, "line": json.dumps(line)}).encode()
