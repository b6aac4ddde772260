"""Texts of the log reach terminals, tables, pages, CSV and PostgreSQL as data and as nothing else."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.command import answer, tradetrail
from tests.hostile import EVIL, hostile_log

from .test_load import rows, take
from .test_terminal import on_terminal


@pytest.fixture
def log(tmp_path: Path) -> Path:
    hostile_log(tmp_path / "audit")
    return tmp_path / "audit"


async def test_every_text_is_in_postgresql_as_it_was_given(dsn: str, log: Path) -> None:
    totals = await take(dsn, log)
    assert (totals.orders, totals.trades, totals.order_updates, totals.events, totals.rejected) == (1, 2, 1, 1, 2)
    (order,) = await rows(dsn, "SELECT * FROM monitoring.orders")
    for name in ("exchange", "symbol", "order_id", "client_order_id", "type", "side", "status", "position_id"):
        assert order[name] == EVIL, name
    (event,) = await rows(dsn, "SELECT * FROM monitoring.events")
    for name in ("event_type", "exchange", "symbol", "correlation_id", "error_message", "stack_trace"):
        assert event[name] == EVIL, name
    assert event["event_data"][EVIL] == EVIL
    (segment,) = await rows(dsn, "SELECT service FROM monitoring.audit_segments")
    assert segment["service"] == EVIL


SHOWN = [
    ["status"],
    ["validate"],
    ["verify"],
    ["rejects", "list"],
    ["metrics", "--by", "symbol"],
    ["metrics", "--by", "symbol", "--source", "logs"],
    ["query", "SELECT * FROM orders"],
    ["query", "SELECT symbol, error_message FROM events"],
    ["live", "--once"],
    ["status", "--json"],
    ["verify", "--json"],
    ["metrics", "--by", "symbol", "--json"],
    ["rejects", "list", "--json"],
    ["rejects", "export"],
    ["validate", "--json"],
    ["query", "--json", "FROM events"],
    ["query", "--format", "jsonl", "FROM trades"],
]


async def test_nothing_that_is_shown_can_drive_a_terminal(dsn: str, log: Path, tmp_path: Path) -> None:
    await take(dsn, log)
    for args in SHOWN:
        needs_no_database = args[0] in ("query", "validate") or "logs" in args
        said = tradetrail(*args, "--dir", log, *([] if needs_no_database else ["--dsn", dsn]), cwd=tmp_path)
        assert said.returncode in (0, 1), said
        assert "Traceback" not in said.stderr
        for text in (said.stdout, said.stderr):
            assert text.replace("\n", "").isprintable(), (args, [s for s in text if not s.isprintable()][:5])


@pytest.mark.parametrize(
    "args", [["query", "--csv", "SELECT symbol FROM orders"], ["metrics", "--by", "symbol", "--csv"]]
)
def test_csv_is_exact_in_a_file_and_harmless_on_a_terminal(log: Path, tmp_path: Path, args: list[str]) -> None:
    written = tradetrail(*args, "--dir", log, cwd=tmp_path).stdout
    assert EVIL.replace("\r\n", "\n") in [row[0] for row in csv.reader(io.StringIO(written))]  # text=True made it so
    shown = on_terminal(*args, "--dir", log, cwd=tmp_path, TERM="dumb")  # which draws nothing itself
    assert "\\x1b]0;title\\x07" in shown
    assert shown.replace("\r\n", "").isprintable()


def test_json_is_the_same_value_as_before(log: Path, tmp_path: Path) -> None:
    assert [row["symbol"] for row in answer("query", "--dir", log, "SELECT symbol FROM orders")] == [EVIL]
    (row,) = answer("query", "--dir", log, "SELECT attributes FROM events")
    assert row["attributes"][EVIL] == EVIL


async def test_an_exported_reject_is_the_line(dsn: str, log: Path, tmp_path: Path) -> None:
    await take(dsn, log)
    tradetrail("rejects", "export", tmp_path / "mend.jsonl", "--dsn", dsn, cwd=tmp_path)
    lines = [json.loads(line)["line"] for line in (tmp_path / "mend.jsonl").read_text().splitlines()]
    assert json.loads(lines[0])["attributes"]["price"] == EVIL
    assert lines[1] == "no json " + EVIL.replace("\n", "")


@pytest.mark.parametrize("given", ["\x1b[31mred", "a\nb", "\u202e"])
def test_an_argument_comes_back_harmless_in_an_error(tmp_path: Path, given: str) -> None:
    for args in (["status", "--dir", given], ["query", "--dir", tmp_path, given], ["metrics", "--by", given]):
        done = tradetrail(*args, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.replace("\n", "").isprintable(), done.stderr
