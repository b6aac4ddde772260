"""What must hold once all faults are over: the oracle's word on files, archives and tables, and ``verify``'s own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import zstandard

from loader.database import Database

from ...command import SCRIPT, environment
from ...contents import agreement
from ...trail import NAME, Trail, only
from ..oracle import USUAL_S, WORST_S, hold_rows
from .actors import NUMBERS_OF_A_LIFE, Life

# The oracle's records are no trades that anybody would make: rules about sense have nothing to say to them.
_ABOUT_SENSE = (
    "trade_without_order", "order_without_position", "position_without_stop", "fills_differ_from_filled",
    "filled_without_fill", "filled_is_not_size", "status_step", "cost_differs",
)  # fmt: skip
_PROVED = ": complete, unchanged, consistent; logs and database agree"
_PATIENCE_S = 900.0


def judge(directory: Path, place: Path, dsn: str, lives: Sequence[Life]) -> Counter[str]:
    """Hold everything against what the bots said; how much that was. ``AssertionError`` names the invariant."""
    counts: Counter[str] = Counter()
    _no_call_waits(lives)
    streams: set[int] = set()
    for stream, paths in sorted(_files(directory).items()):
        trail = _trail(stream, paths, place / "stream")
        life = _whose(trail, lives)
        counts["streams"] += 1
        counts["segments"] += len(trail.segments)
        counts["records lost, as declared"] += len(trail.lost)
        if life is None:  # killed before its first record
            continue
        assert life.number not in streams, f"I3: two streams of bot {life.number}"
        streams.add(life.number)
        life.account.hold_records(trail)
        counts["records held by content"] += asyncio.run(_rows(dsn, trail))
    silent = [life.number for life in lives if life.account.returned and life.number not in streams]
    assert not silent, f"I3: of bots {silent} there is no stream, and their calls returned"
    there = asyncio.run(_all_rows(dsn, directory))
    assert there == counts["records held by content"], f"I5: the tables hold {there} records, and the files {counts}"
    counts["findings of verify"] = _verify(directory, dsn, counts["records lost, as declared"])
    return counts


def _no_call_waits(lives: Iterable[Life]) -> None:
    """I1 for the usual call and for all but one of a thousand; the rest is this machine's, which has other work."""
    for life in lives:
        assert life.said == "", f"I2: bot {life.number} printed {life.said!r}"
        took = sorted(life.account.took_ns)
        if len(took) >= 1000:
            usual, rare = statistics.median(took) / 1e9, took[-1 - len(took) // 1000] / 1e9
            assert usual < USUAL_S, f"I1: calls of bot {life.number} took {usual} s"
            assert rare < WORST_S, f"I1: one call of bot {life.number} in a thousand took {rare} s"


def _files(directory: Path) -> dict[str, list[Path]]:
    """The segments of each stream, raw or archived; one that is both, raw."""
    found: dict[str, Path] = {}
    for path in [*(directory / "archive").glob("*.jsonl.zst"), *directory.glob("*.jsonl")]:
        found[path.name.removesuffix(".zst")] = path
    streams: dict[str, list[Path]] = {}
    for name, path in found.items():
        match = NAME.fullmatch(name)
        assert match, f"{path} has no business here"
        streams.setdefault(match[2], []).append(path)
    return streams


def _trail(stream: str, paths: Iterable[Path], place: Path) -> Trail:
    """The stream, checked, its archived segments unpacked in a folder beside."""
    place.mkdir()
    try:
        for path in paths:
            if path.suffix == ".zst":
                with path.open("rb") as packed, (place / path.stem).open("wb") as file:
                    zstandard.ZstdDecompressor().copy_stream(packed, file)
            else:
                os.link(path, place / path.name)
        return only(place).check()
    except AssertionError as error:
        raise AssertionError(f"I4: stream {stream}: {error}") from error
    finally:
        shutil.rmtree(place)


def _whose(trail: Trail, lives: Iterable[Life]) -> Life | None:
    numbers = {record["attributes"]["number"] // NUMBERS_OF_A_LIFE for record in trail.records}
    assert len(numbers) <= 1, f"I3: stream {trail.stream} has records of bots {numbers}"
    return next((life for life in lives if life.number in numbers), None)


async def _rows(dsn: str, trail: Trail) -> int:
    async with await Database.connect(dsn) as database:
        return await hold_rows(database, trail)


async def _all_rows(dsn: str, directory: Path) -> int:
    async with await Database.connect(dsn) as database:
        return await agreement(database, directory)


def _verify(directory: Path, dsn: str, lost: int) -> int:
    """How much it found that the trail itself explains; nothing else may be found."""
    ignored = [word for rule in _ABOUT_SENSE for word in ("--ignore", rule)]
    done = subprocess.run(
        [SCRIPT, "verify", "--dir", directory, "--dsn", dsn, "--json", *ignored],
        capture_output=True, text=True, env=environment(), timeout=_PATIENCE_S,
    )  # fmt: skip
    assert done.returncode in (0, 1), f"verify: {done.stderr}"
    found = json.loads(done.stdout)
    worse = [finding for finding in found["findings"] if finding["severity"] != "information"]
    assert not worse, f"verify finds {len(worse)}, first {worse[:3]}"
    assert found["proved"].endswith(_PROVED), f"verify says {found['proved']}"
    assert found["lost"] == lost, f"verify tells of {found['lost']} lost records, and {lost} are declared"
    return len(found["findings"])
