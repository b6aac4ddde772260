"""What ``tradetrail watch --metrics-port`` tells Prometheus: the same as the database, also while that is away."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from emitter import AuditLog, __version__
from emitter.segments import control_line, new_stream
from loader.database import Database
from loader.embedded import embedded
from loader.rules import read_rules
from tests.command import FILL, ORDER, SCRIPT, environment, one_line, record, segment, tradetrail
from tests.descriptors import descriptors
from tests.documents import ROOT
from tests.watching import PATIENCE_S, Page, until, until_rows, watching

OPERATING = ROOT / "docs/operating.md"
METRICS = ("--metrics-port", "0")
TABLES = ("orders", "trades", "order_updates", "events")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "audit"
    path.mkdir(mode=0o700)
    return path


async def counts(db: Database) -> dict[str, int]:
    """Records in the tables; the values of an order that its updates were folded from are no record of their own."""
    found = {table: await db.fetchval(f"SELECT count(*) FROM monitoring.{table}") for table in TABLES}
    found["order_updates"] -= await db.fetchval(
        "SELECT count(*) FROM monitoring.order_updates JOIN monitoring.orders USING (stream, seq)"
    )
    return found


async def test_the_numbers_are_those_of_the_database(directory: Path, dsn: str, db: Database) -> None:
    stream = new_stream()
    lost = {"count": 3, "ranges": [{"first": 8, "last": 10, "reason": "ring full"}]}
    lines = [
        record(stream, 1, "order.created", **ORDER, order_id="1"),
        record(stream, 2, "order.updated", exchange="bybit", symbol="MNTUSDT", order_id="1", status="FILLED"),
        record(stream, 3, "trade.executed", **FILL, trade_id="1", fee="NaN"),
        record(stream, 4, "trade.executed", **FILL, trade_id="1"),  # once more
        b"no record\n",
        record(stream, 6, "trade.executed", **{**FILL, "price": "much", "executed_qty": "more"}),
        record(stream, 7),
        control_line(stream, "audit.lost", lost, "WARN"),
        record(stream, 11),
    ]
    path = segment(directory, *lines, stream=stream)
    began = time.time()
    with watching(directory, dsn, *METRICS) as watch:
        page = watch.until_page(lambda page: page("records_read_total") == 8)
        assert page.series("records_loaded_total", "kind") == await counts(db)
        assert await counts(db) == {"orders": 1, "order_updates": 1, "trades": 1, "events": 2}
        by_rule = await db.fetch(
            "SELECT severity, split_part(reason, ':', 1) AS rule, count(DISTINCT id) AS lines "
            "FROM monitoring.audit_rejects, unnest(reasons) AS reason GROUP BY 1, 2"
        )
        for severity in ("rejected", "repaired"):
            kept = {row["rule"]: row["lines"] for row in by_rule if row["severity"] == severity}
            assert page.series(f"lines_{severity}_total", "rule") == kept
        assert page.series("lines_rejected_total", "rule") == {"not_json": 1, "number_unreadable": 1}
        assert page.series("lines_repaired_total", "rule") == {"number_not_finite": 1, "repeated_trade": 1}
        assert page("records_duplicate_total") == 1
        assert page("records_lost_total") == 3
        assert page("loaded_bytes_total") == path.stat().st_size
        assert page("loaded_bytes_total") == await db.fetchval("SELECT sum(bytes) FROM monitoring.audit_segments")
        assert page("batch_duration_seconds_count") == page("batch_duration_seconds_bucket", le="+Inf") == 1
        assert 0 < page("batch_duration_seconds_sum") < time.time() - began
        assert began <= page("last_load_timestamp_seconds") <= time.time()
        assert (page.lag, page("lag_seconds"), page("database_connected")) == (0, 0, 1)
        assert page("files_with_problems") == 0
        assert page("build_info", version=__version__, python=".".join(map(str, os.sys.version_info[:3]))) == 1
        watch.stop()


def test_what_did_not_happen_yet_counts_0_and_every_family_says_what_it_is(
    directory: Path, dsn: str, tmp_path: Path
) -> None:
    own = tmp_path / "own.sql"
    own.write_text("-- rule: my_rule\n-- for: event\n-- severity: repair\n-- says: ours\nfalse\n")
    with watching(directory, dsn, *METRICS, "--rules", str(own)) as watch:
        page = watch.until_page(lambda page: page("database_connected") == 1)
        for rule in read_rules():
            word = {"reject": "rejected", "repair": "repaired"}[rule.severity]
            assert page(f"lines_{word}_total", rule=rule.name) == 0
        assert page("lines_repaired_total", rule="my_rule") == 0
        assert [page("records_loaded_total", kind=table) for table in TABLES] == [0, 0, 0, 0]
        assert page("last_load_timestamp_seconds") == page("batch_duration_seconds_count") == 0
        assert "tradetrail_last_error_timestamp_seconds{" not in page.text
        for name, family in page.families.items():
            assert name.startswith("tradetrail_")
            assert family.documentation.endswith(".")
            assert (family.type == "counter") == (f"{name}_total" in page.text)
        for name in re.findall(r"\btradetrail_(?!loader\b|reader\b)[a-z_]+", OPERATING.read_text()):
            assert f"# TYPE {name} " in page.text
        watch.stop()


async def test_what_comes_again_after_the_ledger_was_emptied_is_duplicate(
    directory: Path, dsn: str, db: Database
) -> None:
    with watching(directory, dsn, *METRICS) as watch, AuditLog(directory, service="bot") as audit:
        for n in range(5):
            audit.order(**ORDER, order_id=str(n))
        watch.until_page(lambda page: page("records_loaded_total", kind="orders") == 5)
        await db.execute("TRUNCATE monitoring.audit_segments")
        audit.order(**ORDER, order_id="5")
        page = watch.until_page(lambda page: page("records_loaded_total", kind="orders") == 6)
        assert page("records_duplicate_total") == 5
        assert page("records_read_total") == 11
        assert await counts(db) == page.series("records_loaded_total", "kind") | dict.fromkeys(TABLES[1:], 0)
        assert watch.until_page(lambda page: page.lag == 0)("lag_seconds") == 0
        watch.stop()


async def test_the_lag_of_a_backlog_falls_batch_by_batch(directory: Path, dsn: str, db: Database) -> None:
    stream = new_stream()
    path = segment(directory, *(record(stream, n, n=n) for n in range(1, 2001)), b'{"torn', stream=stream)
    whole, most = path.stat().st_size - len(b'{"torn'), 16384
    with path.open("rb") as writer, watching(directory, dsn, *METRICS, "--batch-bytes", str(most)) as watch:
        fcntl.flock(writer, fcntl.LOCK_EX)  # somebody lives who may write the rest of the line
        seen: list[Page] = []

        def is_done(page: Page) -> bool:
            seen.append(page)
            return page("loaded_bytes_total") == whole

        last = watch.until_page(is_done)
        behind = [page for page in seen if page.lag]
        assert len(behind) >= 3
        assert [page.lag for page in behind] == sorted((page.lag for page in behind), reverse=True)
        assert all(page("lag_seconds") > 0 for page in behind)
        # The page is no snapshot: a batch may end while it is made.
        assert all(0 <= whole - page("loaded_bytes_total") - page.lag <= 2 * most for page in behind)
        assert 1 < behind[-1]("batch_duration_seconds_count") <= last("batch_duration_seconds_count")
        assert (last.lag, last("lag_seconds")) == (0, 0)
        assert await counts(db) == {"orders": 0, "trades": 0, "order_updates": 0, "events": 2000}
        watch.stop()


class Away:
    """A PostgreSQL of the test's own that it stops and starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def start(self) -> str:
        dsn = self._stack.enter_context(embedded(self._folder / "postgres"))
        return dsn.replace("postgres@/", "postgres:S3cret@/")

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def server() -> Iterator[Away]:
    folder = Path(tempfile.mkdtemp(prefix="tradetrail-tests-"))
    folder.chmod(0o711)  # under root the server's user must pass through
    away = Away(folder)
    try:
        yield away
    finally:
        away.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_lag_is_true_while_the_database_is_away(directory: Path, server: Away) -> None:
    def written() -> int:
        assert audit.flush(timeout=PATIENCE_S)
        return sum(path.stat().st_size for path in directory.iterdir())

    dsn = server.start()
    with watching(directory, dsn, *METRICS) as watch, AuditLog(directory, service="bot") as audit:
        audit.event("bot.noted")
        before = watch.until_page(lambda page: page("records_loaded_total", kind="events") == 1)
        assert (before("lag_seconds"), before("database_connected")) == (0, 1)

        server.stop()
        audit.event("bot.noted")
        size = written()
        page = watch.until_page(lambda page: page.lag == size - page("loaded_bytes_total"))
        assert page("database_connected") == 0
        errors = page.series("errors_total", "kind")
        assert set(errors) <= {"connection_exception", "operator_intervention"}
        assert page("last_load_timestamp_seconds") == before("last_load_timestamp_seconds")
        for _ in range(9):
            audit.event("bot.noted")
        size = written()
        more = watch.until_page(lambda page: page.lag == size - page("loaded_bytes_total"))
        assert more.lag > page.lag > 0
        assert more("lag_seconds") > page("lag_seconds") > 0
        waited = watch.until_page(lambda page: sum(page.series("errors_total", "kind").values()) > sum(errors.values()))
        assert max(waited.series("last_error_timestamp_seconds", "kind").values()) <= time.time()
        assert "S3cret" not in waited.text

        server.start()
        after = watch.until_page(lambda page: page("records_loaded_total", kind="events") == 11)
        assert (after.lag, after("lag_seconds"), after("database_connected")) == (0, 0, 1)
        assert after("records_read_total") == 11
        assert after("records_duplicate_total") == 0
        watch.stop()


