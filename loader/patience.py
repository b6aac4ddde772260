"""Doing work again while the database is away or busy."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import TransientError, UnknownOutcome

T = TypeVar("T")

_log = logging.getLogger("tradetrail")
_FIRST_S = 0.1
_MOST_S = 10.0


async def patiently(work: Callable[[bool], Awaitable[T]], timeout_s: float | None) -> T:
    """Do the work until it succeeds, with capped back-off; no new try after ``timeout_s`` seconds (None: for ever).

    ``work`` is told whether one of its COMMITs did not answer. Errors: those that are not transient, at once.
    """
    pause, unsure, began = _FIRST_S, False, time.monotonic()
    while True:
        try:
            return await work(unsure)
        except TransientError as error:
            unsure |= isinstance(error, UnknownOutcome)
            if timeout_s is not None and time.monotonic() - began >= timeout_s:
                raise
            _log.warning("%s; trying again in %.1f s", error, pause)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  only spreads retries
            pause = min(2 * pause, _MOST_S)
