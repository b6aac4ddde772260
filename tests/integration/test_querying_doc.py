"""``docs/querying.md``: its questions, asked by ``tradetrail query`` and by duckdb itself, have known answers."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from loader.query import RawLog
from tests.command import SCRIPT, environment
from tests.documents import ROOT, Page
from tests.lines import OTHER_STREAM, STREAM, line, order, segment, trade, update

PAGE = Page("docs/querying.md")
CLIENT, *SQL = PAGE.code("sql")
QUESTIONS = {int(number): sql for number, sql in zip(re.findall(r"^### (\d+)\. ", PAGE.text, re.M), SQL, strict=True)}
BTC = {"symbol": "BTC/USDT:USDT", "position_id": "7"}
ETH = {"symbol": "ETH/USDT:USDT", "position_id": "8"}


def at(seq: int, clock: str, event_name: str, attributes: dict[str, Any], *, stream: str = STREAM) -> bytes:
    return line(seq, event_name, attributes, stream=stream, timestamp=f"2026-{clock}Z")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two positions, both closed at a loss; an order that waits, three that were refused; numbers that are missing."""
    directory = tmp_path_factory.mktemp("asked") / "var/audit"
    directory.parent.mkdir()
    entry = {"order_id": "1001", "side": "buy", "trade_id": "t1", "price": 20000, "executed_qty": 0.5}
    fees = [{"currency": "USDT", "cost": 1}, {"currency": "BNB", "cost": "0.002"}]
    first = [
        at(1, "10-31T23:59:50", "order.created", order(**BTC, order_id="1001", type="LIMIT", side="buy", price=19990)),
        at(2, "10-31T23:59:52", "trade.executed", trade(**BTC, **entry, fee={"currency": "USDT", "cost": "2.5"})),
        at(
            3,
            "10-31T23:59:53",
            "order.created",
            order(**BTC, order_id="1002", type="STOP_MARKET", price=19000, status="NEW"),
        ),
        at(4, "10-31T23:59:57", "bot.moved", {"reason": "new bar"}),
        at(5, "11-01T00:10:00", "order.updated", update(**BTC, order_id="1002", status="FILLED")),
        at(
            6,
            "11-01T00:10:00.5",
            "trade.executed",
            trade(**BTC, order_id="1002", trade_id="t2", price=18981, executed_qty=0.5, fees=fees),
        ),
        at(7, "11-01T00:10:04", "position.closed", {"reason": "stop"}),
        at(8, "11-01T00:10:06", "bot.slept", {}),
    ]
    at_other = partial(at, stream=OTHER_STREAM)
    second = [
        at_other(1, "11-02T12:00:00", "order.created", order(**ETH, order_id="2001", type="LIMIT", price=3000)),
        at_other(
            2,
            "11-02T12:00:00.25",
            "trade.executed",
            trade(**ETH, order_id="2001", trade_id="t3", price=3003, executed_qty=1),
        ),
        at_other(
            3,
            "11-02T13:00:00",
            "trade.executed",
            trade(**ETH, order_id="9", trade_id="t4", side="buy", price=3053, executed_qty=1),
        ),
        at_other(
            6, "11-02T14:00:00", "order.created", order(**ETH, order_id="2002", type="LIMIT", price=2900, status="NEW")
        ),
        at_other(
            7, "11-02T14:00:01", "order.created", order(**ETH, order_id="2003", status="REJECTED", reason="no margin")
        ),
        at_other(8, "11-02T14:00:02", "order.created", order(**ETH, order_id="2004", type="LIMIT", status="NEW")),
        at_other(
            9, "11-02T14:00:03", "order.updated", update(**ETH, order_id="2004", status="rejected", reason="no margin")
        ),
        at_other(12, "11-02T14:00:04", "order.created", order(**ETH, order_id=None, status="REJECTED")),
    ]
    segment(directory, first)
    segment(directory, second, stream=OTHER_STREAM)
    return directory


