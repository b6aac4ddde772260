"""README and docs are followed from their tops: what they show works, and does what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import structlog
import yaml

from loader.errors import UsageError

from ..ccxt_exchange import Exchange
from ..documents import PAGES, README, Block, Page
from ..reader import Reader
from ..trail import only, read

SYMBOL = "MNT/USDT:USDT"


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's bot writes: pages that ask a log find it there."""
    folder = tmp_path_factory.mktemp("trail")
    subprocess.run([sys.executable, "-c", *README.code("python")], cwd=folder, check=True, timeout=60)
    return folder / "var/audit"


@pytest.fixture
def follow(
    tmp_path: Path, dsn: str, trail: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Page], Reader]]:
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith(("TRADETRAIL_", "OTEL_")):
            monkeypatch.delenv(variable)

    def work(page: Page) -> Reader:
        reader = Reader(tmp_path, dsn, GIVEN.get(page.path.stem, {}))
        if page.path.stem in ASKING:
            shutil.copytree(trail, reader.log)
        reader.follow(page.blocks)
        return reader

    yield work
    structlog.reset_defaults()


def filled(order_id: str, side: str, price: float) -> dict[str, Any]:
    """An order as ccxt tells of it."""
    return {
        "id": order_id, "symbol": SYMBOL, "type": "market", "side": side, "amount": 94.7, "filled": 94.7,
        "remaining": 0, "average": price, "price": price, "status": "closed", "fee": {"cost": 0.1, "currency": "USDT"},
    }  # fmt: skip


async def place_stop(repository: Any) -> None:
    await repository.create_order({"exchange": "bybit", "symbol": SYMBOL, "order_id": "3002", "type": "STOP_MARKET"})


# What a page takes as given: names that its bot would have, and whether there is a log to be asked.
GIVEN: dict[str, dict[str, Any]] = {
    "ccxt": {"exchange": Exchange()},
    "emitting": {
        "entry": filled("2001", "buy", 2.1118),
        "answer": {"id": "2002"},
        "leave": filled("2003", "sell", 2.2),
        "old_repository": object(),
        "order": {"exchange": "bybit", "symbol": SYMBOL, "order_id": "3001", "type": "MARKET", "side": "buy"},
        "place_stop": place_stop,
    },
}
ASKING = {"archiving", "loading", "metrics", "opentelemetry", "operating", "proving", "querying", "report", "rules"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.stem)
def test_what_a_page_shows_works(page: Page, follow: Callable[[Page], Reader]) -> None:
    reader = follow(page)
    CHECKS.get(page.path.stem, lambda _: None)(reader)


def events(reader: Reader) -> list[tuple[str, object]]:
    records = only(reader.log).check().records
    return [(record["event_name"], record["attributes"].get("order_id")) for record in records]


def readme(reader: Reader) -> None:
    assert events(reader) == [
        ("order.created", "1001"),
        ("trade.executed", "1001"),
        ("order.created", "1002"),
        ("order.updated", "1002"),
        ("trade.executed", "1002"),
        ("position.closed", None),
    ]
    bound = {"position_id": 55, "signal_id": 4711, "exchange": "bybit", "symbol": SYMBOL}
    assert all(record["attributes"].items() >= bound.items() for record in only(reader.log).records)
    for words in ("6 new records", "189.4", "3.4175 USDT", "complete, unchanged, consistent; logs and database agree"):
        assert words in reader.said
    (bot,) = README.code("python")
    assert len([line for line in bot.splitlines() if line]) == 10


def emitting(reader: Reader) -> None:
    assert events(reader) == [
        ("order.created", "1001"),
        ("trade.executed", "1001"),
        ("order.updated", "1001"),
        ("bot.paused", None),
        ("order.failed", None),
        ("order.created", "1002"),
        ("position.planned", None),
        ("order.updated", "1002"),
        ("position.closed", None),
        ("order.created", "2001"),
        ("trade.executed", "2001"),
        ("order.created", "2002"),
        ("order.updated", "2002"),
        ("order.created", "2003"),
        ("trade.executed", "2003"),
        ("order.updated", "2002"),
        ("position.closed", None),
        ("order.created", "3001"),
        ("order.created", "3002"),
    ]
    records = only(reader.log).records
    assert [record["attributes"].get("position_id") for record in records[4:8]] == [None, 56, 57, None]
    assert [record["attributes"]["position_id"] for record in records[-2:]] == [55, 55]
    assert "no answer" in records[4]["attributes"]["error_message"]


