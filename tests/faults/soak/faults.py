"""The faults of a soak: each begins, lasts, and is over; what it did is counted where it really struck."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from emitter.segments import SegmentName, new_stream
from loader.database import Database
from loader.errors import TradetrailError

from ...plugins.server import Server
from ..interposer import DELAY, EVER, FAIL, FILES, OPEN, SHORT, SYNC, WRITE, Fault
from ..proxy import Proxy
from .actors import Archive, Life, Watch, stopped

# How often what strikes in an instant does so again while it lasts.
_AGAIN_S = 0.3
_TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'tradetrail' AND pid <> pg_backend_pid()
"""
_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tradetrail'"


@dataclass
class World:
    """What the faults befall. ``mortal`` are killed, and made anew; ``steady`` are not."""

    server: Server
    proxy: Proxy
    dsn: str
    directory: Path
    steady_bot: Life
    steady_watch: Watch
    mortal_watch: Watch
    archive: Archive
    new_bot: Callable[[], Life]
    lives: list[Life]
    ended: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def mortal_bot(self) -> Life:
        return self.lives[-1]

    def pause(self, seconds: float) -> None:
        self.ended.wait(max(0.0, seconds))

    def again_and_again(self, seconds: float) -> Iterator[None]:
        """Once at least."""
        until = time.monotonic() + seconds
        yield
        while time.monotonic() + _AGAIN_S < until and not self.ended.is_set():
            self.pause(_AGAIN_S)
            yield
        self.pause(until - time.monotonic())


Struck = Callable[[World, random.Random, float], int]
FAULTS: dict[str, Struck] = {}
GROUPS: dict[str, str] = {}


def befalls(group: str, name: str) -> Callable[[Struck], Struck]:
    """Of those with one ``group`` only one lasts at a time. The fault returns how often it really struck."""

    def add(struck: Struck) -> Struck:
        FAULTS[name], GROUPS[name] = struck, group
        return struck

    return add


def strike(world: World, name: str, seed: int, seconds: float) -> None:
    """Bring a fault about, and count it."""
    world.counts[name] += FAULTS[name](world, random.Random(seed), seconds)


# -- the bot that is mortal --


@befalls("bot", "bot killed")
def _(world: World, chance: random.Random, seconds: float) -> int:
    status = world.mortal_bot.end(signal.SIGKILL)
    world.pause(seconds)
    world.lives.append(world.new_bot())
    return status == -signal.SIGKILL


@befalls("bot", "bot stopped")
def _(world: World, chance: random.Random, seconds: float) -> int:
    with stopped(world.mortal_bot.process.pid):
        world.pause(seconds)
    return 1


@befalls("bot", "bot restarted")
def _(world: World, chance: random.Random, seconds: float) -> int:
    status = world.mortal_bot.end(signal.SIGTERM)
    assert status == 0, f"I2: the bot ended with {status}: {world.mortal_bot.said}"
    world.lives.append(world.new_bot())
    world.pause(seconds)
    return 1


# -- the disk of either bot --

_DISK = {
    "disk full": Fault(WRITE | OPEN, FAIL, code=errno.ENOSPC, times=EVER),
    "disk failing": Fault(WRITE | SYNC | OPEN, FAIL, code=errno.EIO, times=EVER),
    "syncs failing": Fault(SYNC, FAIL, code=errno.EIO, times=EVER),
    "syncs slow": Fault(SYNC, DELAY, delay_us=700_000, times=EVER),
    "writes hanging": Fault(WRITE, DELAY, delay_us=900_000, times=EVER),
    "short writes": Fault(WRITE, SHORT, times=EVER),
    "calls interrupted": Fault(FILES, FAIL, code=errno.EINTR, times=500),
}


def _disk_fails(fault: Fault) -> Struck:
    def struck(world: World, chance: random.Random, seconds: float) -> int:
        bot = chance.choice([world.steady_bot, world.mortal_bot])
        bot.fail_its_disk(replace(fault, where=(str(world.directory),)))
        world.pause(seconds)
        return bot.heal_its_disk() > 0

    return struck


for _name, _fault in _DISK.items():
    befalls("disk", _name)(_disk_fails(_fault))


# -- the watch that is mortal, and archive --


@befalls("watch", "watch killed")
def _(world: World, chance: random.Random, seconds: float) -> int:
    status = world.mortal_watch.end(signal.SIGKILL)
    world.pause(seconds)
    world.mortal_watch.start()
    return status == -signal.SIGKILL


@befalls("watch", "watch stopped")
def _(world: World, chance: random.Random, seconds: float) -> int:
    with stopped(world.mortal_watch.process.pid):
        world.pause(seconds)
    return 1


@befalls("watch", "watch restarted")
def _(world: World, chance: random.Random, seconds: float) -> int:
    world.pause(seconds)
    status = world.mortal_watch.end(signal.SIGTERM)
    # Before it listens, SIGTERM ends it as it ends any program.
    assert status in (0, -signal.SIGTERM, 128 + signal.SIGTERM), f"watch ended with {status}: {world.mortal_watch.said}"
    world.mortal_watch.start()
    return 1


