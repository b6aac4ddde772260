"""Exact arithmetic with what a bot calls a number; its own decimal context may hold few digits, or traps."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, DecimalException
from functools import reduce
from typing import Any

ZERO = Decimal(0)
# A float has 17 digits.
_EXACT, _SHORT = Context(prec=60, traps=[]), Context(prec=17, traps=[])
_MOST_DIGITS, _MOST_BITS = 100, 330


def number(value: Any) -> Decimal | None:
    """The exact value of a number, also one in a text; None for what is none, or is beyond every price and size."""
    if isinstance(value, float):
        value = Decimal(float.__repr__(value))
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < _MOST_BITS:
        value = Decimal(int(value))
    elif isinstance(value, str) and len(value) < _MOST_DIGITS:
        try:
            value = Decimal(value.strip())
        except DecimalException:
            return None
    sensible = isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS
    return value if sensible else None


def magnitude(value: Any) -> Any:
    """A number as it is given, without its sign: some bots write what is sold below 0."""
    exact = number(value)
    return exact.copy_abs() if exact is not None and exact < ZERO else value


def less(one: Decimal, other: Decimal) -> Decimal:
    """The difference."""
    return _EXACT.subtract(one, other)


def total(numbers: Iterable[Decimal]) -> Decimal:
    """The sum."""
    return reduce(_EXACT.add, numbers, ZERO)


def product(one: Decimal, other: Decimal) -> Decimal:
    """The product."""
    return _EXACT.multiply(one, other)


def quotient(one: Decimal, other: Decimal) -> Decimal:
    """The quotient, to 17 digits."""
    return _SHORT.divide(one, other)
