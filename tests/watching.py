"""A running ``tradetrail watch``, and how to wait for what it does."""

from __future__ import annotations

import contextlib
import math
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from loader.database import Database
from tests.command import SCRIPT, environment

PATIENCE_S = 20.0
_METRICS = re.compile(r"metrics for Prometheus at (\S+)")


class Page:
    """One scrape of the metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one series; ``tradetrail_`` is not said."""
        return self._values[f"tradetrail_{name}", frozenset(labels.items())]

    def series(self, name: str, label: str) -> dict[str, float]:
        """All series of a name by their one label, without those that are 0."""
        found = {
            dict(labels)[label]: value for (of, labels), value in self._values.items() if of == f"tradetrail_{name}"
        }
        return {key: value for key, value in found.items() if value}

    @property
    def lag(self) -> float:
        return self("lag_bytes")

    @property
    def lag_is_known(self) -> bool:
        return not math.isnan(self.lag)


class Watching:
    """A running ``watch``."""

    def __init__(self, directory: Path, dsn: str, *args: str, **env: str) -> None:
        self.out = directory.parent / "watch.out"
        self.err = directory.parent / "watch.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [SCRIPT, "watch", "--dir", directory, "--dsn", dsn, *args],
                stdout=out,
                stderr=err,
                env=environment(**env),
            )

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """End it as an operator does; it must be quick, clean and without a traceback."""
        asked = time.monotonic()
        self.process.send_signal(signum)
        assert self.process.wait(10) == 0, self.err.read_text()
        assert time.monotonic() - asked < 5
        assert "Traceback" not in self.err.read_text()

    def says(self, words: str) -> Callable[[], bool]:
        return lambda: words in self.err.read_text()

    @property
    def metrics(self) -> str:
        """Where its metrics are; it says so at its start."""
        until(lambda: _METRICS.search(self.err.read_text()) is not None)
        found = _METRICS.search(self.err.read_text())
        assert found
        return found[1]

    def scrape(self) -> Page:
        with urllib.request.urlopen(self.metrics, timeout=PATIENCE_S) as answer:
            return Page(answer.read().decode())

    def until_page(self, condition: Callable[[Page], bool]) -> Page:
        """Scrape until the page is as wanted."""
        limit = time.monotonic() + PATIENCE_S
        while not condition(page := self.scrape()):
            assert time.monotonic() < limit, page.text + self.err.read_text()
            time.sleep(0.01)
        return page


@contextlib.contextmanager
def watching(directory: Path, dsn: str, *args: str, **env: str) -> Iterator[Watching]:
    running = Watching(directory, dsn, *args, **env)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(10)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the limit is for failures only."""
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit, "it does not come"
        time.sleep(0.01)


async def rows(db: Database, stream: str, table: str = "events") -> int:
    return int(await db.fetchval(f"SELECT count(*) FROM monitoring.{table} WHERE stream = $1", stream))


async def until_rows(db: Database, stream: str, wanted: int, table: str = "events") -> None:
    limit = time.monotonic() + PATIENCE_S
    while await rows(db, stream, table) != wanted:
        assert time.monotonic() < limit, f"{await rows(db, stream, table)} rows, not {wanted}"