@befalls("archive", "archive killed")
def _(world: World, chance: random.Random, seconds: float) -> int:
    killed = 0
    for _turn in world.again_and_again(seconds):
        world.pause(_AGAIN_S * chance.random())
        killed += world.archive.kill()
    return killed


# -- the network --


def _network(armed: str) -> Struck:
    def struck(world: World, chance: random.Random, seconds: float) -> int:
        before = world.proxy.struck[armed]
        for _turn in world.again_and_again(seconds):
            world.proxy.arm(armed)
        world.proxy.arm()
        return world.proxy.struck[armed] > before

    return struck


for _name, _armed in {
    "network cut": "cut",
    "cut before a commit": "before commit",
    "cut after a commit": "after commit",
    "network one byte at a time": "drip",
    "network slow": "slow",
}.items():
    befalls("network", _name)(_network(_armed))


@befalls("network", "network silent")
def _(world: World, chance: random.Random, seconds: float) -> int:
    before = world.proxy.struck["stall"]
    world.proxy.arm("stall")
    world.pause(seconds)
    world.proxy.arm()
    return world.proxy.struck["stall"] > before


# -- the server --


def _ask(dsn: str, *statements: str) -> list[object]:
    """Their first values; nothing where the server is away."""

    async def ask() -> list[object]:
        async with await Database.connect(dsn, application_name="axe") as database:
            return [await database.fetchval(statement) for statement in statements]

    with contextlib.suppress(TradetrailError):
        return asyncio.run(ask())
    return []


@befalls("server", "sessions terminated")
def _(world: World, chance: random.Random, seconds: float) -> int:
    return sum(int(str(*_ask(world.dsn, _TERMINATE) or [0])) for _ in world.again_and_again(seconds)) > 0


@befalls("server", "server process killed")
def _(world: World, chance: random.Random, seconds: float) -> int:
    world.server.kill(chance.choice(world.server.processes()))
    world.pause(seconds)
    return 1


@befalls("server", "server away")
def _(world: World, chance: random.Random, seconds: float) -> int:
    world.server.stop("immediate")
    world.pause(seconds)
    world.server.start()
    return 1


@befalls("server", "server killed")
def _(world: World, chance: random.Random, seconds: float) -> int:
    crash(world.server)
    world.pause(seconds)
    start(world.server)
    return 1


def crash(server: Server) -> None:
    """All its processes are killed at once, as when a machine runs out of memory."""
    processes = [os.pidfd_open(pid) for pid in (server.main_pid, *server.processes())]
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    for process in processes:
        select.select([process], [], [], 30)  # readable once it is gone
        os.close(process)


def start(server: Server) -> None:
    """A session that began just when the others were killed holds the memory of the dead server for a moment."""
    limit = time.monotonic() + 30
    while True:
        with contextlib.suppress(AssertionError):
            return server.start()
        assert time.monotonic() < limit, (server.data / "server.log").read_text()[-2000:]
        time.sleep(0.1)


@befalls("server", "server read-only")
def _(world: World, chance: random.Random, seconds: float) -> int:
    reload = "SELECT pg_reload_conf()"
    struck = _ask(world.dsn, "ALTER SYSTEM SET default_transaction_read_only = on", reload)
    world.pause(seconds)
    assert _ask(world.dsn, "ALTER SYSTEM RESET default_transaction_read_only", reload), "it cannot be undone"
    return len(struck) > 0


@befalls("server", "session stopped")
def _(world: World, chance: random.Random, seconds: float) -> int:
    pid = next(iter(_ask(world.dsn, f"{_SESSIONS} ORDER BY pid % {chance.randrange(1, 97)} LIMIT 1")), None)
    if not isinstance(pid, int):
        world.pause(seconds)
        return 0
    with stopped(pid):
        world.pause(seconds)
    return 1


@befalls("table", "table locked")
def _(world: World, chance: random.Random, seconds: float) -> int:
    table = chance.choice(["orders", "trades", "order_updates", "events", "audit_rejects", "audit_segments"])

    async def hold() -> int:
        with contextlib.suppress(TradetrailError):
            async with await Database.connect(world.dsn, application_name="axe") as database, database.transaction():
                await database.execute(f"LOCK TABLE monitoring.{table} IN ACCESS EXCLUSIVE MODE")
                await asyncio.to_thread(world.pause, seconds)
            return 1
        return 0

    return asyncio.run(hold())


# -- the directory --


@befalls("directory", "garbage in the directory")
def _(world: World, chance: random.Random, seconds: float) -> int:
    """Files of any name, one of them a segment's; a first line that is no header stays as it is."""
    names = [f"core.{chance.randrange(10**6)}", "notes.txt", f"fox-9.{chance.randrange(10**6)}.jsonl", ".hidden.jsonl"]
    names.append(str(SegmentName.of("garbage", new_stream(), 1)))
    paths = [world.directory / name for name in names]
    for path in paths:
        path.write_bytes(b"\x00\xff{]\n" + chance.randbytes(chance.randrange(1, 20_000)))
        path.chmod(0o600)
    world.pause(seconds)
    for path in paths:
        path.unlink(missing_ok=True)
    return 1