def loading(reader: Reader) -> None:
    assert "6 new records" in reader.said
    assert re.search(r'"records": ?0\b', reader.said)


def orders(reader: Reader) -> None:
    assert reader.answers == 3


def proving(reader: Reader) -> None:
    assert reader.said.count("complete, unchanged, consistent") >= 4
    (sealed,) = (reader.folder / "var/sealed").glob("*.jsonl")
    assert '"hmac":"' in sealed.read_text()


def querying(reader: Reader) -> None:
    assert duckdb.execute(f"SELECT count(*) FROM '{reader.folder}/fills.parquet'").fetchall() == [(2,)]
    assert len((reader.folder / "orders.csv").read_text().splitlines()) == 3
    assert reader.said.endswith('[{"n": 6}]\n')


def ccxt(reader: Reader) -> None:
    records = only(reader.log).check().records
    told = [(r["event_name"], r["attributes"].get("order_id"), r["attributes"].get("status")) for r in records]
    assert told == [
        ("order.created", "A-1", "NEW"),
        ("order.updated", "A-1", "CANCELED"),
        ("order.created", "A-2", "NEW"),
        ("order.updated", "A-2", "PARTIALLY_FILLED"),
        ("trade.executed", "A-2", None),
        ("trade.executed", "A-2", None),
        ("order.updated", "A-2", None),
    ]
    fields = [record["attributes"] for record in records]
    assert all(one["position_id"] == 55 and one["exchange"] == "bybit" and one["symbol"] for one in fields)
    assert fields[0]["asked"] == ["type", "side", "size", "price", "status"]
    assert (fields[1]["replaced_by"], fields[2]["replaces"], fields[2]["price"]) == ("A-2", "A-1", 140.9)
    assert fields[3]["derived"] == ["remaining"]
    assert {one["trade_id"] for one in fields[4:6]} == {"T-1"}
    assert fields[6]["reason"] == "signal is gone"


def opentelemetry(reader: Reader) -> None:
    assert (reader.folder / "trail.jsonl").read_text().count('"log.record.uid"') == 6
    trails = read(reader.log).values()
    (records,) = (found.check().records for found in trails if len(found.records) == 2)
    order, closed = (record["attributes"] for record in records)
    assert (order["order_id"], order["otel.scope.name"]) == ("7", "fox-bot")
    assert closed == {"position_id": 55, "body": "take profit", "otel.scope.name": "fox-bot"}


def report(reader: Reader) -> None:
    assert "<html" in (reader.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("sh", "false; true\n"),
        ("sh", "tradetrail lode\n"),
        ("python", "assert False\n"),
        ("sql", "SELECT nothing FROM orders\n"),
        ("json", '{"seq": 1}\n{]\n'),
        ("yaml", "key: [\n"),
        ("text", "n | m\n3 | 2\n"),
        ("cobol", "STOP RUN.\n"),
    ],
)
def test_what_is_wrong_in_a_page_is_found(tmp_path: Path, trail: Path, language: str, code: str) -> None:
    reader = Reader(tmp_path, "", {})
    shutil.copytree(trail, reader.log)
    asked = Block("page.md:1", "sql", "SELECT count(*) AS n, 2 AS m FROM orders\n", "")
    reader.follow([asked, Block("page.md:5", "text", "n | m\n2 | 2\n", "")])
    assert reader.answers == 1
    with pytest.raises((AssertionError, ValueError, UsageError, yaml.YAMLError)):
        Reader(tmp_path, "", {}).follow([asked, Block("page.md:9", language, code, "")])


CHECKS: dict[str, Callable[[Reader], None]] = {
    "README": readme,
    "ccxt": ccxt,
    "emitting": emitting,
    "loading": loading,
    "opentelemetry": opentelemetry,
    "orders": orders,
    "proving": proving,
    "querying": querying,
    "report": report,
}
