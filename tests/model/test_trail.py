"""The whole path in any order against a plain list; what it found is kept as plain tests, each named after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from ..bots import tmpfs_folder
from ..faults import siege
from ..faults.proxy import Proxy
from ..plugins.figures import Figures
from ..plugins.postgres import Cluster
from ..plugins.server import Server
from .bot_steps import Surroundings
from .trail_machine import TRAFFIC, TrailMachine

# Of each step a run does more than one, or it shows nothing of it.
_OF_EACH = 2
_KILLS = ("kill", "kill at a call", "recovery is killed", "archive is killed")
_FAULTS = ("sync fails", "disk fills", "power is cut", "cut before commit", "cut after commit")
# Each step at least once.
_ONE_LIFE: list[tuple[Any, ...]] = [
    ("start",), ("rotate", 0), ("write", 1), ("load", True, 8192), ("sync_fails", 0, 1),
    ("cut_after_commit", True, True, 8192), ("disk_fills", 1, 300, 80), ("is_killed", 1),
    ("two_loaders", False), ("retry_rejects", False), ("start",), ("disk_fills", 1, 0, 8), ("disk_is_freed",),
    ("is_killed_at_a_call", 0, 12, True), ("recovery_is_killed", 6, True), ("recover",),
    ("cut_before_commit", False, True, 1 << 24), ("mend_rejects", 2), ("archive", False, True),
    ("load_twice", False, 8192), ("power_is_cut", 0.5, True), ("archive_is_killed", 9), ("restore",), ("sync", 0),
]  # fmt: skip


@pytest.fixture
def around(server: Server, own_cluster: Cluster, tmp_path: Path) -> Iterator[Surroundings]:
    template = own_cluster.template(existing=False, migrated=True)
    with tmpfs_folder() as rings, Proxy(server.port) as proxy, own_cluster.database(template) as dsn:
        proxied = server.dsn(urlsplit(dsn).path[1:], port=proxy.port)
        yield Surroundings(tmp_path, rings, dsn, proxied, proxy)


def explore(around: Surroundings, figures: Figures, *, examples: int, steps: int, random: int | None) -> None:
    """Run the machine; ``random``: the seed, or None for the same choices each time. What was done is printed."""

    def machine() -> TrailMachine:
        return TrailMachine(around)

    before = Counter(around.traffic)
    choices: dict[str, Any] = {"derandomize": True} if random is None else {}
    try:
        run_state_machine_as_test(
            machine if random is None else seed(random)(machine),
            settings=settings(
                max_examples=examples, stateful_step_count=steps, deadline=None, database=None, print_blob=False,
                suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink), **choices,
            ),
        )  # fmt: skip
    finally:
        print(dict(around.traffic))
        done = around.traffic - before
        figures.add(
            kills=sum(done[kill] for kill in _KILLS),
            faults=sum(done[fault] for fault in _FAULTS),
            records=done["records"],
        )


@pytest.mark.timeout(900)
def test_the_trail_is_the_list_whatever_is_done_in_whatever_order(around: Surroundings, figures: Figures) -> None:
    explore(around, figures, examples=2, steps=20, random=None)
    assert around.traffic["end"] == 2


def test_each_step_in_one_life(around: Surroundings) -> None:
    with told(around) as machine:
        for name, *arguments in _ONE_LIFE:
            getattr(machine, name)(*arguments)
            machine.files_hold_the_list()
    assert around.traffic.keys() >= set(TRAFFIC)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_trail_is_the_list_after_a_thousand_steps(around: Surroundings, figures: Figures) -> None:
    """Of what chance gave too little, more lives may bring more."""
    chosen, few = siege.seed(), dict.fromkeys(TRAFFIC, 0)
    for more, examples in enumerate((30, 15, 15)):
        if few:
            explore(around, figures, examples=examples, steps=35, random=chosen + more)
            few = {what: around.traffic[what] for what in TRAFFIC if around.traffic[what] < _OF_EACH}
    assert not few, "too little of this was done to show anything"


# -- kept --


@contextmanager
def told(around: Surroundings) -> Iterator[TrailMachine]:
    """A machine whose steps a test calls; after the last one all is finished, loaded, mended and proved."""
    machine = TrailMachine(around)
    try:
        machine.a_bot_begins()
        yield machine
    finally:
        machine.teardown()


def test_a_power_cut_after_the_very_first_sync_failed_leaves_nothing_to_complain_of(around: Surroundings) -> None:
    """The first segment's header was never on the disk, though the one that replaces it vouched for it."""
    with told(around) as machine:
        machine.write(0)
        machine.load(picky=False, batch_bytes=8192)
        machine.sync_fails(0, 1)
        machine.closes(0)
        machine.load(picky=False, batch_bytes=8192)
        machine.power_is_cut(0.0, later_is_gone=False)
        machine.load(picky=False, batch_bytes=8192)


