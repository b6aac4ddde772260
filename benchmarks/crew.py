"""The processes of the contestants, as the one who asks them sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .figures import NONE, OURS

ROOT = Path(__file__).parents[1]
# Where `make bench-emit` installs the rivals: out of sight of everything but their own processes.
RIVALS = Path(sys.prefix) / "rivals"
_ENDING_S = 60.0


class Missing(Exception):
    """A contestant cannot take part; the text says why."""


class Failed(Exception):
    """A contestant's process ended where it should have answered."""


class Process:
    """A contestant in its process. ``ready``: by how many bytes it grew until it was."""

    def __init__(self, name: str, folder: Path, dsn: str = "") -> None:
        self.name, self.folder = name, folder
        folder.mkdir(exist_ok=True)
        # Ours finds exactly what a bot's environment has.
        paths = [str(ROOT)] if name in (NONE, OURS) else [str(ROOT), str(RIVALS)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  not beside its lines, where the disk may stand still
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", name, str(folder), dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            text=True,
        )
        self.ready = 0

    def wait_ready(self) -> None:
        told = self.answer()
        if "missing" in told:
            raise Missing(told["missing"])
        self.ready = told["ready"]

    def tell(self, operation: str, **given: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"operation": operation, **given}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            words = self._said.read().decode(errors="replace").strip().splitlines()
            raise Failed(f"{self.name}: {words[-1] if words else 'ended without a word'}")
        return json.loads(line)

    def ask(self, operation: str, **given: Any) -> Any:
        self.tell(operation, **given)
        return self.answer()

    def killed(self, **given: Any) -> None:
        """Have it make its calls and kill itself."""
        self.tell("die", **given)
        if self._process.wait(_ENDING_S) != -signal.SIGKILL:
            raise Failed(f"{self.name}: was to be killed and ended by itself")

    def end(self) -> None:
        """Have it close its logger and end; one that hangs is killed."""
        if self._process.poll() is None:
            try:
                self.tell("end")
                self._process.wait(_ENDING_S)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._said.close()


@contextmanager
def crew(names: Iterable[str], folder: Path, dsn: str, missing: dict[str, str]) -> Iterator[dict[str, Process]]:
    """The named ones that can take part, each in a folder of its own; why others cannot goes into ``missing``."""
    started = {name: Process(name, folder / name, dsn) for name in names if name not in missing}
    try:
        ready = {}
        for name, process in started.items():
            try:
                process.wait_ready()
            except (Missing, Failed) as error:
                missing[name] = str(error)
            else:
                ready[name] = process
        yield ready
    finally:
        for process in started.values():
            process.end()
