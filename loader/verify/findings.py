"""What an audit found: each finding says by which rule, how grave, what, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

# error: the trail is not complete, not unchanged, or not what the database has. warning: what the records say does not
# fit together. information: said and explained by the trail itself; it alone is no reason to worry.
SEVERITIES = ("error", "warning", "information")
# Of one rule so many are kept one by one; more of the same are counted.
MOST_OF_A_RULE = 100_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``seq`` is the first, where it is about several records that follow each other."""

    rule: str
    severity: str
    what: str
    stream: str | None = None
    seq: int | None = None
    segment: int | None = None


@dataclass(slots=True)
class Findings:
    """Findings as they come, without those of rules that are to be passed over."""

    ignored: frozenset[str] = frozenset()
    kept: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (severity, rule)

    def add(
        self,
        rule: str,
        severity: str,
        what: str,
        *,
        stream: str | None = None,
        seq: int | None = None,
        segment: int | None = None,
    ) -> None:
        if rule in self.ignored:
            return
        self.counts[severity, rule] += 1
        if self.counts[severity, rule] <= MOST_OF_A_RULE:
            self.kept.append(Finding(rule, severity, what, stream, seq, segment))

    def count(self, severity: str) -> int:
        """How many there are of one severity."""
        return sum(number for (of, _), number in self.counts.items() if of == severity)

    @property
    def grave(self) -> bool:
        """Whether there is more than information."""
        return bool(self.count("error") or self.count("warning"))

    def has(self, *rules: str) -> bool:
        """Whether one of these rules found anything."""
        return any(rule in rules for _, rule in self.counts)

    def grouped(self) -> Iterator[tuple[str, str, int, list[Finding]]]:
        """(severity, rule, how many, those kept), the gravest first, then the most frequent."""
        by_rule: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.kept:
            by_rule.setdefault((finding.severity, finding.rule), []).append(finding)
        for severity, rule in sorted(by_rule, key=lambda key: (SEVERITIES.index(key[0]), -self.counts[key], key[1])):
            yield severity, rule, self.counts[severity, rule], by_rule[severity, rule]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(finding) for _, _, _, kept in self.grouped() for finding in kept]


def seqs(first: int, last: int) -> str:
    """``record 5``, ``records 5 to 8 (4)``: records that follow each other."""
    return f"record {first:,}" if first == last else f"records {first:,} to {last:,} ({last - first + 1:,})"


def runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as (first, last) of those that follow each other."""
    start = previous = None
    for number in numbers:
        if previous is not None and number == previous + 1:
            previous = number
            continue
        if start is not None and previous is not None:
            yield start, previous
        start = previous = number
    if start is not None and previous is not None:
        yield start, previous
