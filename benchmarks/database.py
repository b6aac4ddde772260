"""The embedded PostgreSQL that the awaited INSERT goes to, with the tables of our own migrations."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .contestants import AWAITED


async def _migrate(dsn: str) -> None:
    from loader.database import Database
    from loader.migrate import migrate

    async with await Database.connect(dsn) as database:
        await migrate(database)


@contextmanager
def database(folder: Path, missing: dict[str, str]) -> Iterator[str]:
    """Its DSN; empty where there is none, and why not goes into ``missing``."""
    with contextlib.ExitStack() as stack:
        dsn = ""
        try:
            from loader.embedded import embedded

            dsn = stack.enter_context(embedded(folder / "postgres"))
            asyncio.run(_migrate(dsn))
        except Exception as error:
            missing[AWAITED] = f"no database: {error}"
        yield dsn


async def _servers(dsn: str) -> list[int]:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'benchmark'")
    finally:
        await connection.close()
    return [row["pid"] for row in found]


@contextmanager
def stopped(dsn: str, seconds: float) -> Iterator[None]:
    """The server processes of the contestant's connections are stopped on entry, and go on ``seconds`` later."""
    deadline = time.monotonic() + 10
    while not (pids := asyncio.run(_servers(dsn))) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # it is past its warming
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + seconds
    try:
        yield
        time.sleep(max(0.0, end - time.monotonic()))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
