"""One stream of one process: its start, its end, and what a fork makes of it."""

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
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .context import Fields
from .encoding import Encoder, Heading, heading
from .errors import DirectoryError, SettingError
from .memory import CLOSED, NOT_ENCODABLE, REASONS, Memory
from .recovery import recover
from .ring import Ring
from .seal import read_seal
from .segments import make_directory, new_stream
from .settings import EmitterSettings
from .shared import anonymous, create_shared
from .tracing import with_span
from .values import clean_text, safe_text
from .writer import Writer, WriterSettings

CLOSE_TIMEOUT_S = 5.0
_STRUCTLOG_PREFIX: Final = "structlog_"  # structlog.contextvars keeps each name in a ContextVar of its own


@dataclass(frozen=True, slots=True)
class Stats:
    """The emitter's state at one moment; cheap enough to be read at every scrape of a metrics endpoint.

    ``emitted`` counts calls, ``written`` records in files, ``lost`` declared losses: once all is flushed,
    ``emitted == written + lost``. ``last_sync_age_s`` is 0 while all that was logged is on the disk.
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


class Core:
    """One stream of one process, shared by an ``AuditLog`` and all that were bound from it."""

    def __init__(self, settings: EmitterSettings) -> None:
        self.settings = settings
        self.contexts: ContextVar[Fields] = ContextVar("tradetrail")
        # Read once: a forked child, which starts a stream of its own, may no longer be able to.
        self._seal = read_seal(settings.seal_key) if settings.seal_key and not settings.disabled else None
        self._encoder = Encoder(settings.redact, settings.max_line_bytes)
        # Re-entrant: a signal handler may log or close while the call it interrupts starts or closes.
        self._starting = threading.RLock()
        self._in_start = False
        self._ring: Ring | None = None
        self._writer: Writer | None = None
        self._stream = ""
        self._closed = settings.disabled
        self._refused = 0  # calls that no ring could take
        self._last_failure: str | None = None
        if not settings.disabled:
            for word in self._start():
                warnings.warn(word, stacklevel=4)
        _LIVING.add(self)

    def emit(self, head: Heading, bound: Mapping[str, Any], fields: dict[str, Any]) -> int:
        """One record: join the contexts, encode, hand over. The bot's order path."""
        try:
            context = copy_context()
            if len(context):
                fields = joined(context, self.contexts, bound, fields)
            elif bound:
                fields = {**bound, **fields}
            body = self._encoder.body(head.text, fields)
            ring = self._ring
            if ring is None:
                ring = self._start_in_child()
            return ring.append(body) if ring is not None else 0
        except Exception as error:  # noqa: BLE001  whatever it is, the bot goes on
            return self._not_emitted(error)

    def event(self, name: object, severity: object, bound: Mapping[str, Any], fields: dict[str, Any]) -> int:
        """The same under any name."""
        try:
            head = heading(safe_text(name), safe_text(severity))
        except Exception as error:  # noqa: BLE001
            return self._not_emitted(error)
        return self.emit(head, bound, fields)

    def _not_emitted(self, error: Exception) -> int:
        """A record that could not even be encoded (no memory) still has a number, and is declared lost."""
        self._last_failure = f"{type(error).__name__} in a call of the log"
        with contextlib.suppress(Exception):
            if self._ring is not None:
                return self._ring.forgo(NOT_ENCODABLE)
        return 0

    def note(self, failure: str) -> None:
        """What ``stats()`` shows as the last error, where no record is lost by it."""
        self._last_failure = failure

    # -- life --

    def _start(self) -> list[str]:
        """Finish dead streams, then open one; what a person should be told."""
        settings, told = self.settings, []
        gid = _prepare_directory(settings)
        try:
            recovered = recover(settings.directory, ring_dir=settings.ring_dir, seal=self._seal)
        except OSError as error:
            raise DirectoryError(f"{settings.directory}: cannot be read: {error.strerror}") from error
        told += [f"an earlier stream is not finished: {problem}" for problem in recovered.problems]
        stream = new_stream()
        try:
            memory = create_shared(settings.ring_dir, settings.ring_bytes, stream, settings.directory.resolve())
        except OSError as error:
            memory = _anonymous(settings)
            told.append(
                f"no ring that outlives the process ({error}): a kill can cost what was not yet written, "
                f"up to {settings.flush_interval_ms:g} ms"
            )
        self._stream, self._ring, self._writer = stream, *self._open(memory, stream, gid)
        return told

    def _open(self, memory: Memory, stream: str, gid: int) -> tuple[Ring, Writer]:
        settings = self.settings
        ring, writer = Ring(memory, stream), None
        try:
            writer = Writer(
                ring,
                stream,
                WriterSettings(
                    directory=settings.directory,
                    service=clean_text(settings.service),
                    resource=_resource(settings),
                    segment_max_bytes=settings.segment_max_bytes,
                    segment_max_age_s=settings.segment_max_age_s,
                    flush_interval_s=settings.flush_interval_ms / 1000,
                    fsync_interval_s=settings.fsync_interval_ms / 1000,
                    file_mode=0o600 if settings.group is None else 0o640,
                    gid=gid,
                    seal=self._seal,
                ),
            )
            writer.on_loss = self._tell_loss
            writer.start()
        except Exception as error:
            if writer is not None:
                writer.abandon()
            _give_back(memory)
            if not isinstance(error, OSError | RuntimeError):  # RuntimeError: no thread can be started
                raise
            why = error.strerror if isinstance(error, OSError) else error
            raise DirectoryError(f"{settings.directory}: no segment can be made: {why}") from error
        return ring, writer

    def _start_in_child(self) -> Ring | None:
        """The first call in a forked child begins a stream of its own."""
        if self._closed:
            self._refused += not self.settings.disabled
            return None
        with self._starting:
            if self._ring is None and not self._closed and not self._in_start:
                self._in_start = True
                try:
                    for word in self._start():  # a warning may be made an exception, and this is the order path
                        self._last_failure = word
                    self._close_with_child()
                except Exception as error:  # noqa: BLE001
                    self._closed = self._ring is None
                    self._last_failure = f"{type(error).__name__}: {error}"
                finally:
                    self._in_start = False
            if self._ring is None:
                self._refused += 1
            return self._ring

    def _close_with_child(self) -> None:
        """multiprocessing ends its forked workers without atexit; it has finalizers of its own."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(self, self.close, args=(CLOSE_TIMEOUT_S,), exitpriority=0)

    def after_fork_in_child(self) -> None:
        """Let go of the parent's files without unlocking them; start anew only when there is something to log."""
        ring = self._ring
        self._starting = threading.RLock()
        self._in_start = False
        self._ring = self._writer = None
        self._refused, self._last_failure = 0, None
        if ring is not None:
            _let_go_of_segments(self._stream)
            if ring.memory.fd is not None:
                os.close(ring.memory.fd)
                ring.memory.fd = None
        self._stream = ""

    def flush(self, timeout: float) -> bool:
        writer = self._writer
        return True if writer is None else writer.flush(timeout)

    def close(self, timeout: float) -> bool:
        with self._starting:
            self._closed = True
            ring, writer = self._ring, self._writer
        if ring is None or writer is None:
            return True
        ring.close()
        done = writer.stop(timeout)
        ring.let_go()
        with self._starting:
            if done and ring.memory.alive:
                _give_back(ring.memory)
        return done

    def stats(self) -> Stats:
        ring, writer = self._ring, self._writer
        if ring is None or writer is None:
            lost = {REASONS[CLOSED]: self._refused} if self._refused else {}
            return Stats(
                stream="",
                segment="",
                emitted=self._refused,
                written=0,
                lost=self._refused,
                lost_by_reason=lost,
                ring_bytes=0,
                ring_used_bytes=0,
                ring_high_water_bytes=0,
                ring_shared=False,
                ring_unlinked=False,
                last_error=self._last_failure,
                last_sync_age_s=0.0,
            )
        lost_by_reason = ring.lost_by_reason
        used = ring.used_bytes
        return Stats(
            stream=self._stream,
            segment=writer.segment_name,
            emitted=ring.last_seq + ring.refused,
            written=writer.records_total,
            lost=sum(lost_by_reason.values()),
            lost_by_reason=lost_by_reason,
            ring_bytes=ring.memory.capacity,
            ring_used_bytes=used,
            ring_high_water_bytes=max(writer.high_water, used),
            ring_shared=ring.shared,
            ring_unlinked=not self._closed and ring.unlinked,
            last_error=self._last_failure or writer.last_error,
            last_sync_age_s=time.monotonic() - writer.synced_at if used else 0.0,
        )

    def _tell_loss(self) -> None:
        if self.settings.on_loss is not None:
            try:
                self.settings.on_loss(self.stats())
            except BaseException as error:  # noqa: BLE001  the bot's own callback, on the writer's thread
                self._last_failure = f"on_loss raised {type(error).__name__}: {error}"


