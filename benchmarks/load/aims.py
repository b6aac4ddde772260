"""What the design (section 12) wants of the loader, beside what was found: met or missed, where it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..figures import OURS, aim
from .cases import LARGE, LARGEST, SMALL
from .contestants import DLT

LIMIT_MOST: Final = 1.15
DLT_MOST: Final = 0.1
PEAK_MOST_MB: Final = 400.0
P50_MOST_MS: Final = 100.0
P99_MOST_MS: Final = 300.0
IDLE_MOST_PERCENT: Final = 1.0
# "The same", with room for what a processor's clock cannot tell.
SAME_MOST: Final = 1.25
_MB: Final = 1e6


def aims(found: Mapping[str, Any]) -> list[dict[str, object]]:
    """Each aim whose figures are there."""
    return [*_loads(found["cases"]), *_lag(found["lag"]), *_live(found["live"]), *_idle(found)]


def _loads(cases: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    ours = {name: case["who"][OURS] for name, case in cases.items() if OURS in case["who"]}
    if LARGE in ours and (ratio := ours[LARGE]["to_limit"]):
        yield aim("load of 1 million records, times that of psql \\copy", ratio, LIMIT_MOST)
    if SMALL in ours and (dlt := cases[SMALL]["who"].get(DLT)):
        yield aim(
            "load of 100,000 records, as a part of dlt's time", ours[SMALL]["median_s"] / dlt["median_s"], DLT_MOST
        )
    peaks = {name: ours[name]["peak_bytes"] / _MB for name in (LARGE, LARGEST) if name in ours}
    for name, peak in peaks.items():
        yield aim(f"peak memory of load, {name} records (MB)", peak, PEAK_MOST_MB)
    if len(peaks) > 1:
        yield aim("peak memory of 10 million, times that of 1 million", peaks[LARGEST] / peaks[LARGE], SAME_MOST)


def _lag(lag: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    for rate, row in lag.items():
        yield aim(f"emit to visible at {int(rate):,}/s, p50 (ms)", row["p50"], P50_MOST_MS)
        yield aim(f"emit to visible at {int(rate):,}/s, p99 (ms)", row["p99"], P99_MOST_MS)


def _live(live: list[dict[str, Any]]) -> Iterator[dict[str, object]]:
    costs = [row["watch_cpu_ms_per_record"] for row in live]
    if len(costs) > 1 and min(costs):
        yield aim("one more record in the live tail, dearest by cheapest", max(costs) / min(costs), SAME_MOST)


def _idle(found: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    rows = [*found["lag"].values(), *found["live"]]
    for who, words in (("watch", "watch"), ("bot", "emitter")):
        if rows:
            most = max(row["idle_cpu"][who] for row in rows)
            yield aim(f"idle {words}, at most (% of a core)", 100 * most, IDLE_MOST_PERCENT)
