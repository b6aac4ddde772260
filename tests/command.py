"""Runs the real console script, and writes logs for it to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from emitter import AuditLog
from emitter.segments import SegmentName, header_line, new_stream

SCRIPT = Path(sys.executable).with_name("tradetrail")
ORDER = {"exchange": "bybit", "symbol": "MNTUSDT", "type": "MARKET", "side": "sell", "status": "NEW", "size": 94.7}
FILL = {"exchange": "bybit", "symbol": "MNTUSDT", "side": "sell", "price": 2.1118, "executed_qty": 94.7}


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would steer the command."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TRADETRAIL_", "PG"))}
    return kept | {"COLUMNS": "80"} | more


def tradetrail(*args: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [SCRIPT, *map(str, args)],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(*args: str | Path, cwd: Path | None = None, code: int = 0, **env: str) -> Any:
    """Run a command with ``--json``; its answer."""
    done = tradetrail(*args, "--json", cwd=cwd, **env)
    assert done.returncode == code, done
    return json.loads(done.stdout)


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr that a command ended with."""
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr + done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done
    assert lines[0].startswith("tradetrail: ")
    return lines[0]


def emit(directory: Path, orders: int = 3) -> str:
    """A closed stream: orders, each with an update and a fill, and an event; its id."""
    with AuditLog(directory, service="fox-bot") as audit:
        stream = audit.stats().stream
        for n in range(orders):
            audit.order(**ORDER, order_id=f"{stream}-{n}", position_id=55)
            audit.update_order(exchange="bybit", symbol="MNTUSDT", order_id=f"{stream}-{n}", status="FILLED")
            audit.trade(**FILL, order_id=f"{stream}-{n}", trade_id=f"{stream}-{n}", fee=0.1, fee_currency="USDT")
        audit.event("position.closed", position_id=55, reason="take profit")
    return stream


def record(stream: str, seq: int, event_name: str = "bot.noted", **attributes: object) -> bytes:
    """One line."""
    return (
        json.dumps(
            {
                "stream": stream,
                "seq": seq,
                "timestamp": "2026-11-22T13:10:56.015378Z",
                "severity_text": "INFO",
                "severity_number": 9,
                "event_name": event_name,
                "attributes": attributes,
            },
            separators=(",", ":"),
        ).encode()
        + b"\n"
    )


def segment(directory: Path, *lines: bytes, stream: str = "", number: int = 1, **header: Any) -> Path:
    """Write a segment by hand; its path."""
    name = SegmentName.of("odd", stream or new_stream(), number)
    directory.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = {"service": "odd", "resource": {}, "pid": 1, "ring": None, "previous_sha256": None}
    path = directory / str(name)
    path.write_bytes(header_line(name, **(known | header)) + b"".join(lines))
    return path