ANSWERS: dict[int, list[dict[str, Any]]] = {
    1: [
        {"day": "2026-10-31", "fills": 1, "turnover": 10000.0},
        {"day": "2026-11-01", "fills": 1, "turnover": 9490.5},
        {"day": "2026-11-02", "fills": 2, "turnover": 6056.0},
    ],
    2: [
        {"month": "2026-10", "currency": "USDT", "fees": "2.500000000000000000", "times": 1},
        {"month": "2026-11", "currency": "BNB", "fees": "0.002000000000000000", "times": 1},
        {"month": "2026-11", "currency": "USDT", "fees": "1.000000000000000000", "times": 1},
    ],
    3: [{"order_id": "2002", "type": "LIMIT", "status": "NEW", "filled": None}],
    4: [
        {"symbol": "BTC/USDT:USDT", "type": "STOP_MARKET", "fills": 1, "average_bp": 10.0, "worst_bp": 10.0},
        {"symbol": "BTC/USDT:USDT", "type": "LIMIT", "fills": 1, "average_bp": 5.0, "worst_bp": 5.0},
        {"symbol": "ETH/USDT:USDT", "type": "LIMIT", "fills": 1, "average_bp": -10.0, "worst_bp": -10.0},
    ],
    5: [
        {"symbol": "BTC/USDT:USDT", "type": "LIMIT", "orders": 1, "median_ms": 2000.0, "longest_ms": 2000},
        {"symbol": "BTC/USDT:USDT", "type": "STOP_MARKET", "orders": 1, "median_ms": 607500.0, "longest_ms": 607500},
        {"symbol": "ETH/USDT:USDT", "type": "LIMIT", "orders": 1, "median_ms": 250.0, "longest_ms": 250},
    ],
    6: [
        {"exchange": "bybit", "reason": "no margin", "orders": 2, "last": "2026-11-02 14:00:03+00"},
        {"exchange": "bybit", "reason": "not said", "orders": 1, "last": "2026-11-02 14:00:04+00"},
    ],
    7: [{"position_id": "7", "order_id": "1002", "status": "FILLED", "entry": 20000.0, "percent": 5.0}],
    8: [
        {"event_name": "order.created", "order_id": "1001", "says": "FILLED"},
        {"event_name": "trade.executed", "order_id": "1001", "says": None},
        {"event_name": "order.created", "order_id": "1002", "says": "NEW"},
        {"event_name": "bot.moved", "order_id": None, "says": "new bar"},
        {"event_name": "order.updated", "order_id": "1002", "says": "FILLED"},
        {"event_name": "trade.executed", "order_id": "1002", "says": None},
        {"event_name": "position.closed", "order_id": None, "says": "stop"},
    ],
    9: [
        {"symbol": "BTC/USDT:USDT", "quote": "USDT", "trips": 1, "losses": 1, "net": "-513.000000000000000000"},
        {"symbol": "ETH/USDT:USDT", "quote": "USDT", "trips": 1, "losses": 1, "net": "-50.000000000000000000"},
    ],
    10: [
        {"stream": OTHER_STREAM, "first_missing": 4, "last_missing": 5, "missing": 2},
        {"stream": OTHER_STREAM, "first_missing": 10, "last_missing": 11, "missing": 2},
    ],
}


def test_there_are_ten_questions_and_each_has_its_answer() -> None:
    assert sorted(QUESTIONS) == sorted(ANSWERS) == list(range(1, 11))


@pytest.fixture(scope="module")
def client(log: Path) -> duckdb.DuckDBPyConnection:
    """A session of duckdb as the page has it: its block is run from the folder above the log, ``.read`` by hand."""
    set_folder, read, ask = CLIENT.splitlines()
    assert read == ".read sql/views/raw.sql"
    duck = duckdb.connect()
    duck.execute(set_folder.replace("'var/audit'", f"'{log}'"))
    duck.execute((ROOT / read.removeprefix(".read ")).read_text())
    assert duck.sql(ask).count("*").fetchall() == [(7,)]
    return duck


@pytest.mark.parametrize("number", sorted(ANSWERS))
def test_a_question_has_its_answer_either_way(log: Path, client: duckdb.DuckDBPyConnection, number: int) -> None:
    # Each ends with an order, which is that of the rows still when their columns are made text.
    sql = f"SELECT columns(*)::VARCHAR FROM (\n{QUESTIONS[number].rstrip().rstrip(';')}\n)"
    done = client.execute(sql)
    names = [column[0] for column in done.description]
    rows = done.fetchall()
    with RawLog(log) as raw:
        assert list(raw.query(sql).rows) == rows
        assert len(list(raw.query(QUESTIONS[number], ordered=True).rows)) == len(rows)
    expected = [{name: None if value is None else str(value) for name, value in row.items()} for row in ANSWERS[number]]
    found = [dict(zip(names, row, strict=True)) for row in rows]
    assert [{name: row[name] for name in wanted} for row, wanted in zip(found, expected, strict=True)] == expected


def test_the_script_for_another_client_is_made_as_the_page_says(log: Path) -> None:
    (words,) = re.findall(r"`(tradetrail query [^`]*--script > raw\.sql)`", PAGE.text)
    command, to = words.split(" > ")
    args = shlex.split(command)[1:]
    done = subprocess.run(
        [SCRIPT, *args], cwd=log.parents[1], env=environment(), capture_output=True, text=True, check=True
    )
    duck = duckdb.connect()
    duck.execute(done.stdout)
    assert to == "raw.sql"
    assert duck.execute("SELECT count(*) FROM trades").fetchall() == [(4,)]
