"""One contestant in a process of its own: it does what it is told, a line of JSON at a time.

Asked on standard input, answered on standard output (Linux; memory is read from ``/proc``).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .contestants import CONTESTANTS, Logger
from .turns import turn
from .wakes import wakes


def memory(what: str) -> int:
    """``VmRSS`` or, since the last :func:`forget_peak`, ``VmHWM`` of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == what:
            return int(rest.split()[0]) * 1024
    return 0


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Worker:
    """The operations; each answers what can be written as JSON. ``logger`` None: the awaited INSERT."""

    def __init__(self, logger: Logger | None, dsn: str) -> None:
        self._call: Callable[[], object] | None = logger.call if logger else None
        self._drain = logger.drain if logger else None
        self._dsn = dsn

    def drain(self) -> None:
        """So that the work behind a turn is not done in another's turn."""
        if self._drain is not None:
            self._drain()

    def turn(self, calls: int, threads: int = 1, pause_ns: int = 0, drain: bool = True) -> list[int]:
        taken = turn(self._call, self._dsn, calls, threads, pause_ns)
        if drain:
            self.drain()
        return taken

    def wake(self, seconds: float, rate: int) -> dict[str, Any]:
        late, made = wakes(self._call, self._dsn, seconds, rate)
        self.drain()
        return {"late": late, "made_per_s": made}

    def grow(self, calls: int) -> dict[str, int]:
        """Memory before, at its peak during, and after so many calls flat out."""
        forget_peak()
        before = memory("VmRSS")
        turn(self._call, self._dsn, calls, 1, 0)
        self.drain()
        return {"before": before, "peak": memory("VmHWM"), "after": memory("VmRSS")}

    def die(self, calls: int) -> None:
        """So many calls that return, then the end by SIGKILL at once."""
        turn(self._call, self._dsn, calls, 1, 0)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    name, folder, dsn = sys.argv[1:]
    # Whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(said: object) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    start = memory("VmRSS")
    with ExitStack() as opened:
        contestant = CONTESTANTS[name]
        try:
            logger = opened.enter_context(contestant.open(Path(folder))) if contestant.open else None
        except ImportError as error:
            answer({"missing": f"not installed: {error}"})
            return
        worker = Worker(logger, dsn)
        answer({"ready": memory("VmRSS") - start})
        for line in sys.stdin:
            asked = json.loads(line)
            operation = asked.pop("operation")
            if operation == "end":
                break
            answer(getattr(worker, operation)(**asked))
    answer({"ended": True})


if __name__ == "__main__":
    main()
