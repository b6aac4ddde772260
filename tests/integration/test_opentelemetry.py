"""A bot that logs through OpenTelemetry's SDK gets the trail: the exporter behind the real providers and processors."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from emitter import AuditLog
from emitter.opentelemetry import AuditLogRecordExporter

from ..documents import Page
from ..trail import only

SMALL: dict[str, Any] = {"ring_bytes": 64 * 1024, "service": "fox-bot", "flush_interval_ms": 2}
ORDER = {"exchange": "bybit", "symbol": "MNTUSDT", "order_id": "7", "type": "MARKET", "side": "sell", "status": "NEW"}
NANOSECONDS = 1_795_353_056_015_378_123  # 2026-11-22T13:10:56.015378123Z
SUCCESS, FAILURE = LogRecordExportResult.SUCCESS, LogRecordExportResult.FAILURE


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def audit(log: Path) -> Iterator[AuditLog]:
    with AuditLog(log, **SMALL) as opened:
        yield opened


@pytest.fixture
def provider(audit: AuditLog) -> Iterator[LoggerProvider]:
    made = LoggerProvider(shutdown_on_exit=False)
    made.add_log_record_processor(SimpleLogRecordProcessor(AuditLogRecordExporter(audit)))
    yield made
    made.shutdown()


@pytest.fixture
def logger(provider: LoggerProvider) -> Any:
    return provider.get_logger("bot")


@pytest.fixture
def standard(provider: LoggerProvider) -> Iterator[logging.Logger]:
    """The standard library's logging, bridged."""
    with pytest.warns(DeprecationWarning, match="LoggingHandler"):
        handler = LoggingHandler(logger_provider=provider)
    found = logging.getLogger("tests.opentelemetry")
    found.addHandler(handler)
    found.setLevel(logging.DEBUG)
    yield found
    found.removeHandler(handler)


def records(audit: AuditLog, log: Path) -> list[dict[str, Any]]:
    assert audit.flush()
    return only(log).check(finished=False).records


