"""The figures of the fault tests: noted by tests as they end, added up, and written into a page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..faults.figures import BEGIN, END, as_markdown, sums, write_page

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.mark.parametrize("kills", [2, 3])
def test_kills(figures, kills):
    figures.add(kills=kills, records=1000)

def test_not_as_promised(figures):
    figures.add(faults=1)
    assert False

def test_that_cannot_be_run(figures):
    pytest.skip("not here")

def test_that_has_nothing_to_tell():
    pass
"""


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What tests noted that were run in a process of their own."""
    tmp_path = tmp_path_factory.mktemp("noted")
    path, file = tmp_path / "test_some.py", tmp_path / "var" / "figures.jsonl"
    path.write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.plugins.figures", "-c", os.devnull, path]
    environment = {**os.environ, "TRADETRAIL_TEST_FIGURES": str(file), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "1 failed, 3 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    return file.read_text().splitlines()


def test_what_tests_noted_is_added_up_by_test_and_a_red_one_is_an_inconsistency(noted: list[str]) -> None:
    found = sums(noted)
    assert as_markdown(found).splitlines() == [
        "| test | runs | kills | crash points | other faults | records compared | inconsistencies |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| `test_some.py::test_kills` | 2 | 5 | 0 | 0 | 2,000 | 0 |",
        "| `test_some.py::test_not_as_promised` | 1 | 0 | 0 | 1 | 0 | 1 |",
        "| all of them | 3 | 5 | 0 | 1 | 2,000 | 1 |",
    ]
    assert sums([*noted, *noted]) == found, "of a test that ran twice the last run counts"


def test_the_table_is_written_between_its_marks_and_nothing_else_is_changed(noted: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{BEGIN}an older table\n{END}\nAfter.\n")
    write_page(sums(noted), page)
    text = page.read_text()
    assert text.startswith(f"# Before\n{BEGIN}\nAs of 20")
    assert text.endswith(f"| 2,000 | 1 |\n\n{END}\nAfter.\n")
    assert "an older table" not in text
    page.write_text("# No marks\n")
    with pytest.raises(SystemExit, match="are not there to write between"):
        write_page(sums(noted), page)
