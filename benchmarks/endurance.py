"""One process that logs for long: whether its memory stays flat and its calls as fast as at first.

    python -m benchmarks.endurance                       (24 million records, or as many as 10 minutes allow)
    python -m benchmarks.endurance --minutes 3 --json

24 million is the size of the first user's event table. Closed segments are removed as they come, all but the last few,
as retention would; a record's own time is measured for one call in 50. The bot waits where the ring is half full, so
that the figure is what the disk keeps up with and nothing is dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from emitter import AuditLog

from .record import FIELDS

_BLOCK = 5000
_SAMPLE = 50
_KEPT_SEGMENTS = 3


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some seconds of the run; ``rss_bytes`` is the process's memory without the ring's pages."""

    at_s: float
    records: int
    records_per_s: float
    p50_us: float
    p999_us: float
    max_us: float
    rss_bytes: int
    descriptors: int
    ring_high_water_bytes: int
    waited_s: float
    lost: int


def _rss() -> int:
    """Private memory: what is mapped from files, the ring among it, does not count (proc(5), statm)."""
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _remove_old(directory: Path) -> None:
    for path in sorted(directory.iterdir())[:-_KEPT_SEGMENTS]:
        path.unlink()


class Run:
    """Calls in blocks, and a stretch's figures whenever one is over."""

    def __init__(self, directory: Path, stretch_s: float) -> None:
        self.directory = directory
        self.audit = AuditLog(directory, service="endurance")
        self.stretches: list[Stretch] = []
        self._stretch_s = stretch_s
        self._began = self._last = time.perf_counter()
        self._spent: list[int] = []
        self._records = self._waited = 0.0

    def block(self) -> None:
        order, clock, spent = self.audit.order, time.perf_counter_ns, self._spent
        for number in range(_BLOCK):
            if number % _SAMPLE:
                order(**FIELDS)
            else:
                began = clock()
                order(**FIELDS)
                spent.append(clock() - began)
        self._records += _BLOCK
        stats = self.audit.stats()
        began = time.perf_counter()
        while stats.ring_used_bytes > stats.ring_bytes // 2:
            time.sleep(0.001)
            stats = self.audit.stats()
        now = time.perf_counter()
        self._waited += now - began
        if now - self._last >= self._stretch_s:
            self._note(now)

    def _note(self, now: float) -> None:
        stats = self.audit.stats()
        spent = sorted(self._spent)
        self.stretches.append(
            Stretch(
                at_s=round(now - self._began, 1),
                records=stats.emitted,
                records_per_s=round(self._records / (now - self._last)),
                p50_us=spent[len(spent) // 2] / 1000,
                p999_us=spent[int(len(spent) * 0.999)] / 1000,
                max_us=spent[-1] / 1000,
                rss_bytes=_rss(),
                descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208  names are all that is needed
                ring_high_water_bytes=stats.ring_high_water_bytes,
                waited_s=round(self._waited, 2),
                lost=stats.lost,
            )
        )
        _remove_old(self.directory)
        self._last, self._records, self._waited = time.perf_counter(), 0.0, 0.0
        self._spent.clear()


def _show(stretch: Stretch) -> str:
    return (
        f"{stretch.at_s:7.1f} s {stretch.records:>12,} records {stretch.records_per_s:>9,.0f}/s"
        f"  p50 {stretch.p50_us:5.2f} us  p99.9 {stretch.p999_us:7.1f} us  max {stretch.max_us / 1000:6.2f} ms"
        f"  memory {stretch.rss_bytes / 2**20:6.1f} MiB  fds {stretch.descriptors}"
        f"  waited {stretch.waited_s:5.2f} s  lost {stretch.lost}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=24_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--stretch", type=float, default=10.0, help="seconds between two lines")
    parser.add_argument("--dir", type=Path, help="where to make the folder of the run (a disk; default: TMPDIR)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir, prefix="tradetrail-endurance-") as folder:
        run = Run(Path(folder) / "log", given.stretch)
        until = time.perf_counter() + 60 * given.minutes
        shown = 0
        while run.audit.stats().emitted < given.records and time.perf_counter() < until:
            run.block()
            if len(run.stretches) > shown and not given.json:
                print(_show(run.stretches[-1]), flush=True)
            shown = len(run.stretches)
        closed = run.audit.close(60)
        stats = run.audit.stats()
    kept = stats.written + stats.lost == stats.emitted
    first, last = run.stretches[0], run.stretches[-1]
    if given.json:
        print(json.dumps({"stretches": [asdict(stretch) for stretch in run.stretches], "closed": closed, "kept": kept}))
        return
    print(
        f"\n{stats.emitted:,} records, {stats.written:,} written, {stats.lost:,} lost; closed in time: {closed}\n"
        f"memory {first.rss_bytes / 2**20:.1f} -> {last.rss_bytes / 2**20:.1f} MiB, "
        f"p50 {first.p50_us:.2f} -> {last.p50_us:.2f} us, {first.records_per_s:,} -> {last.records_per_s:,} records/s"
    )


if __name__ == "__main__":
    main()
