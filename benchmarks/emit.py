"""What a call costs the bot: ``audit.order`` and its rivals, in one run.

    make bench-emit                 (tables)
    make bench-emit ARGS=--quick    (20 seconds; the figures are rough)
    make bench-emit ARGS=--json     (one object on one line, for machines)

All make the same record of 14 fields. Each contestant has a process of its own per measurement; they take turns, so
that a busy machine is busy for all, and each turn waits until the work behind it is done. Read the ratios:
microseconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .contestants import AWAITED, CONTESTANTS
from .crew import Process, crew
from .database import database, stopped
from .figures import NONE, aims, judged, ratios, summary
from .found import records
from .record import FIELDS
from .stall import DISK, FIFO, Fifo, Stall, disk
from .turns import WARMING

PAUSE_NS: Final = 200_000
RATES: Final = (0, 1_000, 20_000)


@dataclass(frozen=True, slots=True)
class Case:
    """How calls are made in one latency measurement."""

    name: str
    threads: int
    pause_ns: int


CASES: Final = (
    Case("flat out, 1 thread", 1, 0),
    Case("flat out, 4 threads", 4, 0),
    Case("paced, 1 thread", 1, PAUSE_NS),
    Case("paced, 4 threads", 4, PAUSE_NS),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; of the INSERT, a hundred times as slow, only ``awaited_part`` of the calls."""

    flat_rounds: int = 12
    flat_calls: int = 4_000
    paced_rounds: int = 20
    paced_calls: int = 1_000
    awaited_part: float = 0.1
    wake_rounds: int = 4
    wake_seconds: float = 1.0
    memory_calls: int = 50_000
    stall_seconds: float = 2.0
    kills: int = 5
    killed_calls: int = 2_000


QUICK: Final = Effort(
    flat_rounds=2, flat_calls=1_000, paced_rounds=2, paced_calls=240, wake_rounds=1, wake_seconds=0.1,
    memory_calls=5_000, stall_seconds=0.25, kills=1, killed_calls=1_000,
)  # fmt: skip