def test_before_the_database_was_ever_there_the_lag_is_unknown_and_grows(directory: Path) -> None:
    stream = new_stream()
    segment(directory, record(stream, 1), stream=stream)
    with watching(directory, "postgresql://bot:S3cret@127.0.0.1:1/trading", *METRICS) as watch:
        page = watch.until_page(lambda page: not page.lag_is_known)
        assert page("lag_seconds") > 0
        assert page("database_connected") == 0
        later = watch.until_page(lambda later: later("errors_total", kind="connection_exception") >= 2)
        assert later("lag_seconds") > page("lag_seconds")
        assert later("last_error_timestamp_seconds", kind="connection_exception") <= time.time()
        assert "S3cret" not in later.text
        assert "127.0.0.1" not in later.text
        watch.stop()


async def test_it_answers_while_the_directory_is_waited_for(tmp_path: Path, dsn: str, db: Database) -> None:
    directory = tmp_path / "later"
    with watching(directory, dsn, TRADETRAIL_METRICS_PORT="0") as watch:
        until(watch.says("not there yet"))
        page = watch.scrape()
        assert (page.lag, page("lag_seconds"), page("database_connected")) == (0, 0, 0)
        with AuditLog(directory, service="bot") as audit:
            audit.event("bot.noted")
            await until_rows(db, audit.stats().stream, 1)
        watch.until_page(lambda page: page("records_loaded_total", kind="events") == 1)
        watch.stop()


