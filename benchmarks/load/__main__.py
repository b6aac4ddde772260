"""The loader beside its rivals, and the lag of ``watch``, in one run on the same input.

    make bench-load                                       (tables; 25 minutes, and 20 GB under TMPDIR)
    make bench-load ARGS=--quick                          (half a minute; the figures are rough)
    make bench-load ARGS="--only 1m tradetrail psql"      (cases and contestants by name)
    make bench-load ARGS=--json                           (one object on one line, for machines)

Every turn is a process of its own and gets a database of its own on the same server, right after a checkpoint; the
contestants take turns, so that a busy machine is busy for all. Read the ratios: seconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from loader.errors import TradetrailError

from ..crew import Failed
from ..show import progress
from .aims import aims
from .cases import FULL, LAG, LIVE, QUICK, Case, Effort
from .contestants import CONTESTANTS
from .lag import lag, live
from .server import Server, server
from .show import show
from .turns import Run

# Segments, the database and its WAL together, per record.
_ROOM: Final = 1_800

Say = Callable[[str], None]


def measure(effort: Effort = QUICK, only: Collection[str] = (), say: Say = lambda _: None) -> dict[str, Any]:
    """Everything, or what ``only`` names, as what ``--json`` prints."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tradetrail-bench-") as made:
        folder = Path(made)
        folder.chmod(0o711)  # the embedded server's user passes through; its data folder is private
        with server(folder) as (there, empty):
            missing: dict[str, str] = {}
            found = {
                "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
                "load_average": os.getloadavg()[0],
                "server": {"version": there.version, "where": there.where},
                "effort": asdict(effort),
                "missing": missing,
                "cases": _cases(there, empty, folder, effort, only, missing, say),
                "lag": _lag(there, empty, folder, effort, missing, say) if _wanted(LAG, effort, only) else {},
                "live": _live(there, empty, folder, effort, missing, say) if _wanted(LIVE, effort, only) else [],
            }
    return found | {"aims": aims(found), "seconds": time.monotonic() - started}


def _names(effort: Effort) -> list[str]:
    return [*(case.name for case in effort.cases), LAG, LIVE]


def _wanted(name: str, effort: Effort, only: Collection[str]) -> bool:
    """Whether something is to be measured: what is named, or all where only contestants are."""
    return name in only or not set(only) & set(_names(effort))


def _cases(
    there: Server, empty: str, folder: Path, effort: Effort, only: Collection[str], missing: dict[str, str], say: Say
) -> dict[str, Any]:
    names = [name for name in CONTESTANTS if name in only] or list(CONTESTANTS)
    run = Run(there, empty, folder, effort.old_rows, missing, say)
    waiting = [case for case in effort.cases if _wanted(case.name, effort, only)]
    found = {}
    while waiting:
        case = waiting.pop(0)
        if short := short_of_room(case, folder):
            missing[case.name] = short
        else:
            try:
                found[case.name] = {"title": case.title, "who": run.case(case, names, effort.rounds)}
            except Failed as error:
                missing[case.name] = str(error)
        if all(later.records != case.records for later in waiting):
            run.forget(case.records)
    return found


def short_of_room(case: Case, folder: Path) -> str | None:
    needed, free = case.records * _ROOM, shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return f"needs {needed / 1e9:.0f} GB under {folder.parent}, {free / 1e9:.0f} are free; TMPDIR names another place"


def _lag(
    there: Server, empty: str, folder: Path, effort: Effort, missing: dict[str, str], say: Say
) -> dict[str, dict[str, Any]]:
    found = {}
    for rate in effort.rates:
        say(f"watch at {rate:,} records/s")
        try:
            found[str(rate)] = lag(there, empty, folder, rate, effort)
        except Failed as error:
            missing[f"{LAG} at {rate:,}/s"] = str(error)
    return found


def _live(
    there: Server, empty: str, folder: Path, effort: Effort, missing: dict[str, str], say: Say
) -> list[dict[str, Any]]:
    found = []
    for size, files in effort.live:
        what = f"{size / 1e6:g} MB and {files:,} files"
        say(f"live tail, {what}")
        try:
            row = live(there, empty, folder, files, size, effort)
        except Failed as error:
            missing[f"{LIVE}, {what}"] = str(error)
        else:
            found.append({"segment_bytes": size, "files": files, **row})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="make bench-load",
        description=(__doc__ or "").splitlines()[0],
        epilog="TRADETRAIL_BENCH_DSN names a server to use, by a superuser; without it the embedded one is.",
    )
    parser.add_argument("--quick", action="store_true", help="half a minute; the figures are rough")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each contestant")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases and contestants by name")
    given = parser.parse_args(arguments)
    effort = QUICK if given.quick else FULL
    if given.rounds is not None:
        effort = replace(effort, rounds=max(1, given.rounds))
    known = [*_names(effort), *CONTESTANTS]
    if unknown := [name for name in given.only if name not in known]:
        parser.error(f"--only {unknown[0]}: there are {', '.join(known)}")
    # So that the server is stopped and the folder removed then, too.
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    try:
        if given.json:
            print(json.dumps(measure(effort, given.only)))
            return
        with progress() as say:
            found = measure(effort, given.only, say)
    except (TradetrailError, Failed) as error:
        print(f"make bench-load: {error}", file=sys.stderr)
        raise SystemExit(3) from error
    show(found)


if __name__ == "__main__":
    main()
