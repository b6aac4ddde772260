"""What a bot's process loads with the emitter: little, and nothing of what only loader and tests need."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"asyncpg", "duckdb", "loader", "opentelemetry", "pytest", "rich", "typer", "watchfiles"}
LOADED = "import json, sys, emitter; print(json.dumps(sorted(sys.modules)))"
# structlog itself takes longer than all of the emitter; it is loaded when a bot's own code does, or uses processors.
WITH_A_RECORD = """
import json, sys
from emitter import AuditLog
with AuditLog(sys.argv[1], service="bot") as audit:
    audit.bind(position_id=1).order(exchange="bybit", symbol="MNTUSDT", type="MARKET", side="sell", status="NEW")
print(json.dumps(sorted(sys.modules)))
"""


def loaded(code: str, *args: object) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_importing_the_emitter_loads_nothing_heavy() -> None:
    names = loaded(LOADED)
    assert not names & (HEAVY | {"structlog", "asyncio", "sqlite3", "ssl"})
    assert {"emitter", "orjson"} <= names


def test_logging_a_record_loads_nothing_heavy(tmp_path: object) -> None:
    assert not loaded(WITH_A_RECORD, tmp_path) & (HEAVY | {"structlog"})