async def test_it_answers_while_a_batch_waits_for_a_lock(directory: Path, dsn: str, db: Database) -> None:
    async with db.transaction():
        await db.execute("LOCK TABLE monitoring.events")
        with watching(directory, dsn, *METRICS) as watch, AuditLog(directory, service="bot") as audit:
            audit.event("bot.noted")
            page = watch.until_page(lambda page: page.lag > 0)
            assert page("database_connected") == 1
            assert page("batch_duration_seconds_count") == 0
            watch.until_page(lambda later: later("lag_seconds") > page("lag_seconds"))
            watch.stop()
    assert (await counts(db))["events"] == 0


def test_a_file_with_a_problem_counts_until_it_is_mended(directory: Path, dsn: str) -> None:
    stream = new_stream()
    path = segment(directory, record(stream, 1), stream=stream, number=1)
    path.write_bytes(b"no header\n" + path.read_bytes())
    with watching(directory, dsn, *METRICS, "--rescan", "0.1") as watch:
        watch.until_page(lambda page: page("files_with_problems") == 1)
        assert watch.err.read_text().count(path.name) == 1
        path.unlink()
        watch.until_page(lambda page: page("files_with_problems") == 0)
        watch.stop()


def listening(pid: int) -> set[str]:
    """The local addresses, as the kernel writes them, on which a process listens."""
    inodes = descriptors(pid)
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {fields[1] for fields in table if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes}


