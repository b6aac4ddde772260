"""Who takes part: our call and its rivals, each set up as its own documentation recommends for production.

All write the same record as one line of JSON to a file, from a thread of their own where they can. Each call builds
its fields anew, as a bot does. A contestant is opened in a process of its own; one whose library is not installed
raises ``ImportError``.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .figures import NONE, OURS
from .record import EVENT, FIELDS

LINES: Final = "bot.jsonl"
AUDIT: Final = "audit"


def _nothing() -> None:
    """Takes the place of a call or of a wait."""


@dataclass(frozen=True, slots=True)
class Logger:
    """``call`` makes one record; ``drain`` waits until the threads behind it have nothing left to do."""

    call: Callable[[], object]
    drain: Callable[[], object] = _nothing


@dataclass(frozen=True, slots=True)
class Contestant:
    """How one is shown and opened. ``open`` is None for the one that is awaited (see ``inserts``)."""

    title: str
    open: Callable[[Path], AbstractContextManager[Logger]] | None
    writes_to_path: bool = True


@contextmanager
def _no_logger(_: Path) -> Iterator[Logger]:
    yield Logger(_nothing)


@contextmanager
def _tradetrail(folder: Path) -> Iterator[Logger]:
    from emitter import AuditLog

    with AuditLog(folder / AUDIT, service="bench") as audit:
        yield Logger(lambda: audit.order(**FIELDS), audit.flush)


def _until_empty(waiting: Any) -> Callable[[], object]:
    """Wait for a queue whose listener says ``task_done``."""

    def wait() -> None:
        while waiting.unfinished_tasks:
            time.sleep(0.001)

    return wait


def _standard(folder: Path, formatter: logging.Formatter) -> Iterator[Logger]:
    """The logging cookbook's "Dealing with handlers that block"."""
    lines = logging.FileHandler(folder / LINES)
    lines.setFormatter(formatter)
    waiting: queue.Queue[Any] = queue.Queue(-1)
    listener = logging.handlers.QueueListener(waiting, lines)
    log = logging.getLogger("bench")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(logging.handlers.QueueHandler(waiting))
    listener.start()
    yield Logger(lambda: log.info(EVENT, extra={**FIELDS}), _until_empty(waiting))
    listener.stop()
    lines.close()


@contextmanager
def _queue_handler(folder: Path) -> Iterator[Logger]:
    from pythonjsonlogger.json import JsonFormatter

    yield from _standard(folder, JsonFormatter(["message", "levelname"], timestamp=True))


@contextmanager
def _queue_handler_orjson(folder: Path) -> Iterator[Logger]:
    from pythonjsonlogger.orjson import OrjsonFormatter

    yield from _standard(folder, OrjsonFormatter(["message", "levelname"], timestamp=True))


@contextmanager
def _structlog(folder: Path) -> Iterator[Logger]:
    """The chain of structlog's page on performance."""
    import orjson
    import structlog

    with (folder / LINES).open("wb") as file:
        structlog.configure(
            cache_logger_on_first_use=True,
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.format_exc_info,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            logger_factory=structlog.BytesLoggerFactory(file=file),
        )
        log = structlog.get_logger()
        yield Logger(lambda: log.info(EVENT, **FIELDS))


@contextmanager
def _loguru(folder: Path) -> Iterator[Logger]:
    from loguru import logger

    logger.remove()
    logger.add(folder / LINES, enqueue=True, serialize=True)
    yield Logger(lambda: logger.info(EVENT, **FIELDS), logger.complete)
    logger.remove()


@contextmanager
def _picologging(folder: Path) -> Iterator[Logger]:
    """It drops ``extra`` (0.9.3), so the fields go in as the message, encoded by the caller."""
    import orjson
    import picologging
    import picologging.handlers

    lines = picologging.FileHandler(str(folder / LINES))
    lines.setFormatter(
        picologging.Formatter('{"timestamp":%(created)f,"level":"%(levelname)s","attributes":%(message)s}')
    )
    waiting: queue.Queue[Any] = queue.Queue(-1)
    listener = picologging.handlers.QueueListener(waiting, lines)
    log = picologging.Logger("bench", picologging.INFO)
    log.addHandler(picologging.handlers.QueueHandler(waiting))
    listener.start()
    yield Logger(lambda: log.info(orjson.dumps({"event": EVENT, **FIELDS}).decode()), _until_empty(waiting))
    listener.stop()
    lines.close()


@contextmanager
def _opentelemetry(folder: Path) -> Iterator[Logger]:
    """The Logs API itself, without the standard library before it; the SDK's own exporter of JSON to a file."""
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter

    with (folder / LINES).open("w") as file:
        provider = LoggerProvider(shutdown_on_exit=False)
        exporter = ConsoleLogRecordExporter(file, lambda record: (record.to_json(indent=None) or "") + "\n")
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
        log = provider.get_logger("bench")

        def call() -> None:
            log.emit(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                event_name=EVENT,
                attributes={**FIELDS},
            )

        yield Logger(call, provider.force_flush)
        provider.shutdown()


AWAITED: Final = "asyncpg"
CONTESTANTS: Final[dict[str, Contestant]] = {
    NONE: Contestant("no logger", _no_logger, writes_to_path=False),
    OURS: Contestant("tradetrail", _tradetrail, writes_to_path=False),
    "queue-handler": Contestant("QueueHandler + python-json-logger", _queue_handler),
    "queue-handler-orjson": Contestant("the same with its OrjsonFormatter", _queue_handler_orjson),
    "structlog": Contestant("structlog BytesLogger + orjson", _structlog),
    "loguru": Contestant("loguru enqueue, serialize", _loguru),
    "picologging": Contestant("picologging QueueHandler", _picologging),
    "opentelemetry": Contestant("OpenTelemetry SDK batch", _opentelemetry),
    AWAITED: Contestant("awaited asyncpg INSERT", None, writes_to_path=False),
}
