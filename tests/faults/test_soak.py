"""The soak of ``make soak``, for seconds, and what it is made of."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from subprocess import PIPE

import pytest

from loader.checking import Checking
from loader.rules import read_rules
from loader.spool import Spooled, batches
from loader.tail import Tail

from ..lines import line, order, segment, trade, update
from ..plugins.figures import Figures
from ..watching import until
from .siege import seed
from .soak.faults import FAULTS, GROUPS
from .soak.run import soak
from .soak.samples import Sampler, look
from .soak.schedule import AT_ONCE, rounds

_LEAKS = """
import os, sys, threading
hoard = []
print(flush=True)
while sys.stdin.read(1):
    hoard.append((bytearray(b"x" * 2**20), os.dup(0), threading.Event()))
    threading.Thread(target=hoard[-1][2].wait, daemon=True).start()
    print(flush=True)
"""


def test_the_same_seed_brings_the_same_faults_and_each_as_often() -> None:
    first, again, other = (list(islice(rounds(n, GROUPS, longest_s=6.0), 200)) for n in (7, 7, 8))
    assert first == again != other
    struck = Counter(strike.fault for strikes in first for strike in strikes)
    assert struck.keys() == FAULTS.keys()
    assert max(struck.values()) - min(struck.values()) <= 2
    for strikes in first:
        assert len({GROUPS[strike.fault] for strike in strikes}) == AT_ONCE == len(strikes)
        # All three last at one and the same moment.
        assert max(strike.after_s for strike in strikes) < min(s.after_s + s.lasts_s for s in strikes)


def test_a_process_that_leaks_is_seen_and_one_that_does_not_is_flat() -> None:
    """X4: memory, descriptors and threads, each by itself."""
    calmly = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        subprocess.Popen([sys.executable, "-c", _LEAKS], stdin=PIPE, stdout=PIPE, bufsize=0) as leaking,
        subprocess.Popen(calmly, stdin=PIPE) as calm,
    ):
        sampler = Sampler({"leaking": leaking.pid, "calm": calm.pid}, every_s=0.01)
        assert leaking.stdin
        assert leaking.stdout
        for _ in range(40):
            seen = sampler.seen
            until(lambda seen=seen: sampler.seen > seen)
            leaking.stdin.write(b".")
            leaking.stdout.readline()
        sampler.end()
        trends = {(trend.process, trend.figure): trend for trend in sampler.trends()}
        leaking.stdin.close()
        assert calm.stdin
        calm.stdin.close()
    for figure in ("memory", "descriptors", "threads"):
        assert not trends["leaking", figure].flat, trends
        assert trends["calm", figure].flat, trends


def test_three_faults_at_a_time_for_seconds_leave_everything_as_it_should_be(
    tmp_path: Path, ring_dir: Path, figures: Figures
) -> None:
    """X1: the schedule follows from the seed that is printed."""
    outcome = soak(tmp_path, ring_dir, seed(), 4.0, longest_s=1.2)
    assert outcome.violation is None, outcome.as_json()
    assert outcome.counts["records held by content"] > 300
    figures.add(**outcome.summed)
    assert outcome.counts["rounds"] >= 1


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_the_memory_of_the_checks_stays_flat_over_hundreds_of_batches(tmp_path: Path) -> None:
    """X4: what ``watch`` keeps of each batch for as long as it runs; 29 MiB more with one engine for all of them."""
    trail, temporary, memory = tmp_path / "audit", tmp_path / "temporary", list[int]()
    trail.mkdir()
    temporary.mkdir()
    kinds = [
        lambda n: line(n, "order.created", order(order_id=f"o{n}", status="NEW")),
        lambda n: line(n, "order.updated", update(order_id=f"o{n - 1}", status="FILLED", filled=3)),
        lambda n: line(n, "trade.executed", trade(trade_id=f"t{n}")),
        lambda n: b"broken %d\n" % n,
    ]
    segment(trail, [kinds[n % 4](n + 1) for n in range(40)])
    pending = Tail(trail).scan({}).pending

    def spooled() -> Iterator[Spooled]:
        for _ in range(700):
            yield from batches(pending, temporary, 1024 * 1024)

    checking = Checking(temporary, read_rules())
    async for prepared in checking.prepared(spooled(), {}, ahead=2, settle=lambda: True):
        assert [rows.count for rows in prepared.rows] == [10, 10, 10]
        sample = look(os.getpid())
        assert sample
        memory.append(sample.memory)
    await asyncio.to_thread(checking.close)
    assert len(memory) == 700
    warm, late = statistics.median(memory[70:140]), statistics.median(memory[-70:])
    assert late - warm < 12 * 1024 * 1024, (warm, late)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_three_faults_at_a_time_for_a_minute_and_a_half(tmp_path: Path, ring_dir: Path, figures: Figures) -> None:
    """X1, X4: ``make soak`` does this for 20 minutes, and looks at memory as well."""
    outcome = soak(tmp_path, ring_dir, seed(), 90.0)
    figures.add(**outcome.summed)
    assert outcome.violation is None, outcome.as_json()
    assert outcome.counts["faults"] >= 15
