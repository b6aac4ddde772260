"""The bars of a distribution: of a width that people can read, at most some forty, none with both wins and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_MOST = 40
_ROUND = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))
_LEAST = Decimal("1e-8")


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars number ``first`` to ``last``, each ``step`` wide; number n goes from n to n + 1 steps.

    The two at the ends hold all that lies beyond them, too. ``counts``: how many are in each that is not empty.
    """

    step: Decimal = Decimal(1)
    first: int = 0
    last: int = -1
    counts: Sequence[tuple[int, int]] = ()

    @property
    def words(self) -> dict[str, object]:
        """What the statement ``distribution`` of ``sql/report`` takes."""
        return {
            "step": f"{self.step:f}",
            "low": f"{self.first * self.step:f}",
            "high": f"{(self.last + 1) * self.step:f}",
            "first_bar": self.first,
            "last_bar": self.last,
        }

    def filled(self, counts: Mapping[int, int]) -> Bars:
        """With what is in them."""
        return replace(self, counts=sorted(counts.items()))


def bars_between(low: Decimal | None, high: Decimal | None) -> Bars | None:
    """Bars for values of which most lie from ``low`` to ``high``; None where there are no values."""
    if low is None or high is None:
        return None
    low, high = min(low, Decimal(0)), max(high, Decimal(0))
    step = _readable(max((high - low) / _MOST, _LEAST))
    first = int((low / step).to_integral_value(ROUND_FLOOR))
    last = int((high / step).to_integral_value(ROUND_CEILING)) - 1
    # A bar on either side: the other one may hold what lies beyond.
    return Bars(step, min(first, -1), max(last, 0))


def _readable(width: Decimal) -> Decimal:
    """The least of 1, 2, 2.5, 5 times a power of ten that is no less."""
    power = Decimal(1).scaleb(width.adjusted())
    return next(power * by for by in _ROUND if power * by >= width)
