"""The benchmarks' arithmetic, and a run small enough for a test; no figure is asserted."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import emit, show
from benchmarks.contestants import CONTESTANTS, LINES
from benchmarks.figures import TARGETS, aims, judged, quantile, ratios, summary
from benchmarks.found import records, whole_records
from benchmarks.load import __main__ as load_main
from benchmarks.load import cases, cost, lag, trail
from benchmarks.load import show as show_loads
from benchmarks.load.aims import aims as load_aims
from benchmarks.load.dlt_pipeline import with_host
from benchmarks.load.turns import summaries
from benchmarks.record import FIELDS, INSERT
from benchmarks.stall import Fifo
from benchmarks.turns import paced, timed, turn
from emitter import AuditLog
from loader.database import Database
from tests.plugins.postgres import Cluster

TINY = emit.Effort(
    flat_rounds=2, flat_calls=20, paced_rounds=1, paced_calls=10, wake_rounds=1, wake_seconds=0.02,
    memory_calls=50, stall_seconds=0.05, kills=1, killed_calls=50,
)  # fmt: skip
# Those whose libraries the tests have.
NAMES = ("none", "tradetrail", "structlog")
# What a bot logs, as parts of all.
CALLS = {"order": 0.4, "update_order": 0.2, "trade": 0.3, "event": 0.1}
COST = str(cost.__file__)


@pytest.mark.parametrize(
    ("part", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (0.01, 1), (0.011, 2), (1.0, 100), (0.0, 1)]
)
def test_a_quantile_is_the_nearest_rank(part: float, expected: int) -> None:
    assert quantile(range(1, 101), part) == expected


def test_a_quantile_of_one_value_is_that_value() -> None:
    assert quantile([7], 0.5) == quantile([7], 0.999) == 7


def test_a_summary_is_in_microseconds_and_in_no_order() -> None:
    found = summary([n * 1000 for n in range(2000, 0, -1)])
    assert found == {"calls": 2000, "p50": 1000.0, "p99": 1980.0, "p99.9": 1998.0, "max": 2000.0}


@pytest.mark.parametrize(
    ("calls", "names"),
    [
        (0, {"calls"}),
        (1, {"calls", "max"}),
        (99, {"calls", "p50", "max"}),
        (100, {"calls", "p50", "p99", "max"}),
        (1000, {"calls", "p50", "p99", "p99.9", "max"}),
    ],
)
def test_too_few_calls_have_no_far_quantile(calls: int, names: set[str]) -> None:
    assert set(summary(range(calls))) == names


def test_a_ratio_is_ours_to_the_rivals_where_both_are_known() -> None:
    found = ratios({"tradetrail": {"p50": 2.0, "max": 9.0}, "loguru": {"p50": 8.0, "p99": 20.0}, "structlog": {}})
    assert found == {"loguru": {"p50": 0.25}, "structlog": {}}
    assert ratios({"loguru": {"p50": 8.0}}) == {"loguru": {}}


def test_targets_are_judged_and_the_limit_itself_meets_them() -> None:
    told = judged({"queue-handler": {"p50": 0.4, "p99.9": 0.26}})
    assert [(one["quantile"], one["ratio"], one["met"]) for one in told] == [("p50", 0.4, True), ("p99.9", 0.26, False)]
    assert {target.rival for target in TARGETS} <= set(CONTESTANTS)


def test_aims_are_told_where_they_were_measured() -> None:
    nothing: dict[str, Any] = {"loop_late_microseconds": {}, "disk_stalled": {}, "killed": {}}
    assert aims(nothing) == []
    found = aims(
        {
            "loop_late_microseconds": {"1000": {"none": {"p99": 150.0}, "tradetrail": {"p99": 250.5}}},
            "disk_stalled": {"tradetrail": {"how": "not possible here"}},
            "killed": {"tradetrail": {"returned": 10, "found": 10}},
        }
    )
    assert [(one["figure"], one["met"]) for one in found] == [(100.5, False), (0, True)]


def test_the_record_has_14_fields_and_the_insert_takes_them_all() -> None:
    assert len(FIELDS) == 14
    assert INSERT.count("$") == 14


def test_every_call_is_timed_and_paced() -> None:
    made: list[int] = []
    assert len(timed(lambda: made.append(1), 10)) == len(made) == 10
    start = time.perf_counter_ns()
    assert len(paced(lambda: made.append(1), 5, 1_000_000)) == 5
    assert time.perf_counter_ns() - start >= 4_000_000
    assert len(turn(lambda: made.append(1), "", 40, 4, 0)) == 40
    assert len(made) == 55


def test_records_found_are_whole_ones(tmp_path: Path) -> None:
    line = json.dumps(FIELDS) + "\n"
    (tmp_path / LINES).write_text(line + "{}\n" + line + line[:40] + "\n" + line[:-1])
    assert whole_records(tmp_path / LINES) == records("loguru", tmp_path, "") == 2
    assert records("loguru", tmp_path / "away", "") == 0


def test_a_fifo_stalls_and_goes_on(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path)
    try:
        with (tmp_path / LINES).open("ab", buffering=0) as file, fifo.stalled(0.1):
            start = time.monotonic()
            file.write(bytes(1 << 18))
            assert time.monotonic() - start >= 0.05
    finally:
        fifo.close()


@pytest.mark.parametrize("as_root", [True, False])
def test_a_tiny_run_measures_everything(as_root: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not as_root:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("benchmarks.crew.RIVALS", tmp_path)
    found = emit.measure((*NAMES, "loguru"), TINY, cases=emit.CASES[:1], rates=(1000,))
    assert json.loads(json.dumps(found)) == found
    assert list(found["missing"]) == ["loguru"]
    for case in found["microseconds"].values():
        assert set(case) == set(NAMES)
    for row in found["killed"].values():
        assert (row["returned"], row["found"]) == (50, 50)
    assert found["memory_bytes"]["structlog"]["found"] == 50
    assert found["disk_stalled"]["structlog"]["during"]["calls"] == 200
    text = shown(show.show, found)
    assert "structlog BytesLogger" in text
    assert "Not measured: loguru enqueue, serialize: not installed" in text
    assert "kill -9: records lost: 0.00, wanted at most 0: met" in text


def shown(work: Callable[[dict[str, Any]], None], found: dict[str, Any]) -> str:
    """What it prints."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for module in (show, show_loads):
            patch.setattr(module, "Console", lambda: Console(file=said, width=200))
        work(found)
    return said.getvalue()


