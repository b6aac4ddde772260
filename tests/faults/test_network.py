"""Networks that say nothing, and that nobody said anything is wrong with: only deadlines find them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings
from loader.totals import Totals

from ..plugins.figures import Figures
from ..plugins.postgres import Cluster
from ..plugins.server import Server
from .oracle import hold_tables, write_by_hand
from .proxy import Proxy
from .test_loader import LOADERS, held, until, until_it_waits

NUMBERS = range(480)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_by_hand(tmp_path / "log", NUMBERS)
    return tmp_path / "log"


@pytest.fixture
def dsn(server: Server, own_cluster: Cluster) -> Iterator[str]:
    """A database that the proxy below stands before."""
    with own_cluster.database(own_cluster.template(existing=False, migrated=True)) as dsn:
        yield dsn


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def watcher(dsn: str) -> AsyncIterator[Database]:
    async with await Database.connect(dsn, application_name="watcher") as database:
        yield database


@asynccontextmanager
async def loading(
    server: Server, proxy: Proxy, dsn: str, log: Path, *, deadline_s: float = 0.5
) -> AsyncIterator[asyncio.Task[Totals]]:
    """A patient loader behind the proxy, with a deadline that suits a test."""
    through = dsn.replace(f":{server.port}/", f":{proxy.port}/")
    async with Loader(LoadSettings(directory=log, dsn=through, deadline_s=deadline_s, timeout_s=None)) as loader:
        task = asyncio.create_task(loader.take())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_a_connection_whose_other_end_is_gone_without_a_word_is_left_and_its_session_disturbs_nobody(
    server: Server, proxy: Proxy, dsn: str, watcher: Database, log: Path,
    caplog: pytest.LogCaptureFixture, figures: Figures,
) -> None:  # fmt: skip
    """L5: half open, in the midst of a batch; the server, which heard nothing either, holds on to its transaction.

    Until it gives that up, as its keepalives or the time for idle transactions have it do, the stream is not taken by
    a second session.
    """
    async with loading(server, proxy, dsn, log) as task:
        async with held(dsn):
            old = await until_it_waits(watcher)
            proxy.forget()
            await until(lambda: "no answer" in caplog.text, "its word")
        await until(lambda: "lock timeout" in caplog.text, "another session, which waits for what the old one holds")
        assert await watcher.fetchval(f"SELECT count(*) {LOADERS} AND pid = $1", old) == 1
        await watcher.fetchval("SELECT pg_terminate_backend($1)", old)
        assert (await asyncio.wait_for(task, 30)).records == len(NUMBERS)
    assert await hold_tables(dsn, log) == len(NUMBERS)
    figures.add(faults=1, records=len(NUMBERS))


async def test_a_network_that_says_nothing_for_a_while_is_tried_until_it_answers(
    server: Server, proxy: Proxy, dsn: str, watcher: Database, log: Path,
    caplog: pytest.LogCaptureFixture, figures: Figures,
) -> None:  # fmt: skip
    """L6: it takes calls, and answers none; each try is left in its time, and none of them costs a record."""
    async with loading(server, proxy, dsn, log) as task:
        async with held(dsn):
            await until_it_waits(watcher)
            proxy.arm("stall")
            await until(lambda: caplog.text.count("trying again") >= 4, "its fourth try")
            assert not task.done()
        proxy.arm()
        assert (await asyncio.wait_for(task, 30)).records == len(NUMBERS)
    assert await hold_tables(dsn, log) == len(NUMBERS)
    figures.add(faults=1, records=len(NUMBERS))


@pytest.mark.parametrize("lame", ["drip", "slow"])
async def test_a_network_that_gives_one_byte_at_a_time_only_takes_longer(
    server: Server, proxy: Proxy, dsn: str, log: Path, figures: Figures, lame: str
) -> None:
    """L6: an answer that is on its way is waited for."""
    proxy.arm(lame)
    async with loading(server, proxy, dsn, log, deadline_s=30.0) as task:
        assert (await asyncio.wait_for(task, 60)).records == len(NUMBERS)
    assert proxy.struck[lame] > 20
    assert await hold_tables(dsn, log) == len(NUMBERS)
    figures.add(faults=1, records=len(NUMBERS))
