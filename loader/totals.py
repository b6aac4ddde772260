"""What a run of the loader did, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from emitter.records import KINDS

_MOST_RECORDS = (1 << 63) - 1


@dataclass(slots=True)
class Totals:
    """What a run did; the fields of ``load --json``."""

    records: int = 0
    orders: int = 0
    trades: int = 0
    order_updates: int = 0
    events: int = 0
    rejected: int = 0
    repaired: int = 0
    duplicates: int = 0
    lost: int = 0
    segments: int = 0
    bytes: int = 0
    seconds: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, other: Totals) -> None:
        for name in ("records", *(kind.table for kind in KINDS), "rejected", "repaired", "duplicates", "lost", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.examples = other.examples | self.examples

    def __add__(self, other: Totals) -> Totals:
        """Both in one that is new, without the figures of one run alone (segments, seconds, problems)."""
        both = Totals()
        both.add(self)
        both.add(other)
        return both

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        del values["examples"]
        values["reasons"] = {rule: count for (_, rule), count in self.reasons.items()}
        values["seconds"] = round(self.seconds, 3)
        return values


def declared_loss(line: str) -> tuple[int, list[dict[str, Any]]]:
    """(records, ranges) that a line declares lost; (0, []) for other control lines, and where it cannot be read."""
    if '"audit.lost"' not in line:
        return 0, []
    try:
        ranges = [_range(said) for said in orjson.loads(line)["attributes"]["ranges"]]
    except (ValueError, TypeError, LookupError):
        return 0, []
    return sum(r["last"] - r["first"] + 1 for r in ranges), ranges


def _range(said: dict[str, Any]) -> dict[str, Any]:
    first, last = said["first"], said["last"]
    if not isinstance(first, int) or not isinstance(last, int) or not 1 <= first <= last <= _MOST_RECORDS:
        raise ValueError(f"{first} to {last} is no range of records")
    return {**said, "first": first, "last": last}
