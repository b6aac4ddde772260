"""The demo: the example bot, ``tradetrail watch`` beside it, two bad lines, and a look at what came of it.

Everything lies in one folder (``var/demo``): the log in ``audit``, made anew by each run, and an embedded PostgreSQL in
``postgres``, unless a DSN is given. What is shown is shown by the commands a person would use.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from emitter import AuditLog
from emitter.recovery import recover
from emitter.segments import SegmentName, create_segment, footer_line, header_line, list_segments, new_stream

from . import statements
from .beside import Process, started
from .database import Database
from .dsn import describe
from .embedded import embedded
from .errors import EnvironmentFault, UsageError
from .migrate import migrate
from .show import cell, console, table

BOT = Path(__file__).parent / "examples" / "bot.py"
_MARK = ".tradetrail-demo"
_POLL_S = 0.2
_CATCH_UP_S = 30.0
# 1: the command ran and found something, here the two bad lines.
_SEEN = (0, 1)
_BY_SYMBOL = """\
SELECT symbol, count(DISTINCT order_id) AS orders, count(*) AS fills,
       round(sum(executed_qty::DOUBLE * price), 2) AS volume
FROM trades GROUP BY symbol ORDER BY volume DESC"""
_NEWEST = "SELECT timestamp, event_name, attributes ->> 'symbol' AS symbol FROM records ORDER BY seq DESC LIMIT 5"
_BY_TYPE = "SELECT symbol, type, count(*) AS orders FROM orders GROUP BY ALL ORDER BY ALL"


def demo(directory: Path, *, seconds: float = 8.0, rate: float = 12.0, dsn: str | None = None) -> None:
    """Play the demo in ``directory`` for some seconds of trading; ``dsn``: in that database.

    Errors: ``UsageError`` where the folder or the database holds something that is not a demo's;
    ``EnvironmentFault`` where something does not start, or the loader does not keep up.
    """
    to = console()
    with ExitStack() as stack:
        lock = stack.enter_context(_own(directory))
        log = _log_anew(directory / "audit")
        given = dsn is not None
        if dsn is None:
            to.print("Starting an embedded PostgreSQL ...", style="dim")
            dsn = stack.enter_context(embedded(directory / "postgres"))
        where = describe(dsn) if given else f"an embedded one in {directory}"
        to.print(f"Log: {log}; database: {where}", markup=False, soft_wrap=True)
        asyncio.run(_play(to, log, dsn, seconds, rate, lock, given=given))
        _look_by_commands(to, log, dsn)
    _say_what_next(to, log)


# -- the folder --


@contextmanager
def _own(directory: Path) -> Iterator[int]:
    """The demo's own folder, marked and locked; nothing is removed from a folder that is somebody else's."""
    mark = directory / _MARK
    try:
        if directory.exists() and not mark.exists() and any(directory.iterdir()):
            raise UsageError(f"{directory} holds other files, and the demo makes its folder anew: give another --dir")
        directory.mkdir(parents=True, exist_ok=True)
        file = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentFault(f"{directory}: the demo cannot use it: {error.strerror}") from error
    try:
        # The bot inherits it: a folder stays locked until the last one that writes there has ended.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    except BlockingIOError:
        raise UsageError(f"another demo still runs in {directory}: wait for it, or give another --dir") from None
    finally:
        os.close(file)


def _log_anew(log: Path) -> Path:
    if log.exists():
        recover(log)  # a demo that was killed has left a ring in memory
        shutil.rmtree(log)
    log.mkdir(mode=0o700)
    return log


# -- the play --


async def _play(to: Console, log: Path, dsn: str, seconds: float, rate: float, lock: int, *, given: bool) -> None:
    async with await Database.connect(dsn) as database:
        await _prepare(database, given=given)
        place = ("--dir", str(log))
        options = ("--service", "demo-bot", "--seconds", str(seconds), "--rate", str(rate))
        async with started("tradetrail watch", "-m", "loader", "watch", *place, TRADETRAIL_DSN=dsn) as watching:
            async with started("the bot", str(BOT), *place, *options, keep=lock) as bot:
                await _follow(to, database, log, seconds, bot, watching)
            await _caught_up(database, log, watching)
        await _show_tables(to, database, log)


async def _prepare(database: Database, *, given: bool) -> None:
    """Tables for the demo; made-up orders do not get between those of a real bot."""
    sql = statements.load("demo.sql")
    if not given:
        await database.execute("DROP SCHEMA IF EXISTS monitoring CASCADE")
    elif await database.fetchval("SELECT to_regclass('monitoring.orders') IS NOT NULL"):
        known = await database.fetchval("SELECT to_regclass('monitoring.audit_segments') IS NOT NULL")
        if await database.fetchval(sql["holds_orders_of_others" if known else "holds_orders"]):
            raise UsageError("this database holds a bot's orders, and the demo makes some up: give an empty database")
    await migrate(database)


async def _follow(to: Console, database: Database, log: Path, seconds: float, bot: Process, watching: Process) -> None:
    """The bot's time, with one line that says how far it is and how far the loader."""
    clock = asyncio.get_running_loop().time
    start = clock()
    with Progress(BarColumn(20), TextColumn("{task.description}"), console=to, transient=True) as progress:
        task = progress.add_task("", total=seconds)
        spoiled = False
        while bot.running:
            done = clock() - start
            if not spoiled and done > seconds / 2:
                spoiled = True
                await asyncio.to_thread(_two_bad_lines, log)
            loaded = await _progress(database, log)
            text = f"{_records(log)} records written, {loaded['records']} in PostgreSQL, {loaded['rejected']} rejected"
            progress.update(task, completed=done, description=text)
            watching.check()
            await asyncio.sleep(_POLL_S)
    bot.check()


