"""``emitter.testing``, as a bot's own tests use it."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog
from emitter.testing import audit_log, captured_records  # noqa: F401  a fixture, which tests ask for by its name

from ..bots import failing, tmpfs_folder


def test_what_was_written_so_far_by_name_and_in_order(audit_log: AuditLog) -> None:  # noqa: F811
    assert captured_records(audit_log) == []
    with audit_log.context(position_id=55):
        audit_log.order(order_id="1", price=Decimal("2.10"))
        audit_log.event("position.opened", severity="WARN")
    record, event = captured_records(audit_log)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "stream": audit_log.stats().stream, "seq": 1, "severity_text": "INFO", "severity_number": 9,
        "event_name": "order.created", "attributes": {"position_id": 55, "order_id": "1", "price": "2.10"},
    }  # fmt: skip
    assert (event["severity_text"], event["attributes"]) == ("WARN", {"position_id": 55})
    audit_log.trade(order_id="1")
    assert [found["seq"] for found in captured_records(audit_log, "trade.executed", "order.created")] == [1, 3]
    assert captured_records(audit_log, "order.updated") == []


def test_it_reads_a_closed_log_of_several_files_and_its_own_stream_only(tmp_path: Path) -> None:
    small: dict[str, Any] = {"ring_bytes": 64 * 1024, "segment_max_bytes": 500}
    with AuditLog(tmp_path, **small) as other:
        other.event("x")
    with AuditLog(tmp_path, **small) as audit:
        for n in range(20):
            audit.event("y", n=n)
    assert len(list(tmp_path.glob("*.jsonl"))) > 5
    assert [record["attributes"]["n"] for record in captured_records(audit)] == list(range(20))
    assert [record["event_name"] for record in captured_records(other)] == ["x"]


def test_what_a_failed_sync_made_void_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "fdatasync", os.fdatasync)  # put back afterwards
    with tmpfs_folder() as rings, AuditLog(tmp_path, ring_dir=rings, ring_bytes=64 * 1024) as audit:
        failing("fdatasync", 5, times=1)
        for n in range(10):
            audit.event("x", n=n)
        found = [record["seq"] for record in captured_records(audit)]
    assert found == list(range(1, 11))
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_a_log_that_is_not_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import emitter.testing

    monkeypatch.setattr(emitter.testing, "_TIMEOUT_S", 0.0)
    with AuditLog(tmp_path, ring_bytes=64 * 1024, flush_interval_ms=100) as audit:
        audit.event("x")
        with pytest.raises(TimeoutError, match="not written after 0 seconds"):
            captured_records(audit)


def test_the_fixture_leaves_nothing_outside_and_says_nothing(audit_log: AuditLog, tmp_path: Path) -> None:  # noqa: F811
    audit_log.event("x")
    assert captured_records(audit_log)
    assert {path.name for path in tmp_path.iterdir()} <= {"audit", f"tradetrail.{audit_log.stats().stream}.ring"}
    assert not list(Path("/dev/shm").glob(f"*{audit_log.stats().stream}*"))


BOT_TESTS = """
from pathlib import Path
import pytest
import warnings

def test_one(audit_log, captured_records, tmp_path):
    warnings.simplefilter("error")
    audit_log.trade(order_id="1", side="buy")
    (trade,) = captured_records("trade.executed")
    assert trade["attributes"] == {"order_id": "1", "side": "buy"}

def test_two(audit_log, captured_records):
    assert captured_records() == []

def test_a_full_disk_is_no_concern_of_the_bot(audit_log):
    audit_log.close()
    assert audit_log.order(order_id="1") == 0
"""


def test_a_bots_suite_names_it_as_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["emitter.testing"]\n')
    (tmp_path / "test_bot.py").write_text(BOT_TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:asyncio", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_the_emitter_alone_imports_no_pytest() -> None:
    heavy = {"pytest", "_pytest", "asyncio", "emitter.testing", "emitter.typed", "emitter.fields"}
    code = f"import sys, emitter; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
