"""``AuditLog``: what a bot calls. No call waits for a disk, a socket or a database, and none raises."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from .encoding import Encoder, Secrets
from .errors import DirectoryError
from .records import ORDER, ORDER_UPDATE, TRADE
from .recovery import recover
from .ring import CLOSED, NOT_ENCODABLE, REASONS, Ring, anonymous, create_shared
from .segments import new_stream
from .settings import EmitterSettings, settings_from_arguments, settings_from_environment
from .times import time_from, time_text
from .writer import Writer, WriterSettings

_CLOSE_TIMEOUT_S = 5.0
_STRUCTLOG_PREFIX: Final = "structlog_"  # structlog.contextvars keeps each name in a ContextVar of its own


@dataclass(frozen=True, slots=True)
class Stats:
    """The emitter's state at one moment; cheap enough to be read at every scrape of a metrics endpoint.

    ``emitted`` counts calls, ``written`` records in files, ``lost`` declared losses: once all is flushed,
    ``emitted == written + lost``.
    """

    stream: str
    segment: str
    emitted: int
    written: int
    lost: int
    lost_by_reason: Mapping[str, int]
    ring_bytes: int
    ring_used_bytes: int
    ring_high_water_bytes: int
    ring_shared: bool
    ring_unlinked: bool
    last_error: str | None
    last_sync_age_s: float


class AuditLog:
    """The trail of one bot process.

    ``AuditLog("var/audit", service="fox-bot")`` opens a new stream in a directory and finishes those of dead
    processes. Keyword arguments are the fields of :class:`~emitter.settings.EmitterSettings`. The constructor may
    raise :class:`~emitter.errors.SettingError` or :class:`~emitter.errors.DirectoryError`; nothing after it raises.

    Each call returns the seq of its record (1, 2, 3, ...), or 0 once the log is closed or disabled. All take
    ``timestamp=`` for records of the past (a datetime, ISO 8601, or a number since 1970).
    """

    __slots__ = ("__weakref__", "_bound", "_core")

    def __init__(self, directory: str | os.PathLike[str] = "var/audit", **settings: Any) -> None:
        self._core = _Core(settings_from_arguments(directory=Path(directory), **settings))
        self._bound: dict[str, Any] = {}

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> AuditLog:
        """An audit log by ``TRADETRAIL_*`` and OpenTelemetry's variables; arguments given win."""
        return cls._of(_Core(settings_from_environment(environ, **settings)), {})

    @classmethod
    def _of(cls, core: _Core, bound: dict[str, Any]) -> AuditLog:
        log = cls.__new__(cls)
        log._core, log._bound = core, bound  # noqa: SLF001  its own constructor
        return log

    def order(self, **fields: Any) -> int:
        """An order was made (``order.created``): exchange, symbol, type, side, status and what else is known."""
        return self._core.emit(_ORDER_CREATED, self._bound, fields)

    def update_order(self, **fields: Any) -> int:
        """An order changed (``order.updated``): exchange, symbol, order_id or client_order_id, and what changed."""
        return self._core.emit(_ORDER_UPDATED, self._bound, fields)

    def trade(self, **fields: Any) -> int:
        """A fill (``trade.executed``): exchange, symbol, side, price, executed_qty and what else is known."""
        return self._core.emit(_TRADE_EXECUTED, self._bound, fields)

    def event(self, name: str, *, severity: str = "INFO", **fields: Any) -> int:
        """Anything else worth a line, under a name in the past tense such as ``position.closed``."""
        return self._core.emit((str(name), str(severity).upper()), self._bound, fields)

    def bind(self, **fields: Any) -> AuditLog:
        """The same trail with fields that are added to every record made through it."""
        return self._of(self._core, {**self._bound, **fields})

    def unbind(self, *names: str) -> AuditLog:
        """The same trail without these bound fields."""
        return self._of(self._core, {name: value for name, value in self._bound.items() if name not in names})

    def new(self, **fields: Any) -> AuditLog:
        """The same trail with these bound fields only."""
        return self._of(self._core, fields)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was logged before is on the disk; whether that was reached in time (seconds)."""
        return self._core.flush(timeout)

    def stats(self) -> Stats:
        """What happened so far."""
        return self._core.stats()

    def close(self, timeout: float = _CLOSE_TIMEOUT_S) -> bool:
        """Write what is left and close the segment; whether it was done in time. What was not is recovered later."""
        return self._core.close(timeout)

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_ORDER_CREATED = (str(ORDER.event_name), "INFO")
_ORDER_UPDATED = (str(ORDER_UPDATE.event_name), "INFO")
_TRADE_EXECUTED = (str(TRADE.event_name), "INFO")


class _Core:
    """One stream of one process, shared by an ``AuditLog`` and all that were bound from it."""

    def __init__(self, settings: EmitterSettings) -> None:
        self.settings = settings
        self._encoder = Encoder(Secrets(settings.redact), settings.max_line_bytes)
        self._starting = threading.Lock()
        self._ring: Ring | None = None
        self._writer: Writer | None = None
        self._stream = ""
        self._closed = settings.disabled
        self._final: Stats | None = None
        self._failures = 0
        self._last_failure: str | None = None
        if not settings.disabled:
            self._start()
        _LIVING.add(self)

    def emit(self, kind: tuple[str, str], bound: Mapping[str, Any], fields: dict[str, Any]) -> int:
        """One record: join the contexts, encode, hand over. The bot's order path."""
        try:
            context = copy_context()
            if len(context):
                inherited = {
                    variable.name[len(_STRUCTLOG_PREFIX) :]: value
                    for variable, value in context.items()
                    if variable.name.startswith(_STRUCTLOG_PREFIX) and value is not Ellipsis
                }
                if inherited or bound:
                    fields = {**inherited, **bound, **fields}
            elif bound:
                fields = {**bound, **fields}
            encoder = self._encoder
            head = encoder.head(*kind)
            body = encoder.body(head, *_past(fields)) if "timestamp" in fields else encoder.body(head, fields)
            ring = self._ring
            if ring is None:
                ring = self._start_in_child()
            return ring.append(body) if ring is not None else 0
        except Exception as error:  # noqa: BLE001  whatever it is, the bot goes on
            return self._not_emitted(error)

    def _not_emitted(self, error: Exception) -> int:
        """A record that could not even be encoded (no memory) still has a number, and is declared lost."""
        self._last_failure = f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):
            if self._ring is not None:
                return self._ring.forgo(NOT_ENCODABLE)
        return 0

    # -- life --

    def _start(self) -> None:
        settings = self.settings
        gid = _prepare_directory(settings)
        recovered = recover(settings.directory, ring_dir=settings.ring_dir)
        for problem in recovered.problems:
            warnings.warn(f"an earlier stream is not finished: {problem}", stacklevel=4)
        stream = new_stream()
        try:
            memory = create_shared(settings.ring_dir, settings.ring_bytes, stream, settings.directory.resolve())
        except OSError as error:
            memory = anonymous(settings.ring_bytes)
            warnings.warn(
                f"no ring that outlives the process ({error}): a kill can cost what was not yet written, "
                f"up to {settings.flush_interval_ms:g} ms",
                stacklevel=4,
            )
        try:
            ring = Ring(memory, stream)
            writer = Writer(
                ring,
                stream,
                WriterSettings(
                    directory=settings.directory,
                    service=settings.service,
                    resource=_resource(settings),
                    segment_max_bytes=settings.segment_max_bytes,
                    segment_max_age_s=settings.segment_max_age_s,
                    flush_interval_s=settings.flush_interval_ms / 1000,
                    fsync_interval_s=settings.fsync_interval_ms / 1000,
                    file_mode=0o600 if settings.group is None else 0o640,
                    gid=gid,
                ),
            )
        except OSError as error:
            if memory.path is not None:
                memory.path.unlink(missing_ok=True)
            raise DirectoryError(f"{settings.directory}: no segment can be made: {error.strerror}") from error
        writer.on_loss = self._tell_loss
        writer.start()
        self._stream, self._writer, self._ring = stream, writer, ring

    def _start_in_child(self) -> Ring | None:
        """The first call in a forked child begins a stream of its own."""
        with self._starting:
            if self._ring is None and not self._closed:
                try:
                    self._start()
                except Exception as error:  # noqa: BLE001
                    self._closed = True
                    self._last_failure = f"{type(error).__name__}: {error}"
            if self._ring is None:
                self._failures += 1
            return self._ring

    def after_fork_in_child(self) -> None:
        """Let go of the parent's files without unlocking them; start anew only when there is something to log."""
        ring, writer = self._ring, self._writer
        self._starting = threading.Lock()
        self._ring = self._writer = None
        if ring is None or writer is None:
            return
        descriptors = writer.descriptors()
        if ring.memory.fd is not None:
            descriptors.append(ring.memory.fd)
            ring.memory.fd = None
        for fd in descriptors:
            with contextlib.suppress(OSError):
                os.close(fd)

    def flush(self, timeout: float) -> bool:
        writer = self._writer
        return True if self._closed or writer is None else writer.flush(timeout)

    def close(self, timeout: float) -> bool:
        with self._starting:
            if self._closed:
                return True
            ring, writer = self._ring, self._writer
            self._closed = True
        if ring is None or writer is None:
            return True
        ring.close()
        done = writer.stop(timeout)
        self._final = self.stats()
        if done and ring.memory.path is not None:
            ring.memory.path.unlink(missing_ok=True)
        return done

    def stats(self) -> Stats:
        ring, writer = self._ring, self._writer
        if ring is None or writer is None:
            lost = {REASONS[CLOSED]: self._failures} if self._failures else {}
            return Stats(
                "",
                "",
                self._failures,
                0,
                self._failures,
                lost,
                0,
                0,
                0,
                False,
                False,
                self._last_failure,
                0.0,
            )
        lost_by_reason = ring.lost_by_reason
        return Stats(
            stream=self._stream,
            segment=writer.segment_name,
            emitted=ring.last_seq + lost_by_reason.get(REASONS[CLOSED], 0),
            written=writer.records_total,
            lost=sum(lost_by_reason.values()),
            lost_by_reason=lost_by_reason,
            ring_bytes=ring.memory.capacity,
            ring_used_bytes=ring.used_bytes,
            ring_high_water_bytes=max(writer.high_water, ring.used_bytes),
            ring_shared=ring.shared,
            ring_unlinked=not self._closed and ring.unlinked,
            last_error=self._last_failure or writer.last_error,
            last_sync_age_s=time.monotonic() - writer.synced_at,
        )

    def _tell_loss(self) -> None:
        if self.settings.on_loss is not None:
            try:
                self.settings.on_loss(self.stats())
            except Exception as error:  # noqa: BLE001  the bot's own callback
                self._last_failure = f"on_loss raised {type(error).__name__}: {error}"


