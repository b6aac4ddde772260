"""The metrics from Spark, over the Parquet data set of the archive: for more fills than one machine takes.

This and ``session`` are the only modules that know pyspark. The SQL is that of the other engines (``sql``), and so is
the answer, to the last digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ..errors import EnvironmentFault
from ..metrics import Asked, Metrics, from_rows
from ..settings import MIB
from .session import said
from .sql import KEPT, steps

_COLUMNS = (
    *("stream", "seq", "executed_at", "exchange", "symbol", "position_id", "signal_id", "side", "order_type"),
    *("order_id", "trade_id", "reason", "estimated", "executed_qty", "price", "average_price", "contract_size"),
    *("fee", "fee_currency", "fees"),
)
# What the answer rests on. Off, decimals of a sum are kept; on, what does not fit is an error and no NULL.
_EXACT = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
}
# Of so many files Spark would have a cluster look for each, a task a file; the archive has one a day.
_LISTED = {"spark.sql.sources.parallelPartitionDiscovery.threshold": "100000"}
_SHUFFLE = "spark.sql.shuffle.partitions"
# A fill takes ten times as much between two steps as in the data set, and a task should have some 100 MB.
_BYTES_A_TASK = 8 * MIB
Told = Callable[[str], None]
_PATTERN_SIGNS = re.compile(r"[\[\]{}*?,\\]")
_TOO_LARGE = "a figure has more digits than Spark's decimals hold; ask DuckDB or PostgreSQL"
# What some of Spark's errors mean here.
_MEANINGS = {
    "NUMERIC_VALUE_OUT_OF_RANGE": _TOO_LARGE,
    "ARITHMETIC_OVERFLOW": _TOO_LARGE,
    "CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND": "an executor was lost, and its part of the work with it; ask again",
}


def from_dataset(spark: SparkSession, files: Sequence[Path], asked: Asked, told: Told = lambda _: None) -> Metrics:
    """The figures of the trades in these files, which each worker must be able to read under these names.

    ``told`` hears what is being worked out. An :class:`EnvironmentFault` says what Spark has against it, and where a
    number has more digits than its decimals hold: then there is no answer, and no wrong one.
    """
    if not files:
        return from_rows([], asked)
    for name, value in (_EXACT | _LISTED).items():
        spark.conf.set(name, value)
    made: list[str] = []
    try:
        _spread(spark, files)
        return from_rows(_rows(spark, files, asked, told, made), asked)
    except Exception as error:
        words = said(error)
        why = next((meaning for word, meaning in _MEANINGS.items() if word in words), words)
        raise EnvironmentFault(f"Spark: {why}") from error
    finally:
        with suppress(Exception):  # an application that has ended has no views
            for name in made:
                spark.catalog.dropTempView(name)


def _spread(spark: SparkSession, files: Sequence[Path]) -> None:
    """Let steps have as many parts as there is work for, unless Spark's configuration says how many."""
    if not spark.sparkContext.getConf().contains(_SHUFFLE):
        tasks = sum(file.stat().st_size for file in files) // _BYTES_A_TASK
        spark.conf.set(_SHUFFLE, str(max(spark.sparkContext.defaultParallelism, tasks)))


def _rows(
    spark: SparkSession, files: Sequence[Path], asked: Asked, told: Told, made: list[str]
) -> list[dict[str, Any]]:
    told("reading the data set")
    step = spark.read.parquet(*map(_as_hadoop_names, files)).select(*_COLUMNS)
    *before, (_, figures) = steps(asked.by, asked.since, asked.until).items()
    for name, sql in [("archived_trades", ""), *before]:
        if sql:
            step = spark.sql(sql)
        if name in KEPT:
            told(KEPT[name])
            # A plan is a tree: one that is only persisted holds all plans before it once for each mention, and the last
            # of these steps would be a plan of thousands. Here each begins with what the one before has left.
            step = step.localCheckpoint()
        step.createOrReplaceTempView(name)
        made.append(name)
    told("adding up")
    return [row.asDict() for row in spark.sql(figures).collect()]


def _as_hadoop_names(file: Path) -> str:
    """The file for Hadoop, which takes a URI as it stands, and would look for patterns in it."""
    return "file://" + _PATTERN_SIGNS.sub(r"\\\g<0>", str(file))
