"""Three engines, one answer: Spark over the archive's data set, DuckDB over the log, PostgreSQL over what is loaded.

``make test-spark`` installs pyspark and runs these, on a pseudo-cluster of two workers, each a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pytest

from emitter import AuditLog
from loader.database import Database
from loader.errors import EnvironmentFault, UsageError
from loader.extras import installing
from loader.metrics import Asked, Metrics, from_database, from_logs
from loader.show import plain
from loader.spark.dataset import trade_files

from ..command import SCRIPT, answer, environment, one_line, tradetrail
from ..fills import Fill, log

if shutil.which("java") is None:
    pytest.skip("there is no Java for Spark to run on", allow_module_level=True)
pytest.importorskip("sqlglot", reason="without the extra spark: make test-spark installs it")
pytest.importorskip("pyspark", reason="without the extra spark: make test-spark installs it")

from loader.spark.metrics import from_dataset
from loader.spark.session import session
from loader.spark.sql import translated

PEERS = Path(os.environ.get("TRADETRAIL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "metrics"
pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("default")]
MASTER = os.environ.get("TRADETRAIL_TEST_SPARK", "local-cluster[2,1,1024]")
# Each JVM would spend most of these few minutes on compiling what it runs once.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dspark.ui.enabled=false"
Asking = Callable[[Path, Asked], Metrics]


@pytest.fixture(scope="module")
def of_spark() -> Iterator[Asking]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JDK_JAVA_OPTIONS", JAVA)
        with session(MASTER) as application:
            yield lambda directory, asked: from_dataset(application, trade_files(directory), asked)


def archived(directory: Path, dsn: str, fills: Sequence[Fill], *more: dict[str, Any]) -> Path:
    """These fills logged, loaded and archived; ``more`` are the fields of some that no :class:`Fill` can be."""
    with AuditLog(directory, service="bot") as audit:
        log(audit, fills)
        for fields in more:
            audit.trade(**fields)
    return archive(directory, dsn)


def archive(directory: Path, dsn: str) -> Path:
    for command in ("load", "archive"):
        done = tradetrail(command, "--dir", directory, "--dsn", dsn)
        assert done.returncode == 0, done
    return directory


def agreed(directory: Path, dsn: str, asked: Asked, of_spark: Asking) -> Metrics:
    """What all three say, which is the same."""

    async def of_database() -> Metrics:
        async with await Database.connect(dsn) as database:
            return await from_database(database, asked)

    found = of_spark(directory, asked)
    said = [(plain(one.total), plain(list(one.by))) for one in (from_logs(directory, asked), found)]
    said.append((plain((known := asyncio.run(of_database())).total), plain(list(known.by))))
    assert said[1] == said[0]
    assert said[1] == said[2]
    return found


def random_fills(number: int) -> list[Fill]:
    random = Random(7)
    quantities = ["1", "2", "3", "0.5", "0.001", "7.125", "0.333333333333333333", "1000000"]
    prices = ["100", "101", "99.5", "0", "-37.63", "0.00000001", "2.7292815907953973", "64000.1"]
    costs = ["0.1", "-0.02", "0", "0.000000000000000007", "12.5", "0.333333333333333333"]
    currencies = ["USDT", "USDT", "BNB", "AB"]
    return [
        Fill(
            at * 3600 * random.randint(0, 1),
            random.choice(("buy", "sell")),
            random.choice(quantities),
            random.choice(prices),
            symbol=random.choice(("AB/USDT", "CD/USDT:USDT", "EFUSDT")),
            position_id=random.choice((None, None, "55", "56")),
            fees=tuple((random.choice(currencies), random.choice(costs)) for _ in range(random.randint(0, 3))),
            contract_size=random.choice((None, None, "1", "0.01", "10")),
            signal_id=random.choice((None, 1, 2)),
        )
        for at in range(number)
    ]


def test_random_fills(dsn: str, tmp_path: Path, of_spark: Asking) -> None:
    directory = archived(tmp_path / "audit", dsn, random_fills(400))
    found = agreed(directory, dsn, Asked("week"), of_spark)
    assert found.total["trades"] > 50
    assert found.total["fees_by_currency"].keys() == {"USDT", "BNB", "AB"}


# Each case in a symbol of its own, so that one answer has them all.
WINNERS = [Fill(0, "buy", "1", "100", symbol="W/USDT"), Fill(1, "sell", "1", "110", symbol="W/USDT")]
OPEN = [Fill(2, "buy", "3", "1", symbol="O/USDT", position_id="7"), Fill(2, "sell", "1", "2", symbol="P/BTC")]
DRAWS = [Fill(3, side, "1", "5", symbol="D/USDT", fees=((None, "0.1"),)) for side in ("buy", "sell")]
EXACT = [
    Fill(4, "buy", "3", "0.333333333333333333", symbol="E/USDT", fees=(("USDT", "0.000000000000000001"),)),
    *(Fill(5 + n, "sell", "1", "999999999999.123456789012345678", symbol="E/USDT") for n in range(3)),
]
SHARED = [Fill(9, "buy", "7", "1", symbol="S/USDT", fees=(("USDT", "1"), ("BNB", "0.1")))] + [
    Fill(at, side, "1", "1.1", symbol="S/USDT") for at, side in ((10, "sell"), (11, "buy"), (12, "sell"))
]
KNOWN: dict[str, Any] = {"exchange": "bybit", "side": "buy", "price": "2", "executed_qty": "1"}
OTHERS: list[dict[str, Any]] = [
    {**KNOWN, "symbol": "F/USDT", "trade_id": "1", "fee": {"cost": 0.25, "currency": "usdt"}},
    {**KNOWN, "symbol": "F/USDT", "trade_id": "1", "price": "9"},
    {**KNOWN, "symbol": "F/USDT", "side": "SELL", "fees": [{"cost": "1e-3", "currency": "USDT"}, {"cost": None}]},
    {**KNOWN, "symbol": "BTC/USD:BTC"},
    {**KNOWN, "symbol": "H/USDT", "executed_qty": "1000000000000000"},
    {**KNOWN, "symbol": "H/USDT", "price": "NaN", "average_price": "3", "estimated": True},
]


def test_edges(dsn: str, tmp_path: Path, of_spark: Asking) -> None:
    directory = archived(tmp_path / "audit", dsn, [*WINNERS, *OPEN, *DRAWS, *EXACT, *SHARED], *OTHERS)
    found = agreed(directory, dsn, Asked("symbol"), of_spark)
    of = {group["symbol"]: group for group in found.by}
    assert (of["W/USDT"]["wins"], of["W/USDT"]["profit_factor"]) == (1, None)
    assert (of["O/USDT"]["trades"], of["O/USDT"]["open_quantity"]) == (0, 3)
    assert of["D/USDT"]["draws"] == 1
    assert of["F/USDT"]["fills"] == 2
    assert found.total["fills_left_out"] == 2


@pytest.mark.skipif(not PEERS.is_dir(), reason="the back-tests of others are not here")
@pytest.mark.parametrize("name", ["B_futures_short_funding_354", "G_draws_2374", "D_spot_29pairs_2343"])
def test_back_tests_of_others(name: str, dsn: str, tmp_path: Path, of_spark: Asking) -> None:
    directory = tmp_path / "audit"
    with AuditLog(directory, service="peer") as audit:
        for number, text in enumerate((PEERS / f"{name}.fills.jsonl").read_text().splitlines()):
            row = json.loads(text, parse_float=Decimal)
            price, amount = Decimal(row["price"]), Decimal(row["amount"])
            cost = price * amount * Decimal(row["fee_rate"])
            audit.trade(
                exchange="peer", symbol=row["pair"], position_id=row["trade"], side=row["side"], price=price,
                executed_qty=amount, fee={"cost": cost, "currency": "USDT"}, trade_id=number, executed_at=row["ts"],
            )  # fmt: skip
    agreed(archive(directory, dsn), dsn, Asked("month"), of_spark)


def test_what_is_too_large_is_an_error(dsn: str, tmp_path: Path, of_spark: Asking) -> None:
    fills = [Fill(n, "buy", "900000000000000", "0.001", contract_size="1000") for n in range(120)]
    directory = archived(tmp_path / "audit", dsn, fills)
    with pytest.raises(EnvironmentFault, match="more digits than Spark's decimals hold"):
        of_spark(directory, Asked())


def test_no_trades_and_no_data_set(dsn: str, tmp_path: Path, of_spark: Asking) -> None:
    directory = tmp_path / "audit"
    with AuditLog(directory, service="bot") as audit:
        audit.event("ping")
    with pytest.raises(UsageError, match="tradetrail archive makes it"):
        of_spark(directory, Asked())
    assert agreed(archive(directory, dsn), dsn, Asked(), of_spark).total["trades"] == 0


def test_sql_that_spark_has_no_words_for_is_refused() -> None:
    with pytest.raises(EnvironmentFault, match="no words of Spark"):
        translated("SELECT array_agg(a ORDER BY b) FROM c")


def metrics(
    directory: Path, *args: str, program: Sequence[str | Path] = (SCRIPT,), **env: str
) -> subprocess.CompletedProcess[str]:
    """The command itself, by Spark; in a folder of its own."""
    folder, found = directory.with_name("elsewhere"), find_spec("pyspark")
    folder.mkdir(exist_ok=True)
    assert found is not None
    assert found.origin is not None
    spark = str(Path(found.origin).parents[1])  # make test-spark names it relative to where it runs
    return subprocess.run(
        [*program, "metrics", "--engine", "spark", "--dir", directory, *args],
        cwd=folder,
        env=environment(JDK_JAVA_OPTIONS=JAVA, PYTHONPATH=spark, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_the_command_prints_its_answer_and_leaves_nothing(dsn: str, tmp_path: Path) -> None:
    directory = archived(tmp_path / "audit", dsn, WINNERS)
    done = metrics(directory, "--master", "local[1]", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["total"] == answer("metrics", "--dir", directory)["total"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_keeps_spark_from_starting_is_one_line(dsn: str, tmp_path: Path) -> None:
    directory = archived(tmp_path / "audit", dsn, WINNERS)
    assert one_line(metrics(directory, "--master", "foo://x"), 3) == (
        "tradetrail: Spark does not start: Master must either be yarn or start with spark, k8s, or local"
    )
    assert one_line(metrics(directory, JAVA_HOME=str(tmp_path)), 3).endswith("; it needs Java 17 or later")


def test_without_spark_it_says_what_to_install(dsn: str, tmp_path: Path) -> None:
    directory = archived(tmp_path / "audit", dsn, WINNERS)
    code = "import sys; sys.modules['pyspark'] = None; from loader.__main__ import main; sys.exit(main())"
    said = one_line(metrics(directory, program=(sys.executable, "-c", code)), 3)
    assert said == f"tradetrail: --engine spark needs pyspark: {installing('spark')}"


def test_wrong_use_is_said(tmp_path: Path) -> None:
    for args, words in (
        (["--engine", "sprk"], "Did you mean spark?"),
        (["--engine", "spark", "--source", "db"], "leave --source away"),
        (["--engine", "spark", "--store"], "leave --engine away"),
        (["--master", "local[1]"], "--master is for --engine spark"),
        (["--engine", "spark", "--dir", "nowhere"], "there is no such directory"),
    ):
        assert words in one_line(tradetrail("metrics", *args, cwd=tmp_path), code=2)
