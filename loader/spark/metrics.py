"""The metrics from Spark, over the Parquet data set of the archive: for more fills than one machine takes.

This is the only module that knows pyspark. The SQL is that of the other engines (``sql``), and so is the answer,
to the last digit.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspark
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ..errors import EnvironmentFault
from ..metrics import Asked, Metrics, from_rows
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
_QUIET = {"spark.log.level": "OFF", "spark.ui.showConsoleProgress": "false"}
Told = Callable[[str], None]
_PATTERN_SIGNS = re.compile(r"[\[\]{}*?,\\]")
_TOO_LARGE = ("NUMERIC_VALUE_OUT_OF_RANGE", "ARITHMETIC_OVERFLOW")


@contextmanager
def session(master: str | None) -> Iterator[SparkSession]:
    """An application of Spark for as long as this lasts. ``master``: its URL; None: as its configuration says."""
    # A pseudo-cluster starts its executors from there; pyspark itself finds its files without.
    os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)  # an error is said once, by us
    builder = SparkSession.builder.appName("tradetrail")
    for name, value in _QUIET.items():
        builder = builder.config(name, value)
    try:
        made = (builder.master(master) if master else builder).getOrCreate()
    except Exception as error:
        raise EnvironmentFault(f"Spark does not start: {_said(error)}") from error
    try:
        yield made
    finally:
        made.stop()


def from_dataset(spark: SparkSession, files: Sequence[Path], asked: Asked, told: Told = lambda _: None) -> Metrics:
    """The figures of the trades in these files, which each worker must be able to read under these names.

    ``told`` hears what is being worked out. An :class:`EnvironmentFault` says what Spark has against it, and where a
    number has more digits than its decimals hold: then there is no answer, and no wrong one.
    """
    if not files:
        return from_rows([], asked)
    for name, value in _EXACT.items():
        spark.conf.set(name, value)
    try:
        return from_rows(_rows(spark, files, asked, told), asked)
    except Exception as error:
        said = _said(error)
        if any(word in said for word in _TOO_LARGE):
            said = "a figure has more digits than Spark's decimals hold; ask DuckDB or PostgreSQL"
        raise EnvironmentFault(f"Spark: {said}") from error
    finally:
        for name in KEPT:
            spark.catalog.dropTempView(name)


def _rows(spark: SparkSession, files: Sequence[Path], asked: Asked, told: Told) -> list[dict[str, Any]]:
    told("reading the data set")
    trades = spark.read.parquet(*map(_as_hadoop_names, files)).select(*_COLUMNS)
    trades.createOrReplaceTempView("archived_trades")
    *before, (_, figures) = steps(asked.by, asked.since, asked.until).items()
    for name, sql in before:
        step = spark.sql(sql)
        # As a view of SQL it would be parsed and analysed anew at each mention, and those in it, too.
        (step.persist(StorageLevel.MEMORY_AND_DISK) if name in KEPT else step).createOrReplaceTempView(name)
    told("working out figures")
    return [row.asDict() for row in spark.sql(figures).collect()]


def _as_hadoop_names(file: Path) -> str:
    """The file for Hadoop, which takes a URI as it stands, and would look for patterns in it."""
    return "file://" + _PATTERN_SIGNS.sub(r"\\\g<0>", str(file))


def _said(error: Exception) -> str:
    """What Spark has to say, without where in its inside."""
    said = error.getMessage() if isinstance(error, PySparkException) else str(error)
    return " ".join(str(said or error).partition("\n")[0].split()) or type(error).__name__
