"""OpenTelemetry's active span: its ids are in the record, and OpenTelemetry is not needed for anything."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from emitter import AuditLog

from ..trail import only

SMALL: dict[str, Any] = {"ring_bytes": 64 * 1024, "service": "fox-bot", "flush_interval_ms": 2}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def audit(log: Path) -> Iterator[AuditLog]:
    with AuditLog(log, **SMALL) as opened:
        yield opened


@pytest.fixture
def tracer() -> Any:
    pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed: no real span to try")
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider().get_tracer("tests")


def ids(audit: AuditLog, log: Path) -> list[tuple[Any, Any]]:
    assert audit.flush()
    return [(record.get("trace_id"), record.get("span_id")) for record in only(log).check(finished=False).records]


def hexes(span: Any) -> tuple[str, str]:
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def test_an_active_spans_ids_are_in_the_record(audit: AuditLog, log: Path, tracer: Any) -> None:
    audit.event("before")
    with tracer.start_as_current_span("outer") as outer:
        audit.order(exchange="bybit")
        with tracer.start_as_current_span("inner") as inner:
            audit.bind(position_id=1).event("x")
            with structlog.contextvars.bound_contextvars(strategy="s"):
                audit.event("y")
        audit.event("z")
    audit.event("after")
    nothing = (None, None)
    expected = [nothing, hexes(outer), hexes(inner), hexes(inner), hexes(outer), nothing]
    assert ids(audit, log) == expected
    assert [record["attributes"] for record in only(log).records][1:4] == [
        {"exchange": "bybit"}, {"position_id": 1}, {"strategy": "s"},
    ]  # fmt: skip


def test_ids_that_are_given_or_bound_win_and_are_not_mixed(audit: AuditLog, log: Path, tracer: Any) -> None:
    with tracer.start_as_current_span("span"):
        audit.event("x", trace_id="given")
        audit.bind(span_id="bound").event("x")
        with structlog.contextvars.bound_contextvars(trace_id="t", span_id="s"):
            audit.event("x")
    assert ids(audit, log) == [("given", None), (None, "bound"), ("t", "s")]


async def test_each_task_has_its_own_span(audit: AuditLog, log: Path, tracer: Any) -> None:
    async def work(number: int) -> tuple[int, tuple[str, str]]:
        with tracer.start_as_current_span(f"task {number}") as span:
            await asyncio.sleep(0)
            return audit.event("x", number=number), hexes(span)

    spans = dict(await asyncio.gather(*(work(number) for number in range(10))))
    found = ids(audit, log)
    assert dict(enumerate(found, 1)) == spans


def test_through_processors_and_in_a_bots_chain(log: Path, tracer: Any) -> None:
    with AuditLog(log, **SMALL, processors=[lambda _, __, event_dict: event_dict]) as audit:
        logger = structlog.wrap_logger(structlog.testing.CapturingLogger(), [audit.processor, lambda *_: "done"])
        with tracer.start_as_current_span("span") as span:
            audit.event("x")
            logger.info("order.created", exchange="bybit")
        assert ids(audit, log) == [hexes(span)] * 2


def test_a_span_that_cannot_be_asked_is_no_span(audit: AuditLog, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError

    with structlog.contextvars.bound_contextvars(a=1):
        for odd in (types.SimpleNamespace(), types.SimpleNamespace(get_current_span=broken)):
            monkeypatch.setitem(sys.modules, "opentelemetry.trace", odd)  # type: ignore[arg-type]
            audit.event("x")
    assert ids(audit, log) == [(None, None)] * 2
    assert audit.stats().last_error is None


def test_opentelemetry_is_not_imported_for_it(log: Path) -> None:
    code = """
import sys
from emitter import AuditLog
import structlog
structlog.contextvars.bind_contextvars(a=1)
with AuditLog(sys.argv[1], ring_bytes=65536) as audit:
    assert audit.order(exchange="bybit") == 1
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code, str(log)], check=True, timeout=60)
