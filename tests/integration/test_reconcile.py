"""``tradetrail reconcile``: what exchanges say, held against the raw log and against PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog

from ..command import answer, one_line, tradetrail
from ..processes import Command
from ..trail import read

SYMBOL = "MNT/USDT:USDT"
START = 1_763_816_400_000  # 2025-11-22T13:00:00Z
PLACES = {"file", "line", "stream", "seq"}


def said_trade(number: int, **changes: Any) -> dict[str, Any]:
    """A fill as ccxt gives it; ``None`` leaves a key out."""
    entry = {
        "exchange": "bybit",
        "id": f"t{number}",
        "order": f"o{number}",
        "symbol": SYMBOL,
        "timestamp": START + 1000 * number,
        "side": "sell",
        "takerOrMaker": "taker",
        "price": 2.1118,
        "amount": 94.7,
        "fee": {"cost": 0.1, "currency": "USDT"},
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def said_order(number: int, **changes: Any) -> dict[str, Any]:
    entry = {
        "exchange": "bybit",
        "id": f"o{number}",
        "symbol": SYMBOL,
        "timestamp": START + 1000 * number,
        "type": "limit",
        "side": "sell",
        "price": 2.1118,
        "amount": 94.7,
        "filled": 94.7,
        "remaining": 0,
        "status": "closed",
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def had_trade(number: int, **changes: Any) -> dict[str, Any]:
    """The same fill as a bot's own record of it."""
    fields = {
        "exchange": "bybit",
        "symbol": SYMBOL,
        "trade_id": f"t{number}",
        "order_id": f"o{number}",
        "side": "sell",
        "price": 2.1118,
        "executed_qty": 94.7,
        "fee": 0.1,
        "fee_currency": "USDT",
        "executed_at": START + 1000 * number,
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not None}


def had_order(number: int, **changes: Any) -> dict[str, Any]:
    fields = {
        "exchange": "bybit",
        "symbol": SYMBOL,
        "order_id": f"o{number}",
        "type": "LIMIT",
        "side": "sell",
        "price": 2.1118,
        "size": 94.7,
        "filled": 94.7,
        "status": "FILLED",
        "created_at": START + 1000 * number,
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not None}


