"""Kills, crash points, faults and records compared, as the tests noted them: a table, also in ``docs/faults.md``.

python -m tests.faults.figures var/faults.jsonl            (print it)
python -m tests.faults.figures var/faults.jsonl --write    (and write it into the page; make test-faults does)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- from here on make test-faults writes it -->\n", "<!-- up to here -->\n"
_HEADINGS = ("runs", "kills", "crash points", "other faults", "records compared", "inconsistencies")


@dataclass
class Sum:
    """Of all runs of one test. A run that found something not to be as promised is one inconsistency."""

    runs: int = 0
    kills: int = 0
    points: int = 0
    faults: int = 0
    records: int = 0
    inconsistencies: int = 0

    def add(self, line: dict[str, int]) -> None:
        self.runs += 1
        self.inconsistencies += not line["passed"]
        for name in ("kills", "points", "faults", "records"):
            setattr(self, name, getattr(self, name) + line[name])

    @property
    def texts(self) -> list[str]:
        return [f"{getattr(self, field.name):,}" for field in fields(self)]


def sums(lines: Iterable[str]) -> dict[str, Sum]:
    """By test, the total last. Of a test that ran several times, the last run counts."""
    latest = {line["test"]: line for line in map(json.loads, lines)}
    found: dict[str, Sum] = {}
    total = Sum()
    for name, line in sorted(latest.items()):
        found.setdefault(name.partition("[")[0].removeprefix("tests/"), Sum()).add(line)
        total.add(line)
    return found | {"all of them": total}


def as_markdown(found: dict[str, Sum]) -> str:
    header = f"| test | {' | '.join(_HEADINGS)} |\n|---|{'---:|' * len(_HEADINGS)}"
    rows = [
        f"| {f'`{name}`' if '::' in name else name} | {' | '.join(of_test.texts)} |" for name, of_test in found.items()
    ]
    return "\n".join([header, *rows])


def write_page(found: dict[str, Sum], page: Path = PAGE) -> None:
    """Bring the table in the page up to date."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page}: the lines {BEGIN.strip()} and {END.strip()} are not there to write between")
    when = datetime.now(UTC).date().isoformat()
    page.write_text(f"{before}{begin}\nAs of {when}:\n\n{as_markdown(found)}\n\n{end}{after}", encoding="utf-8")


def _show(found: dict[str, Sum]) -> None:
    table = Table(title="What the tests of faults did", title_justify="left")
    table.add_column("test", overflow="fold")
    for heading in ("runs", "kills", "points", "faults", "records", "bad"):  # 80 columns have no room for more
        table.add_column(heading, justify="right", no_wrap=True)
    for name, of_test in found.items():
        table.add_row(name.rpartition("::")[2], *of_test.texts)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.figures", description="Add up what tests of faults noted of themselves."
    )
    parser.add_argument("file", type=Path, help="what TRADETRAIL_TEST_FIGURES named")
    parser.add_argument("--write", action="store_true", help="write the table into docs/faults.md as well")
    given = parser.parse_args()
    try:
        found = sums(given.file.read_text().splitlines())
    except OSError as error:
        sys.exit(f"{given.file}: {error.strerror}: run the tests with TRADETRAIL_TEST_FIGURES={given.file} first")
    if given.write:
        write_page(found)
    _show(found)
    return 1 if found["all of them"].inconsistencies else 0


if __name__ == "__main__":
    sys.exit(main())