# -- the loader's --


def test_the_trail_is_mixed_and_changes_only_orders_that_are_there() -> None:
    found = list(islice(trail.calls(), 40_000))
    shares = {name: sum(1 for method, _ in found if method == name) / len(found) for name in CALLS}
    assert shares == pytest.approx(CALLS, abs=0.015)
    orders: dict[str, tuple[str, str]] = {}
    for method, fields in found:
        place = fields["exchange"], fields["symbol"]
        if method == "order":
            assert fields["order_id"] not in orders
            orders[fields["order_id"]] = place
        else:
            assert orders[fields["order_id"]] == place
    trades = [fields["trade_id"] for method, fields in found if method == "trade"]
    assert len(set(trades)) == len(trades)
    assert max(len(fields) for method, fields in found if method == "order") == 14
    assert found == list(islice(trail.calls(), 40_000))


def test_spoiling_changes_one_record_in_a_hundred(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "good", service="bench") as audit:
        for call in islice(trail.calls(), 850):
            trail.log(audit)(call)
    assert trail.spoil(tmp_path / "good", tmp_path / "bad") == 8
    (good,), (bad,) = ((tmp_path / name).glob("*.jsonl") for name in ("good", "bad"))
    before, after = good.read_bytes().split(b"\n"), bad.read_bytes().split(b"\n")
    assert good.name == bad.name
    assert len(before) == len(after) == 853  # a header, the records, a footer and its end
    assert [n for n, (one, other) in enumerate(zip(before, after, strict=True)) if one != other] == [
        100 * n for n in range(1, 9)
    ]


