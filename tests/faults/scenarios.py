"""What runs in the children of :mod:`tests.faults.interposer`: a bot, a recovery, a load, over and over."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import emitter.writer
from emitter import AuditLog
from emitter.errors import EmitterError
from emitter.recovery import recover
from loader.load import Loader
from loader.settings import LoadSettings

from .interposer import EVER, FAIL, Fault, interposer_plan, set_plan
from .oracle import Witness

# Small, so that segments are rotated and the ring wraps in each run.
SEGMENT_BYTES = 3000
RING_BYTES = 48 * 1024
RECORDS = 100


def bot(
    pipe: int,
    directory: str,
    ring_dir: str,
    *,
    first: int = 0,
    records: int = RECORDS,
    every: int = 10,
    flush_s: float = 0.1,
    close_s: float = 5.0,
    **more: Any,
) -> None:
    """Log so many records, bring them to the disk after each ``every``, and end as a bot should."""
    emitter.writer._BACKOFF_MOST_S = 0.005
    emitter.writer._SYNC_BACKOFF_MOST_S = 0.02
    emitter.writer._ROTATE_AGAIN_S = 0.01
    witness = Witness(pipe)
    settings = {"segment_max_bytes": SEGMENT_BYTES, "ring_bytes": RING_BYTES, "flush_interval_ms": 5, **more}
    try:
        audit = AuditLog(directory, service="fox-bot", ring_dir=ring_dir, fsync_interval_ms=3_600_000, **settings)
    except EmitterError:  # before trading begins it may say that it cannot log
        return
    for number in range(first, first + records):
        witness.emit(audit, number)
        if number % every == every - 1:
            audit.flush(flush_s)
            witness.look(audit)
    began = time.monotonic()
    if audit.flush(close_s):
        witness.healed(time.monotonic() - began)
    witness.look(audit)
    audit.close(close_s)
    witness.look(audit)


def troubled_bot(pipe: int, directory: str, ring_dir: str, calls: int, code: int) -> None:
    """Its disk fails from a moment that it knows, and is well again: says when ``stats()`` told, and when it was over.

    A failing sync is known with the next sync: half a second is twice as often as users have it.
    """
    plan, witness, numbers = interposer_plan(), Witness(pipe), itertools.count()
    with AuditLog(directory, service="fox-bot", ring_dir=ring_dir, fsync_interval_ms=500) as audit:
        witness.emit(audit, next(numbers))
        assert audit.flush(10)
        set_plan(plan, os.getpid(), Fault(calls, FAIL, code=code, times=EVER, where=(directory,)))
        began = time.perf_counter()
        while audit.stats().last_error is None:
            witness.emit(audit, next(numbers))
            time.sleep(0.002)
        witness.told(time.perf_counter() - began)
        witness.look(audit)
        plan.pid = 0
        began = time.perf_counter()
        witness.emit(audit, next(numbers))
        assert audit.flush(30)
        witness.healed(time.perf_counter() - began)
        assert audit.stats().last_sync_age_s == 0
    witness.look(audit)


def recovery(pipe: int, directory: str, ring_dir: str) -> None:
    """What fails is said and left for the next one."""
    recover(Path(directory), ring_dir=Path(ring_dir))


def load(pipe: int, directory: str, dsn: str, temporary: str, *, batch_bytes: int, deadline_s: float) -> None:
    """Load what is there; who does not answer is left after ``deadline_s``."""
    tempfile.tempdir = temporary

    async def work() -> None:
        settings = LoadSettings(directory=Path(directory), dsn=dsn, batch_bytes=batch_bytes, deadline_s=deadline_s)
        async with Loader(settings) as loader:
            await loader.take()

    asyncio.run(work())


def bot_with_clock(pipe: int, directory: str, ring_dir: str, steps: list[int]) -> None:
    """The wall clock stands so many seconds off for each 30 records. Where it goes on, the monotonic one does too."""
    plan = interposer_plan()
    witness = Witness(pipe)
    with AuditLog(
        directory, service="fox-bot", ring_dir=ring_dir, segment_max_bytes=SEGMENT_BYTES, segment_max_age_s=3600
    ) as audit:
        for turn, step in enumerate(steps):
            plan.skew_s = step
            for number in range(turn * 30, turn * 30 + 30):
                witness.emit(audit, number)
            audit.flush()
            witness.look(audit)