async def _caught_up(database: Database, log: Path, watching: Process) -> None:
    """Wait until the loader has taken every file to its end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CATCH_UP_S):
            while (await _progress(database, log))["closed"] < len(list_segments(log)):
                watching.check()
                await asyncio.sleep(_POLL_S)
            return
    raise EnvironmentFault(f"tradetrail watch did not take everything within {_CATCH_UP_S:.0f} s")


async def _progress(database: Database, log: Path) -> dict[str, Any]:
    return await database.fetchrow(statements.load("demo.sql")["progress"], _streams(log)) or {}


def _streams(log: Path) -> list[str]:
    return sorted({name.stream for name in list_segments(log)})


def _records(log: Path) -> int:
    """Record lines in the files; control lines carry no seq."""
    return sum(path.read_bytes().count(b'","seq":') for path in log.glob("*.jsonl"))


def _two_bad_lines(log: Path) -> None:
    """What no bot should write: an order without a symbol, and a line that was cut off.

    The second one is a small segment of its own: a file that a living bot writes to is never touched.
    """
    with AuditLog(log, service="demo-careless") as audit:
        audit.order(exchange="bybit", type="MARKET", side="buy", size="94.7", status="FILLED", order_id="17")
    name = SegmentName.of("demo-broken", new_stream(), 1)
    body = header_line(name, service=name.service, resource={}, pid=os.getpid(), ring=None, previous_sha256=None)
    body += b'{"stream":"%b","seq":1,"timestamp":"2026-11-22T13:10:56.015378Z","event_name":"order.cre\n' % (
        name.stream.encode()
    )
    digest = hashlib.sha256(body).hexdigest()
    file = create_segment(log / str(name))
    with os.fdopen(file, "wb") as segment:
        segment.write(body + footer_line(name, records=1, first_seq=1, last_seq=1, sha256=digest))


# -- the look at it --


async def _show_tables(to: Console, database: Database, log: Path) -> None:
    sql, streams = statements.load("demo.sql"), _streams(log)
    written, accounted = _records(log), await database.fetchval(sql["accounted"], streams)
    _title(to, "What is in PostgreSQL, schema monitoring")
    to.print(_table(await database.fetch(sql["counts"], streams)))
    to.print(f"{written} records written, {accounted} accounted for, {written - accounted} missing.")
    position = await database.fetchval(sql["busiest_position"], streams)
    _title(to, f"Position {position}: its orders, each with its fills, in order of time")
    to.print(sql["position"].replace("$1", f"'{position}'"), style="cyan", markup=False, soft_wrap=True)
    to.print(_table(await database.fetch(sql["position"], position)))


def _look_by_commands(to: Console, log: Path, dsn: str) -> None:
    place = ("--dir", str(log))
    _title(to, "The raw files, asked with DuckDB: no database needed")
    _run(to, dsn, "query", _BY_TYPE, *place)
    _run(to, dsn, "query", _BY_SYMBOL, *place)
    _title(to, "The two bad lines: set aside with the reason, and in nobody's way")
    _run(to, dsn, "rejects", "list")
    _title(to, "How far the loader got")
    _run(to, dsn, "status", *place)


def _run(to: Console, dsn: str, *words: str) -> None:
    """A command of tradetrail, shown as one would type it, and what it says."""
    shown = " ".join(_typed(word) for word in words)
    to.print(f"$ tradetrail {shown}", style="cyan", markup=False, soft_wrap=True)
    to.file.flush()
    env = {**os.environ, "TRADETRAIL_DSN": dsn}
    done = subprocess.run([sys.executable, "-P", "-m", "loader", *words], env=env, check=False)
    if done.returncode not in _SEEN:
        raise EnvironmentFault(f"tradetrail {words[0]} ended with {done.returncode}")


def _typed(word: str) -> str:
    """A word as people quote it for a shell."""
    if shlex.quote(word) == word or set(word) & set('"$`\\!'):
        return shlex.quote(word)
    return f'"{word}"'


def _say_what_next(to: Console, log: Path) -> None:
    program, python = _command(), _typed(_short(Path(sys.executable)))
    _title(to, "What to try next")
    for line in (
        f"{program} query {_typed(_NEWEST)} --dir {_typed(str(log))}",
        f"{program} metrics --dir {_typed(str(log))} --by symbol",
        f"{program} verify --dir {_typed(str(log))}",
        f"{python} {_typed(_short(BOT.resolve()))} --seconds 30 & {program} watch",
    ):
        to.print(line, style="cyan", markup=False, soft_wrap=True)


def _command() -> str:
    """How this program is called from here."""
    found = shutil.which("tradetrail")
    beside = Path(sys.executable).with_name("tradetrail")
    same = found is not None and beside.exists() and beside.samefile(found)
    return "tradetrail" if same else _typed(_short(beside))


def _short(path: Path) -> str:
    """A path as seen from here, where it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _title(to: Console, text: str) -> None:
    to.print()
    to.print(text, style="bold", soft_wrap=True)


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = list(rows[0]) if rows else []
    numbers = [name for name in columns if any(isinstance(row[name], int | Decimal) for row in rows)]
    made = table(columns, right=numbers, wrapped=columns)
    for row in rows:
        made.add_row(*("" if value is None else cell(value) for value in row.values()))
    return made
