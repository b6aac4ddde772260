"""The metrics of millions of trades in the archive's form, on DuckDB and on Spark: ``make bench-analysis``.

The trades are made here as the data set has them, a file a day, so that only the two engines are measured. DuckDB has
the memory that the command gives it; Spark is given a master by ``--master``, by default a pseudo-cluster of two
workers on this machine. Both answers must be the same. Beside the seconds stand those of processors, which other work
on the machine changes less.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from loader import statements
from loader.metrics import Asked, Metrics, from_rows
from loader.round_trips import figures
from loader.show import plain
from loader.text import size

from .load.lag import cpu_s

# Of what the workers of the pseudo-cluster have; an executor takes 1 GB unless told otherwise.
_EXECUTOR = "spark.executor.memory 3584m\n"
_DAYS = 1826
_MAKE = """
COPY (
    SELECT
        lpad(format('{{:x}}', n // 1000000), 32, '0') AS stream, n + 1 AS seq,
        TIMESTAMPTZ '2021-01-01 00:00:00Z' + to_microseconds(n * {step}) AS executed_at,
        'bybit' AS exchange, 'S' || n % 40 || '/USDT:USDT' AS symbol,
        CAST(n // 80 * 40 + n % 40 AS VARCHAR) AS position_id, n % 7 AS signal_id,
        CASE WHEN n // 40 % 2 = 0 THEN 'buy' ELSE 'sell' END AS side, 'MARKET' AS order_type, 'o' || n AS order_id,
        't' || n AS trade_id, NULL::VARCHAR AS reason, NULL::BOOLEAN AS estimated,
        CAST(1 + n % 80 % 40 % 13 AS DECIMAL(38, 18)) AS executed_qty,
        CAST(100 + hash(n) % 100000 / 10000 AS DECIMAL(38, 18)) AS price, NULL::DECIMAL(38, 18) AS average_price,
        NULL::DECIMAL(38, 18) AS contract_size, CAST('0.05' AS DECIMAL(38, 18)) AS fee, 'USDT' AS fee_currency,
        NULL::VARCHAR AS fees
    FROM range({first}, {last}) AS made(n)
) TO '{file}' (FORMAT parquet, COMPRESSION zstd)
"""


def make(folder: Path, trades: int) -> list[Path]:
    """The files of so many trades, of five years."""
    step = _DAYS * 86_400_000_000 // trades
    files = []
    with duckdb.connect() as duck:
        duck.execute("SET TimeZone = 'UTC'")
        for day in range(_DAYS):
            first, last = trades * day // _DAYS, trades * (day + 1) // _DAYS
            file = folder / f"{day:04}.parquet"
            duck.execute(_MAKE.format(first=first, last=last, step=step, file=file))
            files.append(file)
    return files


def on_duckdb(files: list[Path], asked: Asked) -> Metrics:
    """As ``tradetrail metrics`` has it of raw files, of these instead."""
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as duck:
        duck.execute(f"SET TimeZone = 'UTC'; SET temp_directory = '{spill}'; SET memory_limit = '4GB'")
        duck.execute(statements.load("load/checks.sql")["setup"])
        duck.execute(statements.load("views/records.sql")["setup"])
        duck.execute(statements.load("metrics/duckdb.sql")["setup"])
        duck.execute(f"CREATE VIEW trades AS SELECT * FROM read_parquet({[str(file) for file in files]})")
        found = duck.execute(figures("duckdb", asked.by, asked.since, asked.until))
        names = [column[0] for column in found.description or ()]
        return from_rows([dict(zip(names, row, strict=True)) for row in found.fetchall()], asked)


def used_s() -> float:
    """Processor time so far of this process and of all that it started and that still run."""
    left, seconds = [os.getpid()], 0.0
    while left:
        pid = left.pop()
        with suppress(OSError):  # it has ended
            seconds += cpu_s(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                left += map(int, children.read_text().split())
    return seconds


def measured(what: str, work: Callable[[], Metrics]) -> Any:
    """Print what it took; the answer as JSON has it."""
    began, used = time.monotonic(), used_s()
    found = work()
    print(f"  {what:13} {time.monotonic() - began:8.1f} s, of processors {used_s() - used:8.1f} s", flush=True)
    return plain(found.total), plain(list(found.by))


def answers(files: list[Path], engine: str, master: str, runs: list[str]) -> Iterator[Any]:
    """Of the engines in turn; Spark is asked again in a second run, as a cluster that is up and warm is quicker."""
    asked = Asked("month")
    if engine != "spark":
        yield measured("DuckDB", lambda: on_duckdb(files, asked))
    if engine != "duckdb":
        from loader.spark.metrics import from_dataset
        from loader.spark.session import session

        with session(master) as application:
            for run in runs:
                yield measured(f"Spark, {run}", lambda: from_dataset(application, files, asked))


@contextmanager
def configured() -> Iterator[None]:
    """Give executors the memory of their workers, unless the caller configured Spark."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "spark-defaults.conf").write_text(_EXECUTOR)
        os.environ.setdefault("SPARK_CONF_DIR", folder)
        yield


def compare(trades: int, engine: str, master: str, runs: list[str]) -> None:
    """Ask for the figures of so many trades."""
    with tempfile.TemporaryDirectory() as folder:
        files = make(Path(folder), trades)
        print(f"{trades:,} trades, {size(sum(file.stat().st_size for file in files))}", flush=True)
        first, *others = answers(files, engine, master, runs)
        if any(answer != first for answer in others):
            raise SystemExit("the engines do not agree")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--millions", type=float, nargs="+", default=[1.0, 5.0, 20.0])
    arguments.add_argument("--master", default="local-cluster[2,1,4096]")
    arguments.add_argument("--engine", choices=["duckdb", "spark", "both"], default="both")
    arguments.add_argument("--once", action="store_true", help="ask Spark one time only")
    given = arguments.parse_args()
    runs = ["first"] if given.once else ["first", "warm"]
    with configured():
        for millions in given.millions:
            compare(int(millions * 1_000_000), given.engine, given.master, runs)


if __name__ == "__main__":
    main()