class Collected:
    """A batch as it reaches an exporter, to hand it over by hand."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def export(self, batch: Any) -> LogRecordExportResult:
        self.items += batch
        return SUCCESS

    def shutdown(self) -> None:
        pass


def batch(*emitted: dict[str, Any]) -> list[Any]:
    provider, kept = LoggerProvider(shutdown_on_exit=False), Collected()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))  # type: ignore[arg-type]
    for one in emitted:
        provider.get_logger("bot").emit(LogRecord(**one))
    return kept.items


def test_an_order_is_an_order_and_all_else_an_event(audit: AuditLog, log: Path, logger: Any) -> None:
    for name in ("order.created", "order.updated", "trade.executed", "position.closed"):
        logger.emit(LogRecord(event_name=name, attributes={**ORDER, "size": 94.7}, body={"raw": {"a": [1, "2"]}}))
    found = records(audit, log)
    names = [record["event_name"] for record in found]
    assert names == ["order.created", "order.updated", "trade.executed", "position.closed"]
    for record in found:
        assert record["attributes"] == {**ORDER, "size": 94.7, "raw": {"a": [1, "2"]}, "otel.scope.name": "bot"}
        assert (record["severity_text"], record["severity_number"]) == ("INFO", 9)


def test_the_time_of_the_record_is_kept_and_the_observed_one_stands_in(audit: AuditLog, log: Path, logger: Any) -> None:
    logger.emit(LogRecord(event_name="x", timestamp=NANOSECONDS))
    logger.emit(LogRecord(event_name="x", observed_timestamp=NANOSECONDS))
    before = datetime.now(UTC)
    logger.emit(LogRecord(event_name="x", timestamp=10**30, observed_timestamp=1))  # no time that anyone means
    kept, observed, odd = records(audit, log)
    assert kept["timestamp"] == observed["timestamp"] == "2026-11-22T13:10:56.015378Z"
    assert datetime.fromisoformat(kept["observed_timestamp"]) <= before
    assert abs((datetime.fromisoformat(odd["timestamp"]) - before).total_seconds()) < 60


def test_ids_are_those_of_the_records_own_span(audit: AuditLog, log: Path, logger: Any) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    with tracer.start_as_current_span("span") as span:
        logger.emit(LogRecord(event_name="x"))
        context = span.get_span_context()
        (outside,) = batch({"event_name": "y", "trace_id": 1, "span_id": 2, "trace_flags": None})
        with structlog.contextvars.bound_contextvars(strategy="not of the record"):
            AuditLogRecordExporter(audit).export([outside])
    inside, outside = records(audit, log)
    assert (inside["trace_id"], inside["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert inside["attributes"] == {"trace_flags": int(context.trace_flags), "otel.scope.name": "bot"}
    assert (outside["trace_id"], outside["span_id"]) == (f"{1:032x}", f"{2:016x}")
    assert "strategy" not in outside["attributes"]


@pytest.mark.parametrize(
    ("text", "number", "written", "beside"),
    [
        (None, None, ("INFO", 9), {}),
        ("WARN", SeverityNumber.WARN, ("WARN", 13), {}),
        ("critical", SeverityNumber.FATAL, ("FATAL", 21), {}),
        (None, SeverityNumber.ERROR, ("ERROR", 17), {}),
        ("NOTICE", SeverityNumber.INFO2, ("INFO", 9), {"severity_text": "NOTICE", "severity_number": 10}),
        ("DEBUG", SeverityNumber.TRACE4, ("TRACE", 1), {"severity_text": "DEBUG", "severity_number": 4}),
        ("NOTICE", None, ("NOTICE", 9), {}),
        ("WARNING", SeverityNumber.UNSPECIFIED, ("WARN", 13), {}),
    ],
)
def test_severity(
    audit: AuditLog, log: Path, logger: Any, text: Any, number: Any, written: tuple[str, int], beside: dict[str, Any]
) -> None:
    logger.emit(LogRecord(event_name="x", severity_text=text, severity_number=number))
    (record,) = records(audit, log)
    assert (record["severity_text"], record["severity_number"]) == written
    assert record["attributes"] == {**beside, "otel.scope.name": "bot"}


def test_nothing_is_lost_where_names_meet(audit: AuditLog, log: Path, logger: Any) -> None:
    attributes = {"timestamp": 5, "trace_id": "mine", "body": "a", "price": "1", "event.name": "old.name"}
    logger.emit(LogRecord(timestamp=NANOSECONDS, attributes=attributes, body="text"))
    logger.emit(LogRecord(event_name="y", attributes={"price": "1"}, body={"price": "2", "api_key": "k"}))
    first, second = records(audit, log)
    assert first["event_name"] == "old.name"
    assert first["trace_id"] == "mine"
    assert first["attributes"] == {
        "body": "a", "body'": "text", "price": "1", "timestamp'": 5, "otel.scope.name": "bot"
    }  # fmt: skip
    assert second["attributes"] == {"price": "1", "price'": "2", "api_key": "***", "otel.scope.name": "bot"}


def test_the_standard_librarys_logging(audit: AuditLog, log: Path, standard: logging.Logger) -> None:
    standard.info("order.created", extra=ORDER)
    standard.warning("the exchange answered %s", 503)
    try:
        raise ValueError("too small")
    except ValueError:
        standard.exception("refused")
    order, warned, failed = records(audit, log)
    assert order["event_name"] == "order.created"
    assert order["attributes"].items() >= ORDER.items()
    assert "body" not in order["attributes"]
    assert (warned["event_name"], warned["severity_text"]) == ("log.message", "WARN")
    assert warned["attributes"]["body"] == "the exchange answered 503"
    assert warned["attributes"]["otel.scope.name"] == "tests.opentelemetry"
    assert failed["attributes"]["error_message"] == "too small"
    assert failed["attributes"]["stack_trace"].endswith("ValueError: too small\n")
    assert failed["attributes"]["exception.type"] == "ValueError"


def test_any_value_is_written_and_nothing_is_raised(audit: AuditLog, log: Path, logger: Any) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    for body in (Odd(), Decimal("1.10"), b"bytes", [1, None], {1: Odd()}, float("nan"), 10**30):
        logger.emit(LogRecord(event_name="x", body=body))
    found = records(audit, log)
    assert [record["attributes"].get("body") for record in found][1:4] == ["1.10", "b'bytes'", [1, None]]
    assert [record["attributes"].get("body") for record in found][5:] == ["NaN", str(10**30)]
    assert len(found) == 7


def test_a_batch_is_written_in_order_and_the_answer_is_honest(log: Path) -> None:
    audit = AuditLog(log, **SMALL)
    exporter = AuditLogRecordExporter(audit)
    many = batch(*({"event_name": "x", "attributes": {"n": n}} for n in range(100)))
    assert exporter.export(many) is SUCCESS
    assert exporter.export([]) is SUCCESS
    assert exporter.force_flush(5000)
    assert exporter.export([object()]) is FAILURE  # type: ignore[list-item]
    assert audit.stats().last_error == "AttributeError in a log record of OpenTelemetry"
    exporter.shutdown()
    assert exporter.export(many) is FAILURE
    assert audit.event("y") == 101  # a log that was given stays open
    audit.close()
    assert AuditLogRecordExporter(audit).export(many) is FAILURE
    found = only(log).check().records
    assert [record["attributes"].get("n") for record in found] == [*range(100), None]


def test_a_full_ring_is_a_failure(log: Path) -> None:
    with AuditLog(log, **(SMALL | {"flush_interval_ms": 60_000, "ring_bytes": 16 * 1024})) as audit:
        exporter = AuditLogRecordExporter(audit)
        # More than the ring holds, in one call: the writer has no chance.
        answers = {exporter.export(batch({"event_name": "x", "body": "x" * 3000}) * 50) for _ in range(20)}
        assert audit.stats().lost > 0
        assert FAILURE in answers


def test_what_a_value_logs_while_it_is_read_does_not_feed_itself(audit: AuditLog, log: Path, logger: Any) -> None:
    class Talking:
        def __repr__(self) -> str:
            logger.emit(LogRecord(event_name="y", body=self))
            return "talking"

    logger.emit(LogRecord(event_name="x", body=Talking()))
    (record,) = records(audit, log)
    assert record["attributes"]["body"] == "talking"


def test_a_processor_with_a_queue(log: Path) -> None:
    audit = AuditLog(log, **(SMALL | {"ring_bytes": 1024 * 1024}))
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(AuditLogRecordExporter(audit)))
    logger = provider.get_logger("bot")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    with tracer.start_as_current_span("span") as span:
        for n in range(1000):
            logger.emit(LogRecord(event_name="order.created", timestamp=NANOSECONDS + n * 1000, attributes={"n": n}))
    assert provider.force_flush()
    provider.shutdown()
    audit.close()
    found = only(log).check().records
    assert [record["attributes"]["n"] for record in found] == list(range(1000))
    assert {record["trace_id"] for record in found} == {f"{span.get_span_context().trace_id:032x}"}
    assert found[999]["timestamp"] == "2026-11-22T13:10:56.016377Z"


CONFIGURED = """
import logging, os, signal, sys
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure()
logging.getLogger("bot").warning("order.created", extra={"exchange": "bybit", "symbol": "MNTUSDT"})
logging.getLogger("bot").error("text")
"""


def configured(log: Path, code: str = CONFIGURED, **more: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TRADETRAIL_", "OTEL_"))}
    env |= {
        "OTEL_LOGS_EXPORTER": "tradetrail",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
        "OTEL_SERVICE_NAME": "fox-bot",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod",
        "TRADETRAIL_DIR": str(log),
        "TRADETRAIL_RING_BYTES": "65536",
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=env | more, capture_output=True, text=True, timeout=60, check=False
    )


def test_by_configuration_alone(log: Path) -> None:
    done = configured(log)
    assert done.returncode == 0, done
    trail = only(log).check()  # the SDK's shutdown at exit closes the log
    assert [record["event_name"] for record in trail.records] == ["order.created", "log.message"]
    assert trail.records[0]["attributes"].items() >= {"exchange": "bybit", "symbol": "MNTUSDT"}.items()
    (segment,) = trail.segments
    assert segment.header["resource"].items() >= {
        "service.name": "fox-bot", "deployment.environment.name": "prod"
    }.items()  # fmt: skip


def test_a_kill_loses_nothing_of_what_a_simple_processor_took(log: Path) -> None:
    code = """
