"""The loader killed, cut off, stopped and run by several at once: the tables equal those of an undisturbed load."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings
from loader.totals import Totals
from loader.workspace import workspace

from ..bots import tmpfs_folder
from ..contents import agreement, assert_same, contents
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.figures import Figures
from ..plugins.postgres import Cluster
from ..plugins.server import Server
from ..processes import Command
from .proxy import Proxy
from .siege import besiege, summed

PATIENCE_S = 30.0
RECORDS = 2 * 1199
REPEATED = 18  # fills logged twice
LOADERS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tradetrail'"
# What an older ledger did not know goes; the rows of orders that stay may hold later values.
NEWER = "seq > (SELECT max(last_seq) FROM older WHERE older.stream = newer.stream)"
ROLL_BACK = [
    *(f"DELETE FROM monitoring.{table} AS newer WHERE {NEWER}" for table in ("orders", "trades", "events")),
    f"DELETE FROM monitoring.order_updates AS newer WHERE {NEWER}",
    "DELETE FROM monitoring.audit_rejects AS r WHERE NOT EXISTS (SELECT FROM older AS o WHERE o.stream = r.stream AND "
    "o.segment = r.segment AND o.bytes > r.byte_offset)",
    "TRUNCATE monitoring.audit_segments",
    "INSERT INTO monitoring.audit_segments SELECT * FROM older",
    "DROP TABLE older",
]


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
            trade_id = f"{stream}{n - 7 if n % 23 == 0 else n}"
            yield line(
                n, "trade.executed", trade(trade_id=trade_id, quantity="NaN" if n % 5 == 0 else n), stream=stream
            )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams of four segments each, with lines of every kind."""
    directory = tmp_path_factory.mktemp("files") / "audit"
    for stream in (STREAM, OTHER_STREAM):
        lines = list(_lines(stream))
        for number in range(4):
            segment(directory, lines[number * 300 : (number + 1) * 300], stream=stream, number=number + 1)
    return directory


@pytest.fixture
def directory(files: Path, tmp_path: Path) -> Path:
    return shutil.copytree(files, tmp_path / "audit")


@pytest.fixture
def half(files: Path, tmp_path: Path) -> Path:
    """The first two segments of both streams."""
    return shutil.copytree(files, tmp_path / "half", ignore=shutil.ignore_patterns("*.00000[34].jsonl"))


async def _take(dsn: str, directory: Path, batch_bytes: int = 250_000) -> Totals:
    async with Loader(LoadSettings(directory=directory, dsn=dsn, batch_bytes=batch_bytes)) as loader:
        return await loader.take()


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, files: Path) -> dict[str, list[str]]:
    with cluster.database(cluster.template(existing=False, migrated=True)) as dsn:
        asyncio.run(_take(dsn, files))
        found = asyncio.run(contents(dsn))
    assert len(found["trades"]) > 700
    assert len(found["audit_rejects"]) > 24
    return found


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, a coroutine's or a plain one; the limit is for failures only."""
    limit = time.monotonic() + PATIENCE_S
    while True:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < limit, f"{what}: it does not come"
        await asyncio.sleep(0.01)


@pytest.fixture
async def watcher(dsn: str) -> AsyncIterator[Database]:
    """One who looks on, in no transaction."""
    async with await Database.connect(dsn, application_name="watcher") as database:
        yield database


@asynccontextmanager
async def held(dsn: str, at: str = "trades") -> AsyncIterator[None]:
    """A loader gets no further than to its first write to this table, in the middle of its batch."""
    async with await Database.connect(dsn, application_name="holder") as database, database.transaction():
        await database.execute(f"LOCK TABLE monitoring.{at} IN SHARE MODE")
        yield


async def until_it_waits(watcher: Database, sessions: int = 1) -> int:
    """One of the sessions that wait for a lock, once there are so many."""
    found: list[dict[str, int]] = []

    async def wait() -> bool:
        found[:] = await watcher.fetch(f"SELECT pid {LOADERS} AND wait_event_type = 'Lock'")
        return len(found) >= sessions

    await until(wait, "a loader in the middle of a batch")
    return found[0]["pid"]


# -- any instant --