def test_small_segments_are_whole(tmp_path: Path) -> None:
    stream = trail.small_segments(tmp_path / "log", 3)
    paths = sorted((tmp_path / "log").iterdir())
    assert [path.name for path in paths] == [f"quiet.{stream}.{number:06d}.jsonl" for number in (1, 2, 3)]
    for number, path in enumerate(paths, 1):
        head, record, foot = map(json.loads, path.read_bytes().splitlines())
        assert (head["event_name"], record["seq"], foot["event_name"]) == ("segment.opened", number, "segment.closed")


def test_a_lag_is_counted_for_each_record_that_became_visible() -> None:
    seen = [(0, 0), (2, 100), (3, 250), (5, 400)]
    assert lag.lags(seen, {2: 20, 3: 200, 4: 260, 5: 390, 6: 395}) == [80, 50, 140, 10]
    assert lag.milliseconds([n * 1_000_000 for n in range(100, 0, -1)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}


def test_the_times_of_calls_are_those_of_the_records(tmp_path: Path) -> None:
    before = time.time_ns()
    with AuditLog(tmp_path, service="bench") as audit:
        for number in range(3):
            audit.event("bot.waited", number=number)
        stream = audit.stats().stream
    found = lag.call_times(tmp_path, stream, 2)
    assert list(found) == [2, 3]
    assert before // 1000 * 1000 <= found[2] <= found[3] <= time.time_ns()


def test_summaries_of_turns() -> None:
    def turn(seconds: float, peak: int, server: int | None) -> dict[str, Any]:
        costs = {"peak_bytes": peak, "server_bytes": server, "wal_bytes": peak, "cpu_s": seconds, "rows": 9}
        return {"seconds": seconds, **costs}

    found = summaries(
        1000, {"tradetrail": [turn(3, 7, None), turn(1, 9, 4), turn(2, 8, 5)], "psql": [turn(4, 1, None)]}
    )
    assert (found["tradetrail"]["median_s"], found["tradetrail"]["best_s"], found["tradetrail"]["to_limit"]) == (
        2,
        1,
        0.5,
    )
    assert (found["tradetrail"]["peak_bytes"], found["tradetrail"]["server_bytes"]) == (9, 5)
    assert (found["tradetrail"]["records_per_s"], found["tradetrail"]["wal_bytes"]) == (500, 8)
    assert (found["psql"]["to_limit"], found["psql"]["server_bytes"]) == (1, None)
    assert summaries(1000, {"tradetrail": [turn(3, 7, None)]})["tradetrail"]["to_limit"] is None


def test_the_loaders_aims_are_told_where_they_were_measured() -> None:
    assert load_aims({"cases": {}, "lag": {}, "live": []}) == []
    ours = {"to_limit": 1.2, "median_s": 2.0, "peak_bytes": 3e8}
    found = load_aims(
        {
            "cases": {
                "100k": {"who": {"tradetrail": {**ours, "median_s": 1.0}, "dlt": {"median_s": 20.0}}},
                "1m": {"who": {"tradetrail": ours}},
                "10m": {"who": {"tradetrail": {**ours, "to_limit": None, "peak_bytes": 3.3e8}}},
            },
            "lag": {"10": {"p50": 90.0, "p99": 310.0, "idle_cpu": {"watch": 0.004, "bot": 0.02}}},
            "live": [
                {"watch_cpu_ms_per_record": 10.0, "idle_cpu": {"watch": 0.003, "bot": 0.001}},
                {"watch_cpu_ms_per_record": 12.0, "idle_cpu": {"watch": 0.005, "bot": 0.001}},
            ],
        }
    )
    assert [(round(float(str(aim["figure"])), 3), aim["met"]) for aim in found] == [
        (1.2, False),
        (0.05, True),
        (300, True),
        (330, True),
        (1.1, True),
        (90, True),
        (310, False),
        (1.2, True),
        (0.5, True),
        (2, False),
    ]


def test_what_a_command_costs_is_its_own() -> None:
    def cost(*command: str) -> Any:
        done = subprocess.run([sys.executable, "-I", "-S", COST, *command], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[:-1], json.loads(done.stdout.splitlines()[-1])

    said, small = cost("sh", "-c", "echo said; exit 7")
    assert (said[0], small["code"]) == ("said", 7)
    _, large = cost(sys.executable, "-S", "-c", "bytes(range(256)) * (1 << 19)")
    assert large["peak_bytes"] > 1 << 27 > 4 * small["peak_bytes"]
    assert large["cpu_s"] > 0


@pytest.mark.parametrize(
    ("dsn", "known"),
    [
        ("postgresql://postgres@/bot?host=/var/run/pg", "postgresql://postgres:none@%2Fvar%2Frun%2Fpg/bot"),
        ("postgresql://me:word@db:5433/bot?sslmode=require", "postgresql://me:word@db:5433/bot?sslmode=require"),
    ],
)
def test_dlt_gets_a_dsn_that_it_takes(dsn: str, known: str) -> None:
    assert with_host(dsn) == known


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        load_main.main(["--quick", "--only", "pgloader"])
    assert "--only pgloader: there are 20k, " in capsys.readouterr().err


def test_a_case_that_finds_no_room_says_so(tmp_path: Path) -> None:
    short = load_main.short_of_room(cases.Case("huge", 10**15, cases.ALL), tmp_path)
    assert short is not None
    assert short.startswith("needs 1800000000 GB under ")
    assert load_main.short_of_room(cases.QUICK.cases[0], tmp_path) is None


def test_a_tiny_run_loads_and_watches(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cluster_may_checkpoint(cluster):
        pytest.skip("the role of that server may make no checkpoint")
    monkeypatch.setenv("TRADETRAIL_BENCH_DSN", cluster.admin_dsn)
    who = cases.SAME_TABLES
    tiny = cases.Effort(
        cases=(
            cases.Case("good", 600, who, once=("executemany",)),
            cases.Case("bad", 600, who, bad=True, rounds=1),
            cases.Case("full", 600, (*who, "dlt"), before="old rows", rounds=1),
            cases.Case("again", 600, ("tradetrail",), before="the input", rounds=1),
            cases.Case("replay", 600, who, before="the input, no ledger", rounds=1),
        ),
        rounds=2, old_rows=1000, rates=(50,), lag_s=0.4, idle_s=0.1, live=((20_000, 3),), live_rate=20, live_s=0.2,
    )  # fmt: skip
    monkeypatch.setattr("benchmarks.load.contestants.RIVALS", Path("/nowhere"))
    found = load_main.measure(tiny)
    assert json.loads(json.dumps(found))["cases"] == found["cases"]
    assert found["missing"] == {"full, dlt": "not installed: No module named 'dlt'"}
    rows = {
        name: {one: figures["rows"] for one, figures in case["who"].items()} for name, case in found["cases"].items()
    }
    ours = rows["good"]["tradetrail"]
    assert ours >= 600
    assert rows["good"] == rows["full"] == {"tradetrail": ours, "psql": ours, "copy-records": 600, "executemany": 600}
    assert rows["bad"]["tradetrail"] == rows["bad"]["psql"] >= 600  # what was rejected is a row, too
    assert set(rows["again"].values()) | set(rows["replay"].values()) == {0}
    for name, case in found["cases"].items():
        for one, figures in case["who"].items():
            assert len(figures["seconds"]) == (2 if name == "good" and one != "executemany" else 1)
            assert figures["peak_bytes"] > 1 << 20
            assert figures["wal_bytes"] >= 0
    assert (found["lag"]["50"]["records"], found["live"][0]["records"]) == (20, 4)
    assert found["live"][0]["files"] == 3
    text = shown(show_loads.show, found)
    assert "600 records, 1 % bad, empty tables" in text
    assert "emit to visible at 50/s, p99 (ms)" in text
    assert "Not measured: full, dlt: not installed" in text
    assert databases(cluster) == []


def databases(cluster: Cluster) -> list[str]:
    """What the benchmark left on the server."""
    sql = "SELECT datname FROM pg_database WHERE starts_with(datname, 'tradetrail_bench')"
    return [row["datname"] for row in asyncio.run(_fetch(cluster.admin_dsn, sql))]


def cluster_may_checkpoint(cluster: Cluster) -> bool:
    sql = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    return bool(asyncio.run(_fetch(cluster.admin_dsn, sql))[0]["rolsuper"])


async def _fetch(dsn: str, sql: str) -> list[dict[str, Any]]:
    async with await Database.connect(dsn) as database:
        return await database.fetch(sql)
