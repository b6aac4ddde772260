"""A turn: so many calls by so many threads, each call timed from just before to just after."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable
from threading import Barrier, Thread
from typing import Any, Final

from .record import FIELDS, INSERT

# INSERTs on a new connection before it is used: the first prepares the statement.
WARMING: Final = 5


def timed(call: Callable[[], object], calls: int) -> array[int]:
    """Nanoseconds of each call, one straight after the other."""
    clock, taken = time.perf_counter_ns, array("q", bytes(8 * calls))
    for number in range(calls):
        start = clock()
        call()
        taken[number] = clock() - start
    return taken


def paced(call: Callable[[], object], calls: int, pause_ns: int) -> array[int]:
    """The same with one call each ``pause_ns``; who is late goes on from there, without a burst."""
    clock, taken = time.perf_counter_ns, array("q", bytes(8 * calls))
    due = clock()
    for number in range(calls):
        _sleep_until(due)
        start = clock()
        call()
        taken[number] = clock() - start
        due = max(due + pause_ns, start)
    return taken


async def awaited(call: Callable[[], Awaitable[object]], calls: int, pause_ns: int) -> array[int]:
    """Either of both for a call that is awaited."""
    clock, taken = time.perf_counter_ns, array("q", bytes(8 * calls))
    due = clock()
    for number in range(calls):
        _sleep_until(due)
        start = clock()
        await call()
        taken[number] = clock() - start
        due = max(due + pause_ns, start)
    return taken


def _sleep_until(due: int) -> None:
    left = due - time.perf_counter_ns()
    if left > 0:
        time.sleep(left / 1e9)


async def connected(dsn: str) -> tuple[Any, Callable[[], Awaitable[object]]]:
    """A connection, and the call that awaits one INSERT on it; its statement is prepared."""
    import asyncpg

    connection = await asyncpg.connect(dsn, server_settings={"application_name": "benchmark"})

    async def call() -> object:
        return await connection.execute(INSERT, *FIELDS.values())

    for _ in range(WARMING):
        await call()
    return connection, call


async def _inserts(dsn: str, calls: int, pause_ns: int, ready: Barrier) -> array[int]:
    connection, call = await connected(dsn)
    ready.wait()
    try:
        return await awaited(call, calls, pause_ns)
    finally:
        await connection.close()


def turn(call: Callable[[], object] | None, dsn: str, calls: int, threads: int, pause_ns: int) -> list[int]:
    """Nanoseconds of ``calls`` calls in all, shared out among threads that begin at once.

    ``call`` None means the awaited INSERT: a loop and a connection per thread.
    """
    ready = Barrier(threads)
    taken: list[int] = []

    def work() -> None:
        share = calls // threads
        if call is None:
            found = asyncio.run(_inserts(dsn, share, pause_ns, ready))
        else:
            ready.wait()
            found = paced(call, share, pause_ns) if pause_ns else timed(call, share)
        taken.extend(found)

    if threads == 1:
        work()
        return taken
    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return taken
