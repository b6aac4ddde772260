"""``tradetrail validate``: the loader's checks over segment files, without a database."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emitter.segments import SegmentName

from .errors import EnvironmentFault, UsageError
from .inventory import segments_in
from .rules import Rule
from .settings import MIB
from .spool import Spooled, batches
from .tail import Pending, Tail
from .totals import Totals, declared_loss
from .validate import Check, open_engine
from .workspace import workspace

_BATCH_BYTES = 16 * MIB


@dataclass(slots=True)
class Verdict:
    """What a load would reject and repair. ``torn``: files that end in the middle of a line."""

    totals: Totals = field(default_factory=Totals)
    torn: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        known = self.totals.as_json()
        names = ("records", "rejected", "repaired", "lost", "segments", "bytes", "seconds", "problems")
        findings = [
            {"rule": key[1], "severity": key[0], "lines": lines, "example": self.totals.examples.get(key, "")}
            for key, lines in self.totals.reasons.items()
        ]
        return {**{name: known[name] for name in names}, "findings": findings, "torn": self.torn}


def judge(
    files: Sequence[Path],
    directory: Path,
    rules: Sequence[Rule],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verdict:
    """Check the given segments, or all of a directory. ``progress`` is told bytes done and in all."""
    started = time.monotonic()
    verdict = Verdict()
    pending = _pending(files, directory, verdict)
    total = sum(item.size - item.start for item in pending)
    taken = dict.fromkeys((item.name for item in pending), 0)
    try:
        with workspace() as folder:
            engine = open_engine(folder)
            try:
                for batch in batches(pending, folder, _BATCH_BYTES):
                    _add(verdict.totals, batch, Check(engine, batch, folder, rules, {}))
                    for part in batch.parts:
                        taken[part.name] += part.stop - part.start
                    batch.path.unlink()
                    progress(verdict.totals.bytes, total)
            finally:
                engine.close()
    except OSError as error:
        raise EnvironmentFault(f"{error.filename or directory}: {error.strerror}") from error
    verdict.torn = [str(item.name) for item in pending if taken[item.name] < item.size - item.start]
    verdict.totals.segments = len(pending)
    verdict.totals.seconds = time.monotonic() - started
    return verdict


def _add(totals: Totals, batch: Spooled, check: Check) -> None:
    with check:
        check.run()
        parts = check.parts()
        found = Totals(
            records=sum(part.records for part in parts),
            rejected=sum(part.rejected for part in parts),
            lost=sum(declared_loss(control.line)[0] for control in check.control()),
            bytes=batch.bytes,
        )
        if rejects := check.rejects():
            found.repaired = rejects.repaired
        for severity, rule, lines, example in check.reasons():
            found.reasons[severity, rule] = lines
            found.examples[severity, rule] = example
        totals.add(found)


def _pending(files: Sequence[Path], directory: Path, verdict: Verdict) -> list[Pending]:
    """What there is to check; a path that is no segment file is a :class:`UsageError`."""
    wanted: dict[Path, set[str]] = {}
    for path in files:
        if SegmentName.parse(path.name) is None:
            raise UsageError(f"{path}: is no segment file; those are named <service>.<stream>.<number>.jsonl")
        if not path.exists():
            raise UsageError(f"{path}: there is no such file")
        wanted.setdefault(path.parent, set()).add(path.name)
    pending: list[Pending] = []
    for folder in wanted or {directory: set()}:
        segments_in(folder)  # says what is wrong with the directory
        scan = Tail(folder).scan({})
        names = wanted.get(folder)
        pending += [item for item in scan.pending if names is None or str(item.name) in names]
        verdict.totals.problems |= {
            name: problem for name, problem in scan.problems.items() if names is None or name in names
        }
    return pending
