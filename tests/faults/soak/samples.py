"""Memory, descriptors and threads of processes that live through a soak, looked at on and on, and whether flat."""

from __future__ import annotations

import statistics
import threading
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024 * 1024
# By how much the median of the last quarter may be above that of the second one: allocators and caches breathe, and a
# fault that lasts just then holds a connection or a file more. A leak of any size per record, file or fault shows.
_MORE = {"memory": (0.10, 8 * _MIB), "descriptors": (0.0, 3), "threads": (0.0, 2)}


@dataclass(frozen=True)
class Sample:
    """``memory`` in bytes: what is the process's own, without mapped files, the ring among them."""

    memory: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Trend:
    """A figure's medians in the four quarters of the run, and how far the last may be up."""

    process: str
    figure: str
    quarters: tuple[float, ...]
    most: float

    @property
    def flat(self) -> bool:
        return self.quarters[-1] <= self.most


def look(pid: int) -> Sample | None:
    """As the process is now; None where it is gone."""
    place = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        descriptors = sum(1 for _ in (place / "fd").iterdir())
    except (OSError, ValueError):
        return None
    return Sample(int(status["RssAnon"].split()[0]) * 1024, descriptors, int(status["Threads"]))


class Sampler:
    """Looks at processes, by name, from a thread of its own."""

    def __init__(self, processes: dict[str, int], *, every_s: float = 1.0) -> None:
        self._processes = processes
        self._every_s = every_s
        self._samples: dict[str, list[Sample]] = {name: [] for name in processes}
        self.seen = 0  # how many looks there were
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def trends(self) -> list[Trend]:
        """Nothing for a process of which too little was seen to tell."""
        found = []
        for process, samples in self._samples.items():
            quarter = len(samples) // 4
            for figure, (part, more) in _MORE.items() if quarter else ():
                values = [getattr(sample, figure) for sample in samples[-4 * quarter :]]
                medians = tuple(statistics.median(values[n * quarter : (n + 1) * quarter]) for n in range(4))
                found.append(Trend(process, figure, medians, medians[1] * (1 + part) + more))
        return found

    def _go_on(self) -> None:
        while not self._ended.wait(self._every_s):
            for name, pid in self._processes.items():
                if sample := look(pid):
                    self._samples[name].append(sample)
            self.seen += 1
