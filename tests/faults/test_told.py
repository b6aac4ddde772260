"""I7: how soon a fault is told: by the emitter's ``stats()``, and by ``watch`` to whoever scrapes its figures."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from emitter import AuditLog

from ..bots import recovered
from ..plugins.figures import Figures
from ..plugins.postgres import Cluster
from ..plugins.server import Server
from ..watching import watching
from .interposer import OPEN, SYNC, WRITE, Interposer

TROUBLES = {
    "disk full": (WRITE | OPEN, errno.ENOSPC),
    "disk failing": (WRITE | SYNC | OPEN, errno.EIO),
    "syncs failing": (SYNC, errno.EIO),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_bot_whose_disk_fails_is_told_so_within_a_second_and_that_it_is_over(
    interposer: Interposer, tmp_path: Path, ring_dir: Path, figures: Figures, trouble: str
) -> None:
    """F4, F8, F9: the age of the last sync is 0 again once it is over."""
    calls, code = TROUBLES[trouble]
    log = tmp_path / "log"
    outcome = interposer.run("troubled_bot", directory=log, ring_dir=ring_dir, calls=calls, code=code)
    assert outcome.status == 0, outcome.said
    recovered(log, ring_dir)
    trail = outcome.account.hold(log, outcome.said)  # I6 and I7 are judged here
    assert trail
    assert outcome.account.told_s is not None
    assert outcome.account.healed_s is not None
    print(f"{trouble}: told after {outcome.account.told_s:.3f} s, healed after {outcome.account.healed_s:.3f} s")
    figures.add(faults=1, records=len(trail.records))


def test_a_watch_whose_server_goes_away_shows_it_within_seconds_and_that_it_is_back(
    server: Server, own_cluster: Cluster, tmp_path: Path
) -> None:
    """L9: from the first record on that it cannot bring there."""
    with (
        own_cluster.database(own_cluster.template(existing=False, migrated=True)) as dsn,
        watching(tmp_path / "log", dsn, "--metrics-port", "0") as watch,
        AuditLog(tmp_path / "log", service="fox-bot") as audit,
    ):
        audit.event("bot.noted")
        watch.until_page(lambda page: page("records_loaded_total", kind="events") == 1)
        server.stop("immediate")
        try:
            began = time.monotonic()
            audit.event("bot.noted")
            page = watch.until_page(lambda page: page("database_connected") == 0)
            print(f"told after {time.monotonic() - began:.3f} s")
            assert sum(page.series("errors_total", "kind").values()) > 0
        finally:
            server.start()
        began = time.monotonic()
        watch.until_page(lambda page: page("database_connected") == 1 and page.lag == 0)
        print(f"over after {time.monotonic() - began:.3f} s")
        watch.stop()
