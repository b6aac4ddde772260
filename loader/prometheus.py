"""The numbers of a ``watch`` for Prometheus, over HTTP. The only module that knows prometheus_client.

A scrape reads numbers that are there anyway: it asks no database and no disk, and waits for nobody.
"""

from __future__ import annotations

import errno
import logging
import math
import platform
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from emitter import __version__
from emitter.records import KINDS

from .errors import EnvironmentFault, UsageError
from .standing import BATCH_SECONDS, Standing

_log = logging.getLogger("tradetrail")
PATH = "/metrics"
_SEVERITIES = {"reject": "rejected", "repair": "repaired"}
# Whoever connects and says nothing is sent away; more than so many at once are not let in.
_TIMEOUT_S = 5.0
_AT_ONCE = 16
# How soon the server's thread sees that it shall end.
_POLL_S = 0.2


class _Numbers:
    """prometheus_client's collector: turns a :class:`Standing` into metrics, anew for each scrape."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        yield from self._done()
        yield from self._state()

    def _done(self) -> Iterator[Metric]:
        totals = self._standing.totals
        yield CounterMetricFamily(
            "tradetrail_records_read",
            "New records read from the log. Each was loaded, was in the database before, or was rejected.",
            totals.records,
        )
        loaded = CounterMetricFamily(
            "tradetrail_records_loaded", "Records loaded, by the table of PostgreSQL that has them.", labels=["kind"]
        )
        for kind in KINDS:
            loaded.add_metric([kind.table], getattr(totals, kind.table))
        yield loaded
        yield CounterMetricFamily(
            "tradetrail_records_duplicate",
            "Records that were in the database before, and made no row.",
            totals.duplicates,
        )
        yield CounterMetricFamily(
            "tradetrail_records_lost",
            "Records that the log itself declares lost; column losses of monitoring.audit_segments says which and why.",
            totals.lost,
        )
        for severity, word in _SEVERITIES.items():
            lines = CounterMetricFamily(
                f"tradetrail_lines_{word}",
                f"Lines {word}, by rule; a line that breaks several rules counts under each. They are kept in "
                "monitoring.audit_rejects.",
                labels=["rule"],
            )
            for (of, rule), count in totals.reasons.items():
                if of == severity:
                    lines.add_metric([rule], count)
            yield lines
        yield CounterMetricFamily(
            "tradetrail_loaded_bytes",
            "Bytes of segment files that are dealt with: loaded, or kept as rejects.",
            totals.bytes,
        )
        yield self._batches()

    def _batches(self) -> Metric:
        ends = [*(str(end) for end in BATCH_SECONDS), "+Inf"]
        return HistogramMetricFamily(
            "tradetrail_batch_duration_seconds",
            "How long each batch took, from the look at the directory or the batch before it until it was committed, "
            "with all retries. The count is that of the batches.",
            list(zip(ends, accumulate(self._standing.batches), strict=True)),
            self._standing.batch_seconds,
        )

    def _state(self) -> Iterator[Metric]:
        standing = self._standing
        waiting = standing.lag.waiting.bytes
        yield GaugeMetricFamily(
            "tradetrail_lag_bytes",
            "Bytes of whole lines in the log that are not loaded, as of the last look: one after each batch, one every "
            "second while a load takes longer or the database is away. NaN: there are lines, and no database has said "
            "since the start of this program which of them are loaded.",
            math.nan if waiting is None else waiting,
        )
        yield GaugeMetricFamily(
            "tradetrail_lag_seconds",
            "How long ago this program first saw the oldest of the bytes that are not loaded; 0 when none wait. Grows "
            "while the database is away. What was written before the start counts from the start.",
            standing.lag.seconds,
        )
        yield GaugeMetricFamily(
            "tradetrail_last_load_timestamp_seconds",
            "When a batch was last committed, in seconds since 1970; 0: not since the start of this program.",
            standing.loaded_at,
        )
        yield GaugeMetricFamily(
            "tradetrail_database_connected",
            "1 while there is a connection to PostgreSQL, as of the last look; 0 while it is away, and while the log "
            "directory is not there yet.",
            int(standing.connected),
        )
        errors = CounterMetricFamily(
            "tradetrail_errors",
            "Errors of the database after which it was tried again, by PostgreSQL's class of SQLSTATEs. "
            "connection_exception: nobody answered, too. unknown_outcome: COMMIT did not answer, and the ledger was "
            "asked. An error that does not pass ends the program.",
            labels=["kind"],
        )
        for kind, count in standing.errors.items():
            errors.add_metric([kind], count)
        yield errors
        failed = GaugeMetricFamily(
            "tradetrail_last_error_timestamp_seconds",
            "When an error of that kind was last met, in seconds since 1970; kinds that were not met are left out.",
            labels=["kind"],
        )
        for kind, moment in standing.failed_at.items():
            failed.add_metric([kind], moment)
        yield failed
        yield GaugeMetricFamily(
            "tradetrail_files_with_problems",
            "Files of the log directory that cannot be loaded, or that a dead bot left and that cannot be finished "
            "here; what this program says on stderr names them.",
            len(standing.problems),
        )
        yield InfoMetricFamily(
            "tradetrail_build",
            "Versions of tradetrail and of the Python that runs it.",
            {"version": __version__, "python": platform.python_version()},
        )


class _Handler(MetricsHandler):
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:  # noqa: N802  the name is http.server's
        if urlsplit(self.path).path == PATH:
            super().do_GET()
        else:
            self.send_error(404, explain=f"the metrics are at {PATH}")


class _Server(socketserver.ThreadingTCPServer):
    """One thread a scrape, and a bounded number of them."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * _AT_ONCE

    def __init__(self, family: socket.AddressFamily, address: Any, handler: type[_Handler]) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: Any) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # else who asked has gone
            _log.warning("a scrape of the metrics failed: %s: %s", type(error).__name__, error)


@contextmanager
def serve(standing: Standing, host: str, port: int) -> Iterator[str]:
    """Serve the numbers for as long as this lasts; yields where, as a URL. ``port`` 0: any that is free.

    Errors: ``UsageError`` for a host that nobody knows, ``EnvironmentFault`` for a port that cannot be had.
    """
    registry = CollectorRegistry(auto_describe=True)
    registry.register(_Numbers(standing))
    server = _bound(host, port, _Handler.factory(registry))
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_address[1]}{PATH}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _bound(host: str, port: int, handler: type[_Handler]) -> _Server:
    try:
        # A blank is no name of "everywhere" here.
        family, _, _, _, address = socket.getaddrinfo(host.strip() or "?", port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"--metrics-host: {host!r} is neither an address nor the name of a host") from error
    try:
        return _Server(family, address, handler)
    except OSError as error:
        where = f"metrics cannot be served on {host}, port {port}"
        if error.errno == errno.EADDRINUSE:
            raise EnvironmentFault(f"{where}: the port is taken; give another with --metrics-port") from error
        if error.errno == errno.EACCES:
            raise EnvironmentFault(f"{where}: this user may not; give a port above 1023 with --metrics-port") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise EnvironmentFault(f"{where}: this machine has no such address; see --metrics-host") from error
        raise EnvironmentFault(f"{where}: {error.strerror or error}") from error
