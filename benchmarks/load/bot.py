"""A bot in a process of its own that logs what it is told to: flat out, up to a size of file, or at a pace.

Asked on standard input and answered on standard output, a line of JSON at a time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emitter import AuditLog

from ..crew import ROOT, Failed
from .trail import calls, log

_BLOCK = 1000
_ENDING_S = 120.0


class Bot:
    """The bot as the one sees it who asks it. Use as a context manager: its log is closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.bot", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.stream: str = self.answer()["stream"]

    def tell(self, operation: str, **given: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"operation": operation, **given}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the bot ended with {self._process.wait()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def ask(self, operation: str, **given: Any) -> dict[str, Any]:
        self.tell(operation, **given)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(_ENDING_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


class _Logging:
    """The operations; each answers the seq of the last record."""

    def __init__(self, folder: Path, audit: AuditLog) -> None:
        self._folder, self._audit = folder, audit
        self._calls, self._make = calls(), log(audit)
        self._seq = 0

    def make(self, records: int) -> dict[str, Any]:
        """So many records, as fast as the disk takes them; nothing is dropped."""
        make, source = self._make, self._calls
        for number in range(records):
            self._seq = make(next(source))
            if number % _BLOCK == 0:
                self._leave_room()
        return self._flushed()

    def fill(self, size: int) -> dict[str, Any]:
        """Records until the files hold so many bytes."""
        while sum(path.stat().st_size for path in self._folder.glob(f"*.{self._audit.stats().stream}.*")) < size:
            for _ in range(_BLOCK // 4):
                self._seq = self._make(next(self._calls))
            self._audit.flush(60)
        return self._flushed()

    def pace(self, rate: int, seconds: float) -> dict[str, Any]:
        """``rate`` records a second, each when it is due; those of one millisecond come together."""
        make, source, begun = self._make, self._calls, time.perf_counter()
        first, count = self._seq + 1, round(rate * seconds)
        for number in range(count):
            late = begun + number / rate - time.perf_counter()
            if late > 0.0005:
                time.sleep(late)
            self._seq = make(next(source))
        time.sleep(max(0.0, begun + seconds - time.perf_counter()))
        return {"first": first, "last": self._seq, "made_per_s": count / (time.perf_counter() - begun)}

    def _leave_room(self) -> None:
        stats = self._audit.stats()
        while stats.ring_used_bytes > stats.ring_bytes // 2:
            time.sleep(0.001)
            stats = self._audit.stats()

    def _flushed(self) -> dict[str, Any]:
        if not self._audit.flush(60):
            raise SystemExit("the disk does not keep up")
        return {"last": self._seq, "lost": self._audit.stats().lost}


def main() -> None:
    folder = Path(sys.argv[1])
    with AuditLog(folder, service="bench") as audit:
        logging = _Logging(folder, audit)
        print(json.dumps({"stream": audit.stats().stream}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(getattr(logging, asked.pop("operation"))(**asked)), flush=True)


if __name__ == "__main__":
    main()
