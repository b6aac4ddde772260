"""The loader killed, its connection cut, and two at once: the tables equal those of an undisturbed load."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings
from loader.totals import Totals
from loader.workspace import workspace

from ..contents import contents
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.postgres import Cluster

_CHILD = """
import asyncio, sys
from pathlib import Path
from loader.load import Loader
from loader.settings import LoadSettings
from loader.workspace import workspace

async def main():
    settings = LoadSettings(directory=Path(sys.argv[1]), dsn=sys.argv[2], batch_bytes=40_000)
    async with Loader(settings) as loader:
        print("ready", flush=True)
        await loader.take()

asyncio.run(main())
"""


def _lines(stream: str) -> Iterator[bytes]:
    for n in range(1, 1200):
        key = n % 150
        if n % 97 == 0:
            yield b"broken line %d\n" % n
        elif n % 6 in (0, 1):
            yield line(n, "order.created", order(order_id=f"o{key}", status="NEW", price=n), stream=stream)
        elif n % 6 == 2:
            fields = update(order_id=f"o{key}", status="CANCELED" if n % 4 == 0 else None, filled=n)
            yield line(n, "order.updated", fields, stream=stream)
        elif n % 6 == 3:
            yield line(n, "ping", {"n": n}, stream=stream)
        else:
            yield line(
                n, "trade.executed", trade(trade_id=f"{stream}{n}", quantity="NaN" if n % 5 == 0 else n), stream=stream
            )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for stream in (STREAM, OTHER_STREAM):
        lines = list(_lines(stream))
        for number in range(4):
            segment(tmp_path / "audit", lines[number * 300 : (number + 1) * 300], stream=stream, number=number + 1)
    return tmp_path / "audit"


async def _take(dsn: str, directory: Path) -> Totals:
    async with Loader(LoadSettings(directory=directory, dsn=dsn, batch_bytes=40_000)) as loader:
        return await loader.take()


@pytest.fixture
def undisturbed(cluster: Cluster, directory: Path) -> dict[str, list[str]]:
    with cluster.database(cluster.template(existing=False, migrated=True)) as dsn:
        asyncio.run(_take(dsn, directory))
        found = asyncio.run(contents(dsn))
    assert len(found["trades"]) > 700
    assert len(found["audit_rejects"]) > 24
    return found


def test_a_loader_killed_at_random_instants_leaves_whole_batches(
    dsn: str, directory: Path, undisturbed: dict[str, list[str]]
) -> None:
    random.seed(20261122)
    killed = 0
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(directory), dsn], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(timeout=random.uniform(0.0, 0.8))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            killed += 1
        child.wait()
        child.stdout.close()
    assert killed > 0
    asyncio.run(_take(dsn, directory))
    assert asyncio.run(contents(dsn)) == undisturbed


async def test_connections_cut_by_the_server_cost_and_double_nothing(
    dsn: str, directory: Path, undisturbed: dict[str, list[str]]
) -> None:
    cuts = 0
    async with await Database.connect(dsn, application_name="axe") as axe:
        loading = asyncio.create_task(_take(dsn, directory))
        while not loading.done() and cuts < 15:
            cuts += await axe.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'tradetrail' AND xact_start IS NOT NULL"
            )
        totals = await loading
    assert cuts > 0
    assert totals.records == totals.orders + totals.trades + totals.order_updates + totals.events + (
        totals.rejected + totals.duplicates
    )
    assert await contents(dsn) == undisturbed


@pytest.mark.parametrize("loaders", [2, 4])
async def test_several_loaders_at_once_share_the_work(
    dsn: str, directory: Path, undisturbed: dict[str, list[str]], loaders: int
) -> None:
    results = await asyncio.gather(*(_take(dsn, directory) for _ in range(loaders)))
    assert sum(totals.records for totals in results) == 2 * 1199
    assert await contents(dsn) == undisturbed


def test_what_a_killed_loader_left_in_the_temporary_folder_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned = tmp_path / "tradetrail-load-abandoned"
    abandoned.mkdir(mode=0o700)
    (abandoned / "batch-1.jsonl").write_text("orders of a loader that was killed")
    with workspace() as living:
        assert not abandoned.exists()
        assert living.stat().st_mode & 0o777 == 0o700
        (living / "batch-1.jsonl").write_text("orders of one that lives")
        with workspace() as other:
            assert other != living
            assert (living / "batch-1.jsonl").exists()
    assert list(tmp_path.glob("tradetrail-load-*")) == []
