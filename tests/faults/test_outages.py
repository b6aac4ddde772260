"""Servers that panic, are away for long, or lose what they committed: the files have it all, and the ledger knows."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import mmap
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings

from ..contents import agreement
from ..plugins.figures import Figures
from ..plugins.postgres import Cluster
from ..plugins.server import Server, private_folder
from ..watching import watching
from .interposer import EVER, FAIL, SYNC, WRITE, Fault, Plan, make_library, set_plan
from .oracle import hold_tables, write_by_hand
from .soak.faults import crash, start
from .soak.samples import look
from .test_loader import held, until, until_it_waits

MIB = 1024 * 1024


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def take(dsn: str, directory: Path) -> int:
    async with Loader(LoadSettings(directory=directory, dsn=dsn)) as loader:
        return (await loader.take()).records


# -- a panic --


@contextmanager
def failing_at_will(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """The server runs with the library that fails calls, as the plan says, and syncs what it writes."""
    with private_folder() as folder, ExitStack() as stack:
        library = make_library(folder)
        library.chmod(0o755)
        file = folder / "plan"
        file.write_bytes(bytes(ctypes.sizeof(Plan)))
        server.programs.account.own(file)
        with file.open("r+b") as opened:
            plan = Plan.from_buffer(mmap.mmap(opened.fileno(), 0))
        stack.callback(server.start)
        stack.callback(server.stop, "immediate")
        server.stop()
        with monkeypatch.context() as environment:
            environment.setenv("LD_PRELOAD", str(library))
            environment.setenv("INTERPOSER_PLAN", str(file))
            server.start()
        yield plan


@contextmanager
def set_for_now(cluster: Cluster, **settings: str) -> Iterator[None]:
    """Settings of the server that hold at once."""
    changes = [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items()]
    cluster.run(cluster.admin_dsn, *changes, "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        back = [f"ALTER SYSTEM RESET {name}" for name in settings]
        cluster.run(cluster.admin_dsn, *back, "SELECT pg_reload_conf()")


@pytest.mark.parametrize("call", [pytest.param(WRITE, marks=pytest.mark.long), SYNC], ids=["write", "sync"])
def test_a_server_that_panics_in_a_commit_is_asked_what_became_of_it(
    server: Server, own_cluster: Cluster, log: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, figures: Figures, call: int,
) -> None:  # fmt: skip
    """L4: its log cannot be written, or not be synced: then the commit is in it all the same once it is up again."""
    numbers = range(48)
    write_by_hand(log, numbers)
    fault = Fault(call, FAIL, code=errno.EIO, times=EVER, where=(os.path.realpath(server.data / "pg_wal"),))
    with (
        own_cluster.database(own_cluster.template(existing=False, migrated=True)) as dsn,
        set_for_now(own_cluster, fsync="on"),
    ):
        with failing_at_will(server, monkeypatch) as plan:
            assert asyncio.run(_loaded_through_a_panic(dsn, log, plan, fault)) == len(numbers)
            assert plan.struck == 1
        assert caplog.text.count("COMMIT did not succeed") == 1
        assert "PANIC" in (server.data / "server.log").read_text()
        assert asyncio.run(hold_tables(dsn, log)) == len(numbers)
    figures.add(kills=1, faults=1, records=len(numbers))


async def _loaded_through_a_panic(dsn: str, log: Path, plan: Plan, fault: Fault) -> int:
    """The session that loads is found waiting for a lock; from then on it, and nobody else, is struck."""
    async with await Database.connect(dsn, application_name="watcher") as watcher:
        async with held(dsn):
            loading = asyncio.create_task(take(dsn, log))
            set_plan(plan, await until_it_waits(watcher), fault)
        return await loading


# -- away for long --


@pytest.mark.long
def test_a_backlog_that_grows_while_the_server_is_away_costs_the_watch_no_memory(
    server: Server, own_cluster: Cluster, log: Path, figures: Figures
) -> None:
    """L9: 20 MB in files that stay where they are, told as lag, and all in the tables once the server is back."""
    each, parts = 12_000, 6
    total = each * parts
    write_by_hand(log, range(each))
    with (
        own_cluster.database(own_cluster.template(existing=False, migrated=True)) as dsn,
        watching(log, dsn, "--rescan", "0.2", "--batch-bytes", str(MIB), "--metrics-port", "0") as watch,
    ):
        asyncio.run(_until_loaded(dsn, each))
        server.stop("immediate")
        try:
            memory, before = [], _bytes(log)
            for part in range(1, parts):
                write_by_hand(log, range(part * each, (part + 1) * each), segments=20)
                watch.until_page(lambda page: page.lag == _bytes(log) - before)
                sample = look(watch.process.pid)
                assert sample
                memory.append(sample.memory)
        finally:
            server.start()
        files = _bytes(log)
        assert files - before > 15 * MIB
        assert max(memory) - memory[0] < 5 * MIB, memory
        asyncio.run(_until_loaded(dsn, total))
        watch.stop()
        assert _bytes(log) == files
        assert asyncio.run(hold_tables(dsn, log)) == total
    figures.add(faults=1, records=total)


def _bytes(log: Path) -> int:
    return sum(path.stat().st_size for path in log.iterdir())


async def _until_loaded(dsn: str, records: int) -> None:
    """Much, on a machine that may have other work."""
    async with await Database.connect(dsn, application_name="watcher") as watcher:
        found = -1
        while (now := await agreement(watcher)) < records:
            assert now > found, f"{now} of {records} records, and no more come"
            found = now
            await until(_more_than(watcher, now), f"more than {now} records")


def _more_than(watcher: Database, records: int) -> Callable[[], Awaitable[bool]]:
    async def more() -> bool:
        return await agreement(watcher) > records

    return more


# -- lost commits --


def test_commits_that_a_server_lost_in_a_crash_are_made_again_from_the_files(
    server: Server, own_cluster: Cluster, log: Path, figures: Figures
) -> None:
    """L20: synchronous_commit off: the server said that it has them, and they were nowhere but in its memory."""
    numbers, more = range(200), range(200, 400)
    # Nothing goes to its log before its time but what a commit waits for.
    careless = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
    with (
        own_cluster.database(own_cluster.template(existing=False, migrated=True)) as dsn,
        set_for_now(own_cluster, **careless),
    ):
        write_by_hand(log, numbers)
        assert asyncio.run(take(dsn, log)) == len(numbers)
        own_cluster.run(dsn, f"ALTER DATABASE {dsn.rpartition('/')[2]} SET synchronous_commit = off")
        write_by_hand(log, more)
        assert asyncio.run(take(dsn, log)) == len(more)
        crash(server)
        start(server)
        there = asyncio.run(_agreed(dsn))
        assert len(numbers) <= there < len(numbers) + len(more), "nothing was lost"
        assert asyncio.run(take(dsn, log)) == len(numbers) + len(more) - there
        assert asyncio.run(hold_tables(dsn, log)) == len(numbers) + len(more)
    figures.add(kills=1, records=len(numbers) + len(more))


async def _agreed(dsn: str) -> int:
    async with await Database.connect(dsn) as database:
        return await agreement(database)
