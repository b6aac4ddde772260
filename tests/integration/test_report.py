"""``tradetrail report``: its figures are those of ``metrics``, its page is whole, harmless and readable."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from emitter import AuditLog
from loader.cli import run
from loader.database import Database
from loader.errors import UsageError
from loader.extras import installing
from loader.metrics import Asked, Metrics, from_database
from loader.report.bars import bars_between
from loader.report.numbers import amount, duration, minute, percent, ratio
from loader.report.page import page as render
from loader.report.report import from_logs
from loader.report.sql import CURVE_BINS, WHOLE_CURVE, Scope
from loader.show import plain

from ..browser import PROGRAM, Browser
from ..command import answer, emit, environment, one_line, tradetrail
from ..fills import Fill, log
from ..lines import line, segment, trade
from ..pages import Page

needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="there is no Chromium to look at pages with: apt-get install chromium"
)
FEE = (("USDT", "0.1"),)
DAY = 86_400
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;{{7*7}}\u2028"


def write(directory: Path, *fills: Fill) -> Path:
    with AuditLog(directory, service="bot") as audit:
        log(audit, fills)
    return directory


def made(directory: Path, *args: str | Path) -> Page:
    """The page of a command that goes well, ``report.html`` beside the log."""
    path = directory.parent / "report.html"
    assert run(["report", "-o", str(path), "--dir", str(directory), *map(str, args)]) == 0
    return Page(path)


Pages = Callable[[str], tuple[Page, Path]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """The pages of some trails by name, each made once."""
    trails: dict[str, Callable[[Path], object]] = {
        "losers": lambda directory: write(directory, *(Fill(at * DAY, *what) for at, what in enumerate(LOSSES))),
        "currencies": lambda directory: write(directory, *CURRENCIES),
        "empty": write,
        "hostile": hostile,
        "kept": keep,
    }

    @cache
    def page(name: str) -> tuple[Page, Path]:
        folder = tmp_path_factory.mktemp(name)
        trails[name](folder / "audit")
        return made(folder / "audit"), folder / "report.html"

    return page


ROUND = [("buy", "1", "100"), ("sell", "1", "110")]
CURRENCIES = [Fill(at, *what, symbol=f"AB/{quote}") for quote in ("USDT", "BTC") for at, what in enumerate(ROUND)]
LOSSES = [("buy", "1", "100"), ("sell", "1", "99.5")] * 30


def random_fills(number: int, symbols: Sequence[str] = ("AB/USDT", "CD/USDT", "EF/USDT")) -> list[Fill]:
    random = Random(5)
    fees = [FEE, (("BNB", "0.001"),), (), (("USDT", "0.05"), ("BNB", "0.002"))]
    return [
        Fill(
            at * 7200,
            random.choice(("buy", "sell")),
            str(random.randint(1, 9)),
            f"{random.uniform(90, 110):.4f}",
            symbol=random.choice(symbols),
            position_id=random.choice((None, str(at // 4))),
            fees=random.choice(fees),
        )
        for at in range(number)
    ]


# -- the figures --


def test_every_figure_is_that_of_metrics_from_either_source(dsn: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "audit", *random_fills(800))
    answer("load", "--dir", directory, "--dsn", dsn)
    period = {"since": "2023-11-20T00:00:00Z", "until": "2023-12-20T12:00:00Z"}
    limits = [word for name, at in period.items() for word in (f"--{name}", at)]
    since, until = (datetime.fromisoformat(at) for at in period.values())
    known = {by: asyncio.run(figures(dsn, Asked(by, since, until))) for by in GROUPED}
    pages = [made(directory, "--no-verify", *limits, *source) for source in ([], ["--dsn", dsn])]
    total = plain(known["month"].total)
    assert total["trades"] > 50
    for page in pages:
        found = {name: value for (quote, name), value in page.figures.items() if quote == "USDT"}
        assert found.pop("open_quantity") == "of several symbols"
        assert found == {name: _text(total[name]) for name in found}
        assert len(found) == 17
        for by in ("symbol", "exchange", "side"):
            closed = [group for group in plain(list(known[by].by)) if group["trades"]]
            rows = {row[by.capitalize()]: row for row in page.named(by)}
            assert rows.keys() == {group[by] for group in closed}
            for group in closed:
                shown = {name: rows[group[by]][words] for name, words in OF_A_GROUP.items()}
                assert shown == {name: _text(group[name]) for name in OF_A_GROUP}
        months = {group["month"]: group["net_pnl"] for group in plain(list(known["month"].by)) if group["trades"]}
        years = page.tables["months"][1:]
        cells = {f"{row[0]}-{at:02}": cell for row in years for at, cell in enumerate(row[1:-1], 1)}
        assert {month: cell for month, cell in cells.items() if cell is not None} == months
        assert sum(Decimal(str(row[-1])) for row in years) == Decimal(total["net_pnl"])
        assert {row["Currency"]: row["Paid"] for row in page.named("fees")} == total["fees_by_currency"]
        assert f"{total['fills_without_fee']:,} have none" in page.text
    of_logs, of_database = pages
    assert of_logs.figures.keys() == of_database.figures.keys()
    assert of_logs.plots == of_database.plots
    trading = ("months", "symbol", "exchange", "side", "fees", "open", "never-protected")
    assert [of_logs.tables[name] for name in trading] == [of_database.tables[name] for name in trading]


async def figures(dsn: str, asked: Asked) -> Metrics:
    async with await Database.connect(dsn) as database:
        return await from_database(database, asked)


GROUPED = ("month", "symbol", "exchange", "side")
OF_A_GROUP = {
    "trades": "Round trips",
    "wins": "Wins",
    "losses": "Losses",
    "win_rate": "Win rate",
    "net_pnl": "Net profit",
    "fees": "Fees",
    "profit_factor": "Profit factor",
    "max_drawdown": "Greatest drawdown",
}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def test_fees_say_how_many_fills_they_cover(tmp_path: Path) -> None:
    fills = [
        Fill(0, "buy", "2", "100", fees=FEE),
        Fill(1, "sell", "1", "110", fees=(("USDT", "0.1"), ("BNB", "0.5"))),
        Fill(2, "sell", "1", "110"),
        Fill(3, "buy", "1", "100", fees=((None, "0.3"),)),
    ]
    page = made(write(tmp_path / "audit", *fills))
    assert page.tables["fees"][1:] == [["BNB", "0.5", "1"], ["USDT", "0.2", "2"], ["unknown", "0.3", "1"]]
    assert "Of 4 fills, 3 have fee data and 1 have none; 0 fills are estimated." in page.text


def test_profits_in_several_currencies_have_a_part_each(pages: Pages) -> None:
    page, _ = pages("currencies")
    assert page.figures["USDT", "net_pnl"] == page.figures["BTC", "net_pnl"] == "10"
    assert "are not added up" in page.text
    assert sorted(page.plots) == ["curve-1", "curve-2", "distribution-1", "distribution-2"]


def test_losers_only_have_no_profit_and_no_average_win(pages: Pages) -> None:
    figures = pages("losers")[0].figures
    names = ("net_pnl", "wins", "losses", "win_rate", "profit_factor", "average_win", "max_drawdown")
    assert [figures["USDT", name] for name in names] == ["-15", "0", "30", "0", "0", None, "15"]


# -- the curve, the bars --


def test_a_long_curve_is_thinned_and_keeps_every_extreme(tmp_path: Path) -> None:
    random = Random(6)
    trips = WHOLE_CURVE + 1000
    profits = [Decimal(random.randint(-500, 500)) / 100 for _ in range(trips)]
    profits[1234], profits[2345] = Decimal(-700), Decimal(900)
    lines, at = [], 1_700_000_000
    for n, profit in enumerate(profits):
        at += random.randint(1, 3) * (1 + 500 * (n % 700 == 0))
        for half, (side, price) in enumerate((("buy", Decimal(1000)), ("sell", 1000 + profit))):
            seq = 2 * n + half + 1
            fields = {"side": side, "price": str(price), "executed_qty": 1, "executed_at": at, "symbol": "AB/USDT"}
            lines.append(line(seq, "trade.executed", trade(**fields, trade_id=f"t{seq}", order_id=f"o{seq}")))
    segment(tmp_path / "audit", lines)
    report = from_logs(tmp_path / "audit", Scope(), lambda _: None, verified=False)
    money = report.trading.money[0]
    equity, peak, curve, drawdowns = Decimal(0), Decimal(0), [], []
    for profit in profits:
        equity += profit
        peak = max(peak, equity)
        curve.append(equity)
        drawdowns.append(peak - equity)
    assert (money.figures["trades"], money.curve.of) == (trips, trips)
    assert len(money.curve.points) <= 5 * CURVE_BINS < trips
    kept = [point for _, point, _ in money.curve.points]
    assert (min(kept), max(kept), kept[0], kept[-1]) == (min(curve), max(curve), curve[0], curve[-1])
    assert max(drawdown for *_, drawdown in money.curve.points) == max(drawdowns) == money.figures["max_drawdown"]
    assert [ms for ms, *_ in money.curve.points] == sorted(ms for ms, *_ in money.curve.points)
    # Every win and every loss stands in a bar.
    counted = dict(money.bars.counts)
    assert sum(counted.values()) == money.figures["wins"] + money.figures["losses"]
    assert sum(number for bar, number in counted.items() if bar < 0) == money.figures["losses"]
    (tmp_path / "report.html").write_text(render(report), encoding="utf-8")
    page = Page(tmp_path / "report.html")
    assert f"Thinned to {len(kept):,} of {trips:,} points" in page.text
    assert len(page.plots["curve-1"]["data"]["values"]) == len(kept) + 1  # and where it starts, at 0


@pytest.mark.parametrize(
    ("low", "high", "step", "first", "last"),
    [
        ("-8", "12", "0.5", -16, 23),
        ("3", "40", "1", -1, 39),
        ("-0.00000001", "-0.00000001", "1e-8", -1, 0),
        ("-123456", "98765", "10000", -13, 9),
    ],
)
def test_bars_are_of_a_width_that_people_read(low: str, high: str, step: str, first: int, last: int) -> None:
    bars = bars_between(Decimal(low), Decimal(high))
    assert bars is not None
    assert (bars.step, bars.first, bars.last) == (Decimal(step), first, last)


# -- positions, orders, the trail --


def keep(directory: Path) -> Path:
    """Three open positions, one of them with a live stop and one whose stop was cancelled; one that was closed."""
    with AuditLog(directory, service="bot") as audit:
        place = {"exchange": "bybit", "symbol": "MNT/USDT:USDT"}
        for position in ("1", "2", "3", "4"):
            audit.trade(
                **place, side="buy", price="2", executed_qty="10", position_id=position, order_id=f"e{position}",
                trade_id=f"t{position}", executed_at="2026-11-20T10:00:00Z",
            )  # fmt: skip
        for position in ("1", "2", "4"):
            audit.order(
                **place, type="STOP_MARKET", side="sell", size="10", price="1.9", status="NEW", position_id=position,
                order_id=f"s{position}", created_at="2026-11-20T10:00:01Z", updated_at="2026-11-20T10:00:01Z",
            )  # fmt: skip
        for position in ("2", "4"):
            audit.update_order(
                **place, order_id=f"s{position}", status="CANCELED",
                updated_at=f"2026-11-20T10:{position}0:01Z",
            )  # fmt: skip
        audit.trade(**place, side="sell", price="3", executed_qty="10", position_id="4", order_id="x4", trade_id="t44")
        audit.trade(**place, side="sell", price="3", executed_qty="4", position_id="1", order_id="x1", trade_id="t11")
    return directory


def test_open_positions_have_their_stops_and_orders_their_life_times(pages: Pages, dsn: str) -> None:
    of_logs, path = pages("kept")
    directory = path.parent / "audit"
    answer("load", "--dir", directory, "--dsn", dsn)
    for page in of_logs, made(directory, "--dsn", dsn):
        rows = [(row["Position"], row["Quantity"], row["Entry price"], row["Value"]) for row in page.named("open")]
        assert sorted(rows) == [("1", "6", "2", "12"), ("2", "10", "2", "20"), ("3", "10", "2", "20")]
        assert "3 open, 2 of them without a live stop order" in page.text
        assert [row["Position"] for row in page.named("open")][-1] == "1"  # those without a stop come first
        assert "1 for 10 at 1.9" in " ".join(page.text.split())
        assert "Of 4 positions entered, 3 had a stop order at some time and 1 never had one" in page.text
        assert [row["Position"] for row in page.named("never-protected")] == ["3"]
        assert "3 orders were made, 1 of them are not in a final state" in page.text
        (life,) = page.named("life-times")
        assert list(life.values()) == [
            "STOP_MARKET", "CANCELED", "2", "20\N{NO-BREAK SPACE}min", "40\N{NO-BREAK SPACE}min",
            "40\N{NO-BREAK SPACE}min",
        ]  # fmt: skip


def test_the_trail_over_the_logs_is_what_verify_says(tmp_path: Path) -> None:
    bad = line(3, "order.created", {"exchange": "bybit"})
    segment(tmp_path / "audit", [line(1, "bot.noted", {}), bad])
    page = made(tmp_path / "audit")
    verdict = answer("verify", "--dir", tmp_path / "audit", "--no-database", code=1)
    assert f"Look at it: {verdict['proved']}." in page.text
    assert (page.figures["", "rejected"], page.figures["", "lost"], page.figures["", "records"]) == ("1", "0", "2")
    assert {row["Rule"]: row["How often"] for row in page.named("findings")} == {
        rule: str(number) for rule, number in verdict["counts"].items()
    }
    assert "Not known: not verified." in made(tmp_path / "audit", "--no-verify").text


def test_the_trail_over_the_database_says_what_waits_and_what_was_rejected(dsn: str, tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    segment(directory, [line(1, "bot.noted", {}), line(2, "order.created", {"exchange": "bybit"})])
    answer("load", "--dir", directory, "--dsn", dsn, code=1)
    emit(directory, orders=1)  # 4 records that nobody loads
    page = made(directory, "--dsn", dsn)
    assert "Good: 1 stream, 2 records: complete" in page.text
    assert (page.figures["", "rejected"], page.figures["", "waiting"]) == ("1", "4")
    assert [list(row.values())[:3] for row in page.named("findings")] == [["rejected", "field_missing", "1"]]
    assert "From the last line of a closed file to its load" in page.text


# -- what a log may say --


def hostile(directory: Path) -> Path:
    fields = {"symbol": HOSTILE, "exchange": HOSTILE, "position_id": HOSTILE, "reason": HOSTILE, "fee": 1}
    with AuditLog(directory, service="bot") as audit:
        for at, side in enumerate(("buy", "sell", "buy")):
            audit.trade(
                **fields, side=side, price=100 - at, executed_qty=1, fee_currency=HOSTILE, order_id=str(at),
                executed_at=1_700_000_000 + at,
            )  # fmt: skip
            audit.trade(
                **{**fields, "symbol": f"AB/{HOSTILE}"}, side=side, price=100 - at, executed_qty=1, order_id=f"q{at}",
                executed_at=1_700_000_000 + at,
            )  # fmt: skip
        audit.trade(exchange="x", symbol="L" * 20_000, side="buy", price=1, executed_qty=1)
        audit.order(**fields, type=HOSTILE, side="sell", status="FILLED", order_id="7")
    return directory


def test_what_a_log_says_is_text_and_nothing_else(pages: Pages) -> None:
    page, _ = pages("hostile")
    assert HOSTILE.replace("\u2028", "\\u2028") in page.text
    assert "{{7*7}}" in page.text
    of_the_log = page.source.partition("<script>")[0]  # what follows are the page's own two scripts
    assert "<img" not in of_the_log
    assert of_the_log.count("<script") == len(page.plots)
    assert f"{'L' * 200} ..." in page.text
    assert "L" * 201 not in page.source
    assert page.plots.keys() >= {"curve-1", "distribution-1"}


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (amount(Decimal("1234567.891")), "1,234,567.89"),
        (amount(Decimal("-0.5")), "\N{MINUS SIGN}0.5"),
        (amount(Decimal("12.30")), "12.3"),
        (amount(Decimal("0.000000123")), "0.00000012"),
        (amount(Decimal("-0.000000001")), "0"),
        (amount(-1200), "\N{MINUS SIGN}1,200"),
        (amount(None), "\N{EN DASH}"),
        (percent(Decimal("0.4996")), "50.0\N{NO-BREAK SPACE}%"),
        (ratio(Decimal("-0.00062")), "\N{MINUS SIGN}0.0006"),
        (duration(Decimal("0.000000")), "0\N{NO-BREAK SPACE}s"),
        (duration(Decimal(-93_600)), "\N{MINUS SIGN}1\N{NO-BREAK SPACE}d 2\N{NO-BREAK SPACE}h"),
        (minute(1_700_000_000_000), "2023-11-14 22:13"),
        (minute(400_000_000_000_000), "400000000000000 ms since 1970"),
    ],
)
def test_numbers_are_rounded_for_reading(shown: str, text: str) -> None:
    assert shown == text


# -- the command --


def test_an_empty_trail_has_a_page(pages: Pages, dsn: str) -> None:
    of_logs, path = pages("empty")
    for page in of_logs, made(path.parent / "audit", "--dsn", dsn):
        assert "there is nothing to report on yet" in page.text
        assert (page.figures["", "net_pnl"], page.figures["", "win_rate"], page.plots) == ("0", None, {})


def test_the_page_is_private_and_replaces_only_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, path = write(tmp_path / "audit", Fill(0, "buy", "1", "1")), tmp_path / "page.html"
    words = ["report", "--dir", str(directory), "--no-verify"]
    monkeypatch.chdir(tmp_path)
    assert run([*words, "-o", "page.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["bytes"]) == ("page.html", path.stat().st_size)
    assert told["total"] == answer("metrics", "--dir", directory)["total"]
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text() + "old")
    assert run([*words, "-o", "page.html"]) == 0
    assert not path.read_text().endswith("old")
    key = tmp_path / "seal.key"
    key.write_text("mine")
    with pytest.raises(UsageError, match="is no report"):
        run([*words, "-o", "seal.key"])
    assert key.read_text() == "mine"
    assert tradetrail(*words, "-o", "-").stdout.startswith("<!doctype html>")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit", "page.html", "seal.key"]


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--source", "files"], 2, "logs, db"),
        (["--source", "db"], 2, "there is no database yet"),
        (["--since", "soon"], 2, "30m"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], 2, "not before"),
        (["-o", "nowhere/report.html"], 2, "no such directory"),
        (["--dir", "nowhere"], 2, "nowhere"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, args: list[str], code: int, word: str) -> None:
    directory = write(tmp_path / "audit", Fill(0, "buy", "1", "1"))
    assert word in one_line(tradetrail("report", "--dir", directory, *args, cwd=tmp_path), code)


@pytest.mark.parametrize("library", ["jinja2", "vl_convert"])
def test_a_missing_library_is_one_line(tmp_path: Path, library: str) -> None:
    directory = write(tmp_path / "audit", Fill(0, "buy", "1", "1"))
    code = f"import sys; sys.modules[{library!r}] = None; from loader.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "report", "--dir", directory, "-o", tmp_path / "page.html"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert one_line(done, 3) == f"tradetrail: a report needs {library}: {installing('report')}"


# -- as people see it --


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@needs_chromium
@pytest.mark.parametrize("which", ["losers", "currencies", "empty", "hostile", "kept"])
def test_a_page_is_whole_in_a_browser(pages: Pages, browser: Browser, tmp_path: Path, which: str) -> None:
    page, path = pages(which)
    for width, dark in ((1400, False), (800, True), (320, False)):
        browser.open(path, width=width, dark=dark)
        assert (browser.complaints(), browser.requests()) == ([], [])
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.evaluate("document.querySelectorAll('figure svg').length") == len(page.plots)
        assert width == 320 or browser.violations() == []  # the same page again, in the light and in the dark
        shown = " ".join(browser.evaluate("document.body.innerText").split())
        assert all(words in shown for words in ("Net profit", "Open positions", "The health of the trail"))
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.look(320, dark=True)
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") != background
    assert browser.printed(tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


@needs_chromium
def test_a_plot_answers_the_pointer(pages: Pages, browser: Browser) -> None:
    browser.open(pages("losers")[1], width=1000, height=1600)
    curve = browser.evaluate(
        "(() => { const r = document.querySelector('figure svg').getBoundingClientRect();"
        " return [r.left, r.top, r.width, r.height]; })()"
    )
    left, top, width, height = curve
    labels = "[...document.querySelectorAll('figure svg text')].map((t) => t.textContent).join(' ')"
    before = browser.evaluate(labels)

    def mouse(kind: str, share: float, down: float, **more: Any) -> None:
        x, y = left + width * share, top + height * down
        browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    mouse("mouseMoved", 0.5, 0.3)
    mouse("mouseMoved", 0.52, 0.3)
    tip = "document.querySelector('#vg-tooltip-element')?.innerText ?? ''"
    assert "closed (UTC)" in browser.until(tip)
    held = {"button": "left", "buttons": 1, "clickCount": 1}
    mouse("mousePressed", 0.4, 0.85, **held)
    for share in (0.45, 0.5, 0.55):
        mouse("mouseMoved", share, 0.85, button="left", buttons=1)
    mouse("mouseReleased", 0.55, 0.85, **held)
    assert browser.until(f"(() => {{ const now = {labels}; return now === {before!r} ? '' : now; }})()")
    assert browser.complaints() == []


@pytest.mark.long
@needs_chromium
@pytest.mark.timeout(900)
def test_a_million_fills_make_a_small_page_that_opens_at_once(browser: Browser, tmp_path: Path) -> None:
    random = Random(7)

    def lines() -> Iterator[bytes]:
        for n in range(1_000_000):
            yield line(
                n + 1,
                "trade.executed",
                {
                    "exchange": "bybit", "symbol": f"S{n % 40}/USDT", "side": random.choice(("buy", "sell")),
                    "price": round(random.uniform(1, 500), 4), "executed_qty": random.randint(1, 99),
                    "trade_id": str(n), "executed_at": 1_600_000_000 + 60 * n,
                },
            )  # fmt: skip

    segment(tmp_path / "audit", lines())
    path = tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, "-m", "loader", "report", "--dir", tmp_path / "audit", "-o", path, "--no-verify"],
        env=environment(),
        timeout=800,
        check=False,
    )
    assert done.returncode == 0
    assert path.stat().st_size < 5_000_000
    assert browser.open(path, width=1400) < 5
    assert (browser.complaints(), browser.requests()) == ([], [])