def test_it_listens_on_loopback_alone_and_only_when_it_is_asked(directory: Path, dsn: str) -> None:
    if not Path("/proc/net/tcp").exists():
        pytest.skip("asks /proc")
    with watching(directory, dsn) as watch:
        until(watch.says("watching"))
        assert listening(watch.process.pid) == set()
        watch.stop()
        assert "Prometheus" not in watch.err.read_text()
    with watching(directory, dsn, *METRICS) as watch:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", watch.metrics)
        assert {address.partition(":")[0] for address in listening(watch.process.pid)} == {"0100007F"}
        watch.stop()
    with watching(directory, dsn, *METRICS, "--metrics-host", "localhost") as watch:
        assert watch.scrape()("build_info", **dict(_build(watch.scrape()))) == 1
        watch.stop()


def _build(page: Page) -> dict[str, str]:
    return dict(page.families["tradetrail_build_info"].samples[0].labels)


def test_only_a_get_of_its_path_is_answered(directory: Path, dsn: str) -> None:
    with watching(directory, dsn, *METRICS) as watch:
        base = watch.metrics.removesuffix("/metrics")
        for wrong in ("/", "/metrics/../../etc/passwd", "/metrics2"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(base + wrong, timeout=PATIENCE_S)
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(watch.metrics, data=b"x", timeout=PATIENCE_S)
        with urllib.request.urlopen(f"{watch.metrics}?name[]=tradetrail_lag_bytes", timeout=PATIENCE_S) as answer:
            assert list(Page(answer.read().decode()).families) == ["tradetrail_lag_bytes"]
        watch.stop()


async def test_clients_that_say_nothing_stop_neither_the_loader_nor_the_end(
    directory: Path, dsn: str, db: Database
) -> None:
    with watching(directory, dsn, *METRICS) as watch, AuditLog(directory, service="bot") as audit, ExitStack() as held:
        port = int(watch.metrics.rpartition(":")[2].partition("/")[0])
        silent = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(24)]
        audit.event("bot.noted")
        await until_rows(db, audit.stats().stream, 1)
        until(lambda: _hung_up(silent[-1]))  # more than a few are not let in
        with pytest.raises(OSError, match=r"closed|reset"):
            watch.scrape()
        for client in silent:
            client.close()

        def answers() -> bool:
            try:
                return watch.scrape()("records_loaded_total", kind="events") == 1
            except OSError:
                return False

        until(answers)
        watch.stop()


def _hung_up(client: socket.socket) -> bool:
    client.settimeout(0.01)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


async def test_a_port_that_is_taken_ends_it_before_anything_is_loaded(directory: Path, dsn: str, db: Database) -> None:
    stream = new_stream()
    segment(directory, record(stream, 1), stream=stream)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        said = one_line(tradetrail("watch", "--dir", directory, "--dsn", dsn, "--metrics-port", port), 3)
    assert f"127.0.0.1, port {port}" in said
    assert "--metrics-port" in said
    assert (await counts(db))["events"] == 0


def test_a_port_that_is_not_permitted(tmp_path: Path) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first < 2:
        pytest.skip("every user may have every port here")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may have every port, and there is no setpriv to take that from it")
    without = ["setpriv", "--bounding-set=-net_bind_service"] if os.geteuid() == 0 else []
    args = ["watch", "--dir", tmp_path, "--dsn", "postgresql://127.0.0.1:1/x", "--metrics-port", "1"]
    done = subprocess.run(
        [*without, SCRIPT, *args], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert "above 1023" in one_line(done, 3)


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (("--metrics-port", "65536"), {}),
        (("--metrics-port", "-1"), {}),
        ((), {"TRADETRAIL_METRICS_PORT": "http"}),
        ((*METRICS, "--metrics-host", "no such host"), {}),
        ((*METRICS, "--metrics-host", ""), {}),
        (METRICS, {"TRADETRAIL_METRICS_HOST": "a" * 70}),
    ],
)
def test_a_value_that_makes_no_sense(directory: Path, dsn: str, args: tuple[str, ...], env: dict[str, str]) -> None:
    assert "metrics-" in one_line(tradetrail("watch", "--dir", directory, "--dsn", dsn, *args, **env), 2)


def test_an_empty_setting_is_none(directory: Path, dsn: str) -> None:
    with watching(directory, dsn, TRADETRAIL_METRICS_PORT="") as watch:
        until(watch.says("watching"))
        watch.stop()
        assert "Prometheus" not in watch.err.read_text()