class Run:
    """One run: each method is one of its measurements. ``missing``: who could not take part, and why."""

    def __init__(
        self,
        names: Sequence[str],
        effort: Effort,
        folder: Path,
        dsn: str,
        missing: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.names, self.effort, self.dsn, self.missing, self.say = names, effort, dsn, missing, say
        self._folder, self._number = folder, 0

    def _new_folder(self) -> Path:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        return folder

    def _calls(self, name: str, calls: int) -> int:
        return max(8, int(calls * self.effort.awaited_part)) if name == AWAITED else calls

    def latency(self, case: Case) -> dict[str, dict[str, float]]:
        """Microseconds per call."""
        self.say(f"calls, {case.name}")
        rounds, calls = (
            (self.effort.paced_rounds, self.effort.paced_calls * case.threads)
            if case.pause_ns
            else (self.effort.flat_rounds, self.effort.flat_calls)
        )
        with crew(self.names, self._new_folder(), self.dsn, self.missing) as processes:
            taken: dict[str, list[int]] = {name: [] for name in processes}
            for process in processes.values():
                process.ask("turn", calls=self._calls(process.name, 200), threads=case.threads)
            for number in range(rounds):
                for process in _in_turn(processes, number):
                    count = self._calls(process.name, calls)
                    taken[process.name] += process.ask(
                        "turn", calls=count, threads=case.threads, pause_ns=case.pause_ns
                    )
        return {name: summary(times) for name, times in taken.items()}

    def wakes(self, rate: int) -> dict[str, dict[str, float]]:
        """Microseconds by which a loop's 1 ms timer was late, and the records that were made a second."""
        self.say(f"asyncio loop, {rate} records/s")
        with crew(self.names, self._new_folder(), self.dsn, self.missing) as processes:
            late: dict[str, list[int]] = {name: [] for name in processes}
            made = dict.fromkeys(processes, 0.0)
            for process in processes.values():
                process.ask("wake", seconds=0.02, rate=rate)
            for number in range(self.effort.wake_rounds):
                for process in _in_turn(processes, number):
                    told = process.ask("wake", seconds=self.effort.wake_seconds, rate=rate)
                    late[process.name] += told["late"]
                    made[process.name] += told["made_per_s"] / self.effort.wake_rounds
        return {name: {**summary(times), "made_per_s": made[name]} for name, times in late.items()}

    def memory(self) -> dict[str, dict[str, int | None]]:
        """Bytes by which a process grew: until the logger was open, at the peak of calls flat out, and for good.

        Also how many records of those calls are there in the end: some keep their memory small by dropping.
        """
        self.say("memory")
        folder, warming = self._new_folder(), 1_000
        found: dict[str, dict[str, int | None]] = {}
        with crew(self.names, folder, self.dsn, self.missing) as processes:
            for name, process in processes.items():
                process.ask("turn", calls=self._calls(name, warming))
                calls = self._calls(name, self.effort.memory_calls)
                told = process.ask("grow", calls=calls)
                found[name] = {
                    "calls": calls,
                    "open": process.ready,
                    "peak": told["peak"] - told["before"],
                    "stays": told["after"] - told["before"],
                }
        for name, row in found.items():
            row["found"] = None if name in (NONE, AWAITED) else records(name, folder / name, "") - warming
        return found

    def stalled(self) -> dict[str, dict[str, Any]]:
        """Calls before and while the disk stands still (the INSERT: its server process), and what was found after."""
        found: dict[str, dict[str, Any]] = {}
        names = [name for name in self.names if name != NONE and name not in self.missing]
        with disk(self._new_folder()) as frozen:
            for name in names:
                self.say(f"disk stalled: {CONTESTANTS[name].title}")
                if name == AWAITED:
                    found[name] = self._stall(name, self._new_folder(), "server stopped", self._server_stopped)
                elif frozen is not None:
                    place, stall = frozen
                    found[name] = self._stall(name, place, DISK, stall)
                elif CONTESTANTS[name].writes_to_path:
                    folder = self._new_folder()
                    fifo = Fifo(folder / name)
                    try:
                        found[name] = self._stall(name, folder, FIFO, fifo.stalled)
                    finally:
                        fifo.close()
                    found[name]["found"] = None
                else:
                    found[name] = {"how": "not possible here: freezing a file system needs root"}
        return found

    def _server_stopped(self, seconds: float) -> AbstractContextManager[None]:
        return stopped(self.dsn, seconds)

    def _stall(self, name: str, folder: Path, how: str, stall: Stall) -> dict[str, Any]:
        seconds = self.effort.stall_seconds
        calls = int(seconds * 1e9 / PAUSE_NS * 0.8)
        few = self._calls(name, calls)
        at_start = records(name, folder / name, self.dsn) if name == AWAITED else 0
        with crew([name], folder, self.dsn, self.missing) as processes:
            if name not in processes:
                return {"how": self.missing[name]}
            process = processes[name]
            before = process.ask("turn", calls=few, pause_ns=PAUSE_NS)
            if name == AWAITED:  # its connection is made by the turn, so the turn comes first
                process.tell("turn", calls=calls, pause_ns=PAUSE_NS)
                with stall(seconds):
                    pass
            else:
                with stall(seconds):
                    process.tell("turn", calls=calls, pause_ns=PAUSE_NS, drain=False)
            during = process.answer()
        given = len(before) + len(during) + (2 * WARMING if name == AWAITED else 0)
        there = None if how == FIFO else records(name, folder / name, self.dsn) - at_start
        return {"how": how, "before": summary(before), "during": summary(during), "given": given, "found": there}

    def killed(self) -> dict[str, dict[str, int]]:
        """Calls that had returned when the process was killed, and how many of their records are found."""
        found = {}
        for name in self.names:
            if name == NONE or name in self.missing:
                continue
            self.say(f"kill -9: {CONTESTANTS[name].title}")
            calls = self._calls(name, self.effort.killed_calls)
            there, least = 0, calls
            for _ in range(self.effort.kills):
                there_now = self._killed(name, calls)
                there, least = there + there_now, min(least, there_now)
            found[name] = {"returned": calls * self.effort.kills, "found": there, "least_found": least, "calls": calls}
        return found

    def _killed(self, name: str, calls: int) -> int:
        folder = self._new_folder()
        at_start = records(name, folder / name, self.dsn) + WARMING if name == AWAITED else 0
        with crew([name], folder, self.dsn, self.missing) as processes:
            processes[name].killed(calls=calls)
        return records(name, folder / name, self.dsn) - at_start


def _in_turn(processes: dict[str, Process], number: int) -> list[Process]:
    """All of them, beginning with another each round: nobody always follows the same one."""
    order = list(processes.values())
    at = number % len(order) if order else 0
    return order[at:] + order[:at]


def measure(
    names: Sequence[str] = tuple(CONTESTANTS),
    effort: Effort = QUICK,
    say: Callable[[str], None] = lambda _: None,
    *,
    cases: Sequence[Case] = CASES,
    rates: Sequence[int] = RATES,
) -> dict[str, Any]:
    """Everything, as what ``--json`` prints."""
    started, missing = time.monotonic(), dict[str, str]()
    with tempfile.TemporaryDirectory(prefix="tradetrail-bench-") as made:
        folder = Path(made)
        folder.chmod(0o711)  # the embedded server's user passes through; its data folder is private
        with database(folder, missing) if AWAITED in names else nullcontext("") as dsn:
            run = Run(names, effort, folder, dsn, missing, say)
            calls = {case.name: run.latency(case) for case in cases}
            compared = {case: ratios(summaries) for case, summaries in calls.items()}
            found = {
                "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
                "load_average": os.getloadavg()[0],
                "fields": len(FIELDS),
                "effort": asdict(effort),
                "missing": missing,
                "microseconds": calls,
                "ratios": compared,
                "targets": {case: judged(found) for case, found in compared.items()},
                "loop_late_microseconds": {str(rate): run.wakes(rate) for rate in rates},
                "memory_bytes": run.memory(),
                "disk_stalled": run.stalled(),
                "killed": run.killed(),
            }
    return found | {"aims": aims(found), "seconds": time.monotonic() - started}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make bench-emit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 seconds; the figures are rough")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args(arguments)
    effort = QUICK if given.quick else Effort()
    if given.json:
        print(json.dumps(measure(effort=effort)))
        return
    from .show import progress, show

    with progress() as say:
        found = measure(effort=effort, say=say)
    show(found)


if __name__ == "__main__":
    main()
