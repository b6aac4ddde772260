"""One batch in one transaction: rows, rejects and ledger, or nothing.

Rows are copied straight into their tables; where a key is there already, they go through a temporary table and only
what is new is inserted. Orders that have more than one record are folded. What PostgreSQL refuses is found out row by
row, and rejected; ids that are behind are moved on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from emitter.records import KINDS, ORDER, ORDER_UPDATE

from . import statements
from .database import Database
from .errors import BadRow, DatabaseError, TerminalError, UniqueViolation
from .ids import move_on
from .ledger import SegmentLedger
from .prepared import Moved, Prepared
from .sift import refused_rows
from .staging import filled, stage
from .totals import Totals, declared_loss
from .validate import Rejects, Rows

__all__ = ["BatchTransaction", "Books", "DoesNotAddUp", "Moved", "Prepared"]

# Ids are moved past the rows that have them; a bot that makes its own may have been there again.
_MOVES = 3


class DoesNotAddUp(TerminalError):
    """The rows of a batch are not as many as its lines: a fault of this program; nothing of the batch was kept."""


class Books(Protocol):
    """What a batch is held against before its rows are taken, and where it is noted after: all in its transaction."""

    async def claim(self, database: Database, *, unsure: bool) -> bool:
        """Lock what the batch belongs to; whether it is taken already, by a COMMIT of ours that did not answer.

        The advisory locks of the streams are held. Errors: :class:`Moved` where others have taken some of it.
        """

    async def note(self, database: Database, rejects: Rejects | None) -> None:
        """Note the batch; its lines with findings, if any, are staged in ``incoming_audit_rejects``."""


class BatchTransaction:
    """Takes batches into PostgreSQL, one after the other.

    ``merges`` says whether the last one met known keys: then the next is merged at once.
    """

    def __init__(self) -> None:
        self._sql = statements.load("load/merge.sql")
        self.merges = False
        self._begun_with: Database | None = None

    async def commit(
        self, database: Database, prepared: Prepared, voids: Mapping[tuple[str, int], int], *, unsure: bool
    ) -> Totals:
        """Take a batch of new lines, as :meth:`take`; the books are the ledger."""
        return await self.take(database, prepared, SegmentLedger(prepared, voids), unsure=unsure)

    async def take(self, database: Database, prepared: Prepared, books: Books, *, unsure: bool) -> Totals:
        """Take a batch and commit. ``unsure``: an earlier COMMIT of it did not answer, the books know its outcome.

        Errors: those of the books, and of the database's door.
        """
        refused: DatabaseError | None = None
        moves = 0
        streams = sorted({part.name.stream for part in prepared.spooled.parts})
        if self._begun_with is not database:
            # A new connection may be one to another server, to which rows were copied and sequences were not.
            await move_on(database, partitioned=True)
            self._begun_with = database
        while True:
            try:
                async with database.transaction():
                    await database.execute(self._sql["lock_streams"], streams)
                    if await books.claim(database, unsure=unsure) and prepared.outcome is not None:
                        return prepared.outcome
                    if _of_orders(prepared):
                        await database.execute(self._sql["lock_orders"])
                    if refused is not None:
                        await self._set_aside(database, prepared, refused)
                    prepared.outcome = await self._take(database, prepared, books)
                    await self._check_deferred(database)
            except (BadRow, UniqueViolation) as error:
                refused = error
                if isinstance(error, UniqueViolation) and moves < _MOVES:
                    moves += 1
                    # What was tried took ids as well: by itself it may be past them now.
                    if await move_on(database) or moves == 1:
                        refused = None
            else:
                return prepared.outcome

    async def _take(self, database: Database, prepared: Prepared, books: Books) -> Totals:
        totals = self._counted(prepared)
        made = dict.fromkeys((kind.table for kind in KINDS), 0)
        of_orders = _of_orders(prepared)
        conflict = False
        repeated: list[dict[str, Any]] = []
        for together in (of_orders, *([rows] for rows in prepared.rows if rows not in of_orders)):
            if not self.merges:
                try:
                    made |= await self._copy(database, together)
                    continue
                except UniqueViolation:
                    conflict = True
                except BadRow:  # of a folded row nobody knows which record is to blame
                    if not any(rows.settled for rows in together):
                        raise
            for rows in await asyncio.to_thread(_unsettled, prepared, together):
                conflict |= await self._merge(database, rows, made, totals, repeated)
        self.merges = conflict
        if of_orders:
            await self._fold(database, prepared)
        if repeated:
            marks = [(row["stream"], row["seq"], "repeated_trade", "") for row in repeated]
            await asyncio.to_thread(prepared.mark, marks)
        if prepared.rejects is not None:
            await stage(database, "audit_rejects", prepared.rejects.columns, prepared.rejects.path)
            totals.repaired = prepared.rejects.repaired
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
        await books.note(database, prepared.rejects)
        return totals

    async def _copy(self, database: Database, together: list[Rows]) -> dict[str, int]:
        """Straight into the tables, all or nothing; rows made by table."""
        made = {}
        async with database.savepoint():
            for rows in together:
                made[rows.kind.table] = await database.copy_csv(rows.kind.table, rows.columns, rows.path) - rows.more
        return made

    async def _merge(
        self, database: Database, rows: Rows, made: dict[str, int], totals: Totals, repeated: list[dict[str, Any]]
    ) -> bool:
        """Through a temporary table: what is there already is left alone; whether there was any of that."""
        table, columns = rows.kind.table, rows.columns
        await stage(database, table, columns, rows.path)
        known = 0
        if table != "order_updates":
            known = await database.execute(self._sql[f"drop_known_{table}"])
        insert = self._sql["insert_orders" if table == "orders" else "insert"]
        count = await database.fetchval(filled(insert, columns, table=table))
        made[table] += count
        left = rows.count - known - count
        if table == "orders" and left:
            kept = await database.execute(filled(self._sql["keep_repeated_orders"], columns))
            made["order_updates"] += kept
            left -= kept
        if known + count < rows.count:
            await self._check_placed(database, table)
        if table == "trades" and left:
            repeated += await database.fetch(self._sql["repeated_trades"])
        totals.duplicates += known + left
        return bool(count < rows.count)

    async def _check_placed(self, database: Database, table: str) -> None:
        """What has no row now is there already, by its own keys: else it would be taken for known, and be lost."""
        unplaced = filled(self._sql["unplaced"], table=table, unplaced=self._sql[f"unplaced_{table}"])
        if await database.fetchval(unplaced):
            raise UniqueViolation(
                f"records find no place in monitoring.{table}, though nobody has their keys: a unique constraint or a "
                "trigger of the database's keeps their rows out"
            )

    async def _fold(self, database: Database, prepared: Prepared) -> None:
        batch = unfolded = prepared.seqs
        settled = any(rows.settled for rows in prepared.rows)
        if settled:
            unfolded = await asyncio.to_thread(prepared.check.unsettled)
            batch = await asyncio.to_thread(prepared.check.runs) or batch
        await database.execute(self._sql["stage_touched"])
        if await database.execute(self._sql["touch"], *_columns(unfolded), *_columns(batch), settled):
            await database.execute(self._sql["keep_own_values"])
            await database.execute(self._sql["fold"])

    async def _set_aside(self, database: Database, prepared: Prepared, error: DatabaseError) -> None:
        """PostgreSQL refused rows that all rules let through: reject their lines, and leave the others."""
        await asyncio.to_thread(prepared.unsettle)
        before = sum(part.rejected for part in prepared.parts)
        refused = await refused_rows(database, prepared.rows)
        marks = [(stream, seq, "refused_by_database", reason) for stream, seq, reason in refused]
        await asyncio.to_thread(prepared.mark, marks)
        await asyncio.to_thread(prepared.unsettle)
        if sum(part.rejected for part in prepared.parts) == before:
            raise TerminalError(
                f"{error}. Row by row they are taken, together they are not; nothing of the batch was kept",
                sqlstate=error.sqlstate,
            )

    async def _check_deferred(self, database: Database) -> None:
        """Constraints that wait for the end speak up here: an error at COMMIT could mean anything."""
        try:
            await database.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except (BadRow, UniqueViolation) as error:
            raise TerminalError(
                "a deferred constraint of the database refuses the batch, and does not say for which row: "
                f"{error}; nothing of the batch was kept",
                sqlstate=error.sqlstate,
            ) from error

    def _counted(self, prepared: Prepared) -> Totals:
        totals = Totals(
            records=sum(part.records for part in prepared.parts),
            rejected=sum(part.rejected for part in prepared.parts),
            bytes=prepared.spooled.bytes,
        )
        for control in prepared.check.control():
            totals.lost += declared_loss(control.line)[0]
        return totals


def _of_orders(prepared: Prepared) -> list[Rows]:
    """The rows that are folded: they go together."""
    return [rows for rows in prepared.rows if rows.kind in (ORDER, ORDER_UPDATE)]


def _unsettled(prepared: Prepared, together: list[Rows]) -> list[Rows]:
    """The same records as they are, for a merge that finds out what to fold."""
    if not any(rows.settled for rows in together):
        return together
    prepared.unsettle()
    return _of_orders(prepared)


def _columns(ranges: list[tuple[str, int, int]]) -> tuple[list[str], list[int], list[int]]:
    return [stream for stream, _, _ in ranges], [first for _, first, _ in ranges], [last for _, _, last in ranges]
