"""Ranges of numbers, both ends included, as sorted lists of (first, last)."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers in as few ranges as they take."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if first > last:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def without(ranges: Iterable[Range], others: Iterable[Range]) -> list[Range]:
    """The numbers of ``ranges`` that are not in ``others``."""
    found: list[Range] = []
    taken = joined(others)
    at = 0
    for first, last in joined(ranges):
        while at < len(taken) and taken[at][1] < first:
            at += 1
        start, looked = first, at
        while looked < len(taken) and taken[looked][0] <= last:
            if start < taken[looked][0]:
                found.append((start, taken[looked][0] - 1))
            start = taken[looked][1] + 1
            looked += 1
        if start <= last:
            found.append((start, last))
    return found


def total(ranges: Iterable[Range]) -> int:
    """How many numbers."""
    return sum(last - first + 1 for first, last in joined(ranges))


def within(number: int, ranges: Iterable[Range]) -> bool:
    """Whether a number is in one of them."""
    return any(first <= number <= last for first, last in ranges)
