"""What a test of faults did and held: noted, where ``TRADETRAIL_TEST_FIGURES`` names a file, for ``docs/faults.md``.

One line of JSON a test that has something to tell, appended when it is over: several processes may write at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest


@dataclass
class Figures:
    """``kills`` of processes by SIGKILL, system calls struck (``points``), other ``faults``, ``records`` compared."""

    kills: int = 0
    points: int = 0
    faults: int = 0
    records: int = 0

    def add(self, *, kills: int = 0, points: int = 0, faults: int = 0, records: int = 0) -> None:
        self.kills += kills
        self.points += points
        self.faults += faults
        self.records += records


_KEPT = pytest.StashKey[Figures]()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """To be added to by the test."""
    made = request.node.stash[_KEPT] = Figures()
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    figures, path = item.stash.get(_KEPT, None), os.environ.get("TRADETRAIL_TEST_FIGURES")
    if figures is None or not path or report.when != "call" or report.skipped:
        return report
    line = {"test": item.nodeid, "passed": report.passed, "seconds": round(report.duration, 1), **asdict(figures)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")
    return report
