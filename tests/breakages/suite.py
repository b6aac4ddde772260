"""The project's tests, run in a copy of the tree by the environment of the checkout."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# A test that hangs is ended by its limit, and has seen it. Half of the project's own: what is to be seen takes seconds.
_TEST_LIMIT_S = 60
# Told to end, pytest stops the servers that it started.
_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test (or, ``uncollected``, of a file); ``says`` is the failure's first words."""

    test: str
    outcome: str
    says: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pytest. ``code`` is None where it was not through in time."""

    outcomes: tuple[Outcome, ...]
    code: int | None
    seconds: float
    printed: str

    def of(self, kind: str) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.outcome == kind)


class Suite:
    """The tests of one tree; ``scratch`` is a folder for what they leave."""

    def __init__(self, tree: Path, scratch: Path) -> None:
        self._tree, self._scratch = tree, scratch

    def run(
        self, tests: Sequence[str], limit_s: float, *, first_failure: bool = False, without: Sequence[str] = ()
    ) -> Run:
        """Run tests, all where none are named, but those to be left out; time ends it, and ``first_failure``."""
        noted = self._scratch / "outcomes.jsonl"
        noted.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "pytest", "-p", "tests.breakages.outcomes", f"--outcomes={noted}"),
            *(f"--timeout={_TEST_LIMIT_S}", f"--basetemp={self._scratch / 'pytest'}", "-q", "-p", "no:cacheprovider"),
            *(("-x",) if first_failure else ()),
            *(f"--deselect={test}" for test in without),
            *tests,
        ]
        started = time.monotonic()
        with (self._scratch / "printed.txt").open("w+") as printed:
            code = self._ended(command, printed.fileno(), limit_s)
            printed.seek(0)
            said = printed.read()
        lines = noted.read_text().splitlines() if noted.exists() else []
        outcomes = tuple(Outcome(**json.loads(line)) for line in lines)
        return Run(outcomes, code, time.monotonic() - started, said)

    def _ended(self, command: Sequence[str], output: int, limit_s: float) -> int | None:
        # A server to test on may be named; what would steer bots, commands or pytest may not.
        steering = [key for key in os.environ if re.match(r"TRADETRAIL_(?!TEST_)|PYTEST_|PYTHON", key)]
        kept = {key: value for key, value in os.environ.items() if key not in steering}
        process = subprocess.Popen(
            command,
            cwd=self._tree,
            env=kept | {"PYTHONPATH": str(self._tree)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It and all that is left of its session."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
