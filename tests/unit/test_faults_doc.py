"""``docs/faults.md`` and the tests: each case names the tests that show it, and they name the case."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
CASES = {*(f"E{n}" for n in range(1, 30)), *(f"F{n}" for n in range(1, 24)),
         *(f"L{n}" for n in range(1, 27)), *(f"X{n}" for n in range(1, 5))}  # fmt: skip

_ROW = re.compile(r"^\| (?P<case>[EFLX]\d+) \| (?P<fault>[^|]+) \| (?P<promise>[^|]+) \| (?P<tests>[^|]+) \|$", re.M)
_TEST = re.compile(r"`(?P<file>[\w/]+\.py)::(?P<name>test_\w+)` \((?P<tier>quick|long|quick, long)(?P<root>, root)?\)")
_NOT_TRIED = re.compile(r"^- (?P<case>[EFLX]\d+): .+", re.M)
_IDS = re.compile(r"(?P<ids>[EFLX]\d+(?:, [EFLX]\d+)*): ")


@dataclass(frozen=True)
class Shown:
    """A case, and a test that shows it. ``tier`` as ``make test`` and ``make test-faults`` choose."""

    case: str
    file: str
    name: str
    tier: str


def in_page() -> Iterator[Shown]:
    for row in _ROW.finditer(PAGE.read_text()):
        named = list(_TEST.finditer(row["tests"]))
        assert named, f"{row['case']} names no test"
        assert _TEST.sub("", row["tests"]).replace(",", "").strip() == "", row["tests"]
        for test in named:
            yield Shown(row["case"], test["file"], test["name"], test["tier"])


def in_tests() -> Iterator[Shown]:
    for path in sorted((ROOT / "tests").glob("*/test_*.py")):
        tree = ast.parse(path.read_text())
        all_long = any("pytest.mark.long" in ast.unparse(node) for node in tree.body if _is_mark(node))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            if found := _IDS.match(ast.get_docstring(node) or ""):
                file = str(path.relative_to(ROOT / "tests"))
                tier = "long" if all_long else _tier([ast.unparse(mark) for mark in node.decorator_list])
                for case in found["ids"].split(", "):
                    yield Shown(case, file, node.name, tier)


def _is_mark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"


def _tier(marks: list[str]) -> str:
    if "pytest.mark.long" in marks:
        return "long"
    both = any("pytest.mark.long" in mark or "tiers(" in mark for mark in marks)
    return "quick, long" if both else "quick"


def test_the_page_names_the_tests_that_show_each_case_and_they_name_the_case() -> None:
    page, tests = set(in_page()), set(in_tests())
    assert page - tests == set(), "in the page, and not so in the tests"
    assert tests - page == set(), "in the tests, and not so in the page"


def test_each_case_is_shown_or_said_not_to_be() -> None:
    shown = [row["case"] for row in _ROW.finditer(PAGE.read_text())]
    not_tried = [line["case"] for line in _NOT_TRIED.finditer(PAGE.read_text())]
    assert sorted([*shown, *not_tried]) == sorted(CASES)