def joined(
    context: Context, contexts: ContextVar[Fields], bound: Mapping[str, Any], fields: dict[str, Any]
) -> dict[str, Any]:
    """structlog's context variables, the log's own contexts, what is bound, what is given: the later wins.

    And the ids of an active span.
    """
    inherited = {
        variable.name[len(_STRUCTLOG_PREFIX) :]: value
        for variable, value in context.items()
        if variable.name.startswith(_STRUCTLOG_PREFIX) and value is not Ellipsis
    }
    for entered in context.get(contexts, ()):
        inherited.update(entered)
    if inherited or bound:
        fields = {**inherited, **bound, **fields}
    return with_span(fields)


def _resource(settings: EmitterSettings) -> dict[str, str]:
    """OpenTelemetry's resource attributes of this process (semantic conventions: service, host, process)."""
    resource = {
        "host.name": os.uname().nodename,
        "process.pid": str(os.getpid()),
        "process.runtime.version": sys.version.split()[0],
        **settings.resource,
        "service.name": settings.service,
    }
    return {clean_text(key): clean_text(value) for key, value in resource.items()}


def _give_back(memory: Memory) -> None:
    """Nobody needs it any more. As long as it is open its file takes up memory, whether it has a name or not."""
    if memory.path is not None:
        with contextlib.suppress(OSError):
            memory.path.unlink(missing_ok=True)
    memory.close()


