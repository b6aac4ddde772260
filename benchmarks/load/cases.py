"""What is measured, and how much of it: the cases of loading, and the sizes of everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ..figures import OURS
from .contestants import DLT, LIMIT
from .rivals import COPY, INSERT

# What the database holds before: nothing; rows that were loaded earlier; all of the input; that without the ledger.
Before = Literal["nothing", "old rows", "the input", "the input, no ledger"]
ALL: Final = (OURS, LIMIT, COPY, INSERT, DLT)
SAME_TABLES: Final = (OURS, LIMIT, COPY, INSERT)


@dataclass(frozen=True, slots=True)
class Case:
    """One input into one state of the database. ``once``: who is slow takes part in the first round only."""

    name: str
    records: int
    who: tuple[str, ...]
    bad: bool = False
    before: Before = "nothing"
    once: tuple[str, ...] = ()
    rounds: int | None = None

    @property
    def on_its_own(self) -> bool:
        """Whether the rows of this very input are there before."""
        return self.before.startswith("the input")

    @property
    def title(self) -> str:
        quality = ", 1 % bad" if self.bad else ""
        state = {
            "nothing": "empty tables",
            "old rows": "tables of old rows",
            "the input": "all of it loaded before",
            "the input, no ledger": "all of it loaded before, the ledger lost",
        }[self.before]
        return f"{self.records:,} records{quality}, {state}"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: times in seconds, rates in records a second.

    ``live``: bytes in the segment that is written, and loaded files beside it.
    """

    cases: tuple[Case, ...]
    rounds: int
    old_rows: int
    rates: tuple[int, ...] = (10, 1_000, 20_000)
    lag_s: float = 20.0
    idle_s: float = 10.0
    live: tuple[tuple[int, int], ...] = ((1_000_000, 10), (60_000_000, 10), (1_000_000, 10_000), (60_000_000, 10_000))
    live_rate: int = 10
    live_s: float = 10.0


def _of(
    name: str,
    records: int,
    *,
    dlt: tuple[bool, bool] = (False, False),
    old_rows: bool = True,
    once: tuple[str, ...] = (),
) -> tuple[Case, ...]:
    """The cases of one size; ``dlt``: whether it takes part where all is good, and where some is bad."""
    good, bad = (ALL if takes_part else SAME_TABLES for takes_part in dlt)
    full = Case(f"{name}-full", records, SAME_TABLES, before="old rows", once=once)
    return (
        Case(name, records, good, once=once),
        Case(f"{name}-bad", records, bad, bad=True, once=once),
        *((full,) if old_rows else ()),
        Case(f"{name}-again", records, (OURS,), before="the input"),
        Case(f"{name}-replay", records, SAME_TABLES, before="the input, no ledger", once=once),
    )


SMALL: Final = "100k"
LARGE: Final = "1m"
LARGEST: Final = "10m"
FULL: Final = Effort(
    cases=(
        *_of(SMALL, 100_000, dlt=(True, True)),
        *_of(LARGE, 1_000_000, once=(COPY, INSERT)),
        Case(LARGEST, 10_000_000, (OURS,), rounds=1),
    ),
    rounds=3,
    old_rows=5_000_000,
)
QUICK: Final = Effort(
    cases=_of("20k", 20_000, dlt=(True, False), old_rows=False),
    rounds=1,
    old_rows=0,
    lag_s=2.0,
    idle_s=1.0,
    live=((100_000, 10), (2_000_000, 200)),
    live_s=1.0,
)
LAG: Final = "lag"
LIVE: Final = "live"