import os, signal, sys
from emitter import AuditLog
from emitter.opentelemetry import AuditLogRecordExporter
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
provider = LoggerProvider()
audit = AuditLog.from_env(flush_interval_ms=60_000)
provider.add_log_record_processor(SimpleLogRecordProcessor(AuditLogRecordExporter(audit)))
for n in range(20):
    provider.get_logger("bot").emit(LogRecord(event_name="x", attributes={"n": n}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert configured(log, code).returncode == -signal.SIGKILL
    AuditLog(log, **SMALL).close()  # finishes the dead stream
    found = [record for path in sorted(log.glob("*.jsonl")) for record in path.read_text().splitlines()]
    assert sum('"n":' in record for record in found) == 20


def test_without_the_sdk_one_line_says_what_is_missing(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
import emitter
assert not [name for name in sys.modules if name.startswith("opentelemetry") and name != "opentelemetry.sdk"]
try:
    import emitter.opentelemetry
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "emitter.opentelemetry needs OpenTelemetry's SDK: pip install opentelemetry-sdk\n"


# -- docs/opentelemetry.md --


def test_the_pages_environment_is_all_it_takes(tmp_path: Path) -> None:
    (block,) = (code for code in Page("docs/opentelemetry.md").code("sh") if code.startswith("export "))
    said = dict(word.split("=", 1) for word in shlex.split(block, comments=True) if word != "export")
    assert said.keys() == {"OTEL_LOGS_EXPORTER", "OTEL_SERVICE_NAME", "TRADETRAIL_DIR"}
    done = configured(tmp_path, **said | {"TRADETRAIL_DIR": str(tmp_path / said["TRADETRAIL_DIR"])})
    assert done.returncode == 0, done
    assert len(only(tmp_path / "var/audit").check().records) == 2