def _anonymous(settings: EmitterSettings) -> Memory:
    try:
        return anonymous(settings.ring_bytes)
    except (OSError, OverflowError, ValueError) as error:
        raise SettingError(f"ring_bytes: {settings.ring_bytes} bytes of memory cannot be had") from error


def _prepare_directory(settings: EmitterSettings) -> int:
    """The log directory, private to its owner (and, with ``group``, readable for that group); the group's id."""
    directory, gid = settings.directory, -1
    try:
        if settings.group is not None:
            import grp

            gid = int(settings.group) if settings.group.isdecimal() else grp.getgrnam(settings.group).gr_gid
        make_directory(directory, gid=gid)
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission to read and write there")
    except KeyError as error:
        raise DirectoryError(f"{directory}: there is no group {settings.group!r} on this machine") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise DirectoryError(f"{directory}: cannot be used for the log: {why}") from error
    return gid


def _let_go_of_segments(stream: str) -> None:
    """Close a forked child's copies of its parent's segments, whose locks would outlive the parent in them.

    Found by name, not from the writer's lists: another thread may have been between opening a segment and noting
    it, and a number that was closed there may be another file's by now.
    """
    fds = Path("/proc/self/fd")
    with contextlib.suppress(OSError):  # no /proc: the child holds the locks as long as it lives
        for entry in os.listdir(fds):  # noqa: PTH208  names are all that is needed
            with contextlib.suppress(OSError):
                name = os.path.basename(os.readlink(fds / entry))  # noqa: PTH115, PTH119
                if stream in name and ".jsonl" in name and _appends(int(entry)):
                    os.close(int(entry))


def _appends(fd: int) -> bool:
    import fcntl

    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


# Cores are closed at exit and reset in a forked child; one that is dropped without close() ends with the process.
_LIVING: weakref.WeakSet[Core] = weakref.WeakSet()


def _close_all() -> None:
    for core in list(_LIVING):
        core.close(CLOSE_TIMEOUT_S)


def _after_fork_in_child() -> None:
    for core in list(_LIVING):
        core.after_fork_in_child()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
