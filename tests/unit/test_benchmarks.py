"""The benchmarks' arithmetic, and a run small enough for a test; no figure is asserted."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import emit, show
from benchmarks.contestants import CONTESTANTS, LINES
from benchmarks.figures import TARGETS, aims, judged, quantile, ratios, summary
from benchmarks.found import records, whole_records
from benchmarks.record import FIELDS, INSERT
from benchmarks.stall import Fifo
from benchmarks.turns import paced, timed, turn

TINY = emit.Effort(
    flat_rounds=2, flat_calls=20, paced_rounds=1, paced_calls=10, wake_rounds=1, wake_seconds=0.02,
    memory_calls=50, stall_seconds=0.05, kills=1, killed_calls=50,
)  # fmt: skip
# Those whose libraries the tests have.
NAMES = ("none", "tradetrail", "structlog")


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
        patch.setattr(show, "Console", lambda: Console(file=said, width=200))
        work(found)
    return said.getvalue()
