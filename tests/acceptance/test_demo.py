"""The demo, played as a person plays it, on a database of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loader.database import Database
from tests.trail import read

COMMAND = [sys.executable, "-m", "loader", "demo"]


def play(*options: object) -> subprocess.CompletedProcess[str]:
    words = [*COMMAND, *map(str, options)]
    # As wide as a terminal that cuts nothing.
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


async def test_the_demo_loads_all_that_its_bot_wrote_and_sets_two_lines_aside(dsn: str, tmp_path: Path) -> None:
    done = play("--dir", tmp_path / "demo", "--dsn", dsn, "--seconds", 2)
    assert (done.returncode, done.stderr) == (0, "")
    log = tmp_path / "demo" / "audit"
    services = {path.name.partition(".")[0]: path.name.split(".")[1] for path in log.iterdir()}
    assert set(services) == {"demo-bot", "demo-careless", "demo-broken"}

    async with await Database.connect(dsn) as database:
        for table in ("orders", "trades", "order_updates", "events", "audit_segments"):
            assert await database.fetchval(f"SELECT count(*) FROM monitoring.{table}") > 0, table
        rejects = await database.fetch(
            "SELECT stream, severity, reasons, seq, seq_inferred FROM monitoring.audit_rejects ORDER BY reasons"
        )
        assert rejects == [
            {
                "stream": services["demo-careless"],
                "severity": "rejected",
                "reasons": ["field_missing: symbol is missing"],
                "seq": 1,
                "seq_inferred": False,
            },
            {
                "stream": services["demo-broken"],
                "severity": "rejected",
                "reasons": ["not_json: the line is not a JSON object"],
                "seq": 1,
                "seq_inferred": True,
            },
        ]
        loaded = await database.fetch(
            " UNION ".join(
                f"SELECT stream, seq FROM monitoring.{table}"
                for table in ("orders", "trades", "order_updates", "events", "audit_rejects")
            )
        )
        open_stops = await database.fetchval(
            "SELECT count(*) FROM monitoring.orders WHERE type = 'STOP_MARKET' AND status = 'NEW'"
        )
    (log / next(path.name for path in log.iterdir() if "demo-broken" in path.name)).unlink()
    written = {(trail.stream, seq) for trail in read(log).values() for seq in trail.check().seqs}
    assert {(row["stream"], row["seq"]) for row in loaded} == written | {(services["demo-broken"], 1)}
    for stream in services.values():
        seqs = sorted(row["seq"] for row in loaded if row["stream"] == stream)
        assert seqs == list(range(1, len(seqs) + 1))
    assert open_stops == 0  # every position was closed, and its stop with it

    assert " 0 missing." in done.stdout
    assert "symbol is missing" in done.stdout
    assert "1000000PEIPEI/USDT:USDT" in done.stdout


def test_the_demo_makes_its_log_anew_and_no_folder_of_others(dsn: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert play("--dir", tmp_path / "demo", "--dsn", dsn, "--seconds", 1).returncode == 0
        assert len(list((tmp_path / "demo" / "audit").iterdir())) == 3
    (tmp_path / "precious").mkdir()
    kept = tmp_path / "precious" / "audit"
    kept.mkdir()
    done = play("--dir", kept.parent, "--dsn", dsn)
    assert (done.returncode, kept.is_dir()) == (2, True)
    assert "holds other files" in done.stderr


@pytest.mark.parametrize("database", ["existing_dsn", "migrated_existing_dsn"])
def test_the_demo_stays_out_of_a_database_with_a_bots_orders(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done = play("--dir", tmp_path / "demo", "--dsn", request.getfixturevalue(database))
    assert done.returncode == 2
    assert done.stderr == (
        "tradetrail: this database holds a bot's orders, and the demo makes some up: give an empty database\n"
    )
