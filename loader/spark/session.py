"""An application of Spark for as long as a question lasts. What Java says is heard only where it does not start."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from ..errors import EnvironmentFault
from ..workspace import workspace

_QUIET = {"spark.log.level": "OFF", "spark.ui.showConsoleProgress": "false"}
# Of what a program of Java writes when it ends, the line that says why, and what of it is not for people.
_WHY = re.compile(r"exception|error|not set|not found|no such file", re.IGNORECASE)
_CLASS = re.compile(r'^(Exception in thread "[^"]*" )?([\w.$]+(Exception|Error): )?')
_OF_JAVA = re.compile(r"JAVA_HOME|\bjava: |compiled by a more recent version")
# What is left of an application that no master answered for a minute.
_GAVE_UP = "stopped SparkContext"
# pyspark has one JVM a process, which ends with it.
_started: list[Any] = []


@contextmanager
def session(master: str | None) -> Iterator[SparkSession]:
    """An application of Spark. ``master``: the URL of a cluster; None: as Spark's own configuration says.

    An :class:`EnvironmentFault` says why it does not start.
    """
    # A pseudo-cluster starts its executors from there; pyspark itself finds its files without.
    os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)  # an error is said once, by us
    with workspace() as folder:
        # Spark would make a folder for tables where the command runs; there are none.
        settings = _QUIET | {"spark.app.name": "tradetrail", "spark.sql.warehouse.dir": str(folder)}
        conf = SparkConf().setAll([*settings.items(), *([("spark.master", master)] if master else [])])
        try:
            context = SparkContext(conf=conf, gateway=_java(conf))
            made = SparkSession.builder.getOrCreate()
        except EnvironmentFault:
            raise
        except Exception as error:
            why = said(error)
            if _GAVE_UP in why:
                why = f"no cluster takes this application at {master or 'the spark.master of its configuration'}"
            raise EnvironmentFault(f"Spark does not start: {why}") from error
        try:
            yield made
        finally:
            with suppress(Exception):  # it may have ended by itself, and whoever asked knows why
                context.stop()


def said(error: Exception) -> str:
    """What Spark has to say, without where in its inside."""
    text = error.getMessage() if isinstance(error, PySparkException) else str(error)
    java = getattr(error, "java_exception", None)
    if java is not None:
        text = java.getMessage()
    return " ".join(str(text or error).partition("\n")[0].split()) or type(error).__name__


def _java(conf: SparkConf) -> Any:
    if not _started:
        with tempfile.TemporaryFile() as written:
            try:
                _started.append(launch_gateway(conf, {"stderr": written}))
            except Exception as error:
                raise EnvironmentFault(f"Spark does not start: {_why(written) or said(error)}") from error
    return _started[0]


def _why(written: IO[bytes]) -> str:
    written.seek(0)
    lines = written.read().decode(errors="replace").splitlines()
    text = _CLASS.sub("", next((line for line in lines if _WHY.search(line)), ""))
    return f"{text}; it needs Java 17 or later" if _OF_JAVA.search(text) else text
