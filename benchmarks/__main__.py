"""What one call costs the bot: ``audit.order`` beside the standard library's ``QueueHandler``, in the same run.

    make bench                (a table)
    make bench ARGS=--json    (for machines)

Both write the same 14 fields as JSON lines to a file on the same disk, both in another thread. The two take turns, so
that a busy machine is busy for both. Read the ratio: microseconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import logging
import logging.handlers
import queue
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emitter import AuditLog

FIELDS = {
    "position_id": 55,
    "exchange": "bybit",
    "symbol": "MNTUSDT",
    "order_id": "d2e5a4a0-3a0b-4f0e-8f3e-0e9a4f7f6c11",
    "client_order_id": "fox-6412b439d353",
    "type": "MARKET",
    "side": "sell",
    "size": 94.7,
    "price": 2.1118,
    "status": "FILLED",
    "filled": 94.7,
    "remaining": 0,
    "fee": 0.1,
    "fee_currency": "USDT",
}
TURN = 200
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class JsonLines(logging.Formatter):
    """One record as one line of JSON, with all that was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: getattr(record, name) for name in FIELDS}
        return json.dumps({"timestamp": record.created, "level": record.levelname, "event": record.msg, **fields})


@contextmanager
def tradetrail(folder: Path) -> Iterator[Callable[[], object]]:
    with AuditLog(folder / "audit", service="bench") as audit:
        yield lambda: audit.order(**FIELDS)
    assert audit.stats().lost == 0, "the ring was full: this measured nothing"


@contextmanager
def queue_handler(folder: Path) -> Iterator[Callable[[], object]]:
    lines = logging.FileHandler(folder / "bot.jsonl")
    lines.setFormatter(JsonLines())
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(waiting, lines)
    log = logging.Logger("bench", logging.INFO)
    log.addHandler(logging.handlers.QueueHandler(waiting))  # type: ignore[arg-type]
    listener.start()
    yield lambda: log.info("order.created", extra=FIELDS)
    listener.stop()
    lines.close()


def measure(calls: int, pause_s: float) -> dict[str, dict[str, float]]:
    """Microseconds per call at some quantiles, for each of the two."""
    taken: dict[str, list[int]] = {"tradetrail": [], "QueueHandler": []}
    with (
        tempfile.TemporaryDirectory(prefix="tradetrail-bench-") as folder,
        tradetrail(Path(folder)) as ours,
        queue_handler(Path(folder)) as theirs,
    ):
        for _ in range(calls // TURN):
            for name, call in (("tradetrail", ours), ("QueueHandler", theirs)):
                for _ in range(TURN):
                    start = time.perf_counter_ns()
                    call()
                    taken[name].append(time.perf_counter_ns() - start)
                # The thread behind empties its queue in its own time, not in the other's turn.
                time.sleep(pause_s)
    found = {}
    for name, times in taken.items():
        times.sort()
        found[name] = {what: times[int(len(times) * part)] / 1000 for what, part in QUANTILES.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    if given.calls < 2 * TURN:
        parser.error(f"--calls: at least {2 * TURN}")
    found = measure(given.calls, pause_s=0.02)
    ratio = {what: found["tradetrail"][what] / found["QueueHandler"][what] for what in QUANTILES}
    if given.json:
        print(json.dumps({"calls": given.calls, "microseconds": found, "ratio": ratio}))
        return
    print(f"One call with {len(FIELDS)} fields, {given.calls} calls each, in microseconds")
    print(f"{'':14}" + "".join(f"{what:>10}" for what in QUANTILES))
    for name, figures in found.items():
        print(f"{name:14}" + "".join(f"{figure:10.1f}" for figure in figures.values()))
    print(f"{'ratio':14}" + "".join(f"{figure:10.2f}" for figure in ratio.values()))


if __name__ == "__main__":
    main()
