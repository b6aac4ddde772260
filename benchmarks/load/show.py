"""The figures of ``benchmarks.load`` as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from ..figures import OURS
from ..show import number, show_aims, table
from .contestants import CONTESTANTS

_MIB = 1024 * 1024


def _mib(count: int | None) -> str:
    return number(None if count is None else count / _MIB, 0)


def loads(case: Mapping[str, Any]) -> Table:
    made = table(
        case["title"], "turns", "s, median", "s, best", "records/s", "x the limit", "rows made", "CPU s", "peak MiB",
        "server MiB", "WAL MiB",
    )  # fmt: skip
    for name, row in case["who"].items():
        title = CONTESTANTS[name].title
        made.add_row(
            f"[bold]{title}[/bold]" if name == OURS else title,
            number(len(row["seconds"]), 0),
            number(row["median_s"], 2),
            number(row["best_s"], 2),
            number(row["records_per_s"], 0),
            number(row["to_limit"], 2),
            number(row["rows"], 0),
            number(row["cpu_s"], 1),
            _mib(row["peak_bytes"]),
            _mib(row["server_bytes"]),
            _mib(row["wal_bytes"]),
        )
    return made


def lag(found: Mapping[str, Any]) -> Table:
    made = table(
        "watch: from the call until the row is visible (ms)", "records", "made /s", "p50", "p99", "max", "CPU of watch",
        "idle watch", "idle bot",
    )  # fmt: skip
    for rate, row in found["lag"].items():
        made.add_row(f"{int(rate):,} records/s", number(row["records"], 0), number(row["made_per_s"], 0), *_lag(row))
    return made


def live(found: Mapping[str, Any]) -> Table:
    made = table(
        "One more record in the live tail (ms)", "loaded files", "records", "CPU a record", "p50", "p99", "max",
        "CPU of watch", "idle watch", "idle bot",
    )  # fmt: skip
    for row in found["live"]:
        made.add_row(
            f"segment of {row['segment_bytes'] / 1e6:g} MB",
            number(row["files"], 0),
            number(row["records"], 0),
            number(row["watch_cpu_ms_per_record"], 2),
            *_lag(row),
        )
    return made


def _lag(row: Mapping[str, Any]) -> list[str]:
    parts = (row["watch_cpu"], row["idle_cpu"]["watch"], row["idle_cpu"]["bot"])
    return [number(row[name]) for name in ("p50", "p99", "max")] + [f"{part:.1%}" for part in parts]


def show(found: Mapping[str, Any]) -> None:
    """All tables, and what there is to know about them."""
    console = Console()
    if not console.is_terminal:
        console.width = 180
    for case in found["cases"].values():
        console.print(loads(case))
    for made in (lag, live):
        if found[made.__name__]:
            console.print(made(found))
    show_aims(console, found["aims"])
    for name, why in found["missing"].items():
        console.print(f"Not measured: {name}: {why}", markup=False)
    machine, server = found["machine"], found["server"]
    console.print(
        f"{machine['cpus']} CPUs, load {found['load_average']:.1f}, Python {machine['python']}, "
        f"Linux {machine['kernel']}; {server['version']} ({server['where']}); {found['seconds']:.0f} s. "
        "Times are those of whole processes. Memory: the peak of a command's largest process; of the server, what its "
        "sessions have beside shared buffers. Only tradetrail checks lines, folds orders and keeps rejects; dlt writes "
        "tables of its own, without indexes.",
        markup=False,
    )