@pytest.mark.parametrize(("loaders", "rounds"), [(1, 10), (2, 7), (4, 6)])
def test_loaders_killed_and_cut_off_at_any_instant_while_bots_write(
    server: Server, own_cluster: Cluster, tmp_path: Path, figures: Figures, loaders: int, rounds: int
) -> None:
    """L1, L8: the long siege is in ``test_long.py``."""
    directory = tmp_path / "audit"
    directory.mkdir(mode=0o700)
    with tmpfs_folder() as ring_dir:
        counts = besiege(server, own_cluster, directory, ring_dir, loaders=loaders, rounds=rounds)
    figures.add(**summed(counts))
    assert counts["killed"] == rounds
    assert counts["records"] > 200
    assert counts["commits"] > 0


@pytest.mark.parametrize("most", [6, pytest.param(15, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_connections_cut_by_the_server_cost_and_double_nothing(
    dsn: str, directory: Path, undisturbed: dict[str, list[str]], most: int
) -> None:
    """L8: again and again, in the midst of transactions."""
    cuts = 0
    async with await Database.connect(dsn, application_name="axe") as axe:
        loading = asyncio.create_task(_take(dsn, directory))
        while not loading.done() and cuts < most:
            cuts += await axe.fetchval(f"SELECT count(pg_terminate_backend(pid)) {LOADERS} AND xact_start IS NOT NULL")
        totals = await loading
    assert cuts > 0
    assert totals.records == RECORDS
    assert totals.records == totals.orders + totals.trades + totals.order_updates + totals.events + (
        totals.rejected + totals.duplicates
    )
    assert_same(await contents(dsn), undisturbed)


@pytest.mark.parametrize("fault", ["before commit", "after commit"])
@pytest.mark.parametrize("batch_bytes", [250_000, pytest.param(10_000_000, marks=pytest.mark.long)])
def test_a_commit_without_an_answer_is_looked_up_in_the_ledger(
    server: Server,
    own_cluster: Cluster,
    directory: Path,
    undisturbed: dict[str, list[str]],
    fault: str,
    batch_bytes: int,
) -> None:
    """L3: in one and the same run: nothing is taken for done that is not, and nothing sent again that is."""
    template = own_cluster.template(existing=False, migrated=True)
    with own_cluster.database(template) as dsn, Proxy(server.port) as proxy:
        proxy.arm(fault)
        through = dsn.replace(f":{server.port}/", f":{proxy.port}/")
        totals = asyncio.run(_take(through, directory, batch_bytes))
        assert proxy.struck[fault] == 1
        assert (totals.records, totals.duplicates) == (RECORDS, REPEATED)
        assert totals.rejected == 24
        assert_same(asyncio.run(contents(dsn)), undisturbed)


@pytest.mark.parametrize(
    "at",
    [
        "order_updates",
        *(pytest.param(at, marks=pytest.mark.long) for at in ("trades", "audit_rejects")),
        "audit_segments",
    ],
)
async def test_a_loader_killed_before_a_table_of_its_batch_leaves_nothing_in_the_others(
    dsn: str, watcher: Database, directory: Path, undisturbed: dict[str, list[str]], at: str
) -> None:
    """L1: orders, rows, rejects and ledger are one: none is there before the last one is."""
    async with held(dsn, at):
        load = Command(directory.parent, "load", "--dir", directory, "--dsn", dsn, "--batch-bytes", "10000000")
        session = await until_it_waits(watcher)
        load.signal(signal.SIGKILL)
        assert await asyncio.to_thread(load.end) == -signal.SIGKILL
        await watcher.execute("SELECT pg_terminate_backend($1, 30000)", session)
        assert not any((await contents(dsn)).values())
    totals = await _take(dsn, directory)
    assert (totals.records, totals.duplicates) == (RECORDS, REPEATED)
    assert_same(await contents(dsn), undisturbed)


# -- several --


@pytest.mark.parametrize("loaders", [2, pytest.param(4, marks=pytest.mark.long)])
def test_several_loaders_at_once_share_the_work(
    dsn: str, directory: Path, undisturbed: dict[str, list[str]], loaders: int
) -> None:
    """L12: each record is taken by one of them."""
    args = ("load", "--dir", directory, "--dsn", dsn, "--batch-bytes", "100000", "--json")
    running = [Command(directory.parent, *args) for _ in range(loaders)]
    ends = [command.end() for command in running]
    assert set(ends) <= {0, 1}
    taken = [json.loads(command.said())["records"] for command in running]
    assert sum(taken) == RECORDS
    assert_same(asyncio.run(contents(dsn)), undisturbed)


async def test_two_directories_that_tell_the_same_fills_in_opposite_order_make_each_once(
    dsn: str, watcher: Database, tmp_path: Path
) -> None:
    """L11: each waits for what the other has not committed yet: PostgreSQL ends one of them, and it tries again."""
    numbers = range(1, 2001)
    for stream, told in ((STREAM, numbers), (OTHER_STREAM, reversed(numbers))):
        lines = [
            line(seq, "trade.executed", trade(trade_id=f"t{number}", price=number), stream=stream)
            for seq, number in enumerate(told, 1)
        ]
        segment(tmp_path / stream, lines, stream=stream)
    # They meet in the middle of their batches: both wait at their first table.
    async with held(dsn):
        running = [
            Command(tmp_path, "load", "--dir", tmp_path / stream, "--dsn", dsn, "--json")
            for stream in (STREAM, OTHER_STREAM)
        ]
        await until_it_waits(watcher, 2)
    taken = []
    for command in running:
        assert await asyncio.to_thread(command.end) == 0, command.said()
        taken.append(json.loads(command.said()))
    assert [totals["records"] for totals in taken] == [2000, 2000]
    assert sum(totals["trades"] for totals in taken) == sum(totals["duplicates"] for totals in taken) == 2000
    assert await agreement(watcher) == 4000
    once = "SELECT count(*) AS rows, count(DISTINCT trade_id) AS ids, sum(price) AS prices FROM monitoring.trades"
    assert await watcher.fetchrow(once) == {"rows": 2000, "ids": 2000, "prices": 2000 * 2001 // 2}
    repeated = "SELECT count(*) FROM monitoring.audit_rejects WHERE reasons[1] LIKE 'repeated_trade%'"
    assert await watcher.fetchval(repeated) == 2000


async def test_a_loader_that_stood_still_while_another_took_over_doubles_nothing(
    dsn: str, watcher: Database, directory: Path, undisturbed: dict[str, list[str]]
) -> None:
    """L13: it wakes in the middle of a transaction that is no more, with bytes in hand that the other has loaded."""
    args = ("load", "--dir", directory, "--dsn", dsn, "--batch-bytes", "100000", "--json")
    async with held(dsn):
        sleeper = Command(directory.parent, *args)
        asleep = await until_it_waits(watcher)
        sleeper.signal(signal.SIGSTOP)
    other = Command(directory.parent, *args)
    assert await until_it_waits(watcher) != asleep  # for the stream, which is the sleeper's until its session ends
    assert await agreement(watcher) == 0
    await watcher.fetchval("SELECT pg_terminate_backend($1)", asleep)
    assert await asyncio.to_thread(other.end) == 1
    assert json.loads(other.said())["records"] == RECORDS
    assert await agreement(watcher) == RECORDS
    sleeper.signal(signal.SIGCONT)
    assert await asyncio.to_thread(sleeper.end) in (0, 1)
    assert json.loads(sleeper.said())["records"] == 0
    assert_same(await contents(dsn), undisturbed)


# -- the ledger --


@pytest.mark.parametrize("streams", [pytest.param([STREAM], marks=pytest.mark.long), [STREAM, OTHER_STREAM]])
async def test_after_the_ledger_was_emptied_by_hand_all_is_loaded_again_and_nothing_is_there_twice(
    dsn: str, directory: Path, undisturbed: dict[str, list[str]], streams: list[str]
) -> None:
    await _take(dsn, directory)
    async with await Database.connect(dsn) as database:
        await database.execute("DELETE FROM monitoring.audit_segments WHERE stream = ANY ($1::text[])", streams)
    results = await asyncio.gather(_take(dsn, directory, 60_000), _take(dsn, directory, 100_000))
    again = sum(totals.records for totals in results)
    assert again == 1199 * len(streams)
    assert again == sum(totals.duplicates + totals.rejected for totals in results)
    assert_same(await contents(dsn), undisturbed)


@pytest.mark.parametrize(
    "change",
    ["TRUNCATE monitoring.audit_segments", "UPDATE monitoring.audit_segments SET bytes = 0, records = 0, rejected = 0"],
)
async def test_a_running_loader_whose_ledger_was_changed_notices_with_the_next_record(
    dsn: str, tmp_path: Path, change: str
) -> None:
    directory = tmp_path / "audit"
    path = segment(directory, list(_lines(STREAM))[:300], closed=False)
    async with (
        await Database.connect(dsn) as database,
        Loader(LoadSettings(directory=directory, dsn=dsn, batch_bytes=20_000)) as loader,
    ):
        assert (await loader.take()).records == 300
        before = await contents(dsn)
        await database.execute(change)
        with path.open("ab") as file:
            file.write(line(301, "ping", {"n": 301}))
        assert (await loader.take()).records == 301
        after = await contents(dsn)
        assert await agreement(database) == 301
    assert len(after["events"]) == len(before["events"]) + 1
    for table in ("orders", "trades", "order_updates", "audit_rejects"):
        assert after[table] == before[table]


async def test_a_stream_rolled_back_with_its_ledger_is_brought_up_again(
    dsn: str, half: Path, directory: Path, undisturbed: dict[str, list[str]]
) -> None:
    """L20: as after the loss of the last commits."""
    await _take(dsn, half)
    async with await Database.connect(dsn) as database:
        await database.execute("CREATE TABLE older AS TABLE monitoring.audit_segments")
        await _take(dsn, directory)
        assert_same(await contents(dsn), undisturbed)
        for statement in ROLL_BACK:
            await database.execute(statement)
        assert 0 < await agreement(database) < RECORDS
    totals = await _take(dsn, directory, 25_000)
    assert totals.records == RECORDS - 2 * 600
    assert_same(await contents(dsn), undisturbed)


def test_a_database_restored_from_yesterday_under_a_running_watch_is_brought_up_again(
    cluster: Cluster, tmp_path: Path, half: Path, directory: Path, undisturbed: dict[str, list[str]]
) -> None:
    """L20: the files are still there."""
    with cluster.database(cluster.template(existing=False, migrated=True)) as dsn:
        asyncio.run(_take(dsn, half))
        name = dsn.partition("?")[0].rpartition("/")[2]
        with cluster.database(template=name) as backup:
            watch = Command(tmp_path, "watch", "--dir", directory, "--dsn", dsn, "--rescan", "0.1")
            asyncio.run(until(lambda: "records in" in watch.said(), "the load"))
            kept = backup.partition("?")[0].rpartition("/")[2]
            cluster.drop(name)
            # While it is being restored the name is unknown, and that is a reason to end.
            assert watch.end() == 3
            assert "does not exist" in watch.said()
            cluster.run(cluster.admin_dsn, f"CREATE DATABASE {name} TEMPLATE {kept}")
        assert (
            json.loads(_ran(tmp_path, "load", "--dir", directory, "--dsn", dsn, "--json"))["records"] == RECORDS - 1200
        )
        assert_same(asyncio.run(contents(dsn)), undisturbed)


def _ran(folder: Path, *args: str | Path) -> str:
    command = Command(folder, *args)
    assert command.end() in (0, 1), command.said()
    return command.said()


# -- its end --


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
@pytest.mark.parametrize("let_go", [True, False])
async def test_watch_told_to_end_in_the_midst_of_a_batch_ends_it_or_leaves_nothing_of_it(
    dsn: str, watcher: Database, directory: Path, undisturbed: dict[str, list[str]], signum: int, let_go: bool
) -> None:
    async with held(dsn):
        watch = Command(directory.parent, "watch", "--dir", directory, "--dsn", dsn, "--batch-bytes", "10000000")
        await until_it_waits(watcher)
        watch.signal(signum)
        if not let_go:
            assert await asyncio.to_thread(watch.end) == 0
    # Where it gets on at once, it has the time to end the batch.
    assert await asyncio.to_thread(watch.end) == 0
    assert await agreement(watcher) == (RECORDS if let_go else 0)
    assert f"stopped after {RECORDS if let_go else 0:,} records" in watch.said()
    assert "Traceback" not in watch.said()
    await _take(dsn, directory)
    assert_same(await contents(dsn), undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
async def test_load_told_to_end_in_the_midst_of_a_batch_leaves_nothing_of_it(
    dsn: str, watcher: Database, directory: Path, undisturbed: dict[str, list[str]], signum: int
) -> None:
    async def gone() -> bool:
        return not await watcher.fetchval(f"SELECT count(*) {LOADERS}")

    async with held(dsn):
        load = Command(directory.parent, "load", "--dir", directory, "--dsn", dsn, "--batch-bytes", "10000000")
        await until_it_waits(watcher)
        load.signal(signum)
        assert await asyncio.to_thread(load.end) == 128 + signum
        assert load.said() == ""
        await until(gone, "the end of its session, though the lock is still held")
    assert await agreement(watcher) == 0
    await _take(dsn, directory)
    assert_same(await contents(dsn), undisturbed)


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
