"""``tradetrail metrics``: figures of known fills, of others' back-tests, and the same from logs and database."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytest

from emitter import AuditLog
from loader.database import Database
from loader.load import Loader
from loader.metrics import Asked, Metrics, from_database, from_logs
from loader.query import RawLog
from loader.settings import LoadSettings
from loader.show import plain

from ..command import answer, one_line, tradetrail
from ..fills import Fill, log

PEERS = Path(os.environ.get("TRADETRAIL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "metrics"
needs_peers = pytest.mark.skipif(not PEERS.is_dir(), reason="the back-tests of others are not here")

SETS = ["B_futures_short_funding_354", "D_spot_29pairs_2343", "G_draws_2374", "H_allloss_2", "J_openonly_1"]
USDT_FEE = (("USDT", "1"),)


def trail(directory: Path, *fills: Fill) -> Path:
    with AuditLog(directory, service="bot") as audit:
        log(audit, fills)
    return directory


async def load(dsn: str, directory: Path) -> None:
    async with Loader(LoadSettings(directory=directory, dsn=dsn)) as loader:
        assert (await loader.take()).rejected == 0


async def both(dsn: str, directory: Path, asked: Asked | None = None) -> Metrics:
    """The figures, which must be the same from either side."""
    asked = asked or Asked()
    await load(dsn, directory)
    found = from_logs(directory, asked)
    async with await Database.connect(dsn) as database:
        known = await from_database(database, asked)
    assert plain(found.total) == plain(known.total)
    assert plain(list(found.by)) == plain(list(known.by))
    return found


def figures(found: Metrics, *names: str) -> tuple[Any, ...]:
    return tuple(plain(found.total[name]) for name in names)


# -- what is a round trip --


async def test_a_long_and_a_short_with_fees(dsn: str, tmp_path: Path) -> None:
    trail(
        tmp_path,
        Fill(0, "buy", "2", "100", fees=USDT_FEE),
        Fill(60, "sell", "2", "110", fees=USDT_FEE),
        Fill(120, "sell", "1", "110", fees=(("BNB", "0.01"),)),
        Fill(180, "buy", "1", "115"),
    )
    found = await both(dsn, tmp_path)
    assert plain(found.total) == {
        "trades": 2,
        "wins": 1,
        "losses": 1,
        "draws": 0,
        "win_rate": "0.5",
        "gross_pnl": "15",
        "fees": "2",
        "net_pnl": "13",
        "profit_factor": "3.6",
        "average_win": "18",
        "average_loss": "-5",
        "expectancy": "6.5",
        "best": "18",
        "worst": "-5",
        "max_drawdown": "5",
        # Mean 6.5 over the deviation of 18 and -5.
        "sharpe_ratio": "0.399669050235874688",
        "average_duration_seconds": "60",
        "open_quantity": "0",
        "quote": "USDT",
        "fills": 4,
        "fills_without_fee": 1,
        "fills_left_out": 0,
        "estimated": 0,
        "fees_by_currency": {"BNB": "0.01", "USDT": "2"},
    }


@pytest.mark.parametrize(
    ("fills", "trades", "net", "open_quantity"),
    [
        pytest.param([("buy", 1, 100), ("buy", 1, 110), ("sell", 2, 120)], 1, "30", "0", id="scaled entry"),
        pytest.param([("buy", 2, 100), ("sell", 1, 110), ("sell", 1, 120)], 1, "30", "0", id="scaled exit"),
        pytest.param([("buy", 2, 100), ("sell", 1, 110)], 1, "10", "1", id="half closed: FIFO's part counts"),
        pytest.param([("buy", 1, 100), ("buy", 1, 200), ("sell", 1, 150)], 1, "50", "1", id="first in is first out"),
        pytest.param([("buy", 1, 100), ("sell", 3, 110), ("buy", 2, 90)], 2, "50", "0", id="flipped in one fill"),
        pytest.param([("buy", 1, 100), ("sell", "0.999", 110)] * 2, 2, "19.98", "0.002", id="dust stays open"),
        pytest.param([("buy", 2, 9), ("sell", 1, 10), ("buy", 1, 9), ("sell", 2, 10)], 2, "3", "0", id="exits apart"),
        pytest.param([("buy", 1, 0), ("sell", 1, "-37.63")], 1, "-37.63", "0", id="zero and negative prices"),
        pytest.param([("sell", 1, 100)], 0, "0", "1", id="only open"),
    ],
)
@pytest.mark.parametrize("position_id", [None, "55"])
async def test_round_trips(
    dsn: str, tmp_path: Path, fills: list[Any], trades: int, net: str, open_quantity: str, position_id: str | None
) -> None:
    made = [
        Fill(at, side, str(size), str(price), position_id=position_id) for at, (side, size, price) in enumerate(fills)
    ]
    found = await both(dsn, trail(tmp_path, *made))
    # A position is one trip until it is flat, whatever is added in between.
    if position_id and (("sell", "0.999", 110) in fills or fills[2:3] == [("buy", 1, 9)]):
        trades = 1
    assert figures(found, "trades", "net_pnl", "open_quantity") == (trades, net, open_quantity)


async def test_what_earns_nothing_is_a_draw_and_the_equity_curve_begins_at_0(dsn: str, tmp_path: Path) -> None:
    trail(
        tmp_path,
        *(Fill(0, "buy", "1", "100"), Fill(1, "sell", "1", "95")),
        *(Fill(2, "buy", "1", "100"), Fill(3, "sell", "1", "100")),
        *(Fill(4, "buy", "1", "100", fees=USDT_FEE), Fill(5, "sell", "1", "102", fees=USDT_FEE)),
        *(Fill(6, "buy", "1", "100"), Fill(7, "sell", "1", "110")),
    )
    found = await both(dsn, tmp_path)
    assert figures(found, "trades", "wins", "losses", "draws", "win_rate") == (4, 1, 1, 2, "0.25")
    assert figures(found, "net_pnl", "profit_factor", "average_win", "max_drawdown") == ("5", "2", "10", "5")


async def test_positions_are_apart_though_they_overlap(dsn: str, tmp_path: Path) -> None:
    trail(
        tmp_path,
        Fill(0, "buy", "1", "100", position_id="55"),
        Fill(1, "sell", "1", "100", position_id="56"),
        Fill(2, "buy", "1", "90", position_id="56"),
        Fill(3, "sell", "1", "120", position_id="55"),
    )
    found = await both(dsn, tmp_path, Asked(by="side"))
    assert [(plain(g["side"]), plain(g["net_pnl"])) for g in found.by] == [("long", "20"), ("short", "10")]


async def test_a_contract_is_worth_its_size_and_an_inverse_one_is_left_out(dsn: str, tmp_path: Path) -> None:
    trail(
        tmp_path,
        Fill(0, "buy", "5", "100", contract_size="0.01", symbol="BTC/USDT:USDT"),
        Fill(1, "sell", "5", "120", contract_size="0.01", symbol="BTC/USDT:USDT"),
        Fill(2, "buy", "5", "100", symbol="BTC/USD:BTC"),
    )
    found = await both(dsn, tmp_path)
    assert figures(found, "trades", "net_pnl", "open_quantity", "fills_left_out") == (1, "1", "0", 1)


async def test_what_says_nothing_is_left_out_and_counted(dsn: str, tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="bot") as audit:
        fill = {"exchange": "bybit", "symbol": "AB/USDT", "price": 1, "executed_qty": 1}
        audit.trade(**fill, side="long")
        audit.trade(**{**fill, "executed_qty": "NaN"}, side="buy")
        audit.trade(**{**fill, "executed_qty": 0}, side="buy")  # nothing was filled: nothing is left out
        audit.trade(**{**fill, "executed_qty": -1}, side="buy")
        audit.trade(**{**fill, "executed_qty": "1e15"}, side="buy")
        audit.trade(**fill, side="BUY")
        audit.trade(**fill, side="Sell", average_price=3)
    found = await both(dsn, tmp_path)
    assert figures(found, "fills", "fills_left_out", "trades", "net_pnl") == (2, 4, 1, "2")


async def test_fills_without_trade_id_do_not_count_beside_those_that_have_one(dsn: str, tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="bot") as audit:
        fill = {"exchange": "bybit", "symbol": "AB/USDT", "price": 1, "order_id": "o1", "side": "buy"}
        audit.trade(**fill, executed_qty=3)
        audit.trade(**fill, executed_qty=1, trade_id="t1")
        audit.trade(**fill, executed_qty=2, trade_id="t2")
        audit.trade(**fill, executed_qty=2, trade_id="t2")
        audit.trade(**{**fill, "order_id": "o2"}, executed_qty=5)
    found = await both(dsn, tmp_path)
    assert figures(found, "open_quantity", "fills", "fills_left_out") == ("8", 3, 0)


async def test_rows_of_the_bot_are_not_counted(dsn: str, tmp_path: Path) -> None:
    async with await Database.connect(dsn) as database:
        await database.execute(
            "INSERT INTO monitoring.trades (symbol, side, price, executed_qty) VALUES ('X', 'buy', 1, 1)"
        )
    found = await both(dsn, trail(tmp_path, Fill(0, "buy", "1", "1")))
    assert figures(found, "fills", "fills_left_out") == (1, 0)


# -- fees --


async def test_fees_of_every_shape_by_currency_and_with_their_coverage(dsn: str, tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [
        {"fee": 0.5, "fee_currency": "USDT"},
        {"fee": {"cost": "0.25", "currency": "usdt"}},
        {"fee": -0.125, "fee_currency": "USDT"},
        {"fees": [{"cost": 1, "currency": "BNB"}, {"cost": "2", "currency": "USDT"}]},
        {"fees": [{"cost": "0.001", "currency": "A B=C"}]},
        {"fee": 7},
        {"fee": {"cost": None, "currency": "USDT"}},
        {},
        {"fee": {"cost": None, "currency": None}},
    ]
    with AuditLog(tmp_path, service="bot") as audit:
        for n, fee in enumerate([*given, {}]):
            side = "sell" if n % 2 else "buy"
            audit.trade(exchange="x", symbol="AB/USDT", side=side, price=10, executed_qty=1, trade_id=f"t{n}", **fee)
    found = await both(dsn, tmp_path)
    assert plain(found.total["fees_by_currency"]) == {"A B=C": "0.001", "BNB": "1", "USDT": "2.625", "unknown": "7"}
    assert figures(found, "fees", "net_pnl", "fills", "fills_without_fee") == ("2.625", "-2.625", 10, 4)
    said = tradetrail("metrics", "--dir", tmp_path).stdout
    assert "4 of 10 fills have no fee data" in said
    assert "fees without currency are not taken off the profit" in said


async def test_money_in_several_currencies_is_not_added_up(dsn: str, tmp_path: Path) -> None:
    trail(
        tmp_path,
        *(Fill(n, side, "1", price) for n, (side, price) in enumerate([("buy", "1"), ("sell", "2")])),
        *(Fill(n, s, "1", p, symbol="ETH/BTC") for n, (s, p) in enumerate([("buy", "0.05"), ("sell", "0.06")])),
    )
    found = await both(dsn, tmp_path, Asked(by="quote"))
    assert figures(found, "trades", "wins", "net_pnl", "profit_factor", "max_drawdown") == (2, 2, None, None, None)
    assert [(g["quote"], plain(g["net_pnl"])) for g in found.by] == [("BTC", "0.01"), ("USDT", "1")]
    assert "--by quote" in tradetrail("metrics", "--dir", tmp_path).stdout


# -- groups and limits --


async def test_groups_and_limits_go_by_when_a_trip_was_closed(dsn: str, tmp_path: Path) -> None:
    day = 86_400
    fills = [
        Fill(0, "buy", "1", "1", signal_id=7),
        Fill(10, "sell", "1", "2"),
        Fill(20, "buy", "1", "1", signal_id=8),
        Fill(day, "sell", "1", "4", signal_id=9),
        Fill(40 * day, "buy", "3", "1"),
    ]
    trail(tmp_path, *fills)

    async def groups(by: str, **limits: Any) -> list[tuple[Any, ...]]:
        found = await both(dsn, tmp_path, Asked(by=by, **limits))
        return [(g[by], g["trades"], plain(g["net_pnl"]), plain(g["open_quantity"])) for g in found.by]

    opened = Fill(0, "buy", "1", "1")
    first_day, second_day, last_day = "2023-11-14", "2023-11-15", "2023-12-24"
    assert opened.at == 0
    assert await groups("day") == [(first_day, 1, "1", "0"), (second_day, 1, "3", "0"), (last_day, 0, "0", "3")]
    assert await groups("week") == [("2023-11-13", 2, "4", "0"), ("2023-12-18", 0, "0", "3")]
    assert await groups("month") == [("2023-11", 2, "4", "0"), ("2023-12", 0, "0", "3")]
    assert await groups("signal") == [(None, 0, "0", "3"), ("7", 1, "1", "0"), ("8", 1, "3", "0")]
    assert await groups("reason") == [(None, 0, "0", "3"), ("market", 2, "4", "0")]
    assert await groups("exchange") == [("bybit", 2, "4", "3")]
    printed = answer("metrics", "--dir", tmp_path, "--since", "2023-11-15", "--until", "2023-12-01", "--json")
    assert (printed["total"]["trades"], printed["total"]["net_pnl"], printed["by"]) == (1, "3", [])


# -- others' figures --


@needs_peers
@pytest.mark.parametrize("name", SETS)
async def test_back_tests_of_others_come_out_the_same(dsn: str, tmp_path: Path, name: str) -> None:
    funding: dict[str, Decimal] = {}
    with AuditLog(tmp_path, service="peer") as audit:
        for number, row in enumerate(_rows(PEERS / f"{name}.fills.jsonl")):
            price, amount = Decimal(row["price"]), Decimal(row["amount"])
            funding[str(row["trade"])] = Decimal(row["funding_fees_of_trade"])
            audit.trade(
                exchange="peer",
                symbol=row["pair"],
                position_id=row["trade"],
                side=row["side"],
                price=price,
                executed_qty=amount,
                fee={
                    "cost": price * amount * Decimal(row["fee_rate"]),
                    "currency": row["pair"].split("/")[1].split(":")[0],
                },
                trade_id=number,
                executed_at=row["ts"],
            )
    found = (await both(dsn, tmp_path)).total
    peer = json.loads((PEERS / f"{name}.expected.json").read_text())["peer_metrics"]
    if name == "J_openonly_1":  # the peer counts what is open as if it were sold now
        assert (found["trades"], found["open_quantity"], found["max_drawdown"]) == (0, Decimal("0.00434889"), 0)
        return
    with RawLog(tmp_path) as raw:
        trips = list(raw.query("SELECT position_id, net_pnl FROM round_trips ORDER BY closed_at, seq").rows)
    nets = [net + funding[position] for position, net in trips]
    assert abs(sum(nets) - Decimal(repr(peer["profit_total_abs"]))) < Decimal("1e-6")
    judged = [round(net, 8) for net in nets]
    assert sum(net > 0 for net in judged) == peer["wins"]
    assert sum(net < 0 for net in judged) == peer["losses"]
    assert sum(net == 0 for net in judged) == peer["draws"]
    assert found["trades"] == len(nets) == peer["total_trades"]
    if any(funding.values()):
        return  # no fill has it, so that the other figures differ
    assert (found["wins"], found["losses"], found["draws"]) == (peer["wins"], peer["losses"], peer["draws"])
    assert float(found["profit_factor"]) == pytest.approx(peer["profit_factor"], abs=1e-6)
    assert float(found["max_drawdown"]) == pytest.approx(peer["max_drawdown_abs"], abs=1e-6)


@needs_peers
async def test_each_trade_of_a_live_account_comes_out_the_same(dsn: str, tmp_path: Path) -> None:
    closed = {}
    with AuditLog(tmp_path, service="peer") as audit:
        for row in _rows(PEERS / "M_live_binance_spot_47.trades.jsonl"):
            fill = {"exchange": row["exchange"], "symbol": row["pair"], "position_id": row["id"]}
            amount = Decimal(repr(row["amount"]))
            for side, name in (("buy", "open"), ("sell", "close")):
                if row[f"{name}_rate"] is None:
                    continue
                price, rate = Decimal(repr(row[f"{name}_rate"])), Decimal(repr(row[f"fee_{name}"]))
                fee = {"cost": price * amount * rate, "currency": "USDT"}
                at = row[f"{name}_date"] + "Z"
                audit.trade(**fill, side=side, price=price, executed_qty=amount, fee=fee, executed_at=at, timestamp=at)
            if not row["is_open"]:
                closed[str(row["id"])] = Decimal(repr(row["close_profit_abs"]))
    found = (await both(dsn, tmp_path)).total
    assert found["trades"] == len(closed) == 47
    with RawLog(tmp_path) as raw:
        nets = dict(raw.query("SELECT position_id, net_pnl FROM round_trips").rows)
    assert {position for position in closed if abs(nets[position] - closed[position]) >= Decimal("1e-8")} == set()


@needs_peers
def test_small_series_with_published_figures(tmp_path: Path) -> None:
    vectors = json.loads((PEERS / "unit_vectors.json").read_text())
    series = [(case["profit_abs"], "expectancy", case["expectancy"]) for case in vectors["expectancy"]]
    series += [
        # One is of a peer whose peak starts at the first trade; from 0 on, its own note says, it is 0.055545.
        (case["profits"], "max_drawdown", case.get("drawdown_abs", 0.055545))
        for case in vectors["max_drawdown_abs"]
        if case["mode"] == "absolute"
    ]
    for number, (profits, figure, expected) in enumerate(series):
        directory = tmp_path / str(number)
        fills = [
            Fill(2 * at + half, side, "1", price)
            for at, profit in enumerate(profits)
            for half, (side, price) in enumerate([("buy", "1000"), ("sell", str(1000 + Decimal(repr(profit))))])
        ]
        found = from_logs(trail(directory, *fills), Asked())
        assert float(found.total[figure]) == pytest.approx(expected, abs=1e-6)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        yield from map(json.loads, file)


# -- the arithmetic --


async def test_products_and_quotients_have_the_same_digits_on_both_engines(dsn: str, tmp_path: Path) -> None:
    random = Random(8)
    numbers = [
        Decimal(text) for text in ("0", "1", "-3", "0.5", "1e-18", "-1e-18", "5e-10", "0.000000001500000001", "7e14")
    ]
    numbers += [Decimal(random.randint(-(10**15), 10**15)).scaleb(-random.randint(0, 15)) for _ in range(60)]
    pairs = [(a, b) for a in numbers for b in numbers if abs(a * b) < 10**17 and (b == 0 or abs(a / b) < 10**17)]
    values = ", ".join(f"({a:f}, {b:f})" for a, b in pairs)
    columns = "monitoring.product_of({0}, {1}) AS product, monitoring.ratio_of({0}, {1}) AS ratio"
    duck = columns.format("CAST(a AS DECIMAL(38, 18))", "CAST(b AS DECIMAL(38, 18))")
    with RawLog(trail(tmp_path, Fill(0, "buy", "1", "1"))) as raw:
        ours = list(raw.query(f"SELECT {duck} FROM (VALUES {values}) AS t (a, b)").rows)
    async with await Database.connect(dsn) as database:
        rows = await database.fetch(f"SELECT {columns.format('a', 'b')} FROM (VALUES {values}) AS t (a, b)")
        theirs = [tuple(row.values()) for row in rows]
    assert len(pairs) > 3000
    assert plain(ours) == plain(theirs)


SYMBOLS = {
    "BTC/USDT": "USDT",
    "BTC/USDT:USDT": "USDT",
    "BTC/USD:BTC-241227": "BTC",
    "ETH/btc": "BTC",
    "MNTUSDT": "USDT",
    "1000000PEIPEIUSDT": "USDT",
    "BTC-USDT-SWAP": "USDT",
    "BTC_USDC": "USDC",
    "ETHBTC": "BTC",
    "BTCFDUSD": "FDUSD",
    "USDT": None,
    "AAPL": None,
    "": None,
    "/": None,
}


async def test_the_currency_of_a_symbol_is_the_same_on_both_engines(dsn: str, tmp_path: Path) -> None:
    listed = ", ".join(f"('{symbol}')" for symbol in SYMBOLS)
    sql = f"SELECT symbol, monitoring.quote_of(symbol) AS quote FROM (VALUES {listed}) AS t (symbol)"
    with RawLog(trail(tmp_path, Fill(0, "buy", "1", "1"))) as raw:
        assert dict(raw.query(sql).rows) == SYMBOLS
    async with await Database.connect(dsn) as database:
        assert {row["symbol"]: row["quote"] for row in await database.fetch(sql)} == SYMBOLS


# -- the command --


def test_the_command_gives_one_object_from_either_source(dsn: str, tmp_path: Path) -> None:
    trail(tmp_path, Fill(0, "buy", "1", "100"), Fill(1, "sell", "1", "110"), Fill(2, "buy", "1", "1", symbol="CD/USDT"))
    answer("load", "--dir", tmp_path, "--dsn", dsn, "--json")
    of_logs = answer("metrics", "--dir", tmp_path, "--by", "symbol", "--json")
    assert of_logs == answer("metrics", "--dsn", dsn, "--by", "symbol", "--json")
    assert of_logs == answer("metrics", "--dir", tmp_path, "--dsn", dsn, "--source", "logs", "--by", "symbol", "--json")
    assert [(group["symbol"], group["net_pnl"]) for group in of_logs["by"]] == [("AB/USDT", "10"), ("CD/USDT", "0")]
    rows = list(csv.DictReader(StringIO(tradetrail("metrics", "--dir", tmp_path, "--by", "side", "--csv").stdout)))
    assert [(row["side"], row["trades"], row["profit_factor"]) for row in rows] == [("long", "1", "")]
    shown = tradetrail("metrics", "--dir", tmp_path, "--by", "symbol")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "CD/USDT" in shown.stdout


def test_an_empty_trail_has_no_figures_and_no_error(dsn: str, tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="bot"):
        pass
    found = answer("metrics", "--dir", tmp_path, "--by", "day", "--json")
    assert found == answer("metrics", "--dsn", dsn, "--by", "day", "--json")
    assert (found["total"]["trades"], found["total"]["net_pnl"], found["total"]["win_rate"]) == (0, "0", None)
    assert found["by"] == []
    assert tradetrail("metrics", "--dir", tmp_path, "--csv").stdout.splitlines()[1].startswith("0,0,0,0,,0,0,0,,")


async def test_stored_figures_are_brought_up_to_date_and_leave_the_bots_rows_alone(dsn: str, tmp_path: Path) -> None:
    async with await Database.connect(dsn) as database:
        await database.execute("INSERT INTO monitoring.performance_metrics (period, total_trades) VALUES ('all', 99)")
        await load(dsn, trail(tmp_path, Fill(0, "buy", "1", "100"), Fill(1, "sell", "1", "110")))
        assert "2 rows" in tradetrail("metrics", "--dsn", dsn, "--store", "--by", "month").stdout
        await load(dsn, trail(tmp_path, Fill(2, "buy", "1", "100"), Fill(3, "sell", "1", "95")))
        tradetrail("metrics", "--dsn", dsn, "--store", "--by", "month")
        rows = await database.fetch("SELECT * FROM monitoring.performance_metrics ORDER BY id")
    assert [(row["period"], row["total_trades"], row["stored_by"]) for row in rows] == [
        ("all", 99, None),
        ("all", 2, "tradetrail"),
        ("2023-11", 2, "tradetrail"),
    ]
    stored = plain({name: rows[1][name] for name in rows[1] if name not in ("id", "stored_at", "stored_by", "period")})
    assert stored == {
        "total_trades": 2,
        "winning_trades": 1,
        "losing_trades": 1,
        "total_pnl": "5",
        "win_rate": "0.5",
        "profit_factor": "2",
        "sharpe_ratio": "0.235702260395515841",
        "max_drawdown": "5",
        "avg_win": "10",
        "avg_loss": "-5",
    }


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--by", "weekday"], "day, week, month"),
        (["--source", "files"], "logs, db"),
        (["--source", "db"], "there is no database yet"),
        (["--source", "logs", "--store"], "--store"),
        (["--since", "soon"], "30m"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "not before"),
        (["--json", "--csv"], "exclude each other"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, args: list[str], word: str) -> None:
    with AuditLog(tmp_path / "audit", service="bot"):
        pass
    assert word in one_line(tradetrail("metrics", "--dir", tmp_path / "audit", *args, cwd=tmp_path), 2)


def test_a_database_that_was_not_migrated_is_one_line(existing_dsn: str) -> None:
    assert "tradetrail migrate" in one_line(tradetrail("metrics", "--dsn", existing_dsn), 3)


async def test_the_view_for_people_is_made_anew_when_its_text_has_changed(dsn: str) -> None:
    async with await Database.connect(dsn) as database:
        assert await database.fetch("SELECT * FROM monitoring.round_trips") == []
        await database.execute(
            "DROP VIEW monitoring.round_trips; CREATE VIEW monitoring.round_trips AS SELECT 1 AS old"
        )
    assert answer("migrate", "--dsn", dsn, "--json") == {"applied": ["view round_trips"]}
    assert answer("migrate", "--dsn", dsn, "--json") == {"applied": []}
    async with await Database.connect(dsn) as database:
        assert "net_pnl" in await database.columns("round_trips")