def test_a_power_cut_before_the_first_sync_of_several_segments_leaves_a_stream_that_is_finished(
    around: Surroundings,
) -> None:
    """None of them has a header any more; that it had several kept recovery from it for ever."""
    with told(around) as machine:
        machine.emit(0, 12)
        machine.write(0)
        machine.power_is_cut(0.0, later_is_gone=False)
        machine.load(picky=False, batch_bytes=8192)


def test_a_power_cut_after_a_recovery_wrote_several_segments_anew_leaves_nothing_to_complain_of(
    around: Surroundings,
) -> None:
    """Nothing was synced when the bot died in its first sync: its first segment's header was not either."""
    with told(around) as machine:
        machine.emit(0, 12)
        machine.write(0)
        machine.is_killed_at_a_call(0, 1, torn=False)
        machine.recover()
        machine.power_is_cut(0.0, later_is_gone=False)
        machine.load(picky=False, batch_bytes=8192)


def test_a_power_cut_after_a_segment_begun_at_the_last_good_sync_was_written_anew_leaves_nothing_to_complain_of(
    around: Surroundings,
) -> None:
    """What was synced ended with the segment before: the next one's header was not, though recovery vouched for it."""
    with told(around) as machine:
        segments, before = 1, 1
        while segments == before:
            machine.sync(0)
            before = len(list(machine.machine.log.iterdir()))
            machine.emit(0, 1)
            machine.write(0)
            segments = len(list(machine.machine.log.iterdir()))
        machine.loading.load(picky=False, batch_bytes=8192)
        machine.is_killed_at_a_call(0, 1, torn=False)
        machine.recover()
        machine.power_is_cut(0.0, later_is_gone=False)
        machine.load(picky=False, batch_bytes=8192)


def test_a_last_record_that_a_power_cut_tore_after_it_was_loaded_is_no_tampering(around: Surroundings) -> None:
    """The footer that recovery writes is longer than what was lost, so that the file was not shorter than before."""
    with told(around) as machine:
        machine.load(picky=False, batch_bytes=8192)
        machine.power_is_cut(0.999, later_is_gone=False)
        machine.recover()


def test_a_rejected_line_that_a_power_cut_took_is_not_sought_where_the_footer_stands(around: Surroundings) -> None:
    with told(around) as machine:
        machine.load(picky=True, batch_bytes=8192)
        machine.power_is_cut(0.2, later_is_gone=False)
        machine.recover()


def test_a_rejected_record_that_a_failed_sync_makes_be_written_again_becomes_one_row(around: Surroundings) -> None:
    """Its line waits twice among the rejects, in two places of the log."""
    with told(around) as machine:
        machine.load(picky=True, batch_bytes=8192)
        machine.sync_fails(0, 1)
        machine.load(picky=True, batch_bytes=8192)
        machine.retry_rejects(picky=False)
        machine.retry_rejects(picky=False)
