"""Years of a bot's log, raw, packed and as Parquet: how large each is, how long it takes to make, and to ask.

    python -m benchmarks.archive                          (1 million records: half a year of a busy bot)
    python -m benchmarks.archive --records 10000000       (five years of it: a quarter of an hour, and 6 GB of disk)
    python -m benchmarks.archive --records 50000000 --a-day 27397  (of one five times as busy: an hour, 30 GB)

A bot that makes 5,500 records a day begins a segment each hour. What is asked of the three is the same, and so is the
answer; the first two are read by ``tradetrail query``, Parquet by DuckDB with the views of ``tradetrail archive
--script``. How segments are chosen, and the ledger that it takes, are left out: they cost a question.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import orjson

from emitter.segments import SegmentName, footer_line, header_line, new_stream, timestamp
from loader.archive.files import FOLDER as ARCHIVE
from loader.archive.pack import pack
from loader.archive.parquet import FOLDER, Dataset, batched
from loader.archive.views import script
from loader.inventory import SegmentFile, take_inventory
from loader.query import RawLog

from .load.trail import Call, calls

_A_DAY = 5479
_BEGIN_NS = 1_605_000_000 * 10**9
_EVENTS = {"order": "order.created", "update_order": "order.updated", "trade": "trade.executed"}
OPEN = "to open it"
QUESTIONS = {
    "fills and turnover by symbol": (
        "SELECT symbol, count(*), sum(price::DOUBLE * executed_qty::DOUBLE) FROM trades GROUP BY symbol ORDER BY symbol"
    ),
    "the fills of one day": (
        "SELECT count(*), sum(executed_qty) FROM trades "
        "WHERE timestamp >= '2020-11-15' AND timestamp < '2020-11-16'{day}"
    ),
    "orders by their last status": "SELECT status, count(*) FROM orders GROUP BY status ORDER BY status",
}


# Seconds that passed, and seconds of processors: those are the same beside other work.
Took = tuple[float, float]


class Watch:
    """How long something takes."""

    def __init__(self) -> None:
        self._started, self._cpu = time.monotonic(), time.process_time()

    @property
    def took(self) -> Took:
        return round(time.monotonic() - self._started, 3), round(time.process_time() - self._cpu, 3)


@dataclass(slots=True)
class Figures:
    """Bytes and seconds of the three; (seconds, those of processors) by question, for raw, packed and Parquet."""

    records: int
    segments: int = 0
    raw_bytes: int = 0
    packed_bytes: int = 0
    parquet_bytes: int = 0
    parquet_files: int = 0
    pack_s: Took = (0.0, 0.0)
    parquet_s: Took = (0.0, 0.0)
    ask_s: dict[str, list[Took]] = field(default_factory=dict)


def write_log(directory: Path, records: int, hours: int, a_day: int) -> None:
    """A stream of closed segments, each of so many hours, at the pace of a busy bot."""
    stream, previous, known = new_stream(), None, calls()
    step_ns, each = 86_400 * 10**9 // a_day, max(1, a_day * hours // 24)
    for number, first in enumerate(range(0, records, each), 1):
        name = SegmentName.of("fox-bot", stream, number)
        seqs = range(first + 1, min(first + each, records) + 1)
        lines = [_line(stream, seq, _BEGIN_NS + seq * step_ns, next(known)) for seq in seqs]
        resource = {"service.name": "fox-bot"}
        head = header_line(name, service="fox-bot", resource=resource, pid=1, ring=None, previous_sha256=previous)
        body = head + b"".join(lines)
        previous = hashlib.sha256(body).hexdigest()
        end = footer_line(name, records=len(seqs), first_seq=seqs[0], last_seq=seqs[-1], sha256=previous)
        (directory / str(name)).write_bytes(body + end)


def _line(stream: str, seq: int, at_ns: int, call: Call) -> bytes:
    method, fields = call
    event = _EVENTS.get(method) or fields.pop("event")
    record = {
        "stream": stream,
        "seq": seq,
        "timestamp": timestamp(at_ns),
        "severity_text": "INFO",
        "severity_number": 9,
        "event_name": event,
        "attributes": fields,
    }
    return orjson.dumps(record) + b"\n"


def measure(directory: Path, records: int, hours: int, a_day: int, told: Callable[[str], None]) -> Figures:
    """Make and ask all three in a directory, which is empty."""
    found, folder = Figures(records), directory / ARCHIVE
    told("writing the log")
    write_log(directory, records, hours, a_day)
    folder.mkdir()
    files = take_inventory(directory).files
    found.segments, found.raw_bytes = len(files), sum(file.bytes for file in files)
    told(f"packing {found.segments:,} segments, {found.raw_bytes / 1e6:,.0f} MB")
    watch = Watch()
    for file in files:
        assert file.footer is not None
        found.packed_bytes += pack(file.path, folder / f"{file.name}.zst", file.footer.sha256)
    found.pack_s = watch.took
    told("making Parquet")
    watch = Watch()
    dataset = Dataset(folder / FOLDER)
    for batch in batched(files):
        added = dataset.add(batch)
        found.parquet_files += added.files
        found.parquet_bytes += added.bytes
    found.parquet_s = watch.took
    _ask(directory, files, found, told)
    return found


def _ask(directory: Path, files: list[SegmentFile], found: Figures, told: Callable[[str], None]) -> None:
    answers: dict[str, list[Any]] = {}
    told("asking the raw files")
    _ask_log(directory, found, answers)
    for file in files:
        file.path.unlink()
    told("asking the archives")
    _ask_log(directory, found, answers)
    told("asking Parquet")
    watch = Watch()
    with duckdb.connect() as duck:
        duck.execute(script(directory / ARCHIVE))
        duck.execute("SET memory_limit = '512MB'")
        _note(found, answers, OPEN, watch, [])
        for name, sql in QUESTIONS.items():
            watch = Watch()
            rows = duck.execute(sql.replace("{day}", " AND \"date\" = '2020-11-15'")).fetchall()
            _note(found, answers, name, watch, rows)
    for name, (first, *others) in answers.items():
        assert all(_same(other, first) for other in others), name


def _ask_log(directory: Path, found: Figures, answers: dict[str, list[Any]]) -> None:
    watch = Watch()
    with RawLog(directory) as log:
        _note(found, answers, OPEN, watch, [])
        for name, sql in QUESTIONS.items():
            watch = Watch()
            rows = list(log.query(sql.replace("{day}", "")).rows)
            _note(found, answers, name, watch, rows)


def _note(found: Figures, answers: dict[str, list[Any]], name: str, watch: Watch, rows: list[Any]) -> None:
    found.ask_s.setdefault(name, []).append(watch.took)
    answers.setdefault(name, []).append(rows)


def _same(some: list[Any], other: list[Any]) -> bool:
    """Sums of doubles depend on their order."""
    pairs = zip([value for row in some for value in row], [value for row in other for value in row], strict=True)
    return all(one == two or (isinstance(one, float) and math.isclose(one, two, rel_tol=1e-9)) for one, two in pairs)


def show(found: Figures) -> None:
    """The figures for people."""
    mb = 1e6
    print(f"{found.records:,} records in {found.segments:,} segments")
    for name, size, took in (
        ("raw JSON lines", found.raw_bytes, None),
        ("packed (zstd)", found.packed_bytes, found.pack_s),
        (f"Parquet, {found.parquet_files:,} files", found.parquet_bytes, found.parquet_s),
    ):
        made = f", made in {_said(took)} ({found.raw_bytes / mb / took[0]:,.0f} MB/s)" if took else ""
        print(f"  {name:24} {size / mb:10,.1f} MB  1 : {found.raw_bytes / size:5.1f}{made}")
    print(f"  {'seconds to ask (of processors)':30} {'raw':>15} {'packed':>15} {'Parquet':>15}")
    for name, all_ in found.ask_s.items():
        print(f"  {name:30} " + " ".join(f"{_said(each):>15}" for each in all_))


def _said(took: Took) -> str:
    return f"{took[0]:,.2f} ({took[1]:,.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--a-day", type=int, default=_A_DAY, help="records that the bot makes in a day")
    parser.add_argument("--segment-hours", type=int, default=1, help="hours in a segment (as segment_max_age_s)")
    parser.add_argument("--dir", type=Path, help="where there is room (default: the folder of temporary files)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.dir, prefix="tradetrail-archive-") as folder:
        told = (lambda _: None) if asked.json else (lambda words: print(f"... {words}", flush=True))
        found = measure(Path(folder), asked.records, asked.segment_hours, asked.a_day, told)
    if asked.json:
        print(json.dumps(asdict(found)))
    else:
        show(found)


if __name__ == "__main__":
    main()
