"""``tradetrail archive`` killed, its disk full, and others at work beside it: no record is ever in neither place."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loader.archive.archiving import archive
from loader.archive.locks import removing
from loader.archive.restore import restore
from loader.verify.verify import verify

from ..bots import tmpfs_folder
from ..command import answer, one_line, tradetrail
from ..contents import all_loaded
from ..disks import grow, small_tmpfs
from ..integration.test_archive import NOTHING, asked, load, make, packed, raw, rules, same_in_parquet
from ..plugins.figures import Figures
from ..processes import Bot, Command, _command, _fork
from ..watching import until

# What changes what a kill leaves behind, as Python tells its audit hooks before it is done.
STEPS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    make(tmp_path / "audit", 6)
    return tmp_path / "audit"


def nothing_is_gone(log: Path, before: dict[str, bytes]) -> None:
    """Assert that each segment is there whole, raw or archived, and that no half of one has its name."""
    there, archived = raw(log), packed(log)
    assert there.items() <= before.items()
    assert archived.items() <= before.items()
    assert there.keys() | archived.keys() == before.keys()


# -- killed at each step --


def test_killed_before_some_of_its_steps(log: Path, dsn: str, figures: Figures) -> None:
    """L19: nothing is removed before the ledger knows it; the next run ends what this one began."""
    steps = killed_at_steps(log, dsn, figures, every=29)
    assert steps > 25


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_before_each_of_its_steps(log: Path, dsn: str, figures: Figures) -> None:
    """L19: nothing is removed before the ledger knows it; the next run ends what this one began."""
    killed_at_steps(log, dsn, figures, every=1)


def killed_at_steps(log: Path, dsn: str, figures: Figures, *, every: int) -> int:
    """Kill a run before its first step, and from there before each ``every``-th one; how many steps it has."""
    load(log, dsn)
    before, views = raw(log), asked(log)
    for step in itertools.count(1, every):
        copy = Path(shutil.copytree(log, log.parent / f"copy-{step}"))
        args = ["archive", "--dir", str(copy), "--dsn", dsn, "--keep", "0s"]
        said = log.parent / f"said-{step}"
        process = _fork.Process(target=_dying, args=(step, str(copy), args, str(said)), daemon=True)
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL), said.read_text()
        ended_by_the_next_run(copy, dsn, before, views)
        shutil.rmtree(copy)
        figures.add(records=len(views["records"]))
        if process.exitcode == 0:
            return step
        figures.add(kills=1, points=1)
    raise AssertionError


def ended_by_the_next_run(log: Path, dsn: str, before: dict[str, bytes], views: dict[str, Any]) -> None:
    """Assert that nothing is gone after a kill, and that the next run ends what was begun."""
    nothing_is_gone(log, before)
    assert asked(log) == views
    done = archive(log, dsn, keep=NOTHING)
    assert done.problems == {}
    assert packed(log) == before
    assert not raw(log)
    assert same_in_parquet(log)["trades"] == len(views["trades"])
    assert not list(log.rglob("*.new*"))


# As an audit hook is told: what is done, and how the name ends of what it is done to.
MOMENTS = {
    "an archive is begun": ("os.chmod", ".zst"),
    "a Parquet file gets its name": ("os.rename", ".parquet.new"),
    "a segment is removed": ("os.remove", ".jsonl"),
}


@pytest.mark.parametrize("moment", [*list(MOMENTS)[:2], pytest.param(list(MOMENTS)[2], marks=pytest.mark.long)])
def test_killed_just_before(log: Path, dsn: str, moment: str) -> None:
    """The first time that it comes to that."""
    load(log, dsn)
    before, views = raw(log), asked(log)
    args = ["archive", "--dir", str(log), "--dsn", dsn, "--keep", "0s"]
    said = log.parent / "said"
    process = _fork.Process(target=_dying_before, args=(*MOMENTS[moment], args, str(said)), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, said.read_text()
    ended_by_the_next_run(log, dsn, before, views)


def _dying_before(event: str, ending: str, args: list[str], said: str) -> None:
    """``tradetrail``, killed before it does that to a file whose name ends so."""

    def hook(happens: str, given: tuple[Any, ...]) -> None:
        if happens == event:
            file = Path(f"/proc/self/fd/{given[0]}").readlink() if isinstance(given[0], int) else given[0]
            if str(file).endswith(ending):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    _command(args, said, str(Path(said).parent))


def _dying(at: int, directory: str, args: list[str], said: str) -> None:
    """``tradetrail``, killed before the ``at``-th step it takes in a directory."""
    numbers = itertools.count(1)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        changes = event in STEPS or (event == "open" and isinstance(given[2], int) and given[2] & os.O_ACCMODE)
        if changes and str(given[0]).startswith(directory) and next(numbers) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    _command(args, said, str(Path(said).parent))


# -- killed at any instant, while others ask --


def test_killed_at_random_while_others_ask(log: Path, dsn: str, figures: Figures) -> None:
    killed_at_random(log, dsn, figures, rounds=4)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_a_hundred_times_at_random_while_others_ask(log: Path, dsn: str, figures: Figures) -> None:
    killed_at_random(log, dsn, figures, rounds=100)


def killed_at_random(log: Path, dsn: str, figures: Figures, *, rounds: int) -> None:
    load(log, dsn)
    before, chance, killed = raw(log), random.Random(7), 0
    with asking(log) as asks:
        # Its time to the end is measured first, and each time that no kill hit it: so they fall into all of it.
        started = time.monotonic()
        assert archive_by_command(log, dsn).end() == 0
        takes = time.monotonic() - started
        while killed < rounds:
            if not raw(log):
                begin_anew(log)
            started = time.monotonic()
            command = archive_by_command(log, dsn)
            command.process.join(takes * chance.random())
            hit = command.signal(signal.SIGKILL)
            killed += hit
            takes = 1.05 * takes if hit else time.monotonic() - started
            assert command.end() in (0, -signal.SIGKILL), command.said()
            nothing_is_gone(log, before)
            assert asks.is_alive()
        assert archive_by_command(log, dsn).end() == 0
    figures.add(kills=killed, records=sum(data.count(b'"seq":') for data in before.values()))
    assert not raw(log)
    assert packed(log) == before
    assert same_in_parquet(log)["trades"] == 12
    assert rules(verify(log, dsn)) == []


def archive_by_command(log: Path, dsn: str) -> Command:
    return Command(log.parent, "archive", "--dir", log, "--dsn", dsn, "--keep", "0s")


def begin_anew(log: Path) -> None:
    """All segments raw, and nothing archived; who asks just now still finds what it listed."""
    restore(log)
    with removing(log) as free:
        assert free
        shutil.rmtree(log / "archive")


class asking:  # noqa: N801  used as a function
    """A process that asks on and on, and ends with what it saw where the answers were not always the same."""

    def __init__(self, log: Path) -> None:
        self._log, self._said = log, log.parent / "asked"
        self._stop = log.parent / "stop"
        self._process = _fork.Process(target=_ask_on, args=(str(log), str(self._stop), str(self._said)), daemon=True)

    def __enter__(self) -> Any:
        self._process.start()
        until(lambda: self._said.exists() or not self._process.is_alive())
        return self._process

    def __exit__(self, *_: object) -> None:
        self._stop.touch()
        self._process.join(60)
        said = self._said.read_text()
        assert self._process.exitcode == 0, said
        assert int(said.splitlines()[-1]) > 3


def _ask_on(log: str, stop: str, said: str) -> None:
    try:
        wanted = asked(Path(log))
        Path(said).touch()
        times = 0
        while not Path(stop).exists():
            assert asked(Path(log)) == wanted
            times += 1
        Path(said).write_text(str(times))
    except BaseException:
        Path(said).write_text(traceback.format_exc())
        raise


# -- a full disk, and a living trail --


def test_a_full_disk_costs_nothing(log: Path, dsn: str, tmp_path: Path) -> None:
    load(log, dsn)
    before, views = raw(log), asked(log)
    with small_tmpfs(tmp_path / "small", "8k") as disk:
        words = one_line(tradetrail("archive", "--dir", log, "--dsn", dsn, "--to", disk / "here", "--keep", "0s"), 3)
        assert "No space left" in words
        assert raw(log) == before
        assert asked(log) == views
        assert not list(disk.rglob("*.new*"))
        grow(disk, "8m")
        found = answer("archive", "--dir", log, "--dsn", dsn, "--keep", "0s")
        assert (found["problems"], found["removed"]) == ({}, len(before))
        assert packed(log) == before
        assert asked(log) == views


@pytest.fixture
def ring_dir() -> Iterator[Path]:
    with tmpfs_folder() as folder:
        yield folder


def test_beside_a_bot_and_a_watch(tmp_path: Path, ring_dir: Path, dsn: str) -> None:
    log = tmp_path / "audit"
    bot = Bot(log, ring_dir, 7)
    watch = Command(tmp_path, "watch", "--dir", log, "--dsn", dsn, "--rescan", "0.2")
    removed = 0
    limit = time.monotonic() + 60
    while removed < 3:
        assert time.monotonic() < limit, watch.said()
        assert watch.running, watch.said()
        if len(raw(log)) > 3:
            done = archive(log, dsn, keep=NOTHING)
            assert done.problems == {}
            removed += done.removed
        time.sleep(0.1)
    bot.stop()
    load(log, dsn)
    watch.signal(signal.SIGTERM)
    assert watch.end() in (0, 128 + signal.SIGTERM), watch.said()
    assert "is missing, though" not in watch.said()
    assert "has shrunk" not in watch.said()
    archive(log, dsn, keep=NOTHING)
    assert not raw(log)
    restore(log)
    asyncio.run(all_loaded(dsn, log))