class Place:
    """A log directory, files of an exchange beside it, and the command over both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "audit"

    def emit(self, *, orders: Iterable[dict[str, Any]] = (), trades: Iterable[dict[str, Any]] = ()) -> str:
        with AuditLog(self.log, service="fox-bot") as audit:
            for fields in orders:
                assert audit.order(**fields)
            for fields in trades:
                assert audit.trade(**fields)
            return audit.stats().stream

    def file(self, *entries: dict[str, Any], name: str = "said.jsonl") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return path

    def reconcile(self, *args: str | Path, code: int = 1) -> Any:
        """Against the log, unless a database is named."""
        source = () if "--dsn" in args else ("--source", "logs")
        return self._answer("reconcile", *source, *args, code=code)

    def load(self, dsn: str, code: int = 0) -> Any:
        return self._answer("load", "--dsn", dsn, code=code)

    def _answer(self, command: str, *args: str | Path, code: int) -> Any:
        done = Command(self.folder, command, "--dir", self.log, *args, "--json")
        assert done.end() == code, done.said()
        return json.loads(done.said())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def ids(findings: list[dict[str, Any]]) -> list[str]:
    return [found.get("trade_id") or found.get("order_id") or "none" for found in findings]


def fields(found: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """By id what is different."""
    return {ids([one])[0]: one["fields"] for one in found["different"]}


def same(found: dict[str, Any]) -> dict[str, Any]:
    """An answer without where it was asked."""
    return {name: value for name, value in found.items() if name != "source"}


# -- findings --


def test_missing_unknown_and_different_are_found_alike_in_log_and_database(place: Place, dsn: str) -> None:
    stream = place.emit(
        orders=[had_order(1), had_order(2, price="2.1119", status="NEW", filled=None), had_order(4)],
        trades=[
            had_trade(1),
            had_trade(2, price="2.1119", side="buy"),
            had_trade(4),
            had_trade(9),  # after the last entry of the file: it may just not have been asked for
            had_trade(4, trade_id="e4", symbol="ETH/USDT"),  # a market that the file is not about
        ],
    )
    file = place.file(*(said_order(n) for n in (1, 2, 3, 5)), *(said_trade(n) for n in (1, 2, 3, 5)))
    found = answer("reconcile", "--dir", place.log, file, cwd=place.folder, code=1)
    assert found["source"] == "logs"
    assert ids(found["missing"]) == ["o3", "o5", "t3", "t5"]
    assert ids(found["unknown"]) == ["o4", "t4"]
    assert fields(found) == {
        "o2": {"price": ["2.1118", "2.1119"], "status": ["FILLED", "NEW"]},
        "t2": {"price": ["2.1118", "2.1119"], "side": ["sell", "buy"]},
    }
    assert found["equal"] == 2
    assert found["not_said"] == {"order": {"filled": 1}}
    assert found["missing"][2] == {
        "kind": "trade",
        "exchange": "bybit",
        "symbol": SYMBOL,
        "trade_id": "t3",
        "order_id": "o3",
        "side": "sell",
        "price": "2.1118",
        "executed_qty": "94.7",
        "executed_at": "2025-11-22T13:00:03.000000Z",
        "file": str(file),
        "line": 7,
    }
    assert {name: found["unknown"][1][name] for name in ("stream", "seq")} == {"stream": stream, "seq": 6}
    assert {name: found["different"][1].get(name) for name in PLACES} == {
        "file": str(file),
        "line": 6,
        "stream": stream,
        "seq": 5,
    }
    place.load(dsn)
    from_database = place.reconcile("--dsn", dsn, file)
    assert from_database["source"] == "db"
    assert same(from_database) == same(found)
    assert same(place.reconcile("--dsn", dsn, "--source", "logs", file)) == same(found)


def test_where_all_is_well_the_exit_code_is_0(place: Place) -> None:
    place.emit(orders=[had_order(1)], trades=[had_trade(1)])
    found = place.reconcile(place.file(said_order(1), said_trade(1)), code=0)
    assert (found["equal"], found["missing"], found["unknown"], found["different"]) == (2, [], [], [])
    done = tradetrail("reconcile", "--dir", place.log, place.folder / "said.jsonl")
    assert done.returncode == 0
    assert "0 missing, 0 unknown, 0 different, 2 equal" in done.stdout


NUMBERS: list[tuple[Any, Any, list[str] | None]] = [
    (2.1118, "2.11180", None),
    ("2.11180000", 2.1118, None),
    (0.1, 0.30000000000000004 - 0.2, None),  # what a float makes of it
    (2.1118, 2.1119, ["2.1118", "2.1119"]),
    (1, 0.5, ["1", "0.5"]),
    (1e-7, "0.0000001", None),
    (0, 0.1, ["0", "0.1"]),
    (-1.5, 1.5, ["-1.5", "1.5"]),
    (123456789012345678, "123456789012345678", None),
]


def test_numbers_are_compared_as_far_as_a_float_holds_them(place: Place) -> None:
    place.emit(trades=[had_trade(n, price=has) for n, (_, has, _) in enumerate(NUMBERS)])
    found = place.reconcile(place.file(*(said_trade(n, price=says) for n, (says, _, _) in enumerate(NUMBERS))))
    assert fields(found) == {f"t{n}": {"price": wanted} for n, (_, _, wanted) in enumerate(NUMBERS) if wanted}
    assert found["equal"] == len([wanted for _, _, wanted in NUMBERS if wanted is None])


def test_tolerance_is_in_ticks_of_the_market(place: Place) -> None:
    """The tick is what the files use for that market: a price of 2 there is 2.0000."""
    place.emit(
        trades=[had_trade(1), had_trade(2, price="2.0002"), had_trade(3, price="2.0003"), had_trade(4, price=2.5)]
    )
    file = place.file(said_trade(1), *(said_trade(n, price=2) for n in (2, 3, 4)))
    assert set(fields(place.reconcile(file))) == {"t2", "t3", "t4"}
    assert set(fields(place.reconcile("--tolerance", "2", file))) == {"t3", "t4"}


def test_what_a_bots_narrow_column_rounded_is_no_difference(place: Place, migrated_existing_dsn: str) -> None:
    place.emit(trades=[had_trade(1, price="2.123456784999"), had_trade(2, price="2.12345679")])
    place.load(migrated_existing_dsn)
    file = place.file(said_trade(1, price="2.123456784999"), said_trade(2, price="2.12345678"))
    found = place.reconcile("--dsn", migrated_existing_dsn, file)
    assert fields(found) == {"t2": {"price": ["2.12345678", "2.12345679"]}}


WORDS: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
    ({"status": "open", "filled": 0}, {"status": "NEW", "filled": 0}, set()),
    ({"status": "open", "filled": 5}, {"status": "PARTIALLY_FILLED", "filled": 5}, set()),
    ({"status": "open", "filled": 5}, {"status": "open", "filled": 5}, set()),
    ({"status": "canceled"}, {"status": "cancelled"}, set()),
    ({"status": "closed"}, {"status": "CANCELED"}, {"status"}),
    ({"type": "stopMarket", "price": None}, {"type": "stop_market", "price": 0}, set()),
    ({"type": "market", "price": 2.0}, {"type": "MARKET", "price": 0}, set()),
    ({"type": "market", "price": 2.0}, {"type": "MARKET", "price": 2.1}, {"price"}),
    ({"side": "buy"}, {"side": "BUY"}, set()),
    ({"fee": {"cost": "-0.2", "currency": "BNB"}}, {"fee": -0.2, "fee_currency": "BNB"}, set()),
    ({"fee": {"cost": "-0.2", "currency": "BNB"}}, {"fee": 0.2, "fee_currency": "USDT"}, {"fee", "fee_currency"}),
    (
        {"fees": [{"cost": 1, "currency": "BNB"}, {"cost": "2.0", "currency": "USDT"}]},
        {"fees": [{"cost": 2, "currency": "USDT"}, {"cost": 1, "currency": "BNB"}]},
        set(),
    ),
    (
        {"fees": [{"cost": 1, "currency": "BNB"}, {"cost": 2, "currency": "USDT"}]},
        {"fee": 1, "fee_currency": "BNB"},
        {"fees"},
    ),
    ({}, {"filled": None, "price": None, "size": None}, set()),
]


def test_words_are_compared_as_emitter_ccxt_writes_them(place: Place) -> None:
    place.emit(orders=[had_order(n, **has) for n, (_, has, _) in enumerate(WORDS)])
    found = place.reconcile(
        place.file(*(said_order(n, remaining=None, **says) for n, (says, _, _) in enumerate(WORDS)))
    )
    wanted = {f"o{n}": different for n, (_, _, different) in enumerate(WORDS) if different}
    assert {id_: set(names) for id_, names in fields(found).items()} == wanted


def test_of_an_order_said_several_times_the_final_state_counts_else_the_newest(place: Place) -> None:
    place.emit(orders=[had_order(1, status="CANCELED"), had_order(2, status="NEW", price=3, filled=None)])
    at = {"lastUpdateTimestamp": START + 5000}
    file = place.file(
        said_order(1, status="open", **at),
        said_order(1, status="canceled"),
        said_order(2, status="open", filled=None, remaining=None, price=3, **at),
        said_order(2, status="open", filled=None, remaining=None),
    )
    assert place.reconcile(file, code=0)["equal"] == 2


def test_markets_are_found_under_the_exchanges_own_names(place: Place, dsn: str) -> None:
    place.emit(
        trades=[had_trade(1, symbol="MNTUSDT", exchange="Bybit"), had_trade(2, symbol="MNTUSDT", exchange="Bybit")]
    )
    file = place.file(*(said_trade(n) for n in (1, 3)))
    found = place.reconcile(file)
    assert (found["equal"], ids(found["missing"]), ids(found["unknown"])) == (1, ["t3"], ["t2"])
    assert found["unknown"][0]["symbol"] == "MNTUSDT"
    place.load(dsn)
    assert same(place.reconcile("--dsn", dsn, file)) == same(found)
    place.reconcile("--backfill", file)  # what is written has the names that the trail has
    records = [record["attributes"] for trail in read(place.log).values() for record in trail.records]
    assert [(record["exchange"], record["symbol"]) for record in records] == [("Bybit", "MNTUSDT")] * 3
    # Which of the two is meant by MNTUSDT nobody knows then.
    spot = place.file(said_trade(1), said_trade(2, symbol="MNT/USDT"), name="both.jsonl")
    assert ids(place.reconcile(spot)["missing"]) == ["t1", "t2"]


def test_orders_without_id_are_found_by_client_order_id(place: Place) -> None:
    place.emit(orders=[had_order(1, order_id=None, client_order_id="c1"), had_order(2, order_id=None)])
    found = place.reconcile(place.file(*(said_order(n, clientOrderId=f"c{n}") for n in (1, 2))))
    assert (found["equal"], ids(found["missing"]), ids(found["unknown"])) == (1, ["o2"], ["none"])


def test_fills_without_id_stand_together_for_those_of_their_order(place: Place) -> None:
    """A bot that logs one fill for the whole order, at the average price."""
    place.emit(
        trades=[
            had_trade(1, trade_id=None, executed_qty=3, price="2.3333"),
            had_trade(2, trade_id=None, executed_qty=3, price="2.4"),
            had_trade(3, trade_id=None, executed_qty=3),
            had_trade(3, trade_id="t31", executed_qty=1),  # with ids and without: the latter do not count
        ]
    )
    parts: list[dict[str, Any]] = [{"amount": 2, "price": 2.5}, {"amount": 1, "price": 2}]
    entries = [said_trade(n, id=f"t{n}{k}", fee=None, **parts[k]) for n in (1, 2) for k in (0, 1)]
    file = place.file(*entries, *(said_trade(3, id=f"t3{k}", amount=k, fee=None) for k in (1, 2)))
    found = place.reconcile(file)
    assert ids(found["missing"]) == ["t32"]
    assert found["unknown"] == []
    assert fields(found) == {"o2": {"average_price": ["2.333333333333", "2.4"]}}
    assert found["equal"] == 3
    assert "fills of order o2, bybit" in " ".join(tradetrail("reconcile", "--dir", place.log, file).stdout.split())


def test_since_and_until_say_from_when_until_when_the_files_are_whole(place: Place) -> None:
    place.emit(trades=[had_trade(n) for n in (1, 2, 6, 8, 9)])
    file = place.file(*(said_trade(n) for n in (3, 5)))
    assert ids(place.reconcile(file)["unknown"]) == []
    found = place.reconcile("--since", "2025-11-22T13:00:02Z", "--until", "2025-11-22T13:00:09", file)
    assert (ids(found["unknown"]), ids(found["missing"])) == (["t2", "t6", "t8"], ["t3", "t5"])
    assert ids(place.reconcile("--since", "2025-11-22T13:00:04Z", file)["missing"]) == ["t5"]
    assert [(c["kind"], c["symbol"], c["entries"], c["first_at"][11:19]) for c in found["covered"]] == [
        ("trade", SYMBOL, 2, "13:00:02")
    ]


def test_what_cannot_be_held_against_anything_is_said(place: Place) -> None:
    place.emit(trades=[had_trade(1)])
    file = place.folder / "said.jsonl"
    lines = [said_trade(1), said_order(1, id=None), said_order(2, symbol=None), said_trade(2, id=None, price=None)]
    lines += [said_trade(3, amount=10**20), said_trade(4, symbol={"id": "MNTUSDT"})]
    file.write_text("not json\n" + "".join(json.dumps(entry) + "\n" for entry in lines))
    found = place.reconcile(file)
    assert (found["unreadable"], found["equal"], found["missing"]) == (6, 1, [])
    assert [(one["line"], one["reason"].partition(":")[0]) for one in found["unreadable_first"]] == [
        (1, "not JSON"),
        (3, "an order without id"),
        (4, "an order without symbol"),
        (5, "a trade without id, price or amount"),
        (6, "executed_qty has more than 20 digits before its point"),
        (7, "a trade without symbol"),
    ]


def test_texts_of_any_sort_stay_what_they_are(place: Place) -> None:
    """In files that are read as CSV on the way, and in SQL."""
    texts = ['A"B,\n\r\t', "q\0z", "\ud800x", "'; DROP TABLE said; --", "\u00e9\U0001f389", "NULL", "%s {symbols}"]
    entries = [said_trade(n, symbol=text, exchange="by'bit", id=text) for n, text in enumerate(texts)]
    place.emit(trades=[had_trade(n, symbol=text, exchange="by'bit", trade_id=text) for n, text in enumerate(texts)])
    assert place.reconcile(place.file(*entries), code=0)["equal"] == len(texts)


def test_people_get_a_bounded_table(place: Place) -> None:
    place.emit(orders=[had_order(1, status="NEW")])
    file = place.file(said_order(1), *(said_trade(n, symbol="MNT/\x1b[31mUSDT") for n in range(30)))
    done = tradetrail("reconcile", "--dir", place.log, file)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    words = " ".join(done.stdout.split())
    assert "10 more; --json lists all" in words
    assert "status: FILLED at the exchange, NEW in the trail" in words
    assert "30 missing, 0 unknown, 1 different, 0 equal" in words
    assert max(map(len, done.stdout.splitlines()[1:])) <= 100  # but for the path of the log


# -- backfill --


def marked(log: Path) -> list[str]:
    """Ids of what was written by a reconcile, in all streams."""
    records = [record for trail in read(log).values() for record in trail.check().records]
    by_reconcile = [record["attributes"] for record in records if record["attributes"].get("source") == "reconcile"]
    return sorted(a.get("trade_id") or a.get("order_id") or a.get("client_order_id") or "none" for a in by_reconcile)


def test_what_is_missing_is_emitted_once_however_often_it_is_run(place: Place, dsn: str) -> None:
    place.emit(orders=[had_order(1)], trades=[had_trade(1)])
    place.load(dsn)
    file = place.file(*(said_order(n) for n in (1, 2)), *(said_trade(n) for n in (1, 2, 3)))
    database = ("--dsn", dsn, "--backfill", file)
    assert place.reconcile(*database)["backfilled"] == {"orders": 1, "trades": 2, "in_log": 0, "incomplete": 0}
    assert marked(place.log) == ["o2", "t2", "t3"]
    # Not loaded yet: missing in the database still, but not written again.
    again = place.reconcile(*database)
    assert (len(again["missing"]), again["backfilled"]["in_log"]) == (3, 3)
    assert place.reconcile("--source", "logs", "--backfill", file, code=0)["equal"] == 5
    assert marked(place.log) == ["o2", "t2", "t3"]
    assert place.load(dsn)["rejected"] == 0
    assert place.reconcile(*database, code=0)["equal"] == 5
    assert len(read(place.log)) == 2  # and no stream is opened where there is nothing to write


def test_a_fill_without_id_is_emitted_once_too(place: Place, dsn: str) -> None:
    """Two alike in every word are two."""
    place.emit(trades=[had_trade(1)])
    alike: dict[str, Any] = {"id": None, "order": None}
    file = place.file(said_trade(1), said_trade(2, **alike), said_trade(2, **alike), said_trade(3, id=None))
    for code in (1, 0):
        place.reconcile("--backfill", file, code=code)
        assert marked(place.log) == ["none", "none", "o3"]
    place.load(dsn)
    assert place.reconcile("--dsn", dsn, "--backfill", file, code=0)["equal"] == 4


def test_what_no_row_could_be_made_of_is_not_emitted(place: Place, dsn: str) -> None:
    place.emit(orders=[had_order(9)])
    file = place.file(
        said_order(1, type=None),
        said_order(2, side=None),
        said_trade(3, side=None),
        said_order(4, amount="?", status="open"),
    )
    for emitted, in_log in ((1, 0), (0, 1)):
        place.load(dsn, code=in_log)  # the second time it rejects what was written: its size is no number
        found = place.reconcile("--dsn", dsn, "--backfill", file)
        assert found["backfilled"] == {"orders": emitted, "trades": 0, "in_log": in_log, "incomplete": 3}
    assert marked(place.log) == ["o4"]


def test_what_a_killed_run_had_written_is_not_written_again(place: Place) -> None:
    place.emit(trades=[had_trade(1)])
    code = (
        "import os, json, sys; from emitter import AuditLog\n"
        "audit = AuditLog(sys.argv[1], service='reconcile', flush_interval_ms=60000)\n"
        "audit.trade(**json.loads(sys.argv[2])); os._exit(9)"
    )
    fields = json.dumps(had_trade(2) | {"source": "reconcile"})
    assert subprocess.run([sys.executable, "-c", code, place.log, fields], check=False).returncode == 9
    place.reconcile("--backfill", place.file(*(said_trade(n) for n in (1, 2))), code=0)
    assert marked(place.log) == ["t2"]


# -- use --


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Missing argument"),
        (["none.jsonl"], "No such file"),
        (["said.jsonl"], "line 1: does not name its exchange; name it with --exchange"),
        (["--source", "both", "said.jsonl"], "logs, db"),
        (["--since", "soon", "said.jsonl"], "--since: 'soon' is no time"),
        (["--until", "late", "said.jsonl"], "--until: 'late' is no time"),
        (["--tolerance", "-1", "said.jsonl"], "--tolerance"),
        (["--source", "logs", "--exchange", "bybit", "said.jsonl"], "there is no such directory"),
        (["--source", "logs", "--backfill", "said.jsonl"], "there is no such directory"),
    ],
)
def test_a_wrong_call_is_one_line(place: Place, args: list[str], words: str) -> None:
    place.file(said_trade(1, exchange=None))
    named = [place.folder / arg if arg.endswith(".jsonl") else arg for arg in args]
    done = Command(place.folder, "reconcile", "--dir", place.log, *named)
    assert done.end() == 2
    (line,) = done.said().splitlines()
    assert line.startswith("tradetrail: ")
    assert words in line


def test_a_database_that_nobody_made_is_not_made_to_be_asked(place: Place) -> None:
    done = tradetrail("reconcile", "--source", "db", place.file(said_trade(1)), cwd=place.folder)
    assert "no database yet" in one_line(done, 2)
    assert not (place.folder / "var").exists()


def test_a_pipe_is_read_once_and_so_not_with_backfill(place: Place) -> None:
    place.emit(trades=[had_trade(1)])
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    said = one_line(tradetrail("reconcile", "--dir", place.log, "--backfill", pipe), 2)
    assert "save it to a file first" in said


def test_a_database_without_tables_or_away_is_one_line(place: Place, empty_dsn: str) -> None:
    file = place.file(said_trade(1))
    assert "tradetrail migrate" in one_line(tradetrail("reconcile", "--dsn", empty_dsn, file, cwd=place.folder), 3)
    away = "postgresql://bot:S3cret@127.0.0.1:1/trading"
    said = one_line(tradetrail("reconcile", "--dsn", away, file, cwd=place.folder), 3)
    assert "S3cret" not in said


def test_empty_files_say_nothing(place: Place) -> None:
    place.emit(trades=[had_trade(1)])
    (place.folder / "said.json").write_text("[]")
    found = place.reconcile(place.folder / "said.json", code=0)
    assert (found["equal"], found["unknown"], found["covered"]) == (0, [], [])


def test_its_help_ends_with_an_example() -> None:
    done = tradetrail("reconcile", "--help")
    assert done.stdout.strip().splitlines()[-1].strip().startswith("Example: tradetrail reconcile ")
    assert max(map(len, done.stdout.splitlines())) <= 80
