"""The outcome of a soak as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .faults import FAULTS, GROUPS
from .run import Outcome

_MIB = 1024 * 1024


def show(outcome: Outcome) -> None:
    console = Console(soft_wrap=False)
    for table in (_counts(outcome), _faults(outcome), _trends(outcome)):
        console.print(table)
    console.print(f"seed {outcome.seed}, {outcome.seconds:.0f} s", highlight=False)
    if outcome.violation is None:
        console.print("all invariants held: 0 inconsistencies", highlight=False)
    else:
        console.print(f"does not hold: {outcome.violation}", highlight=False, markup=False)


def _table(heading: str, *columns: str) -> Table:
    made = Table(title=heading, title_justify="left", title_style="bold")
    made.add_column("")
    for column in columns:
        made.add_column(column, justify="right")
    return made


def _counts(outcome: Outcome) -> Table:
    made = _table("What came about", "times")
    for name, count in sorted(outcome.counts.items()):
        made.add_row(name, f"{count:,}")
    made.add_row("seconds until healed, at most", f"{max(outcome.healed_s, default=0.0):.1f}")
    return made


def _faults(outcome: Outcome) -> Table:
    made = _table("Faults that struck, three at a time", "befalls", "times")
    for name in FAULTS:
        made.add_row(name, GROUPS[name], f"{outcome.faults[name]:,}")
    return made


def _trends(outcome: Outcome) -> Table:
    made = _table("Who was never killed, by quarters", "1st", "2nd", "3rd", "last", "at most")
    for trend in outcome.trends:
        values = (*trend.quarters, trend.most)
        if trend.figure == "memory":
            made.add_row(f"memory of {trend.process}, MiB", *(f"{value / _MIB:.1f}" for value in values))
        else:
            made.add_row(f"{trend.figure} of {trend.process}", *(f"{value:.0f}" for value in values))
    return made
