"""A plugin of pytest: what became of each test, a JSON object a line, for the process that broke the product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

import pytest

import emitter
import loader


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, help="where to note what became of each test")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test anything but the packages of this folder."""
    for package in (emitter, loader):
        where = Path(str(package.__file__)).parents[1]
        if where != config.rootpath:
            raise pytest.UsageError(f"{package.__name__} comes from {where}, not from {config.rootpath}")
    config.pluginmanager.register(_Outcomes(config.getoption("--outcomes").open("w")))


class _Outcomes:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(report.nodeid, "uncollected", report.longrepr)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._note(report.nodeid, report.outcome, report.longrepr)

    def _note(self, test: str, outcome: str, why: Any) -> None:
        crash = getattr(why, "reprcrash", None)
        says = crash.message if crash is not None else str(why or "")
        self._file.write(json.dumps({"test": test, "outcome": outcome, "says": says}) + "\n")
        self._file.flush()
