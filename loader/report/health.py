"""The health of a trail, for the report: is it complete, what was rejected or lost, what waits, the newest digest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from .. import statements
from ..archive.files import archives_in
from ..database import Database
from ..inventory import add_archives, take_inventory
from ..show import moment
from ..status import Ledger, Status, take_status
from ..text import count
from ..verify.verify import Verdict, verify

_DEADLINE_S = 900.0
_MOST_RULES = 20

State = Literal["good", "bad", "unknown"]


@dataclass(frozen=True, slots=True)
class Digest:
    """The segment that was closed last; ``closed_at`` in UTC."""

    service: str
    stream: str
    segment: int
    sha256: str
    closed_at: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What was found by one rule: how often, and for people an example."""

    severity: str
    rule: str
    number: int
    example: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """``verdict`` is one sentence, ``state`` what it amounts to. Numbers are None where nobody could be asked."""

    verdict: str
    state: State
    advice: str
    streams: int = 0
    segments: int = 0
    records: int | None = None
    rejected: int | None = None
    lost: int | None = None
    waiting: int | None = None
    waiting_bytes: int | None = None
    loaded_at: str | None = None
    newest: Digest | None = None
    noted: Sequence[Noted] = ()
    load_lag: Mapping[str, Decimal | int | None] | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


def health_of_logs(directory: Path, *, verified: bool) -> Health:
    """Of the files alone: ``tradetrail verify`` without a database, or where that is not wanted how many there are."""
    status = take_status(directory, None)
    known: dict[str, Any] = {
        "streams": len(status.streams),
        "segments": (status.total("segments") or 0) + (status.total("archived") or 0),
        "newest": _newest_of(directory),
        "problems": status.problems,
    }
    if not verified:
        advice = "run tradetrail verify to have it checked"
        return Health("not verified", "unknown", advice, records=status.total("emitted"), **known)
    verdict = verify(directory, None)
    return Health(
        verdict.proved,
        _state(verdict),
        "of the files alone; tradetrail verify --dsn holds them against the database, too",
        records=verdict.records,
        rejected=verdict.rejected,
        lost=verdict.lost,
        noted=[
            Noted(severity, rule, number, kept[0].what) for severity, rule, number, kept in verdict.findings.grouped()
        ],
        **known,
    )


async def health_of_database(database: Database, directory: Path | None) -> Health:
    """Of what was loaded, and how much of the log directory, if there is one, is not."""
    sql = statements.load("report/postgres.sql")
    ledger = (await database.fetch(sql["ledger"]))[0]
    holes = await database.fetch(statements.load("checks/agreement.sql")["holes"], deadline_s=_DEADLINE_S)
    newest = await database.fetch(sql["newest_digest"])
    rules = await database.fetch(sql["reject_rules"], _MOST_RULES)
    status = await _status(database, directory) if directory else None
    missing = sum(row["last"] - row["first"] + 1 for row in holes)
    over = f"{count(ledger['streams'], 'stream')}, {count(ledger['records'], 'record')}"
    if not ledger["segments"]:
        verdict = "nothing was ever loaded"
        state: State = "unknown"
    elif missing:
        verdict, state = f"{over}: not complete, {count(missing, 'record')} stand nowhere", "bad"
    else:
        verdict, state = f"{over}: complete, each stands in a row, a kept line or a declared loss", "good"
    return Health(
        verdict,
        state,
        "of the database alone; tradetrail verify --dir --dsn holds it against the files, too",
        streams=ledger["streams"],
        segments=ledger["segments"],
        records=ledger["records"],
        rejected=ledger["rejected"],
        lost=ledger["lost"],
        waiting=status.total("behind") if status else None,
        waiting_bytes=status.total("behind_bytes") if status else None,
        loaded_at=ledger["loaded_at"],
        newest=Digest(**newest[0]) if newest else None,
        noted=[Noted(row["severity"], row["rule"], row["lines"], _taken(row["taken"])) for row in rules],
        load_lag=(await database.fetch(sql["load_lag"]))[0] if ledger["segments"] else None,
        problems=status.problems if status else {},
    )


async def _status(database: Database, directory: Path) -> Status:
    """The files held against the ledger."""
    sql = statements.load("views/ledger.sql")
    streams = {row["stream"]: row for row in await database.fetch(sql["streams"])}
    progress = await database.fetch(sql["progress"])
    taken = {(row["stream"], row["segment"]): row["bytes"] for row in progress}
    return await asyncio.to_thread(take_status, directory, Ledger(streams, taken))


def _newest_of(directory: Path) -> Digest | None:
    inventory, archives = take_inventory(directory), archives_in(directory)
    whole = {file.name for file in inventory.files if file.footer is not None}
    # An archive has to be unpacked to be read: of each stream that of its end alone, which was closed last.
    last = {name.stream: name for name in sorted({*whole, *archives})}
    add_archives({name: archives[name] for name in last.values() if name not in whole}, inventory)
    closed = [file for file in inventory.files if file.footer is not None]
    newest = max(closed, key=lambda file: (file.footer.timestamp if file.footer else "", str(file.name)), default=None)
    if newest is None or newest.footer is None:
        return None
    footer = newest.footer
    closed_at = moment(datetime.fromisoformat(footer.timestamp))
    return Digest(newest.header.service, newest.name.stream, newest.name.number, footer.sha256, closed_at)


def _state(verdict: Verdict) -> State:
    if not verdict.streams:
        return "unknown"
    return "bad" if verdict.findings.grave else "good"


def _taken(number: int) -> str:
    return f"{number:,} taken after all" if number else ""
