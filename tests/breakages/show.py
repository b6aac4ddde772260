"""The score: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from loader.show import cell, table
from loader.text import count

from .verdict import SEEN, SURVIVED, UNPROVED, Verdict, plain_name

_STYLES = {SEEN: "green", SURVIVED: "red", UNPROVED: "yellow"}


@dataclass(frozen=True, slots=True)
class Score:
    """All of a run. ``tests`` were green without any breakage; ``seconds`` is the time it took, with them."""

    verdicts: tuple[Verdict, ...]
    tests: int
    seconds: float

    @property
    def seen(self) -> int:
        return sum(verdict.result == SEEN for verdict in self.verdicts)

    @property
    def took(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        return f"{minutes} min {seconds} s; before the first, {count(self.tests, 'test')} of theirs ran green"

    def as_json(self) -> dict[str, Any]:
        return {
            "breakages": len(self.verdicts),
            "seen": self.seen,
            "tests": self.tests,
            "seconds": round(self.seconds, 1),
            "verdicts": [
                {
                    "name": verdict.breakage.name,
                    "file": verdict.breakage.file,
                    "result": verdict.result,
                    "seconds": round(verdict.seconds, 1),
                    "test": verdict.test,
                    "says": verdict.says,
                }
                for verdict in self.verdicts
            ],
        }


def as_table(verdicts: Iterable[Verdict]) -> Table:
    """One row a breakage: the name of the test that saw it, in words, or what it would cost users that none did."""
    shown = table(("breakage", "result", "s", "by"), right=("s",), wrapped=("by",))
    for verdict in verdicts:
        seen_by = plain_name(verdict.test).rpartition("::")[2].removeprefix("test_").replace("_", " ")
        by = seen_by if verdict.result == SEEN else verdict.says or f"nothing; {verdict.breakage.costs}"
        result = Text(verdict.result, style=_STYLES[verdict.result])
        shown.add_row(verdict.breakage.name, result, f"{verdict.seconds:.1f}", cell(by))
    return shown
