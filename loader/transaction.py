"""One batch in one transaction: rows, rejects and ledger, or nothing.

Rows are copied straight into their tables; where a key is there already, they go through a temporary table and only
what is new is inserted. Orders that have more than one record are folded.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from emitter.records import KINDS, ORDER, ORDER_UPDATE
from emitter.segments import parse_footer

from . import statements
from .database import Database
from .errors import BadRow, TerminalError, UniqueViolation
from .tail import Part, Spooled
from .totals import Totals, declared_loss
from .validate import Check, PartCount, Rejects, Rows, key_at_line


class Moved(Exception):
    """Another loader has taken some of these bytes meanwhile: look at the ledger again."""


class DoesNotAddUp(TerminalError):
    """The rows of a batch are not as many as its lines: a fault of this program; nothing of the batch was kept."""


@dataclass(slots=True)
class Prepared:
    """A batch that is checked and waits for PostgreSQL."""

    spooled: Spooled
    folder: Path
    check: Check
    rows: list[Rows]
    rejects: Rejects | None
    parts: list[PartCount]
    copying: Rows | None = None  # what PostgreSQL was given last, for the case that it refuses a row
    outcome: Totals | None = None  # what was sent to COMMIT last

    def discard(self) -> None:
        self.check.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)


class BatchTransaction:
    """Takes batches into PostgreSQL, one after the other.

    ``merges`` says whether the last one met known keys: then the next is merged at once.
    """

    def __init__(self) -> None:
        self._sql = statements.load("load/merge.sql")
        self.merges = False

    async def commit(
        self, database: Database, prepared: Prepared, voids: Mapping[tuple[str, int], int], *, unsure: bool
    ) -> Totals:
        """Take a batch and commit. ``unsure``: an earlier COMMIT of it did not answer, the ledger knows its outcome.

        Errors: :class:`Moved` where the ledger stands elsewhere than the batch begins, those of the database's door.
        """
        while True:
            try:
                async with database.transaction():
                    if await self._is_done(database, prepared.spooled.parts, unsure) and prepared.outcome is not None:
                        return prepared.outcome
                    prepared.outcome = await self._take(database, prepared, voids)
            except BadRow as error:
                await self._set_aside(prepared, error)
            else:
                return prepared.outcome

    async def _is_done(self, database: Database, parts: list[Part], unsure: bool) -> bool:
        """Lock the streams and hold the ledger against the batch: whether it is loaded already, by ourselves."""
        for stream in sorted({part.name.stream for part in parts}):
            await database.execute(self._sql["lock_stream"], stream)
        rows = await database.fetch(
            self._sql["ledger_of"], [part.name.stream for part in parts], [part.name.number for part in parts]
        )
        known = {(row["stream"], row["segment"]): row["bytes"] for row in rows}
        done = [known.get((part.name.stream, part.name.number), 0) for part in parts]
        if done == [part.stop for part in parts] and unsure:
            return True
        if done != [part.start for part in parts]:
            raise Moved
        return False

    async def _take(self, database: Database, prepared: Prepared, voids: Mapping[tuple[str, int], int]) -> Totals:
        totals = self._counted(prepared)
        made = dict.fromkeys((kind.table for kind in KINDS), 0)
        of_orders = [rows for rows in prepared.rows if rows.kind in (ORDER, ORDER_UPDATE)]
        if of_orders:
            await database.execute(self._sql["lock_orders"])
        conflict = False
        repeated: list[dict[str, Any]] = []
        for together in (of_orders, *([rows] for rows in prepared.rows if rows not in of_orders)):
            if not self.merges:
                try:
                    made |= await self._copy(database, prepared, together)
                    continue
                except UniqueViolation:
                    conflict = True
                except BadRow:  # of a folded row nobody knows which record is to blame
                    if not any(rows.settled for rows in together):
                        raise
            for rows in await asyncio.to_thread(_unsettled, prepared, together):
                prepared.copying = rows
                conflict |= await self._merge(database, rows, made, totals, repeated)
        self.merges = conflict
        if of_orders:
            await self._fold(database, prepared)
        rejects = prepared.rejects
        if repeated:
            says = [(row["stream"], row["seq"], "repeated_trade", "") for row in repeated]
            rejects = await asyncio.to_thread(self._with_marks, prepared, says)
        if rejects is not None:
            await self._copy_to_stage(database, "audit_rejects", rejects.columns, rejects.path)
            await self._run(database, "insert_audit_rejects", rejects.columns)
            totals.repaired = rejects.repaired
            for severity, rule, lines, example in await asyncio.to_thread(prepared.check.reasons):
                totals.reasons[severity, rule] = lines
                totals.examples[severity, rule] = example
        for table, count in made.items():
            setattr(totals, table, count)
        accounted = sum(made.values()) + totals.duplicates + totals.rejected
        if accounted != totals.records:
            raise DoesNotAddUp(
                f"{totals.records} records were read and {accounted} accounted for; the batch was rolled back. "
                "This is a fault of tradetrail: please report it with the segment "
                f"{prepared.spooled.parts[0].name}"
            )
        await self._write_ledger(database, prepared, voids)
        return totals

    async def _copy(self, database: Database, prepared: Prepared, together: list[Rows]) -> dict[str, int]:
        """Straight into the tables, all or nothing; rows made by table."""
        made = {}
        async with database.savepoint():
            for rows in together:
                prepared.copying = rows
                made[rows.kind.table] = await database.copy_csv(rows.kind.table, rows.columns, rows.path) - rows.more
        return made

    async def _merge(
        self, database: Database, rows: Rows, made: dict[str, int], totals: Totals, repeated: list[dict[str, Any]]
    ) -> bool:
        """Through a temporary table: what is there already is left alone; whether there was any of that."""
        table, columns = rows.kind.table, rows.columns
        await self._copy_to_stage(database, table, columns, rows.path)
        if table == "order_updates":
            count = await self._run(database, "insert_order_updates", columns)
            made[table] += count
            totals.duplicates += rows.count - count
            return count < rows.count
        known = await self._run(database, f"drop_known_{table}", columns)
        count = await self._run(database, f"insert_{table}", columns)
        made[table] += count
        left = rows.count - known - count
        if table == "orders" and left:
            kept = await self._run(database, "keep_repeated_orders", columns)
            made["order_updates"] += kept
            left -= kept
        elif table == "trades" and left:
            repeated += await database.fetch(self._sql["repeated_trades"])
        totals.duplicates += known + left
        return count < rows.count

    async def _copy_to_stage(self, database: Database, table: str, columns: tuple[str, ...], path: Path) -> None:
        await self._run(database, "stage", columns, table=table)
        await database.copy_csv(f"incoming_{table}", columns, path, schema=None)

    async def _run(self, database: Database, name: str, columns: tuple[str, ...], **words: str) -> int:
        listed = ", ".join(f'"{column}"' for column in columns)
        text = self._sql[name].replace("{columns}", listed)
        for word, value in words.items():
            text = text.replace("{" + word + "}", value)
        return await database.execute(text)

    async def _fold(self, database: Database, prepared: Prepared) -> None:
        batch = await asyncio.to_thread(prepared.check.streams)
        unfolded = batch
        if any(rows.settled for rows in prepared.rows):
            unfolded = await asyncio.to_thread(prepared.check.unsettled)
        await database.execute(self._sql["stage_touched"])
        if await database.execute(self._sql["touch"], *_columns(unfolded), *_columns(batch)):
            await database.execute(self._sql["keep_own_values"])
            await database.execute(self._sql["fold"])

    def _with_marks(self, prepared: Prepared, marks: list[tuple[str, int, str, str]]) -> Rejects | None:
        prepared.check.mark(marks)
        return prepared.check.rejects()

    async def _set_aside(self, prepared: Prepared, error: BadRow) -> None:
        """PostgreSQL refused a row that all rules let through: reject its line and send the others again."""
        rows = prepared.copying
        key = key_at_line(rows, error.line) if rows is not None and error.line else None
        if key is None:
            raise error
        mark = (*key, "refused_by_database", error.reason)
        prepared.rejects = await asyncio.to_thread(self._with_marks, prepared, [mark])
        prepared.rows = await asyncio.to_thread(prepared.check.rows)
        prepared.parts = await asyncio.to_thread(prepared.check.parts)

    def _counted(self, prepared: Prepared) -> Totals:
        totals = Totals(
            records=sum(part.records for part in prepared.parts),
            rejected=sum(part.rejected for part in prepared.parts),
            bytes=prepared.spooled.bytes,
        )
        for control in prepared.check.control():
            totals.lost += declared_loss(control.line)[0]
        return totals

    async def _write_ledger(self, database: Database, prepared: Prepared, voids: Mapping[tuple[str, int], int]) -> None:
        control: dict[int, list[str]] = {}
        for found in prepared.check.control():
            control.setdefault(found.part, []).append(found.line)
        for count in prepared.parts:
            part = prepared.spooled.parts[count.part]
            lines = control.get(count.part, [])
            losses = [declared_loss(line) for line in lines]
            footer = next((f for line in lines if (f := parse_footer(line.encode()))), None)
            await database.execute(
                self._sql["ledger_write"],
                part.name.stream,
                part.name.number,
                str(part.name),
                part.header.service,
                part.stop,
                count.records,
                count.rejected,
                sum(lost for lost, _ in losses),
                [loss for _, ranges in losses for loss in ranges],
                count.first_seq,
                count.last_seq,
                footer.sha256 if footer else None,
                footer.recovered if footer else False,
                voids.get((part.name.stream, part.name.number)),
                _time(part.header.timestamp),
                _time(footer.timestamp) if footer else None,
            )


def _unsettled(prepared: Prepared, together: list[Rows]) -> list[Rows]:
    """The same records as they are, for a merge that finds out what to fold."""
    if not any(rows.settled for rows in together):
        return together
    prepared.rows = prepared.check.rows()
    return [rows for rows in prepared.rows if rows.kind in (ORDER, ORDER_UPDATE)]


def _columns(ranges: list[tuple[str, int, int]]) -> tuple[list[str], list[int], list[int]]:
    return [stream for stream, _, _ in ranges], [first for _, first, _ in ranges], [last for _, _, last in ranges]


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
