"""Arithmetic of the figures: quantiles, ratios, and the design's targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
OURS: Final = "tradetrail"
NONE: Final = "none"

Summary = dict[str, float]


def quantile(ordered: Sequence[int], part: float) -> int:
    """The smallest value that at least this part of the sorted values does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * part - 1e-9) - 1)]


def summary(nanoseconds: Iterable[int]) -> Summary:
    """How many, and their quantiles and greatest in microseconds.

    A quantile that too few values can tell from the greatest (p99.9 of less than 1,000) is left out.
    """
    ordered = sorted(nanoseconds)
    found: Summary = {"calls": len(ordered)}
    for name, part in QUANTILES.items():
        if len(ordered) * (1 - part) >= 1 - 1e-9:
            found[name] = quantile(ordered, part) / 1000
    if ordered:
        found["max"] = ordered[-1] / 1000
    return found


def ratios(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    """Our figure as a part of each rival's, per quantile; 0.5 is twice as fast."""
    ours = summaries.get(OURS, {})
    names = (*QUANTILES, "max")
    return {
        rival: {name: ours[name] / theirs[name] for name in names if ours.get(name) and theirs.get(name)}
        for rival, theirs in summaries.items()
        if rival != OURS
    }


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that the design wants: ours at most ``most`` times the rival's."""

    rival: str
    quantile: str
    most: float


# The design's section 12. "The same" against a rival holds for both quantiles that it names first.
TARGETS: Final = (
    Target("queue-handler", "p50", 0.4),
    Target("queue-handler", "p99.9", 0.25),
    Target("opentelemetry", "p50", 0.2),
    Target("opentelemetry", "p99.9", 0.2),
    Target("loguru", "p50", 0.05),
    Target("loguru", "p99.9", 0.05),
    Target("asyncpg", "p50", 0.01),
    Target("asyncpg", "p99.9", 0.01),
)


def judged(found: Mapping[str, Summary]) -> list[dict[str, object]]:
    """Each target whose rival was measured, beside what was found (``ratios``): met or missed, never an error."""
    return [
        {
            "rival": target.rival,
            "quantile": target.quantile,
            "at_most": target.most,
            "ratio": ratio,
            "met": ratio <= target.most,
        }
        for target in TARGETS
        if (ratio := found.get(target.rival, {}).get(target.quantile)) is not None
    ]


# Sections 7 and 12 of the design and the issue it came from: what is wanted beside the ratios of a call.
LOOP_LATE_MOST_US: Final = 100.0
STALLED_MOST: Final = 2.0


def aims(found: Mapping[str, Any]) -> list[dict[str, object]]:
    """What our own figures are to keep to in the other measurements: met or missed, where it was measured."""
    late, told = found["loop_late_microseconds"].get("1000", {}), []
    none, ours = late.get(NONE, {}).get("p99"), late.get(OURS, {}).get("p99")
    if none and ours:
        told.append(aim("loop at 1,000/s: p99 later than without a logger by (us)", ours - none, LOOP_LATE_MOST_US))
    stalled = found["disk_stalled"].get(OURS, {})
    before, during = stalled.get("before", {}).get("p99.9"), stalled.get("during", {}).get("p99.9")
    if before and during:
        told.append(aim("disk stalled: p99.9 of a call, times that before", during / before, STALLED_MOST))
        told.append(aim("disk stalled: records lost", stalled["given"] - stalled["found"], 0))
    if killed := found["killed"].get(OURS):
        told.append(aim("kill -9: records lost", killed["returned"] - killed["found"], 0))
    return told


def aim(what: str, figure: float, most: float) -> dict[str, object]:
    """What was found beside what is wanted: met or missed, never an error."""
    return {"what": what, "figure": figure, "at_most": most, "met": figure <= most}
