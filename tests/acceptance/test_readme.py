"""The README is held to what is there: its code runs, its tables are whole, its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from emitter.settings import ENVIRONMENT, LOADER_VARIABLES, EmitterSettings
from tests.trail import only

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def rows(header: str) -> list[list[str]]:
    """The cells of the table with this first line."""
    lines = README.partition(f"{header}\n")[2].splitlines()
    table = lines[1 : next(n for n, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_bot_in_the_readme_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line]) == 10
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    trail = only(tmp_path / "var/audit").check()
    assert trail.seqs == [1, 2, 3, 4, 5, 6]
    assert [record["event_name"] for record in trail.records] == [
        "order.created",
        "trade.executed",
        "order.created",
        "order.updated",
        "order.updated",
        "position.closed",
    ]
    for record in trail.records:
        bound = {"position_id": 55, "signal_id": 4711, "exchange": "bybit", "symbol": "MNT/USDT:USDT"}
        assert record["attributes"].items() >= bound.items()
    order = trail.records[0]["attributes"]
    assert (order["order_id"], order["status"], order["size"], order["price"]) == ("1001", "FILLED", 94.7, 2.1118)
    fill = trail.records[1]["attributes"]
    assert (fill["trade_id"], fill["executed_qty"], fill["fee"], fill["fee_currency"]) == ("9001", 94.7, 0.1, "USDT")


def test_the_settings_table_is_that_of_the_code() -> None:
    table = {row[0].strip("`"): row for row in rows("| variable | argument | default | meaning |")}
    assert set(table) == set(ENVIRONMENT) | LOADER_VARIABLES
    for variable, (setting, _) in ENVIRONMENT.items():
        assert table[variable][1] == f"`{setting}`"
    plain = EmitterSettings()
    for variable, row in table.items():
        if variable in ENVIRONMENT and row[2] not in ("", "none"):
            assert row[2] == f"`{getattr(plain, ENVIRONMENT[variable][0])}`", variable


def test_every_make_target_named_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= named <= there


def test_every_command_named_exists_and_every_command_is_named() -> None:
    named = set(re.findall(r"\btradetrail ([a-z]+)", "\n".join(blocks("sh")))) | {
        word for row in rows("| command | what it does |") for word in re.findall(r"`tradetrail ([a-z]+)`", row[0])
    }
    told = subprocess.run(
        [sys.executable, "-m", "loader", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"NO_COLOR": "1", "COLUMNS": "200"},
    )
    there = set(re.findall(r"^\W*([a-z]+)  +\w", told.stdout, re.MULTILINE))
    assert named == there
