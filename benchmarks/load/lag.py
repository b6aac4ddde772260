"""From a bot's call until a second session sees its row, under ``tradetrail watch``; and what watching costs.

The bot, the watch and the server are processes of their own. A record is visible when the tables hold it or a later one
of its stream: a transaction takes records in order. That is asked every few milliseconds, so a figure is at most
``POLL_S`` too large; the call's time is the record's own ``timestamp``, by the same clock.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
import orjson

from emitter.records import KINDS

from ..crew import ROOT, Failed
from ..figures import OURS, quantile
from .bot import Bot
from .cases import Effort
from .contestants import CONTESTANTS
from .server import Server
from .trail import small_segments

POLL_S: Final = 0.005
_PATIENCE_S: Final = 300.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = f"""
SELECT greatest({", ".join(f"(SELECT max(seq) FROM monitoring.{kind.table} WHERE stream = $1)" for kind in KINDS)}, 0)
"""


class Watch:
    """A ``tradetrail watch`` for as long as this lasts."""

    def __init__(self, log: Path, dsn: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loader", "watch", "--dir", str(log), "--dsn", dsn],
            cwd=ROOT,
            env=CONTESTANTS[OURS].environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, to the nanosecond: its CPU-time clock (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


class Eyes:
    """A second session that looks how far a stream has come."""

    def __init__(self, connection: Any, stream: str) -> None:
        self._connection, self._stream = connection, stream
        self.seen: list[tuple[int, int]] = [(0, 0)]  # (seq, nanoseconds since 1970), the latter just after it was seen

    async def until(self, seq: int) -> None:
        """Look until the record of this seq is there."""
        statement = await self._connection.prepare(_LAST)
        deadline = time.monotonic() + _PATIENCE_S
        while (last := await statement.fetchval(self._stream)) < seq:
            self._note(last)
            if time.monotonic() > deadline:
                raise Failed(f"watch stands still at {last:,} of {seq:,} records")
            await asyncio.sleep(POLL_S)
        self._note(last)

    def _note(self, last: int) -> None:
        if last > self.seen[-1][0]:
            self.seen.append((last, time.time_ns()))


def lags(seen: Iterable[tuple[int, int]], called: dict[int, int]) -> list[int]:
    """Nanoseconds from each call (by seq) until it was seen; records that are in no ``called`` do not count."""
    found = []
    for (before, _), (last, when) in pairwise(seen):
        found += [when - called[seq] for seq in range(before + 1, last + 1) if seq in called]
    return found


def call_times(log: Path, stream: str, first: int) -> dict[int, int]:
    """Nanoseconds since 1970 at which the records of a stream were called, from the seq ``first`` on."""
    found = {}
    for path in sorted(log.glob(f"*.{stream}.*.jsonl")):
        for line in path.read_bytes().splitlines():
            record = orjson.loads(line)
            if record.get("seq", 0) >= first:
                since = datetime.fromisoformat(record["timestamp"]) - _EPOCH
                found[record["seq"]] = since // timedelta(microseconds=1) * 1000
    return found


def milliseconds(nanoseconds: list[int]) -> dict[str, float]:
    ordered = sorted(nanoseconds)
    return {"p50": quantile(ordered, 0.5) / 1e6, "p99": quantile(ordered, 0.99) / 1e6, "max": ordered[-1] / 1e6}


class _Paced:
    """A bot that was told to go at a pace while somebody looks; the parts of a measurement."""

    def __init__(self, log: Path, bot: Bot, watch: Watch, eyes: Eyes) -> None:
        self._log, self._bot, self._watch, self._eyes = log, bot, watch, eyes

    async def idle(self, seconds: float) -> dict[str, float]:
        """Parts of a core that watch and bot spend while nothing happens."""
        watch, bot = cpu_s(self._watch.pid), cpu_s(self._bot.pid)
        await asyncio.sleep(seconds)
        return {"watch": (cpu_s(self._watch.pid) - watch) / seconds, "bot": (cpu_s(self._bot.pid) - bot) / seconds}

    async def pace(self, rate: int, seconds: float) -> dict[str, Any]:
        """Lag in milliseconds and the watch's processor time, of records made at a rate."""
        cpu, begun = cpu_s(self._watch.pid), time.monotonic()
        expected = self._eyes.seen[-1][0] + round(rate * seconds)
        told = asyncio.create_task(asyncio.to_thread(self._bot.ask, "pace", rate=rate, seconds=seconds))
        await self._eyes.until(expected)
        made = await told
        spent, took = cpu_s(self._watch.pid) - cpu, time.monotonic() - begun
        if made["last"] != expected:
            raise Failed(f"the bot made records up to {made['last']:,}, not {expected:,}")
        found = lags(self._eyes.seen, call_times(self._log, self._bot.stream, made["first"]))
        if len(found) != made["last"] - made["first"] + 1:
            raise Failed(f"{len(found):,} records were seen of {made['last'] - made['first'] + 1:,}")
        return {
            "records": len(found),
            "made_per_s": made["made_per_s"],
            **milliseconds(found),
            "watch_cpu": spent / took,
            "watch_cpu_ms_per_record": 1000 * spent / len(found),
        }


async def _measured(
    log: Path, dsn: str, rate: int, seconds: float, idle_s: float, operation: str, **given: int
) -> dict[str, Any]:
    """A bot's first records, then its pace: lag, cost, and what both spend while idle."""
    connection = await asyncpg.connect(dsn)
    try:
        with Bot(log) as bot, Watch(log, dsn) as watch:
            eyes = Eyes(connection, bot.stream)
            await eyes.until(bot.ask(operation, **given)["last"])
            paced = _Paced(log, bot, watch, eyes)
            await paced.pace(rate, min(2.0, seconds / 4))  # past what is done once, and the server's cold caches
            idle = await paced.idle(idle_s)
            return await paced.pace(rate, seconds) | {"idle_cpu": idle}
    finally:
        await connection.close()


def lag(there: Server, empty: str, folder: Path, rate: int, effort: Effort) -> dict[str, Any]:
    """Lag and cost of ``watch`` at a rate of records a second, and what both spend while idle."""
    log = folder / f"lag-{rate}"
    with there.database(empty) as dsn:
        return asyncio.run(_measured(log, dsn, rate, effort.lag_s, effort.idle_s, "make", records=10))


def live(there: Server, empty: str, folder: Path, files: int, size: int, effort: Effort) -> dict[str, Any]:
    """What one more record costs with so many bytes in its segment and so many loaded files beside it."""
    log = folder / f"live-{files}-{size}"
    small_segments(log, files)
    with there.database(empty) as dsn:
        return asyncio.run(_measured(log, dsn, effort.live_rate, effort.live_s, effort.idle_s, "fill", size=size))
