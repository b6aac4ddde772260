"""The list of breakages cannot rot: each fits the tree, names tests that are there, and has its row in the docs."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..breakages.breakage import Breakage, Stale
from ..breakages.catalogue import ALL
from ..breakages.copied import Copy
from ..breakages.suite import Suite
from ..breakages.verdict import SEEN, SURVIVED, UNPROVED, Trial
from ..documents import ROOT

BREAKAGE = Breakage(
    name="sum", breaks="a sum is a difference", costs="all of it", file="loader/sums.py",
    seen_by=("test_sums.py::test_sum",), change=" def added(a, b):\n-    return a + b\n+    return a - b\n",
)  # fmt: skip
SUMS = "def added(a, b):\n    return a + b\n\n\ndef taken(a, b):\n    return a - b\n"


def named_in(file: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, functions)}


def test_each_breakage_changes_one_place_of_the_tree_and_leaves_a_program() -> None:
    for breakage in ALL:
        breakage.require_sound(ROOT)
    assert len({breakage.name for breakage in ALL}) == len(ALL) >= 30


def test_each_breakage_names_tests_that_are_there() -> None:
    there: dict[Path, set[str]] = {}
    for breakage in ALL:
        assert breakage.seen_by, breakage.name
        for named in breakage.seen_by:
            file, _, test = named.partition("::")
            path = ROOT / "tests" / file
            if path not in there:
                there[path] = named_in(path)
            assert test in there[path], f"{breakage.name}: {named}"


def test_a_change_that_does_not_fit_once_is_said() -> None:
    assert BREAKAGE.broken(SUMS) == SUMS.replace("a + b", "a - b")
    for text in ("", SUMS + SUMS):
        with pytest.raises(Stale, match=r"sum: in loader/sums\.py its old text stands [02] times, not once: def added"):
            BREAKAGE.broken(text)


# -- the trial itself, on a tree of three files --


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """Of a small product with a test that sees, and one that does not look."""
    tree = tmp_path / "checkout"
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\n",
        "emitter/__init__.py": "",
        "loader/__init__.py": "",
        "loader/sums.py": SUMS,
        "tests/__init__.py": "",
        "tests/breakages/__init__.py": "",
        "tests/breakages/outcomes.py": (ROOT / "tests/breakages/outcomes.py").read_text(),
        "tests/test_sums.py": (
            "def test_sum():\n    from loader.sums import added\n    assert added(1, 1) == 2\n\n\n"
            "def test_blind():\n    from loader import sums\n    assert sums\n\n\n"
            "def test_red():\n    assert False\n"
        ),
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    copy = Copy(tree, tmp_path / "copy")
    assert (copy.folder / "loader/sums.py").read_text() == SUMS
    return Trial(copy, Suite(copy.folder, tmp_path), whole=False)


def changed(**values: object) -> Breakage:
    return Breakage(**{name: getattr(BREAKAGE, name) for name in Breakage.__slots__} | values)  # type: ignore[arg-type]


def test_what_is_seen_what_survives_and_what_proves_nothing(trial: Trial) -> None:
    blind = changed(seen_by=("test_sums.py::test_blind",))
    no_program = changed(change="-    return a + b\n+    return c\n")
    red = changed(seen_by=("test_sums.py::test_red",))
    before = trial.unbroken([BREAKAGE, blind, no_program, red])
    assert [(outcome.test, outcome.outcome) for outcome in before] == [
        ("tests/test_sums.py::test_sum", "passed"),
        ("tests/test_sums.py::test_blind", "passed"),
        ("tests/test_sums.py::test_red", "failed"),
    ]
    found = [trial.of(one) for one in (BREAKAGE, blind, no_program, red)]
    assert [verdict.result for verdict in found] == [SEEN, SURVIVED, UNPROVED, UNPROVED]
    assert found[0].test == "tests/test_sums.py::test_sum"
    assert found[2].says.startswith("it is no program any more: NameError")
    assert found[3].says == "red without it: tests/test_sums.py::test_red"
