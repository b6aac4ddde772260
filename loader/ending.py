"""How signals end a command: as an exception, so that the embedded PostgreSQL is stopped and temporary files go."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Ended(BaseException):
    """A signal told the command to end; ``code`` is its exit code, as a shell counts."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.code = 128 + signum


# DuckDB makes an error of its own of a signal; then this says what it was.
seen: list[Ended] = []


def listen() -> None:
    """From here on signals raise :class:`Ended`; one that is ignored (nohup, a shell's background) stays so."""
    for signum in _SIGNALS:
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _end)


def _end(signum: int, _frame: FrameType | None) -> None:
    seen.append(Ended(signum))
    raise seen[-1]


def run(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, where a signal cancels the work, which may put its things away, and then raises."""
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  for the type checker
        loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            if before[signum] is _end:
                loop.add_signal_handler(signum, _cancel, task, signum)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if seen:
            raise seen[-1] from None
        raise
    finally:
        # The loop sets the system's own again.
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _cancel(task: asyncio.Task[Any], signum: int) -> None:
    seen.append(Ended(signum))
    task.cancel()
