"""dlt as its own pages on performance and on PostgreSQL advise: pages of rows, CSV through COPY, parallel workers.

    python -m benchmarks.load.dlt_pipeline FOLDER DSN WORKING_FOLDER

It makes tables of its own, without our indexes; lines that are no JSON are skipped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from .rivals import records

_PAGE = 10_000
_TABLES = {"order.created": "orders", "order.updated": "order_updates", "trade.executed": "trades"}
_CPUS = str(os.cpu_count() or 1)
_SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "DATA_WRITER__BUFFER_MAX_ITEMS": str(_PAGE),
    "SOURCES__DATA_WRITER__FILE_MAX_ITEMS": "20000",  # so that there is something to share out
    "NORMALIZE__WORKERS": _CPUS,
    "LOAD__WORKERS": _CPUS,
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


def _table(row: dict[str, Any]) -> str:
    return _TABLES.get(row["event_name"], "events")


def _row(record: dict[str, Any]) -> dict[str, Any]:
    head = {"stream": record.get("stream"), "seq": record.get("seq"), "timestamp": record.get("timestamp")}
    return {**head, "event_name": record.get("event_name") or "", **record.get("attributes", {})}


def _pages(folder: Path) -> Iterator[list[dict[str, Any]]]:
    source = records(folder)
    while page := list(islice(source, _PAGE)):
        yield [_row(record) for record in page]


def with_host(dsn: str) -> str:
    """dlt wants a host and a password in every DSN: the folder of a socket is written as one, and any word will do."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    host = parts.netloc.rpartition("@")[2] or quote(query.pop("host", "localhost"), safe="")
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return parts._replace(netloc=f"{user}:{password or 'none'}@{host}", query=urlencode(query)).geturl()


def main() -> None:
    folder, dsn, working = sys.argv[1:]
    os.environ.update(_SETTINGS, DLT_DATA_DIR=working, DLT_PROJECT_DIR=working)
    try:
        import dlt
    except ImportError as error:
        raise SystemExit(f"not installed: {error}") from error
    trail = dlt.resource(_pages(Path(folder)), name="trail", table_name=_table, write_disposition="append")
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.postgres(with_host(dsn)), dataset_name="trail", pipelines_dir=working
    )
    pipeline.run(trail, loader_file_format="csv").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