def _past(fields: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Split off a ``timestamp`` that was given; one that cannot be read stays among the attributes."""
    rest = dict(fields)
    moment = time_from(rest["timestamp"])
    if moment is None:
        return rest, None
    del rest["timestamp"]
    return rest, time_text(moment)


def _resource(settings: EmitterSettings) -> dict[str, str]:
    """OpenTelemetry's resource attributes of this process (semantic conventions: service, host, process)."""
    return {
        "service.name": settings.service,
        "host.name": os.uname().nodename,
        "process.pid": str(os.getpid()),
        "process.runtime.version": sys.version.split()[0],
        **{str(key): str(value) for key, value in settings.resource.items()},
    }


def _prepare_directory(settings: EmitterSettings) -> int:
    """The log directory, private to its owner (and, with ``group``, readable for that group); the group's id."""
    directory, gid = settings.directory, -1
    try:
        made = not directory.exists()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.group is not None:
            import grp

            gid = int(settings.group) if settings.group.isdigit() else grp.getgrnam(settings.group).gr_gid
            if made:
                os.chown(directory, -1, gid)
                directory.chmod(0o2750)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission to write there")
    except KeyError as error:
        raise DirectoryError(f"{directory}: there is no group {settings.group!r} on this machine") from error
    except OSError as error:
        raise DirectoryError(f"{directory}: cannot be used for the log: {error.strerror}") from error
    return gid


# Cores are closed at exit and reset in a forked child; one that is dropped without close() ends with the process.
_LIVING: weakref.WeakSet[_Core] = weakref.WeakSet()


def _close_all() -> None:
    for core in list(_LIVING):
        core.close(_CLOSE_TIMEOUT_S)


def _after_fork_in_child() -> None:
    for core in list(_LIVING):
        core.after_fork_in_child()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
