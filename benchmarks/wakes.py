"""How late an asyncio loop wakes: a timer of 1 ms, while a second task of the loop makes records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .turns import connected

TICK_S = 0.001


async def _lateness(seconds: float) -> list[int]:
    """Nanoseconds from when each timer was due until it ran."""
    clock, late = time.perf_counter_ns, []
    end = clock() + int(seconds * 1e9)
    while (now := clock()) < end:
        due = now + int(TICK_S * 1e9)
        await asyncio.sleep(TICK_S)
        late.append(clock() - due)
    return late


async def _records(burst: Callable[[int], Awaitable[object]], rate: int, made: list[int]) -> None:
    """``rate`` records a second, a thousandth of it each millisecond; who cannot keep up makes fewer."""
    loop = asyncio.get_running_loop()
    count = round(rate * TICK_S)
    due = loop.time()
    while True:
        due = max(due + TICK_S, loop.time())
        await asyncio.sleep(due - loop.time())
        await burst(count)
        made[0] += count


async def _both(call: Callable[[], object] | None, dsn: str, seconds: float, rate: int) -> tuple[list[int], float]:
    connection: Any = None
    if call is None:
        connection, insert = await connected(dsn)

    async def burst(count: int) -> None:
        for _ in range(count):
            if call is None:
                await insert()
            else:
                call()

    made, start = [0], time.perf_counter()
    task = asyncio.create_task(_records(burst, rate, made)) if rate else None
    try:
        late = await _lateness(seconds)
        return late, made[0] / (time.perf_counter() - start)
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if connection is not None:
            await connection.close()


def wakes(call: Callable[[], object] | None, dsn: str, seconds: float, rate: int) -> tuple[list[int], float]:
    """Lateness of each timer in nanoseconds, and the records a second that were really made."""
    return asyncio.run(_both(call, dsn, seconds, rate))
